"""Checkpoints: whoever is killed goes on, and ends where he would have ended."""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch import nn
from torch.optim import lr_scheduler

from skuq import DivergedError, TorchClassifier, TorchRegressor
from skuq._training import _identity
from skuq._training._checkpoints import Checkpoints, _read, _write, storable
from skuq.likelihoods import Bernoulli
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests import networks


class Killed(BaseException):
    """As if the process were gone: nobody catches it, nothing is tidied up."""


class Faults:
    """Counts the places at which a fit may be killed, and kills it at one."""

    count = 0
    at = None

    @classmethod
    def here(cls):
        cls.count += 1
        if cls.count == cls.at:
            raise Killed


class Fallible(networks.ResidualNet):
    """Dropout at several places, BatchNorm, a number that the forward counts in."""

    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)
        self.norm = nn.BatchNorm1d(16)
        self.register_buffer("scale", torch.ones(1), persistent=False)
        self.calls = 0

    def forward(self, x):
        if self.training:
            self.calls += 1
            Faults.here()
        x = torch.relu(self.norm(self.inner(x)))
        return self.outer(self.dropout(x)) * self.scale


class Stackable(networks.ResidualNet):
    """A stack of it trains as one."""

    def forward(self, x):
        if self.training:
            Faults.here()
        return super().forward(x)


class Noisy(networks.Functional):
    """Draws from the global generator of torch in training."""

    def forward(self, x):
        if self.training:
            Faults.here()
        return super().forward(x)


class Remembers(Callback):
    """Scales the learning rate by what it remembers of all epochs."""

    def __init__(self):
        self.losses = []
        self.seen = {"best": np.float64(np.inf), "norm": torch.zeros(2)}

    def on_epoch_end(self, net, **kwargs):
        self.losses.append(net.history[-1]["train_loss"])
        self.seen["best"] = min(self.seen["best"], self.losses[-1])
        self.seen["norm"] = self.seen["norm"] + 1
        for group in net.optimizer_.param_groups:
            group["lr"] = 0.01 / (1 + np.mean(self.losses)) / float(self.seen["norm"][0])


@pytest.fixture
def faults(monkeypatch):
    """Faults also before, within and after each file that is written."""
    replace, savez = os.replace, np.savez

    def replace_or_die(*args):
        Faults.here()
        replace(*args)
        Faults.here()

    def write_or_die(file, **arrays):
        file.write(b"PK half of a file")
        Faults.here()
        file.seek(0)
        savez(file, **arrays)

    monkeypatch.setattr("skuq._utils._files.os.replace", replace_or_die)
    monkeypatch.setattr("skuq._training._checkpoints.np.savez", write_or_die)
    monkeypatch.setattr(Faults, "count", 0)
    monkeypatch.setattr(Faults, "at", None)
    return Faults


def classifier(module=Fallible, posterior=None, **options):
    options = {"max_epochs": 5, "batch_size": 50, "lr": 0.01, "random_state": 0, **options}
    return TorchClassifier(module, posterior=posterior or PointEstimate(), **options)


def state_of(fitted):
    """All that training made."""
    histories = [[{**row, "dur": 0} for row in history] for history in fitted.histories_]
    networks = fitted._engine.draws.networks(len(fitted.histories_))
    return histories, [network.state_dict() for network in networks]


def assert_same(found, expected):
    (histories, weights), (expected_histories, expected_weights) = map(state_of, (found, expected))
    assert histories == expected_histories
    for network, other in zip(weights, expected_weights):
        assert network.keys() == other.keys()
        assert all(torch.equal(network[name], other[name]) for name in network)


