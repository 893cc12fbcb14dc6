"""Views and options that are refused, with the reason."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler
from torch import nn

import skuq
from skuq import TorchRegressor
from skuq.augmentation import FeatureNoise, Flip, TestTimeAugmentation
from skuq.posteriors import PointEstimate
from tests.augmentation.helpers import SHIFTED, classifier, frozen


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"views": lambda X: X[:, :3]}, ValueError, "changed the shape"),
        ({"views": [torch.neg, lambda X: X[:, :3]]}, ValueError, "view 2, <lambda>, changed"),
        ({"views": [Flip]}, TypeError, r"write Flip\(\)"),
        ({"views": ["flip"]}, TypeError, "'flip'"),
        ({"views": Flip()}, ValueError, "images or sequences"),
        ({"views": FeatureNoise(-1)}, ValueError, "scale"),
        ({"n_views": 2}, ValueError, "needs views"),
        ({"n_views": 0}, ValueError, "n_views"),
        ({"vote": "median"}, ValueError, "vote"),
        ({"threshold": 1.5}, ValueError, "threshold"),
        ({"estimator": StandardScaler()}, TypeError, "classifier or a regressor"),
        ({"estimator": TorchRegressor(), "vote": "mode"}, ValueError, "needs a classifier"),
    ],
)
def test_bad_parameters(blobs, options, error, message):
    X, y = blobs
    options = {"estimator": classifier(), **options}
    with pytest.raises(error, match=message):
        TestTimeAugmentation(**options).fit(X, y)


def test_bad_kinds_and_measures(fitted, blobs):
    X, y = blobs
    augmented = frozen(fitted, SHIFTED, X, y)
    with pytest.raises(ValueError, match="kind must be one of"):
        augmented.predict_uncertainty(X, "within")
    with pytest.raises(ValueError, match="measure that decomposes"):
        augmented.predict_uncertainty(X, "nested", measure="margin")


def test_what_is_for_the_other_task(fitted, blobs, fitted_regressor, diabetes):
    augmented = frozen(fitted, SHIFTED, *blobs)
    assert not hasattr(augmented, "predict_interval")
    with pytest.raises(TypeError, match="needs a regressor"):
        skuq.predict_interval(augmented, blobs[0])
    assert not hasattr(frozen(fitted_regressor, SHIFTED, *diabetes), "predict_views")


def test_before_fit(blobs):
    for call in ("predict", "predict_proba", "predict_uncertainty", "predict_votes"):
        with pytest.raises(NotFittedError):
            getattr(TestTimeAugmentation(PointClassifier, SHIFTED), call)(blobs[0])


PointClassifier = classifier(PointEstimate())


def test_a_view_that_goes_wrong_later_is_refused(fitted, blobs):
    X, y = blobs
    augmented = frozen(fitted, lambda X: torch.where(X > 50, torch.nan, X), X, y)
    with pytest.raises(ValueError, match="NaN or infinity"):
        augmented.predict(X + np.float32(100))


def test_user_views_are_copied(blobs):
    X, y = blobs
    module = nn.Linear(X.shape[1], X.shape[1]).requires_grad_(False)
    augmented = TestTimeAugmentation(classifier(), module).fit(X, y)
    before = augmented.predict_proba(X)
    module.weight.zero_()
    np.testing.assert_array_equal(augmented.predict_proba(X), before)
