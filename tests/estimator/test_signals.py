"""Warnings of unscaled features and of training that ended too early."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping
from torch import nn

from skuq import TorchClassifier, TorchRegressor
from skuq._data._batches import Rows
from skuq._estimator._signals import losses_with_zeros, warn_if_not_converged, warn_of_scales
from skuq._networks._module import Numerics
from skuq.likelihoods import Gaussian, Poisson, StudentT
from skuq.modules import MLP
from skuq.posteriors import DeepEnsemble, PointEstimate

QUICK = {"max_epochs": 2, "module__hidden_layer_sizes": (8,), "random_state": 0}


def caught(action, category=UserWarning, about=""):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("error", RuntimeWarning)  # of NumPy
        warnings.simplefilter("always", UserWarning)
        action()
    return [str(w.message) for w in found if w.category is category and about in str(w.message)]


def scales(X, **options):
    classifier = TorchClassifier(**{**QUICK, **options})
    y = np.arange(len(X)) % 2
    return caught(lambda: classifier.fit(X, y), about="unit scale")


@pytest.mark.parametrize("factor", [1e-5, 1e3, 1e5, 1e30])
def test_features_far_from_unit_scale_are_named(factor):
    X = np.random.default_rng(0).normal(size=(60, 3))
    X[:, 1] *= factor
    (message,) = scales(X)
    assert "1 of 3 features" in message and "feature 1 (" in message
    assert "make_pipeline(StandardScaler(), TorchClassifier(...))" in message
    (message,) = scales(pd.DataFrame(X, columns=["age", "income", "size"]))
    assert f"income (mean {X[:, 1].mean():.3g}, standard deviation {X[:, 1].std():.2g})" in message


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_raw_tables_are_warned_about_and_scaled_ones_are_not(load):
    X, y = load(return_X_y=True)
    assert scales(X)
    pipeline = make_pipeline(StandardScaler(), TorchClassifier(**QUICK))
    assert not caught(lambda: pipeline.fit(X, y), about="unit scale")


@pytest.mark.parametrize(
    "X",
    [
        load_iris().data,
        load_digits().data,
        np.eye(100)[np.arange(200) % 100],  # one-hot
        np.zeros((20, 3)),
        np.random.default_rng(0).standard_t(3, size=(5000, 4)),
        1000 * np.random.default_rng(0).normal(size=(20, 1, 4, 4)),  # images are not tables
    ],
    ids=["iris", "digits", "one-hot", "constant", "outliers", "images"],
)
def test_no_false_alarm(X):
    assert not scales(X)


def test_an_offset_hides_the_spread():
    """Room temperatures: 25 degrees, more or less a tenth."""
    X = 25 + 0.1 * np.random.default_rng(0).normal(size=(60, 1))
    (message,) = scales(X)
    assert f"feature 0 (mean 25, standard deviation {X.std():.2g})" in message
    assert not scales(X - 24)


def test_own_modules_may_scale_for_themselves():
    assert not scales(1000 * np.random.default_rng(0).normal(size=(20, 3)), module=MLP)


def test_a_warm_start_does_not_repeat_itself():
    X, y = 1e4 * np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2
    model = TorchClassifier(warm_start=True, **QUICK)
    assert len(caught(lambda: model.fit(X, y), about="unit scale")) == 1
    assert not caught(lambda: model.fit(X, y), about="unit scale")
    model = TorchClassifier(**QUICK)
    assert len(caught(lambda: model.partial_fit(X, y, classes=[0, 1]), about="unit scale")) == 1
    assert not caught(lambda: model.partial_fit(X, y), about="unit scale")


def test_the_largest_numbers_do_not_overflow():
    messages = caught(lambda: warn_of_scales(np.full((3, 1), 1e300), ["x"], "TorchRegressor"))
    assert "x (mean 1e+300, standard deviation 0)" in messages[0]


# ---------------------------------------------------------------------------------------------


def history(losses):
    return [{"epoch": k + 1, "train_loss": loss} for k, loss in enumerate(losses)]


def falling(*histories, max_epochs=None):
    max_epochs = max_epochs or len(histories[0])
    each = list(map(history, histories))
    alike = (0.0, 0.0), 0.1  # losses that say nothing, and a learning rate
    return caught(lambda: warn_if_not_converged(each, max_epochs, *alike), ConvergenceWarning)


def decay(time_constant, n_epochs=100):
    return np.exp(-np.arange(n_epochs) / time_constant)


def test_the_share_of_the_fall_is_that_of_the_last_tenth():
    losses = decay(50)
    slope, level = np.polyfit(np.arange(70, 100), losses[70:], 1)
    (message,) = falling(losses)
    share = -100 * slope * 10 / (losses[0] - (level + 99 * slope))
    assert f"had {share:.1f} %" in message and "max_epochs=200" in message and "lr" in message


@pytest.mark.parametrize(
    ("time_constant", "warns"), [(20, False), (25, False), (40, True), (1e3, True)]
)
def test_four_time_constants_are_enough(time_constant, warns):
    assert bool(falling(decay(time_constant))) is warns
    assert bool(falling(7 - 1e5 * (1 - decay(time_constant)))) is warns  # of no scale, no zero


def test_noise_around_a_level_is_no_fall():
    rng = np.random.default_rng(0)
    assert not falling(decay(5) + 0.02 * rng.normal(size=100))
    assert not falling(np.ones(50)) and not falling(1 - decay(30))


def test_of_several_networks_the_median_counts():
    assert falling(decay(60), decay(60), decay(5))
    assert not falling(decay(60), decay(5), decay(5))


def test_networks_that_stopped_before_are_left_out():
    assert not falling(decay(60), max_epochs=200)
    assert falling(decay(60), decay(5, 50), max_epochs=100)


def regression():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    return X, X[:, 0] + 0.1 * rng.normal(size=100)


@pytest.mark.parametrize("posterior", [None, DeepEnsemble(2), DeepEnsemble(2, n_jobs=1)], ids=str)
def test_short_trainings_are_told(posterior):
    X, y = regression()
    short = TorchRegressor(posterior=posterior, **{**QUICK, "max_epochs": 10})
    assert len(caught(lambda: short.fit(X, y), ConvergenceWarning)) == 1
    longer = TorchRegressor(posterior=posterior, **{**QUICK, "max_epochs": 300, "lr": 0.01})
    assert not caught(lambda: longer.fit(X, y), ConvergenceWarning)


@pytest.mark.parametrize(
    "options",
    [
        {"early_stopping": True, "max_epochs": 20},
        {"callbacks": [EarlyStopping("train_loss", patience=1, threshold=10)], "max_epochs": 20},
        {"max_epochs": 0},
        {"max_epochs": 1},
    ],
    ids=["early stopping", "a callback that stops", "no training", "one epoch"],
)
def test_who_decides_on_the_length_is_not_warned(options):
    X, y = regression()
    model = TorchRegressor(**{**QUICK, **options})
    assert not caught(lambda: model.fit(X, y), ConvergenceWarning)
    assert not caught(lambda: TorchRegressor(**QUICK).partial_fit(X, y), ConvergenceWarning)


def test_the_advice_works():
    """Twice the epochs, as often as it is said, ends in silence."""
    X, y = regression()
    model = TorchRegressor(**{**QUICK, "max_epochs": 25, "lr": 0.01})
    for _ in range(6):
        messages = caught(lambda: model.fit(X, y), ConvergenceWarning)
        if not messages:
            break
        model.set_params(max_epochs=int(re.search(r"max_epochs=(\d+)", messages[0])[1]))
    assert not messages and model.max_epochs > 25


@pytest.mark.parametrize(
    "likelihood", [Gaussian(), Gaussian(False), StudentT(), Poisson()], ids=str
)
def test_a_network_that_has_learnt_nothing(likelihood):
    X, y = regression()
    y = np.abs(y)
    options = {**QUICK, "likelihood": likelihood, "max_epochs": 20}
    high, low = (TorchRegressor(**{**options, "lr": lr}) for lr in (30.0, 0.01))
    (message,) = caught(lambda: high.fit(X, y), ConvergenceWarning)
    assert "has learnt nothing" in message and "Lower lr (now 30)" in message
    assert "higher" not in message
    found = caught(lambda: low.fit(X, y), ConvergenceWarning)
    assert not any("learnt nothing" in text for text in found)


@pytest.mark.parametrize("weight", [None, np.linspace(0, 2, 150)], ids=["plain", "weighted"])
def test_classifiers_that_have_learnt_nothing(weight):
    X, y = load_iris(return_X_y=True)
    high = TorchClassifier(**{**QUICK, "lr": 100.0, "max_epochs": 20})
    (message,) = caught(lambda: high.fit(X, y, sample_weight=weight), ConvergenceWarning)
    assert "has learnt nothing" in message


def test_what_the_loss_is_compared_with():
    """From noise, a network learns no more than the mean: that is no fault."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 2)), rng.normal(size=200)
    model = TorchRegressor(**{**QUICK, "max_epochs": 1})
    assert not caught(lambda: model.fit(X, y), ConvergenceWarning)
    shifted = nn.Linear(2, 2)
    with torch.no_grad():
        shifted.weight.zero_()
        shifted.bias[:] = torch.tensor([3.0, 0.0])  # three deviations beside the mean
    rows = Rows(torch.tensor(X).float(), torch.tensor((y - y.mean()) / y.std())[:, None].float())
    likelihood = Gaussian(beta=0).fit(y[:, None])
    numerics = Numerics(torch.device("cpu"), "float32")
    losses = losses_with_zeros(shifted, rows, likelihood, numerics, 200)
    assert losses == pytest.approx((5.0, 0.5), abs=1e-5)


