"""Warnings name the line of the user's code."""

import warnings

import numpy as np
import pytest
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skuq import TorchRegressor
from skuq.posteriors import PointEstimate

X = np.random.default_rng(0).normal(size=(40, 2))
y = X[:, 0]


def fit_raw(regressor):
    regressor.fit(1e4 * X, y)


def fit_pipeline(regressor):
    make_pipeline(StandardScaler(), regressor).fit(X, y)


def cross_validate(regressor):
    cross_val_predict(regressor, X, y, cv=2)


@pytest.mark.parametrize("call", [fit_raw, fit_pipeline, cross_validate])
def test_a_warning_names_the_line_of_the_user(call):
    regressor = TorchRegressor(
        module__hidden_layer_sizes=(4,), posterior=PointEstimate(), max_epochs=5, random_state=0
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(regressor)
    first = call.__code__.co_firstlineno
    assert caught
    assert {(w.filename, w.lineno) for w in caught} == {(__file__, first + 1)}
