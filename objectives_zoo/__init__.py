"""More objectives, written with the public names of featureviz only."""

from objectives_zoo.batch import Alignment as Alignment
from objectives_zoo.batch import Diversity as Diversity
from objectives_zoo.batch import interpolation as interpolation
from objectives_zoo.regularizers import boundary_complexity as boundary_complexity
from objectives_zoo.regularizers import l1 as l1
from objectives_zoo.regularizers import l2 as l2
from objectives_zoo.regularizers import total_variation as total_variation
from objectives_zoo.sparse import sparse_channel as sparse_channel

__all__ = [
    "Alignment", "Diversity", "boundary_complexity", "interpolation", "l1", "l2", "sparse_channel", "total_variation",
]  # fmt: skip
