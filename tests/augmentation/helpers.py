"""Estimators that train in no time, and views of rows."""

import torch
from sklearn.frozen import FrozenEstimator

from skuq import TorchClassifier, TorchRegressor
from skuq.augmentation import TestTimeAugmentation
from skuq.posteriors import MCDropout

CHEAP = {"max_epochs": 6, "lr": 0.01, "random_state": 0}


def classifier(posterior=None, **options):
    return TorchClassifier(posterior=posterior or MCDropout(4), **{**CHEAP, **options})


def regressor(**options):
    return TorchRegressor(posterior=MCDropout(4), **{**CHEAP, **options})


def frozen(fitted, views=(), X=None, y=None, **options):
    """Around a fitted estimator; what it is fitted on matters little."""
    options = {"random_state": 0, **options}
    return TestTimeAugmentation(FrozenEstimator(fitted), views, **options).fit(X, y)


def larger(X):
    return X * 1.2


def moved(X):
    return X + 0.5


SHIFTED = [larger, moved]


def noisy(X):
    """Other numbers for each row of a batch."""
    return X + 0.3 * torch.randn_like(X)
