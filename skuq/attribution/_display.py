"""Pictures of attributions: images with their maps, bars for tables, and means over rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from skuq._utils._optional import import_optional
from skuq._utils._typing import ArrayLike, DataFrame
from skuq.attribution._result import Attribution, mean_by_class

__all__ = ["AttributionDisplay", "plot_global"]

_COLUMN = 2.2  # inches, width of an image
_ADDS, _LOWERS = "#D55E00", "#0072B2"  # told apart by the colour-blind, and in grey
_MOST_BARS = 12


class AttributionDisplay:
    """Rows beside what makes them uncertain.

    Each image has a line: image | map of the values | mask | refined image, with the uncertainty
    before and after in the titles; methods without a mask have the first two. Each row of a table
    has bars: the columns with the largest values, and what the row holds there.

    Parameters
    ----------
    attribution : Attribution
        The attribution.
    rows : sequence of int
        The rows to draw.
    names : sequence of str, default=None
        A title for each row to draw, such as its class.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_rows, n_columns), after `plot`
        The axes of the pictures.
    figure_ : matplotlib Figure, after `plot`
        The figure.
    """

    def __init__(
        self,
        attribution: Attribution,
        rows: Sequence[int],
        names: Sequence[str] | None = None,
    ) -> None:
        self.attribution = attribution
        self.rows = rows
        self.names = names

    @classmethod
    def from_attribution(
        cls,
        attribution: Attribution,
        rows: Sequence[int] | None = None,
        *,
        names: Sequence[str] | None = None,
        axes: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw some rows.

        Parameters
        ----------
        attribution : Attribution
            The result of `attribute_uncertainty`.
        rows : sequence of int, default=None
            Which rows; None takes the three most uncertain.
        names : sequence of str, default=None
            A title for each of them.
        axes : array of matplotlib Axes, default=None
            Where to draw, one line of axes for each row; None makes a new figure.
        **kwargs
            Options passed to ``ax.imshow`` of the map, or to ``ax.barh``.

        Returns
        -------
        AttributionDisplay
            The display, already drawn.
        """
        if rows is None:
            rows = np.argsort(-attribution.uncertainty, kind="stable")[:3].tolist()
        chosen = [int(row) for row in np.atleast_1d(np.asarray(rows))]
        n = len(attribution)
        if not chosen or not all(-n <= row < n for row in chosen):
            raise ValueError(f"rows must be some of the {n} rows of the attribution, got {rows}")
        if names is not None and len(names) != len(chosen):
            raise ValueError(f"names must hold {len(chosen)} titles, got {len(names)}")
        return cls(attribution, chosen, names).plot(axes=axes, **kwargs)

    def plot(self, axes: Any = None, **kwargs: Any) -> Self:
        """Draw the rows.

        Parameters
        ----------
        axes : array of matplotlib Axes, default=None
            Where to draw, one line of axes for each row; None makes a new figure.
        **kwargs
            Options passed to ``ax.imshow`` of the map, or to ``ax.barh``.

        Returns
        -------
        self : AttributionDisplay
            The display, with the attributes `axes_` and `figure_`.
        """
        images = self.attribution.feature_names is None
        n_columns = (2 if self.attribution.mask is None else 4) if images else 1
        size = (_COLUMN * n_columns + 0.6, (_COLUMN + 0.35) * len(self.rows))
        if not images:
            size = (5.6, (0.24 * min(_MOST_BARS, self.attribution.values.shape[1]) + 1) * len(self))
        if axes is None:
            pyplot = import_optional("matplotlib.pyplot", "plot", "AttributionDisplay.plot")
            _, axes = pyplot.subplots(
                len(self.rows), n_columns, figsize=size, layout="constrained", squeeze=False
            )
        self.axes_ = np.asarray(axes).reshape(-1, n_columns)
        if len(self.axes_) != len(self.rows):
            raise ValueError(
                f"axes must be {len(self.rows)} lines of {n_columns}, got {np.shape(axes)}"
            )
        self.figure_ = self.axes_[0, 0].figure
        for place, (row, line) in enumerate(zip(self.rows, self.axes_)):
            name = self.names[place] if self.names is not None else f"row {row}"
            (self._image if images else self._bars)(row, line, name, kwargs)
        return self

    def frame(self) -> DataFrame:
        """Return the values of the rows that are drawn, if they are rows of a table.

        Returns
        -------
        pandas.DataFrame of shape (n_rows, n_columns)
            One line for each row, as in `Attribution.frame`.

        Raises
        ------
        ValueError
            If the rows are images, whose values are ``attribution.values``.
        ImportError
            Without pandas.
        """
        table: DataFrame = self.attribution.frame().iloc[list(self.rows)]
        return table

    def __len__(self) -> int:
        return len(self.rows)

    def _image(self, row: int, line: Any, name: str, options: dict[str, Any]) -> None:
        found = self.attribution
        before = found.uncertainty[row]
        image = _shown(found.X[row], found.image_shape)
        limits = float(image.min()), float(image.max())
        _draw_image(line[0], image, limits)
        line[0].set_title(f"{name}\nU = {before:.4g}", fontsize="medium")
        draw_map(line[1], found.values[row], **options)
        line[1].set_title("what makes it unsure", fontsize="medium")
        for ax in line:
            ax.set(xticks=[], yticks=[])
        if found.mask is None or found.refined_uncertainty is None:
            return
        line[2].imshow(found.mask[row], cmap="gray_r", vmin=0, vmax=1)
        line[2].set_title(f"mask, {found.mask[row].mean():.0%} of the area", fontsize="medium")
        _draw_image(line[3], _shown(found.refined[row], found.image_shape), limits)
        after = found.refined_uncertainty[row]
        line[3].set_title(f"refined\nU = {after:.4g}", fontsize="medium")

    def _bars(self, row: int, line: Any, name: str, options: dict[str, Any]) -> None:
        found, ax = self.attribution, line[0]
        values = found.values[row]
        cells = found.X.iloc[row] if hasattr(found.X, "iloc") else found.X[row]
        labels = [f"{n} = {_text(v)}" for n, v in zip(found.feature_names or [], cells)]
        after = ""
        if found.mask is not None and found.refined_uncertainty is not None:
            labels = [f"✱ {la}" if m else la for la, m in zip(labels, found.mask[row])]
            if found.mask[row].any():
                after = f", {found.refined_uncertainty[row]:.4g} with ✱ replaced"
        draw_bars(ax, values, labels, **options)
        ax.set_title(f"{name}: U = {found.uncertainty[row]:.4g}{after}", fontsize="medium")
        ax.set_xlabel(_meaning(found))


