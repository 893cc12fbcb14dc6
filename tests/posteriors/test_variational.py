"""Variational inference: its noise, its divergence, and the optimum of a linear regression."""

import numpy as np
import pytest
import torch
from skorch.callbacks import LRScheduler
from torch import nn

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.likelihoods import Gaussian
from skuq.posteriors import DeepEnsemble, PointEstimate, Variational
from skuq.posteriors._variational_layers import (
    KINDS,
    divergence,
    make_plain,
    make_variational,
    variational_layers,
)
from tests.networks import ConvNet
from tests.posteriors.toys import KnownNoise, exact_posterior

OPTIONS = {
    "module__hidden_layer_sizes": (8,),
    "lr": 0.01,
    "max_epochs": 3,
    "batch_size": 60,
    "random_state": 0,
}


def variational(module, scale=0.3):
    make_variational(module, KINDS["linear+conv"], scale)
    with torch.no_grad():
        for mean, log_scale in variational_layers(module).values():
            mean.normal_()
            log_scale.normal_(np.log(scale), 0.3)
    return module


# -- layers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Linear(4, 2), (4,)),
        (lambda: nn.Linear(4, 2, bias=False), (4,)),
        (lambda: nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5)),
        (lambda: nn.Conv2d(2, 4, 2, stride=2, groups=2), (2, 4, 4)),
        (lambda: nn.Conv3d(1, 2, 2), (1, 3, 2, 2)),
    ],
)
def test_outputs_have_the_moments_of_random_weights(layer, shape):
    torch.manual_seed(0)
    network = variational(layer())
    x = torch.randn(2, *shape)
    layers = variational_layers(network).items()
    parameters = {name: (mean.detach(), log_sd.detach().exp()) for name, (mean, log_sd) in layers}
    with torch.no_grad():
        noisy = network.train()(x.repeat_interleave(2000, 0)).unflatten(0, (2, 2000))
        network.eval()
        mean = network(x)
        assert type(make_plain(network)) is type(layer())
        assert torch.equal(network(x), mean)
        variance = torch.zeros_like(mean)  # each weight by itself: outputs are linear in it
        for name, (value, sd) in parameters.items():
            for place in range(value.numel()):
                moved = value.flatten().clone()
                moved[place] += sd.flatten()[place]
                changed = {name: moved.view_as(value)}
                variance += (torch.func.functional_call(network, changed, x) - mean).square()
    sd = variance.sqrt()
    assert ((noisy.mean(1) - mean).abs() < 4.5 * sd / 2000**0.5).all()
    torch.testing.assert_close(noisy.std(1), sd, rtol=0.09, atol=0)


def test_the_divergence_is_that_of_torch():
    torch.manual_seed(0)
    network = variational(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Conv1d(4, 2, 2)))
    expected = 0.0
    for name, (mean, log_scale) in variational_layers(network).items():
        fan_in = mean[0].numel()
        assert fan_in == {"0.weight": 3, "2.weight": 8}.get(name, 1)
        q = torch.distributions.Normal(mean, log_scale.exp())
        p = torch.distributions.Normal(0.0, 1.7 / fan_in**0.5)
        expected = expected + torch.distributions.kl_divergence(q, p).sum()
    found = divergence(network, 1.7)
    torch.testing.assert_close(found, expected)
    parameters = list(network.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters)
    ):
        torch.testing.assert_close(ours, theirs)


def test_no_divergence_from_itself():
    network = nn.Linear(4, 3)
    make_variational(network, KINDS["linear"], 0.5)
    with torch.no_grad():
        for mean, log_scale in variational_layers(network).values():
            mean.zero_()
            log_scale.fill_(np.log(2.0 / mean[0].numel() ** 0.5))
    found = divergence(network, 2.0)
    assert float(found.detach()) == pytest.approx(0, abs=1e-6)
    for gradient in torch.autograd.grad(found, list(network.parameters())):
        assert gradient.abs().max() < 1e-6


# -- the posterior ---------------------------------------------------------------------------------


