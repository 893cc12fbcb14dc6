"""What is chosen where nothing is set: length, learning rate, posterior, network."""

import numpy as np
import pytest
import torch
from torch import nn

from skuq import TorchClassifier, TorchRegressor
from skuq._estimator._chosen import Chosen
from skuq.modules import MLP
from skuq.posteriors import DeepEnsemble, LastLayerLaplace, MCDropout, PointEstimate


def chosen(n_rows, **options):
    return Chosen.of(TorchRegressor(**options), np.arange(float(n_rows)))


def stops(model, target, groups=None):
    return Chosen.of(model, target, groups).patience is not None


@pytest.mark.parametrize(
    ("n_rows", "options", "epochs", "patience"),
    [
        (100, {}, 1000, 500),  # one step an epoch: at most 1,000 epochs
        (853, {}, 1000, 84),  # 768 to train on: 6 steps
        (2000, {}, 400, 34),  # 1,800 to train on: 15 steps
        (2000, {"batch_size": 32}, 106, 10),
        (2000, {"iterator_train__batch_size": 32}, 106, 10),
        (2000, {"validation_fraction": 0.5}, 750, 63),
        (100_000, {}, 100, 10),
        (2000, {"n_iter_no_change": 3}, 400, 3),
        (2000, {"early_stopping": False}, 100, None),
        (2000, {"max_epochs": 7}, 7, None),
        (2000, {"max_epochs": 7, "early_stopping": True}, 7, 34),
        (2000, {"max_epochs": 0}, 0, None),
    ],
)
def test_steps_decide_on_the_length(n_rows, options, epochs, patience):
    assert chosen(n_rows, **options)[:2] == (epochs, patience)


def test_early_stopping_chooses_to_be_on_where_it_can():
    model, target = TorchClassifier(), np.arange(30) % 2
    assert stops(model, target)
    assert not stops(model, target[:19])
    assert not stops(model, np.arange(30))  # nothing to set apart of any class
    assert stops(TorchRegressor(), np.arange(30.0))
    assert not stops(model, target, np.arange(30) // 2)  # 15 groups
    assert not stops(TorchClassifier(callbacks="disable"), target)
    assert chosen(19)[:2] == (100, None)


def test_the_learning_rate_suits_the_default_network():
    assert chosen(50).lr == chosen(50, module=MLP).lr == 3e-3
    assert chosen(50, module=nn.Linear).lr == 1e-3
    assert chosen(50, lr=0.1).lr == 0.1


def test_the_default_fit_stops_early_and_knows_its_noise():
    """Every row is set apart by a member; the best weights come back; intervals hold."""
    random = np.random.default_rng(0)
    X = random.normal(size=(500, 2))
    y = X[:, 0] + random.normal(size=500)
    model = TorchRegressor(random_state=0, module__hidden_layer_sizes=(16,), lr=0.02)
    model.set_params(max_epochs="auto", n_iter_no_change=15).fit(X[:250], y[:250])
    assert model.posterior_.n_members == len(model.histories_) == 5
    for history in model.histories_:
        losses = [epoch["valid_loss"] for epoch in history]
        assert len(history) - 1 - int(np.argmin(losses)) == 15
    interval = model.predict_interval(X[250:], confidence_level=0.9)
    inside = (interval[:, 0] <= y[250:]) & (y[250:] <= interval[:, 1])
    assert 0.85 <= inside.mean() <= 0.95


def test_dropout_only_where_the_posterior_samples_it(blobs):
    def rates(posterior, module=None, **options):
        model = TorchClassifier(module, posterior=posterior, max_epochs=1, **options).fit(*blobs)
        return {layer.p for layer in model.module_.modules() if isinstance(layer, nn.Dropout)}

    for posterior in (None, DeepEnsemble(1), PointEstimate(), LastLayerLaplace()):
        assert rates(posterior) == {0.0}
    assert rates(MCDropout(2)) == rates(MCDropout(2), MLP) == {0.1}
    assert rates(MCDropout(2), module__dropout=0.3) == {0.3}
    model = TorchClassifier(max_epochs=1).fit(*blobs)
    assert any(isinstance(layer, nn.SiLU) for layer in model.module_.modules())


def test_further_members_are_like_the_first_ones(blobs):
    """The network that begins has dropout; so have those that join it in a warm start."""
    model = TorchClassifier(posterior=MCDropout(2), warm_start=True, max_epochs=1, random_state=0)
    model.fit(*blobs).set_params(posterior=DeepEnsemble(2, n_jobs=1)).fit(*blobs)
    assert model._built.filled == {"activation": "silu", "dropout": 0.1}
    assert model._built.arguments["dropout"] == 0.1


def test_parts_of_a_training_take_one_epoch(blobs):
    X, y = blobs
    model = TorchClassifier(posterior=PointEstimate(), random_state=0)
    model.partial_fit(X, y).partial_fit(X, y)
    assert model.n_iter_ == 2 and "valid_loss" not in model.history_[0]


def test_too_few_rows_train_without_early_stopping():
    X = np.linspace(-1, 1, 12)[:, None]
    model = TorchRegressor(posterior=PointEstimate(), random_state=0, max_epochs="auto")
    model.set_params(callbacks="disable").fit(X, X.ravel())
    assert model.n_iter_ == 100 and torch.isfinite(model.module_[1].weight).all()
