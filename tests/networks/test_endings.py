"""Networks that squash their outputs before the likelihood does it itself."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skuq import TorchClassifier, TorchRegressor
from skuq.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    Poisson,
    Quantile,
    StochasticLogits,
    StudentT,
    UncertaintyAware,
)
from skuq.posteriors import PointEstimate


class Ending(nn.Module):
    """A linear layer, and something after it."""

    def __init__(self, end, n_features, n_outputs):
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)
        self.end = end

    def forward(self, x):
        return self.end(self.linear(x))


def fit(likelihood, end):
    random = np.random.default_rng(0)
    X = random.normal(size=(30, 3)).astype(np.float32)
    options = {"module": Ending, "module__end": end, "max_epochs": 1, "random_state": 0}
    options |= {"likelihood": likelihood, "posterior": PointEstimate()}
    if likelihood.task == "classification":
        return TorchClassifier(**options).fit(X, np.arange(30) % 2)
    return TorchRegressor(**options).fit(X, random.poisson(2.0, 30).astype(float))


def last(function):
    """Only the last column of the outputs."""
    return lambda x: torch.cat([x[..., :-1], function(x[..., -1:])], dim=-1)


@pytest.mark.parametrize(
    ("likelihood", "end", "message"),
    [
        (Bernoulli(), nn.Sigmoid(), "Ending ends in sigmoid.*loss applies sigmoid itself"),
        (Bernoulli(), torch.sigmoid, "remove the sigmoid"),
        (Bernoulli(), lambda x: torch.sigmoid_(x)[:, 0], "ends in sigmoid"),
        (Bernoulli(), lambda x: (torch.sigmoid(x.squeeze(-1)), x), "ends in sigmoid"),
        (Bernoulli(), lambda x: 1 / (1 + torch.exp(-x)), "ends in sigmoid"),
        (Bernoulli(), lambda x: (1 + (-x).exp()) ** -1, "ends in sigmoid"),
        (Bernoulli(), lambda x: x.exp() / (1 + x.exp()), "ends in sigmoid"),
        (Categorical(), lambda x: (1 + (-x).exp()).reciprocal(), "ends in sigmoid"),
        (Bernoulli(), nn.LogSigmoid(), "ends in logsigmoid"),
        (Bernoulli(), nn.ReLU(), "ends in relu"),
        (Bernoulli(), nn.Softplus(), "ends in softplus"),
        (Categorical(), nn.Sigmoid(), "ends in sigmoid.*loss applies softmax itself"),
        (Categorical(), nn.Softmax(-1), "ends in softmax"),
        (Categorical(), nn.LogSoftmax(-1), "ends in log_softmax"),
        (StochasticLogits(), nn.Softmax(-1), "ends in softmax"),
        (StochasticLogits(), last(F.softplus), "outputs 4 of 4 lie above 0.*applies exp itself"),
        (UncertaintyAware(link="softmax"), nn.Sigmoid(), "ends in sigmoid"),
        (UncertaintyAware(), last(torch.exp), "outputs 3 of 3"),
        (Poisson(), torch.exp, "ends in exp.*likelihood applies exp itself"),
        (Poisson(), nn.Softplus(), "ends in softplus"),
        (Gaussian(), last(F.softplus), "ends in softplus: its outputs 2 of 2"),
        (Laplace(), last(torch.exp), "ends in exp"),
        (StudentT(), last(torch.sigmoid), "ends in sigmoid"),
        (MixtureOfGaussians(2), last(torch.exp), "outputs 6 of 6"),
        (MixtureOfGaussians(2), nn.Softmax(-1), "ends in softmax"),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_what_the_likelihood_does_itself_is_refused(likelihood, end, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of further columns
        with pytest.raises(ValueError, match=message):
            fit(likelihood, end)


@pytest.mark.parametrize(
    ("likelihood", "end", "message"),
    [
        (Categorical(), nn.ReLU(), "ends in relu: its outputs lie at least 0.*remove the relu"),
        (Categorical(), nn.Tanh(), "ends in tanh"),
        (Categorical(), nn.Softsign(), "ends in softsign"),
        (Gaussian(heteroscedastic=False), lambda x: x / (1 + x.abs()), "ends in softsign"),
        (Bernoulli(), lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()), "ends in tanh"),
        (Bernoulli(), nn.GELU(), "ends in gelu"),
        (Bernoulli(), nn.Hardtanh(), "ends in hardtanh"),
        (Poisson(), nn.ReLU(), "ends in relu"),
        (Gaussian(heteroscedastic=False), nn.ReLU(), "standardised inside.*use Poisson"),
        (Gaussian(heteroscedastic=False), nn.Sigmoid(), "ends in sigmoid"),
        (Gaussian(heteroscedastic=False), lambda x: x.clamp(min=0), "ends in clamp"),
        (Quantile((0.1, 0.5, 0.9)), nn.Softplus(), "ends in softplus"),
        (Gaussian(), last(torch.tanh), "outputs 2 of 2"),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_what_keeps_outputs_from_values_is_warned_of(likelihood, end, message):
    with pytest.warns(UserWarning, match=message):
        fit(likelihood, end)


@pytest.mark.parametrize(
    ("likelihood", "end"),
    [
        (Categorical(), nn.Identity()),
        (Categorical(), nn.LeakyReLU()),
        (Categorical(), lambda x: 5 * torch.tanh(x)),
        (Categorical(), lambda x: x.clamp(-30, 30)),
        (Bernoulli(), nn.Identity()),
        (Bernoulli(), lambda x: 1e-5 * x),  # where tanh is the identity
        (Bernoulli(), lambda x: x * 1.0 + 0.0),
        (Gaussian(heteroscedastic=False), lambda x: x / (1 + x.square())),
        (Bernoulli(), lambda x: torch.logit(torch.sigmoid(x))),
        (UncertaintyAware(log_variance="constant"), nn.Softmax(-1)),
        (UncertaintyAware(), lambda x: torch.cat([x[:, :2].softmax(-1), x[:, 2:]], -1)),
        (Gaussian(), lambda x: torch.stack([x[:, 0], F.softplus(x[:, 1]).log()], -1)),
        (Gaussian(heteroscedastic=False), lambda x: 3 * torch.relu(x) - 1),
        (Poisson(), lambda x: F.softplus(x).log()),
        (MixtureOfGaussians(2), lambda x: torch.cat([x[:, :2].log_softmax(-1), x[:, 2:]], -1)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_no_false_alarm(likelihood, end):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(likelihood, end)
