"""Arrays of every layout give what their plain copies give."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import BayesianRidge, LogisticRegression

import skuq.uncertainty
from skuq import TorchClassifier, TorchRegressor, metrics
from skuq._data._checks import row_hashes
from skuq._utils._arrays import tensor_of
from skuq.augmentation import TestTimeAugmentation
from skuq.calibration import fit_temperature
from skuq.persistence._tensors import TensorWriter
from skuq.posteriors import MCDropout, PointEstimate
from tests import networks

VALUES = np.arange(24.0).reshape(4, 3, 2)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "one row of reversed ones": VALUES[::-1][2:3],
    "one reversed column": VALUES[:, ::-1][:, :1],
    "one flipped channel": VALUES[:, None][..., ::-1, :][:, :, :1],
    "reversed": VALUES[::-1, ::-1],
    "no rows": VALUES[::-1][:0],
    "no columns": VALUES[:, ::-1][:, :0],
    "Fortran's order": np.asfortranarray(VALUES),
    "every other": VALUES[::2, :, ::-1],
    "broadcast": np.broadcast_to(VALUES[:1], (5, 3, 2)),
    "read-only": read_only(VALUES),
    "read-only, one reversed row": read_only(VALUES)[::-1][:1],
    "swapped bytes": VALUES.astype(">f8"),
    "swapped bytes, reversed": VALUES.astype(">f8")[::-1][1:2],
    "float16": VALUES.astype(np.float16)[::-1][:1],
    "longdouble": VALUES.astype(np.longdouble)[:, ::-1],
    "field": np.zeros(3, dtype=[("a", "f8"), ("b", "i1")])["a"],
    "integers": VALUES.astype(np.int32)[::-1][:1],
    "unsigned": VALUES.astype(np.uint16)[::-1],
    "truths": (VALUES > 3)[::-1][:1],
    "a number": np.array(3.0),
}


@pytest.mark.parametrize("options", [{}, {"copy": True}, {"only_read": True}, {"order": "K"}])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tensor_of_every_layout(layout, options):
    array = LAYOUTS[layout]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = tensor_of(array, **options)
    assert tensor.shape == array.shape
    np.testing.assert_array_equal(tensor.numpy(), array)
    assert tensor.is_contiguous() or "order" in options
    assert tensor_of(array, torch.float32, **options).dtype == torch.float32


def test_memory_is_shared_where_that_is_asked_for():
    def shares(array, **options):
        return np.shares_memory(tensor_of(array, **options).numpy(), array)

    assert shares(VALUES) and shares(VALUES.T, order="K")
    assert not shares(VALUES, copy=True) and not shares(VALUES.T)
    constant = read_only(VALUES)
    assert shares(constant, only_read=True) and not shares(constant)


def test_the_order_of_axes_is_saved_of_read_only_arrays_too():
    description = TensorWriter().add_array(read_only(VALUES).transpose(2, 0, 1))
    assert description["order"] == [1, 2, 0]


@pytest.fixture(scope="module")
def flipped():
    """Rows of images of one channel, each axis reversed, and a fitted network."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 1, 8, 8)).astype(np.float32)
    classifier = TorchClassifier(
        networks.ConvNet, posterior=MCDropout(3), max_epochs=1, random_state=0
    )
    return classifier.fit(X, rng.integers(2, size=30)), X


@pytest.mark.parametrize("dtype", ["f4", ">f4", "f2", "f8"])
def test_rows_of_a_prediction(flipped, dtype):
    classifier, X = flipped
    X = X.astype(dtype)
    for rows in (X[::-1][3:4], X[:, ::-1], X[:, ::-1, :, ::-1], read_only(X)[::-1][:1]):
        expected = classifier.predict_proba(rows.copy())
        assert np.array_equal(classifier.predict_proba(rows), expected)


