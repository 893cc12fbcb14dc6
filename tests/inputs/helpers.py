"""What the tests of noisy inputs share."""

import numpy as np
from sklearn.frozen import FrozenEstimator
from torch import nn

from skuq.inputs import InputNoise


class Linear(nn.Linear):
    """Outputs that are linear in x."""

    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)


def line(n_rows=80):
    random = np.random.default_rng(0)
    X = random.normal(size=(n_rows, 3))
    return X, X @ [1.0, -2.0, 0.5] + 0.3 * random.normal(size=n_rows)


def curve(n_rows=300, noise=0.1):
    random = np.random.default_rng(0)
    X = random.uniform(-2, 2, size=(n_rows, 1))
    return X, np.sin(2 * X[:, 0]) + noise * random.normal(size=n_rows)


def noisy(fitted, X=None, **options):
    """Around a fitted estimator; a given scale learns nothing from the rows."""
    rows = line()[0] if X is None and fitted.n_features_in_ == 3 else X
    rows = np.zeros((4, fitted.n_features_in_)) if rows is None else rows
    return InputNoise(FrozenEstimator(fitted), **options).fit(rows, np.arange(len(rows)) % 2)
