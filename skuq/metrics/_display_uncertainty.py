"""Pictures of how well an uncertainty finds errors."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.metrics import roc_auc_score

from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.metrics._axes import (
    COLOURS,
    Display,
    classifies,
    interval_text,
    is_empty,
    legend_above,
    style,
    uncertainty_unit,
    user_name,
)
from skuq.metrics._bootstrap import bootstrap
from skuq.metrics._checks import check_real
from skuq.metrics._losses import Loss, sample_losses
from skuq.metrics._selective import (
    area_under_risk_coverage,
    risk_coverage_curve,
)
from skuq.pipeline import predict_uncertainty

__all__ = ["RiskCoverageDisplay", "UncertaintyHistogramDisplay"]

_RISKS = {
    "zero_one": "share of errors",
    "squared": "mean squared error",
    "absolute": "mean absolute error",
}


class RiskCoverageDisplay(Display):
    """Risk–coverage curve: mean loss of the most certain samples, against how many are kept.

    Parameters
    ----------
    coverage, risk : ndarray of shape (n_samples,)
        Shares of samples that are kept, and mean loss of the kept samples.
    oracle : ndarray of shape (n_samples,)
        Risk if samples were ranked by their losses.
    aurc : float
        Mean of the risk over all coverages.
    name : str, default=None
        For the legend.
    risk_name : str, default="mean loss"
        Name of the risk, for the axis.
    interval : pair of float, default=None
        Ends of the 95 % interval of the AURC, for the legend.

    Attributes
    ----------
    ax_, figure_, line_ : matplotlib artists, after `plot`
        Artists of the picture, to change its look.
    """

    def __init__(
        self,
        coverage: np.ndarray,
        risk: np.ndarray,
        oracle: np.ndarray,
        aurc: float,
        name: str | None = None,
        risk_name: str = "mean loss",
        interval: tuple[float, float] | None = None,
    ) -> None:
        self.interval = interval
        self.coverage = coverage
        self.risk = risk
        self.oracle = oracle
        self.aurc = aurc
        self.name = name
        self.risk_name = risk_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: ArrayLike,
        *,
        kind: str = "total",
        loss: Loss | None = None,
        sample_weight: ArrayLike | None = None,
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
        y : array-like of shape (n_samples,)
            True labels or targets.
        kind : {"total", "aleatoric", "epistemic"}, default="total"
            Which uncertainty to draw.
        loss : as in `area_under_risk_coverage`, default=None
            None is "zero_one" for classifiers and "squared" for regressors.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; None weighs all equally.
        name : str, default=None
            Name of the model in the legend or title.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.plot``, or ``n_resamples`` of `from_predictions`.

        Returns
        -------
        RiskCoverageDisplay
            The display, already drawn.
        """
        if loss is None:
            loss = "zero_one" if classifies(estimator, X) else "squared"
        ranks = "" if kind == "total" else f", {kind} ranks"
        return cls.from_predictions(
            y,
            estimator.predict(X),
            predict_uncertainty(estimator, X, kind=kind),
            loss=loss,
            sample_weight=sample_weight,
            name=user_name(estimator, name, ranks),
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        uncertainty: ArrayLike,
        *,
        loss: Loss = "zero_one",
        sample_weight: ArrayLike | None = None,
        n_resamples: int = 0,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for predictions and their uncertainties.

        Parameters
        ----------
        y_true, y_pred, uncertainty, loss, sample_weight : as in `area_under_risk_coverage`
            Targets, predictions, uncertainties, the loss, and weights of the samples.
        n_resamples : int, default=0
            Number of resamples of a 95 % interval of the AURC in the legend; 0 shows none.
        name : str, default=None
            Name of the model in the legend or title.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.plot``.

        Returns
        -------
        RiskCoverageDisplay
            The display, already drawn.
        """
        options: dict[str, Any] = {"loss": loss, "sample_weight": sample_weight}
        curve = risk_coverage_curve(y_true, y_pred, uncertainty, **options)
        losses = sample_losses(y_true, y_pred, loss)
        oracle = risk_coverage_curve(y_true, y_pred, losses, **options)
        aurc = area_under_risk_coverage(y_true, y_pred, uncertainty, **options)
        risk_name = _RISKS.get(loss, "mean loss") if isinstance(loss, str) else "mean loss"
        found = None
        if n_resamples:
            arrays = (y_true, y_pred, uncertainty)
            more = {**options, "n_resamples": n_resamples}
            found = bootstrap(area_under_risk_coverage, *arrays, **more)[1:3]
        display = cls(curve.coverage, curve.risk, oracle.risk, aurc, name, risk_name, found)
        return display.plot(ax=ax, **kwargs)

    def _columns(self) -> dict[str, Any]:
        return {"coverage": self.coverage, "risk": self.risk, "oracle": self.oracle}

    def _draw(self, ax: Any, name: str | None, options: dict[str, Any]) -> None:
        number = f"AURC {self.aurc:.3g}{interval_text(self.interval)}"
        label = f"{name} ({number})" if name else number
        if is_empty(ax):
            ax.plot([0, 1], [self.risk[-1]] * 2, ":", color="0.4", label="random ranks")
            ax.plot(
                self.coverage, self.oracle, color="0.65", linewidth=1, label="ranks of an oracle"
            )
            ax.set(xlabel="coverage: share of samples kept, the most certain first")
            ax.set(ylabel=f"{self.risk_name} of the samples kept", xlim=(0, 1.02), ylim=(0, 1e-9))
        (self.line_,) = ax.plot(
            self.coverage, self.risk, **{**style(ax), "marker": None, "label": label, **options}
        )
        top = max(self.risk.max(), self.oracle.max()) or 1.0
        ax.set_ylim(0, max(ax.get_ylim()[1], 1.05 * top))
        legend_above(ax)


class UncertaintyHistogramDisplay(Display):
    """Histograms of an uncertainty in two groups: right and wrong, or in and out of distribution.

    Parameters
    ----------
    first, second : ndarray of shape (n_first,), (n_second,)
        Uncertainties of the two groups.
    groups : tuple of two str
        Names of the groups.
    auroc : float
        Probability that one of the second group is more uncertain than one of the first.
    name : str, default=None
        For the title.
    kind : str, default=""
        Which uncertainty it is, for the axis.
    unit : str, default=""
        Unit of the uncertainty, for the axis.

    Attributes
    ----------
    ax_, figure_ : matplotlib artists, after `plot`
        Artists of the picture, to change its look.
    """

    def __init__(
        self,
        first: np.ndarray,
        second: np.ndarray,
        groups: tuple[str, str],
        auroc: float,
        name: str | None = None,
        kind: str = "",
        unit: str = "",
    ) -> None:
        self.first = first
        self.second = second
        self.groups = groups
        self.auroc = auroc
        self.name = name
        self.kind = kind
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        X_other: MatrixLike | None = None,
        kind: str = "total",
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for a fitted classifier (right and wrong), or any estimator (in and out).

        Parameters
        ----------
        estimator : fitted estimator that `skuq.predict_uncertainty` can ask
            The estimator whose predictions are drawn.
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,), default=None
            Labels of X; or give `X_other`.
        X_other : array-like of shape (n_other, ...), default=None
            Samples of another distribution, to compare X with.
        kind : {"total", "aleatoric", "epistemic"}, default="total"
            Which uncertainty to draw.
        name : str, default=None
            Name of the model in the legend or title.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.hist``.

        Returns
        -------
        UncertaintyHistogramDisplay
            The display, already drawn.
        """
        if (y is None) == (X_other is None):
            raise ValueError("give y, for right and wrong predictions, or X_other, not both")
        uncertainty = predict_uncertainty(estimator, X, kind=kind)
        labelled = classifies(estimator, X)
        options = {"name": user_name(estimator, name), "kind": kind, "ax": ax, **kwargs}
        options["unit"] = uncertainty_unit(labelled)
        if X_other is not None:
            other = predict_uncertainty(estimator, X_other, kind=kind)
            groups = ("in distribution", "out of distribution")
            return cls.from_predictions(uncertainty, other, groups=groups, **options)
        if not labelled:
            raise TypeError(
                "right and wrong predictions need a classifier, got a regressor; give X_other "
                "instead of y"
            )
        wrong = np.asarray(y) != estimator.predict(X)
        return cls.from_predictions(
            uncertainty[~wrong], uncertainty[wrong], groups=("right", "wrong"), **options
        )

    @classmethod
    def from_predictions(
        cls,
        first: ArrayLike,
        second: ArrayLike,
        *,
        groups: tuple[str, str] = ("in distribution", "out of distribution"),
        kind: str = "",
        unit: str = "",
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for the uncertainties of two groups.

        Parameters
        ----------
        first, second : array-like of shape (n_first,), (n_second,)
            Uncertainties of the two groups.
        groups : tuple of two str
            Names of the groups.
        kind : str, default=""
            Which uncertainty it is, say "total", for the axis.
        unit : str, default=""
            Unit of the uncertainty, say "nats", for the axis.
        name : str, default=None
            For the title of the legend.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.hist``.

        Returns
        -------
        UncertaintyHistogramDisplay
            The display, already drawn.
        """
        one, two = check_real("first", first), check_real("second", second)
        if one.ndim != 1 or two.ndim != 1 or not len(one) + len(two):
            raise ValueError("uncertainties must have shape (n_samples,), and not all be empty")
        auroc = float("nan")
        if len(one) and len(two):
            group = np.repeat([0, 1], [len(one), len(two)])
            auroc = float(roc_auc_score(group, np.concatenate([one, two])))
        return cls(one, two, groups, auroc, name, kind, unit).plot(ax=ax, **kwargs)

    def _columns(self) -> dict[str, Any]:
        sizes = (len(self.first), len(self.second))
        values = np.concatenate([self.first, self.second])
        return {"group": np.repeat(np.array(self.groups), sizes), "uncertainty": values}

    def _draw(self, ax: Any, name: str | None, options: dict[str, Any]) -> None:
        together = np.concatenate([self.first, self.second])
        low, high = together.min(), together.max()
        least = 1e-9 * (abs(low) or 1.0)  # a width, where all values are equal
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
            shown = {"bins": bins, "color": colour, "linewidth": 1.3, **look, **options}
            weights = np.full(len(values), 1 / len(values))
            ax.hist(values, weights=weights, label=f"{group} ({len(values)})", **shown)
        unit = f" ({self.unit})" if self.unit else ""
        ax.set(xlabel=f"{self.kind} uncertainty{unit}".strip(), ylabel="share of the group")
        auroc = None if np.isnan(self.auroc) else f"AUROC {self.auroc:.3f}"
        legend_above(ax, title=": ".join(filter(None, (name, auroc))) or None)