class Regressions(nn.Sequential):
    """A linear regression for each target."""

    def __init__(self, n_features, n_outputs):
        super().__init__(nn.Linear(n_features, n_outputs))


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_the_optimum_of_linear_regressions(weight):
    """q has the mean of the posterior, and as precisions the diagonal of its precision."""
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 2)) @ [[1.0, 0.4], [0.0, 0.7]]
    y = X @ random.normal(size=(2, 8)) + 0.5 * random.normal(size=(60, 8))
    n_epochs, n_copies = 300, 30  # copies of small weight make gradients less noisy
    regressor = TorchRegressor(
        Regressions, posterior=Variational(prior_scale=0.8, initial_scale=0.1, kl_weight=1.0),
        likelihood=KnownNoise(), lr=0.03, max_epochs=n_epochs, batch_size=1800, random_state=0,
        callbacks=[LRScheduler("CosineAnnealingLR", T_max=n_epochs)],
    )  # fmt: skip
    copies = np.tile(np.arange(60), n_copies)
    sample_weight = np.full(60 * n_copies, weight / n_copies)
    regressor.fit(X[copies], y[copies], sample_weight=sample_weight)
    layers = variational_layers(regressor.module_)
    found, log_scale = (
        torch.cat([layers["0.weight"][k], layers["0.bias"][k][:, None]], dim=1).detach().numpy()
        for k in (0, 1)
    )
    prior = [2 / 0.64, 2 / 0.64, 1 / 0.64]
    mean, precision = exact_posterior(X, y, 0.5, prior, weight)
    sd = 1 / np.sqrt(np.diag(precision))
    np.testing.assert_allclose(np.exp(log_scale), np.tile(sd, (8, 1)), rtol=0.05)
    assert (np.abs(found - mean.T) < 0.15 * sd).all()


def test_draws_are_of_these_weights(blobs):
    X, y = blobs
    fitted = TorchClassifier(posterior=Variational(n_draws=1500), **OPTIONS).fit(X, y)
    tensors = fitted._engine.draws.tensors(0, 1500)
    layers = variational_layers(fitted.module_)
    assert tensors.keys() == layers.keys()
    for name, (mean, log_scale) in layers.items():
        standard = (tensors[name] - mean.detach()) / log_scale.detach().exp()
        assert standard.mean(0).abs().max() < 5 / 1500**0.5
        assert (standard.std(0) - 1).abs().max() < 0.1


def test_dropout_is_off(blobs):
    X, y = blobs
    fitted = TorchClassifier(posterior=Variational(), module__dropout=0.5, **OPTIONS).fit(X, y)
    assert all(layer.p == 0 for layer in fitted.module_.modules() if isinstance(layer, nn.Dropout))


class Normalised(nn.Sequential):
    def __init__(self, n_features, n_outputs):
        super().__init__(
            nn.Linear(n_features, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, n_outputs)
        )


def test_it_learns_with_batch_normalisation(diabetes):
    X, y = diabetes
    regressor = TorchRegressor(
        Normalised, posterior=Variational(n_draws=20), lr=0.02, max_epochs=30, batch_size=32,
        random_state=0,
    )  # fmt: skip
    assert regressor.fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.4
    assert regressor._engine.draws.tensors(0, 20)["1.running_var"].std(0).min() > 0


def test_convolutions(untouched_globals):
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 1, 8, 8)).astype(np.float32)
    y = np.arange(60) % 3
    X[y == 1, :, :4] += 1.5
    X[y == 2, :, 4:] += 1.5
    options = {"lr": 0.02, "max_epochs": 25, "batch_size": 30, "random_state": 0}
    for layers, expected in (("conv", "conv"), ("linear", "linear")):
        posterior = Variational(layers, n_draws=5, kl_weight=0.01)
        fitted = TorchClassifier(ConvNet, posterior=posterior, **options).fit(X, y)
        found = {
            type(fitted.module_.get_submodule(name.rpartition(".")[0])).__name__.lower()
            for name in variational_layers(fitted.module_)
        }
        assert found and all(expected in kind for kind in found)
        assert fitted.score(X, y) > 0.8
        assert fitted.predict_uncertainty(X, kind="epistemic").min() > 0


