"""The picture of the two parts of an uncertainty."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.metrics._axes import (
    COLOURS,
    Display,
    classifies,
    legend_above,
    uncertainty_unit,
    user_name,
)
from skuq.metrics._checks import check_real
from skuq.pipeline import predict_uncertainty

__all__ = ["DecompositionDisplay"]


class DecompositionDisplay(Display):
    """Aleatoric against epistemic uncertainty of each sample.

    Parameters
    ----------
    aleatoric, epistemic : ndarray of shape (n_samples,)
        The two parts of the uncertainty of each sample.
    wrong : ndarray of shape (n_samples,), of bool, default=None
        Which samples to mark as predicted wrong.
    unit : str, default=""
        Unit of the uncertainty, for the axes.
    name : str, default=None
        For the title.

    Attributes
    ----------
    ax_, figure_ : matplotlib artists, after `plot`
        Artists of the picture, to change its look.
    """

    def __init__(
        self,
        aleatoric: np.ndarray,
        epistemic: np.ndarray,
        wrong: np.ndarray | None = None,
        unit: str = "",
        name: str | None = None,
    ) -> None:
        self.aleatoric = aleatoric
        self.epistemic = epistemic
        self.wrong = wrong
        self.unit = unit
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator that `skuq.predict_uncertainty` can ask
            The estimator whose predictions are drawn.
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,), default=None
            For a classifier: labels, to mark wrong predictions. For a regressor: targets; the unit
            takes their name.
        name : str, default=None
            Name of the model in the legend or title.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.scatter``.

        Returns
        -------
        DecompositionDisplay
            The display, already drawn.
        """
        parts = predict_uncertainty(estimator, X, kind="all")
        labelled = classifies(estimator, X)
        wrong = np.asarray(y) != estimator.predict(X) if labelled and y is not None else None
        return cls.from_predictions(
            parts.aleatoric,
            parts.epistemic,
            wrong=wrong,
            unit=uncertainty_unit(labelled, y),
            name=user_name(estimator, name),
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        aleatoric: ArrayLike,
        epistemic: ArrayLike,
        *,
        wrong: ArrayLike | None = None,
        unit: str = "",
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for the two parts.

        Parameters
        ----------
        aleatoric, epistemic : array-like of shape (n_samples,)
            The two parts of the uncertainty of each sample.
        wrong : array-like of shape (n_samples,), of bool, default=None
            Which samples to mark as predicted wrong.
        unit : str, default=""
            Unit of the uncertainty, for the axes.
        name : str, default=None
            Name of the model in the legend or title.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.scatter``.

        Returns
        -------
        DecompositionDisplay
            The display, already drawn.
        """
        one, two = check_real("aleatoric", aleatoric), check_real("epistemic", epistemic)
        if one.shape != two.shape or one.ndim != 1:
            raise ValueError(
                f"aleatoric and epistemic must have one shape, (n_samples,), got {one.shape} and "
                f"{two.shape}"
            )
        marked = None if wrong is None else np.asarray(wrong, dtype=bool)
        return cls(one, two, marked, unit, name).plot(ax=ax, **kwargs)

    def _columns(self) -> dict[str, Any]:
        found = {"aleatoric": self.aleatoric, "epistemic": self.epistemic}
        return found if self.wrong is None else {**found, "wrong": self.wrong}

    def _draw(self, ax: Any, name: str | None, options: dict[str, Any]) -> None:
        right = np.ones(len(self.aleatoric), bool) if self.wrong is None else ~self.wrong
        look = {"s": 14, "alpha": 0.5, "linewidths": 0, "color": COLOURS[0], **options}
        label = f"samples ({right.sum()})" if self.wrong is None else f"right ({right.sum()})"
        ax.scatter(self.aleatoric[right], self.epistemic[right], label=label, **look)
        if self.wrong is not None:
            marks = {**look, "s": 30, "alpha": 0.9, "color": COLOURS[1], "marker": "x"}
            marks |= {"linewidths": 1.2, "label": f"wrong ({self.wrong.sum()})"}
            ax.scatter(self.aleatoric[~right], self.epistemic[~right], **marks)
        ax.set_xlim(left=0)
        ax.set_ylim(bottom=0)
        (_, right_end), (_, top) = ax.get_xlim(), ax.get_ylim()
        levels = np.linspace(0, right_end + top, 9)[1:-1]
        for level in levels:
            dotted: dict[str, Any] = {"color": "0.6", "linewidth": 0.8, "zorder": 0}
            dotted["label"] = "same total" if level == levels[0] else None
            ax.plot([0, level], [level, 0], ":", **dotted)
        ax.set(xlim=(0, right_end), ylim=(0, top))
        unit = f" ({self.unit})" if self.unit else ""
        ax.set(xlabel=f"aleatoric uncertainty{unit}", ylabel=f"epistemic uncertainty{unit}")
        legend_above(ax, title=name)
