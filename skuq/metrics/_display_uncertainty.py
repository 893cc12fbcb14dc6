"""Pictures of what an uncertainty is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from skuq.metrics._axes import COLOURS, classifies, new_axes, style, user_name
from skuq.metrics._checks import check_real
from skuq.metrics._selective import (
    area_under_risk_coverage,
    risk_coverage_curve,
    sample_losses,
)
from skuq.pipeline import predict_uncertainty

__all__ = ["RiskCoverageDisplay", "UncertaintyHistogramDisplay"]


class RiskCoverageDisplay:
    """Risk–coverage curve: mean loss of the most certain samples, against how many are kept.

    Parameters
    ----------
    coverage, risk : ndarray of shape (n_samples,)
    oracle : ndarray of shape (n_samples,)
        Risk if samples were ranked by their losses.
    aurc : float
        Mean of the risk over all coverages.
    name : str, default=None

    Attributes
    ----------
    ax_, figure_, line_ : matplotlib artists, after `plot`
    """

    def __init__(
        self,
        coverage: np.ndarray,
        risk: np.ndarray,
        oracle: np.ndarray,
        aurc: float,
        name: str | None = None,
    ) -> None:
        self.coverage = coverage
        self.risk = risk
        self.oracle = oracle
        self.aurc = aurc
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        kind: str = "total",
        loss: Any = None,
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> RiskCoverageDisplay:
        """Draw for a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator that `skuq.predict_uncertainty` can ask
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,)
        kind : {"total", "aleatoric", "epistemic"}, default="total"
        loss : as in `area_under_risk_coverage`, default=None
            None is "zero_one" for classifiers and "squared" for regressors.
        sample_weight : array-like of shape (n_samples,), default=None
        name : str, default=None
        ax : matplotlib Axes, default=None
        **kwargs : passed to ``ax.plot``

        Returns
        -------
        RiskCoverageDisplay
        """
        if loss is None:
            loss = "zero_one" if classifies(estimator, X) else "squared"
        return cls.from_predictions(
            y,
            estimator.predict(X),
            predict_uncertainty(estimator, X, kind=kind),
            loss=loss,
            sample_weight=sample_weight,
            name=user_name(estimator, name),
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        uncertainty: Any,
        *,
        loss: Any = "zero_one",
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> RiskCoverageDisplay:
        """Draw for predictions and their uncertainties.

        Parameters
        ----------
        y_true, y_pred, uncertainty, loss, sample_weight : as in `area_under_risk_coverage`
        name : str, default=None
        ax : matplotlib Axes, default=None
        **kwargs : passed to ``ax.plot``

        Returns
        -------
        RiskCoverageDisplay
        """
        options = {"loss": loss, "sample_weight": sample_weight}
        curve = risk_coverage_curve(y_true, y_pred, uncertainty, **options)
        losses = sample_losses(y_true, y_pred, loss)
        oracle = risk_coverage_curve(y_true, y_pred, losses, **options)
        aurc = area_under_risk_coverage(y_true, y_pred, uncertainty, **options)
        display = cls(curve.coverage, curve.risk, oracle.risk, aurc, name)
        return display.plot(ax=ax, **kwargs)

    def plot(
        self, ax: Any = None, *, name: str | None = None, **kwargs: Any
    ) -> RiskCoverageDisplay:
        """Draw the curve; several can share one `ax`: the first gives oracle and random.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
        name : str, default=None
        **kwargs : passed to ``ax.plot``

        Returns
        -------
        self : RiskCoverageDisplay
        """
        ax = new_axes(ax, "RiskCoverageDisplay")
        name = self.name if name is None else name
        label = f"{name} (AURC {self.aurc:.4g})" if name else f"AURC {self.aurc:.4g}"
        if not getattr(ax, "_skuq_drawn", 0):
            ax.plot([0, 1], [self.risk[-1]] * 2, ":", color="0.4", label="random ranks")
            ax.plot(
                self.coverage, self.oracle, color="0.65", linewidth=1, label="ranks of an oracle"
            )
        options = {**style(ax), "marker": None, "label": label, **kwargs}
        (self.line_,) = ax.plot(self.coverage, self.risk, **options)
        ax.set(xlabel="coverage: share of samples kept, the most certain first", ylabel="mean loss")
        ax.set_xlim(0, 1.02)
        ax.set_ylim(bottom=0)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


class UncertaintyHistogramDisplay:
    """Histograms of an uncertainty in two groups: right and wrong, or in and out of distribution.

    Parameters
    ----------
    first, second : ndarray of shape (n_first,), (n_second,)
        Uncertainties of the two groups.
    groups : tuple of two str
        What they are called.
    auroc : float
        Probability that one of the second group is more uncertain than one of the first.
    name : str, default=None
        For the title.

    Attributes
    ----------
    ax_, figure_ : matplotlib artists, after `plot`
    """

    def __init__(
        self,
        first: np.ndarray,
        second: np.ndarray,
        groups: tuple[str, str],
        auroc: float,
        name: str | None = None,
    ) -> None:
        self.first = first
        self.second = second
        self.groups = groups
        self.auroc = auroc
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        X_other: Any = None,
        kind: str = "total",
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> UncertaintyHistogramDisplay:
        """Draw for a fitted classifier (right and wrong), or any estimator (in and out).

        Parameters
        ----------
        estimator : fitted estimator that `skuq.predict_uncertainty` can ask
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,), default=None
            Labels of X; or give `X_other`.
        X_other : array-like of shape (n_other, ...), default=None
            Samples of another distribution, to compare X with.
        kind : {"total", "aleatoric", "epistemic"}, default="total"
        name : str, default=None
        ax : matplotlib Axes, default=None
        **kwargs : passed to ``ax.hist``

        Returns
        -------
        UncertaintyHistogramDisplay
        """
        if (y is None) == (X_other is None):
            raise ValueError("give y, for right and wrong predictions, or X_other, not both")
        uncertainty = predict_uncertainty(estimator, X, kind=kind)
        options = {"name": user_name(estimator, name), "ax": ax, **kwargs}
        if X_other is not None:
            other = predict_uncertainty(estimator, X_other, kind=kind)
            groups = ("in distribution", "out of distribution")
            return cls.from_predictions(uncertainty, other, groups=groups, **options)
        if not classifies(estimator, X):
            raise TypeError("right and wrong are of classifiers; give X_other for a regressor")
        wrong = np.asarray(y) != estimator.predict(X)
        return cls.from_predictions(
            uncertainty[~wrong], uncertainty[wrong], groups=("right", "wrong"), **options
        )

    @classmethod
    def from_predictions(
        cls,
        first: Any,
        second: Any,
        *,
        groups: tuple[str, str] = ("in distribution", "out of distribution"),
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> UncertaintyHistogramDisplay:
        """Draw for the uncertainties of two groups.

        Parameters
        ----------
        first, second : array-like of shape (n_first,), (n_second,)
        groups : tuple of two str
        name : str, default=None
        ax : matplotlib Axes, default=None
        **kwargs : passed to ``ax.hist``

        Returns
        -------
        UncertaintyHistogramDisplay
        """
        one, two = check_real("first", first), check_real("second", second)
        if one.ndim != 1 or two.ndim != 1 or not len(one) + len(two):
            raise ValueError("uncertainties must have shape (n_samples,), and not all be empty")
        auroc = float("nan")
        if len(one) and len(two):
            group = np.repeat([0, 1], [len(one), len(two)])
            auroc = float(roc_auc_score(group, np.concatenate([one, two])))
        return cls(one, two, groups, auroc, name).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> UncertaintyHistogramDisplay:
        """Draw the histograms.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
        **kwargs : passed to ``ax.hist``

        Returns
        -------
        self : UncertaintyHistogramDisplay
        """
        ax = new_axes(ax, "UncertaintyHistogramDisplay")
        together = np.concatenate([self.first, self.second])
        low, high = together.min(), together.max()
        least = 1e-9 * (abs(low) or 1.0)  # of values that are all the same
        bins = np.linspace(low, max(high, low + least), 31)
        looks: tuple[dict[str, Any], ...] = (
            {"histtype": "stepfilled", "alpha": 0.45},
            {"histtype": "step", "hatch": "///"},
        )
        for values, group, colour, look in zip(
            (self.first, self.second), self.groups, COLOURS, looks
        ):
            if not len(values):
                continue
            options = {"bins": bins, "color": colour, "linewidth": 1.3, **look, **kwargs}
            weights = np.full(len(values), 1 / len(values))
            ax.hist(values, weights=weights, label=f"{group} ({len(values)})", **options)
        known = not np.isnan(self.auroc)
        ax.legend(title=f"AUROC {self.auroc:.3f}" if known else None)
        ax.set(xlabel="uncertainty", ylabel="share of the group", title=self.name or "")
        self.ax_, self.figure_ = ax, ax.figure
        return self
