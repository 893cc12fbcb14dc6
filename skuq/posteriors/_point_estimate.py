"""One network: no uncertainty about the function."""

from __future__ import annotations

from skuq._engine._draws import Draws
from skuq._training._problem import Problem
from skuq.posteriors._base import Posterior

__all__ = ["PointEstimate"]


class PointEstimate(Posterior):
    """Only the trained network: one draw, epistemic uncertainty zero.

    Examples
    --------
    >>> from skuq import TorchClassifier
    >>> from skuq.posteriors import PointEstimate
    >>> classifier = TorchClassifier(posterior=PointEstimate())
    """

    def fit(self, problem: Problem) -> Draws:
        (network,) = problem.train(own_rows=True)
        return Draws(network)
