"""Training: batches, callbacks, divergence, interruption."""

import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
)
from torch import nn

from skuq import DivergedError, TorchClassifier, TorchRegressor
from skuq._data._batches import Rows, SlicedBatches
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests import networks


def classifier(**options):
    options = {"max_epochs": 5, "lr": 0.01, "random_state": 0, **options}
    return TorchClassifier(options.pop("module", None), posterior=PointEstimate(), **options)


# -- batches ----------------------------------------------------------------------------------


def batches(n_rows, size, shuffle=True, drop_last=False):
    rows = Rows(torch.arange(n_rows)[:, None].float(), torch.arange(n_rows))
    generator = torch.Generator().manual_seed(0)
    return SlicedBatches(rows, size, shuffle, generator, drop_last)


@pytest.mark.parametrize(("n_rows", "size"), [(10, 3), (10, 5), (11, 5), (1, 4), (3, 100), (9, 1)])
@pytest.mark.parametrize("copy_bytes", [0, 2**30])
def test_batches_hold_every_row_once(n_rows, size, copy_bytes, monkeypatch):
    monkeypatch.setattr("skuq._data._batches._COPY_BYTES", copy_bytes)
    iterator = batches(n_rows, size)
    epochs = [list(iterator), list(iterator)]
    for epoch in epochs:
        assert len(epoch) == len(iterator)
        assert sorted(torch.cat([y for _, y in epoch]).tolist()) == list(range(n_rows))
        assert all(torch.equal(x[:, 0].long(), y) for x, y in epoch)
        assert size == 1 or n_rows == 1 or all(len(y) > 1 for _, y in epoch)
    if n_rows > 3:
        assert not torch.equal(*(torch.cat([y for _, y in epoch]) for epoch in epochs))


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_go_to_another_device(shuffle):
    rows = Rows(torch.zeros(7, 3), torch.zeros(7, dtype=torch.int64), torch.ones(7))
    generator = torch.Generator().manual_seed(0)
    meta = torch.device("meta")
    sent = list(SlicedBatches(rows, 3, shuffle, generator, device=meta))
    assert [x.shape for x, _ in sent] == [(3, 3), (4, 3)]
    assert all(t.device == meta for batch in sent for t in (*batch, batch.weight))


@pytest.mark.parametrize("posterior", [PointEstimate(), DeepEnsemble(2)])
def test_a_forward_in_place_never_changes_the_data(blobs, posterior):
    class Net(networks.Plain):
        def forward(self, x):
            return super().forward(x.relu_())

    X, y = blobs
    X = X.astype(np.float32)  # taken without a copy
    X.setflags(write=False)
    before = X.copy()
    options = {"early_stopping": True, "iterator_train__shuffle": False}
    classifier(module=Net, **options).set_params(posterior=posterior).fit(X, y).predict(X)
    assert np.array_equal(X, before)


def test_drop_last():
    assert [len(y) for _, y in batches(10, 4, drop_last=True)] == [4, 4]


def test_batchnorm_trains_with_one_row_left_over():
    class Net(networks.Plain):
        def __init__(self, n_features, n_outputs):
            super().__init__(n_features, n_outputs)
            self.layers.insert(1, nn.BatchNorm1d(16))

    random = np.random.default_rng(0)
    X = random.normal(size=(161, 5))
    fitted = classifier(module=Net, batch_size=32).fit(X, (X[:, 0] > 0).astype(int))
    assert fitted.score(X, (X[:, 0] > 0).astype(int)) > 0.8


def test_a_data_loader_where_an_option_needs_one(blobs, untouched_globals):
    X, y = blobs
    sampler = torch.utils.data.SequentialSampler(range(len(y)))
    weight = np.linspace(0.5, 1.5, len(y))
    loaded = classifier(iterator_train__sampler=sampler)
    sliced = classifier(iterator_train__shuffle=False)
    for fitted in (loaded, sliced):
        fitted.fit(X, y, sample_weight=weight)
    assert np.array_equal(loaded.predict_proba(X), sliced.predict_proba(X))


def test_no_batch_at_all(blobs):
    sequential = {
        "iterator_train__sampler": torch.utils.data.SequentialSampler(range(240)),
    }
    with pytest.raises(ValueError, match="drop_last=True with fewer rows"):
        classifier(iterator_train__drop_last=True, batch_size=1000, **sequential).fit(*blobs)


