"""Pictures of how well scores tell novel rows from known ones."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.metrics._axes import COLOURS, Display, is_empty, legend_above, style, user_name
from skuq.metrics._novelty import NoveltyMetrics, checked_scores, novelty_metrics

__all__ = ["NoveltyHistogramDisplay", "NoveltyROCDisplay"]

_TALL = 30.0  # if novel rows score so many times higher than known ones, the axis is logarithmic


class _NoveltyDisplay(Display):
    """Base of the two: both take a detector and rows, or scores."""

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X_known: MatrixLike,
        X_novel: MatrixLike,
        *,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for a fitted detector.

        Parameters
        ----------
        estimator : fitted NoveltyDetector
            The detector; or any object with `predict_novelty`.
        X_known : array-like of shape (n_known, ...)
            Rows like those the detector has learnt from, but others.
        X_novel : array-like of shape (n_novel, ...)
            Rows of another kind.
        name : str, default=None
            Name of the detector in the legend.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.hist`` or ``ax.plot``.

        Returns
        -------
        NoveltyHistogramDisplay or NoveltyROCDisplay
            The display, already drawn.
        """
        known, novel = (estimator.predict_novelty(X) for X in (X_known, X_novel))
        drawn: Self = cls.from_predictions(  # type: ignore[attr-defined]  # of a subclass
            known,
            novel,
            name=user_name(estimator, name),
            ax=ax,
            **cls._extras(estimator),
            **kwargs,
        )
        return drawn

    @classmethod
    def _extras(cls, estimator: Any) -> dict[str, Any]:
        """Return what else `from_predictions` may get from a detector."""
        return {}


