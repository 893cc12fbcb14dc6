"""What the tests of persistence share."""

import numpy as np

import skuq
from skuq.calibration import QuantileRecalibrator
from tests.likelihoods.test_contract import task_data
from tests.test_common import estimator_with, fit_or_skip

CHEAP = {"max_epochs": 4, "lr": 0.03, "random_state": 0, "module__hidden_layer_sizes": (8,)}


def round_trip(model, path, **options):
    skuq.save(model, path)
    return skuq.load(path, **options)


def answers(model, X):
    """All that a model says, by the function or method."""
    found = {"predict": model.predict(X)}
    for name in ("predict_proba", "predict_log_proba", "decision_function"):
        if hasattr(model, name):
            found[name] = getattr(model, name)(X)
    found["total"] = skuq.predict_uncertainty(model, X)
    leaf = getattr(model, "best_estimator_", model)
    if not isinstance(leaf, QuantileRecalibrator):
        for part, value in zip("tae", skuq.predict_uncertainty(model, X, kind="all")):
            found[part] = value
        found["draws"] = skuq.predict_draws(model, X)
    if "predict_proba" not in found:
        found["interval"] = skuq.predict_interval(model, X, confidence_level=0.8)
    return found


def assert_same_answers(one, other, X, **options):
    """To the bit."""
    expected, got = answers(one, X[:20]), answers(other, X[:20])
    assert expected.keys() == got.keys()
    for name in expected:
        assert expected[name].dtype == got[name].dtype
        assert np.array_equal(expected[name], got[name]), name


_FITTED = {}


def fitted(likelihood, posterior):
    """A network of these and its data, each pair trained once; not to be changed."""
    key = repr(likelihood), repr(posterior)
    if key not in _FITTED:
        X, y = task_data(likelihood, n_rows=60)
        model = fit_or_skip(estimator_with(likelihood, posterior=posterior, **CHEAP), X, y)
        model._engine.n_rows = 16  # chunks are padded: intervals of a thousand rows take long
        _FITTED[key] = model, X, y
    return _FITTED[key]
