"""Several inputs of a module: a container that indexes like an array, and its rows of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.utils import check_array

from skuq._networks._inputs import Layout, Part

__all__ = ["Inputs", "Packer", "as_inputs", "packed", "planned"]

_LARGEST_WHOLE = {np.dtype(np.float32): 2**24, np.dtype(np.float64): 2**53}


class Inputs:
    """Rows of several inputs, which index like one array.

    An estimator calls its module with them: named inputs are arguments by name, others by position.
    Integers arrive as int64, booleans as bool, floats in the precision of the estimator. A dict of
    arrays does the same in `fit` and in the predictions of an estimator; scikit-learn's splitters,
    searches and Pipelines need `Inputs`, since they cannot index a dict.

    Parameters
    ----------
    *arrays : array-like of shape (n_samples, ...), or one mapping of str to those
        The inputs by position, or a mapping of them by name, such as the output of a tokenizer.
        Numbers only. Rows of several lengths, as lists of 1-D sequences, are padded with 0, and
        the module's argument ``attention_mask`` (or ``mask``) is 1 for what a row has.
    **named : array-like of shape (n_samples, ...)
        The inputs by name.

    Attributes
    ----------
    arrays : dict of str to ndarray
        The inputs by name; those without a name are "0", "1" and so on. Rows of several lengths are
        an array of arrays.
    shape : tuple of int
        The number of rows, ``(n_samples,)``.

    Raises
    ------
    ValueError
        If there is no input, if their numbers of rows differ, or if a value is no number.

    Notes
    -----
    Sequences may have another length than in `fit`: of inputs with the shape (n_samples, length) of
    integers, or (n_samples, length, n_values), those that are longest in `fit`. They must have one
    length in each call. The size of every other input stays as in `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq import Inputs
    >>> ids, mask = np.array([[5, 2, 9], [4, 1, 0]]), np.array([[1, 1, 1], [1, 1, 0]])
    >>> rows = Inputs(input_ids=ids, attention_mask=mask)
    >>> rows
    Inputs(input_ids: (2, 3) int64, attention_mask: (2, 3) int64)
    >>> rows[1:].arrays["input_ids"]
    array([[4, 1, 0]])
    """

    arrays: dict[str, np.ndarray]
    shape: tuple[int, ...]

    def __init__(self, *arrays: Any, **named: Any) -> None:
        if len(arrays) == 1 and isinstance(arrays[0], Mapping | Inputs):
            given: Any = arrays[0].arrays if isinstance(arrays[0], Inputs) else arrays[0]
            arrays, named = (), {**given, **named}
        found = {str(place): array for place, array in enumerate(arrays)} | named
        if not found:
            raise ValueError("Inputs is empty; expected at least one array")
        self.arrays = {_checked_name(name): _as_array(name, a) for name, a in found.items()}
        lengths = {name: len(array) for name, array in self.arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the inputs have different numbers of rows: {lengths}")
        self.shape = (next(iter(lengths.values())),)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Take rows, as `Inputs`; for one integer, the inputs of one row, as a dict."""
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]  # scikit-learn's way
        if isinstance(key, list | range):
            key = np.asarray(key, dtype=None if len(key) else int)
        if hasattr(key, "detach"):
            key = key.detach().cpu().numpy()
        if isinstance(key, int | np.integer):
            return {name: array[key] for name, array in self.arrays.items()}
        if not isinstance(key, slice) and np.ndim(key) != 1:
            raise IndexError(f"Inputs takes a slice, indices or a mask of rows, got {key!r}")
        taken = object.__new__(Inputs)
        taken.arrays = {name: array[key] for name, array in self.arrays.items()}
        taken.shape = (len(next(iter(taken.arrays.values()))),)
        return taken

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        shown = (f"{name}: {_shown(array)}" for name, array in self.arrays.items())
        return f"Inputs({', '.join(shown)})"


def _shown(array: np.ndarray) -> str:
    if array.dtype == object:
        return f"{len(array)} rows of several lengths"
    return f"{array.shape} {array.dtype}"


def _checked_name(name: Any) -> str:
    if isinstance(name, str) and (name.isidentifier() or name.isdigit()):
        return name
    raise ValueError(f"the names of inputs are arguments of the module's forward, got {name!r}")


def _as_array(name: str, values: Any) -> np.ndarray:
    """Make an array of numbers; an object array of arrays, if rows have several lengths."""
    values = values.detach().cpu().numpy() if hasattr(values, "detach") else values
    values = values.toarray() if hasattr(values, "toarray") else values
    try:
        array = np.asarray(values)
    except ValueError:  # rows of several lengths
        array = _array_of(list(values))
    if array.ndim == 0:
        raise ValueError(f"the input {name!r} is one value, expected an array of n_samples rows")
    if array.dtype == object:
        array = _numbers_or_ragged(name, array)
    if array.dtype.kind in "fiub" or array.dtype == object:
        return array
    raise ValueError(
        f"the input {name!r} has values of type {array.dtype}; expected numbers. Give texts as "
        "token ids, and dates as numbers"
    )


def _array_of(rows: list[Any]) -> np.ndarray:
    """Make an array whose entries are these objects, of any lengths."""
    array = np.empty(len(rows), dtype=object)
    for place, row in enumerate(rows):
        array[place] = row
    return array


def _is_row(value: Any) -> bool:
    has_values = hasattr(value, "__len__") and not isinstance(value, str | bytes)
    return has_values and getattr(value, "ndim", 1) > 0


def _numbers_or_ragged(name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 1 and len(array) and all(map(_is_row, array)):
        rows = [_as_array(name, row) for row in array]
        if len({(row.ndim, *row.shape[1:]) for row in rows}) > 1 or any(
            row.dtype == object for row in rows
        ):
            raise ValueError(
                f"the rows of the input {name!r} differ in more than their lengths: expected 1-D "
                "rows, or 2-D ones with one number of columns"
            )
        kind = np.result_type(*rows)
        return _array_of([row.astype(kind, copy=False) for row in rows])
    types = {type(value) for value in array.flat}
    try:
        if types and all(issubclass(one, int | np.integer) for one in types):
            return array.astype(bool if types == {bool} else np.int64)
        return array.astype(float)
    except (TypeError, ValueError, OverflowError):
        strange = next((v for v in array.flat if not isinstance(v, int | float)), array.flat[0])
        raise ValueError(
            f"the input {name!r} has the value {strange!r}; expected numbers. Give texts as token "
            "ids, from a tokenizer or a vocabulary of your own"
        ) from None


def as_inputs(X: Any) -> Any:
    """Make `Inputs` of a mapping; return anything else unchanged, as sparse matrices by keys.

    Raises
    ------
    ValueError
        If X is a list or tuple of arrays of different shapes, which cannot be rows of one array.
    """
    if isinstance(X, list | tuple) and all(getattr(one, "ndim", 0) for one in X):
        shapes = {tuple(one.shape) for one in X}
        if len(shapes) > 1:
            raise ValueError(
                f"X is a {type(X).__name__} of {len(X)} arrays of different shapes, such as "
                f"{' and '.join(map(str, sorted(shapes)[:2]))}. If each is an input of the module, "
                "give skuq.Inputs(*X), or a dict of names; if each is a row, "
                "skuq.Inputs(input_ids=X), with the name of the module's argument"
            )
    return Inputs(X) if isinstance(X, Mapping) and not hasattr(X, "shape") else X


# ---------------------------------------------------------------------------------------------
# Rows of numbers


def planned(inputs: Inputs, sizes: tuple[tuple[str, Any], ...] = ()) -> Layout:
    """Plan the rows of the first fit. Inputs of a table, with `sizes`, have no free length."""
    lengths = {} if sizes else {name: _length(a) for name, a in inputs.arrays.items()}
    ragged = [name for name, array in inputs.arrays.items() if array.dtype == object]
    longest = max((n for n in lengths.values() if n is not None), default=None)
    parts = []
    for name, array in inputs.arrays.items():
        free = name in ragged if ragged else longest is not None and lengths.get(name) == longest
        first = array[0] if array.dtype == object else array
        kind = {"f": "float", "b": "bool"}.get(first.dtype.kind, "int")
        shape = first.shape[1:] if name in ragged else array.shape[2 if free else 1 :]
        parts.append(Part(name, tuple(map(int, shape)), kind, free))
    return Layout(tuple(parts), bool(ragged), sizes)


def _length(array: np.ndarray) -> int | None:
    """Return the length of sequences; None for an input that is none."""
    if array.dtype == object:
        return None
    if (array.ndim == 2 and array.dtype.kind != "f") or array.ndim == 3:
        return int(array.shape[1])
    return None


def packed(inputs: Inputs, layout: Layout, dtype: Any) -> np.ndarray:
    """Make rows of numbers, of shape (n_samples, n_values).

    Raises
    ------
    ValueError
        If the inputs do not fit the layout, or if whole numbers are too large for the dtype.
    """
    _check_names(inputs, layout)
    n_rows, blocks = len(inputs), []
    arrays = {part.name: _of_part(inputs.arrays[part.name], part, dtype) for part in layout.parts}
    lengths = _lengths(inputs, layout)
    longest = max(int(lengths.max(initial=1)), 1)
    for part in layout.fixed:
        if part.name in arrays:
            blocks.append(arrays[part.name].reshape(n_rows, part.width))
        else:
            blocks.append(lengths[:, None])
    if layout.free:
        padded = [_padded(arrays[p.name], p, longest, dtype) for p in layout.free]
        blocks.append(np.concatenate(padded, axis=2).reshape(n_rows, -1))
    return np.concatenate([block.astype(dtype, copy=False) for block in blocks], axis=1)


def _check_names(inputs: Inputs, layout: Layout) -> None:
    expected = {part.name for part in layout.parts}
    if inputs.arrays.keys() != expected:
        raise ValueError(
            f"X has the inputs {sorted(inputs.arrays)}, but the estimator was fitted on "
            f"{sorted(expected)}"
        )


def _of_part(array: np.ndarray, part: Part, dtype: Any) -> np.ndarray:
    """Check an input; rows of several lengths become an array of checked rows."""
    if array.dtype == object:
        if not all(lengths := [len(row) for row in array]):
            raise ValueError(
                f"row {lengths.index(0)} of the input {part.name!r} is empty; expected at least "
                "one value in each, such as a token that stands for nothing"
            )
        whole = part._replace(free=False)
        made = _array_of([_of_part(r, whole._replace(shape=r.shape[1:]), dtype) for r in array])
        shape: tuple[int, ...] = array[0].shape[1:] if len(array) else part.shape
    else:
        name = f"X[{part.name if not part.by_place else int(part.name)!r}]"
        checks = {"ensure_2d": False, "allow_nd": True, "ensure_min_features": 0}
        made = check_array(
            array, input_name=name, dtype=dtype if part.kind == "float" else None, **checks
        )
        shape = array.shape[2 if part.free else 1 :]
        if part.kind != "float":
            _check_whole(made, name, dtype)
    if shape != part.shape or (part.free and array.dtype != object and array.ndim < 2):
        length = "length, " if part.free else ""
        raise ValueError(
            f"the input {part.name!r} has rows of shape {array.shape[1:]}, but the estimator was "
            f"fitted on rows of shape ({length}{', '.join(map(str, part.shape))})"
        )
    return made


def _check_whole(array: np.ndarray, name: str, dtype: Any) -> None:
    if array.dtype.kind == "f" and (array != np.floor(array)).any():
        raise ValueError(f"{name} has values that are not whole, but whole ones in fit")
    most = _LARGEST_WHOLE[np.dtype(dtype)]
    if (
        array.size
        and array.dtype.kind != "b"
        and max(abs(int(array.min())), int(array.max())) > most
    ):
        raise ValueError(
            f"{name} has whole numbers above {most}, which {np.dtype(dtype)} does not hold "
            'exactly: number them anew, or set precision="float64"'
        )


def _lengths(inputs: Inputs, layout: Layout) -> np.ndarray:
    """Return the length of each row; refuse inputs whose lengths differ from each other."""
    found: dict[str, np.ndarray] = {}
    for part in layout.free:
        array = inputs.arrays[part.name]
        ragged = array.dtype == object
        lengths = [len(row) for row in array] if ragged else [array.shape[1]] * len(array)
        found[part.name] = np.asarray(lengths, dtype=int)
    first = next(iter(found.values()), np.ones(len(inputs), dtype=int))
    for name, own in found.items():
        if not np.array_equal(own, first):
            raise ValueError(
                f"the inputs {next(iter(found))!r} and {name!r} have sequences of different "
                "lengths; expected one length, as in fit: pad the shorter ones"
            )
    if not layout.ragged and len(np.unique(first)) > 1:
        raise ValueError(
            "X has rows of several lengths, but in fit all had one: pad them, and give the module "
            "a mask, or fit with rows of several lengths"
        )
    return first


def _padded(array: np.ndarray, part: Part, longest: int, dtype: Any) -> np.ndarray:
    """Make an array of shape (n_samples, longest, n_values at a position)."""
    if array.dtype != object:
        return array.reshape(len(array), array.shape[1], part.width).astype(dtype, copy=False)
    made = np.zeros((len(array), longest, part.width), dtype)
    for row, values in zip(made, array):
        row[: len(values)] = values.reshape(len(values), part.width)
    return made


class Packer:
    """Packs items of a Dataset that are mappings; leaves arrays as they are.

    Parameters
    ----------
    layout : Layout or None
        That of `fit`; None: the first item gives it.
    dtype : dtype
        The type of the rows.
    """

    def __init__(self, layout: Layout | None, dtype: Any) -> None:
        self.layout = layout
        self._dtype = dtype

    def __call__(self, x: Any) -> Any:
        if not isinstance(x, Mapping):
            return x
        inputs = Inputs({name: _row_of_one(value) for name, value in x.items()})
        if self.layout is None:
            self.layout = planned(inputs)
        return packed(inputs, self.layout, self._dtype)[0]


def _row_of_one(value: Any) -> np.ndarray:
    value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    return np.asarray(value)[None]