EARLY = {"early_stopping": True, "n_iter_no_change": 2, "max_epochs": 8}
SCHEDULED = [
    LRScheduler(lr_scheduler.OneCycleLR, max_lr=0.02, total_steps=200, step_every="batch"),
    Remembers,
]
PLATEAU = [LRScheduler("ReduceLROnPlateau", patience=0, factor=0.5)]
STEPS = [
    LRScheduler(lr_scheduler.MultiStepLR, milestones=[1, 2], gamma=0.5),
    EarlyStopping("train_loss"),
]
RMSPROP = {"optimizer": torch.optim.RMSprop, "optimizer__momentum": 0.5}
RUNS = {
    "one network": lambda: classifier(callbacks=SCHEDULED),
    "early stopping": lambda: classifier(callbacks=PLATEAU, **EARLY),
    "LBFGS": lambda: classifier(optimizer=torch.optim.LBFGS, callbacks=STEPS, max_epochs=3),
    "other noise": lambda: classifier(Noisy, max_epochs=4),
    "dropout masks": lambda: classifier(Stackable, MCDropout(5), **RMSPROP),
    "a stack": lambda: classifier(Stackable, DeepEnsemble(3, bootstrap=True)),
    "a stack that stops": lambda: classifier(Stackable, DeepEnsemble(2), lr=0.1, **EARLY),
    "two stacks": lambda: classifier(Stackable, DeepEnsemble(17), max_epochs=2, batch_size=300),
    "one by one": lambda: classifier(posterior=DeepEnsemble(3, n_jobs=1), max_epochs=3, **RMSPROP),
    "relabelled": lambda: TorchClassifier(
        Stackable, posterior=DeepEnsemble(2), likelihood=Bernoulli(uncertain_label="self"),
        max_epochs=3, random_state=0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("run", RUNS)
def test_a_fit_that_is_killed_goes_on(run, blobs, tmp_path, faults, untouched_globals):
    """At four places of each run: in training, before, within and after a file is written."""
    X, y = blobs
    if run == "relabelled":
        y = np.where(np.arange(240) % 9, y > 0, np.nan)
    expected = RUNS[run]().fit(X, y)
    alone = faults.count
    faults.count = 0
    RUNS[run]().set_params(checkpoint_dir=tmp_path / "whole").fit(X, y)
    total = faults.count
    assert total > alone
    assert list((tmp_path / "whole").iterdir()) == []
    again = []
    for part in (0.15, 0.45, 0.7, 0.97):
        folder = tmp_path / str(part)
        faults.count, faults.at = 0, 1 + int(part * (total - 1))
        with pytest.raises(Killed):
            RUNS[run]().set_params(checkpoint_dir=folder).fit(X, y)
        faults.count, faults.at = 0, None
        found = RUNS[run]().set_params(checkpoint_dir=folder).fit(X, y)
        again.append(faults.count)
        assert_same(found, expected)
        assert np.array_equal(found.predict_proba(X), expected.predict_proba(X))
        assert list(folder.iterdir()) == []
    assert again == sorted(again, reverse=True)  # the later, the less is left to do
    assert again[-1] < total / 2


def test_killed_again_and_again(blobs, tmp_path, faults):
    """A place after another, each life one step longer than the last checkpoint needs."""
    X, y = blobs
    run = RUNS["early stopping"]
    expected = run().fit(X, y)
    deaths = 0
    while True:
        faults.count, faults.at = 0, 14
        try:
            found = run().set_params(checkpoint_dir=tmp_path).fit(X, y)
            break
        except Killed:
            deaths += 1
            assert deaths < 100
    assert deaths >= 5
    assert_same(found, expected)


def test_a_regressor(diabetes, tmp_path, faults):
    X, y = diabetes
    weight = np.linspace(0, 2, len(y))

    def run():
        return TorchRegressor(Stackable, posterior=MCDropout(5), max_epochs=4, random_state=0)

    expected = run().fit(X, y, sample_weight=weight)
    faults.count, faults.at = 0, 20
    with pytest.raises(Killed):
        run().set_params(checkpoint_dir=tmp_path).fit(X, y, sample_weight=weight)
    faults.at = None
    found = run().set_params(checkpoint_dir=tmp_path).fit(X, y, sample_weight=weight)
    assert_same(found, expected)


@pytest.mark.usefixtures("fresh_entropy")
@pytest.mark.parametrize("random_state", [None, 0])
def test_the_seed_is_that_of_the_begin(random_state, blobs, tmp_path, faults):
    X, y = blobs
    run = lambda folder: classifier(random_state=random_state, checkpoint_dir=folder)
    faults.at = 25
    with pytest.raises(Killed):
        run(tmp_path / "a").fit(X, y)
    faults.at = None
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    one, other = run(tmp_path / "a").fit(X, y), run(tmp_path / "b").fit(X, y)
    assert_same(one, other)
    if random_state is None:
        assert not np.array_equal(one.predict_proba(X), run(tmp_path).fit(X, y).predict_proba(X))


def test_a_random_state_with_a_state(blobs, tmp_path, faults):
    X, y = blobs
    run = lambda seed: classifier(
        random_state=np.random.RandomState(seed),
        checkpoint_dir=tmp_path,
    )
    faults.at = 25
    with pytest.raises(Killed):
        run(3).fit(X, y)
    faults.at = None
    with pytest.raises(ValueError, match=r"other parameters \(random_state="):
        run(4).fit(X, y)
    assert run(3).fit(X, y).n_iter_ == 5


def test_a_warm_start_goes_on_from_its_own_networks(blobs, tmp_path, faults):
    X, y = blobs
    expected, found, other = (classifier(warm_start=True).fit(X, y) for _ in range(3))
    expected.fit(X, y)
    other.fit(X, y)
    for estimator in (found, other):
        estimator.set_params(checkpoint_dir=tmp_path)
    faults.count, faults.at = 0, 25
    with pytest.raises(Killed):
        found.fit(X, y)
    faults.at = None
    with pytest.raises(ValueError, match="fitted networks to go on from="):
        other.fit(X, y)
    assert_same(found.fit(X, y), expected)


def test_minutes(blobs, tmp_path, monkeypatch):
    now, written = 0.0, []
    monkeypatch.setattr("skuq._training._checkpoints.time.monotonic", lambda: now)
    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda *args: (written.append(args), save(*args)))

    class Clock(Callback):
        def on_epoch_end(self, net, **kwargs):
            nonlocal now
            now += 30

    options = {"callbacks": [Clock], "checkpoint_dir": tmp_path, "max_epochs": 6}
    classifier(checkpoint_minutes=1, **options).fit(*blobs)
    assert [state["finished"] for _, _, state in written] == [False, False, False, True]
    epochs = [len(state["history"]) for _, _, state in written[:3]]
    assert epochs == [2, 4, 6]


def test_partial_fit_has_no_checkpoints(blobs, tmp_path):
    X, y = blobs
    fitted = classifier(checkpoint_dir=tmp_path / "none").partial_fit(X, y)
    assert fitted.n_iter_ == 1 and not (tmp_path / "none").exists()


# -- what is refused ----------------------------------------------------------------------------


@pytest.fixture
def begun(blobs, tmp_path, faults):
    """A folder with a fit that was killed, and what fits the same with other parameters."""
    X, y = blobs
    faults.at = 25
    with pytest.raises(Killed):
        classifier(checkpoint_dir=tmp_path).fit(X, y)
    faults.at = None
    return lambda **options: classifier(checkpoint_dir=tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"lr": 0.02}, r"parameters \(lr=0.01 there, 0.02 here\)"),
        ({"random_state": 1}, r"parameters \(random_state=0 there, 1 here\)"),
        ({"random_state": None}, r"parameters \(random_state=0 there, None here\)"),
        ({"optimizer__weight_decay": 0.1}, "optimizer__weight_decay=None there, 0.1 here"),
        ({"posterior": DeepEnsemble(2)}, "posterior=PointEstimate"),
        ({"module": Noisy}, "module=tests.training.test_checkpoints.Fallible there"),
        ({"callbacks": [EarlyStopping("train_loss", patience=3)]}, "callbacks=None there"),
        ({"precision": "float64", "max_epochs": 6}, r"data \(X\).*max_epochs=.*precision="),
    ],
)
def test_other_parameters(options, reason, begun, blobs):
    with pytest.raises(ValueError, match=reason) as caught:
        begun(**options).fit(*blobs)
    assert "delete this one to begin anew" in str(caught.value)
    assert begun(on_interrupt="keep", checkpoint_minutes=1, verbose=1).fit(*blobs).n_iter_ == 5


