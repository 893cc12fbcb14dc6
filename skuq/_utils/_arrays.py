"""From NumPy to torch: the one place where the memory of an array becomes that of a tensor."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_tensor", "tensor_of"]


def as_tensor(values: Any) -> Tensor:
    """A tensor as it is, an array as `tensor_of` makes one of it."""
    return values if isinstance(values, Tensor) else tensor_of(values)


def tensor_of(
    values: Any,
    dtype: torch.dtype | None = None,
    *,
    copy: bool = False,
    only_read: bool = False,
    order: Literal["C", "K"] = "C",
) -> Tensor:
    """A tensor of an array of numbers, whatever its strides, byte order and flags.

    torch takes no negative strides, not even along axes of length 0 or 1, which NumPy leaves as
    they are where it is asked for a contiguous array. Nor does it take a foreign byte order, gaps
    that are no multiples of an item (a field of a structured array), or floats of more than 64
    bits, which are rounded here.

    Parameters
    ----------
    values : array-like
        Of numbers.
    dtype : torch.dtype, default=None
        Of the tensor; None: that of the values.
    copy : bool, default=False
        Whether the tensor has memory of its own in any case; else it shares the memory of the
        array where that is possible.
    only_read : bool, default=False
        Whether nobody will write to the tensor: then it shares read-only memory, too.
    order : {"C", "K"}, default="C"
        Of the axes in memory: the last one fastest, or as they are in the array, if torch can.

    Returns
    -------
    Tensor of the shape of the array

    Raises
    ------
    TypeError
        If torch has no such dtype.
    """
    array = np.asarray(values)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    usable = all(stride >= 0 and stride % array.itemsize == 0 for stride in array.strides)
    if not usable or (order == "C" and not array.flags.c_contiguous):
        # Not np.ascontiguousarray: it returns what is contiguous but for axes of length 1.
        array, copy = array.copy("C"), False
    if copy or not (array.flags.writeable or only_read):
        array = array.copy(order)
    with warnings.catch_warnings():
        if not array.flags.writeable:
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = torch.from_numpy(array)
    return tensor if dtype is None else tensor.to(dtype)
