"""From NumPy to torch: the only place that makes tensors of arrays."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_tensor", "tensor_of"]


def as_tensor(values: Any) -> Tensor:
    """Return a tensor unchanged, and anything else as `tensor_of` converts it."""
    return values if isinstance(values, Tensor) else tensor_of(values)


def tensor_of(
    values: Any,
    dtype: torch.dtype | None = None,
    *,
    copy: bool = False,
    only_read: bool = False,
    order: Literal["C", "K"] = "C",
) -> Tensor:
    """Make a tensor of an array of numbers with any strides, byte order and flags.

    torch refuses negative strides, even along axes of length 0 or 1, which NumPy keeps in a
    "contiguous" array. It also refuses a foreign byte order, gaps that are no multiples of an item
    (a field of a structured array), and floats of more than 64 bits, which are rounded here.

    Parameters
    ----------
    values : array-like
        An array of numbers.
    dtype : torch.dtype, default=None
        Type of the tensor; None keeps the type of the values.
    copy : bool, default=False
        Whether to copy in any case. If not, the tensor shares the memory of the array if possible.
    only_read : bool, default=False
        Whether the tensor will only be read. Then it may share read-only memory, too.
    order : {"C", "K"}, default="C"
        Order of the axes in memory: the last axis fastest, or as in the array if torch can.

    Returns
    -------
    Tensor of the shape of the array
        The numbers.

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
        # Not np.ascontiguousarray, which ignores the strides of axes of length 1.
        array, copy = array.copy("C"), False
    if copy or not (array.flags.writeable or only_read):
        array = array.copy(order)
    with warnings.catch_warnings():
        if not array.flags.writeable:
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = torch.from_numpy(array)
    return tensor if dtype is None else tensor.to(dtype)
