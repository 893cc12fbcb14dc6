"""Networks that are fitted once: few rows, few epochs."""

import numpy as np
import pytest

from skuq import TorchClassifier, TorchRegressor
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate

OPTIONS = {"random_state": 0, "early_stopping": False, "precision": "float64"}


def quick(posterior, epochs=6, **options):
    return {
        "posterior": posterior, "max_epochs": epochs, "lr": 0.01,
        "module__hidden_layer_sizes": (12, 6), **OPTIONS, **options,
    }  # fmt: skip


@pytest.fixture(scope="session")
def one_network(blobs):
    """A classifier of one network; not to be changed."""
    return TorchClassifier(**quick(PointEstimate())).fit(*blobs)


@pytest.fixture(scope="session")
def dropout(blobs):
    return TorchClassifier(**quick(MCDropout(6))).fit(*blobs)


@pytest.fixture(scope="session")
def ensemble(blobs):
    return TorchClassifier(**quick(DeepEnsemble(3))).fit(*blobs)


@pytest.fixture(scope="session")
def regression(diabetes):
    X, y = diabetes
    return X[:120].astype(np.float64), y[:120]


@pytest.fixture(scope="session")
def regressors(regression):
    """An ensemble, and one network."""
    return (
        TorchRegressor(**quick(DeepEnsemble(3))).fit(*regression),
        TorchRegressor(**quick(PointEstimate())).fit(*regression),
    )
