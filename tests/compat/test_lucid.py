"""Lucid's users: a tutorial's code with only its imports changed, every objective against its formula, errors."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import featureviz as fv
import featureviz.compat.lucid.modelzoo.vision_models as models
import featureviz.compat.lucid.optvis.objectives as objectives
import featureviz.compat.lucid.optvis.param as param
import featureviz.compat.lucid.optvis.render as render
import featureviz.compat.lucid.optvis.transform as transform
from featureviz.compat.lucid.misc.io import load, save, show
from featureviz.errors import FeaturevizError, InvalidInput, ModelError, UnknownName

TUTORIAL = """
model = models.InceptionV1()
model.load_graphdef()
_ = render.render_vis(model, "mixed4a_pre_relu:476")
obj = objectives.channel("mixed4a_pre_relu", 465)
_ = render.render_vis(model, obj)
channel = lambda n: objectives.channel("mixed4a_pre_relu", n)
obj = channel(476) + channel(465)
_ = render.render_vis(model, obj)
transforms = []
_ = render.render_vis(model, "mixed4a_pre_relu:476", transforms=transforms)
param_f = lambda: param.image(128, fft=False, decorrelate=False)
_ = render.render_vis(model, "mixed4a_pre_relu:2", param_f)
"""
LUCIDS_OWN = """
neuron1 = ("mixed4b_pre_relu", 111)
neuron2 = ("mixed4a_pre_relu", 476)
C = lambda neuron: objectives.channel(*neuron)
show(render.render_vis(model, C(neuron1) - C(neuron2))[-1])
transforms = [transform.pad(16), transform.jitter(8), transform.random_scale([n / 100.0 for n in range(80, 120)]),
              transform.random_rotate(list(range(-10, 10)) + list(range(-5, 5)) + 10 * list(range(-2, 2))),
              transform.jitter(2)]
_ = render.render_vis(model, "mixed4b_pre_relu:452", transforms=transforms,
                      param_f=lambda: param.image(64), thresholds=[1, 2], verbose=False)
obj = objectives.channel("mixed4d_pre_relu", 139) - 1e2 * objectives.diversity("mixed4d")
_ = render.render_vis(model, obj, lambda: param.image(64, batch=3))
param_f = lambda: param.image(64, batch=2)
obj = sum([objectives.channel("mixed4a", n, batch=n) for n in range(2)])
_ = render.render_vis(model, obj, param_f)
_ = render.render_vis(model, objectives.neuron("mixed4a", 3), lambda: param.cppn(48), optimizer=fv.Adam(0.005))
obj = objectives.Objective.sum([objectives.deepdream("mixed3a"), -0.05 * objectives.L1(constant=0.5),
                                -0.25 * objectives.total_variation(), -1.0 * objectives.blur_input_each_step()])
_ = render.render_vis(model, obj, lambda: param.image(48))
_ = render.render_vis(model, "mixed4a:3", lambda: param.image(48, alpha=True))
_ = render.render_vis(model, objectives.class_logit("softmax2_pre_activation", 7), lambda: param.image(96))
"""
NAMES = {"models": models, "objectives": objectives, "param": param, "render": render, "transform": transform}


def tutorial_code() -> str:
    """The code of the tutorial with its imports changed, where its text lies beside; otherwise a copy of its calls."""
    path = Path(__file__).parents[3] / "shared/seeds/001_affd8b384599f0c8.txt"
    if not path.is_file():
        return TUTORIAL
    code = [line[1:].rstrip() for line in path.read_text().splitlines() if line.startswith(" ") and "•" not in line]
    code = [line for line in code if not line.startswith("!") and "tensorflow" not in line and "tf." not in line]
    return re.sub(r"\blucid\.", "featureviz.compat.lucid.", "\n".join(code))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights and two steps in the place of Lucid's defaults: a download and 512 steps."""
    monkeypatch.setattr(models.InceptionV1.__init__, "__defaults__", (None,))
    defaults = list(render.render_vis.__defaults__ or ())
    defaults[defaults.index((512,))] = (2,)
    defaults[defaults.index(True)] = False  # verbose
    monkeypatch.setattr(render.render_vis, "__defaults__", tuple(defaults))


@pytest.fixture(scope="module")
def model() -> models.InceptionV1:
    torch.manual_seed(0)
    return models.InceptionV1(weights=None).load_graphdef()


@pytest.mark.usefixtures("quick")
def test_the_tutorial_runs_with_only_its_imports_changed() -> None:
    code = tutorial_code()
    assert code.count("render.render_vis(") == 5
    names: dict[str, Any] = dict(NAMES)
    exec(compile(code, "tutorial", "exec"), names)
    (last,) = names["_"]
    assert last.shape == (1, 128, 128, 3)


