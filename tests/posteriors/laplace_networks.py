"""Small networks and data for the Laplace approximation, and its dense matrix by autograd."""

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, jacrev

from skuq import TorchClassifier, TorchRegressor
from skuq.likelihoods import (
    Categorical,
    Gaussian,
    Laplace,
    Poisson,
    StochasticLogits,
    StudentT,
    UncertaintyAware,
)

DOUBLE = {"precision": "float64", "random_state": 0}
STRUCTURES = ("full", "kronecker", "diagonal")


class Net(nn.Sequential):
    """Three tanh features and a linear layer, trained elsewhere if weights are given."""

    def __init__(self, n_features, n_outputs, bias=True, weights=None):
        last = nn.Linear(3, n_outputs, bias=bias)
        super().__init__(nn.Linear(n_features, 3), nn.Tanh(), last)
        if weights is not None:
            self.load_state_dict(weights)


class Linear(nn.Linear):
    """A linear regression with given weights."""

    def __init__(self, n_features, n_outputs, weights=None):
        super().__init__(n_features, n_outputs, dtype=torch.float64)
        if weights is not None:
            with torch.no_grad():
                self.weight.copy_(weights[:, :-1])
                self.bias.copy_(weights[:, -1])


class Known(Gaussian):
    """Normal noise of known variance, in units of the standardised targets."""

    def __init__(self, variance=0.3):
        super().__init__(heteroscedastic=False)
        self.variance = variance

    def fit(self, *args, **kwargs):
        super().fit(*args, **kwargs)
        self.noise_variance_ = np.full(self.n_targets_, self.variance)
        return self

    @property
    def wants_unseen_rows(self):
        return False

    def finish(self, *args, **kwargs):
        pass


def stacked(fitted):
    """The draws of W and the bias as its last column, of shape (n_draws, n_outputs, n_inputs)."""
    tensors = fitted._engine.draws._tensors
    weight, bias = (
        next((t for name, t in tensors.items() if name.endswith(kind)), None)
        for kind in ("weight", "bias")
    )
    return weight if bias is None else torch.cat([weight, bias[..., None]], dim=-1)


def covariance(fitted):
    """Of W.flatten(), from draws that were made under `unit_noise`."""
    draws = stacked(fitted).flatten(1)
    deviations = (draws[::2] - draws[1::2]) / 2
    return deviations.T @ deviations


def trunk(fitted):
    return nn.Sequential(*list(fitted.module_)[:2])


def regression(n_rows=60):
    random = np.random.default_rng(0)
    X = random.normal(size=(n_rows, 3))
    y = 5 + X @ [1.0, -2.0, 0.5] + 0.7 * random.normal(size=n_rows)
    return X, y, random.uniform(0.5, 3, size=n_rows)


REGRESSIONS = [
    Gaussian(),
    Gaussian(min_variance=0.2, beta=0.0),
    Known(),
    Laplace(min_scale=0.1),
    StudentT(df=3.0),
    Poisson(),
]
CLASSIFICATIONS = [
    Categorical(),
    Categorical(label_smoothing=0.2),
    UncertaintyAware(),
    StochasticLogits(n_samples=4),
]


def two_tasks(likelihood, n_rows=24):
    random = np.random.default_rng(1)
    X = random.normal(size=(n_rows, 4))
    if likelihood.task == "classification":
        return X, np.arange(n_rows) % 3
    y = np.column_stack([X[:, 0] + random.normal(size=n_rows), X[:, 1] * X[:, 2]])
    return X, np.round(np.exp(y)) if isinstance(likelihood, Poisson) else 10 * y


def estimator(likelihood, module=Net, **options):
    cls = TorchClassifier if likelihood.task == "classification" else TorchRegressor
    options = {"max_epochs": 5, "lr": 0.05, **DOUBLE, **options}
    return cls(module, likelihood=likelihood, **options)


def dense(fitted, X, weight):
    """The Gauss-Newton matrices of all rows by autograd, of shape (n_rows, n_weights, n_weights).

    Of classes, from gradients of the negative log-likelihood in the weights themselves.
    """
    network, likelihood = fitted.module_, fitted.likelihood_
    names = [n for n, _ in network.named_parameters() if n.startswith("2.")]
    own = {n: p.detach() for n, p in network.named_parameters()}
    last = {n: own[n] for n in names}

    def flat(gradients):
        """Of the rows of W and the bias beside them."""
        lead = gradients["2.weight"].shape[:-2]
        parts = [gradients["2.weight"]]
        if "2.bias" in gradients:
            parts.append(gradients["2.bias"][..., None])
        return torch.cat(parts, -1).reshape(*lead, -1)

    def outputs(last, x):
        return functional_call(network, {**own, **last}, (x[None],))

    total = []
    for x, w in zip(torch.as_tensor(X), weight):
        if likelihood.task == "regression":
            J = flat(jacrev(lambda last, x=x: outputs(last, x)[0])(last))
            F = likelihood.fisher(outputs(last, x))[0]
            total.append(w * J.T @ F @ J)
            continue
        proba = likelihood.predictive(outputs(last, x)).probs[0]
        each = 0
        for label, p in enumerate(proba):
            target = torch.tensor([label])
            loss = jacrev(
                lambda last, x=x, t=target: likelihood.negative_log_likelihood(outputs(last, x), t)[
                    0
                ]
            )
            g = flat(loss(last))
            each = each + p * torch.outer(g, g)
        total.append(w * each)
    return torch.stack(total)