class NoveltyHistogramDisplay(_NoveltyDisplay):
    """Histograms of the novelty of known rows and of novel ones.

    Parameters
    ----------
    known, novel : ndarray of shape (n_known,), (n_novel,)
        Scores of the two kinds of rows; higher is stranger.
    metrics : NoveltyMetrics
        How well the scores tell them apart, for the legend.
    threshold : float, default=None
        The novelty above which the detector flags rows.
    name : str, default=None
        For the title of the legend.
    groups : tuple of two str, default=("known", "novel")
        Names of the two kinds of rows.

    Attributes
    ----------
    ax_, figure_ : matplotlib artists, after `plot`
        Artists of the picture, to change its look.
    """

    def __init__(
        self,
        known: np.ndarray,
        novel: np.ndarray,
        metrics: NoveltyMetrics,
        threshold: float | None = None,
        name: str | None = None,
        groups: tuple[str, str] = ("known", "novel"),
    ) -> None:
        self.known = known
        self.novel = novel
        self.metrics = metrics
        self.threshold = threshold
        self.name = name
        self.groups = groups

    @classmethod
    def _extras(cls, estimator: Any) -> dict[str, Any]:
        offset = getattr(estimator, "offset_", None)
        return {"threshold": None if offset is None else -offset}

    @classmethod
    def from_predictions(
        cls,
        known: ArrayLike,
        novel: ArrayLike,
        *,
        threshold: float | None = None,
        groups: tuple[str, str] = ("known", "novel"),
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for scores of both kinds of rows.

        Parameters
        ----------
        known, novel : array-like of shape (n_known,), (n_novel,)
            Scores; higher is stranger.
        threshold : float, default=None
            A line at this novelty.
        groups : tuple of two str, default=("known", "novel")
            Names of the two kinds of rows.
        name : str, default=None
            Name of the detector in the title of the legend.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.hist``.

        Returns
        -------
        NoveltyHistogramDisplay
            The display, already drawn.
        """
        one, two = checked_scores("known", known), checked_scores("novel", novel)
        if not (np.isfinite(one).all() and np.isfinite(two).all()):
            raise ValueError("a histogram needs finite scores, got infinity")
        metrics = novelty_metrics(one, two)
        return cls(one, two, metrics, threshold, name, groups).plot(ax=ax, **kwargs)

    def _columns(self) -> dict[str, Any]:
        sizes = (len(self.known), len(self.novel))
        novelty = np.concatenate([self.known, self.novel])
        return {"group": np.repeat(np.array(self.groups), sizes), "novelty": novelty}

    def _draw(self, ax: Any, name: str | None, options: dict[str, Any]) -> None:
        together = np.concatenate([self.known, self.novel])
        low, high = together.min(), together.max()
        tall = low > 0 and np.median(self.novel) > _TALL * np.median(self.known)
        least = 1e-9 * (abs(low) or 1.0)  # a width, where all values are equal
        high = max(high, low + least)
        bins = np.geomspace(low, high, 41) if tall else np.linspace(low, high, 41)
        looks: tuple[dict[str, Any], ...] = (
            {"histtype": "stepfilled", "alpha": 0.45},
            {"histtype": "step", "hatch": "///"},
        )
        for values, group, colour, look in zip(
            (self.known, self.novel), self.groups, COLOURS, looks
        ):
            shown = {"bins": bins, "color": colour, "linewidth": 1.3, **look, **options}
            weights = np.full(len(values), 1 / len(values))
            ax.hist(values, weights=weights, label=f"{group} ({len(values)})", **shown)
        if self.threshold is not None:
            ax.axvline(self.threshold, color="0.3", linestyle=":", label="flagged to the right")
        ax.set(xlabel="novelty", ylabel="share of the rows")
        if tall:
            ax.set_xscale("log")
        auroc = f"AUROC {self.metrics.auroc:.3f}"
        legend_above(ax, title=f"{name}: {auroc}" if name else auroc)


class NoveltyROCDisplay(_NoveltyDisplay):
    """ROC curve of novelty: the share of novel rows that are found, against false alarms.

    Several detectors can share one axes. A marker shows where 95 % of the novel rows are found,
    and another where 95 % of the known rows are kept.

    Parameters
    ----------
    flagged, found : ndarray of shape (n_thresholds,)
        Share of the known rows and of the novel rows that score at least as high as a threshold,
        from 0 to 1.
    metrics : NoveltyMetrics
        How well the scores tell them apart.
    name : str, default=None
        For the legend.

    Attributes
    ----------
    ax_, figure_, line_ : matplotlib artists, after `plot`
        Artists of the picture, to change its look.
    """

    def __init__(
        self,
        flagged: np.ndarray,
        found: np.ndarray,
        metrics: NoveltyMetrics,
        name: str | None = None,
    ) -> None:
        self.flagged = flagged
        self.found = found
        self.metrics = metrics
        self.name = name

    @classmethod
    def from_predictions(
        cls,
        known: ArrayLike,
        novel: ArrayLike,
        *,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for scores of both kinds of rows.

        Parameters
        ----------
        known, novel : array-like of shape (n_known,), (n_novel,)
            Scores; higher is stranger.
        name : str, default=None
            Name of the detector in the legend.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.plot``.

        Returns
        -------
        NoveltyROCDisplay
            The display, already drawn.
        """
        one, two = np.sort(checked_scores("known", known)), np.sort(checked_scores("novel", novel))
        thresholds = np.unique(np.concatenate([one, two]))[::-1]
        shares = [1 - np.searchsorted(s, thresholds) / len(s) for s in (one, two)]
        flagged, found = (np.append(0.0, share) for share in shares)
        return cls(flagged, found, novelty_metrics(one, two), name).plot(ax=ax, **kwargs)

    def _columns(self) -> dict[str, Any]:
        return {"flagged": self.flagged, "found": self.found}

    def _draw(self, ax: Any, name: str | None, options: dict[str, Any]) -> None:
        auroc = f"AUROC {self.metrics.auroc:.3f}"
        if is_empty(ax):
            ax.plot([0, 1], [0, 1], ":", color="0.4", label="chance")
            ax.set(xlabel="share of known rows that are flagged", xlim=(-0.01, 1.01))
            ax.set(ylabel="share of novel rows that are found", ylim=(-0.01, 1.01))
        look = {**style(ax), "marker": None, "label": f"{name} ({auroc})" if name else auroc}
        (self.line_,) = ax.plot(self.flagged, self.found, **{**look, **options})
        colour = self.line_.get_color()
        spots = (
            (self.metrics.fpr_at_95_novel_found, 0.95, "o"),
            (0.05, 1 - self.metrics.fpr_at_95_known_kept, "s"),
        )
        for x, y, marker in spots:
            ax.plot(x, y, marker, color=colour, markersize=5, fillstyle="none")
        legend_above(ax)
