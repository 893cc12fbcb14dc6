"""One estimator, many threads; many draws, little memory."""

import resource
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch

from skuq import TorchClassifier, TorchRegressor
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests import networks


@pytest.mark.parametrize(
    "posterior",
    [
        MCDropout(5),
        pytest.param(DeepEnsemble(3), marks=pytest.mark.slow),
        pytest.param(PointEstimate(), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_eight_threads_predict_what_one_does(posterior, digits):
    X, y = digits
    X = X[:40].reshape(-1, 1, 8, 8)
    fitted = TorchClassifier(
        networks.ConvNet, posterior=posterior, max_epochs=1, random_state=0
    ).fit(X, y[:40])
    asks = [
        fitted.predict_proba,
        lambda X: np.stack(fitted.predict_uncertainty(X, kind="all")),
        lambda X: fitted.draws(torch.as_tensor(X)).detach().numpy(),
    ]
    expected = [ask(X) for ask in asks]
    before = {name: tensor.clone() for name, tensor in fitted.module_.state_dict().items()}
    wrong = []

    def work(index):
        for call in range(200):
            which = (index + call) % len(asks)
            if not np.array_equal(asks[which](X), expected[which]):
                wrong.append((index, call))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for name, tensor in fitted.module_.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("module", [networks.ResidualNet, networks.Functional])
def test_threads_fit_what_one_does(module, blobs):
    X, y = blobs

    def fit(seed):
        network = TorchClassifier(
            module, posterior=DeepEnsemble(2), max_epochs=2, random_state=seed
        )
        return network.fit(X, y).predict_proba(X)

    expected = [fit(seed) for seed in range(4)]
    found = [None] * 4

    def work(seed):
        found[seed] = fit(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(found, expected))


MEMORY = """
import resource, sys
import numpy as np
import torch
torch.set_num_threads(1)
from skuq import TorchClassifier
from skuq.posteriors import MCDropout
n, n_classes, n_draws = 100_000, 100, 200
random = np.random.default_rng(0)
X = random.normal(size=(n, 8)).astype(np.float32)
y = np.arange(1000) % n_classes
network = TorchClassifier(posterior=MCDropout(n_draws), max_epochs=1, random_state=0,
                          module__hidden_layer_sizes=(8,)).fit(X[:1000], y)
network.predict_uncertainty(X[:100], kind="all")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
parts = network.predict_uncertainty(X, kind="all")
proba = network.predict_proba(X)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units")
def test_memory_does_not_grow_with_draws():
    """200 draws × 100,000 rows × 100 classes: at most three times the result's own size."""
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(run.stdout) <= 3 * 100_000 * 100 * 8, run.stdout


def test_memory_of_a_smaller_case():
    """The same in small, in this process: the stack of all draws would be 320 MB."""
    X = np.random.default_rng(0).normal(size=(20_000, 4)).astype(np.float32)
    y = np.arange(200) % 20
    network = TorchClassifier(
        posterior=MCDropout(100), max_epochs=1, module__hidden_layer_sizes=(8,)
    ).fit(X[:200], y)
    network.predict_uncertainty(X[:100], kind="all")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    network.predict_uncertainty(X, kind="all")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 60e6


def test_all_draws_come_with_a_warning_when_they_are_many(monkeypatch, blobs, diabetes):
    monkeypatch.setattr("skuq._reductions._MANY_BYTES", 10_000)
    X, y = blobs
    network = TorchClassifier(posterior=MCDropout(20), max_epochs=1).fit(X, y)
    with pytest.warns(UserWarning, match="predict_draws keeps every draw"):
        network.predict_draws(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.predict_draws(X[:5])
    X, y = diabetes
    regressor = TorchRegressor(posterior=MCDropout(20), max_epochs=1).fit(X, y)
    with pytest.warns(UserWarning, match="predict_draws keeps every draw"):
        regressor.predict_draws(X)
