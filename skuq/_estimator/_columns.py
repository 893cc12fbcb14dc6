"""Data frames with categorical columns: floats and codes for a module."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from skuq._data._inputs import Inputs

__all__ = ["Columns", "columns_of_table", "is_mixed_table", "is_table"]

_TEXT_OF_POLARS = ("String", "Categorical", "Enum")


def is_table(X: Any) -> bool:
    """Return whether X is a data frame of pandas or polars."""
    has_columns = hasattr(X, "iloc") or hasattr(X, "get_columns")
    return has_columns and hasattr(X, "columns") and hasattr(X, "dtypes")


def columns_of_table(X: Any) -> list[Any]:
    """List the columns of a data frame."""
    if hasattr(X, "iloc"):
        return [X.iloc[:, k] for k in range(X.shape[1])]
    columns: list[Any] = X.get_columns()
    return columns


def _is_categorical(column: Any) -> bool:
    """Return whether a column has categories, or text."""
    dtype = column.dtype
    if hasattr(dtype, "categories") and not hasattr(dtype, "subtype"):
        return True
    if str(dtype).split("(")[0] in _TEXT_OF_POLARS:
        return True
    if str(dtype) in ("object", "str", "string") or str(dtype).startswith("string"):
        return any(isinstance(value, str) for value in column)
    return False


def is_mixed_table(X: Any) -> bool:
    """Return whether X is a data frame with a categorical column."""
    return is_table(X) and any(map(_is_categorical, columns_of_table(X)))


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
        columns = columns_of_table(X)
        codes = tuple(k for k, column in enumerate(columns) if _is_categorical(column))
        return cls(
            numbers=tuple(k for k in range(len(columns)) if k not in codes),
            codes=codes,
            categories=tuple(_categories_of(columns[k]) for k in codes),
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
            If a column of numbers has text or dates, or one of categories values of another type.
        """
        columns, names = columns_of_table(X), list(X.columns)
        numbers = [_floats(columns[k], names[k]) for k in self.numbers]
        codes = [_codes(columns[k], own, names[k]) for k, own in zip(self.codes, self.categories)]
        return Inputs(
            numbers=np.stack(numbers, axis=1) if numbers else np.zeros((len(X), 0)),
            codes=np.stack(codes, axis=1),
        )

    def check(self, X: Any) -> None:
        """Refuse anything but a data frame with as many columns as in fit."""
        n_columns = len(self.numbers) + len(self.codes)
        if not is_table(X) or X.shape[1] != n_columns:
            got = f"{X.shape[1]} columns" if is_table(X) else f"type {type(X).__name__}"
            raise ValueError(
                f"X must be a data frame with the {n_columns} columns of fit, some of which are "
                f"categorical, got {got}"
            )


def _values(column: Any) -> list[Any]:
    """List the values of a column, None where one is missing."""
    if not hasattr(column, "isna"):
        values: list[Any] = column.to_list()  # of polars
        return values
    values, missing = column.astype(object), column.isna()
    return [None if gone else value for value, gone in zip(values, missing)]


def _categories_of(column: Any) -> tuple[Any, ...]:
    """List the categories that occur, sorted; missing values are one of them, and the last."""
    values = _values(column)
    found = set(values) - {None}
    try:
        ordered = sorted(found)
    except TypeError:  # of several types
        ordered = sorted(found, key=lambda value: (type(value).__name__, str(value)))
    plain = dict.fromkeys(map(_plain, ordered))
    return (*plain, None) if None in values else tuple(plain)


def _plain(value: Any) -> Any:
    """Make a text of anything but numbers, such as an interval or a date."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if value is None or isinstance(value, str | Real) else str(value)


def _codes(column: Any, categories: tuple[Any, ...], name: Any) -> np.ndarray:
    number = {category: code for code, category in enumerate(categories, start=1)}
    given = [_plain(value) for value in _values(column)]
    codes = np.array([number.get(value, 0) for value in given], dtype=np.int64)
    known, new = _kinds(categories), _kinds(given)
    if known and new and not known & new:
        raise ValueError(
            f"the column {name!r} has {new.pop()}, such as {given[0]!r}, but had {known.pop()} in "
            f"fit, such as {categories[0]!r}: give the values the type that they had"
        )
    return codes


def _kinds(values: Any) -> set[str]:
    return {
        "text" if isinstance(value, str) else "numbers" for value in values if value is not None
    }


def _floats(column: Any, name: Any) -> np.ndarray:
    if np.asarray(column[:0]).dtype.kind in "mM":
        raise ValueError(
            f"the column {name!r} has dates or times; expected numbers, or categories. Give a "
            "number, such as days since a date, or text"
        )
    try:
        if hasattr(column, "isna") and column.isna().any():
            column = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the column {name!r} had numbers in fit, and now has values that are none: {error}"
        ) from None
