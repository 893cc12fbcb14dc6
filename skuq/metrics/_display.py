"""The reliability diagram. matplotlib is imported when drawing."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from skuq._bins import Bins, bin_statistics
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.metrics._axes import Display, interval_text, is_empty, legend_above, style, user_name
from skuq.metrics._bootstrap import bootstrap
from skuq.metrics._calibration import confidence_and_hit, expected_calibration_error
from skuq.metrics._checks import check_probabilities

__all__ = ["ReliabilityDisplay"]

_STRIP = 0.14  # height of the histogram, in units of the accuracy axis


class ReliabilityDisplay(Display):
    """Reliability diagram: how often predictions are right, against their confidence, per bin.

    Make it with `from_estimator` or `from_predictions`. Several estimators can share one axes: the
    first one's confidences are drawn as a histogram below.

    Parameters
    ----------
    confidence : ndarray of shape (n_filled_bins,)
        Mean confidence of each bin that is not empty.
    accuracy : ndarray of shape (n_filled_bins,)
        Share of samples in which the event came true.
    share : ndarray of shape (n_filled_bins,)
        Share of the samples, which the area of a marker shows.
    error : ndarray of shape (2, n_filled_bins)
        Distances from `accuracy` to the ends of its 95 % Wilson interval.
    edges : ndarray of shape (n_filled_bins, 2)
        Ends of the bins.
    ece : float
        Expected calibration error, for the legend.
    kind : {"top-label", "binary"}, default="top-label"
        Which confidence to draw, as in `expected_calibration_error`.
    name : str, default=None
        For the legend.
    interval : pair of float, default=None
        Ends of the 95 % interval of the ECE, for the legend.

    Attributes
    ----------
    ax_, figure_, line_ : matplotlib artists, after `plot`
        Artists of the picture, to change its look.
    """

    _size = (5.0, 5.4)

    def __init__(
        self,
        confidence: np.ndarray,
        accuracy: np.ndarray,
        share: np.ndarray,
        error: np.ndarray,
        edges: np.ndarray,
        ece: float,
        kind: str = "top-label",
        name: str | None = None,
        interval: tuple[float, float] | None = None,
    ) -> None:
        self.interval = interval
        self.confidence = confidence
        self.accuracy = accuracy
        self.share = share
        self.error = error
        self.edges = edges
        self.ece = ece
        self.kind = kind
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: ArrayLike,
        *,
        n_bins: int = 15,
        strategy: str = "uniform",
        kind: str = "top-label",
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for a fitted classifier.

        Parameters
        ----------
        estimator : fitted classifier with `predict_proba` and `classes_`
            The estimator whose predictions are drawn.
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,)
            True labels or targets.
        n_bins, strategy, sample_weight : as in `expected_calibration_error`
            Number of bins, the rule of their edges, and weights of the samples.
        kind : {"top-label", "binary"}, default="top-label"
            "binary" is the probability of the second of two classes.
        name : str, default=None
            For the legend; None is the name of the class of the estimator.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.plot``, or ``n_resamples`` of `from_predictions`.

        Returns
        -------
        ReliabilityDisplay
            The display, already drawn.
        """
        return cls.from_predictions(
            y,
            estimator.predict_proba(X),
            labels=estimator.classes_,
            n_bins=n_bins,
            strategy=strategy,
            kind=kind,
            sample_weight=sample_weight,
            name=user_name(estimator, name),
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_proba: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        n_bins: int = 15,
        strategy: str = "uniform",
        kind: str = "top-label",
        sample_weight: ArrayLike | None = None,
        n_resamples: int = 0,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for predicted probabilities.

        Parameters
        ----------
        y_true, y_proba, labels, n_bins, strategy, sample_weight
            As in `expected_calibration_error`.
        kind : {"top-label", "binary"}, default="top-label"
            Which confidence to draw, as in `expected_calibration_error`.
        n_resamples : int, default=0
            Number of resamples of a 95 % interval of the ECE in the legend; 0 shows none.
        name : str, default=None
            For the legend.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.plot``.

        Returns
        -------
        ReliabilityDisplay
            The display, already drawn.
        """
        if kind == "classwise":
            raise ValueError("a diagram shows one kind of event: kind='top-label' or 'binary'")
        options: dict[str, Any] = {"labels": labels, "sample_weight": sample_weight}
        ece = expected_calibration_error(
            y_true, y_proba, n_bins=n_bins, strategy=strategy, kind=kind, **options
        )
        interval = None
        if n_resamples:
            more = {**options, "n_bins": n_bins, "strategy": strategy, "kind": kind}
            found = bootstrap(
                expected_calibration_error, y_true, y_proba, interval="basic",
                n_resamples=n_resamples, **more,
            )  # fmt: skip
            interval = (max(found.low, 0.0), max(found.high, 0.0))
        y, proba, weight = check_probabilities(y_true, y_proba, **options)
        ((confidence, hit),) = confidence_and_hit(y, proba, kind)
        bins = bin_statistics(confidence, hit, weight, n_bins, strategy)
        return cls._of_bins(bins, ece, kind, name, interval).plot(ax=ax, **kwargs)

    @classmethod
    def _of_bins(
        cls,
        bins: Bins,
        ece: float,
        kind: str,
        name: str | None,
        interval: tuple[float, float] | None = None,
    ) -> Self:
        error, shown = _wilson(bins.accuracy, bins.n_effective), (kind, name, interval)
        return cls(bins.confidence, bins.accuracy, bins.share, error, bins.edges, ece, *shown)

    def _columns(self) -> dict[str, Any]:
        return {
            "from": self.edges[:, 0],
            "to": self.edges[:, 1],
            "confidence": self.confidence,
            "accuracy": self.accuracy,
            "lower": self.accuracy - self.error[0],
            "upper": self.accuracy + self.error[1],
            "share": self.share,
        }

    def _draw(self, ax: Any, name: str | None, options: dict[str, Any]) -> None:
        number = f"ECE {self.ece:.3f}{interval_text(self.interval)}"
        label = f"{name} ({number})" if name else number
        first = is_empty(ax)
        if first:
            ax.plot([0, 1], [0, 1], ":", color="0.5", label="perfectly calibrated")
            ax.axhline(0, color="0.7", linewidth=0.8)
        look = {**style(ax), "label": label, "markersize": 0, **options}
        marker = look.pop("marker")
        (self.line_,) = ax.plot(self.confidence, self.accuracy, **look)
        faint = {"color": self.line_.get_color(), "alpha": 0.6}
        ax.errorbar(
            self.confidence, self.accuracy, self.error, fmt="none", capsize=2, elinewidth=1, **faint
        )
        ax.scatter(
            self.confidence, self.accuracy, s=14 + 260 * self.share, marker=marker, linewidths=0,
            zorder=self.line_.get_zorder() + 1, **faint,
        )  # fmt: skip
        if first:
            ax.vlines(
                self.confidence, self.accuracy, self.confidence, linestyles=":", linewidth=1,
                **faint,
            )  # fmt: skip
            self._draw_histogram(ax)
        event = "predicted class" if self.kind == "top-label" else "second class"
        ax.set(xlabel=f"confidence in the {event}", ylabel="share that came true")
        ax.set(xlim=(-0.02, 1.02), ylim=(-_STRIP, 1.06), aspect="equal")
        ax.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        legend_above(ax)

    def _draw_histogram(self, ax: Any) -> None:
        """Draw the shares of samples in the bins, in a strip below the diagram."""
        most = self.share.max()
        heights, widths = _STRIP * 0.9 * self.share / most, self.edges[:, 1] - self.edges[:, 0]
        ax.bar(
            self.edges[:, 0], heights, widths, bottom=-_STRIP, align="edge",
            color=self.line_.get_color(), alpha=0.45, edgecolor="white", linewidth=0.5,
            label=f"share of samples, {most:.0%} at most",
        )  # fmt: skip


def _wilson(share: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Distances to the ends of the 95 % score interval of a frequency (Wilson 1927)."""
    z = 1.959963984540054
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.stack([share - (centre - half), centre + half - share]).clip(0)
