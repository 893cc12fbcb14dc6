"""What a simulation is made of, as a hash that is the same in every process."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skuq._data._inputs import Inputs, as_inputs
from skuq._data._streams import is_dataset

__all__ = ["identity_of"]

_UNIMPORTANT = ("checkpoint_dir", "verbose")


def identity_of(learner: Any, *data: Any) -> str:
    """Return a hash of the parameters and the data of a simulation.

    Functions count by their names and code, classes by their names, and objects without parameters
    by what they show of themselves, without addresses. Of a torch Dataset only the number of rows
    counts. The learner's own generator is left out, since a file keeps the seed.

    Parameters
    ----------
    learner : ActiveLearner
        Its parameters count, apart from those that change no result.
    *data : array-like, data frame, sparse matrix, Dataset, Inputs or None
        Rows and labels.
    """
    parameters = learner.get_params(deep=False)
    own = {name: value for name, value in parameters.items() if name not in _UNIMPORTANT}
    if not isinstance(own["random_state"], int | np.integer):
        own["random_state"] = None
    digest = hashlib.sha256()
    for part in _parts((own, [as_inputs(each) for each in data])):
        digest.update(part + b";")
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    """Yield bytes that describe a value, those of its parts included."""
    if isinstance(value, BaseEstimator):
        yield _name_of(type(value))
        yield from _parts(value.get_params(deep=False))
    elif isinstance(value, Inputs):
        yield from _parts(value.arrays)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from _parts(value[key])
    elif isinstance(value, np.random.RandomState):
        yield from _parts(value.get_state())
    elif isinstance(value, partial):
        yield from _parts([value.func, value.args, value.keywords])
    elif isinstance(value, nn.Module):
        yield repr(value).encode()
        yield from _parts(value.state_dict())
    elif isinstance(value, type) or hasattr(value, "__qualname__"):
        yield _name_of(value)
        if (code := getattr(value, "__code__", None)) is not None:  # lambdas share a name
            inside = [cell.cell_contents for cell in value.__closure__ or ()]
            yield code.co_code
            yield _shown([code.co_consts, code.co_names, value.__defaults__, inside])
    elif is_dataset(value):
        yield f"{type(value).__name__} {len(value)}".encode()
    elif hasattr(value, "tocsr"):
        matrix = value.tocsr()
        yield from _parts([matrix.shape, matrix.indptr, matrix.indices, matrix.data])
    elif hasattr(value, "columns"):  # a data frame
        yield from _parts([list(map(str, value.columns)), [value[c] for c in value.columns]])
    elif hasattr(value, "dtype") or isinstance(value, Tensor):
        yield from _of_array(np.asarray(value))
    elif isinstance(value, list | tuple):
        yield f"{len(value)}".encode()
        for each in value:
            yield from _parts(each)
    elif hasattr(value, "__dict__") and " at 0x" in repr(value):  # it does not show its parts
        yield _name_of(type(value))
        yield _shown(sorted(vars(value).items()))
    else:
        yield _shown(value)


def _name_of(value: Any) -> bytes:
    return f"{getattr(value, '__module__', '')}.{value.__qualname__}".encode()


def _shown(value: Any) -> bytes:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)).encode()


def _of_array(array: np.ndarray) -> Iterator[bytes]:
    yield f"{array.shape}{array.dtype}".encode()
    if array.dtype == object:
        for each in array.ravel():
            yield _shown(each)
    else:
        yield np.ascontiguousarray(array).tobytes()
