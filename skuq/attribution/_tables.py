"""Tables as users give them, and which of their columns the inputs of a network come from."""

from __future__ import annotations

import copy
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skuq._utils._optional import import_optional

__all__ = ["TableRows"]

_ENOUGH = 1000  # rows of the background that show which inputs a column changes


class TableRows:
    """Rows of a table, and the baseline that stands for "nothing special" in each column.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n, n_columns)
        The rows.
    background : DataFrame, array-like or None
        Rows like X; the baseline is the lower median of a column of numbers, else its most frequent
        value. None takes X itself.
    prefix : object or None
        Fitted steps of a Pipeline before the network.

    Attributes
    ----------
    names : list of str
        Names of the columns.
    baseline : list
        One value for each column.
    mixed : str
        Which inputs of the network mix several columns; empty if none does.
    """

    def __init__(self, X: Any, background: Any, prefix: Any) -> None:
        self._X = _checked(X, "X")
        self.names = [str(name) for name in getattr(X, "columns", range(self._X.shape[1]))]
        if background is None and len(self._X) == 1:
            raise ValueError(
                "one row of a table does not show which values are usual; give background=, rows "
                "like those that trained the estimator"
            )
        self._background = self._X if background is None else self._like_X(background)
        if isinstance(self._X, np.ndarray) and self._X.dtype.kind in "USO":
            # Strings of the baseline may be longer.
            self._X = self._X.astype(np.result_type(self._X, self._background))
        self.baseline = [_usual(column) for column in _columns(self._background)]
        self._prefix = prefix
        self._known: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self.mixed = ""
        if prefix is not None:
            self.inputs()

    def __len__(self) -> int:
        return len(self._X)

    def taken(self, which: np.ndarray) -> TableRows:
        """Return some of the rows, with the same baseline."""
        some = copy.copy(self)
        some._X = _taken(self._X, which)
        if self._known is not None:
            some._known = (self._known[0][which], *self._known[1:])
        return some

    def span(self) -> float:
        """Return the mean range of the inputs, in their standard deviations."""
        z, _, spread, _ = self.inputs()
        known = spread > 0
        ranges = (z.amax(0) - z.amin(0))[known] / spread[known]
        return float(ranges.mean()) if known.any() else 1.0

    def put(self, rows: Any, which: np.ndarray, new: Any) -> None:
        """Write new rows to some places of a copy of the rows."""
        if not hasattr(rows, "columns"):
            rows[which] = new
            return
        for k in range(rows.shape[1]):
            column = rows.iloc[:, k].copy()
            column.iloc[which] = new.iloc[:, k].array
            rows.isetitem(k, column)

    @property
    def rows(self) -> Any:
        return self._X

    def _like_X(self, background: Any) -> Any:
        given = _checked(background, "background")
        if type(given) is not type(self._X):
            raise TypeError(
                f"background must be of the kind of X, {type(self._X).__name__}, got "
                f"{type(given).__name__}"
            )
        if list(getattr(given, "columns", [])) != list(getattr(self._X, "columns", [])) or (
            given.shape[1] != self._X.shape[1]
        ):
            raise ValueError(
                f"background must have the columns of X, {self.names}, got {given.shape[1]} others"
            )
        return given

    def replaced(self, rows: np.ndarray, mask: np.ndarray) -> Any:
        """Return some rows with the columns of a mask, of shape (m, n_columns), replaced."""
        return _replaced(_taken(self._X, rows), mask, self.baseline)

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what the differentiable part gets, and where it comes from.

        Returns
        -------
        z : Tensor of shape (n, n_inputs)
            The inputs of the rows.
        z_baseline : Tensor of shape (n_inputs,)
            Those of the baseline.
        spread : Tensor of shape (n_inputs,)
            Their standard deviations in the background.
        source : Tensor of int64 of shape (n_inputs,)
            The column that each input comes from; -1 if no column changes it in these rows.
        """
        if self._known is None:
            z, around = self._transformed(self._X), self._transformed(self._background)
            whole = np.ones((1, self._X.shape[1]), dtype=bool)
            baseline = self._transformed(self.replaced(np.zeros(1, int), whole))[0]
            if self._prefix is None:
                source = np.arange(z.shape[1])
            else:
                source = self._sources(z, around[:_ENOUGH])
            spread = around.std(0)
            self._known = tuple(map(torch.from_numpy, (z, baseline, spread, source)))  # type: ignore[assignment]
        return self._known  # type: ignore[return-value]

    def _transformed(self, rows: Any) -> np.ndarray:
        made = rows if self._prefix is None else self._prefix.transform(rows)
        made = made.toarray() if hasattr(made, "toarray") else made
        return np.array(made, dtype=float)

    def _sources(self, z: np.ndarray, around: np.ndarray) -> np.ndarray:
        """Set one column after another to its baseline, and see which inputs change."""
        source = np.full(z.shape[1], -1)
        for k, name in enumerate(self.names):
            for rows, before in ((self._X, z), (self._background, around)):
                some = _taken(rows, np.arange(len(before)))
                mask = np.zeros((len(before), len(self.names)), dtype=bool)
                mask[:, k] = True
                after = self._transformed(_replaced(some, mask, self.baseline))
                moved = ((after != before) & ~(np.isnan(after) & np.isnan(before))).any(0)
                for place in np.flatnonzero(moved & (source >= 0) & (source != k)):
                    self.mixed = f"{self.names[source[place]]!r} and {name!r}"
                source[moved] = k
        return source


def _checked(rows: Any, name: str) -> Any:
    """Return a pandas DataFrame or a matrix."""
    if hasattr(rows, "columns") and hasattr(rows, "to_pandas"):  # polars
        rows = rows.to_pandas()
    if hasattr(rows, "columns"):
        if len(rows) and rows.shape[1]:
            return rows
        raise ValueError(f"{name} must have rows and columns, got shape {rows.shape}")
    if hasattr(rows, "toarray"):
        raise TypeError(f"{name} is a sparse matrix; attribution needs an array: {name}.toarray()")
    values = rows.detach().cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(
            f"{name} must have shape (n_rows, n_columns) with at least one row, or be images with "
            f"image_shape=; got shape {values.shape}"
        )
    return values.astype(float) if values.dtype.kind in "iub" else values


def _columns(rows: Any) -> list[Any]:
    """List the columns, each as a Series or an array."""
    if hasattr(rows, "columns"):
        return [rows.iloc[:, k] for k in range(rows.shape[1])]
    return list(rows.T)


def _taken(rows: Any, which: np.ndarray) -> Any:
    if hasattr(rows, "columns"):
        return rows.iloc[which].reset_index(drop=True)
    return rows[which]


def _replaced(rows: Any, mask: np.ndarray, values: list[Any]) -> Any:
    """Return a copy of rows, with one value in the masked cells of each column."""
    if not hasattr(rows, "columns"):
        return np.where(mask, np.array(values, dtype=rows.dtype), rows)
    changed = rows.copy()
    for k in np.flatnonzero(mask.any(0)).tolist():
        changed.isetitem(k, rows.iloc[:, k].mask(mask[:, k], values[k]))
    return changed


def _usual(column: Any) -> Any:
    """Return the lower median of numbers and times, the most frequent of other values.

    Both occur in the column, so that it keeps its type.
    """
    pandas = import_optional("pandas", "pandas", "a table") if hasattr(column, "iloc") else None
    if pandas is None:
        known = column[[value is not None and value == value for value in column]]
        if not len(known):
            return column[0]
        if known.dtype.kind in "fcmM" or all(map(_is_number, known)):
            return np.sort(known)[(len(known) - 1) // 2]
        values, counts = np.unique(known.astype(str), return_counts=True)
        return known[known.astype(str) == values[counts.argmax()]][0]
    known = column.dropna().infer_objects()  # a column of objects may hold numbers
    if not len(known):
        return column.iloc[0]
    types = pandas.api.types
    times = types.is_datetime64_any_dtype(known) or types.is_timedelta64_dtype(known)
    if (types.is_numeric_dtype(known) or times) and not types.is_bool_dtype(known):
        return known.sort_values().iloc[(len(known) - 1) // 2]
    return known.mode().iloc[0]


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)
