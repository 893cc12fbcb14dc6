"""Pictures, after scikit-learn's convention for displays. matplotlib is imported when drawing."""

from __future__ import annotations

from typing import Any

import numpy as np

from skuq._bins import bin_statistics
from skuq._optional import import_optional
from skuq.metrics._calibration import (
    confidence_and_hit,
    expected_calibration_error,
)
from skuq.metrics._checks import check_probabilities

__all__ = ["ReliabilityDisplay"]


class ReliabilityDisplay:
    """Reliability diagram: accuracy against the confidence in the predicted class, per bin.

    Make it with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    confidence : ndarray of shape (n_filled_bins,)
        Mean confidence of each bin that is not empty.
    accuracy : ndarray of shape (n_filled_bins,)
    share : ndarray of shape (n_filled_bins,)
        Share of the samples, which the area of a marker shows.
    ece : float
    name : str, default=None
        For the legend.

    Attributes
    ----------
    ax_, figure_, line_ : matplotlib artists, after `plot`
    """

    def __init__(
        self,
        confidence: np.ndarray,
        accuracy: np.ndarray,
        share: np.ndarray,
        ece: float,
        name: str | None = None,
    ) -> None:
        self.confidence = confidence
        self.accuracy = accuracy
        self.share = share
        self.ece = ece
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_bins: int = 15,
        strategy: str = "uniform",
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> ReliabilityDisplay:
        """Draw for a fitted classifier.

        Parameters
        ----------
        estimator : fitted classifier with `predict_proba` and `classes_`
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,)
        n_bins, strategy, sample_weight : as in `expected_calibration_error`
        name : str, default=None
            For the legend; None is the name of the class of the estimator.
        ax : matplotlib Axes, default=None
        **kwargs : passed to ``ax.plot``

        Returns
        -------
        ReliabilityDisplay
        """
        return cls.from_predictions(
            y,
            estimator.predict_proba(X),
            labels=estimator.classes_,
            n_bins=n_bins,
            strategy=strategy,
            sample_weight=sample_weight,
            name=type(estimator).__name__ if name is None else name,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: Any,
        *,
        labels: Any = None,
        n_bins: int = 15,
        strategy: str = "uniform",
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> ReliabilityDisplay:
        """Draw for predicted probabilities.

        Parameters
        ----------
        y_true, y_proba, labels, n_bins, strategy, sample_weight : as in \
                `expected_calibration_error`
        name : str, default=None
            For the legend.
        ax : matplotlib Axes, default=None
        **kwargs : passed to ``ax.plot``

        Returns
        -------
        ReliabilityDisplay
        """
        options: dict[str, Any] = {"labels": labels, "sample_weight": sample_weight}
        ece = expected_calibration_error(
            y_true, y_proba, n_bins=n_bins, strategy=strategy, **options
        )
        y, proba, weight = check_probabilities(y_true, y_proba, **options)
        ((confidence, hit),) = confidence_and_hit(y, proba, "top-label")
        bins = bin_statistics(confidence, hit, weight, n_bins, strategy)
        display = cls(bins.confidence, bins.accuracy, bins.share, ece, name)
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> ReliabilityDisplay:
        """Draw the diagram; several can share one `ax`.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            A new figure if None.
        name : str, default=None
            Overrides the name in the legend.
        **kwargs : passed to ``ax.plot``

        Returns
        -------
        self : ReliabilityDisplay
        """
        pyplot = import_optional("matplotlib.pyplot", "plot", "ReliabilityDisplay.plot")
        if ax is None:
            _, ax = pyplot.subplots()
        name = self.name if name is None else name
        label = f"{name} (ECE {self.ece:.3f})" if name else f"ECE {self.ece:.3f}"
        if not any(line.get_label() == "perfectly calibrated" for line in ax.lines):
            ax.plot([0, 1], [0, 1], ":", color="0.5", label="perfectly calibrated")
        (self.line_,) = ax.plot(self.confidence, self.accuracy, **{"label": label, **kwargs})
        ax.scatter(
            self.confidence,
            self.accuracy,
            s=12 + 300 * self.share,
            color=self.line_.get_color(),
            alpha=0.5,
            linewidths=0,
            clip_on=False,
            zorder=self.line_.get_zorder() + 1,
        )
        ax.set(xlabel="confidence in the predicted class", ylabel="accuracy")
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        ax.legend(loc="lower right")
        self.ax_, self.figure_ = ax, ax.figure
        return self
