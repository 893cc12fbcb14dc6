"""Members of an ensemble on several devices at once: which goes where, and the same bits."""

import pickle
import threading
import time

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch.utils.data import Dataset

from skuq import TorchRegressor
from skuq._data._batches import Rows, SlicedBatches
from skuq._networks import _module
from skuq._networks._module import Numerics
from skuq._training import _building, _trainer
from skuq._utils._devices import named_devices, same_device
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests import networks
from tests.training.two_devices import TWO, assert_same, ensemble, states

# -- which member goes where -----------------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch):
    """Of each training: the network, its device, the thread; all that it uses is on this device."""
    found, moved, of_thread = [], {}, {}
    train, to, begin = (
        _trainer.train_network,
        _module.moved,
        SlicedBatches.__init__,
    )

    def spy(module, rows, valid, likelihood, settings, *args, network, **kwargs):
        device, thread = settings.numerics.device, threading.get_ident()
        assert network == 0 or moved[id(module)] == device  # the first lies on the first
        of_thread[thread] = device
        found.append((network, device, thread))
        return train(module, rows, valid, likelihood, settings, *args, network=network, **kwargs)

    def moving(module, device, *args):
        moved[id(module)] = device
        return to(module, device, *args)

    def batches(self, *args, device, **kwargs):
        assert of_thread[threading.get_ident()] == device
        begin(self, *args, device=device, **kwargs)

    monkeypatch.setattr(_trainer, "train_network", spy)
    for room in (_module, _building):
        monkeypatch.setattr(room, "moved", moving)
    monkeypatch.setattr(SlicedBatches, "__init__", batches)
    return found


@pytest.mark.parametrize("n_jobs", [None, 1])
@pytest.mark.parametrize("device", [TWO, ("cpu:0", torch.device("cpu:1"), "cpu:2"), ["cpu"] * 2])
def test_members_go_round(trained, device, n_jobs, blobs, untouched_globals):
    fitted = ensemble(device=device, n_jobs=n_jobs, early_stopping=True).fit(*blobs)
    assert {k: d for k, d, _ in trained} == {
        k: torch.device(device[k % len(device)]) for k in range(5)
    }
    assert len(trained) == 5
    threads = {k: thread for k, _, thread in trained}
    if n_jobs is None:  # a thread for each device, none of which is this one
        assert len({threads[k] for k in range(len(device))}) == len(device)
        assert all(threads[k] == threads[k % len(device)] for k in range(5))
        assert threading.get_ident() not in threads.values()
    else:
        assert set(threads.values()) == {threading.get_ident()}
    assert fitted.device_ == str(device[0])
    assert fitted._engine.numerics.device == torch.device(device[0])


def test_a_network_alone_is_on_the_first(trained, blobs):
    for posterior in (PointEstimate(), MCDropout(3), DeepEnsemble(1)):
        ensemble(device=TWO).set_params(posterior=posterior).fit(*blobs)
    assert {d for _, d, _ in trained} == {torch.device("cpu:0")} and len(trained) == 3


class Meets(Callback):
    """Goes on when the members of both devices are in training."""

    barrier = threading.Barrier(2)

    def on_train_begin(self, net, **kwargs):
        self.barrier.wait(timeout=60)


def test_devices_work_at_the_same_time(blobs):
    """Else nobody would come to the barrier but one."""
    ensemble(4, TWO, callbacks=[Meets]).fit(*blobs)


def test_rows_go_to_each_device(monkeypatch):
    class OnGPU(Rows):
        device = torch.device("cuda:0")

    rows = OnGPU(torch.arange(6.0).view(3, 2), torch.arange(3), torch.ones(3))
    assert rows.on(torch.device("cuda:0")) is rows and rows.on(torch.device("cuda")) is rows
    sent, to = [], torch.Tensor.to

    def sending(tensor, device):
        sent.append(str(device))
        return to(tensor, "cpu")

    monkeypatch.setattr(torch.Tensor, "to", sending)
    there = rows.on(torch.device("cpu:1"))
    assert there is not rows and sent == ["cpu:1"] * 3
    assert torch.equal(there.X, rows.X) and torch.equal(there.y, rows.y)
    monkeypatch.setattr("skuq._data._batches.fits", lambda n_bytes, device: n_bytes < 24)
    sent.clear()
    rows.on(torch.device("cuda:1"))
    assert sent == ["cpu"] * 3  # where it would not fit, it stays on the host, as on the first
    assert Rows(rows.X, rows.y).on(torch.device("cuda:1")).X is rows.X


# -- the same bits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"posterior__bootstrap": True, "early_stopping": True, "max_epochs": 8},
        {"module": networks.Functional},  # draws from the global generator: one at a time
        {"precision": "float64", "optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*draws? random numbers")