@pytest.mark.usefixtures("quick")
def test_lucids_own_tutorial_runs(model: models.InceptionV1) -> None:
    names: dict[str, Any] = {**NAMES, "model": model, "fv": fv, "show": show}
    exec(compile(LUCIDS_OWN, "lucid", "exec"), names)


def test_layers_are_the_networks_own(model: models.InceptionV1) -> None:
    net: Any = fv.load("torchvision:googlenet", weights=None).net
    named: Any = models.LucidNames(net).eval()
    tapped, x = fv.wrap(named, mean=0.5, std=0.5), torch.rand(2, 3, 96, 96)
    own = tapped(x, ["mixed4a", "mixed4a_pre_relu", "mixed5b", "output"])
    theirs = fv.wrap(net, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])(
        x, ["inception4a", "inception5b", "output"]
    )
    assert torch.allclose(own["mixed4a"], theirs["inception4a"], atol=1e-4)
    assert torch.allclose(own["mixed4a_pre_relu"].relu(), own["mixed4a"])
    assert own["mixed4a_pre_relu"].min() < 0
    assert torch.allclose(own["output"], theirs["output"], atol=1e-4)
    assert {"conv2d0", "mixed3a", "mixed4e_pre_relu", "softmax2_pre_activation"} <= set(model.layers)


# ------------------------------------------------------------------------------------------------------ the formulas
G = np.random.default_rng(0)
A, X, ALPHA = G.normal(size=(3, 5, 6, 4)), G.random((3, 12, 14, 3)), G.random((3, 12, 14, 1))  # [N,H,W,C]
VEC, CROP, ORIG = G.normal(size=4), G.normal(size=(3, 4, 4)), G.random((12, 14, 3))


def dot(a: np.ndarray, v: np.ndarray, power: float) -> np.ndarray:
    d = (a * v).sum(-1)
    cos = d / ((1e-4 + np.linalg.norm(a, axis=-1)) * (1e-4 + np.linalg.norm(v, axis=-1)))
    return d * np.maximum(0.1, cos) ** power


def blur(x: np.ndarray, w: int) -> np.ndarray:
    out, r = np.zeros_like(x), w // 2
    for y in range(x.shape[1]):
        for c in range(x.shape[2]):
            total = weight = 0.0
            for dy in range(-r, r + 1):
                for dx in range(-r, r + 1):
                    k = 0.5 if r in (abs(dy), abs(dx)) else 1.0
                    if 0 <= y + dy < x.shape[1] and 0 <= c + dx < x.shape[2]:
                        total, weight = total + k * x[:, y + dy, c + dx], weight + k
            out[:, y, c] = total / weight
    return out


def each(f: Callable[[np.ndarray], Any], a: np.ndarray = A) -> list[float]:
    return [float(f(a[i])) for i in range(3)]


def boundary() -> list[float]:
    mask = np.ones((12, 14, 1))
    mask[2:-2, 2:-2] = 0
    cost = (blur(X, 5) - X) ** 2 + 0.8 * (X - 0.5) ** 2
    return [-float((cost[i] * mask).sum()) for i in range(3)]


def pairs() -> float:
    return -sum(((A[i] - A[i + d]) ** 2).mean() / 2.0**d for d in range(1, 5) for i in range(3 - d) if i + d < 3)


def grams() -> float:
    g = [a.reshape(-1, 4).T @ a.reshape(-1, 4) for a in A]
    g = [m / np.sqrt((m**2).sum()) for m in g]
    return sum((g[i] * g[j]).sum() for i in range(3) for j in range(3) if i != j) / 3


