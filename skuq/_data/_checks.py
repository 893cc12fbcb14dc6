"""From arrays to rows on the device: checks, weights, and the rows of early stopping."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold, train_test_split
from torch import Tensor

from skuq._data._batches import Rows, StreamedRows
from skuq._data._streams import Streamed
from skuq._networks._inputs import Layout
from skuq._networks._module import Numerics
from skuq._utils._arrays import tensor_of
from skuq._utils._devices import fits
from skuq._utils._sklearn_compat import _check_sample_weight

__all__ = [
    "CheckedRows",
    "checks_of_rows",
    "dense",
    "given_weights",
    "names_of_labels",
    "refuse_no_groups",
    "refuse_no_labels",
    "refuse_other_labels",
    "row_hashes",
    "rows_on_device",
    "rows_that_count",
    "shape_of",
    "split_missing",
    "train_valid_indices",
    "weights_of_size",
]


class CheckedRows:
    """Rows for a prediction that are already a tensor of the network's device and dtype.

    Their maker must ensure the right shape and finite values.

    Parameters
    ----------
    tensor : Tensor of shape (n_rows, ...)
        The rows.
    undo : callable, default=None
        If they are a view of images, moves outputs (n, n_outputs, *places) back to their places.
    """

    def __init__(self, tensor: Tensor, undo: Callable[[Tensor], Tensor] | None = None) -> None:
        self.tensor = tensor
        self.undo = undo
        self.shape = tensor.shape

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, span: slice) -> CheckedRows:
        return CheckedRows(self.tensor[span], self.undo)


def checks_of_rows(numerics: Numerics) -> dict[str, Any]:
    """Return the options of scikit-learn's check of X, for fit and predict."""
    dtype = np.float64 if numerics.precision == "float64" else np.float32
    return {"dtype": dtype, "accept_sparse": "csr", "allow_nd": True}


def dense(X: Any) -> np.ndarray:
    """Return a sparse matrix as an array, and anything else unchanged."""
    array: np.ndarray = X.toarray() if hasattr(X, "toarray") else X
    return array


def refuse_no_labels(name: str, labels: Any, fix: str = "leave these rows out") -> None:
    """Refuse labels that cannot be sorted: missing labels, or text beside other labels."""
    try:
        if np.asarray(dense(labels)).dtype.kind not in "OUST":
            return  # numbers; other checks refuse NaN
        values = np.asarray(labels, dtype=object)
    except ValueError:  # rows of different lengths, refused elsewhere
        return
    missing = [index for index, label in enumerate(values.flat) if _is_missing(label)]
    if missing:
        raise ValueError(
            f"{name} contains {len(missing)} missing label(s), the first one "
            f"{values.flat[missing[0]]!r} at place {missing[0]}; {fix}"
        )
    kinds = {isinstance(label, str): label for label in values.flat}
    if len(kinds) > 1:
        raise ValueError(
            f"{name} contains text and other labels, such as {kinds[True]!r} and {kinds[False]!r}; "
            "make all of them text"
        )


def refuse_no_groups(groups: Any) -> None:
    """Refuse groups that are missing or cannot be sorted; NaN would be one large group."""
    refuse_no_labels("groups", groups)
    values = np.asarray(groups)
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError("groups contains NaN; leave these rows out, or name their groups")


def _is_missing(label: Any) -> bool:
    """Return whether a label is None, NaN, or pandas.NA, which has no truth value."""
    try:
        return label is None or bool(label != label)
    except TypeError:
        return True
    except ValueError:  # an array
        return False


def split_missing(y: Any) -> tuple[Any, np.ndarray | None]:
    """Replace NaN in targets by a known value, and return where it was (None if nowhere)."""
    values = np.asarray(dense(y))
    try:
        numbers = values.astype(float)
    except (TypeError, ValueError):  # labels that are no numbers
        return y, None
    missing = np.isnan(numbers)
    if not missing.any():
        return y, None
    if missing.all():
        raise ValueError("every label in y is NaN; nothing can be learnt")
    return np.where(missing, numbers[~missing][0], numbers), missing


