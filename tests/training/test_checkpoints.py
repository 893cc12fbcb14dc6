"""Checkpoints: whoever is killed goes on, and ends where he would have ended."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch.optim import lr_scheduler

from skuq import TorchClassifier, TorchRegressor
from skuq._training._checkpoints import Checkpoints
from skuq.likelihoods import Bernoulli
from skuq.posteriors import DeepEnsemble, MCDropout
from tests.training.killing import Killed, Noisy, Remembers, Stackable, assert_same, classifier

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


# -- a real kill -----------------------------------------------------------------------------------


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
@pytest.mark.slow
@pytest.mark.parametrize("n_kills", [3, 20])
def test_kill_9(n_kills, tmp_path):
    """Lives that end at any moment, one after another, each going on where the last one ended."""
    command = [sys.executable, "-c", KILLS, str(tmp_path), str(n_kills)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=os.getcwd())
    assert run.returncode == 0, run.stderr
    killed = [int(line) for line in run.stdout.split()]
    assert min(killed) >= 1 and sum(killed) >= n_kills
