"""Data frames with categorical columns: floats and codes for a module."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skuq._data._inputs import Inputs

__all__ = ["Columns", "is_mixed_table"]


def _is_table(X: Any) -> bool:
    return hasattr(X, "iloc") and hasattr(X, "columns") and hasattr(X, "dtypes")


def _is_categorical(column: Any) -> bool:
    """Return whether a column has categories, or text."""
    dtype = column.dtype
    if hasattr(dtype, "categories") and not hasattr(dtype, "subtype"):
        return True
    if str(dtype) in ("object", "str", "string") or str(dtype).startswith("string"):
        return any(isinstance(value, str) for value in column)
    return False


def is_mixed_table(X: Any) -> bool:
    """Return whether X is a data frame with a categorical column."""
    return _is_table(X) and any(_is_categorical(X.iloc[:, k]) for k in range(X.shape[1]))


class Columns(NamedTuple):
    """What `fit` learnt of the columns of a data frame.

    Parameters
    ----------
    numbers : tuple of int
        Places of the columns of numbers.
    codes : tuple of int
        Places of the categorical columns.
    categories : tuple of tuple
        The categories of each of these, in the order of their codes: the first has code 1. Code 0
        stands for what fit has not seen.
    """

    numbers: tuple[int, ...]
    codes: tuple[int, ...]
    categories: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, X: Any) -> Columns:
        """Learn the columns of a data frame."""
        places = range(X.shape[1])
        codes = tuple(k for k in places if _is_categorical(X.iloc[:, k]))
        return cls(
            numbers=tuple(k for k in places if k not in codes),
            codes=codes,
            categories=tuple(_categories_of(X.iloc[:, k]) for k in codes),
        )

    @property
    def sizes(self) -> tuple[tuple[str, Any], ...]:
        """What the factory of a module gets if its signature names it."""
        n_categories = tuple(1 + len(own) for own in self.categories)
        return (("n_numbers", len(self.numbers)), ("n_categories", n_categories))

    def inputs(self, X: Any) -> Inputs:
        """Make the arguments `numbers` and `codes` of a data frame with the columns of fit.

        Raises
        ------
        ValueError
            If a column of numbers has text.
        """
        numbers = [_floats(X.iloc[:, k], X.columns[k]) for k in self.numbers]
        codes = [_codes(X.iloc[:, k], own) for k, own in zip(self.codes, self.categories)]
        return Inputs(
            numbers=np.stack(numbers, axis=1) if numbers else np.zeros((len(X), 0)),
            codes=np.stack(codes, axis=1),
        )

    def check(self, X: Any) -> None:
        """Refuse anything but a data frame with as many columns as in fit."""
        n_columns = len(self.numbers) + len(self.codes)
        if not _is_table(X) or X.shape[1] != n_columns:
            got = f"{X.shape[1]} columns" if _is_table(X) else f"type {type(X).__name__}"
            raise ValueError(
                f"X must be a data frame with the {n_columns} columns of fit, some of which are "
                f"categorical, got {got}"
            )


def _categories_of(column: Any) -> tuple[Any, ...]:
    """List the categories that occur, sorted; missing values are one of them, and the last."""
    values = column.astype(object)
    missing = bool(values.isna().any())
    found = {_plain(value) for value in values[~values.isna()]}
    try:
        ordered = sorted(found)
    except TypeError:  # of several types
        ordered = sorted(found, key=lambda value: (type(value).__name__, str(value)))
    return (*ordered, None) if missing else tuple(ordered)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _codes(column: Any, categories: tuple[Any, ...]) -> np.ndarray:
    number = {category: code for code, category in enumerate(categories, start=1)}
    values = column.astype(object)
    missing = values.isna().to_numpy()
    given = [None if gone else _plain(value) for value, gone in zip(values, missing)]
    return np.array([number.get(value, 0) for value in given], dtype=np.int64)


def _floats(column: Any, name: Any) -> np.ndarray:
    try:
        return np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the column {name!r} had numbers in fit, and now has values that are none: {error}"
        ) from None
