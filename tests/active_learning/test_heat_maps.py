"""Entropy over the peaks of heat maps."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin

from skuq.active_learning import multi_peak_entropy


class Gives(RegressorMixin, BaseEstimator):
    """Predicts given maps."""

    def __init__(self, maps):
        self.maps = maps

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def predict(self, X):
        return self.maps


def maps_of(*peaks):
    found = np.zeros((1, 1, 9, 9))
    for (i, j), height in peaks:
        found[0, 0, i, j] = height
    return found


def score(maps, **options):
    return multi_peak_entropy(Gives(maps).fit(None), np.zeros((len(maps), 1)), **options)


def test_of_peaks():
    assert score(maps_of(((2, 2), 1.0))) == pytest.approx([0])
    assert score(maps_of(((2, 2), 1.0), ((7, 7), 1.0))) == pytest.approx([np.log(2)])
    p = np.exp(2) / (np.exp(2) + np.exp(1))
    expected = -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert score(maps_of(((2, 2), 2.0), ((7, 7), 1.0))) == pytest.approx([expected])
    near = maps_of(((2, 2), 2.0), ((2, 3), 1.0))  # on the slope of the same peak
    assert score(near) == pytest.approx([0])


def test_shapes():
    two = np.concatenate([maps_of(((2, 2), 1.0)), maps_of(((2, 2), 1.0), ((7, 7), 1.0))], axis=1)
    assert score(two) == pytest.approx([np.log(2)])
    assert score(two[:, 1]) == pytest.approx([np.log(2)])
    assert score(two.reshape(1, -1), map_shape=(2, 9, 9)) == pytest.approx([np.log(2)])
    assert score(np.ones((3, 1, 5, 5))) == pytest.approx([0, 0, 0])  # flat maps have no peak


def test_refusals():
    with pytest.raises(ValueError, match="map_shape"):
        score(np.zeros((2, 10)))
    with pytest.raises(ValueError, match="does not fit"):
        score(np.zeros((2, 10)), map_shape=(1, 3, 3))
    with pytest.raises(ValueError, match="odd"):
        score(np.zeros((2, 1, 5, 5)), window=4)
