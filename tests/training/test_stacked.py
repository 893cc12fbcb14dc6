"""Networks trained as one stack: as if each had been trained alone, and only where that holds."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from skorch.callbacks import LRScheduler
from torch import nn

from skuq import TorchClassifier, TorchRegressor
from skuq._training import _stack, _trainer
from skuq.likelihoods import Categorical
from skuq.posteriors import DeepEnsemble
from tests import networks


class Scaled(nn.Module):
    """Parameters of its own, broadcast over rows: no layer knows an axis of networks."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(n_features))
        self.register_buffer("shift", torch.randn(n_features))
        self.layer = nn.Linear(n_features, n_outputs, bias=False)

    def forward(self, x):
        return self.layer(torch.tanh(x * self.scale + self.shift))


class Normalised(nn.Module):
    """BatchNorm: buffers that change in training."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, n_outputs)
        )

    def forward(self, x):
        return self.layers(x)


class Tied(nn.Module):
    """One layer used twice, one never used, one with a frozen bias."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.again = nn.Linear(n_features, n_features)
        self.unused = nn.Linear(3, 3)
        self.layers = nn.Sequential(self.again, nn.Tanh(), self.again, nn.GELU())
        self.last = nn.Linear(n_features, n_outputs)
        self.last.bias.requires_grad_(False)

    def forward(self, x):
        return self.last(self.layers(x))


@pytest.fixture
def stacks(monkeypatch):
    """The stacks that were trained."""
    trained, original = [], _trainer.train_stack

    def spy(networks, stack, *args, **kwargs):
        trained.append(stack)
        return original(networks, stack, *args, **kwargs)

    monkeypatch.setattr(_trainer, "train_stack", spy)
    return trained


def fit(X, y, module=networks.ResidualNet, n_members=3, n_jobs=None, bootstrap=False, **options):
    posterior = DeepEnsemble(n_members, bootstrap=bootstrap, n_jobs=n_jobs)
    kind = TorchRegressor if np.issubdtype(y.dtype, np.floating) else TorchClassifier
    options = {
        "max_epochs": 4,
        "lr": 0.01,
        "batch_size": 64,
        "random_state": 0,
        "precision": "float64",
        **options,
    }
    weight = options.pop("sample_weight", None)
    return kind(module, posterior=posterior, **options).fit(X, y, sample_weight=weight)


def members(estimator):
    draws = estimator._engine.draws
    return draws.tensors(0, draws.n_draws)


def assert_equal_members(one, other, tolerance=1e-8):
    for name, tensor in members(one).items():
        torch.testing.assert_close(tensor, members(other)[name], rtol=0, atol=tolerance)


# -- exactness ------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [networks.ResidualNet, Scaled, Normalised, Tied])
@pytest.mark.parametrize("bootstrap", [False, True])
def test_members_are_what_they_are_alone(blobs, stacks, module, bootstrap):
    stacked = fit(*blobs, module, bootstrap=bootstrap)
    assert len(stacks) == 1
    alone = fit(*blobs, module, bootstrap=bootstrap, n_jobs=1)
    assert len(stacks) == 1
    assert_equal_members(stacked, alone)


def test_who_brings_the_axis_of_networks_in(blobs, stacks):
    for module in (networks.ResidualNet, Scaled, Normalised, Tied):
        fit(*blobs, module, max_epochs=1)
    assert [stack.vectorized for stack in stacks] == [False, True, False, False]


LAYERS = {
    "conv1d": ((6, 5), lambda: [nn.Conv1d(6, 4, 3, stride=2, groups=2), nn.AvgPool1d(2)]),
    "conv2d": (
        (2, 6, 6),
        lambda: [
            nn.Conv2d(2, 4, 3, padding="same", bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout2d(0.2),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular", dilation=2),
            nn.AdaptiveAvgPool2d(1),
        ],
    ),
    "conv3d": ((1, 4, 4, 4), lambda: [nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2), nn.MaxPool3d(2)]),
    "batch norm": (
        (10,),
        lambda: [
            nn.Linear(10, 8),
            nn.BatchNorm1d(8, momentum=None),
            nn.Dropout(0.3),
            nn.Linear(8, 7),
            nn.BatchNorm1d(7, affine=False),
        ],
    ),
    "layer norm": (
        (4, 6),
        lambda: [nn.LayerNorm(6), nn.Linear(6, 3), nn.LayerNorm((4, 3), bias=False), nn.Dropout()],
    ),
}


