"""Samples of the posterior of all weights, by stochastic gradient Markov chain Monte Carlo."""

from __future__ import annotations

from math import cos, pi
from numbers import Integral, Real
from typing import Any, ClassVar

from torch import Tensor, nn

from skuq._engine._draws import Draws
from skuq._networks._dropout import dropout_layers
from skuq._networks._module import copied
from skuq._training._hooks import TrainingHook
from skuq._training._problem import Problem
from skuq._utils._sklearn_compat import Interval, StrOptions
from skuq.posteriors._base import Posterior
from skuq.posteriors._known_noise import settle_noise
from skuq.posteriors._langevin import Langevin, largest_curvature
from skuq.posteriors._weight_draws import epochs_of_a_walk, stacked_weights, trained_weights

__all__ = ["SGMCMC"]

_MOST, _STABLE = 0.01, 0.1  # learning rates: at most, and times the curvature
_FRICTION = {"sghmc": 0.1, "sgld": 1.0}


class SGMCMC(Posterior):
    """Samples of the posterior of all weights, by a Markov chain with gradients of minibatches.

    The chain has the stationary distribution

        p(θ | data) ∝ exp(−[Σ_n w_n NLL_n(θ) + ½ δ |θ|²] / T),

    up to the errors of finite steps and of minibatches, with sample weights w, the prior precision
    δ of all parameters and the temperature T. It begins at the trained network and runs in cycles,
    as in [3]_. The first half of a cycle has no noise, to find another mode, and the
    learning rate falls to a half, as that of a cosine. The second half samples at this rate, which
    stays constant: at the falling rate of the reference, late draws would repeat each other.

    Use it as a reference for other posteriors, for small networks and data: `lr` must suit the
    problem, and only long chains forget where they began.

    Parameters
    ----------
    sampler : {"sghmc", "sgld"}, default="sghmc"
        Stochastic gradient Hamiltonian Monte Carlo [2]_, with momentum and a friction of 0.1, or
        Langevin dynamics [1]_, without.
    n_cycles : int, default=5
        Number of cycles.
    n_draws_per_cycle : int, default=6
        Number of draws of each cycle, evenly over the epochs of its second half.
    n_epochs : int, default=None
        The epochs of each cycle, at least twice `n_draws_per_cycle`. None takes those that training
        took, over `n_cycles`, if that is more than this least number.
    lr : float > 0, default=None
        The learning rate η at the start of a cycle, of gradients of the mean loss as in plain SGD.
        None takes 0.1 over the largest curvature of the mean loss at the trained network, at most
        0.01: longer steps are unstable where the noise of y is small.
    prior_precision : float ≥ 0, default=1.0
        The prior precision δ; all parameters have the prior N(0, 1 / δ).
    temperature : float > 0, default=1.0
        The temperature T. Less than 1 is no longer a posterior, but often predicts better.

    Attributes
    ----------
    lr_ : float
        The learning rate in use.

    Raises
    ------
    ValueError
        In `fit`, if `n_epochs` is less than twice `n_draws_per_cycle`.
    DivergedError
        In `fit`, if the steps are too long: reduce `lr`.

    Notes
    -----
    The loss of the chain is the true negative log-likelihood of the likelihood, also where training
    minimises something else, as by default for `Gaussian`. Dropout is off. The running statistics
    of BatchNorm layers are computed anew for each draw; with BatchNorm, the posterior is only
    roughly the one above, because the loss of a row then depends on its batch.

    One noise level for all rows (``heteroscedastic=False``) must be known before. It comes from the
    trained network, on rows that training has not seen; without such rows (``max_epochs=0``, fewer
    than 10 rows) from the training rows, where it is rather too small.

    Sample weights count as an amount of data: weight 2 is the same as two equal rows. Draw m does
    not depend on `n_cycles` if `n_epochs` is given. Early stopping and callbacks only belong to
    training. `partial_fit` is not possible: the posterior would be that of the last rows.
    ``warm_start`` goes on from the trained network.

    References
    ----------
    .. [1] M. Welling, Y. W. Teh, "Bayesian Learning via Stochastic Gradient Langevin Dynamics",
       ICML 2011.
    .. [2] T. Chen, E. Fox, C. Guestrin, "Stochastic Gradient Hamiltonian Monte Carlo", ICML 2014,
       arXiv:1402.4102.
    .. [3] R. Zhang, C. Li, J. Zhang, C. Chen, A. Wilson, "Cyclical Stochastic Gradient MCMC for
       Bayesian Deep Learning", ICLR 2020, arXiv:1902.03932.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.posteriors import SGMCMC
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = TorchClassifier(posterior=SGMCMC(), lr=0.01, max_epochs=20, random_state=0)
    >>> classifier.fit(X, y).predict_draws(X).shape
    (30, 150, 3)
    """

    goes_on: ClassVar[bool] = False
    noise: ClassVar[str] = "before"
    quick: ClassVar[dict[str, Any]] = {
        "n_cycles": 1,
        "n_draws_per_cycle": 2,
        "n_epochs": 4,
        "lr": 1e-4,
    }

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "sampler": [StrOptions(set(_FRICTION))],
        "n_cycles": [Interval(Integral, 1, None, closed="left")],
        "n_draws_per_cycle": [Interval(Integral, 1, None, closed="left")],
        "n_epochs": [Interval(Integral, 1, None, closed="left"), None],
        "lr": [Interval(Real, 0, None, closed="neither"), None],
        "prior_precision": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    lr_: float

    def __init__(
        self,
        sampler: str = "sghmc",
        n_cycles: int = 5,
        n_draws_per_cycle: int = 6,
        n_epochs: int | None = None,
        lr: float | None = None,
        prior_precision: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        self.sampler = sampler
        self.n_cycles = n_cycles
        self.n_draws_per_cycle = n_draws_per_cycle
        self.n_epochs = n_epochs
        self.lr = lr
        self.prior_precision = prior_precision
        self.temperature = temperature

    def validate(self) -> None:
        super().validate()
        least = 2 * self.n_draws_per_cycle
        if self.n_epochs is not None and self.n_epochs < least:
            raise ValueError(
                f"n_epochs of SGMCMC must be at least 2 * n_draws_per_cycle = {least}, got "
                f"{self.n_epochs}: only the second half of a cycle is sampled, once in an epoch at "
                "most"
            )

    def fit(self, problem: Problem) -> Draws:
        (network,) = problem.train()
        settle_noise(problem, network)
        n_epochs = epochs_of_a_walk(
            self.n_epochs, network, problem, self.n_cycles, 2 * self.n_draws_per_cycle, "SGMCMC"
        )
        self.lr_ = self._chosen_rate(network, problem)
        state, kept = _without_dropout(network), []
        for cycle in range(self.n_cycles):
            seed = problem.seed(network=cycle)
            state = self._half(state, n_epochs // 2, 0.0, seed, problem)
            n_sampled = n_epochs - n_epochs // 2
            keeper = _Keeper(n_sampled, self.n_draws_per_cycle)
            state = self._half(state, n_sampled, self.temperature, seed, problem, keeper)
            kept += keeper.weights
        kept = kept or [trained_weights(network)]  # Ctrl-C
        return Draws(network, stacked_weights(network, kept, problem))

    def _chosen_rate(self, network: nn.Module, problem: Problem) -> float:
        if self.lr is not None:
            return self.lr
        return min(_MOST, _STABLE / max(largest_curvature(network, problem), _STABLE / _MOST))

    def _half(
        self,
        network: nn.Module,
        n_epochs: int,
        temperature: float,
        seed: int,
        problem: Problem,
        keeper: _Keeper | None = None,
    ) -> nn.Module:
        return problem.explore(
            network,
            n_epochs,
            Langevin,
            hook=keeper,
            schedule=_falling if keeper is None else _constant,
            likelihood_is_loss=True,
            lr=self.lr_,
            friction=_FRICTION[self.sampler],
            n_rows=problem.n_rows,
            prior_precision=self.prior_precision,
            temperature=temperature,
            seed=seed,
        )


def _falling(share: float) -> float:
    return (1 + cos(pi * share / 2)) / 2


def _constant(share: float) -> float:
    return 0.5


class _Keeper(TrainingHook):
    """Keeps the weights after some epochs, evenly spaced; the last epoch is one of them."""

    def __init__(self, n_epochs: int, n_draws: int) -> None:
        self.weights: list[dict[str, Tensor]] = []
        self._epochs = [-(-(k + 1) * n_epochs // n_draws) for k in range(n_draws)]

    def after_epoch(self, module: nn.Module, epoch: int) -> None:
        if epoch in self._epochs:
            self.weights.append(trained_weights(module))


def _without_dropout(network: nn.Module) -> nn.Module:
    """Copy a network, with all rates of dropout at zero."""
    copy = copied(network)
    for layer in dropout_layers(copy).values():
        layer.p = 0.0
    return copy
