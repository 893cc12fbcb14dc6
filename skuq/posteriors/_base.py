"""The contract of the posteriors."""

from __future__ import annotations

from typing import ClassVar

from sklearn.base import BaseEstimator

from skuq._engine._draws import Draws
from skuq._training._problem import Problem
from skuq._utils._sklearn_compat import validate_parameter_constraints

__all__ = ["Posterior"]


class Posterior(BaseEstimator):
    """Base class and contract of the posteriors.

    A posterior is parameters and one method, `fit`. It is cloned by the estimator and never
    changed, so its parameters can be searched.
    """

    _parameter_constraints: ClassVar[dict] = {}

    def validate(self) -> None:
        """Check the parameters; raises ``InvalidParameterError`` (a `ValueError`)."""
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )

    def fit(self, problem: Problem) -> Draws:
        """Train what is needed and return a stack of function draws.

        Parameters
        ----------
        problem : Problem
            Trains networks (`problem.train`), derives seeds (`problem.seed`), and knows the
            likelihood, a few rows of the data and what the module does.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement fit")