# -- the loop is skorch's ---------------------------------------------------------------------


class HandLoop:
    """Adam on slices of shuffled rows, as one would write it."""

    @staticmethod
    def fit(module, X, y, order, epochs, size, lr):
        optimizer = torch.optim.Adam(module.parameters(), lr=lr)
        for permutation in order[:epochs]:
            for start in range(0, len(X), size):
                rows = permutation[start : start + size]
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(X[rows]), y[rows]).backward()
                optimizer.step()


def test_equals_a_hand_written_loop(blobs):
    from skuq._utils._random import PrivateGlobals, Purpose, derive_seed, generator

    X, y = blobs
    fitted = classifier(module=networks.Plain, precision="float64", batch_size=50).fit(X, y)
    with PrivateGlobals(derive_seed(0, Purpose.INITIALISATION)):
        module = networks.Plain(10, 3).double()
    shuffling = generator(derive_seed(0, Purpose.SHUFFLING))
    order = [torch.randperm(len(X), generator=shuffling) for _ in range(5)]
    tensor = torch.as_tensor(X, dtype=torch.float64)
    HandLoop.fit(module, tensor, torch.as_tensor(y), order, 5, 50, 0.01)
    for name, weight in module.state_dict().items():
        torch.testing.assert_close(weight, fitted.module_.state_dict()[name], atol=1e-9, rtol=0)


class Recorder(Callback):
    events = []

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        self.events.append(("batch", training))

    def on_epoch_end(self, net, **kwargs):
        self.events.append(("epoch", net.history[-1]["train_loss"]))


def test_callbacks_hear_batches_and_change_nothing(blobs):
    X, y = blobs
    Recorder.events.clear()
    heard = classifier(callbacks=[Recorder], max_epochs=2).fit(X, y)
    assert [kind for kind, _ in Recorder.events] == ["batch", "batch", "epoch"] * 2
    silent = classifier(max_epochs=2).fit(X, y)
    assert np.array_equal(heard.predict_proba(X), silent.predict_proba(X))
    assert heard.history_[-1]["train_loss"] == pytest.approx(silent.history_[-1]["train_loss"])


def test_stock_callbacks_work_and_stay_unchanged(blobs):
    X, y = blobs
    callbacks = [
        ("schedule", LRScheduler("StepLR", step_size=2, gamma=0.1)),
        ("clip", GradientNormClipping(1e-3)),
        EpochScoring("accuracy", name="accuracy", lower_is_better=False),
    ]
    before = [vars(cb[1] if isinstance(cb, tuple) else cb).copy() for cb in callbacks]
    fitted = classifier(
        callbacks=callbacks, early_stopping=True, callbacks__schedule__gamma=0.5, max_epochs=4
    ).fit(X, y)
    assert [vars(cb[1] if isinstance(cb, tuple) else cb) for cb in callbacks] == before
    assert fitted.history_[-1]["event_lr"] == pytest.approx(0.01 * 0.5)
    assert 0 <= fitted.history_[-1]["accuracy"] <= 1


def test_checkpoints(blobs, tmp_path):
    from skorch.callbacks import Checkpoint, TrainEndCheckpoint

    callbacks = [
        Checkpoint(dirname=tmp_path, monitor="train_loss_best", load_best=True),
        TrainEndCheckpoint(dirname=tmp_path / "end"),
    ]
    fitted = classifier(callbacks=callbacks).fit(*blobs)
    saved = torch.load(tmp_path / "params.pt", weights_only=True)
    best = int(np.argmin([epoch["train_loss"] for epoch in fitted.history_]))
    assert fitted.history_[best]["train_loss_best"]
    for name, tensor in fitted.module_.state_dict().items():
        assert torch.equal(tensor, saved[name])


class Remembers(Callback):
    """As users write them: what it keeps is made in its constructor."""

    def __init__(self):
        self.losses = []

    def on_epoch_end(self, net, **kwargs):
        self.losses.append(net.history[-1]["train_loss"])
        net.history.record("seen", len(self.losses))


def test_a_callback_of_one_s_own(blobs):
    mine = Remembers()
    fitted = classifier(callbacks=[mine]).fit(*blobs)
    assert [epoch["seen"] for epoch in fitted.history_] == [1, 2, 3, 4, 5]
    assert mine.losses == []  # a copy did the work


