"""Pictures of the calibration of predicted distributions of real targets."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy import stats

from skuq._composition import predictions
from skuq._distributions._mixture import mixture_cdf
from skuq._predict import RegressorPredictions
from skuq._reductions import of_targets
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.metrics._axes import Display, is_empty, legend_above, style, user_name
from skuq.metrics._checks import check_real

__all__ = ["PITDisplay", "RegressionCalibrationDisplay"]


def _pit_of(estimator: Any, X: Any, y: Any) -> np.ndarray:
    """Return F(y) of every sample under the predictive mixture, target after target."""
    asked, inner = predictions(estimator, X)
    if not isinstance(asked, RegressorPredictions):
        raise TypeError(f"this picture needs a regressor, got {type(estimator).__name__}")
    target = check_real("y", y)
    values: np.ndarray = asked._reduce(
        inner, of_targets(mixture_cdf), target.reshape(len(target), -1)
    ).T.ravel()
    return values


def _check_pit(pit: Any) -> np.ndarray:
    values = check_real("pit", pit)
    if values.ndim != 1 or not len(values) or values.min() < 0 or values.max() > 1:
        raise ValueError(
            "pit must be numbers in [0, 1] of shape (n_samples,), as pit_values gives them"
        )
    return values


class PITDisplay(Display):
    """Histogram of the probability integral transform: flat for calibrated predictions.

    A U says that predictions are too narrow, a hump that they are too wide, a slope that they are
    shifted. 95 % of the bars of calibrated predictions end in the grey band.

    Parameters
    ----------
    pit : ndarray of shape (n_samples,)
        Values of the probability integral transform, in [0, 1].
    n_bins : int, default=10
        Number of bars.
    name : str, default=None
        Name of the model in the legend or title.

    Attributes
    ----------
    ax_, figure_ : matplotlib artists, after `plot`
        Artists of the picture, to change its look.
    """

    def __init__(self, pit: np.ndarray, n_bins: int = 10, name: str | None = None) -> None:
        self.pit = pit
        self.n_bins = n_bins
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: ArrayLike,
        *,
        n_bins: int = 10,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for a fitted regressor, under its predictive mixture.

        Parameters
        ----------
        estimator : fitted regressor of skuq, or with ``predict(X, return_std=True)``
            The estimator whose predictions are drawn.
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            True labels or targets.
        n_bins : int, default=10
            Number of bars.
        name : str, default=None
            Name of the model in the legend or title.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.stairs``.

        Returns
        -------
        PITDisplay
            The display, already drawn.
        """
        pit = _pit_of(estimator, X, y)
        name = user_name(estimator, name)
        return cls.from_predictions(pit, n_bins=n_bins, name=name, ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        pit: ArrayLike,
        *,
        n_bins: int = 10,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for values of `skuq.metrics.pit_values`.

        Parameters
        ----------
        pit : array-like of shape (n_samples,), in [0, 1]
            Values of the probability integral transform, in [0, 1].
        n_bins : int, default=10
            Number of bars.
        name : str, default=None
            Name of the model in the legend or title.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.stairs``.

        Returns
        -------
        PITDisplay
            The display, already drawn.
        """
        return cls(_check_pit(pit), n_bins, name).plot(ax=ax, **kwargs)

    def _columns(self) -> dict[str, Any]:
        return {"pit": self.pit}

    def _draw(self, ax: Any, name: str | None, options: dict[str, Any]) -> None:
        n, k = len(self.pit), self.n_bins
        if is_empty(ax):
            low, high = stats.binom.ppf([0.025, 0.975], n, 1 / k) * k / n
            ax.axhspan(low, high, color="0.88", zorder=0, label="95 % of bars, if calibrated")
            ax.axhline(1, linestyle=":", color="0.4", label="perfectly calibrated")
        look = style(ax)
        density, edges = np.histogram(self.pit, bins=k, range=(0, 1), density=True)
        line = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 1.8}
        ax.stairs(density, edges, **{**line, "label": name or "observed", **options})
        ax.set(xlabel="probability integral transform F(y)", ylabel="density", xlim=(0, 1))
        ax.set_ylim(0, max(ax.get_ylim()[1], 1.05 * density.max()))
        legend_above(ax)


class RegressionCalibrationDisplay(Display):
    """Observed against expected coverage of central intervals.

    Below the diagonal intervals are too narrow, above it too wide.

    Parameters
    ----------
    expected, observed : ndarray of shape (n_levels,)
        Levels of central intervals, and shares of targets inside them.
    name : str, default=None
        Name of the model in the legend or title.

    Attributes
    ----------
    miscalibration_ : float
        Area between curve and diagonal.
    ax_, figure_, line_ : matplotlib artists, after `plot`
        Artists of the picture, to change its look.
    """

    def __init__(self, expected: np.ndarray, observed: np.ndarray, name: str | None = None) -> None:
        self.expected = expected
        self.observed = observed
        self.name = name
        self.miscalibration_ = float(np.trapezoid(np.abs(observed - expected), expected))

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: ArrayLike,
        *,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for a fitted regressor, under its predictive mixture.

        Parameters
        ----------
        estimator : fitted regressor of skuq, or with ``predict(X, return_std=True)``
            The estimator whose predictions are drawn.
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            True labels or targets.
        name : str, default=None
            Name of the model in the legend or title.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.plot``.

        Returns
        -------
        RegressionCalibrationDisplay
            The display, already drawn.
        """
        pit = _pit_of(estimator, X, y)
        return cls.from_predictions(pit, name=user_name(estimator, name), ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls, pit: ArrayLike, *, name: str | None = None, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Draw for values of `skuq.metrics.pit_values`.

        Parameters
        ----------
        pit : array-like of shape (n_samples,), in [0, 1]
            The central interval of level c holds y where |2 F(y) − 1| is at most c.
        name : str, default=None
            Name of the model in the legend or title.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.plot``.

        Returns
        -------
        RegressionCalibrationDisplay
            The display, already drawn.
        """
        needed = np.sort(np.abs(2 * _check_pit(pit) - 1))
        expected = np.linspace(0, 1, 101)
        observed = np.searchsorted(needed, expected, side="right") / len(needed)
        return cls(expected, observed, name).plot(ax=ax, **kwargs)

    def _columns(self) -> dict[str, Any]:
        return {"expected": self.expected, "observed": self.observed}

    def _draw(self, ax: Any, name: str | None, options: dict[str, Any]) -> None:
        area = f"area {self.miscalibration_:.3f}"
        if is_empty(ax):
            ax.plot([0, 1], [0, 1], ":", color="0.5", label="perfectly calibrated")
        look = {**style(ax), "markevery": 10, "markersize": 5}
        look |= {"label": f"{name} ({area})" if name else area, **options}
        (self.line_,) = ax.plot(self.expected, self.observed, **look)
        ax.fill_between(
            self.expected, self.expected, self.observed, color=self.line_.get_color(), alpha=0.12,
            linewidth=0,
        )  # fmt: skip
        ax.set(xlabel="expected coverage of central intervals", ylabel="observed coverage")
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        legend_above(ax)
