"""What the displays share: axes, and colours and strokes that are told apart without colour."""

from __future__ import annotations

from typing import Any

from skuq._predict import ClassifierPredictions
from skuq._utils._messages import name_of
from skuq._utils._optional import import_optional
from skuq.pipeline import predictions

__all__ = ["COLOURS", "classifies", "new_axes", "style", "user_name"]

# Okabe and Ito's palette, dark first: told apart by the colour-blind, and in grey by lightness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STROKES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def new_axes(ax: Any, name: str, size: tuple[float, float] = (5.6, 4.6)) -> Any:
    """The axes that were given, or those of a new figure."""
    if ax is not None:
        return ax
    pyplot = import_optional("matplotlib.pyplot", "plot", f"{name}.plot")
    return pyplot.subplots(figsize=size, layout="constrained")[1]


def style(ax: Any) -> dict[str, Any]:
    """Colour, stroke and marker of the next estimator on these axes."""
    number = getattr(ax, "_skuq_drawn", 0)
    ax._skuq_drawn = number + 1
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": _STROKES[number % len(_STROKES)],
        "marker": _MARKERS[number % len(_MARKERS)],
    }


def classifies(estimator: Any, X: Any) -> bool:
    return isinstance(predictions(estimator, X)[0], ClassifierPredictions)


def user_name(estimator: Any, name: str | None) -> str:
    return name_of(estimator) if name is None else name
