"""The result of an attribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skuq._utils._optional import import_optional
from skuq._utils._typing import ArrayLike, DataFrame

__all__ = ["Attribution", "mean_by_class"]


@dataclass(frozen=True, eq=False, repr=False)
class Attribution:
    """What in each row makes an estimator uncertain; the result of `attribute_uncertainty`.

    Attributes
    ----------
    values : ndarray of float64 of shape (n, height, width) or (n, n_columns)
        How much each pixel or column adds to the uncertainty. The unit is that of the uncertainty,
        but for "gradient" and "smoothgrad", which give derivatives. The pixels of a segment share
        its value evenly, so the sum over a segment is what the segment adds. With "optimized" this
        is what replacing it besides the mask lowers; for segments in the mask, the mean of that and
        of what it lowers by itself, and at least its price, so that the mask has the top values.
    mask : ndarray of bool of the shape of values, or None
        The pixels or columns that were replaced, of method "optimized"; None of other methods.
    uncertainty : ndarray of shape (n,)
        The uncertainty of the rows.
    refined : ndarray or DataFrame of the shape of X, or None
        The rows after the mask is replaced; None without a mask.
    refined_uncertainty : ndarray of shape (n,), or None
        The uncertainty of the refined rows.
    segments : ndarray of int64 of shape (n, height, width) or (n_columns,), or None
        The segment of each pixel or column; None of methods without segments.
    X : ndarray or DataFrame
        The rows, as they were given.
    image_shape : tuple of int, or None
        (n_channels, height, width) of images; None of tables.
    feature_names : list of str, or None
        Names of the columns of a table; None of images.
    kind, method : str
        The part of the uncertainty, and the name of the method.
    """

    values: np.ndarray
    mask: np.ndarray | None
    uncertainty: np.ndarray
    refined: Any
    refined_uncertainty: np.ndarray | None
    segments: np.ndarray | None
    X: Any
    image_shape: tuple[int, int, int] | None
    feature_names: list[str] | None
    kind: str
    method: str

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        rows = "images" if self.feature_names is None else "rows"
        return f"Attribution({self.method}, {self.kind} uncertainty of {len(self)} {rows})"

    def frame(self) -> DataFrame:
        """Return the values of a table as a pandas DataFrame with the columns of X.

        Returns
        -------
        DataFrame of shape (n, n_columns)
            One line for each row, with the index of X if it has one.

        Raises
        ------
        ValueError
            If the rows are images.
        """
        if self.feature_names is None:
            raise ValueError("frame is for tables; the attribution of images is `values`")
        pandas = import_optional("pandas", "pandas", "Attribution.frame")
        return pandas.DataFrame(
            self.values, columns=self.feature_names, index=getattr(self.X, "index", None)
        )


def mean_by_class(attribution: Attribution, y: ArrayLike) -> dict[Any, np.ndarray]:
    """Average an attribution over the rows of each class.

    Parameters
    ----------
    attribution : Attribution
        The attribution of some rows.
    y : array-like of shape (n,)
        Their classes, true or predicted.

    Returns
    -------
    dict of ndarray of shape (height, width) or (n_columns,)
        The mean values of each class, by its label, in sorted order.

    Raises
    ------
    ValueError
        If y does not have one label for each row.

    Examples
    --------
    >>> import torch
    >>> from skuq.attribution import attribute_uncertainty, mean_by_class
    >>> found = attribute_uncertainty(
    ...     lambda x: x.sum(1), torch.eye(4), method="occlusion", background=torch.zeros(2, 4)
    ... )
    >>> mean_by_class(found, ["a", "a", "b", "b"])["b"].tolist()
    [0.0, 0.0, 0.5, 0.5]
    """
    labels = np.asarray(y)
    if labels.shape != (len(attribution),):
        raise ValueError(
            f"y must have one label for each of the {len(attribution)} rows, got shape "
            f"{labels.shape}"
        )
    classes = np.unique(labels)
    return {c: attribution.values[labels == c].mean(0) for c in classes.tolist()}
