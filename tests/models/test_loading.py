"""Networks by name: every task of torchvision, options, other numbers of channels, and what a wrong name suggests."""

import sys

import pytest
import torch
from torchvision import models

import featureviz as fv
from featureviz.errors import FeaturevizError, InvalidInput, ModelError, UnknownName
from featureviz.models.torchvision_nets import FRAMES


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("squeezenet1_1", 32, [1, 1000]),
        ("r3d_18", 16, [1, 400]),
        ("mc3_18", 16, [1, 400]),
        ("lraspp_mobilenet_v3_large", 32, [1, 21, 32, 32]),
        ("deeplabv3_mobilenet_v3_large", 32, [1, 21, 32, 32]),
        ("ssdlite320_mobilenet_v3_large", 32, [1, 128, 1, 1]),
        ("fasterrcnn_mobilenet_v3_large_fpn", 32, [1, 256, 1, 1]),
        ("raft_small", 32, [1, 128, 4, 4]),
    ],
)
def test_every_task_runs_on_one_still_picture_and_has_a_gradient(name: str, size: int, shape: list[int]) -> None:
    model = fv.load(f"torchvision:{name}", weights=None, size=size)
    x = model.noise_images(1, (size, size)).requires_grad_()
    output = model(x, ["output"])["output"]
    assert list(output.shape) == shape
    output.sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().max()) > 0


def test_a_video_network_sees_the_same_picture_in_every_frame() -> None:
    model = fv.load("torchvision:r3d_18", weights=None, size=16)
    x = model.noise_images(2, (16, 16))
    with torch.no_grad():
        video = ((x - model.running.mean) / model.running.std)[:, :, None].repeat(1, 1, FRAMES, 1, 1)
        assert torch.allclose(model(x, ["output"])["output"], model.net(video), atol=1e-5)


def test_detectors_are_normalised_as_they_do_themselves() -> None:
    model = fv.load("torchvision:ssdlite320_mobilenet_v3_large", weights=None)
    inside = model.net.get_submodule("transform")
    assert model.running.mean.flatten().tolist() == inside.image_mean
    assert model.running.std.flatten().tolist() == inside.image_std


@pytest.mark.parametrize("name", [name for name in models.list_models() if name.startswith("quantized")])
def test_a_quantized_network_names_the_one_with_a_gradient(name: str) -> None:
    with pytest.raises(ModelError, match="no gradient; give 'torchvision:") as caught:
        fv.load(f"torchvision:{name}", weights=None)
    assert str(caught.value).rsplit(":", 1)[1].rstrip("'") in models.list_models()


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_with_another_input_range_keep_it_for_weights_from_a_file(name: str) -> None:
    assert fv.load(f"torchvision:{name}", weights=None).net.transform_input is True


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("resnet18", "'torchvision:resnet18', 'timm:resnet18'"),
        ("mobilenet_v3_large", "'torchvision:mobilenet_v3_large'"),
        ("torchvision:resnet19", "'torchvision:resnet18'"),
        ("torchvision:seresnet50", "'timm:seresnet50'"),
        ("timm:r3d_18", "'torchvision:r3d_18'"),
        ("hub:resnet50?num_classes=3", "'torchvision:resnet50'"),
        ("torchvision:resnet18.tv_in1k", "'torchvision:resnet18'"),
        ("torchvision:fasterrcnn_resnet50", "'torchvision:fasterrcnn_resnet50_fpn'"),
        ("embeded", "'embedded'"),
    ],
)
def test_an_unknown_name_suggests_the_nearest_with_its_prefix(given: str, nearest: str) -> None:
    with pytest.raises(UnknownName, match=f"no model '.*'; nearest: {nearest}"):
        fv.load(given)


@pytest.mark.parametrize(
    "given", ["", ":", "timm:", "torchvision:", "embedded:x", "\udcff", "a" * 10_000, "torchvision:\0"]
)
def test_names_of_nothing(given: str) -> None:
    with pytest.raises(UnknownName, match="expected 'embedded', 'torchvision:NAME' or 'timm:NAME'"):
        fv.load(given)


@pytest.mark.parametrize("given", [None, 3, b"embedded", ["embedded"], torch.nn.Linear(1, 1)])
def test_names_of_another_type(given: object) -> None:
    with pytest.raises(InvalidInput, match=r"was given for the model's name"):
        fv.load(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", ["nope=1", "num_classes=-1", "num_classes='x'", "weights=None", "width_per_group=[1]", "=1"]
)
def test_a_wrong_option_is_no_failed_download(options: str) -> None:
    for weights in ("default", None):
        with pytest.raises(ModelError, match=r"cannot be built: .*; leave out its tag or its options"):
            fv.load(f"torchvision:resnet18?{options}", weights=weights)


@pytest.mark.parametrize("options", ["x", "a=b", "a=", "a=1&b", "a=" + "(" * 5000, "a=__import__('os')"])
def test_options_that_cannot_be_read(options: str) -> None:
    with pytest.raises(InvalidInput, match="expected name=value"):
        fv.load(f"torchvision:resnet18?{options}", weights=None)


def test_the_cause_of_weights_that_cannot_be_had_is_told() -> None:
    with pytest.raises(ModelError, match=r"cannot be downloaded \(OSError: no route to host\); give weights=PATH"):
        fv.load("torchvision:resnet18")
    with pytest.raises(ModelError, match=r"cannot be used .*'num_classes' expected value 1000 but got 10"):
        fv.load("torchvision:resnet18?num_classes=10")


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "timm:resnet18", "torchvision:r3d_18"])
def test_labels_fit_the_number_of_classes(name: str) -> None:
    assert fv.load(f"{name}?num_classes=7", weights=None, size=16).labels is None
    labels = fv.load(name, weights=None, size=16).labels
    assert labels is not None
    assert len(labels) in (400, 1000)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_timm_networks_of_other_channels_are_wrapped_as_such(channels: int) -> None:
    model = fv.load(f"timm:test_efficientnet?in_chans={channels}", weights=None, size=32)
    assert model.channels == channels
    assert model(model.noise_images(), ["output"])["output"].shape == (1, 1000)
    made = fv.render(model, "output:3", size=16, steps=1, progress=False) if channels == 3 else None
    assert made is None or made.images.shape == (1, 3, 16, 16)


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(FeaturevizError, match=r"pip install 'featureviz\[timm\]'"):
        fv.load("timm:resnet18")
    with pytest.raises(UnknownName, match="nearest: 'torchvision:resnet18'"):
        fv.load("resnet18")
