"""Weights from files: every wrapping of training scripts is read; hostile files are named, and never run."""

import argparse
import io
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import featureviz as fv
from featureviz.errors import FeaturevizError, InvalidInput, ModelError
from featureviz.models.checkpoint import read_dictionary

NAME, FIRST = "torchvision:squeezenet1_1?num_classes=5", "features.0.weight"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(3)
    return torchvision.models.squeezenet1_1(weights=None, num_classes=5)


def prefixed(*prefixes: str) -> Callable[[State], State]:
    return lambda state: {"".join(prefixes) + name: tensor for name, tensor in state.items()}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "ordered": lambda state: OrderedDict(state),
    "torchvision's scripts": lambda state: {"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 3},
    "ImageNet example": lambda state: {"state_dict": prefixed("module.")(state), "best_acc1": torch.tensor(3.0)},
    "a score of NumPy": lambda state: {"state_dict": state, "best": np.float64(0.7)},
    "the tutorial": lambda state: {"model_state_dict": state, "optimizer": {"state": {0: {"m": torch.ones(2)}}}},
    "net": lambda state: {"net": state, "acc": 3.0},
    "model_ema": lambda state: {"model_ema": {"n_averaged": torch.tensor(3), **prefixed("module.")(state)}},
    "state_dict_ema": lambda state: {"state_dict_ema": state},
    "Lightning": lambda state: {"state_dict": prefixed("model.")(state), "hparams": {"lr": 1}},
    "DataParallel": prefixed("module."),
    "compile": prefixed("_orig_mod."),
    "compile in DataParallel": prefixed("module.", "_orig_mod."),
    "DataParallel in compile in Lightning": prefixed("model.", "_orig_mod.", "module."),
    "a part in DataParallel": lambda state: {k.replace("features.", "features.module."): v for k, v in state.items()},
    "a part compiled": lambda state: {k.replace("classifier.", "classifier._orig_mod."): v for k, v in state.items()},
    "a longer name": prefixed("student.backbone."),
    "two deep": lambda state: {"checkpoint": {"weights": {"state_dict": state}}},
    "half precision": lambda state: {"model": {k: v.half() for k, v in state.items()}},
    "with a teacher": lambda state: {"model": {**prefixed("student.")(state), f"teacher.{FIRST}": torch.ones(2)}},
}  # fmt: skip


@pytest.mark.parametrize("how", WRAPPED)
def test_checkpoints_of_training_scripts_are_read(how: str, net: nn.Module, tmp_path: Path) -> None:
    torch.save(WRAPPED[how](net.state_dict()), tmp_path / "w.pth")
    loaded = fv.load(NAME, weights=tmp_path / "w.pth").net.state_dict()
    for name, tensor in net.state_dict().items():
        assert torch.allclose(loaded[name], tensor, atol=1e-3), name


@pytest.mark.parametrize("prefix", ["", "module.", "model.model."])
def test_safetensors_are_known_by_their_content(prefix: str, net: nn.Module, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(prefixed(prefix)(net.state_dict()), tmp_path / "w.pt")
    assert torch.equal(fv.load(NAME, weights=tmp_path / "w.pt").net.get_parameter(FIRST), net.get_parameter(FIRST))


def test_a_choice_between_two_sets_of_weights_is_told(net: nn.Module, tmp_path: Path) -> None:
    average = AveragedModel(net)
    torch.save({"model": net.state_dict(), "model_ema": average.state_dict()}, tmp_path / "w.pth")
    fv.load(NAME, weights=tmp_path / "w.pth")  # they are equal, so there is no choice
    for parameter in average.parameters():
        parameter.data += 1
    torch.save({"model": net.state_dict(), "model_ema": average.state_dict()}, tmp_path / "w.pth")
    with pytest.warns(UserWarning, match="took 'model', not 'model_ema'") as caught:
        loaded = fv.load(NAME, weights=tmp_path / "w.pth")
    assert caught[0].filename == __file__
    assert torch.equal(loaded.net.get_parameter(FIRST), net.get_parameter(FIRST))


class Harmful:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def saved(content: object, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)  # type: ignore[arg-type]
    return file.getvalue()


BROKEN: dict[str, Callable[[State, Path], bytes]] = {
    "empty": lambda state, mark: b"",
    "text": lambda state, mark: b"no weights",
    "JSON": lambda state, mark: b'{"weight": [1, 2]}',
    "a picture": lambda state, mark: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "half a file": lambda state, mark: cut(saved(state)),
    "half an old file": lambda state, mark: cut(saved(state, _use_new_zipfile_serialization=False)),
    "code": lambda state, mark: saved({"state_dict": state, "more": Harmful(mark)}),
    "code in a plain pickle": lambda state, mark: pickle.dumps(Harmful(mark), protocol=2),
    "a whole module": lambda state, mark: saved(nn.Linear(2, 2)),
    "a header of 4 EB": lambda state, mark: struct.pack("<Q", 2**62) + b"{" + bytes(50),
    "a header that ends early": lambda state, mark: struct.pack("<Q", 2**20) + b'{"a":',
    "a list": lambda state, mark: saved([1, 2]),
    "a tensor": lambda state, mark: saved(torch.zeros(3)),
    "nothing inside": lambda state, mark: saved({}),
    "no tensors": lambda state, mark: saved({"model": {"layers": 3}}),
}


@pytest.mark.filterwarnings("ignore")  # of torch, about old and unknown formats
@pytest.mark.parametrize("what", BROKEN)
def test_broken_files_are_named_and_never_run(what: str, net: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(BROKEN[what](net.state_dict(), tmp_path / "mark"))
    with pytest.raises(ModelError, match=r"w\.pth.*expected a state dict"):
        fv.load(NAME, weights=tmp_path / "w.pth")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p), lambda p: os.symlink(p, p), str]
)
def test_weights_that_are_no_file(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "w.pth")
    for name in (NAME, "embedded", "timm:resnet18"):
        with pytest.raises(InvalidInput, match=r"cannot read .*w\.pth"):
            fv.load(name, weights=tmp_path / "w.pth")


