"""The Laplace approximation of the last layer, also for networks that are trained already."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from skuq._engine._draws import Draws
from skuq._networks._last_layer import last_linear
from skuq._training._problem import Problem
from skuq._utils._messages import warn
from skuq._utils._sklearn_compat import Interval, StrOptions
from skuq.posteriors._base import Posterior
from skuq.posteriors._curvature import STRUCTURES, Curvature, best_evidence, minimise
from skuq.posteriors._head import Head, Rows, concatenate
from skuq.posteriors._known_noise import evaluator

__all__ = ["LastLayerLaplace"]

_MAX_FULL = 1000  # parameters of a last layer, up to which "auto" keeps the full covariance
_WIDEST = 1e4  # the factor up to which a validated prior precision may differ from "init"
_TRIED_ROWS = 10_000
_MAX_ENTRIES = 2**24  # entries of the information of the rows added at a time
_ROWS_AT_ONCE = 512  # rows for which memory holds the outputs of these draws
_MAX_ROUNDS = 100  # rounds of learning the noise


class LastLayerLaplace(Posterior):
    """A normal approximation of the posterior of the last layer, around the trained weights [1]_.

    Let φ(x) be the input of the last ``nn.Linear``, with a 1 for its bias, and W its weights and
    biases. The draws of W are normal, with the trained weights as their mean and the covariance

        T · [Σ_n w_n F(x_n) ⊗ φ(x_n) φ(x_n)ᵀ + δ I]⁻¹,

    where F is the Fisher information of the outputs (`Likelihood.fisher`), w the sample weights, δ
    the prior precision and T the temperature. All other layers stay as they are and run once for
    each row. After training, one pass over the training rows is enough. A network that is trained
    already needs only this pass: ``max_epochs=0``.

    The network must end in a plain ``nn.Linear`` that is called once and is not tied. Nothing may
    follow it that changes the outputs of a training row: a clamp may stay if no row reaches it. The
    likelihood must have a Fisher information: `Quantile`, `MixtureOfGaussians` and
    ``StudentT(df="free")`` have none.

    Draws 2k and 2k + 1 lie on opposite sides of the trained weights, at equal distance, so the mean
    of an even number of draws is the trained weights. Draw m does not depend on `n_draws`.

    Parameters
    ----------
    structure : {"auto", "full", "kronecker", "diagonal"}, default="auto"
        How much of the sum over rows to keep: all of it, one Kronecker product [2]_, or the
        diagonal. "auto" takes "full" up to 1000 weights and biases, else "kronecker".
    prior_precision : {"init", "evidence", "validation"} or float > 0, default="init"
        The prior precision δ of weights and biases:

        * "init": 3 · fan-in, where fan-in is the number of inputs of the layer. ``nn.Linear`` draws
          its initial weights and biases with this precision. If the network works in the units of y
          (`standardise` of the likelihood), the unit is the standard deviation of y;
        * "evidence": the maximiser of the marginal likelihood [3]_. It is good for regressions, but
          **not for classifiers that separate their training rows**: F vanishes there, δ becomes too
          small, and draws are much too wide;
        * "validation": the minimiser of the mean negative log-likelihood of the mixture of 100
          draws on the rows of early stopping, between 10⁻⁴ and 10⁴ times "init". It needs
          ``early_stopping=True``; a warning says if it ends at such a bound;
        * a number. With 1 / δ → 0 the draws become the trained network.
    n_draws : int, default=100
        Number of draws.
    temperature : float > 0, default=1.0
        The temperature T; draws are closer to the trained network if it is less than 1.

    Attributes
    ----------
    prior_precision_ : float
        The prior precision in use.
    structure_ : {"full", "kronecker", "diagonal"}
        The structure in use.
    layer_ : str
        The name of the last layer.

    Raises
    ------
    ValueError
        In `fit`, if the network does not end in such a layer, the likelihood has no Fisher
        information, or "validation" has no rows of early stopping. The message has a fix.

    Notes
    -----
    Sample weights count as an amount of data: weight 2 is the same as two equal rows.

    One noise level for all rows (``heteroscedastic=False``) must be known before the draws. It is
    the mean squared residual of the trained network on rows that training has not seen, as for
    `PointEstimate`. Without such rows (``max_epochs=0``, fewer than 10 rows) the noise and the
    draws are learnt in turns on the training rows, until both fit each other. In a linear
    regression, this gives the residual sum of squares over n − γ, where γ is the effective number
    of parameters. The noise is learnt at temperature 1, also if `temperature` is another.

    `partial_fit` is not possible: the information of earlier rows would belong to features that the
    network no longer has. ``warm_start`` goes on from the trained network.

    References
    ----------
    .. [1] E. Daxberger, A. Kristiadi, A. Immer, R. Eschenhagen, M. Bauer, P. Hennig, "Laplace
       Redux - Effortless Bayesian Deep Learning", NeurIPS 2021, arXiv:2106.14806.
    .. [2] H. Ritter, A. Botev, D. Barber, "A Scalable Laplace Approximation for Neural Networks",
       ICLR 2018.
    .. [3] D. MacKay, "A Practical Bayesian Framework for Backpropagation Networks", Neural
       Computation 4, 1992, doi:10.1162/neco.1992.4.3.448.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.posteriors import LastLayerLaplace
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = TorchClassifier(
    ...     posterior=LastLayerLaplace(), lr=0.01, max_epochs=20, random_state=0
    ... ).fit(X, y)
    >>> bool(classifier.predict_uncertainty(X, kind="epistemic").min() > 0)
    True
    >>> classifier.posterior_.prior_precision_  # the last layer has 100 inputs
    300.0
    """

    goes_on: ClassVar[bool] = False
    noise: ClassVar[str] = "before"
    quick: ClassVar[dict[str, Any]] = {"n_draws": 10}

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "structure": [StrOptions({"auto", *STRUCTURES})],
        "prior_precision": [
            StrOptions({"init", "evidence", "validation"}),
            Interval(Real, 0, None, closed="neither"),
        ],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    prior_precision_: float
    structure_: str
    layer_: str

    def __init__(
        self,
        structure: str = "auto",
        prior_precision: str | float = "init",
        n_draws: int = 100,
        temperature: float = 1.0,
    ) -> None:
        self.structure = structure
        self.prior_precision = prior_precision
        self.n_draws = n_draws
        self.temperature = temperature

    def fit(self, problem: Problem) -> Draws:
        self.layer_ = self._checked_layer(problem)
        (network,) = problem.train()
        head = Head(network, self.layer_, problem)
        self.structure_ = self._chosen_structure(head)
        if problem.learn_noise(network):
            curvature = self._curvature(head, problem, head.rows(problem.batches(large=True)))
            self.prior_precision_ = self._precision(head, curvature, problem)
        else:
            curvature = self._learn_noise(head, problem)
        if self.prior_precision == "validation":
            _warn_at_bound(self.prior_precision_ / (3.0 * head.fan_in))
        root, scale = curvature.root(self.prior_precision_), self.temperature**0.5
        pairs = -(-self.n_draws // 2)
        noise = head.noise(pairs, problem.seed())
        blocks = [head.sampled_weights(scale * root(block)) for block in noise]
        return Draws(network, head.parameters(torch.cat(blocks)[: self.n_draws]))

    def _checked_layer(self, problem: Problem) -> str:
        """Find the name of the last layer; refuse unsuitable networks before hours of training."""
        layer, likelihood = _find_last_layer(problem.untrained(), problem), problem.likelihood
        try:
            likelihood.fisher(torch.zeros(1, likelihood.n_outputs_, dtype=torch.float64))
        except TypeError as error:
            raise ValueError(
                f"LastLayerLaplace needs the Fisher information of the outputs, but {error}. "
                "Choose another likelihood, or MCDropout or DeepEnsemble as the posterior"
            ) from error
        if self.prior_precision == "validation":
            problem.batches(validation=True)
        return layer

    def _chosen_structure(self, head: Head) -> str:
        if self.structure != "auto":
            return self.structure
        return "full" if head.weight.numel() <= _MAX_FULL else "kronecker"

    def _curvature(self, head: Head, problem: Problem, rows: Iterable[Rows]) -> Curvature:
        """Sum the information of the training rows, with their weights."""
        n_outputs, n_inputs = head.weight.shape
        curvature = STRUCTURES[self.structure_](n_outputs, n_inputs, head.device)
        size = max(1, _MAX_ENTRIES // n_outputs**2)
        for x, target, weight in (part for batch in rows for part in batch.parts(size)):
            information = problem.likelihood.information(head.outputs(x), target)
            curvature.add(x, head.units[:, None] * information * head.units, weight)
        curvature.scale(problem.n_rows / curvature.weight)
        return curvature

    # -- the prior -------------------------------------------------------------------------------

    def _precision(self, head: Head, curvature: Curvature, problem: Problem) -> float:
        initial: float = 3.0 * head.fan_in
        if self.prior_precision == "init":
            return initial
        if self.prior_precision == "evidence":
            return best_evidence(curvature.eigenvalues(), head.weight)
        if self.prior_precision == "validation":
            rows = concatenate(head.rows(problem.batches(validation=True, large=True)))
            tried = head.trial_noise(problem)
            return minimise(
                lambda precision: self._loss(head, curvature, problem, rows, tried, precision),
                initial / _WIDEST,
                initial * _WIDEST,
            )
        return float(self.prior_precision)

    def _loss(
        self,
        head: Head,
        curvature: Curvature,
        problem: Problem,
        rows: Rows,
        tried: Tensor,
        precision: float,
    ) -> float:
        """Compute the mean negative log-likelihood of the mixture of draws."""
        deviations: Tensor = self.temperature**0.5 * curvature.root(precision)(tried)
        total = 0.0
        for x, target, weight in rows.parts(_ROWS_AT_ONCE):
            outputs = head.outputs_of_draws(x, deviations)
            targets = target.expand(len(outputs), *target.shape).flatten(0, 1)
            each = problem.likelihood.negative_log_likelihood(outputs.flatten(0, 1), targets)
            mixture = np.log(len(outputs)) - (-each.unflatten(0, outputs.shape[:2])).logsumexp(0)
            total += float((weight * mixture).sum())
        return total / float(rows.weight.sum())

    # -- the noise -------------------------------------------------------------------------------

    def _learn_noise(self, head: Head, problem: Problem) -> Curvature:
        """Learn one noise level, in turns with the prior and the draws, on the training rows.

        Only the normal distribution of each output counts, which is known: no draws are needed.
        """
        rows, likelihood = concatenate(head.rows(problem.batches(large=True))), problem.likelihood
        few = rows.every_nth(-(-len(rows.x) // _TRIED_ROWS))
        known: Any = np.nan
        for _ in range(_MAX_ROUNDS):
            curvature = self._curvature(head, problem, [rows])
            self.prior_precision_ = self._precision(head, curvature, problem)
            now = likelihood.fisher(head.outputs(rows.x[:1])).cpu().numpy()
            if np.allclose(now, known, rtol=1e-10, atol=0):
                break
            known = now
            variances = curvature.variances(self.prior_precision_, few.x)
            outputs = head.outputs_of_quantiles(few.x, variances)
            likelihood.finish(
                evaluator(outputs), few.target.cpu().numpy(), few.weight.cpu().numpy(), True
            )
        return curvature


# -------------------------------------------------------------------------------------------------


def _warn_at_bound(factor: float) -> None:
    """Warn if "validation" ends where its search does; `factor` is relative to "init"."""
    if 1.1 / _WIDEST < factor < _WIDEST / 1.1:
        return
    so = "the draws are all but the trained network" if factor > 1 else "only the data limit them"
    warn(
        f"prior_precision='validation' ends at the bound of its search, {factor:.0e} times that of "
        f"'init': {so}. The rows of early stopping show no optimum: set prior_precision='init', or "
        "give more validation rows (validation_fraction)",
        ConvergenceWarning,
    )


def _find_last_layer(network: nn.Module, problem: Problem) -> str:
    try:
        return last_linear(network, problem.sample, problem.numerics, exactly=True)
    except ValueError as error:
        raise ValueError(
            "LastLayerLaplace needs a network that ends in an nn.Linear, but for "
            f"{problem.report.name}, {error}. Let the network return the outputs of its own linear "
            "layer, or choose MCDropout or DeepEnsemble"
        ) from None