@pytest.mark.parametrize("layers", LAYERS)
def test_layers_that_know_the_axis_of_networks(layers, stacks, monkeypatch):
    """Convolutions, too, as on a GPU: a CPU is faster with one network after another."""
    monkeypatch.setattr(_stack, "_CONVOLUTIONS", ())
    shape, make = LAYERS[layers]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, *shape))
    y = (X.reshape(90, -1)[:, :2].sum(1) > 0).astype(int)

    def module(n_outputs):
        body = nn.Sequential(*make(), nn.Flatten())
        width = body(torch.zeros(2, *shape)).shape[1]
        return nn.Sequential(body, nn.Linear(width, n_outputs))

    options = {"module": module, "batch_size": 30, "early_stopping": True, "n_iter_no_change": 2}
    stacked, alone = fit(X, y, **options), fit(X, y, **options, n_jobs=1)
    assert [stack.vectorized for stack in stacks] == [False]
    assert_equal_members(stacked, alone)
    assert_allclose(stacked.predict_proba(X), alone.predict_proba(X), atol=1e-8)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
        {"optimizer": torch.optim.AdamW, "optimizer__weight_decay": 0.1},
        {"optimizer": torch.optim.RMSprop},
        {"optimizer__foreach": True},
        {"optimizer__param_groups": [("inner*", {"lr": 0.001})]},
        {"batch_size": 1000},
        {"batch_size": 239},  # the last row joins the batch before
        {"iterator_train__drop_last": True},
        {"iterator_train__shuffle": False},
        {"likelihood": Categorical(label_smoothing=0.1)},
    ],
    ids=str,
)
def test_options_mean_the_same(blobs, stacks, options):
    stacked = fit(*blobs, **options)
    assert len(stacks) == 1
    assert_equal_members(stacked, fit(*blobs, **options, n_jobs=1))


@pytest.mark.parametrize("optimizer", sorted(_stack._ELEMENTWISE, key=lambda o: o.__name__))
def test_every_optimizer_that_may_be_stacked(blobs, stacks, optimizer):
    stacked = fit(*blobs, Tied, optimizer=optimizer)
    assert len(stacks) == 1
    assert_equal_members(stacked, fit(*blobs, Tied, optimizer=optimizer, n_jobs=1))


def test_early_stopping_and_best_weights_of_each(blobs, stacks):
    X, y = blobs
    options = {
        "early_stopping": True,
        "n_iter_no_change": 2,
        "max_epochs": 60,
        "lr": 0.03,
        "n_members": 5,
    }
    stacked, alone = (fit(X, y, **options, n_jobs=jobs) for jobs in (None, 1))
    assert len(stacks) == 1
    assert_equal_members(stacked, alone)
    lengths = [[len(history) for history in e.histories_] for e in (stacked, alone)]
    assert lengths[0] == lengths[1]
    assert len(set(lengths[0])) > 1, "all stopped in the same epoch: this tests nothing"
    assert max(lengths[0]) < 60


def test_histories_are_equal(blobs):
    options = {"early_stopping": True, "max_epochs": 6}
    stacked, alone = (fit(*blobs, **options, n_jobs=jobs) for jobs in (None, 1))
    for one, other in zip(stacked.histories_, alone.histories_):
        assert len(one) == len(other)
        for row, same in zip(one, other):
            assert set(row) == set(same)
            for name in set(row) - {"dur", "batches"}:
                assert row[name] == pytest.approx(same[name], abs=1e-9)


def test_weights_of_rows(blobs):
    X, y = blobs
    weight = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    options = {"sample_weight": weight, "early_stopping": True, "bootstrap": True}
    assert_equal_members(*(fit(X, y, **options, n_jobs=jobs) for jobs in (None, 1)))


