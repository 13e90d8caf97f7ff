"""Memory that a step frees and the next one finds again."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from featureviz.errors import out_of_memory

LARGEST = 2**25  # glibc maps larger blocks one by one, and gives each back to the system when it is freed
BLOCKS = 16  # half a gigabyte of addresses


def headroom(device: torch.device) -> Tensor:
    """A block to hold on to while steps are made on ``device``: made at the height of one, above all that it uses.

    A step on a CPU frees some hundred megabytes. glibc hands what lies on top of the heap back to the system, and the
    next step gets it page by page, each a fault and a page of zeros: a third of the time of a MobileNetV3. Under a
    block that stays, freed memory stays, with room below it for steps that need more. No setting is changed. Neither
    the block nor the room is written to before it is needed, so they take addresses and no memory; and when the block
    is let go, everything above what is then in use goes back.

    An empty one where that is not how memory works: on other devices, and on systems other than Linux.

    >>> block = headroom(torch.device("cpu"))  # del block, when the last step is done
    """
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return torch.zeros(0)
    try:
        # Freed once, a mapped block teaches glibc to take those up to its size from the heap.
        torch.empty(LARGEST - 2**16, dtype=torch.uint8)
        blocks = [torch.empty(LARGEST - 2**18, dtype=torch.uint8) for _ in range(BLOCKS)]
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return torch.zeros(0)  # so few addresses are allowed; steps do without
    return max(blocks, key=Tensor.data_ptr)
