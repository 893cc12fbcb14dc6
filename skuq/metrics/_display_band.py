"""The picture of a regressor of one feature: its mean and its bands."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy import stats
from torch import Tensor
from torch.distributions import Distribution

from skuq._composition import predictions
from skuq._distributions._mixture import mixture_quantile
from skuq._predict import RegressorPredictions
from skuq._reductions import target_uncertainty
from skuq._utils._messages import checked_level
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.metrics._axes import Display, column_name, is_empty, legend_above, style, user_name
from skuq.metrics._checks import check_real

__all__ = ["PredictionBandDisplay"]


class PredictionBandDisplay(Display):
    """A regressor of one feature: mean, intervals of the noise only and of everything, data.

    Parameters
    ----------
    x, mean : ndarray of shape (n_grid,)
        Values of the feature, and the predicted means there.
    noise : ndarray of shape (n_grid, 2)
        Central interval of a normal distribution with the aleatoric variance.
    total : ndarray of shape (n_grid, 2)
        Central interval of the predictive mixture.
    confidence_level : float
        Share of new targets that `total` should hold.
    name : str, default=None
        For the legend.
    data : ndarray of shape (n_samples, 2), default=None
        Feature and target of each sample, drawn as points.
    xlabel : str, default="x"
        Name of the axis of the feature, used where no other display drew on it before.
    ylabel : str, default="y"
        Name of the axis of the target, likewise.

    Attributes
    ----------
    ax_, figure_, line_ : matplotlib artists, after `plot`
        Artists of the picture, to change its look.
    """

    def __init__(
        self,
        x: np.ndarray,
        mean: np.ndarray,
        noise: np.ndarray,
        total: np.ndarray,
        confidence_level: float,
        name: str | None = None,
        data: np.ndarray | None = None,
        xlabel: str = "x",
        ylabel: str = "y",
    ) -> None:
        self.x = x
        self.mean = mean
        self.noise = noise
        self.total = total
        self.confidence_level = confidence_level
        self.name = name
        self.data = data
        self.xlabel = xlabel
        self.ylabel = ylabel

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        confidence_level: float = 0.9,
        margin: float = 0.15,
        n_grid: int = 300,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for a fitted regressor.

        Parameters
        ----------
        estimator : fitted regressor of skuq, or with ``predict(X, return_std=True)``
            The estimator whose predictions are drawn.
        X : array-like of shape (n_samples, 1)
            Values of the feature. The axis takes the name of a DataFrame's column.
        y : array-like of shape (n_samples,), default=None
            Targets, to draw the data. The axis takes the name of a Series.
        confidence_level : float in (0, 1), default=0.9
            Share of new targets that the intervals should hold.
        margin : float, default=0.15
            How far the grid goes beyond X, in units of its range.
        n_grid : int, default=300
            Number of points of the grid.
        name : str, default=None
            Name of the model in the legend or title.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.plot``.

        Returns
        -------
        PredictionBandDisplay
            The display, already drawn.
        """
        column = check_real("X", X)
        if column.ndim != 2 or column.shape[1] != 1:
            raise ValueError(
                f"PredictionBandDisplay needs X of exactly one feature, got shape {column.shape}"
            )
        reach = margin * np.ptp(column)
        points = np.linspace(column.min() - reach, column.max() + reach, n_grid)[:, None]
        frame: Any = X if hasattr(X, "columns") else None  # predictions want its names
        grid: Any = points if frame is None else type(frame)({frame.columns[0]: points[:, 0]})
        tail = (1 - checked_level("confidence_level", confidence_level)) / 2
        asked, inner = predictions(estimator, grid)
        if not isinstance(asked, RegressorPredictions) or asked._target_shape not in ((), (1,)):
            raise TypeError("PredictionBandDisplay needs a fitted regressor of one target")

        def reduction(predictive: Distribution) -> tuple[Tensor, ...]:
            ends = [mixture_quantile(predictive, level) for level in (tail, 1 - tail)]
            return predictive.mean.mean(0), target_uncertainty("aleatoric")(predictive), *ends

        mean, variance, low, high = (part[:, 0] for part in asked._reduce(inner, reduction))
        half = stats.norm.ppf(1 - tail) * np.sqrt(variance)
        return cls(
            np.asarray(grid, dtype=float)[:, 0],
            mean,
            np.stack([mean - half, mean + half], axis=1),
            np.stack([low, high], axis=1),
            confidence_level,
            user_name(estimator, name),
            None if y is None else np.column_stack([column, check_real("y", y)]),
            xlabel=column_name(X) or "x",
            ylabel=column_name(y) or "y",
        ).plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        x: ArrayLike,
        mean: ArrayLike,
        aleatoric_std: ArrayLike,
        total_std: ArrayLike,
        *,
        confidence_level: float = 0.9,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for means and standard deviations, of normal distributions.

        Parameters
        ----------
        x, mean, aleatoric_std, total_std : array-like of shape (n_grid,)
            Values of the feature, and the predicted means and standard deviations there.
        confidence_level : float in (0, 1), default=0.9
            Share of new targets that the intervals should hold.
        name : str, default=None
            Name of the model in the legend or title.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.plot``.

        Returns
        -------
        PredictionBandDisplay
            The display, already drawn.
        """
        place, centre = check_real("x", x), check_real("mean", mean)
        stds = check_real("aleatoric_std", aleatoric_std), check_real("total_std", total_std)
        if len({array.shape for array in (place, centre, *stds)}) != 1 or place.ndim != 1:
            raise ValueError("x, mean, aleatoric_std and total_std must have one shape, (n_grid,)")
        half = stats.norm.ppf((1 + checked_level("confidence_level", confidence_level)) / 2)
        order = np.argsort(place)
        noise, total = (
            np.stack([centre - half * std, centre + half * std], axis=1)[order] for std in stds
        )
        display = cls(place[order], centre[order], noise, total, confidence_level, name)
        return display.plot(ax=ax, **kwargs)

    def _columns(self) -> dict[str, Any]:
        return {
            "x": self.x,
            "mean": self.mean,
            "noise_lower": self.noise[:, 0],
            "noise_upper": self.noise[:, 1],
            "total_lower": self.total[:, 0],
            "total_upper": self.total[:, 1],
        }

    def _draw(self, ax: Any, name: str | None, options: dict[str, Any]) -> None:
        if is_empty(ax):
            ax.set(xlabel=self.xlabel, ylabel=self.ylabel)
            ax.margins(x=0)
        look = style(ax)
        line = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 1.8}
        line |= {"label": f"{name}: mean" if name else "mean", "zorder": 3, **options}
        (self.line_,) = ax.plot(self.x, self.mean, **line)
        color, level = self.line_.get_color(), f"{self.confidence_level:.0%}"
        # One band has edges and a tint, the other is filled, so that they differ in print, too, and
        # where they overlap or cross.
        for band, alpha, edge, cause in (
            (self.total, 0.12, 1.0, "noise and ignorance"),
            (self.noise, 0.42, 0.0, "noise only"),
        ):
            ax.fill_between(
                self.x, *band.T, facecolor=(color, alpha), edgecolor=color, linewidth=edge,
                linestyle="--", label=f"{level}, {cause}",
            )  # fmt: skip
        if self.data is not None:
            known = "data" in ax.get_legend_handles_labels()[1]
            points = {"color": "0.25", "markersize": 4, "zorder": 1, "alpha": 0.6}
            ax.plot(*self.data.T, ".", label=None if known else "data", **points)
        legend_above(ax)