def test_regression_with_several_targets(diabetes, stacks):
    X, y = diabetes
    y = np.column_stack([y, -2 * y])
    stacked, alone = (fit(X, y, networks.ResidualNet, n_jobs=jobs) for jobs in (None, 1))
    assert len(stacks) == 1
    assert_equal_members(stacked, alone)
    np.testing.assert_allclose(stacked.predict(X), alone.predict(X), rtol=1e-9)


def test_warm_start_goes_on_from_each_member(blobs):
    fits = []
    for jobs in (None, 1):
        estimator = fit(*blobs, n_jobs=jobs, warm_start=True)
        fits.append(estimator.fit(*blobs))
    assert_equal_members(*fits)


def test_noise_of_dropout_is_each_members_own(blobs):
    """With dropout, and all else equal, members follow their own generators."""
    stacked = fit(*blobs, lambda n_features, n_outputs: networks.ResidualNet(n_features, n_outputs))
    without = fit(*blobs, module__p=0.0)
    assert not torch.equal(members(stacked)["outer.weight"], members(without)["outer.weight"])


def test_rows_too_many_to_copy(blobs, monkeypatch):
    copied = fit(*blobs)
    monkeypatch.setattr("skuq._data._batches._COPY_BYTES", 100)
    assert_equal_members(copied, fit(*blobs), tolerance=0)


# -- independence of the number of members --------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_of_a_member_do_not_depend_on_the_others(blobs, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        two, *more = (
            members(fit(*blobs, n_members=n, precision="float32", batch_size=50))
            for n in (2, 3, 7, 11)
        )
    finally:
        torch.set_num_threads(before)
    for many in more:
        for name, tensor in two.items():
            assert torch.equal(many[name][:2], tensor)


def test_large_ensembles_are_trained_in_groups(blobs, stacks, monkeypatch):
    whole = fit(*blobs, n_members=5)
    monkeypatch.setattr("skuq._training._schedule.MAX_NETWORKS", 2)
    grouped = fit(*blobs, n_members=5)
    assert [stack.n_networks for stack in stacks] == [5, 2, 2]
    assert_equal_members(whole, grouped)


# -- where networks are trained one after another -------------------------------------------------


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (networks.ResidualNet, {"callbacks": [LRScheduler("StepLR", step_size=2)]}),
        (networks.ResidualNet, {"optimizer": torch.optim.LBFGS, "max_epochs": 1}),
        (networks.ResidualNet, {"iterator_train__num_workers": 0}),
        (networks.Functional, {}),
        (networks.ResidualNet, {"n_members": 1}),
    ],
    ids=["callbacks", "coupled optimizer", "data loader", "other noise", "one"],
)
def test_one_after_another(blobs, stacks, module, options):
    estimator = fit(*blobs, module, **options)
    assert not stacks
    assert_equal_members(estimator, fit(*blobs, module, **options, n_jobs=1), tolerance=0)


def test_convolutions_on_a_cpu_are_not_stacked(digits, stacks):
    X, y = digits
    fit(X[:100].reshape(-1, 1, 8, 8), y[:100], networks.ConvNet, max_epochs=1)
    assert not stacks


class Counting(nn.Module):
    """Depends on the size of the batch in training: no stack does what its networks do."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.layer = nn.Linear(n_features, n_outputs)

    def forward(self, x):
        return self.layer(x) * (1 + self.training * float(x.sum().detach()))


def test_modules_that_no_stack_reproduces(blobs, stacks):
    fit(*blobs, Counting, lr=1e-6)
    assert not stacks


def test_partial_fit_keeps_the_optimizers(blobs, stacks):
    X, y = blobs
    estimators = [
        TorchClassifier(
            networks.ResidualNet, posterior=DeepEnsemble(2, n_jobs=jobs), random_state=0
        )
        for jobs in (None, 1)
    ]
    for estimator in estimators:
        estimator.partial_fit(X, y, classes=np.unique(y)).partial_fit(X, y)
    assert not stacks
    assert_equal_members(*estimators, tolerance=0)


# -- what a fit tells -----------------------------------------------------------------------------


def test_the_member_that_diverges_is_named(blobs):
    X, y = blobs
    with pytest.raises(ValueError, match=r"(network 1: )?the train loss is \S+ in batch \d"):
        fit(X * 1e30, y, optimizer=torch.optim.SGD, lr=1e30, max_epochs=20)