@pytest.mark.parametrize(
    ("excess", "losses", "about"),
    [
        (0.05, decay(5), None),
        (0.2, decay(5), "learnt nothing"),
        (0.2, decay(60), "still falling"),  # it has just begun
        (1.1, decay(60), "learnt nothing"),
        (0.2, [1.0], None),
        (1.1, [1.0], "learnt nothing"),
    ],
)
@pytest.mark.parametrize("watched", [False, True])
def test_which_warning(excess, losses, about, watched):
    messages = caught(
        lambda: warn_if_not_converged(
            [history(losses)], len(losses), (0.5 + excess, 0.5), 0.1, watched
        ),
        ConvergenceWarning,
    )
    if about is None or (watched and about == "still falling"):
        assert not messages
    else:
        assert len(messages) == 1 and about in messages[0]


class Counting(nn.Linear):
    """Counts, in a buffer, how many rows it has seen in eval mode, and the most at once."""

    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)
        self.register_buffer("seen", torch.zeros(()))

    most = 0

    def forward(self, x):
        Counting.most = max(Counting.most, len(x))
        self.seen += len(x) * (not self.training)
        return super().forward(x)


def test_the_look_at_the_loss_changes_nothing_and_takes_one_batch():
    X, y = regression()
    model = TorchRegressor(Counting, max_epochs=2, batch_size=10, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.set_params(posterior=PointEstimate()).fit(X, y)
    assert model.module_.seen < 10  # only the rows that were tried before training
    assert Counting.most == 10
