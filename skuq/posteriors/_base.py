"""The contract of the posteriors."""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.base import BaseEstimator
from torch import nn

from skuq._engine._draws import Draws
from skuq._training._problem import Problem
from skuq._utils._sklearn_compat import validate_parameter_constraints

__all__ = ["Posterior"]


class Posterior(BaseEstimator):
    """Base class and contract of the posteriors.

    A posterior is parameters and one method, `fit`. It is cloned by the estimator and never
    changed, so its parameters can be searched.

    `noise` says how a likelihood that has one noise level for all rows learns it:

    * "unseen": on rows that training has not seen, as the noise of the highest likelihood of the
      mixture of all draws. For draws that come only from training, such as ensembles.
    * "before": on rows that training has not seen, from the trained network without the posterior,
      which depends on the noise. `fit` calls `Problem.learn_noise` once it has a network; where
      there are no unseen rows, it has to set the noise as under "own".
    * "given": draws are samples of the posterior given the noise, as those of MCMC or a Laplace
      approximation. It is the mean squared residual over all draws on the training rows, which
      is unbiased there.
    * "own": `fit` sets it, as an attribute of `problem.likelihood`.
    """

    #: Whether `partial_fit` can go on with it; False: estimators have none, and say why.
    goes_on: ClassVar[bool] = True
    #: Parameters that make a fit quick, for tests of what all posteriors have in common.
    quick: ClassVar[dict[str, Any]] = {}
    #: Where one noise level for all rows is learnt, see above.
    noise: ClassVar[str] = "unseen"

    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    def validate(self) -> None:
        """Check the parameters; raises ``InvalidParameterError`` (a `ValueError`)."""
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )

    def transform(self, module: nn.Module) -> nn.Module:
        """Change an untrained network before it is inspected and trained.

        Global generators are private ones while this runs: layers that are made here have initial
        weights that repeat.

        Parameters
        ----------
        module : nn.Module
            Built and owned by this fit; it may be changed in place.

        Returns
        -------
        nn.Module
            The network that is trained; by default, the same.
        """
        return module

    def fit(self, problem: Problem) -> Draws:
        """Train what is needed and return a stack of function draws.

        Parameters
        ----------
        problem : Problem
            Trains networks (`problem.train`), derives seeds (`problem.seed`), and knows the
            likelihood, a few rows of the data and what the module does.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement fit")
