"""A network on digits, fitted once; rows that it knows, and rows that it does not."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skuq import TorchClassifier
from skuq.posteriors import MCDropout


@pytest.fixture(scope="session")
def known():
    """1,200 digits to train on, 597 others."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = (X[order] / 16).astype(np.float32), y[order]
    return X[:600], y[:600], X[600:1400], y[600:1400], X[1400:]


@pytest.fixture(scope="session")
def shuffled(known):
    """Digits whose pixels are shuffled, each in another way."""
    rng = np.random.default_rng(0)
    return np.stack([row[rng.permutation(64)] for row in known[4]])


@pytest.fixture(scope="session")
def network(known):
    """Fitted on the first 600 digits; not to be changed."""
    options = {"max_epochs": 15, "lr": 0.005, "random_state": 0}
    return TorchClassifier(posterior=MCDropout(5), **options).fit(known[0], known[1])