def row_hashes(X: np.ndarray) -> np.ndarray:
    """Compute a number for each row; equal rows have equal numbers."""
    size = int(np.prod(X.shape[1:]))
    factors = np.random.default_rng(0).integers(2**63, size=size, dtype=np.uint64) * 2 + 1
    hashes = np.empty(len(X), dtype=np.uint64)
    n_read = max(1, 2**18 // max(1, size))
    n_hashed = max(1, 2**15 // max(1, size))  # what a cache holds
    for start in range(0, len(X), n_read):
        rows = np.ascontiguousarray(X[start : start + n_read]).reshape(-1, size)
        for first in range(0, len(rows), n_hashed):
            block = rows[first : first + n_hashed] + 0.0  # no -0
            words = block.view(f"u{block.itemsize}").astype(np.uint64)
            words ^= words >> 17
            hashes[start + first : start + first + len(words)] = words @ factors
    return hashes


def given_weights(sample_weight: Any, X: np.ndarray) -> np.ndarray | None:
    """Check `sample_weight`: finite, not negative, not all zero."""
    if sample_weight is None:
        return None
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weight.any():
        raise ValueError("sample_weight is zero for every sample; nothing can be learnt")
    return weights_of_size(weight)


def weights_of_size(weight: np.ndarray) -> np.ndarray:
    """Scale weights by a power of two if their sums could overflow or vanish."""
    most = weight.max(initial=0)
    if most == 0 or 1e-100 < most < 1e100:
        return weight
    scaled: np.ndarray = np.ldexp(weight, -np.frexp(most)[1])
    return scaled


def rows_that_count(
    X: Any, target: np.ndarray, weight: np.ndarray | None, groups: Any
) -> tuple[Any, np.ndarray, np.ndarray | None, Any]:
    """Select rows of positive weight, and scale their weights to mean 1."""
    if weight is None:
        return X, target, None, groups
    counts = weight > 0
    if not counts.any():
        raise ValueError(
            "the weights of all samples (sample_weight times class_weight) are zero; nothing can "
            "be learnt"
        )
    if counts.all():
        return X, target, weight / weight.mean(), groups
    groups = None if groups is None else np.asarray(groups)[counts]
    weight = weight[counts] / weight[counts].mean()
    X = X.subset(counts) if isinstance(X, Streamed) else X[counts]
    return X, target[counts], weight, groups


def rows_on_device(
    X: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    numerics: Numerics,
    fresh: Callable[[list[Any], Any], tuple[np.ndarray, np.ndarray | None]] | None = None,
    layout: Layout | None = None,
) -> Rows:
    """Put rows on the device, or on the host if they would fill over half of its free memory.

    On the host, X is not copied, since nothing writes to it. Streamed rows are read on demand, with
    their targets if `fresh` makes targets and weights of these.
    """
    if isinstance(X, Streamed):
        return _streamed_rows(X, target, weight, numerics, fresh)
    fitting = fits(X.size * numerics.dtype.itemsize, numerics.device)
    device = numerics.device if fitting else torch.device("cpu")

    rows = tensor_of(X, only_read=True).to(device, numerics.dtype)
    given = None if weight is None else _tensor(weight, numerics, device)
    ragged = layout if layout is not None and layout.ragged else None
    return Rows(rows, _tensor(target, numerics, device), given, ragged)


def _streamed_rows(
    X: Streamed,
    target: np.ndarray,
    weight: np.ndarray | None,
    numerics: Numerics,
    fresh: Callable[[list[Any], Any], tuple[np.ndarray, np.ndarray | None]] | None,
) -> StreamedRows:
    host, index = torch.device("cpu"), torch.arange(len(X))
    given = None if weight is None else _tensor(weight, numerics, host)

    def read_anew(targets: list[Any], rows: Any) -> tuple[Tensor, Tensor | None]:
        assert fresh is not None
        y, w = fresh(targets, rows)
        return _tensor(y, numerics, host), None if w is None else _tensor(w, numerics, host)

    made = read_anew if fresh is not None and X.has_pairs else None
    return StreamedRows(X, _tensor(target, numerics, host), given, index=index, fresh=made)


def _tensor(values: np.ndarray, numerics: Numerics, device: torch.device) -> Tensor:
    tensor = tensor_of(values, copy=True)
    if values.dtype.kind == "f":
        return tensor.to(device, numerics.dtype)
    return tensor.to(device, torch.int64 if values.ndim == 1 else None)  # masks stay small integers


def train_valid_indices(
    y: np.ndarray, groups: Any, fraction: float, seed: int, stratify: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Choose shuffled indices of training and validation rows.

    Classes are stratified if they are large enough; each keeps a row in training. Rows of one group
    stay together.

    Raises
    ------
    ValueError
        If there are too few rows, or groups, to set some apart.
    """
    n_rows, seed = len(y), seed % 2**32
    rows = np.arange(n_rows)
    n_valid = int(np.ceil(fraction * n_rows))
    if n_valid < 1 or n_valid >= n_rows:
        raise ValueError(
            f"early_stopping=True sets validation_fraction={fraction} of {n_rows} rows apart, "
            "which leaves none to train on; give more rows or set early_stopping=False"
        )
    if groups is not None:
        if len(np.unique(groups)) < 2:
            raise ValueError("early_stopping=True with groups needs at least 2 groups, got 1")
        if stratify:
            n_splits = min(max(2, round(1 / fraction)), len(np.unique(groups)))
            splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
        else:
            splitter = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
        with warnings.catch_warnings():  # that a class is in few groups cannot be helped
            warnings.filterwarnings("ignore", "The least populated class in y", UserWarning)
            train, valid = next(splitter.split(rows, y, groups))
        return train, valid
    if not stratify:
        return tuple(train_test_split(rows, test_size=n_valid, random_state=seed))
    # One row of each class always stays in training.
    shuffled = np.random.default_rng(seed).permutation(n_rows)
    _, first = np.unique(y[shuffled], return_index=True)
    one_of_each = shuffled[first]
    rest = np.setdiff1d(rows, one_of_each)
    n_valid = min(n_valid, len(rest))
    if n_valid == 0:
        raise ValueError(
            "early_stopping=True finds no row to set apart: every class has a single one; give "
            "more rows or set early_stopping=False"
        )
    if n_valid == len(rest):
        return one_of_each, rest
    counts = np.unique(y[rest], return_counts=True)[1]
    can_stratify = counts.min() >= 2 and len(counts) <= n_valid <= len(rest) - len(counts)
    train, valid = train_test_split(
        rest, test_size=n_valid, random_state=seed, stratify=y[rest] if can_stratify else None
    )
    return np.concatenate([train, one_of_each]), valid


def shape_of(y: Any) -> tuple[int, ...]:
    """Return the shape of any array-like; () if it has none."""
    try:
        return tuple(y.shape) if hasattr(y, "shape") else np.asarray(y).shape
    except ValueError:  # rows of different lengths, refused elsewhere
        return ()


def names_of_labels(y: Any) -> np.ndarray | None:
    """Return the names of the columns of indicators; None if y is no data frame with names."""
    names = np.asarray(getattr(y, "columns", ()), dtype=object)
    named = len(names) > 1 and all(isinstance(name, str) for name in names)
    return names if named else None


def refuse_other_labels(names: np.ndarray | None, known: np.ndarray | None) -> None:
    """Raise a ValueError if the columns of y are others than in `fit`, or in another order.

    Parameters
    ----------
    names : ndarray of shape (n_labels,) or None
        The names of the columns, if they have any.
    known : ndarray of shape (n_labels,) or None
        The names in fit, if there were any.
    """
    if known is None or names is None or np.array_equal(names, known):
        return
    fix = ": give y[list(estimator.label_names_)]" if set(names) == set(known) else ""
    raise ValueError(
        f"the columns of y are {list(names)}, but in the first fit they were {list(known)}, in "
        f"this order{fix}"
    )