def plot_global(
    attribution: Attribution, y: ArrayLike | None = None, *, axes: Any = None
) -> np.ndarray:
    """Draw what makes rows uncertain on average: mean maps of images, mean bars of tables.

    Parameters
    ----------
    attribution : Attribution
        The attribution of many rows.
    y : array-like of shape (n,), default=None
        Classes, true or predicted: one picture for the mean of each class. None draws the mean of
        all rows.
    axes : array of matplotlib Axes, default=None
        Where to draw, one for each picture; None makes a new figure.

    Returns
    -------
    ndarray of matplotlib Axes of shape (n_pictures,)
        The axes. A bar or pixel shows the mean of the values; for tables, a thin line in each bar's
        row shows the middle half of the rows.

    Raises
    ------
    ValueError
        If y or axes do not fit.
    """
    groups = np.zeros(len(attribution), int) if y is None else np.asarray(y)
    means = mean_by_class(attribution, groups)
    if axes is None:
        pyplot = import_optional("matplotlib.pyplot", "plot", "plot_global")
        wide = 2.6 if attribution.feature_names is None else 4.6
        tall = 2.9 if attribution.feature_names is None else 3.6
        n_columns = min(len(means), 5)
        n_lines = -(-len(means) // n_columns)
        figure, made = pyplot.subplots(
            n_lines, n_columns, figsize=(wide * n_columns, tall * n_lines), layout="constrained",
            squeeze=False,
        )  # fmt: skip
        for spare in made.ravel()[len(means) :]:
            figure.delaxes(spare)
        axes = made.ravel()[: len(means)]
    each = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    if len(each) != len(means):
        raise ValueError(f"axes must be {len(means)}, one for each picture, got {len(each)}")
    limit = max(float(np.abs(mean).max()) for mean in means.values())
    for ax, (label, mean) in zip(each, means.items()):
        if attribution.feature_names is None:
            draw_map(ax, mean, vmin=-limit, vmax=limit)
            ax.set(xticks=[], yticks=[])
        else:
            some = attribution.values[groups == label]
            draw_bars(
                ax, mean, attribution.feature_names, spread=np.quantile(some, (0.25, 0.75), 0)
            )
            ax.set_xlabel(f"mean, {_meaning(attribution)}")
        n_rows = int((groups == label).sum())
        ax.set_title(f"{n_rows} rows" if y is None else f"{label} ({n_rows} rows)")
    return each


def draw_map(ax: Any, values: np.ndarray, **options: Any) -> None:
    """Draw a map: orange adds to the uncertainty, blue lowers it, and white does neither.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    values : ndarray of shape (height, width)
        The values.
    **options
        Options passed to ``ax.imshow``.
    """
    limit = float(np.abs(values).max()) or 1.0
    ax.imshow(values, **{"cmap": "PuOr_r", "vmin": -limit, "vmax": limit, **options})


def draw_bars(
    ax: Any,
    values: np.ndarray,
    labels: Sequence[str],
    spread: np.ndarray | None = None,
    **options: Any,
) -> None:
    """Draw the largest values as bars, the largest on top.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    values : ndarray of shape (n_columns,)
        The values.
    labels : sequence of str
        Names of the bars.
    spread : ndarray of shape (2, n_columns), default=None
        The ends of a line beside each bar.
    **options
        Options passed to ``ax.barh``.
    """
    order = np.argsort(-np.abs(values), kind="stable")[:_MOST_BARS][::-1]
    colours = [_ADDS if values[k] > 0 else _LOWERS for k in order]
    ax.barh(np.arange(len(order)), values[order], **{"color": colours, "height": 0.7, **options})
    if spread is not None:
        ax.hlines(np.arange(len(order)), *spread[:, order], color="0.25", linewidth=1.2)
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set_yticks(np.arange(len(order)), [labels[k] for k in order])


def _draw_image(ax: Any, image: np.ndarray, limits: tuple[float, float]) -> None:
    low, high = limits
    if image.ndim == 3:
        image = ((image - low) / (high - low or 1.0)).clip(0, 1)
        ax.imshow(image)
    else:
        ax.imshow(image, cmap="gray", vmin=low, vmax=high)
    ax.set(xticks=[], yticks=[])


def _shown(row: Any, shape: tuple[int, int, int] | None) -> np.ndarray:
    """Return an image in colour, of shape (height, width, 3), or in grey, (height, width)."""
    image = np.asarray(row, dtype=float).reshape(shape or ())
    shown: np.ndarray = np.moveaxis(image, 0, -1) if len(image) == 3 else image.mean(0)
    return shown


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)


def _meaning(found: Attribution) -> str:
    if found.method in ("gradient", "smoothgrad"):
        return f"|change of {found.kind} uncertainty| per std"
    return f"part of the {found.kind} uncertainty"
