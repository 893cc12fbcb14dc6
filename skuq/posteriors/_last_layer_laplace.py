"""The Laplace approximation of the last layer: uncertainty of a network that is trained already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skuq._data._batches import Batch
from skuq._engine._draws import Draws
from skuq._networks._last_layer import InputOf, last_linear
from skuq._networks._module import call, private_copy
from skuq._training._problem import Problem
from skuq._utils._random import Purpose, derive_seed, generator
from skuq._utils._sklearn_compat import Interval, StrOptions
from skuq.posteriors._base import Posterior
from skuq.posteriors._curvature import STRUCTURES, Curvature, best_evidence, least

__all__ = ["LastLayerLaplace"]

_MOST_FULL = 1000  # parameters of a last layer whose covariance "auto" keeps whole
_PAIRS = 8  # pairs of draws that are made at a time, always as many
_TRIED_PAIRS = 50  # of the draws that a prior precision or a noise is judged by
_TRIED_ROWS = 10_000
_MOST_NUMBERS = 2**24  # of the information of rows that are added at a time
_AT_ONCE = 512  # rows of which the outputs of these draws are held
_MOST_ROUNDS = 100  # of learning the noise


class LastLayerLaplace(Posterior):
    """A normal approximation of the posterior of the last layer, around the trained weights [1]_.

    Let φ(x) be what enters the last ``nn.Linear``, with a 1 for its bias, and W its weights and
    biases. The draws of W are normal, with the trained weights as their mean and the covariance

        T · [Σ_n w_n F(x_n) ⊗ φ(x_n) φ(x_n)ᵀ + δ I]⁻¹,

    where F is the Fisher information of the outputs (`Likelihood.fisher`), w the sample weights, δ
    the prior precision and T the temperature. All other layers stay as they are and are evaluated
    once for each row. It needs one pass over the training rows after training, and none of
    training where the network is trained already: ``max_epochs=0``.

    The network must end in a plain ``nn.Linear`` that is called once, is not tied, and is followed
    by nothing. Every likelihood with a Fisher information will do: not `Quantile`,
    `MixtureOfGaussians` and ``StudentT(df="free")``.

    Draws 2k and 2k + 1 lie on opposite sides of the trained weights, at equal distance (an odd
    last one has no partner): the mean of an even number of them is the trained network's weights.
    Draw m does not depend on `n_draws`.

    Parameters
    ----------
    structure : {"auto", "full", "kronecker", "diagonal"}, default="auto"
        What is kept of the sum over the rows: all of it, one Kronecker product [2]_, or the
        diagonal. "auto": full up to 1000 weights and biases, else Kronecker.
    prior_precision : {"init", "evidence", "validation"} or float > 0, default="init"
        δ, of weights and biases:

        * "init": 3 · fan-in, fan-in the number of inputs of the layer: the precision with which
          ``nn.Linear`` draws its first weights and biases. Where the network works in the units of
          y itself (`standardise` of the likelihood), in units of the standard deviation of y;
        * "evidence": the maximiser of the marginal likelihood [3]_. Good for regressions. **Not
          for classifiers that separate their training rows**: there, F vanishes, δ is too small,
          and draws are much too wide;
        * "validation": the least mean negative log-likelihood of the mixture of 100 draws on the
          rows of early stopping, which it needs;
        * a number. With 1 / δ → 0 the draws become the trained network.
    n_draws : int, default=100
        Number of draws.
    temperature : float > 0, default=1.0
        T; less than 1 makes the draws closer to the trained network.

    Attributes
    ----------
    prior_precision_ : float
        δ, as it is used.
    structure_ : {"full", "kronecker", "diagonal"}
        The structure, as it is used.
    layer_ : str
        The name of the layer.

    Notes
    -----
    Sample weights count as an amount of data: weight 2 is the same as a row twice.

    One noise level for all rows (``heteroscedastic=False``) must be known before. It is the mean
    squared residual of the trained network on rows that training has not seen, as for
    `PointEstimate`. Without such rows (``max_epochs=0``, fewer than 10 rows) it is learnt on the
    training rows, in turns with the draws, until both fit each other: in a linear regression, the
    residual sum of squares over n − γ, γ the effective number of parameters.

    `partial_fit` is refused: the information of earlier rows would be about features that the
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
        head = _Head(network, self.layer_, problem)
        self.structure_ = self._chosen_structure(head)
        if problem.learn_noise(network):
            curvature = self._curvature(head, problem, head.rows(problem.batches(large=True)))
            self.prior_precision_ = self._precision(head, curvature, problem)
        else:
            curvature = self._learn_noise(head, problem)
        root, scale = curvature.root(self.prior_precision_), self.temperature**0.5
        pairs = -(-self.n_draws // 2)
        noise = head.noise(pairs, problem.seed())
        blocks = [head.drawn(scale * root(block)) for block in noise]
        return Draws(network, head.parameters(torch.cat(blocks)[: self.n_draws]))

    def _checked_layer(self, problem: Problem) -> str:
        """The name of the last layer; raises what cannot be done before hours of training."""
        layer, likelihood = _layer_of(problem.untrained(), problem), problem.likelihood
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

    def _chosen_structure(self, head: _Head) -> str:
        if self.structure != "auto":
            return self.structure
        return "full" if head.weight.numel() <= _MOST_FULL else "kronecker"

    def _curvature(self, head: _Head, problem: Problem, rows: Iterable[_Rows]) -> Curvature:
        """The information of the training rows, each as often as its weight says."""
        n_outputs, n_inputs = head.weight.shape
        curvature = STRUCTURES[self.structure_](n_outputs, n_inputs, head.device)
        size = max(1, _MOST_NUMBERS // n_outputs**2)
        for x, target, weight in (part for batch in rows for part in batch.parts(size)):
            information = problem.likelihood.information(head.outputs(x), target)
            curvature.add(x, head.units[:, None] * information * head.units, weight)
        curvature.scale(problem.n_rows / curvature.weight)
        return curvature

    # -- the prior -------------------------------------------------------------------------------

    def _precision(self, head: _Head, curvature: Curvature, problem: Problem) -> float:
        initial: float = 3.0 * head.fan_in
        if self.prior_precision == "init":
            return initial
        if self.prior_precision == "evidence":
            return best_evidence(curvature.eigenvalues(), head.weight)
        if self.prior_precision == "validation":
            rows = _together(head.rows(problem.batches(validation=True, large=True)))
            tried = head.tried(problem)
            return least(
                lambda precision: self._loss(head, curvature, problem, rows, tried, precision),
                initial * 1e-4,
                initial * 1e4,
            )
        return float(self.prior_precision)

    def _loss(
        self,
        head: _Head,
        curvature: Curvature,
        problem: Problem,
        rows: _Rows,
        tried: Tensor,
        precision: float,
    ) -> float:
        """The mean negative log-likelihood of the mixture of draws."""
        deviations: Tensor = self.temperature**0.5 * curvature.root(precision)(tried)
        total = 0.0
        for x, target, weight in rows.parts(_AT_ONCE):
            outputs = head.outputs_of_draws(x, deviations)
            targets = target.expand(len(outputs), *target.shape).flatten(0, 1)
            each = problem.likelihood.negative_log_likelihood(outputs.flatten(0, 1), targets)
            mixture = np.log(len(outputs)) - (-each.unflatten(0, outputs.shape[:2])).logsumexp(0)
            total += float((weight * mixture).sum())
        return total / float(rows.weight.sum())

    # -- the noise -------------------------------------------------------------------------------

    def _learn_noise(self, head: _Head, problem: Problem) -> Curvature:
        """Learn one noise level and the prior in turns with the draws, on the training rows."""
        rows, likelihood = _together(head.rows(problem.batches(large=True))), problem.likelihood
        tried, few = head.tried(problem), rows.every(-(-len(rows.x) // _TRIED_ROWS))
        known: Any = np.nan
        for _ in range(_MOST_ROUNDS):
            curvature = self._curvature(head, problem, [rows])
            self.prior_precision_ = self._precision(head, curvature, problem)
            now = likelihood.fisher(head.outputs(rows.x[:1])).cpu().numpy()
            if np.allclose(now, known, rtol=1e-10, atol=0):
                break
            known = now
            deviations = curvature.root(self.prior_precision_)(tried)
            outputs = head.outputs_of_draws(few.x, deviations)
            likelihood.finish(
                _evaluator(outputs), few.target.cpu().numpy(), few.weight.cpu().numpy(), True
            )
        return curvature


# -------------------------------------------------------------------------------------------------


class _Rows(NamedTuple):
    """Inputs of the last layer with a 1 for the bias, encoded targets and weights."""

    x: Tensor
    target: Tensor
    weight: Tensor

    def every(self, step: int) -> _Rows:
        return _Rows(*(tensor[::step] for tensor in self))

    def parts(self, size: int) -> Iterator[_Rows]:
        return map(_Rows, *(tensor.split(size) for tensor in self))


def _together(rows: Iterable[_Rows]) -> _Rows:
    return _Rows(*map(torch.cat, zip(*rows)))


def _layer_of(network: nn.Module, problem: Problem) -> str:
    try:
        return last_linear(network, problem.sample, problem.numerics, exactly=True)
    except ValueError as error:
        raise ValueError(
            f"LastLayerLaplace needs a network that ends in an nn.Linear, but of "
            f"{problem.report.name} {error}. Let the network return the outputs of a linear layer "
            "of its own, or choose MCDropout or DeepEnsemble"
        ) from None


class _Head:
    """The last layer of a network, as a matrix in float64, its biases as the last column.

    Each row is in the unit of its output (`Likelihood.output_units`), so that one prior precision
    does for all, whatever the units of y.
    """

    def __init__(self, network: nn.Module, name: str, problem: Problem) -> None:
        layer: Any = network.get_submodule(name)
        self._before = InputOf(private_copy(network), name)
        self._prefix = f"{name}." if name else ""
        self._numerics = problem.numerics
        self._dtype, place = layer.weight.dtype, layer.weight.device
        self.device = torch.device("cpu") if place.type == "mps" else place
        self.fan_in = layer.in_features
        self._has_bias = layer.bias is not None
        columns = [layer.weight, *([layer.bias[:, None]] if self._has_bias else [])]
        self.units = torch.as_tensor(problem.likelihood.output_units(), device=self.device)
        weight = torch.cat([c.detach().to(self.device).double() for c in columns], dim=1)
        self.weight = weight / self.units[:, None]

    @torch.no_grad()
    def rows(self, batches: Iterator[Batch]) -> Iterator[_Rows]:
        for batch in batches:
            x = call(self._before, batch[0], self._numerics).to(self.device).double()
            if self._has_bias:
                x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
            weight = x.new_ones(len(x)) if batch.weight is None else batch.weight.to(x)
            yield _Rows(x, batch[1].to(self.device), weight)

    def outputs(self, x: Tensor) -> Tensor:
        return x @ self.weight.mT * self.units

    def outputs_of_draws(self, x: Tensor, deviations: Tensor) -> Tensor:
        """Of draws on both sides, of shape (2 · n_pairs, n_rows, n_outputs)."""
        middle, apart = self.outputs(x), x @ deviations.mT * self.units
        return torch.cat([middle + apart, middle - apart])

    def noise(self, n_pairs: int, seed: int) -> Iterator[Tensor]:
        """Standard normal, in blocks of one size: one more pair does not change the others."""
        random = generator(seed)
        for _ in range(0, n_pairs, _PAIRS):
            yield torch.randn(_PAIRS, *self.weight.shape, generator=random, dtype=torch.float64).to(
                self.device
            )

    def tried(self, problem: Problem) -> Tensor:
        """The noise of draws that do not depend on how many are wanted."""
        seed = derive_seed(problem.seed(), Purpose.POSTERIOR)
        return torch.cat(list(self.noise(_TRIED_PAIRS, seed)))[:_TRIED_PAIRS]

    def drawn(self, deviations: Tensor) -> Tensor:
        """W in pairs of draws, of shape (2 · n_pairs, n_outputs, n_inputs)."""
        both = torch.stack([self.weight + deviations, self.weight - deviations], dim=1)
        drawn = both.flatten(0, 1) * self.units[:, None]
        return drawn.to(self._numerics.device, self._dtype)

    def parameters(self, drawn: Tensor) -> dict[str, Tensor]:
        """Of the layer, by their names in the network."""
        found = {f"{self._prefix}weight": drawn[..., : self.fan_in].contiguous()}
        if self._has_bias:
            found[f"{self._prefix}bias"] = drawn[..., -1].contiguous()
        return found


def _evaluator(outputs: Tensor) -> Callable[..., np.ndarray]:
    """What `Likelihood.finish` asks, of outputs that are known."""

    def evaluate(reduction: Any, *aligned: np.ndarray) -> np.ndarray:
        rows = (torch.as_tensor(values, device=outputs.device) for values in aligned)
        reduced: np.ndarray = reduction(outputs, *rows).cpu().numpy()
        return reduced

    return evaluate
