"""Axes, legends, names, and strokes that do not need colour: shared by the displays."""

from __future__ import annotations

from typing import Any, Self

from sklearn.pipeline import Pipeline

from skuq._composition import predictions
from skuq._predict import ClassifierPredictions
from skuq._utils._messages import name_of, unfrozen
from skuq._utils._optional import import_optional
from skuq._utils._typing import ArrayLike, DataFrame, MatrixLike

__all__ = [
    "COLOURS",
    "Display",
    "classifies",
    "column_name",
    "description",
    "interval_text",
    "is_empty",
    "legend_above",
    "style",
    "uncertainty_unit",
    "user_name",
]

# Okabe and Ito's palette, dark first: distinct for the colour-blind, and of
# different lightness in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STROKES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def interval_text(interval: tuple[float, float] | None) -> str:
    """Write a confidence interval behind a number of a legend."""
    return "" if interval is None else f" [{interval[0]:.3g}, {interval[1]:.3g}]"


class Display:
    """Base of the pictures: a subclass holds the numbers, and `_draw` draws them."""

    name: str | None
    _size = (5.6, 4.9)  # inches, of a figure of its own

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> Self:
        """Draw the picture; several displays of curves or bands can share one `ax`.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        name : str, default=None
            Replaces the display's own name in the legend or title.
        **kwargs
            Options passed to the method of `ax` that draws the data; `from_estimator` says which.

        Returns
        -------
        self : Display
            The display, with the attributes `ax_` and `figure_`.
        """
        if ax is None:
            asking = f"{type(self).__name__}.plot"
            pyplot = import_optional("matplotlib.pyplot", "plot", asking)
            ax = pyplot.subplots(figsize=self._size, layout="constrained")[1]
        self._draw(ax, self.name if name is None else name, kwargs)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def frame(self) -> DataFrame:
        """Return the numbers of the picture as a table.

        Returns
        -------
        pandas.DataFrame
            A row for each point of the picture.

        Raises
        ------
        ImportError
            Without pandas.
        """
        asking = f"{type(self).__name__}.frame"
        table: DataFrame = import_optional("pandas", "pandas", asking).DataFrame(self._columns())
        return table

    def _columns(self) -> dict[str, Any]:
        """Return the columns of `frame`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _columns")

    def _draw(self, ax: Any, name: str | None, options: dict[str, Any]) -> None:
        """Draw on these axes; `options` are the user's and go last."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _draw")


def is_empty(ax: Any) -> bool:
    """Return whether no display drew on these axes yet."""
    return not getattr(ax, "_skuq_drawn", 0)


def legend_above(ax: Any, title: str | None = None) -> None:
    """Put a legend above the axes, where it covers no data however many entries it has."""
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, frameon=False, title=title,
        alignment="left", fontsize="small", title_fontsize="small",
    )  # fmt: skip


def style(ax: Any) -> dict[str, Any]:
    """Choose colour, stroke and marker of the next estimator on these axes."""
    number = getattr(ax, "_skuq_drawn", 0)
    ax._skuq_drawn = number + 1
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": _STROKES[number % len(_STROKES)],
        "marker": _MARKERS[number % len(_MARKERS)],
    }


def classifies(estimator: Any, X: MatrixLike) -> bool:
    """Return whether an estimator predicts classes."""
    return isinstance(predictions(estimator, X)[0], ClassifierPredictions)


def description(estimator: Any) -> str:
    """Describe an estimator so that it differs from others in a legend.

    An example is "TemperatureScaler of TorchClassifier with MCDropout". Steps that only prepare,
    search or freeze are left out, since many models have them.
    """
    estimator = unfrozen(estimator)
    if isinstance(estimator, Pipeline):
        return description(estimator.steps[-1][1])
    for attribute in ("best_estimator_", "regressor_"):  # of searches, transformed targets
        if hasattr(estimator, attribute):
            return description(getattr(estimator, attribute))
    name = name_of(estimator)
    posterior = getattr(estimator, "posterior_", getattr(estimator, "posterior", None))
    if posterior is not None:
        return f"{name} with {name_of(posterior)}"
    inner = getattr(estimator, "estimator", None)
    return name if inner is None else f"{name} of {description(inner)}"


def user_name(estimator: Any, name: str | None, addition: str = "") -> str:
    """Return the name that the user gave, or else a description of the estimator."""
    return description(estimator) + addition if name is None else name


def uncertainty_unit(classifies: bool, y: ArrayLike | None = None) -> str:
    """Name the unit of an uncertainty: entropies of labels, variances of targets."""
    return "nats" if classifies else f"squared units of {column_name(y) or 'y'}"


def column_name(column: Any) -> str | None:
    """Return the name of a Series, or of the only column of a frame."""
    columns = list(getattr(column, "columns", ()))
    name = columns[0] if len(columns) == 1 else getattr(column, "name", None)
    return None if name is None or str(name) == "" else str(name)
