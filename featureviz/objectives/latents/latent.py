"""The objective of a latent of a dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor, nn

from featureviz.checks import show
from featureviz.errors import InvalidInput, unknown
from featureviz.naming import Units
from featureviz.network.activations import Activations
from featureviz.objectives.latents.encoders import PREFIX, Dictionary
from featureviz.objectives.leaves import UnitObjective

Dictionaries = Mapping[str, tuple[str, Dictionary]]  # of a model, by the names of what they read


@final
class Latent(UnitObjective):
    """A latent of a dictionary before its activation, averaged over positions: ``w_k . (mean_p x - centre) + b_k``.

    The activation itself has no slope where the latent is off, as with gates. ``fv.dictionary`` gives a model its
    dictionaries; ``render`` and ``evaluate`` look this one up there. N latents for N images are N dot products, however
    many the dictionary has.

    Args:
        name: of the dictionary.
        unit: the latent, or one for each image.

    >>> Latent("vit", [3, 17])
    sae:vit:[3, 17]
    """

    def __init__(self, name: str, unit: Units) -> None:
        super().__init__(
            [PREFIX + name if isinstance(name, str) else show(name)], name, unit, form="sae:{name}:{units}"
        )
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None

    def resolve(self, dictionaries: Dictionaries) -> Latent:
        """The same objective with the numbers of its dictionary."""
        if self.layers[0] not in dictionaries:
            known = [key.removeprefix(PREFIX) for key in dictionaries]
            raise unknown(
                "dictionary", self.name, known, "Add one: model = fv.dictionary(model, layer, encoder, name=)"
            )
        encoder = dictionaries[self.layers[0]][1]
        if max(self.units) >= len(encoder):
            raise InvalidInput(f"{self.spec}: {self.name!r} has {len(encoder)} latents: 0 to {len(encoder) - 1}")
        twin, units = Latent(self.name, list(self.units) if self.n > 1 else self.units[0]), list(self.units)
        del twin.weight, twin.bias
        weight = encoder.weight[units]
        twin.weight, twin.bias = nn.Buffer(weight), nn.Buffer(encoder.bias[units] - weight @ encoder.centre)
        return twin

    def forward(self, activations: Activations) -> Tensor:
        if self.weight is None or self.bias is None:
            raise InvalidInput(
                f"{self.spec} was not resolved; call goal.resolve(model.dictionaries), or use fv.evaluate"
            )
        a = activations.channels_first(self.layers[0])
        x = a.flatten(2).mean(2) if a.ndim > 2 else a  # [M,C]
        image = activations.rows.image if self.n > 1 else activations.rows.image * 0
        if self.n > 1 and max(activations.rows.images) >= self.n:
            raise InvalidInput(f"{self.spec} has no latent for image {max(activations.rows.images)}")
        return (x * self.weight[image]).sum(1) + self.bias[image]

    def select(self, images: Sequence[int]) -> Latent:
        selected = super().select(images)
        assert isinstance(selected, Latent)
        if self.weight is None or self.bias is None or selected is self:
            return selected
        del selected.weight, selected.bias
        selected.weight = nn.Buffer(self.weight[list(images)])
        selected.bias = nn.Buffer(self.bias[list(images)])
        return selected