def test_the_same_bits_on_any_list(options, blobs, untouched_globals):
    alone = ensemble(n_jobs=1).set_params(**options).fit(*blobs)
    for device in (TWO, ["cpu"] * 3, [*TWO, "cpu:2", "cpu:3", "cpu:4", "cpu:5"]):
        for n_jobs in (None, 1):
            found = ensemble(device=device, n_jobs=n_jobs).set_params(**options).fit(*blobs)
            assert_same(found, alone, blobs[0])


def test_without_n_jobs(digits, blobs):
    """Where members are no stack, one device gives the same bits; where they are, to rounding."""
    X, y = digits[0][:120].reshape(-1, 1, 8, 8), digits[1][:120]
    one, two = (ensemble(3, d, module=networks.ConvNet).fit(X, y) for d in ("cpu", TWO))
    assert_same(one, two, X)
    one, two = (ensemble(3, d).fit(*blobs) for d in ("cpu", TWO))
    for name, tensor in states(one).items():
        torch.testing.assert_close(tensor, states(two)[name], rtol=0, atol=1e-4)


def test_a_list_of_one_is_its_device(blobs):
    one, listed = (ensemble(3, d).fit(*blobs) for d in ("cpu", ["cpu"]))
    assert_same(one, listed, blobs[0])
    assert listed.device_ == "cpu" and listed.device == ["cpu"]


def test_the_first_members_stay(blobs):
    few, many = (states(ensemble(n, TWO).fit(*blobs)) for n in (2, 5))
    assert all(torch.equal(tensor[:2], few[name]) for name, tensor in many.items())


def test_a_regressor_and_weights(diabetes):
    X, y = diabetes
    weight = np.arange(len(y)) % 3.0
    one, two = (
        TorchRegressor(
            posterior=DeepEnsemble(3, n_jobs=n), device=d, max_epochs=2, random_state=0
        ).fit(X, y, sample_weight=weight)
        for n, d in ((1, "cpu"), (None, TWO))
    )
    assert np.array_equal(one.predict_interval(X), two.predict_interval(X))


class Seeking(Dataset):
    """As a file: the place to read is set, then read; two threads would spoil it."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        self.place = index
        time.sleep(1e-6)  # another thread, if it may
        return self.X[self.place], self.y[self.place]


def test_a_dataset_is_read_by_one_thread_at_a_time(blobs):
    X, y = blobs
    one, two = (
        ensemble(2, d, n, max_epochs=2).fit(Seeking(X, y)) for n, d in ((1, "cpu"), (None, TWO))
    )
    assert_same(one, two, X)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ([], r"device=\[\] names no device; give some, such as \['cuda:0', 'cuda:1'\]"),
        ((), r"device=\(\) names no device"),
        (["cpu", "cuda:99"], "device='cuda:99' is not available here"),
        (["cpu", "gpu"], "device='gpu' is not available here"),
        (["auto"], "a list must hold names of devices, such as 'cuda:0', got 'auto' in it"),
        ([0, 1], "a list must hold names of devices, such as 'cuda:0', got 0 in it"),
        ([["cpu"]], r"got \['cpu'\] in it"),
        (["cpu", "meta"], r"must be of one kind, got \['cpu', 'meta'\]"),
        ({"cpu"}, "'device' parameter of TorchClassifier must be"),
        (0, "'device' parameter of TorchClassifier must be"),
    ],
    ids=str,
)
def test_devices_that_are_none(device, message, blobs):
    network = ensemble(2).set_params(device=device)
    with pytest.raises(ValueError, match=message):
        network.fit(*blobs)
    assert not hasattr(network, "_engine")


def test_names_of_one_device():
    cpu, one = torch.device("cpu"), torch.device("cpu:1")
    assert same_device(cpu, one) and same_device(one, cpu) and same_device(one, one)
    assert not same_device(torch.device("cpu:0"), one)
    assert not same_device(cpu, torch.device("cuda"))
    assert Numerics.on(("cpu:1", "cuda:99"), "float32").device == one
    assert named_devices(["cpu", "cpu:1"]) == [cpu, one]


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus(blobs):
    X, y = blobs
    one = ensemble(4, "cuda", n_jobs=1, module=networks.Plain).fit(X, y)
    two = ensemble(4, ["cuda:0", "cuda:1"], module=networks.Plain).fit(X, y)
    assert two.device_ == "cuda:0"
    assert {t.device for t in states(two).values()} == {torch.device("cuda:0")}
    np.testing.assert_allclose(two.predict_draws(X), one.predict_draws(X), atol=1e-4)
    going = ensemble(4, ["cuda:0", "cuda:1"]).partial_fit(X, y).partial_fit(X, y)
    going.set_params(device="cuda:0").partial_fit(X, y)
    assert pickle.loads(pickle.dumps(going)).predict(X).shape == y.shape
