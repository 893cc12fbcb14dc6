"""Segmenters in files: alone, calibrated, with views, with the default network."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator

from skuq import TorchSegmenter
from skuq.augmentation import Flip, TestTimeAugmentation
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import Bernoulli, StochasticLogits
from skuq.posteriors import DeepEnsemble, MCDropout
from tests.networks.dense import Pixelwise, images, segmenter
from tests.persistence.helpers import round_trip


@pytest.mark.parametrize("posterior", [MCDropout(3), DeepEnsemble(2)])
def test_answers_are_the_same_bit_by_bit(posterior, tmp_path):
    X, y = images()
    one = segmenter(posterior, ignore_label=255, likelihood=StochasticLogits(4)).fit(X, y)
    both = TestTimeAugmentation(FrozenEstimator(one), Flip()).fit(X, y)
    for model in (one, TemperatureScaler(FrozenEstimator(both)).fit(*images(seed=1))):
        other = round_trip(model, tmp_path / "model.skuq", module=Pixelwise)
        np.testing.assert_array_equal(other.predict(X), model.predict(X))
        np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
        for part, expected in zip(
            other.predict_uncertainty(X, "all"), model.predict_uncertainty(X, "all")
        ):
            np.testing.assert_array_equal(part, expected)
        assert other.score(X, y) == model.score(X, y)


def test_the_default_network_needs_no_class(tmp_path):
    X, y = images()
    masks = np.stack([y == 0, y == 2], axis=1).astype(int)
    one = TorchSegmenter(
        posterior=MCDropout(2),
        likelihood=Bernoulli(),
        module__base_width=2,
        module__depth=1,
        max_epochs=1,
        random_state=0,
    ).fit(X, masks)
    other = round_trip(one, tmp_path / "model.skuq")
    assert other.module is None and other.ignore_label is None
    np.testing.assert_array_equal(other.predict_proba(X), one.predict_proba(X))
