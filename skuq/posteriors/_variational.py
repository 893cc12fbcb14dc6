"""Variational inference: independent normal weights that training fits to the posterior."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skuq._data._batches import Batch
from skuq._engine._draws import Draws
from skuq._networks._dropout import dropout_layers
from skuq._networks._module import copied
from skuq._training._hooks import TrainingHook
from skuq._training._problem import Problem
from skuq._utils._random import generator
from skuq._utils._saved_names import saved_as
from skuq._utils._sklearn_compat import Interval, StrOptions
from skuq.posteriors._base import Posterior
from skuq.posteriors._known_noise import settle_noise
from skuq.posteriors._variational_layers import (
    KINDS,
    divergence,
    make_plain,
    make_variational,
    variational_layers,
)
from skuq.posteriors._weight_draws import Weights, stacked_weights

__all__ = ["Variational"]


class Variational(Posterior):
    """Independent normal weights, trained to be close to the posterior ("Bayes by backprop" [1]_).

    The weights and biases of some layers get a mean μ and a deviation σ each, q = Π N(μ_i, σ_i²).
    Training minimises, divided by the amount of data n,

        E_q[Σ_n w_n NLL_n] + kl_weight · KL(q ‖ p),

    with sample weights w; for ``kl_weight=1`` it is the negative evidence lower bound. The prior p
    of a weight is N(0, prior_scale² / fan-in), that of a bias N(0, prior_scale²). In training,
    the outputs of these layers get noise for each row, with the variance Σ x² σ² that random
    weights give them (local reparametrisation [2]_). After training, `fit` draws weights from q.

    Parameters
    ----------
    layers : {"linear+conv", "linear", "conv"}, default="linear+conv"
        The layers with random weights: ``nn.Linear``, ``nn.Conv1d`` to ``nn.Conv3d``, or both. All
        other parameters are trained as usual.
    prior_scale : float > 0, default=3.0
        The standard deviation of the prior of biases, and of weights times the root of the fan-in
        of their layer. So the outputs have the same size a priori, however wide the layers are.
    initial_scale : float > 0, default=0.01
        The deviation σ of all weights at the start.
    kl_weight : float > 0, default=0.1
        The weight of the divergence. 1 is the bound of the evidence; but networks with more weights
        than rows then underfit, or do not learn at all.
    n_draws : int, default=50
        Number of draws. Draw m does not depend on it.

    Raises
    ------
    ValueError
        In `fit`, if the network has no such layer, if two layers share a weight, or with
        ``max_epochs=0``: the deviations are learnt in training.

    Notes
    -----
    The loss is the true negative log-likelihood, also for likelihoods that minimise something else
    by themselves, such as `Gaussian`. Dropout of the module is off in training, too. Early stopping
    watches the network with the mean weights. The running statistics of BatchNorm layers are
    computed anew for each draw.

    One noise level for all rows (``heteroscedastic=False``) must be known before. It comes from
    unseen rows, as for `LastLayerLaplace`. With early stopping, a network without noise on its
    weights is trained first, and training then goes on from it for as many epochs.

    With few rows, the divergence of all weights outweighs the likelihood: look at the training
    score. `docs/posteriors.md` has figures. Where a layer sees a row at several places
    (convolutions, sequences), the noise of training is independent between places, which is an
    approximation; draws share their weights between them.

    Sample weights count as an amount of data: weight 2 is the same as two equal rows.
    `partial_fit` is not possible: the posterior would be that of the last rows. ``warm_start`` goes
    on from the means and deviations.

    References
    ----------
    .. [1] C. Blundell, J. Cornebise, K. Kavukcuoglu, D. Wierstra, "Weight Uncertainty in Neural
       Networks", ICML 2015, arXiv:1505.05424.
    .. [2] D. Kingma, T. Salimans, M. Welling, "Variational Dropout and the Local Reparameterization
       Trick", NeurIPS 2015, arXiv:1506.02557.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.posteriors import Variational
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = TorchClassifier(
    ...     posterior=Variational(), lr=0.01, max_epochs=20, random_state=0
    ... ).fit(X, y)
    >>> classifier.predict_draws(X).shape
    (50, 150, 3)
    """

    goes_on: ClassVar[bool] = False
    noise: ClassVar[str] = "before"
    quick: ClassVar[dict[str, Any]] = {"n_draws": 5}

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "layers": [StrOptions(set(KINDS))],
        "prior_scale": [Interval(Real, 0, None, closed="neither")],
        "initial_scale": [Interval(Real, 0, None, closed="neither")],
        "kl_weight": [Interval(Real, 0, None, closed="neither")],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        layers: str = "linear+conv",
        prior_scale: float = 3.0,
        initial_scale: float = 0.01,
        kl_weight: float = 0.1,
        n_draws: int = 50,
    ) -> None:
        self.layers = layers
        self.prior_scale = prior_scale
        self.initial_scale = initial_scale
        self.kl_weight = kl_weight
        self.n_draws = n_draws

    def transform(self, module: nn.Module) -> nn.Module:
        make_variational(module, KINDS[self.layers], self.initial_scale)
        for layer in dropout_layers(module).values():
            layer.p = 0.0
        return module

    def fit(self, problem: Problem) -> Draws:
        network = self._trained(problem)
        weights = (_drawn(network, problem.seed(network=draw)) for draw in range(self.n_draws))
        tensors = stacked_weights(network, weights, problem)
        return _VariationalDraws(network, tensors)

    def _trained(self, problem: Problem) -> nn.Module:
        hook = _Divergence(self.prior_scale, self.kl_weight / problem.n_rows)
        if problem.knows_noise:
            (network,) = problem.train(hooks=[hook], likelihood_is_loss=True)
        else:
            (network,) = problem.train()
        n_epochs = problem.n_epochs(network)
        if n_epochs == 0:
            raise ValueError(
                "Variational learns the deviations of weights in training, but with max_epochs=0 "
                "nothing trains: set max_epochs, or choose LastLayerLaplace for a network that is "
                "trained already"
            )
        if problem.knows_noise:
            return network
        settle_noise(problem, network)
        start = copied(network)
        with torch.no_grad():
            for _, log_scale in variational_layers(start).values():
                log_scale.fill_(self.initial_scale).log_()
        return problem.explore(start, n_epochs, hook=hook, likelihood_is_loss=True)


class _Divergence(TrainingHook):
    """Adds the divergence from the prior to the mean loss."""

    def __init__(self, prior_scale: float, weight: float) -> None:
        self._prior_scale = prior_scale
        self._weight = weight

    def penalty(self, module: nn.Module, batch: Batch) -> Tensor:
        return self._weight * divergence(module, self._prior_scale)


def _drawn(network: nn.Module, seed: int) -> Weights:
    """Draw the weights of all variational layers."""
    random = generator(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=random, dtype=like.dtype).to(like.device)

    return {
        name: mean.detach() + log_scale.detach().exp() * noise(mean)
        for name, (mean, log_scale) in variational_layers(network).items()
    }


@saved_as("variational stack")
class _VariationalDraws(Draws):
    """Draws of the weights of variational layers, which are evaluated as plain ones."""

    def shell(self) -> nn.Module:
        return make_plain(super().shell())
