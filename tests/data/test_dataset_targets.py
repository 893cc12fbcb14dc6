"""Datasets where targets are asked for: in scores, in calibrators, and what is refused."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from torch.utils.data import DataLoader, IterableDataset, StackDataset, TensorDataset

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.augmentation import TestTimeAugmentation
from skuq.calibration import TemperatureScaler, VarianceScaler
from skuq.posteriors import MCDropout
from tests.data.test_streams import Items, Stream, classifier


class Shuffled(IterableDataset):
    """Pairs, in another order each time."""

    def __init__(self, X, y):
        self.X, self.y = X, y
        self.random = np.random.default_rng(0)

    def __iter__(self):
        return ((self.X[i], self.y[i]) for i in self.random.permutation(len(self.y)))


@pytest.fixture
def fitted(blobs):
    return classifier(max_epochs=1).fit(*blobs)


@pytest.fixture
def regressor(diabetes):
    return TorchRegressor(posterior=MCDropout(5), max_epochs=2, random_state=0).fit(*diabetes)


@pytest.mark.parametrize("cls", [Items, Stream, Shuffled])
def test_score_of_a_dataset(cls, blobs, diabetes, fitted, regressor, untouched_globals):
    names = np.array(["a", "b", "c"])[blobs[1]]
    labelled = classifier(max_epochs=1).fit(blobs[0], names)
    weight = np.arange(240) % 3.0
    for model, X, y in (
        (fitted, *blobs), (labelled, blobs[0], names), (regressor, *diabetes)
    ):  # fmt: skip
        expected = model.score(X, y)
        assert model.score(cls(X, y)) == pytest.approx(expected, abs=1e-12)
        assert model.score(X, y=y) == expected
    if cls is not Shuffled:
        expected = fitted.score(*blobs, sample_weight=weight)
        assert fitted.score(cls(*blobs), sample_weight=weight) == expected
    assert fitted.score(Items(blobs[0]), blobs[1]) == fitted.score(*blobs)


@pytest.mark.filterwarnings("ignore:the frozen")
@pytest.mark.parametrize("cls", [Items, Stream])
def test_calibrators_of_frozen_estimators(cls, blobs, diabetes, fitted, regressor):
    expected = TemperatureScaler(FrozenEstimator(fitted)).fit(*blobs)
    found = TemperatureScaler(FrozenEstimator(fitted)).fit(cls(*blobs))
    assert found.temperature_ == pytest.approx(expected.temperature_, rel=1e-6)
    assert found.score(cls(*blobs)) == expected.score(*blobs)
    expected = VarianceScaler(FrozenEstimator(regressor)).fit(*diabetes)
    found = VarianceScaler(FrozenEstimator(regressor)).fit(cls(*diabetes))
    assert found.scale_ == pytest.approx(expected.scale_, rel=1e-6)


def test_what_looks_at_parts_or_at_all_wants_arrays(blobs, fitted):
    with pytest.raises(ValueError, match=r"X is a Items; expected an array.*FrozenEstimator"):
        TemperatureScaler(classifier()).fit(Items(*blobs))
    with pytest.raises(ValueError, match=r"X is a Items; expected an array.*np\.stack"):
        TestTimeAugmentation(FrozenEstimator(fitted)).fit(Items(*blobs), blobs[1])


def test_a_loader_is_refused_everywhere(blobs, fitted):
    X, y = blobs
    data = DataLoader(TensorDataset(torch.as_tensor(X), torch.as_tensor(y)), batch_size=16)
    asked = {
        "fit": lambda: classifier().fit(data),
        "fit, y": lambda: classifier().fit(data, y),
        "partial_fit": lambda: classifier().partial_fit(data, classes=[0, 1, 2]),
        "predict": lambda: fitted.predict(data),
        "score": lambda: fitted.score(data),
        "score, y": lambda: fitted.score(data, y),
        "uncertainty": lambda: skuq.predict_uncertainty(fitted, data),
        "calibrator": lambda: TemperatureScaler(classifier()).fit(data),
        "calibrator, y": lambda: TemperatureScaler(FrozenEstimator(fitted)).fit(data, y),
    }
    for ask in asked.values():
        with pytest.raises(TypeError, match=r"X is a DataLoader; expected .*loader\.dataset"):
            ask()
    assert fitted.score(data.dataset) == fitted.score(X, y)


def test_items_that_are_no_pairs(blobs, fitted):
    X, y = blobs
    dicts = Items([{"image": a, "label": b} for a, b in zip(X, y)], kind=lambda item: item)
    triples = Items(list(zip(X, y, y)), kind=lambda item: item)
    for ask in (classifier().fit, fitted.predict, fitted.score):
        with pytest.raises(
            ValueError, match=r"keys 'image', 'label'.*return item\['image'\], item"
        ):
            ask(dicts)
        with pytest.raises(ValueError, match=r"tuple and length 3; expected .*__getitem__ returns"):
            ask(triples)
    with pytest.raises(ValueError, match=r"inputs \['image'\], which the forward of Residual"):
        classifier().fit(Items([{"image": row} for row in X], y, kind=lambda item: item))


def test_datasets_without_targets(blobs, fitted):
    X, y = blobs
    for ask in (classifier().fit, fitted.score):
        with pytest.raises(ValueError, match=r"expected pairs.*StackDataset\(dataset, y\)"):
            ask(Items(X))
    with pytest.raises(ValueError, match=r"expected y=None.*StackDataset\(dataset, y\)"):
        classifier().fit(Items(X), y)
    unknown = [None, *y[1:]]
    with pytest.raises(ValueError, match=r"1 item\(s\) whose target is None"):
        fitted.score(Items(X, unknown))
    with pytest.raises(ValueError, match="score of TorchClassifier needs targets"):
        fitted.score(X)
    # The way out that the messages name.
    found = TorchClassifier(max_epochs=1, random_state=0).fit(StackDataset(Items(X), y.tolist()))
    assert found.score(StackDataset(Items(X), y.tolist())) == found.score(X, y)
