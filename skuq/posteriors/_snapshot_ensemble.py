"""Snapshot ensembles: one network at the ends of several cycles of the learning rate."""

from __future__ import annotations

from math import cos, pi
from numbers import Integral, Real
from typing import Any, ClassVar

from torch import nn

from skuq._engine._draws import Draws
from skuq._training._hooks import TrainingHook
from skuq._training._problem import Problem
from skuq._utils._sklearn_compat import Interval
from skuq.posteriors._base import Posterior
from skuq.posteriors._members import stacked_members
from skuq.posteriors._weight_draws import epochs_of_a_walk

__all__ = ["SnapshotEnsemble"]


class SnapshotEnsemble(Posterior):
    """One network at the ends of several cycles of the learning rate [1]_.

    The first cycle is training itself. Each later cycle goes on from the network before it: at the
    share t of the cycle, the learning rate is `lr_factor` · ½ (1 + cos π t) times that of the
    estimator. It begins high, so that the network leaves its minimum, and ends at zero. All
    parameters and buffers at the ends are stacked.

    Parameters
    ----------
    n_cycles : int, default=5
        Number of cycles, which is the number of draws.
    lr_factor : float > 0, default=3.0
        The learning rate at the start of later cycles, relative to that of the estimator.
    n_epochs : int, default=None
        The epochs of each later cycle. None takes those that training took, over `n_cycles`, at
        least 5; with ``max_epochs=0``, give the number.

    Notes
    -----
    Snapshots of one walk agree more than members of a `DeepEnsemble`. With `n_epochs` given, draw m
    does not depend on `n_cycles`.

    Later cycles use the optimizer of the estimator with its options. Early stopping and callbacks
    only belong to training. After Ctrl-C, with ``on_interrupt="keep"``, only whole cycles count.

    `partial_fit` is not possible, because later cycles would only see the last rows. ``warm_start``
    goes on from the first cycle.

    References
    ----------
    .. [1] G. Huang, Y. Li, G. Pleiss, Z. Liu, J. Hopcroft, K. Weinberger, "Snapshot Ensembles:
       Train 1, Get M for Free", ICLR 2017, arXiv:1704.00109.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.posteriors import SnapshotEnsemble
    >>> X, y = load_iris(return_X_y=True)
    >>> posterior = SnapshotEnsemble(n_cycles=3)
    >>> classifier = TorchClassifier(posterior=posterior, lr=0.01, max_epochs=20, random_state=0)
    >>> classifier.fit(X, y).predict_draws(X).shape
    (3, 150, 3)
    """

    goes_on: ClassVar[bool] = False
    quick: ClassVar[dict[str, Any]] = {"n_cycles": 2, "n_epochs": 2}

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_cycles": [Interval(Integral, 1, None, closed="left")],
        "lr_factor": [Interval(Real, 0, None, closed="neither")],
        "n_epochs": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self, n_cycles: int = 5, lr_factor: float = 3.0, n_epochs: int | None = None
    ) -> None:
        self.n_cycles = n_cycles
        self.lr_factor = lr_factor
        self.n_epochs = n_epochs

    def fit(self, problem: Problem) -> Draws:
        (network,) = problem.train()
        n_epochs = epochs_of_a_walk(
            self.n_epochs, network, problem, self.n_cycles, 5, "SnapshotEnsemble"
        )
        snapshots = [network]
        for _ in range(1, self.n_cycles):
            counter = _Counter()
            after = problem.explore(
                snapshots[-1], n_epochs, hook=counter, schedule=self._factor_of_rate
            )
            if counter.n_epochs < n_epochs:  # Ctrl-C
                break
            snapshots.append(after)
        return Draws(network, stacked_members(snapshots, problem))

    def _factor_of_rate(self, share: float) -> float:
        return float(self.lr_factor) * (1 + cos(pi * share)) / 2


class _Counter(TrainingHook):
    """Counts epochs."""

    def __init__(self) -> None:
        self.n_epochs = 0

    def after_epoch(self, module: nn.Module, epoch: int) -> None:
        self.n_epochs = epoch