@pytest.mark.parametrize("early_stopping", [False, True])
def test_one_noise_level_is_known_before(early_stopping):
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 2))
    y = 3 * X[:, 0] + 0.5 * random.normal(size=200)
    regressor = TorchRegressor(
        Regressions, posterior=Variational(), likelihood=Gaussian(False), lr=0.03, max_epochs=20,
        early_stopping=early_stopping, validation_fraction=0.3, random_state=0,
    ).fit(X, y)  # fmt: skip
    assert (
        0.15 < regressor.likelihood_.noise_variance_[0] * regressor.likelihood_.scale_[0] ** 2 < 0.4
    )
    assert regressor.score(X, y) > 0.95
    assert regressor.predict_uncertainty(X, kind="epistemic").min() > 0


def test_a_weak_divergence_and_a_small_scale_are_the_network(blobs):
    X, y = blobs
    posterior = Variational(kl_weight=1e-12, initial_scale=1e-7)
    options = {**OPTIONS, "module__dropout": 0.0}
    fitted = TorchClassifier(posterior=posterior, **options).fit(X, y)
    point = TorchClassifier(posterior=PointEstimate(), **options).fit(X, y)
    np.testing.assert_allclose(fitted.predict_proba(X), point.predict_proba(X), atol=1e-3)


def test_features_and_saving(blobs, tmp_path):
    X, y = blobs
    fitted = TorchClassifier(posterior=Variational(n_draws=3), **OPTIONS).fit(X, y)
    assert skuq.predict_features(fitted, X).shape == (240, 8)
    skuq.save(fitted, tmp_path / "m.skuq")
    loaded = skuq.load(tmp_path / "m.skuq")
    np.testing.assert_array_equal(loaded.predict_draws(X), fitted.predict_draws(X))
    np.testing.assert_array_equal(loaded.fit(X, y).predict_proba(X), fitted.predict_proba(X))


# -- what is refused -------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.first = nn.Linear(n_features, n_features)
        self.second = nn.Linear(n_features, n_features)
        self.second.weight = self.first.weight
        self.last = nn.Linear(n_features, n_outputs)

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu())


def test_what_is_refused(blobs):
    X, y = blobs
    with pytest.raises(ValueError, match=r"'first\.weight' and 'second\.weight' are one"):
        TorchClassifier(Tied, posterior=Variational()).fit(X, y)
    with pytest.raises(ValueError, match="finds no Conv1d or Conv2d or Conv3d layer in MLP"):
        TorchClassifier(posterior=Variational("conv")).fit(X, y)
    with pytest.raises(ValueError, match="learns the deviations of weights in training"):
        TorchClassifier(posterior=Variational(), max_epochs=0).fit(X, y)
    with pytest.raises(ValueError, match="The 'layers' parameter of Variational"):
        TorchClassifier(posterior=Variational("all")).fit(X, y)
    for bad in ({"prior_scale": 0.0}, {"initial_scale": 0.0}, {"kl_weight": 0.0}, {"n_draws": 0}):
        with pytest.raises(ValueError, match=f"The '{next(iter(bad))}' parameter of Variational"):
            TorchClassifier(posterior=Variational(**bad)).fit(X, y)


def test_stacks_can_train_by_the_likelihood(diabetes):
    """As networks by themselves do."""
    from skuq.posteriors import Draws, Posterior
    from skuq.posteriors._members import stacked_members

    class ByLikelihood(Posterior):
        def __init__(self, n_jobs=None):
            self.n_jobs = n_jobs

        def fit(self, problem):
            networks = problem.train(2, n_jobs=self.n_jobs, likelihood_is_loss=True)
            return Draws(networks[0], stacked_members(networks, problem), networks="draws")

    X, y = diabetes
    options = {**OPTIONS, "precision": "float64"}
    found = [
        TorchRegressor(posterior=posterior, **options).fit(X, y).predict_draws(X)
        for posterior in (ByLikelihood(), ByLikelihood(n_jobs=1), DeepEnsemble(2))
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-7)
    assert np.abs(found[0] - found[2]).max() > 1
