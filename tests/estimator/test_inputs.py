"""Rows, weights and labels of any kind."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse

from skuq.posteriors import MCDropout
from tests import networks
from tests.estimator.helpers import classifier, regressor

# -- rows and weights ------------------------------------------------------------------------------


def as_memmap(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    return np.load(tmp_path / "X.npy", mmap_mode="r")


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


FORMS = {
    "list": lambda X, _: X.tolist(),
    "float64": lambda X, _: X.astype(np.float64),
    "big endian": lambda X, _: X.astype(">f8"),
    "object": lambda X, _: X.astype(object),
    "Fortran order": lambda X, _: np.asfortranarray(X),
    "negative stride": lambda X, _: X[::-1][::-1],
    "read-only": lambda X, _: read_only(X),
    "read-only memmap": as_memmap,
    "pandas": lambda X, _: pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])]),
    "polars": lambda X, _: pl.DataFrame(X, schema=[f"x{i}" for i in range(X.shape[1])]),
    "sparse": lambda X, _: sparse.csr_array(X),
    "torch": lambda X, _: torch.tensor(X),
}


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_X_gives_the_same(form, blobs, tmp_path):
    X, y = blobs
    given = FORMS[form](X, tmp_path)
    kept = pickle.dumps(given) if form != "read-only memmap" else None
    expected = classifier().fit(X, y).predict_proba(X)
    fitted = classifier().fit(given, y)
    np.testing.assert_allclose(fitted.predict_proba(given), expected, atol=1e-5)
    assert kept is None or pickle.dumps(given) == kept


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.int64, np.uint8, bool])
def test_any_type_of_X_is_cast_once(dtype):
    X = (np.random.default_rng(0).random((60, 6)) > 0.5).astype(dtype)
    y = X[:, 0].astype(int)
    expected = classifier().fit(X.astype(np.float32), y).predict_proba(X.astype(np.float32))
    np.testing.assert_allclose(classifier().fit(X, y).predict_proba(X), expected, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity(bad, blobs):
    X, y = blobs
    fitted, spoiled = classifier().fit(X, y), X.copy()
    spoiled[3, 2] = bad
    for call in (lambda: classifier().fit(spoiled, y), lambda: fitted.predict(spoiled)):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            call()


def test_shapes_that_do_not_fit(blobs):
    X, y = blobs
    fitted = classifier().fit(X, y)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        fitted.predict(X[:0])
    with pytest.raises(ValueError, match="Reshape your data"):
        fitted.predict(X[0])
    with pytest.raises(ValueError, match=r"9 features.*expecting 10 features"):
        fitted.predict(X[:, :9])
    with pytest.raises(ValueError, match="fitted on rows of shape"):
        fitted.predict(X[:, :, None])
    assert fitted.predict(X[:1]).shape == (1,)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier().fit(X, y[:-1])


def test_column_names(blobs):
    X, y = blobs
    frame = FORMS["pandas"](X, None)
    fitted = classifier().fit(frame, y)
    assert list(fitted.feature_names_in_) == list(frame.columns)
    assert fitted.n_features_in_ == 10
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[frame.columns[::-1]])


def test_images_and_flattened_images(digits):
    X, y = digits
    images = X.reshape(-1, 1, 8, 8)
    fitted = classifier(module=networks.ConvNet, max_epochs=20).fit(images, y)
    assert fitted.score(images, y) > 0.8
    assert classifier().fit(images, y).predict(images).shape == y.shape  # the MLP flattens


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), "sample_weight.shape"),
        (-np.ones(240), "[Nn]egative"),
        (np.zeros(240), "zero"),
        (np.full(240, np.nan), "NaN"),
    ],
)
def test_bad_weights(weight, message, blobs):
    with pytest.raises(ValueError, match=message):
        classifier().fit(*blobs, sample_weight=weight)


def test_rows_of_weight_zero_do_not_take_part(blobs):
    """Not in the loss, the batches, the scaling of y or the validation rows."""
    X, y = blobs
    weight = np.where(np.arange(len(y)) % 3 == 0, 0.0, 1.0)
    kept = weight > 0
    for make, target in ((classifier, y), (regressor, y * 1000.0)):
        options = {"early_stopping": True, "max_epochs": 8}
        weighted = make(**options).fit(X, target, sample_weight=weight)
        removed = make(**options).fit(X[kept], target[kept])
        np.testing.assert_allclose(weighted.predict(X), removed.predict(X), rtol=1e-4)


def test_single_class_after_removal(blobs):
    X, y = blobs
    with pytest.raises(ValueError, match="one class"):
        classifier().fit(X, y, sample_weight=(y == 1).astype(float))


def test_class_weight_is_sample_weight(blobs):
    X, y = blobs
    weights = {0: 1.0, 1: 5.0, 2: 0.5}
    by_class = classifier(class_weight=weights).fit(X, y)
    by_sample = classifier().fit(X, y, sample_weight=np.vectorize(weights.get)(y))
    assert np.array_equal(by_class.predict_proba(X), by_sample.predict_proba(X))
    names = np.array(["a", "b", "c"])[y]
    named = classifier(class_weight={"a": 1.0, "b": 5.0, "c": 0.5}).fit(X, names)
    assert np.array_equal(named.predict_proba(X), by_class.predict_proba(X))
    balanced = classifier(class_weight="balanced").fit(X[:150], y[:150])
    assert not np.array_equal(
        balanced.predict_proba(X), classifier().fit(X[:150], y[:150]).predict_proba(X)
    )


def test_balanced_class_weight_counts_sample_weights(blobs):
    X, y = blobs
    counts = np.random.default_rng(0).integers(1, 4, len(y)) * np.where(y == 0, 3, 1)
    repeated = np.repeat(np.arange(len(y)), counts)
    options = {
        "class_weight": "balanced", "precision": "float64", "batch_size": 10_000,
        "module__dropout": 0.0,
    }  # fmt: skip
    weighted = classifier(**options).fit(X, y, sample_weight=counts)
    twice = classifier(**options).fit(X[repeated], y[repeated])
    np.testing.assert_allclose(weighted.predict_proba(X), twice.predict_proba(X), rtol=1e-7)


# -- labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [["a", "b", "c"], [5, 7, 9], [-1, 0, 1], [1, 2, 3], [2**40, 2**41, 2**42], [0.0, 1.0, 2.0]],
    ids=str,
)
def test_labels_of_any_kind(labels, blobs):
    X, y = blobs
    labels = np.array(labels)
    fitted, plain = classifier().fit(X, labels[y]), classifier().fit(X, y)
    assert np.array_equal(fitted.classes_, labels)
    assert np.array_equal(fitted.predict(X), labels[plain.predict(X)])
    assert np.array_equal(fitted.predict_proba(X), plain.predict_proba(X))
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).classes_, labels)


@pytest.mark.parametrize("labels", [[False, True], [-1, 1], ["no", "yes"]], ids=str)
def test_two_classes(labels, blobs):
    X, y = blobs
    target = np.array(labels)[(y > 0).astype(int)]
    fitted = classifier(MCDropout(5)).fit(X, target)
    odds, proba = fitted.decision_function(X), fitted.predict_proba(X)
    assert odds.shape == (len(X),)
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), proba[:, 1], atol=1e-12)
    assert np.array_equal(fitted.predict(X) == fitted.classes_[1], odds > 0)


def test_one_class_or_numbers():
    X = np.random.default_rng(0).normal(size=(30, 3))
    with pytest.raises(ValueError, match="one class"):
        classifier().fit(X, np.zeros(30))
    with pytest.raises(ValueError, match="Unknown label type"):
        classifier().fit(X, X[:, 0])


def test_probabilities_and_labels_never_disagree(digits):
    """At logits of a scale where averages of probabilities and of logarithms would."""

    class Steep(networks.ResidualNet):
        def forward(self, x):
            return 200 * super().forward(x)

    X, y = digits
    fitted = classifier(MCDropout(20), Steep, max_epochs=2).fit(X, y % 2)
    proba = fitted.predict_proba(X)
    assert np.isfinite(proba).all() and ((proba >= 0) & (proba <= 1)).all()
    np.testing.assert_allclose(proba.sum(1), 1, atol=1e-12)
    log_proba = fitted.predict_log_proba(X)
    assert np.isfinite(log_proba).all()
    assert np.array_equal(fitted.predict(X), log_proba.argmax(1))
    assert np.isfinite(fitted.predict_uncertainty(X)).all()


def test_a_class_that_only_has_weight_zero_keeps_its_column(blobs):
    X, y = blobs
    fitted = classifier().fit(X, y, sample_weight=(y < 2).astype(float))
    assert fitted.predict_proba(X).shape == (len(X), 3)