@pytest.mark.parametrize("given", [3, b"w.pth", {}, [], True, 2.5, nn.Linear(1, 1)])
def test_weights_of_another_type(given: object) -> None:
    with pytest.raises(InvalidInput, match=r"weights of type \w+ were given; expected a path"):
        fv.load(NAME, weights=given)  # type: ignore[arg-type]


MISFITS: dict[str, tuple[Callable[[State], Any], str]] = {
    "another network": (
        lambda state: {"layer1.conv.weight": torch.ones(2), "features.0.weights": torch.ones(2)},
        r"are missing, such as 'features\.0\.weight'.*holds 2: 'layer1.*nearest to '.*' is 'features\.0\.weights'",
    ),
    "in a dictionary": (lambda state: {"model": {"a": torch.ones(2)}}, "holds 1 under 'model': 'a'"),
    "other classes": (
        lambda state: state | {"classifier.1.weight": torch.ones(9, 512, 1, 1), "classifier.1.bias": torch.ones(9)},
        r"'classifier\.1\.weight' is \[9, 512, 1, 1\] in the file and \[5, 512, 1, 1\].*NAME\?num_classes=10",
    ),
    "one layer": (lambda state: {FIRST: state[FIRST]}, "of 52 tensors are missing"),
    "no values": (lambda state: {k: v.to("meta") for k, v in state.items()}, "holds no tensors"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISFITS)
def test_what_does_not_fit_says_what_is_held_and_looked_for(what: str, net: nn.Module, tmp_path: Path) -> None:
    change, message = MISFITS[what]
    torch.save(change(net.state_dict()), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=message):
        fv.load(NAME, weights=tmp_path / "w.pth")


@pytest.mark.parametrize("names", [("W_enc", "b_enc", "b_dec"), ("weight", "bias", "centre"), ("encoder.weight",)])
def test_an_encoder_is_read_by_any_of_its_names(names: tuple[str, ...], tmp_path: Path) -> None:
    w, *biases = torch.randn(5, 8), torch.randn(5), torch.randn(8)
    state = dict(zip(names, [w.T.contiguous() if names[0] == "W_enc" else w, *biases], strict=False))
    save_file(state, tmp_path / "d.safetensors")
    torch.save({"model": state | {"threshold": torch.ones(5)}, "epoch": 3}, tmp_path / "d.pt")
    bias, centre = biases if len(names) > 1 else (None, None)
    assert repr(read_dictionary(tmp_path / "d.safetensors")) == repr(fv.Dictionary(w, bias, centre=centre))
    jumps = fv.Dictionary(w, bias, centre=centre, activation="jumprelu", threshold=1.0)
    assert repr(read_dictionary(tmp_path / "d.pt")) == repr(jumps)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"W": torch.ones(8, 3)}, r"no encoder; its tensors: 'W'; expected W_enc \[C,K\]"),
        ({"epoch": 3}, "its tensors: none"),
        ([1], "expected a state dict"),
        ({"W_enc": torch.ones(8, 3), "b_enc": torch.ones(8)}, r"bias of shape \[8\] was given; expected \[3\]"),
        ({"W_enc": torch.ones(8)}, r"expected \[K,C\]"),
    ],
)
def test_what_holds_no_encoder_says_so(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "d.pt")
    with pytest.raises(FeaturevizError, match=message):
        read_dictionary(tmp_path / "d.pt")


def test_random_numbers_are_left_alone_whatever_the_weights(net: nn.Module, tmp_path: Path) -> None:
    torch.save(net.state_dict(), tmp_path / "w.pth")
    torch.save([], tmp_path / "broken.pth")
    for name, weights in (
        (NAME, None), (NAME, tmp_path / "w.pth"), (NAME, tmp_path / "broken.pth"), ("embedded", "default"),
        ("embedded", None), ("timm:resnet18", None), ("torchvision:resnet18?wrong=1", None), ("nothing", None),
    ):  # fmt: skip
        before, of_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        with suppress(FeaturevizError):
            fv.load(name, weights=weights)
        assert torch.equal(torch.get_rng_state(), before), name
        assert np.array_equal(np.random.get_state()[1], of_numpy), name  # noqa: NPY002
    one, two = (fv.load(NAME, weights=None).net.get_parameter(FIRST) for _ in range(2))
    assert torch.equal(one, two)
    torch.manual_seed(1)
    assert not torch.equal(fv.load(NAME, weights=None).net.get_parameter(FIRST), one)
