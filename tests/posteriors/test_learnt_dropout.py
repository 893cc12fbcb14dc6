"""Learnt rates of dropout: in which direction training moves them, and all that goes with a fit."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq._networks._dropout import Sampler, driven
from skuq.likelihoods import Gaussian
from skuq.modules import ConcreteDropout
from skuq.posteriors import SGMCMC, DeepEnsemble, MCDropout, Variational

RANDOM = np.random.default_rng(0)
X = RANDOM.uniform(-2, 2, size=(400, 1))
NOISE = RANDOM.normal(size=400)


class Net(nn.Sequential):
    def __init__(self, n_features, n_outputs):
        super().__init__(
            nn.Linear(n_features, 20), nn.ReLU(), ConcreteDropout(nn.Linear(20, 20)), nn.ReLU(),
            ConcreteDropout(nn.Linear(20, n_outputs)),
        )  # fmt: skip


class ConvNet(nn.Sequential):
    def __init__(self, n_outputs=2):
        super().__init__(
            nn.Conv2d(1, 6, 3), nn.ReLU(), ConcreteDropout(nn.Conv2d(6, 5, 3), p=0.3),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, n_outputs),
        )  # fmt: skip


def regressor(n_epochs=4, posterior=None, **options):
    posterior = MCDropout(6) if posterior is None else posterior
    options = {"lr": 0.01, "batch_size": 32, "random_state": 0, **options}
    return TorchRegressor(Net, posterior=posterior, max_epochs=n_epochs, **options)


def curve(n_rows, noise):
    return X[:n_rows], np.sin(2 * X[:n_rows, 0]) + noise * NOISE[:n_rows]


def rates(model):
    return np.array(list(model.network_.dropout_layers.values()))


@pytest.fixture(scope="module")
def fitted():
    return regressor().fit(*curve(100, 0.3))


def test_more_rows_and_less_noise_make_rates_smaller():
    """About the same number of steps each, 130, with 2 batches an epoch or 13."""
    few_noisy = rates(regressor(65, lr=0.02).fit(*curve(50, 1.0)))
    many_noisy = rates(regressor(10, lr=0.02).fit(*curve(400, 1.0)))
    many_clear = rates(regressor(10, lr=0.02).fit(*curve(400, 0.1)))
    assert (few_noisy > 0.3).all()  # from 0.1, towards the prior
    assert (many_noisy < 0.8 * few_noisy).all()
    assert (many_clear < 0.5 * many_noisy).all()


def test_weights_count_as_rows():
    X, y = curve(50, 1.0)
    one, ten = (regressor(60).fit(X, y, sample_weight=np.full(50, w)) for w in (1.0, 10.0))
    assert (rates(ten) < 0.8 * rates(one)).all()


def test_the_fixed_masks_have_the_learnt_rate():
    model = regressor(4, MCDropout(2_000)).fit(*curve(100, 0.3))
    for mask, keep in model._engine.draws.masks(0, 2_000):
        p = torch.sigmoid(model.module_.get_submodule(mask.layer).logit).item()
        assert p != pytest.approx(0.1, abs=1e-3)
        assert set(keep.unique().tolist()) == {0.0, 1.0}
        deviation = (p * (1 - p) / keep.numel()) ** 0.5
        assert keep.mean().item() == pytest.approx(1 - p, abs=5 * deviation)


def test_a_draw_is_the_network_under_its_masks():
    """With the rate in 1 / (1 − p). Masks of linear layers are on their weights."""
    model = regressor(4, likelihood=Gaussian(standardise=False)).fit(*curve(100, 0.3))
    x = torch.as_tensor(X[:7], dtype=torch.float32)
    first, _, second, _, third = model.module_
    (a, keep_a), (b, keep_b) = model._engine.draws.masks(0, 6)
    draws = model.predict_draws(X[:7])
    for k in range(6):
        hidden = first(x).relu() * keep_a[k] / (1 - a.p)
        hidden = second.layer(hidden).relu() * keep_b[k] / (1 - b.p)
        np.testing.assert_allclose(draws[k], third.layer(hidden)[:, :1].detach(), rtol=1e-4)


def test_it_is_repeatable_and_pure(fitted):
    again = regressor().fit(*curve(100, 0.3))
    draws = fitted.predict_draws(X)
    np.testing.assert_array_equal(again.predict_draws(X), draws)
    np.testing.assert_array_equal(fitted.predict_draws(X), draws)
    np.testing.assert_allclose(fitted.predict_draws(X[5:9]), draws[:, 5:9], rtol=1e-4, atol=1e-6)
    assert draws.std(0).min() > 0


def test_copies_and_files_keep_the_rates(fitted, tmp_path):
    assert rates(fitted).tolist() != [pytest.approx(0.1)] * 2
    skuq.save(fitted, tmp_path / "model.skuq")
    loaded = skuq.load(tmp_path / "model.skuq", module=Net)
    for other in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted), loaded):
        np.testing.assert_array_equal(rates(other), rates(fitted))
        np.testing.assert_array_equal(other.predict_draws(X), fitted.predict_draws(X))
    refitted = clone(fitted).fit(*curve(100, 0.3))
    np.testing.assert_array_equal(rates(refitted), rates(fitted))


def test_going_on_moves_rates_further():
    X, y = curve(50, 1.0)
    model = regressor(20, warm_start=True).fit(X, y)
    before = rates(model)
    assert (rates(model.fit(X, y)) > before).all()
    before = rates(model)
    assert (rates(model.partial_fit(X, y)) != before).all()


def test_before_a_convolution_whole_channels_are_dropped():
    images = RANDOM.normal(size=(20, 1, 8, 8)).astype(np.float32)
    model = TorchClassifier(ConvNet, posterior=MCDropout(4), max_epochs=2, random_state=0)
    model.fit(images, np.arange(20) % 2)
    ((mask, keep),) = model._engine.draws.masks(0, 4)
    assert (mask.layer, tuple(keep.shape)) == ("2.dropout", (4, 6, 1, 1))
    first, _, second, *rest = model.module_
    hidden = first(torch.as_tensor(images)).relu()
    for one, proba in zip(keep, model.predict_draws(images)):
        outputs = nn.Sequential(*rest)(second.layer(hidden * one / (1 - mask.p)))
        np.testing.assert_allclose(proba, outputs.softmax(1).detach(), rtol=1e-4)
    assert mask.p != pytest.approx(0.3, abs=1e-4)
    layer = ConcreteDropout(nn.Conv2d(6, 5, 3), p=0.5).train()
    with driven(layer, Sampler(torch.Generator().manual_seed(0))):
        dropped = layer.dropout(torch.ones(30, 6, 4, 4))
    assert dropped.flatten(2).var(2).max() == 0
    assert dropped.var() > 0.5


@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_precisions(precision):
    model = regressor(2, precision=precision).fit(*curve(50, 0.3))
    assert model.module_[2].dropout.logit.dtype == model.module_[0].weight.dtype
    assert (rates(model) != 0.1).all()
    assert np.isfinite(model.predict_draws(X)).all()


@pytest.mark.parametrize(
    "posterior",
    [DeepEnsemble(2), SGMCMC(n_cycles=2, n_draws_per_cycle=1), Variational(n_draws=3)],
    ids=lambda p: type(p).__name__,
)
def test_other_posteriors_train_such_networks(posterior):
    model = regressor(2, posterior).fit(*curve(50, 0.3))
    assert np.isfinite(model.predict_draws(X)).all()
    assert model.predict_draws(X).std(0).max() > 0


def test_a_noise_that_is_not_known_is_refused():
    model = regressor(1, likelihood=Gaussian(heteroscedastic=False))
    with pytest.raises(ValueError, match="let the network predict the noise"):
        model.fit(*curve(50, 0.3))