def test_callbacks_disabled(blobs):
    X, y = blobs
    plain = classifier().fit(X, y).predict_proba(X)
    assert np.array_equal(classifier(callbacks="disable").fit(X, y).predict_proba(X), plain)


@pytest.mark.parametrize("scoring", ["neg_log_loss", "roc_auc_ovr", "accuracy"])
def test_scoring_callbacks_of_a_classifier(scoring, blobs):
    callbacks = [EpochScoring(scoring, name="score", lower_is_better=False)]
    fitted = classifier(callbacks=callbacks, early_stopping=True).fit(*blobs)
    assert np.isfinite([epoch["score"] for epoch in fitted.history_]).all()


def test_scoring_callbacks_of_a_regressor(diabetes):
    callbacks = [EpochScoring("r2", name="score", lower_is_better=False)]
    fitted = TorchRegressor(
        posterior=PointEstimate(), callbacks=callbacks, early_stopping=True, max_epochs=60, lr=0.01
    ).fit(*diabetes)
    assert max(epoch["score"] for epoch in fitted.history_) > 0.2


def test_an_optimizer_made_by_a_function(blobs):
    import functools

    X, y = blobs
    made = functools.partial(torch.optim.SGD, momentum=0.9)
    given = classifier(optimizer=torch.optim.SGD, optimizer__momentum=0.9)
    expected = given.fit(X, y).predict_proba(X)
    found = classifier(optimizer=made).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_user_s_early_stopping_stops(blobs):
    stopping = EarlyStopping(monitor="train_loss", patience=2, lower_is_better=False)
    fitted = classifier(callbacks=[stopping], max_epochs=50).fit(*blobs)
    assert fitted.n_iter_ < 50


def test_gradient_clipping_clips(blobs):
    X, y = blobs
    options = {"optimizer": torch.optim.SGD, "lr": 1.0, "max_epochs": 1}
    clipped = classifier(callbacks=[GradientNormClipping(1e-6)], **options).fit(X, y)
    start = classifier(**{**options, "lr": 1e-30}).fit(X, y)
    np.testing.assert_allclose(clipped.predict_proba(X), start.predict_proba(X), atol=1e-3)


def test_an_optimizer_that_needs_a_closure(blobs):
    X, y = blobs
    fitted = classifier(optimizer=torch.optim.LBFGS, lr=0.5, batch_size=1000, max_epochs=5)
    assert fitted.fit(X, y).score(X, y) > 0.9


def test_parameter_groups(blobs):
    X, y = blobs
    frozen = ("layers.0.*", {"lr": 0.0})
    fitted = classifier(module=networks.Plain, optimizer__param_groups=[frozen]).fit(X, y)
    start = classifier(module=networks.Plain, lr=1e-30, max_epochs=1).fit(X, y)
    now, then = fitted.module_.state_dict(), start.module_.state_dict()
    assert torch.equal(now["layers.0.weight"], then["layers.0.weight"])
    assert not torch.equal(now["layers.2.weight"], then["layers.2.weight"])


def test_the_table(blobs, capsys):
    classifier(verbose=2, max_epochs=2, early_stopping=True).fit(*blobs)
    assert "train_loss" in (out := capsys.readouterr().out) and "valid_loss" in out
    classifier(max_epochs=2).fit(*blobs)
    assert not capsys.readouterr().out


# -- divergence -------------------------------------------------------------------------------

DIVERGING = {"optimizer": torch.optim.SGD, "lr": 1e30}


@pytest.mark.parametrize("early_stopping", [False, True])
def test_divergence_stops_the_fit_in_that_epoch(early_stopping, diabetes):
    X, y = diabetes
    regressor = TorchRegressor(
        posterior=PointEstimate(), max_epochs=10**6, early_stopping=early_stopping, **DIVERGING
    )
    with pytest.raises(DivergedError, match=r"training diverged. Lower lr") as caught:
        regressor.fit(X, y)
    assert not hasattr(regressor, "n_iter_")
    assert caught.value.epoch == 1 and caught.value.batch == 2
    assert 0 < caught.value.gradient_norm < 1e6


class Breaks(networks.Plain):
    """Infinite outputs for the batch that holds a marked row, the third time it is seen."""

    seen = 0

    def forward(self, x):
        marked = (x[..., 0] == 77).any(-1, keepdim=x.ndim > 2)
        if self.training and len(x) > 3 and torch.is_grad_enabled():  # a step of training
            type(self).seen += int(marked.any())
        return super().forward(x) + torch.where(marked & (self.seen == 3), torch.inf, 0.0)


