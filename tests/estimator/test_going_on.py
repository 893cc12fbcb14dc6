"""Training that goes on: warm_start and partial_fit."""

import pickle

import numpy as np
import pytest
import torch

from skuq.likelihoods import Categorical
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests.estimator.helpers import classifier, regressor


@pytest.mark.parametrize("posterior", [PointEstimate(), MCDropout(3), DeepEnsemble(2)], ids=str)
def test_warm_start_goes_on(posterior, blobs):
    X, y = blobs
    warm = classifier(posterior, warm_start=True, max_epochs=15).fit(X, y)
    cold = warm.histories_
    for before, after in zip(cold, warm.fit(X, y).histories_):
        assert after[0]["train_loss"] < 0.5 * before[0]["train_loss"]
    with pytest.raises(ValueError, match=r"not in the classes.*set warm_start=False"):
        warm.fit(X, y + 1)
    with pytest.raises(ValueError, match=r"no row of \[2\]; set warm_start=False"):
        warm.fit(X, y % 2)
    assert warm.partial_fit(X, y % 2).classes_.tolist() == [0, 1, 2]


def test_a_warm_start_may_lack_rows_that_have_no_weight(blobs):
    X, y = blobs
    warm = classifier(PointEstimate(), warm_start=True, max_epochs=1)
    for _ in range(2):
        warm.fit(X, y, sample_weight=(y != 1).astype(float))
    assert warm.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("factor", "offset"), [(1000, 1e5), (-1e-6, 0), (1, 0)])
def test_a_warm_start_learns_the_units_of_y(factor, offset, diabetes):
    X, y = diabetes
    slow = {"max_epochs": 40, "module__dropout": 0.1, "module__activation": "relu"}
    warm = regressor(PointEstimate(), warm_start=True, **slow).fit(X, y)
    cold = regressor(PointEstimate(), **slow).fit(X, y)
    warm.fit(X, factor * y + offset)
    assert warm.score(X, factor * y + offset) > cold.score(X, y) - 0.05
    if factor > 0:
        assert warm.history_[0]["train_loss"] < cold.history_[10]["train_loss"]


@pytest.mark.parametrize("posterior", [PointEstimate(), MCDropout(3), DeepEnsemble(2)], ids=str)
def test_partial_fit_is_fit_in_pieces(posterior, blobs):
    """Epoch after epoch by partial_fit, pickled in between, is one fit: to the last bit, where fit
    does not train networks as a stack."""
    X, y = blobs
    if isinstance(posterior, DeepEnsemble):
        stacked = classifier(posterior, max_epochs=4).fit(X, y).predict_proba(X)
        posterior = DeepEnsemble(2, n_jobs=1)
    whole = classifier(posterior, max_epochs=4).fit(X, y)
    parts = classifier(posterior)
    for _ in range(4):
        parts = pickle.loads(pickle.dumps(parts.partial_fit(X, y)))
    assert np.array_equal(parts.predict_proba(X), whole.predict_proba(X))
    if isinstance(posterior, DeepEnsemble):
        np.testing.assert_allclose(parts.predict_proba(X), stacked, rtol=0, atol=1e-5)
    assert parts.n_iter_ == 4
    assert [e["train_loss"] for e in parts.history_] == [e["train_loss"] for e in whole.history_]


def test_partial_fit_with_classes_to_come(blobs):
    X, y = blobs
    fitted = classifier().partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])
    assert fitted.predict_proba(X).shape == (len(X), 3)
    fitted.partial_fit(X[y == 2], y[y == 2])
    one = classifier().partial_fit(X[y == 0], y[y == 0], classes=[0, 1, 2])
    assert one.predict_proba(X).shape == (len(X), 3)
    with pytest.raises(ValueError, match=r"labels \[3\] that are not in the classes"):
        fitted.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="early_stopping"):
        classifier(early_stopping=True).partial_fit(X, y)


def test_partial_fit_takes_new_rates_and_optimizers(blobs):
    X, y = blobs
    kept = classifier().partial_fit(X, y)
    changed = pickle.loads(pickle.dumps(kept)).set_params(lr=1e-30).partial_fit(X, y)
    assert np.array_equal(changed.predict_proba(X), kept.predict_proba(X))
    kept.set_params(optimizer=torch.optim.SGD).partial_fit(X, y)
    with pytest.raises(ValueError, match="training goes on with likelihood=Categorical"):
        kept.set_params(likelihood=Categorical(0.1)).partial_fit(X, y)


def test_partial_fit_of_a_regressor(diabetes):
    X, y = diabetes
    whole = regressor(max_epochs=3).fit(X, y)
    parts = regressor()
    for _ in range(3):
        parts.partial_fit(X, y)
    assert np.array_equal(parts.predict(X), whole.predict(X))
    parts.partial_fit(X, y + 1000)  # the units stay
    assert parts.likelihood_.location_ == whole.likelihood_.location_
    with pytest.raises(ValueError, match="y has shape"):
        parts.partial_fit(X, np.column_stack([y, y]))
