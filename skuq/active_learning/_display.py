"""The picture of learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from skuq._utils._optional import import_optional

__all__ = ["LearningCurvesDisplay"]

# Okabe and Ito's colours, which colour-blind readers can tell apart; then other dashes.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":")


class LearningCurvesDisplay:
    """Mean learning curves of strategies, with bands of one standard error over the seeds.

    Parameters
    ----------
    n_labelled : ndarray of shape (n_rounds,)
        How many rows had labels.
    scores : dict of str to ndarray of shape (n_seeds, n_rounds)
        The scores of each strategy.
    score_name : str, default="score"
        What the vertical axis is called.

    Attributes
    ----------
    ax_, figure_, lines_ : matplotlib artists, after `plot`
        Artists of the picture, to change its look.
    """

    def __init__(
        self, n_labelled: np.ndarray, scores: Mapping[str, np.ndarray], score_name: str = "score"
    ) -> None:
        self.n_labelled = n_labelled
        self.scores = dict(scores)
        self.score_name = score_name

    def plot(self, *, ax: Any = None) -> Self:
        """Draw the curves; "random" is a grey one.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        self : LearningCurvesDisplay
            The picture itself.
        """
        if ax is None:
            pyplot = import_optional("matplotlib.pyplot", "plot", "LearningCurvesDisplay.plot")
            _, ax = pyplot.subplots(layout="constrained")
        self.lines_ = []
        coloured = [name for name in self.scores if name != "random"]
        for name, values in self.scores.items():
            k = coloured.index(name) if name in coloured else 0
            colour = _COLOURS[k % len(_COLOURS)] if name in coloured else "0.55"
            mean = values.mean(axis=0)
            (line,) = ax.plot(
                self.n_labelled, mean, color=colour, label=name, marker="o", markersize=3,
                linestyle=_DASHES[k // len(_COLOURS) % len(_DASHES)],
            )  # fmt: skip
            if len(values) > 1:
                error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
                ax.fill_between(
                    self.n_labelled, mean - error, mean + error, color=colour, alpha=0.2, lw=0
                )
            self.lines_.append(line)
        ax.set(xlabel="labelled rows", ylabel=self.score_name)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