OBJ = objectives
FORMULAS: dict[str, tuple[fv.Objective, Any]] = {
    "neuron": (OBJ.neuron("a", 2), each(lambda a: a[2, 3, 2])),
    "neuron at": (OBJ.neuron("a", 2, x=4, y=1), each(lambda a: a[4, 1, 2])),
    "channel": (OBJ.channel("a", 1), each(lambda a: a[..., 1].mean())),
    "channel of one image": (OBJ.channel("a", 1, batch=1), [0, float(A[1, ..., 1].mean()), 0]),
    "direction": (OBJ.direction("a", VEC), each(lambda a: dot(a, VEC, 0).mean())),
    "direction_cossim": (OBJ.direction_cossim("a", VEC, cossim_pow=2), each(lambda a: dot(a, VEC, 2).mean())),
    "direction_neuron": (OBJ.direction_neuron("a", VEC, cossim_pow=1), each(lambda a: dot(a[2, 3], VEC, 1))),
    "direction_neuron at": (OBJ.direction_neuron("a", VEC, x=1, y=5), each(lambda a: dot(a[1, 5], VEC, 0))),
    "tensor_direction": (OBJ.tensor_direction("a", CROP, 1), each(lambda a: dot(a[1:4, 1:5], CROP, 1).mean())),
    "deepdream": (OBJ.deepdream("a"), each(lambda a: (a**2).mean())),
    "total_variation": (
        OBJ.total_variation(), each(lambda x: np.abs(np.diff(x, axis=0)).sum() + np.abs(np.diff(x, axis=1)).sum(), X),
    ),
    "L1": (OBJ.L1(constant=0.5), each(lambda x: np.abs(x - 0.5).sum(), X)),
    "L2": (OBJ.L2(constant=0.5), each(lambda x: np.sqrt(1e-6 + ((x - 0.5) ** 2).sum()), X)),
    "blur_input_each_step": (OBJ.blur_input_each_step(), each(lambda d: 0.5 * (d**2).sum(), X - blur(X, 3))),
    "blur_alpha_each_step": (OBJ.blur_alpha_each_step(), each(lambda d: 0.5 * (d**2).sum(), ALPHA - blur(ALPHA, 3))),
    "channel_interpolate": (
        OBJ.channel_interpolate("a", 0, "a", 3),
        [(1 - i / 2) * A[i, ..., 0].mean() + i / 2 * A[i, ..., 3].mean() for i in range(3)],
    ),
    "penalize_boundary_complexity": (OBJ.penalize_boundary_complexity((1, 12, 14, 3), w=2), boundary()),
    "alignment": (OBJ.alignment("a"), pairs()),
    "diversity": (OBJ.diversity("a"), grams()),
    "input_diff": (OBJ.input_diff(ORIG), each(lambda x: np.sqrt(((x - ORIG) ** 2).mean()), X)),
    "class_logit": (OBJ.class_logit("logits", 2), [float(A[i, 0, 0, 2]) for i in range(3)]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_an_objective_is_its_formula(name: str) -> None:
    objective, expected = FORMULAS[name]
    tensors = {"a": A, "input": X, ".alpha": ALPHA}
    values = {k: torch.from_numpy(v).float().movedim(-1, 1) for k, v in tensors.items()}
    values["logits"] = torch.from_numpy(A[:, 0, 0]).float()
    score = objective(fv.Activations(values, fv.Rows.make(3)))
    assert score.shape == (3,)
    if isinstance(expected, float):  # the formula is of the whole batch
        assert float(score.sum()) == pytest.approx(expected, abs=1e-5)
    else:
        assert score.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_functions_of_t(tiny: fv.TappedModel) -> None:
    """Lucid's way to write objectives: the layers are learnt, tensors are [N,H,W,C]."""

    @objectives.wrap_objective()
    def own(layer: str, unit: int) -> Callable[[Any], Any]:
        return lambda T: T(layer)[..., unit].mean() - 0.1 * T("stem")[..., 0].mean()

    goal = 2 * own("conv", 3) + objectives.as_objective("conv:1")
    ours = 2 * fv.Channel("conv", 3) - 0.2 * fv.Channel("stem", 0) + fv.Channel("conv", 1)
    bound = objectives.bind(goal, tiny, fv.FourierImage(1, 24))
    x = torch.rand(2, 3, 24, 24)
    assert torch.allclose(bound(tiny(x, bound.layers)), ours(tiny(x, ours.layers)), atol=1e-6)
    (image,) = render.render_vis(tiny, goal, lambda: param.image(24, batch=2), thresholds=[2], verbose=False)
    assert image.shape == (2, 24, 24, 3)
    render.render_vis(tiny, lambda T: (T("conv") ** 2).mean(), lambda: param.image(24), thresholds=[1], verbose=False)


# ------------------------------------------------------------------------------------------------- images and options
PARAMS: dict[str, Callable[[], fv.Parameterization]] = {
    "fft": lambda: param.image(24, 16, batch=2), "pixels": lambda: param.image(24, 16, batch=2, fft=False),
    "cppn": lambda: param.cppn(24, batch=2), "grey": lambda: param.grayscale_image_rgb(24, 16, batch=2),
    "signal": lambda: param.to_valid_rgb(param.fft_image((2, 16, 24, 3)), decorrelate=True),
    "not a sigmoid": lambda: param.to_valid_rgb(param.pixel_image((2, 16, 24, 3)), decorrelate=True, sigmoid=False),
    "pyramid": lambda: param.to_valid_rgb(param.laplacian_pyramid_image((2, 16, 24, 3))),
    "aligned": lambda: param.to_valid_rgb(
        param.fft_image((4, 24, 24, 3)) + 2 * param.lowres_tensor((4, 24, 24, 3), (1, 6, 6, 3), offset=True), True
    ),
    "given": lambda: param.to_valid_rgb(param.pixel_image((2, 16, 24, 3), init_val=np.zeros((2, 16, 24, 3)))),
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMS)
def test_parameterizations_render(name: str, tiny: fv.TappedModel) -> None:
    first, last = render.render_vis(tiny, "conv:1", PARAMS[name], thresholds=(1, 3), verbose=False, use_fixed_seed=True)
    assert first.shape[0] in (2, 4)
    assert first.shape[-1] == 3
    assert not np.array_equal(first, last)
    again = render.render_vis(tiny, "conv:1", PARAMS[name], thresholds=(1, 3), verbose=False, use_fixed_seed=True)
    assert np.array_equal(again[-1], last)


def test_without_transforms_the_standard_ones_are_taken(tiny: fv.TappedModel) -> None:
    options: dict[str, Any] = {"param_f": lambda: param.image(24), "thresholds": (2,), "use_fixed_seed": True}
    usual = render.render_vis(tiny, "conv:1", verbose=False, **options)[0]
    named = render.render_vis(tiny, "conv:1", transforms=transform.standard_transforms, verbose=False, **options)[0]
    assert np.array_equal(usual, named)
    assert not np.array_equal(usual, render.render_vis(tiny, "conv:1", transforms=[], verbose=False, **options)[0])


def test_without_a_fixed_seed_each_call_is_another(tiny: fv.TappedModel) -> None:
    a, b = (render.render_vis(tiny, "conv:1", thresholds=[1], verbose=False)[0] for _ in range(2))
    assert not np.array_equal(a, b)


def test_pictures_and_arrays_are_written_and_read(tmp_path: Path) -> None:
    picture = np.round(np.random.default_rng(0).random((9, 7, 3)) * 255) / 255
    save(picture, tmp_path / "a.png")
    assert np.allclose(load(tmp_path / "a.png"), picture, atol=1e-6)
    save(picture, tmp_path / "a.npy")
    assert np.array_equal(load(tmp_path / "a.npy"), picture)
    save({"a": [1, 2]}, tmp_path / "a.json")
    assert load(tmp_path / "a.json") == {"a": [1, 2]}
    for path in ("a.gif", "a"):
        with pytest.raises(InvalidInput, match=r"expected \.png"):
            save(picture, tmp_path / path)


REFUSED: dict[str, tuple[Callable[[Any], object], type[FeaturevizError], str]] = {
    "a layer": (lambda m: render.render_vis(m, "mixed4z:3", verbose=False), UnknownName, "nearest: 'mixed4"),
    "no weights": (lambda m: render.render_vis(models.InceptionV1(None), "mixed4a:3"), ModelError, "load_graphdef"),
    "a file": (lambda m: models.InceptionV1("nowhere.pt").load_graphdef(), FeaturevizError, "nowhere.pt"),
    "order": (lambda m: render.render_vis(m, "mixed4a:3", thresholds=(8, 4)), InvalidInput, r"rising order.*\[4, 8\]"),
    "no thresholds": (lambda m: render.render_vis(m, "mixed4a:3", thresholds=()), InvalidInput, "rising order"),
    "text": (lambda m: render.render_vis(m, "mixed4a:3:4x"), InvalidInput, "'layer:unit'"),
    "a number": (lambda m: objectives.as_objective(5), InvalidInput, "a function of T"),
    "a model": (lambda m: render.render_vis("InceptionV1", "mixed4a:3"), InvalidInput, r"models.InceptionV1\(\)"),
    "images": (lambda m: render.render_vis(m, "mixed4a:3", lambda: 3), InvalidInput, "param_f gave 3"),
    "alpha": (lambda m: param.image(16, alpha=True, channels=5), InvalidInput, "expected 3 with alpha"),
    "print": (lambda m: render.render_vis(m, "mixed4a:3", print_objectives=[1]), InvalidInput, "has all scores"),
    "scales": (lambda m: transform.random_scale([0, 1]), InvalidInput, "scales above 0"),
    "units": (lambda m: transform.random_rotate([1], units="turns"), InvalidInput, "'degrees' or 'radians'"),
    "image 5": (
        lambda m: render.render_vis(m, OBJ.channel("mixed3a", 1, batch=5), lambda: param.image(48), verbose=False),
        InvalidInput, "batch=5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_explained(what: str, model: models.InceptionV1) -> None:
    call, error, message = REFUSED[what]
    with pytest.raises(error, match=message):
        call(model)
