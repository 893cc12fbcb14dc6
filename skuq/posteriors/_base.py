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
    * "before": on rows that training has not seen, from the trained network without the posterior.
      For posteriors that depend on the noise. `fit` calls `Problem.learn_noise` once it has a
      network; if there are no unseen rows, it must set the noise as under "own".
    * "given": draws are samples of the posterior given the noise, for example by MCMC. The noise is
      the mean squared residual over all draws on the training rows, which is unbiased in this case.
    * "own": `fit` sets it, as an attribute of `problem.likelihood`.
    """

    #: Whether `partial_fit` is possible; False takes it from estimators, with a message.
    goes_on: ClassVar[bool] = True
    #: Parameters that make a fit quick, for the common tests of all posteriors.
    quick: ClassVar[dict[str, Any]] = {}
    #: How a likelihood learns one noise level for all rows, see above.
    noise: ClassVar[str] = "unseen"

    #: The rate of dropout of the default network; ``module__dropout`` sets another one.
    default_dropout: ClassVar[float] = 0.0

    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    def validate(self) -> None:
        """Check the parameters; raise ``InvalidParameterError`` (a `ValueError`)."""
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )

    def transform(self, module: nn.Module) -> nn.Module:
        """Change an untrained network before it is inspected and trained.

        Global generators are private while this runs, so layers that it makes have repeatable
        initial weights.

        Parameters
        ----------
        module : nn.Module
            The network of this fit; it may be changed in place.

        Returns
        -------
        nn.Module
            The network to train; by default, the same one.
        """
        return module

    def fit(self, problem: Problem) -> Draws:
        """Train networks and return a stack of function draws.

        Parameters
        ----------
        problem : Problem
            Trains networks (`problem.train`) and derives seeds (`problem.seed`). It has the
            likelihood, a few rows of the data and a description of the module.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement fit")
