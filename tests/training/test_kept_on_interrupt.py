"""Ctrl-C with on_interrupt="keep": what is finished, and marked so."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skuq import TorchClassifier, TorchRegressor
from skuq.likelihoods import Bernoulli
from skuq.posteriors import DeepEnsemble, LastLayerLaplace, MCDropout, PointEstimate
from tests import networks


class Interrupted(networks.ResidualNet):
    """Ctrl-C arrives in the middle of a step."""

    at = None
    steps = 0

    def forward(self, x):
        # Probes run on fewer rows than a batch.
        if self.training and x.shape[-2] == 60:
            type(self).steps += 1
            if self.steps == self.at:
                raise KeyboardInterrupt
        return super().forward(x)


class OneByOne(Interrupted):
    """No stack of it does the same, for what it divides by."""

    def forward(self, x):
        return super().forward(x) / (1 if x.ndim == 2 else 2)


@pytest.fixture(autouse=True)
def never():
    for cls in (Interrupted, OneByOne):
        cls.at, cls.steps = None, 0


def classifier(posterior=None, module=Interrupted, **options):
    options = {"max_epochs": 6, "batch_size": 60, "lr": 0.01, "random_state": 0, **options}
    posterior = PointEstimate() if posterior is None else posterior
    return TorchClassifier(module, posterior=posterior, **options)


def interrupt(estimator, X, y, at, match=""):
    """Fit, with Ctrl-C in this step (four are an epoch)."""
    module = estimator.module
    module.at, module.steps = at, 0
    estimator = clone(estimator).set_params(on_interrupt="keep")
    with pytest.warns(ConvergenceWarning, match=match) as caught:
        assert estimator.fit(X, y) is estimator
    module.at = None
    assert len([w for w in caught if w.category is ConvergenceWarning]) == 1
    assert estimator.interrupted_
    return estimator


def assert_same(a, b, X):
    assert np.array_equal(a.predict_draws(X), b.predict_draws(X))
    assert a.n_iter_ == b.n_iter_


@pytest.mark.parametrize(
    "posterior",
    [PointEstimate(), MCDropout(5), DeepEnsemble(3), LastLayerLaplace(n_draws=5)],
    ids=str,
)
def test_whole_epochs_are_kept(posterior, blobs, untouched_globals):
    """Of a network that is alone, and of a stack, in which none is finished before the others."""
    X, y = blobs
    n = getattr(posterior, "n_members", 1)
    found = interrupt(classifier(posterior), X, y, 15, f"{n} of {n} network.*for 3 of 6 epochs")
    expected = classifier(posterior, max_epochs=3).fit(X, y)
    assert not expected.interrupted_
    assert_same(found, expected, X)
    assert all(len(history) == 3 for history in found.histories_)
    assert found.predict_uncertainty(X).shape == (240,)


@pytest.mark.parametrize(
    ("posterior", "module"),
    [
        (DeepEnsemble(3), OneByOne),
        (DeepEnsemble(3, n_jobs=1), Interrupted),
        (DeepEnsemble(3, n_jobs=1, bootstrap=True), Interrupted),
    ],
    ids=str,
)
def test_finished_members_are_kept(posterior, module, blobs):
    X, y = blobs
    whole = classifier(posterior, module, max_epochs=4)
    found = interrupt(whole, X, y, 2 * 16 + 7, "keeps 2 of 3 network.*for 4 of 4 epochs")
    assert found.posterior_.n_members == 3  # what was asked; what is there says the rest
    expected = classifier(clone(posterior).set_params(n_members=2), module, max_epochs=4)
    assert_same(found, expected.fit(X, y), X)
    begun = interrupt(whole, X, y, 7, "keeps 1 of 3 network.*for 1 of 4 epochs")
    expected.set_params(max_epochs=1, posterior__n_members=1)
    assert_same(begun, expected.fit(X, y), X)


def test_early_stopping_has_a_best_one(blobs):
    X, y = blobs[0], np.random.default_rng(0).integers(3, size=240)  # nothing to learn for long
    options = {"early_stopping": True, "n_iter_no_change": 15, "max_epochs": 60, "lr": 0.005}
    whole = classifier(**options, validation_fraction=0.25).fit(X, y)  # three steps an epoch
    losses = [epoch["valid_loss"] for epoch in whole.history_]
    best = int(np.argmin(losses))
    assert 0 < best < 40
    found = interrupt(classifier(**options, validation_fraction=0.25), X, y, 3 * (best + 4) + 2)
    assert found.n_iter_ == best + 4
    assert_same(
        found.set_params(max_epochs=best + 1),
        interrupt(classifier(**options, validation_fraction=0.25), X, y, 3 * (best + 4) + 3),
        X,
    )
    assert np.array_equal(found.predict_proba(X), whole.predict_proba(X))


def test_members_that_early_stopping_has_ended(blobs):
    """Of a stack: the finished ones alone."""
    X, y = blobs
    options = {"early_stopping": True, "n_iter_no_change": 2, "max_epochs": 60, "lr": 0.1}
    ensemble = classifier(DeepEnsemble(3), validation_fraction=0.25, **options)
    whole = clone(ensemble).fit(X, y)
    ends = sorted(len(history) for history in whole.histories_)
    assert ends[0] < ends[-1]
    found = interrupt(ensemble, X, y, 3 * ends[-2] + 2)
    kept = [k for k, history in enumerate(whole.histories_) if len(history) < ends[-1]]
    kept = [k for k in kept if len(whole.histories_[k]) <= ends[-2]]
    assert 0 < len(kept) < 3
    assert np.array_equal(found.predict_draws(X), whole.predict_draws(X)[kept])


@pytest.mark.parametrize("posterior", [PointEstimate(), DeepEnsemble(2)], ids=str)
@pytest.mark.parametrize("on_interrupt", ["raise", "keep"])
def test_nothing_to_keep(posterior, on_interrupt, blobs):
    network = classifier(posterior, on_interrupt=on_interrupt)
    Interrupted.at = 3
    with pytest.raises(KeyboardInterrupt):
        network.fit(*blobs)
    assert not hasattr(network, "n_iter_")


@pytest.mark.parametrize("at", [15, 24 + 15])
def test_a_likelihood_that_trains_twice(at, blobs):
    """Of its first training nothing can be kept: it is not the one that was asked for."""
    X, y = blobs
    y = np.where(np.arange(240) % 9, y > 0, np.nan)
    network = TorchClassifier(
        Interrupted, posterior=PointEstimate(), likelihood=Bernoulli(uncertain_label="self"),
        max_epochs=6,
        batch_size=60, random_state=0, on_interrupt="keep",
    )  # fmt: skip
    if at == 15:
        Interrupted.at = at
        with pytest.raises(KeyboardInterrupt):
            network.fit(X, y)
    else:
        assert interrupt(network, X, y, at).n_iter_ == 3


def test_a_fit_that_was_interrupted_goes_on(blobs, tmp_path):
    """With a checkpoint the next fit ends as if nothing had happened."""
    X, y = blobs
    expected = classifier().fit(X, y)
    whole = classifier(checkpoint_dir=tmp_path)
    interrupt(whole, X, y, 15)
    found = whole.fit(X, y)
    assert not found.interrupted_
    assert_same(found, expected, X)


def test_partial_fit_keeps_what_was(blobs):
    X, y = blobs
    network = classifier(on_interrupt="keep").partial_fit(X, y)
    before = network.predict_proba(X)
    Interrupted.at, Interrupted.steps = 2, 0
    with pytest.raises(KeyboardInterrupt):
        network.partial_fit(X, y)
    assert np.array_equal(network.predict_proba(X), before)


def test_a_regressor(diabetes):
    X, y = diabetes
    network = TorchRegressor(
        Interrupted, posterior=MCDropout(3), batch_size=60, max_epochs=5, random_state=0
    )
    assert interrupt(network, X[:240], y[:240], 9).predict(X).shape == y.shape


class Slow(networks.Plain):
    """Ctrl-C comes while it trains, some time after its first epochs."""

    steps = 0

    def forward(self, x):
        if self.training:
            time.sleep(0.005)
            type(self).steps += 1
            if self.steps == 20:
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        return super().forward(x)


def test_a_real_ctrl_c(blobs):
    Slow.steps = 0
    network = classifier(module=Slow, max_epochs=10**6, on_interrupt="keep")
    state = torch.get_rng_state()
    with pytest.warns(ConvergenceWarning, match="of 1000000 epochs"):
        network.fit(*blobs)
    assert network.interrupted_ and 0 < network.n_iter_ < 1000
    assert torch.equal(state, torch.get_rng_state())