def gradient_norm_by_hand(network, X, y):
    loss = nn.functional.cross_entropy(network(torch.as_tensor(X)), torch.as_tensor(y))
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return float(torch.cat([g.flatten() for g in gradients]).norm())


def test_an_error_names_epoch_batch_and_gradient_norm(blobs):
    X, y = blobs[0].copy(), blobs[1]
    X[130, 0] = 77.0  # in the third batch, and the third time it is seen
    Breaks.seen = 0
    options = {"batch_size": 60, "iterator_train__shuffle": False, "lr": 1e-12}
    with pytest.raises(DivergedError, match="in batch 3 of 4 of epoch 3") as caught:
        classifier(module=Breaks, **options).fit(X, y)
    error = caught.value
    assert (error.epoch, error.batch, error.network) == (3, 3, 0)
    start = classifier(module=networks.Plain, **{**options, "max_epochs": 1}).fit(X, y).module_
    expected = gradient_norm_by_hand(start, X[:60], y[:60])
    assert error.gradient_norm == pytest.approx(expected, rel=1e-4)
    assert f"gradient norm was {error.gradient_norm:.3g} in batch 1 of epoch 3" in str(error)
    copied = pickle.loads(pickle.dumps(error))
    assert vars(copied) == vars(error) and str(copied) == str(error)


def test_the_gradient_norm_of_the_epoch_before(blobs):
    """Where the first batch of an epoch is bad, the gradient there is, too."""
    X, y = blobs[0].copy(), blobs[1]
    X[0, 0] = 77.0
    Breaks.seen = 0
    options = {"batch_size": 60, "iterator_train__shuffle": False}
    with pytest.raises(DivergedError, match=r"batch 1 of 4 of epoch 3.* in batch 1 of epoch 2"):
        classifier(module=Breaks, **options).fit(X, y)


@pytest.mark.parametrize("n_jobs", [None, 1])
def test_an_error_names_the_network(n_jobs, blobs):
    X, y = blobs
    options = {"batch_size": 60, "optimizer": torch.optim.SGD, "lr": 1e30}
    ensemble = classifier(**options).set_params(posterior=DeepEnsemble(3, n_jobs=n_jobs))
    with pytest.raises(DivergedError, match="batch 2 of 4 of epoch 1") as caught:
        ensemble.fit(X, y)
    assert caught.value.network == 0 and 0 < caught.value.gradient_norm < 1e6


def test_weights_that_diverge_in_the_last_step(diabetes):
    X, y = diabetes
    regressor = TorchRegressor(
        posterior=PointEstimate(), max_epochs=1, batch_size=10**4, lr=float("1e308"),
        optimizer=torch.optim.SGD, optimizer__momentum=0.9,
    )  # fmt: skip
    with pytest.raises(DivergedError, match="holds NaN or infinity after training") as caught:
        regressor.fit(X, y)
    assert (caught.value.epoch, caught.value.batch) == (1, 1)
    assert 0 < caught.value.gradient_norm < 1e6


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
def test_a_diverged_candidate_cannot_win(blobs):
    X, y = blobs
    y = (y == 0).astype(int)  # the majority class alone would score two thirds
    search = GridSearchCV(
        classifier(optimizer=torch.optim.SGD, max_epochs=3), {"lr": [1e30, 1e-6]}, cv=2
    ).fit(X, y)
    assert search.best_params_ == {"lr": 1e-6}
    assert np.isnan(search.cv_results_["mean_test_score"][0])


# -- interruption -----------------------------------------------------------------------------


class Slow(networks.Plain):
    def forward(self, x):
        time.sleep(0.01)
        return super().forward(x)


@pytest.mark.parametrize("posterior", [PointEstimate(), DeepEnsemble(2)], ids=str)
def test_ctrl_c_reaches_the_caller(posterior, blobs):
    network = TorchClassifier(Slow, posterior=posterior, max_epochs=10**6, random_state=0)
    state = torch.get_rng_state()
    timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        network.fit(*blobs)
    assert not hasattr(network, "n_iter_")
    assert torch.equal(state, torch.get_rng_state())


def test_ctrl_c_within_a_callback_reaches_the_caller(blobs):
    class Sleepy(Callback):
        def on_epoch_end(self, net, **kwargs):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        classifier(callbacks=[Sleepy]).fit(*blobs)
