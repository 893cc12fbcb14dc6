"""The standard deviations of inputs, or their covariance matrix, as a user gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from skuq._data._checks import shape_of
from skuq._data._inputs import Inputs, as_inputs
from skuq._meta import innermost

__all__ = ["checked_scale", "given_scale", "order_of_columns", "refuse_inputs", "without_codes"]


def refuse_inputs(X: Any, name: str) -> None:
    """Refuse several inputs, whose rows have no columns."""
    if isinstance(as_inputs(X), Inputs):
        raise TypeError(
            f"{name} moves the features of one array or data frame, got several inputs (X of type "
            f"{type(X).__name__}): join inputs of numbers into one array"
        )


def given_scale(scale: Any, X: Any) -> np.ndarray:
    """Return a scale in the order of the columns of X; a mapping or pandas object has names."""
    return checked_scale(_in_order(scale, X), shape_of(X)[1:])


def _in_order(scale: Any, X: Any) -> Any:
    is_mapping, index = isinstance(scale, Mapping), cast(Any, getattr(scale, "index", None))
    given = list(scale) if is_mapping else list(index) if hasattr(index, "__iter__") else []
    named = bool(given) and all(isinstance(name, str) for name in given)
    names = list(getattr(X, "columns", []))
    if not is_mapping and not (named and names):
        return scale
    others = list(getattr(scale, "columns", given))
    if sorted(map(str, given)) != sorted(map(str, names)) or set(others) != set(given):
        raise ValueError(
            f"scale has the names {sorted({*map(str, given), *map(str, others)})}, expected those "
            f"of the columns of X, {names or 'which has none'}; 0 is a feature without error"
        )
    if hasattr(scale, "columns"):
        return scale.loc[names, names].to_numpy()
    return [scale[name] for name in names]


def order_of_columns(leaf: Any) -> Any:
    """Return the columns of a data frame in the order of a network's rows: categories are last."""
    columns = getattr(leaf, "_columns", None)
    return slice(None) if columns is None else [*columns.numbers, *columns.codes]


def without_codes(scale: np.ndarray, given: Any, fitted: Any, X: Any) -> np.ndarray:
    """Set the error of categorical columns to zero; refuse one that was given for them only."""
    leaf, inner = innermost(fitted, X)
    columns = getattr(leaf, "_columns", None)
    if columns is None or inner is not X:
        return scale
    codes, scale = list(columns.codes), scale.copy()
    if np.ndim(given) and scale[codes].any():
        raise ValueError(
            f"scale is {scale[codes].max():.3g} for a categorical column, expected 0: categories "
            f"have no error of this kind; these are the columns {codes}"
        )
    scale[codes] = 0
    return scale


def checked_scale(scale: Any, row: tuple[int, ...]) -> np.ndarray:
    """Return standard deviations of the shape of a row, or a covariance matrix.

    Raises
    ------
    ValueError
        If the scale has another shape, a negative or no finite number, or is no covariance matrix.
    """
    try:
        values = np.array(scale, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"scale must hold numbers, or be 'fit', got {scale!r}") from None
    matrix = len(row) == 1 and values.shape == (row[0], row[0])
    if values.ndim and values.shape != row and not matrix:
        raise ValueError(
            f"scale has shape {values.shape}, expected one number, {row} for a standard deviation "
            f"of each feature, or ({', '.join(map(str, row * 2))}) for their covariance matrix"
        )
    if not np.isfinite(values).all():
        raise ValueError("scale contains NaN or infinity; 0 is a feature without error")
    if not matrix:
        if (values < 0).any():
            raise ValueError(f"scale must not be negative, got {values.min():.3g}")
        return np.broadcast_to(values, row).copy()
    least = np.linalg.eigvalsh((values + values.T) / 2).min()
    if not np.allclose(values, values.T) or least < -1e-10 * np.abs(values).max():
        raise ValueError(
            "a scale of shape (n_features, n_features) must be a covariance matrix: symmetric, "
            f"without negative eigenvalues; the smallest one is {least:.3g}"
        )
    return values
