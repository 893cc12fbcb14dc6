"""skorch's callbacks that score: as in skorch, and in the units of y."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
    PassthroughScoring,
)
from torch.optim.lr_scheduler import ReduceLROnPlateau

from skuq import TorchClassifier, TorchRegressor
from skuq.likelihoods import Poisson
from skuq.posteriors import PointEstimate


def classifier(**options):
    options = {
        "max_epochs": 2,
        "lr": 0.01,
        "random_state": 0,
        "posterior": PointEstimate(),
        **options,
    }
    return TorchClassifier(**options)


def regressor(**options):
    options = {
        "max_epochs": 2,
        "lr": 0.01,
        "random_state": 0,
        "posterior": PointEstimate(),
        **options,
    }
    return TorchRegressor(module__dropout=0.0, **options)


@pytest.mark.parametrize("kind", [EpochScoring, BatchScoring])
@pytest.mark.parametrize("on_train", [False, True])
@pytest.mark.parametrize("use_caching", [False, True])
def test_scores_with_and_without_caching(kind, on_train, use_caching, blobs):
    scores = [
        kind(name, on_train=on_train, use_caching=use_caching, lower_is_better=False, name=name)
        for name in ("accuracy", "neg_log_loss")
    ]
    scores[0].scoring = None  # the net's own score is the accuracy
    fitted = classifier(callbacks=scores, early_stopping=True, batch_size=500).fit(*blobs)
    plain = classifier(early_stopping=True, batch_size=500).fit(*blobs)
    assert np.array_equal(fitted.predict_proba(blobs[0]), plain.predict_proba(blobs[0]))
    last = fitted.history_[-1]
    assert 0 <= last["accuracy"] <= 1
    if not on_train:
        assert last["neg_log_loss"] == pytest.approx(-last["valid_loss"], rel=1e-5)


@pytest.mark.parametrize("kind", [EpochScoring, BatchScoring])
@pytest.mark.parametrize("on_train", [False, True])
@pytest.mark.parametrize("use_caching", [False, True])
@pytest.mark.parametrize("counts", [False, True])
def test_scores_of_a_regressor_are_in_the_units_of_y(kind, on_train, use_caching, counts, diabetes):
    X, y = diabetes
    options = {"likelihood": Poisson()} if counts else {}
    score = kind("neg_mean_absolute_error", on_train=on_train, use_caching=use_caching, name="mae")
    # What is learnt in the last epoch is nothing, so that the score is that of the fitted network.
    frozen = {"optimizer": torch.optim.SGD, "lr": 1e-30, "batch_size": 10**4, "max_epochs": 1}
    fitted = regressor(callbacks=[score], early_stopping=True, **frozen, **options)
    fitted.set_params(validation_fraction=0.5).fit(X, 100 * y)
    error = np.abs(fitted.predict(X) - 100 * y)
    assert -fitted.history_[-1]["mae"] == pytest.approx(error.mean(), rel=0.1)


def test_callbacks_see_targets_in_the_units_of_y(diabetes):
    X, y = diabetes
    seen = {}

    class Looks(Callback):
        def on_train_begin(self, net, X, y, **kwargs):
            seen["begin"] = y

        def on_batch_end(self, net, batch, training, **kwargs):
            seen["batch"] = batch[1]

        def on_epoch_end(self, net, dataset_train, dataset_valid, **kwargs):
            seen["train"], seen["valid"] = dataset_train.y, dataset_valid.y
            predicted = net.predict(dataset_valid)
            seen["error"] = mean_absolute_error(dataset_valid.y, predicted)
            np.testing.assert_allclose(net.predict(dataset_valid.X), predicted, rtol=1e-5)

    regressor(callbacks=[Looks], early_stopping=True).fit(X, y)
    values = np.concatenate([seen["train"], seen["valid"]])[:, 0]
    np.testing.assert_allclose(np.sort(values), np.sort(y), rtol=1e-5)
    assert np.isin(seen["batch"].round().numpy(), y).all() and len(seen["begin"]) == len(
        seen["train"]
    )
    assert seen["error"] < 200


def test_a_prediction_amid_an_epoch_changes_nothing(blobs):
    class Predicts(Callback):
        def on_batch_end(self, net, batch, training, **kwargs):
            net.predict(batch[0])

    fitted = classifier(callbacks=[Predicts], batch_size=50).fit(*blobs)
    plain = classifier(batch_size=50).fit(*blobs)
    assert np.array_equal(fitted.predict_proba(blobs[0]), plain.predict_proba(blobs[0]))


def test_a_score_of_batches_is_passed_through(blobs):
    passed = PassthroughScoring("train_loss", on_train=True)
    fitted = classifier(callbacks=[passed], batch_size=50).fit(*blobs)
    assert "train_loss" in fitted.history_[-1]["batches"][0]


def test_a_callback_is_switched_off_or_replaced(blobs):
    stopping = EarlyStopping("train_loss", patience=1, lower_is_better=False)
    options = {"callbacks": [("stop", stopping)], "max_epochs": 6}
    assert classifier(**options).fit(*blobs).n_iter_ < 6
    assert classifier(**options, callbacks__stop=None).fit(*blobs).n_iter_ == 6
    other = EarlyStopping("train_loss", patience=3, lower_is_better=False)
    assert classifier(**options, callbacks__stop=other).fit(*blobs).n_iter_ == 4
    assert not hasattr(other, "best_epoch_")  # a copy did the work
    with pytest.raises(ValueError, match="callbacks__stops: there is no such callback"):
        classifier(**options, callbacks__stops=None).fit(*blobs)
    hasty = {"early_stopping": True, "n_iter_no_change": 1, "lr": 100.0, "max_epochs": 12}
    assert classifier(**hasty).fit(*blobs).n_iter_ < 12
    assert classifier(**hasty, callbacks__early_stopping=None).fit(*blobs).n_iter_ == 12


@pytest.mark.parametrize(
    "callbacks",
    [
        [EarlyStopping()],
        [LRScheduler(ReduceLROnPlateau, monitor="valid_loss")],
        [Checkpoint()],
        [EpochScoring("accuracy", name="acc"), EarlyStopping("acc")],
    ],
    ids=lambda callbacks: type(callbacks[-1]).__name__ + str(len(callbacks)),
)
def test_a_monitor_without_validation_rows(callbacks, blobs, tmp_path):
    with pytest.raises(ValueError, match=r"there are none. Set early_stopping=True"):
        classifier(callbacks=callbacks).fit(*blobs)
    if not isinstance(callbacks[-1], Checkpoint):
        classifier(callbacks=callbacks, early_stopping=True).fit(*blobs)


@pytest.mark.parametrize(
    "callback",
    [EarlyStopping("valid_los"), LRScheduler("ReduceLROnPlateau", monitor="train_los")],
    ids=["EarlyStopping", "LRScheduler"],
)
def test_a_misspelt_monitor(callback, blobs):
    with pytest.raises(ValueError, match=r"_los.*Expected one of .*train_loss.*valid_loss"):
        classifier(callbacks=[callback], early_stopping=True).fit(*blobs)