def test_fits_on_flipped_images_and_weights(flipped):
    _, X = flipped
    y, weight = np.arange(30) % 2, np.linspace(0.5, 1.5, 30)

    def fitted(X, y, weight):
        classifier = TorchClassifier(
            networks.ConvNet, posterior=PointEstimate(), max_epochs=2, random_state=0
        )
        return classifier.fit(X, y, sample_weight=weight).predict_proba(X[:5])

    expected = fitted(X.copy(), y, weight)
    assert np.array_equal(fitted(X[:, ::-1], y[::-1][::-1], weight[::-1].copy()[::-1]), expected)


def test_one_reversed_row_of_regression():
    X, y = np.random.default_rng(0).normal(size=(2, 20, 1)), np.arange(20.0)
    fitted = TorchRegressor(max_epochs=1, random_state=0).fit(X[0], y)
    ridge = BayesianRidge().fit(X[0], y)
    some, target = X[1][::-1][3:4], y[::-1][3:4]
    np.testing.assert_array_equal(
        fitted.predict_quantiles(some, [0.2]), fitted.predict_quantiles(some.copy(), [0.2])
    )
    scorer = metrics.crps_scorer
    for model in (fitted, ridge):
        assert scorer(model, some, target) == scorer(model, some.copy(), target.copy())


PROBA = np.array([[0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])


def test_metrics_of_one_reversed_row():
    one, label = PROBA[::-1][1:2], np.array([1, 0, 1])[::-1][1:2]
    assert metrics.negative_log_likelihood(label, one, labels=[0, 1]) == -np.log(0.7)
    assert metrics.brier_score(label, one, labels=[0, 1]) == pytest.approx(0.09)
    assert metrics.expected_calibration_error(label, one, labels=[0, 1]) == pytest.approx(0.3)
    assert metrics.crps(PROBA[::-1][1:2, 0], [0.7], PROBA[::-1][1:2, 1]) == pytest.approx(
        metrics.crps([0.7], [0.7], [0.3])
    )
    result = skuq.uncertainty.entropy(one)
    assert result == -(0.7 * np.log(0.7) + 0.3 * np.log(0.3))
    assert skuq.uncertainty.margin(one.astype(">f8")) == pytest.approx(0.6)
    with pytest.raises(ValueError, match="a single class"):  # not torch's word on strides
        fit_temperature(one, label, np.ones(3)[::-1][:1])


def test_a_block_of_one_row_of_reversed_ones():
    """Blocks hold 65,536 rows: of one more, the last block is a single row."""
    n = 2**16 + 1
    proba = np.random.default_rng(0).uniform(0.5, 1, n)
    y = (np.arange(n) % 3 > 0).astype(int)
    expected = metrics.expected_calibration_error(y[::-1].copy(), proba[::-1].copy())
    assert metrics.expected_calibration_error(y[::-1], proba[::-1]) == expected


def test_views_and_foreign_estimators_take_reversed_rows():
    X = np.random.default_rng(0).normal(size=(20, 3))
    model = LogisticRegression().fit(X, np.arange(20) % 2)
    tta = TestTimeAugmentation(model, views=[lambda x: x.numpy()[::-1][::-1]])
    tta = tta.fit(X, np.arange(20) % 2)
    some = X[::-1][3:4]
    np.testing.assert_array_equal(tta.predict_proba(some), tta.predict_proba(some.copy()))


def test_hashes_of_rows():
    """Numbers that saved files hold; they do not depend on how many rows are hashed at a time."""
    X = np.arange(6, dtype=np.float32).reshape(3, 2) / 4
    expected = [8584640437707523904, 8351669262091166752, 5774631163710083600]
    assert row_hashes(X).tolist() == expected
    wide = [16161155065111904256, 6186191634384814080, 8107854002269454336]
    assert row_hashes(X.astype(np.float64)).tolist() == wide
    many = np.random.default_rng(0).normal(size=(30_000, 10)).astype(np.float32)
    assert np.array_equal(row_hashes(many), [row_hashes(row[None])[0] for row in many])
    many[0] = -0.0
    assert row_hashes(many[:1]) == row_hashes(np.zeros((1, 10), np.float32))
