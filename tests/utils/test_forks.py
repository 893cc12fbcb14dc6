"""Processes that begin after torch's threads have: none hangs."""

import os
import subprocess
import sys

import pytest

FORKS = """
import multiprocessing, os, sys
import joblib
import numpy as np
import torch

torch.set_num_threads(4)
square = torch.randn(1500, 1500)
(square @ square).relu().sum()  # the threads have started

from sklearn.model_selection import cross_val_score
from skuq import TorchClassifier
from skuq.calibration import TemperatureScaler
from skuq.posteriors import DeepEnsemble, MCDropout

random = np.random.default_rng(0)
X = random.normal(size=(3000, 64)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)

def make(posterior=None):
    return TorchClassifier(posterior=posterior or MCDropout(20), max_epochs=1, random_state=0,
                           batch_size=1000, module__hidden_layer_sizes=(256, 256))

network = make().fit(X, y)
expected = network.predict_proba(X)

def forked(index):
    [lambda: None, lambda: network.fit(X, y)][index]()
    scaled = TemperatureScaler(network, cv=2).fit(X, y) if index else network
    assert scaled.predict_proba(X).shape == expected.shape
    return float(np.abs(network.predict_proba(X) - expected).max())

if sys.argv[1] == "fork":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        differences = pool.map_async(forked, [0, 1]).get(60)
    assert max(differences) < 1e-3, differences
else:
    with joblib.parallel_config(sys.argv[1], n_jobs=2):
        members = make(DeepEnsemble(2, n_jobs=2)).fit(X, y)
        scores = cross_val_score(make(), X, y, cv=2)
    assert members.predict_draws(X).shape == (2, 3000, 2) and np.isfinite(scores).all()
assert torch.get_num_threads() == 4
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize(
    "how",
    ["fork", *(pytest.param(how, marks=pytest.mark.slow) for how in ("loky", "multiprocessing"))],
)
def test_no_process_hangs(how):
    """Without care, the first large operation of a fork waits for threads that it does not have."""
    environment = {"OMP_NUM_THREADS": "4", "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(
        [sys.executable, "-c", FORKS, how], capture_output=True, text=True, timeout=150,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert run.stdout == "done\n", run.stderr
