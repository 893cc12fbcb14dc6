"""Ensembles on several devices that go on, are saved, fail, or are interrupted."""

import collections
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

import skuq
from skuq import DivergedError, TorchRegressor
from skuq._training import _trainer
from skuq._training._checkpoints import _read
from skuq._utils._devices import named_devices, on_each
from skuq.posteriors import DeepEnsemble
from tests import networks
from tests.training.two_devices import TWO, assert_same, ensemble

# -- going on, being saved, being killed -----------------------------------------------------------


def test_going_on(blobs):
    X, y = blobs
    one, two = (ensemble(3, d, n) for n, d in ((1, "cpu"), (None, TWO)))
    for _ in range(3):
        one.partial_fit(X, y)
        two.partial_fit(X, y)
    assert_same(one, two, X)
    two.set_params(device=[*TWO, "cpu:2"]).partial_fit(X, y)  # another list, the same networks
    assert_same(one.partial_fit(X, y), two, X)
    one, two = (m.set_params(warm_start=True).fit(X, y) for m in (one, two))
    assert_same(one, two, X)


def test_a_generator_of_another_device_is_not_used(blobs):
    """A GPU's own cannot be moved: noise begins anew, the optimizer goes on."""
    X, y = blobs
    fitted = ensemble(2, TWO).partial_fit(X, y)

    class OfAnother:
        device = torch.device("cuda:7")

    steps = [state["optimizer"][1]["state"][0]["step"].item() for state in fitted._states]
    fitted._states[1]["dropout"] = OfAnother()
    fitted.partial_fit(X, y)
    now = [state["optimizer"][1]["state"][0]["step"].item() for state in fitted._states]
    assert now == [2 * step for step in steps]
    assert fitted._states[1]["dropout"].device == torch.device("cpu")


def test_pickles_and_files(blobs, tmp_path):
    X, y = blobs
    fitted = ensemble(3, TWO, module=None).partial_fit(X, y)
    expected = fitted.predict_proba(X)
    skuq.save(fitted, tmp_path / "m.skuq")
    again = pickle.loads(pickle.dumps(fitted))
    loaded = skuq.load(tmp_path / "m.skuq")
    for other in (again, loaded):
        assert other.device == TWO and other.device_ == "cpu:0"
        assert np.array_equal(other.predict_proba(X), expected)
    elsewhere = skuq.load(tmp_path / "m.skuq", device="cpu")
    assert elsewhere.device_ == "cpu" and np.array_equal(elsewhere.predict_proba(X), expected)
    with pytest.raises(TypeError, match=r"loaded to one device, got device=\['cpu:0', 'cpu:1'\]"):
        skuq.load(tmp_path / "m.skuq", device=TWO)
    expected = fitted.partial_fit(X, y).predict_proba(X)
    for other in (again, loaded, elsewhere):
        assert np.array_equal(other.partial_fit(X, y).predict_proba(X), expected)
    assert clone(fitted).device == TWO


def test_devices_that_are_gone(blobs, tmp_path):
    """The first decides where predictions are evaluated; the others are for fit alone."""
    X, y = blobs
    fitted = ensemble(2, TWO, module=None).fit(X, y)
    fitted.device = ["cpu", "cuda:99"]
    assert pickle.loads(pickle.dumps(fitted)).device_ == "cpu"
    fitted.device = ["cuda:99", "cpu"]
    with pytest.warns(UserWarning, match=r"'cuda:99' is not available .* Predicting on the CPU"):
        assert pickle.loads(pickle.dumps(fitted)).device_ == "cpu"
    skuq.save(fitted, tmp_path / "m.skuq")
    assert skuq.load(tmp_path / "m.skuq").device_ == "cpu"
    with pytest.raises(ValueError, match="device='cuda:99' is not available here"):
        fitted.fit(X, y)


class Killed(BaseException):
    pass


class Fragile(networks.ResidualNet):
    left = None

    def forward(self, x):
        cls = type(self)
        if self.training and len(x) == 60 and cls.left is not None:
            cls.left -= 1
            if cls.left < 0:
                raise Killed
        return super().forward(x)


@pytest.mark.parametrize("after", [9, 30])
def test_a_fit_that_is_killed_goes_on(after, blobs, tmp_path, monkeypatch):
    """With the same number of devices, or another."""
    X, y = blobs
    expected = ensemble(4, TWO, module=Fragile).fit(X, y)
    killed = ensemble(4, TWO, module=Fragile, checkpoint_dir=tmp_path)
    monkeypatch.setattr(Fragile, "left", after)
    with pytest.raises(Killed):
        killed.fit(X, y)
    monkeypatch.setattr(Fragile, "left", None)
    finished = [_read(path)["state"]["finished"] for path in tmp_path.glob("skuq-network-*.npz")]
    assert finished and (after == 9 or any(finished))
    with pytest.raises(ValueError, match="device=several cpu there, cpu here"):
        clone(killed).set_params(device="cpu").fit(X, y)
    trained = []
    train = _trainer.train_network
    monkeypatch.setattr(
        _trainer,
        "train_network",
        lambda *a, **o: (trained.append(1), train(*a, **o))[1],
    )
    assert_same(killed.set_params(device=[*TWO, "cpu:2"]).fit(X, y), expected, X)
    assert len(trained) == 4 - sum(finished)  # what was finished is not trained again


