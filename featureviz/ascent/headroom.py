"""Memory that a step frees and the next step uses again."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from featureviz.errors import out_of_memory

LARGEST = 2**25  # bytes: glibc maps larger blocks one by one, and returns each of them when it is freed
BLOCKS = 16  # half a gigabyte of addresses


def headroom(device: torch.device) -> Tensor:
    """A block of memory that an ascent on ``device`` keeps as long as it lasts, so that steps keep their memory.

    A step on a CPU frees some hundred megabytes. glibc returns what is on top of the heap to the system, and the next
    step gets it back page by page, each filled with zeros. This takes a third of the time of a MobileNetV3. While a
    block lies on top of the heap, freed memory below it stays with the process. The block is never written to, so it
    takes addresses and no memory. When it is deleted, the system gets back all that is not in use.

    The block is empty on other devices, and on systems other than Linux.

    >>> block = headroom(torch.device("cpu"))  # del block, after the last step
    """
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return torch.zeros(0, device="cpu")
    try:
        # Once a mapped block of this size was freed, glibc takes blocks up to its size from the heap.
        torch.empty(LARGEST - 2**16, dtype=torch.uint8, device="cpu")
        blocks = [torch.empty(LARGEST - 2**18, dtype=torch.uint8, device="cpu") for _ in range(BLOCKS)]
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return torch.zeros(0, device="cpu")  # the process may use few addresses only; steps work without the block
    return max(blocks, key=Tensor.data_ptr)