def test_other_data(begun, blobs):
    X, y = blobs
    moved = X.copy()
    moved[-1, -1] += 1e-3
    with pytest.raises(ValueError, match=r"begun with other data \(X\)"):
        begun().fit(moved, y)
    with pytest.raises(ValueError, match=r"other data \(X, y\)"):
        begun().fit(X[:-1], y[:-1])
    with pytest.raises(ValueError, match=r"other data \(y\)"):
        begun().fit(X, np.roll(y, 1))
    with pytest.raises(ValueError, match=r"other data \(sample_weight\)"):
        begun().fit(X, y, sample_weight=np.linspace(1, 2, len(y)))
    with pytest.raises(ValueError, match=r"other data \(groups\)"):
        begun().fit(X, y, groups=np.arange(len(y)) // 2)
    begun().fit(X, y)
    begun().fit(moved, y)  # which was over, so that another may begin


def test_other_versions(begun, blobs, monkeypatch):
    monkeypatch.setattr("skuq._training._identity.importlib.metadata.version", lambda name: "0.0")
    with pytest.raises(ValueError, match=r"other versions \(numpy=.* there, 0.0 here"):
        begun().fit(*blobs)


def test_a_module_that_was_rewritten(begun, blobs, monkeypatch):
    def init(self, n_features, n_outputs):
        super(Fallible, self).__init__(n_features, n_outputs, width=8)
        self.norm, self.scale, self.calls = nn.BatchNorm1d(8), torch.ones(1), 0

    monkeypatch.setattr(Fallible, "__init__", init)
    with pytest.raises(ValueError, match="of another module than Fallible is now"):
        begun().fit(*blobs)


@pytest.mark.parametrize("name", ["skuq-run.npz", "skuq-network-0.npz"])
@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_file(name, damage, begun, blobs, tmp_path):
    path = tmp_path / name
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    path.write_bytes(bytes(flipped) if damage is None else damage)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        begun().fit(*blobs)


def test_a_file_of_another_format(begun, blobs, tmp_path):
    _write(tmp_path / "skuq-run.npz", {"format": 99, "identity": {}, "root": 0})
    with pytest.raises(ValueError, match="has format 99, expected 2"):
        begun().fit(*blobs)


def test_not_a_folder(blobs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is not a folder that can be made"):
        classifier(checkpoint_dir=tmp_path / "file").fit(*blobs)


class Unstorable(Callback):
    def __init__(self):
        self.log = object()


class Storable(Unstorable):
    """The same, which says itself what it is to keep."""

    def state_dict(self):
        return {"n": 1}

    def load_state_dict(self, state):
        assert state == {"n": 1}


def test_callbacks_that_cannot_be_stored(blobs, tmp_path, faults):
    X, y = blobs
    with pytest.raises(ValueError, match=r"'Unstorable': its attribute 'log', of type object"):
        classifier(callbacks=[Unstorable], checkpoint_dir=tmp_path).fit(X, y)
    run = lambda: classifier(callbacks=[Storable], checkpoint_dir=tmp_path / "other")
    faults.count, faults.at = 0, 25
    with pytest.raises(Killed):
        run().fit(X, y)
    faults.at = None
    assert run().fit(X, y).n_iter_ == 5


def test_iterators_that_cannot_be_stored(blobs, tmp_path):
    sampler = torch.utils.data.RandomSampler(range(240))
    network = classifier(iterator_train__sampler=sampler, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="cannot be used with iterator_train__sampler"):
        network.fit(*blobs)


def test_a_fit_that_diverges_is_over(diabetes, tmp_path):
    X, y = diabetes
    options = {"posterior": PointEstimate(), "checkpoint_dir": tmp_path, "max_epochs": 3}
    with pytest.raises(DivergedError):
        TorchRegressor(optimizer=torch.optim.SGD, lr=1e30, **options).fit(X, y)
    TorchRegressor(lr=0.01, **options).fit(X, y)


# -- what a file holds --------------------------------------------------------------------------


def test_round_trip(tmp_path):
    state = {
        "numbers": [1, -2.5, float("inf"), True, None, "text", 2**70],
        3: (np.float32(0.1), np.int64(7), np.bool_(True)),
        "dicts": {"o": OrderedDict(b=1, a=2), "c": Counter({3: 2}), "set": {1, 2}},
        "tensors": [
            torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T,
            torch.tensor(2.5, dtype=torch.float64),
            torch.zeros(0, 4),
            torch.tensor([True, False]),
            torch.Generator().manual_seed(3).get_state(),
        ],
        "arrays": [np.arange(6.0).reshape(2, 3).T, np.array("word"), np.zeros((0, 2))],
        ("tuple", 1): np.random.RandomState(0).get_state(),
    }
    _write(tmp_path / "file.npz", state)
    found = _read(tmp_path / "file.npz")
    assert repr(found) == repr(state)  # types, too
    assert [t.dtype for t in found["tensors"]] == [t.dtype for t in state["tensors"]]
    assert all(torch.equal(a, b) for a, b in zip(found["tensors"], state["tensors"]))
    assert all(np.array_equal(a, b) for a, b in zip(found["arrays"], state["arrays"]))


@pytest.mark.parametrize("value", [object(), print, np.array([None]), {1: [object()]}, 1j])
def test_what_is_not_stored(value):
    assert not storable(value)


def test_files_are_arrays_and_json(begun, tmp_path):
    with np.load(tmp_path / "skuq-network-0.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "biufcUS" for name in arrays)
        json.loads(arrays["json"].tobytes())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["skuq-network-0.npz", "skuq-run.npz"]


def made_by(width):
    return functools.partial(
        lambda n_features, n_outputs, w: nn.Linear(n_features, n_outputs), w=width
    )


def test_functions_are_known_by_name_and_code(blobs, tmp_path):
    describe = _identity.describe
    assert describe(made_by(3)) == describe(made_by(3)) != describe(made_by(4))
    assert describe(lambda x: x + 1) != describe(lambda x: x + 2)
    closed = lambda n: lambda x: x + n
    assert describe(closed(1)) == describe(closed(1)) != describe(closed(2))
    assert " at 0x" not in describe([made_by, Remembers(), nn.Linear, torch.optim.Adam, {1: print}])
    assert describe({"a", "b", "c"}) == describe({"c", "b", "a"})


# -- a real kill --------------------------------------------------------------------------------

KILLS = """
import os, signal, sys, threading, time
import numpy as np
import torch
torch.set_num_threads(1)
from skorch.callbacks import LRScheduler
from skuq import TorchClassifier
from skuq.posteriors import DeepEnsemble
from tests import networks

folder, n_kills = sys.argv[1], int(sys.argv[2])
random = np.random.default_rng(0)
X = random.normal(size=(200, 10)).astype(np.float32)
y = (X[:, 0] + random.normal(size=200) > 0).astype(int)

class Slow(networks.ResidualNet):
    def forward(self, x):
        if self.training:
            time.sleep(0.002)
        return super().forward(x)

def run(posterior, **options):
    return TorchClassifier(Slow, posterior=posterior, max_epochs=20, early_stopping=True,
                           n_iter_no_change=20, batch_size=30, random_state=0, **options)

kinds = [
    lambda **o: run(DeepEnsemble(2), **o),
    lambda **o: run(DeepEnsemble(2, n_jobs=1), callbacks=[LRScheduler("StepLR", step_size=3)], **o),
]
for kind, make in enumerate(kinds):
    expected = make().fit(X, y)
    begin = time.perf_counter()
    make().fit(X, y)
    whole = time.perf_counter() - begin
    here, killed = f"{folder}/{kind}", 0
    for kill in range(n_kills):
        child = os.fork()
        if not child:
            delay = whole * random.uniform(0.02, 0.4)
            timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()
            make(checkpoint_dir=here).fit(X, y)
            os._exit(0)
        random.uniform()  # the parent goes on, too
        status = os.waitpid(child, 0)[1]
        killed += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    found = make(checkpoint_dir=here).fit(X, y)
    assert np.array_equal(found.predict_draws(X), expected.predict_draws(X))
    assert os.listdir(here) == []
    print(killed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("n_kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9(n_kills, tmp_path):
    """Lives that end at any moment, one after another, each going on where the last one ended."""
    command = [sys.executable, "-c", KILLS, str(tmp_path), str(n_kills)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=os.getcwd())
    assert run.returncode == 0, run.stderr
    killed = [int(line) for line in run.stdout.split()]
    assert min(killed) >= 1 and sum(killed) >= n_kills
