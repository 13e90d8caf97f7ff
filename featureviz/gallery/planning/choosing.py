"""Which layers, blocks and units a gallery shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import nn

from featureviz.checks import entries, instance, show, wholes
from featureviz.errors import InvalidInput, ModelError, unknown
from featureviz.gallery.planning.tile import CHANNEL, GATE, KINDS
from featureviz.network.model import TappedModel
from featureviz.network.survey.survey import Layer

Units = Sequence[int] | Mapping[str, Sequence[int]] | None

ALL = "all"  # in place of a list of names
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@final
@dataclass(frozen=True)
class Group:
    """The units of a layer, or the gates of a block, of which a gallery shows some.

    ``type`` is the class of the module or the kind of the block, ``count`` how many units there are, ``shape`` the
    shape of the layer's output for one image.
    """

    kind: str
    layer: str
    type: str
    count: int
    shape: tuple[int, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Kind and layer, which no two groups of a plan share."""
        return self.kind, self.layer

    @property
    def title(self) -> str:
        """The layer as a spec names it: ``"gate:BLOCK"`` stands for the gates of a block."""
        return f"gate:{self.layer}" if self.kind == GATE else self.layer

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "layer": self.layer, "type": self.type, "count": self.count, "shape": self.shape}

    @classmethod
    def from_json(cls, entry: Any) -> Group:
        """The group of ``to_json``; anything else raises ``InvalidInput``."""
        try:
            group = cls(**{**entry, "shape": tuple(entry["shape"])})
        except (TypeError, KeyError):
            raise InvalidInput("a layer of the manifest has not the fields kind, layer, type, count, shape") from None
        texts, numbers = (group.layer, group.type), (group.count, *group.shape)
        if group.kind not in KINDS or not all(isinstance(t, str) for t in texts):
            raise InvalidInput(f"{show(entry)} is no layer of a manifest")
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise InvalidInput(f"{show(entry)} is no layer of a manifest")
        return group


def choose_groups(model: TappedModel, layers: Sequence[str] | str, gates: Sequence[str] | str) -> list[Group]:
    """The layers and blocks that are asked for, in the order in which the network runs them, blocks last in a layer.

    ``"all"`` stands for the main layers (``list_main_layers``) or for all blocks with a gate for each channel.

    Raises:
        UnknownName: there is no such layer or block.
        InvalidInput: a layer has no units.
        ModelError: the network has nothing of the kind that is asked for.
    """
    rows = {row.name: row for row in model.layers()}
    layers = list_main_layers(model, list(rows.values())) if layers == ALL else _list_names("layers", layers)
    gates = _list_blocks(model) if gates == ALL else _list_names("gates", gates)
    found = [_describe_layer(model, rows, name) for name in layers]
    for name in gates:
        site = model.gates[name]
        shape = rows[site.name].shape if site.name in rows else ()
        found.append(Group(GATE, site.name, site.kind, site.channels, shape))
    order = list(rows)
    return sorted(found, key=lambda g: (order.index(g.layer) if g.layer in order else len(order), KINDS.index(g.kind)))


def choose_units(groups: Sequence[Group], units: Units) -> list[list[int]]:
    """The units of each group: all, those of a list that it has, or those that a mapping has for its ``title``.

    Raises:
        UnknownName: a mapping has a layer that is in no group.
        InvalidInput: a group has none of the units of a list, or not all of those in a mapping.
    """
    if not isinstance(units, Mapping):
        return [_choose_units(group, units, all_of_them=False) for group in groups]
    for name in units:
        if name not in {group.title for group in groups}:
            raise unknown("layer in the plan", name, [group.title for group in groups])
    return [_choose_units(group, units.get(group.title), all_of_them=True) for group in groups]


def _choose_units(group: Group, units: Sequence[int] | None, *, all_of_them: bool) -> list[int]:
    if units is None:
        return list(range(group.count))
    wanted = list(dict.fromkeys(wholes("units", units)))
    chosen = [unit for unit in wanted if unit < group.count]
    if not chosen or (all_of_them and len(chosen) < len(wanted)):
        raise InvalidInput(f"units {show(wanted)} were asked for; {group.layer!r} has 0 to {group.count - 1}")
    return chosen


def _list_names(argument: str, names: Sequence[str] | str) -> list[str]:
    given = [names] if isinstance(names, str) else entries(argument, names, of="names")
    return list(dict.fromkeys(instance(f"a name in {argument}", name, str) for name in given))


def list_main_layers(model: TappedModel, rows: Sequence[Layer]) -> list[str]:
    """The layers of the network's main path: convolutions, linear layers and blocks, but not what is inside a block.

    A block is a module that is no plain container (Sequential, ModuleList, ModuleDict). Layers without weights, such
    as activations and pooling, and norms are left out: they show the units of the layer before them.
    """
    weighted = {name for name, module in _walk(model.net) if any(weights.ndim > 1 for weights in module.parameters())}
    return [row.name for row in rows if row.name in weighted and row.units]


def _walk(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        inner = f"{path}.{name}".removeprefix(".")
        if type(child) in _CONTAINERS:
            yield from _walk(child, inner)
        else:
            yield inner, child


def _list_blocks(model: TappedModel) -> list[str]:
    blocks = list(model.gates.channelwise)
    if not blocks:
        raise ModelError(f"{model.name} has no squeeze-and-excitation gates; render its layers instead (--layers)")
    return blocks


def _describe_layer(model: TappedModel, rows: dict[str, Layer], name: str) -> Group:
    if name not in rows:
        raise unknown("layer", name, rows, "`fv.layers(model)` lists them.")
    row = rows[name]
    if not row.units:
        raise InvalidInput(f"layer {name!r} of {model.name} has no channels that can be told from positions: {row}")
    return Group(CHANNEL, name, row.type, row.units, row.shape)