# -- errors and Ctrl-C -----------------------------------------------------------------------------


def test_errors_of_a_thread_are_those_of_fit(blobs, diabetes):
    with pytest.raises(DivergedError, match="diverged") as caught:
        TorchRegressor(
            posterior=DeepEnsemble(3), device=TWO, optimizer=torch.optim.SGD, lr=1e30
        ).fit(*diabetes)
    assert caught.value.network in (0, 1)

    class Fails(Callback):
        def on_batch_end(self, net, **kwargs):
            raise LookupError("in a thread")

    with pytest.raises(LookupError, match="in a thread"):
        ensemble(3, TWO, callbacks=[Fails]).fit(*blobs)


def test_an_error_ends_the_others_soon():
    """At their next task; what has arrived before counts."""
    devices, arrived, begun = named_devices(TWO), [], threading.Event()

    def work(index, task):
        yield index
        if index == 1:
            begun.wait(60)
            raise LookupError("the second device")
        for _ in range(10**6):
            task.subtask("epoch").begin()
            begun.set()
            time.sleep(0.001)

    with pytest.raises(LookupError, match="the second device"):
        on_each(devices, work, arrived.append)
    assert sorted(arrived) == [0, 1]


class Interrupting(networks.Plain):
    """Ctrl-C, when two threads have trained for some epochs."""

    steps: collections.Counter
    sent: bool
    caller: int  # the thread of fit, which tries the network before
    lock = threading.Lock()

    def forward(self, x):
        if self.training and threading.get_ident() != self.caller:
            time.sleep(0.005)
            with self.lock:
                self.steps[threading.get_ident()] += 1
                if len(self.steps) == 2 and min(self.steps.values()) == 10 and not self.sent:
                    type(self).sent = True
                    os.kill(os.getpid(), signal.SIGINT)
        return super().forward(x)


@pytest.mark.parametrize("on_interrupt", ["keep", "raise"])
def test_ctrl_c(on_interrupt, blobs):
    Interrupting.steps, Interrupting.sent = collections.Counter(), False
    Interrupting.caller = threading.get_ident()
    network = ensemble(
        4, TWO, module=Interrupting, max_epochs=10**6, on_interrupt=on_interrupt, batch_size=240
    )
    before = threading.active_count()
    if on_interrupt == "raise":
        with pytest.raises(KeyboardInterrupt):
            network.fit(*blobs)
        assert not hasattr(network, "n_iter_")
    else:
        with pytest.warns(ConvergenceWarning, match=r"keeps 2 of 4 network.* of 1000000 epochs"):
            network.fit(*blobs)
        assert network.interrupted_ and 0 < network.n_iter_ < 1000
        assert network.predict_draws(blobs[0]).shape == (2, 240, 3)
    assert threading.active_count() <= before


class Steps(Callback):
    """The last network to begin waits until the others have been trained; then comes Ctrl-C."""

    lock, done = threading.Condition(), 0

    def on_train_begin(self, net, **kwargs):
        cls = type(self)
        with self.lock:
            cls.begun += 1
            if cls.begun == 3:
                self.lock.wait_for(lambda: cls.done == 2, timeout=60)

    def on_train_end(self, net, **kwargs):
        with self.lock:
            type(self).done += 1
            self.lock.notify_all()


class LastInterrupted(networks.ResidualNet):
    def forward(self, x):
        if self.training and len(x) == 60 and Steps.done == 2:
            raise KeyboardInterrupt
        return super().forward(x)


def test_finished_members_are_kept(blobs, monkeypatch):
    X, y = blobs
    monkeypatch.setattr(Steps, "begun", 0, raising=False)
    monkeypatch.setattr(Steps, "done", 0)
    options = {"callbacks": [Steps], "on_interrupt": "keep", "module": LastInterrupted}
    with pytest.warns(ConvergenceWarning, match=r"keeps 2 of 3 network.*for 3 of 3 epochs"):
        kept = ensemble(3, TWO, **options).fit(X, y).predict_draws(X)
    whole = ensemble(3, n_jobs=1).fit(X, y).predict_draws(X)
    assert np.array_equal(kept, whole[:2]) or np.array_equal(kept, whole[[0, 2]])
