"""Detectors around, inside of and beside everything else; saved, streamed, of images."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import Dataset, IterableDataset

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq import pipeline as skuq_pipeline
from skuq.augmentation import FeatureNoise, TestTimeAugmentation
from skuq.calibration import TemperatureScaler
from skuq.metrics import novelty_metrics
from skuq.novelty import GaussianDiscriminant, NoveltyDetector
from skuq.posteriors import DeepEnsemble, LastLayerLaplace, PointEstimate
from tests.networks import ConvNet
from tests.persistence.helpers import round_trip

pytestmark = pytest.mark.filterwarnings("ignore:the frozen")  # the same rows again

QUICK = {"posterior": PointEstimate(), "max_epochs": 3, "random_state": 0}


def test_through_a_pipeline_a_search_and_a_calibrator(blobs):
    X, y = blobs
    names = [f"f{j}" for j in range(X.shape[1])]
    frame, labels = pd.DataFrame(X, columns=names), np.array(["a", "b", "c"])[y]
    pipeline = make_pipeline(StandardScaler(), TorchClassifier(**QUICK))
    search = GridSearchCV(pipeline, {"torchclassifier__lr": [0.01]}, cv=2)
    detector = NoveltyDetector(search).fit(frame, labels)
    assert list(detector.feature_names_in_) == names and detector.n_features_in_ == 10
    novelty = detector.predict_novelty(frame)
    fitted = detector.estimator_.best_estimator_
    inside = NoveltyDetector(FrozenEstimator(fitted[1]))
    inside._judge, inside._learnt, inside.estimator_ = (
        detector._judge,
        detector._learnt,
        fitted[1],
    )
    scaled = fitted[0].transform(frame)
    np.testing.assert_array_equal(inside.predict_novelty(scaled), novelty)
    assert (detector.predict_novelty(frame + 20) > novelty.max()).mean() > 0.95

    calibrated = TemperatureScaler(FrozenEstimator(fitted)).fit(frame, labels)
    for measure in ("mahalanobis", "energy"):  # of the network, whatever its temperature
        one, two = (
            clone(NoveltyDetector(FrozenEstimator(each), measure=measure))
            .fit(frame[:100], labels[:100])
            .predict_novelty(frame)
            for each in (fitted, calibrated)
        )
        np.testing.assert_array_equal(one, two)
    entropy = NoveltyDetector(FrozenEstimator(calibrated), measure="entropy").fit(frame)
    expected = calibrated.predict_uncertainty(frame)
    np.testing.assert_array_equal(entropy.predict_novelty(frame), expected)


def test_around_test_time_augmentation(blobs):
    X, y = blobs
    views = TestTimeAugmentation(TorchClassifier(**QUICK), FeatureNoise(0.1), n_views=3)
    detector = NoveltyDetector(views.set_params(random_state=0), measure="entropy").fit(X, y)
    expected = detector.estimator_.predict_uncertainty(X)
    np.testing.assert_array_equal(detector.predict_novelty(X), expected)
    NoveltyDetector(views).fit(X, y).predict_novelty(X)
    with pytest.raises(ValueError, match="probabilities, not logits"):
        NoveltyDetector(FrozenEstimator(_Normalised().fit(X, y)), measure="energy").fit(X)


class _Normalised(TorchClassifier):
    """Its logits are log-probabilities."""

    def _reduce(self, X, reduction, *aligned):
        from skuq._distributions._softmax import Softmax

        return super()._reduce(X, lambda p, *a: reduction(Softmax(p.logits), *a), *aligned)


def test_inside_of_a_pipeline(blobs):
    X, y = blobs
    for detector in (NoveltyDetector(), NoveltyDetector(TorchClassifier(**QUICK))):
        pipeline = make_pipeline(StandardScaler(), detector).fit(X, y)
        assert pipeline.score_samples(X).shape == (240,)
        assert set(pipeline.predict(X)) == {-1, 1}
        assert (pipeline.predict(X, fdr=0.3) == 1).mean() > 0.5


def test_our_pipeline_forwards_its_methods(blobs):
    X, _ = blobs
    detector = NoveltyDetector(cv=3)
    for last in (detector, FrozenEstimator(NoveltyDetector(cv=3).fit(X * 2))):
        fitted = skuq_pipeline.make_pipeline(StandardScaler(), last).fit(X)
        inner, Z = getattr(last, "estimator", None) or fitted[-1], fitted[0].transform(X)
        assert np.array_equal(fitted.predict_novelty(X), inner.predict_novelty(Z))
        assert np.array_equal(fitted.p_values(X), inner.p_values(Z))
    for lacks in (make_pipeline(detector), skuq_pipeline.make_pipeline(TorchClassifier())):
        assert not hasattr(lacks, "predict_novelty") and not hasattr(lacks, "p_values")
    with pytest.raises(NotFittedError):
        skuq_pipeline.make_pipeline(StandardScaler(), detector).p_values(X)


def test_a_search_chooses_the_measure(blobs):
    """By known rows and made-up strange ones, in any scorer."""
    X, y = blobs
    strange = X[:100, ::-1] * 2

    def finds(detector, X, y=None):
        return novelty_metrics(detector.predict_novelty(X), detector.predict_novelty(strange)).auroc

    network = FrozenEstimator(TorchClassifier(**QUICK).fit(X, y))
    choices = {"measure": ["mahalanobis", "entropy"]}
    search = GridSearchCV(NoveltyDetector(network), choices, scoring=finds, cv=2).fit(X, y)
    assert search.best_params_ == {"measure": "mahalanobis"}
    assert search.best_score_ > 0.9


@pytest.mark.parametrize("posterior", [DeepEnsemble(2), LastLayerLaplace()], ids=str)
def test_other_posteriors(posterior, blobs):
    X, y = blobs
    detector = NoveltyDetector(TorchClassifier(posterior=posterior, max_epochs=3, random_state=0))
    detector.fit(X, y)
    found = novelty_metrics(detector.predict_novelty(X), detector.predict_novelty(X + 20))
    assert found.auroc > 0.99


def test_images(digits):
    X, y = digits
    images = X.reshape(-1, 1, 8, 8)
    detector = NoveltyDetector(TorchClassifier(ConvNet, **QUICK)).fit(images, y)
    strange = 1 - images
    found = novelty_metrics(detector.predict_novelty(images), detector.predict_novelty(strange))
    assert found.auroc > 0.9


class Pairs(Dataset):
    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, index):
        item = tuple(array[index] for array in self.arrays)
        return item if len(item) > 1 else item[0]


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        """The items, the first time only."""
        left, self.items = self.items, ()
        return (left[i] for i in range(len(left)))


@pytest.mark.parametrize("kind", [lambda d: d, Stream], ids=["map-style", "iterable"])
def test_streams(kind, network, known):
    _, _, X, y, rest = known
    array = NoveltyDetector(FrozenEstimator(network)).fit(X, y)
    stream = NoveltyDetector(FrozenEstimator(network)).fit(kind(Pairs(X, y)))
    expected = array.predict_novelty(rest)
    np.testing.assert_array_equal(stream.predict_novelty(rest), expected)
    np.testing.assert_array_equal(array.predict_novelty(kind(Pairs(rest))), expected)
    for measure in ("knn", "entropy"):  # which need no labels
        one, two = (
            NoveltyDetector(FrozenEstimator(network), measure=measure)
            .fit(rows)
            .predict_novelty(rest)
            for rows in (X, kind(Pairs(X)))
        )
        np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match="parts of the rows"):
        NoveltyDetector(TorchClassifier(**QUICK)).fit(Pairs(X, y))


def test_chunks_do_not_matter(network, known):
    X, y = known[2], known[3]
    detector = NoveltyDetector(FrozenEstimator(network)).fit(X, y)
    many = np.tile(X, (8, 1))  # more than one block of rows
    once = detector.predict_novelty(X)
    np.testing.assert_allclose(detector.predict_novelty(many), np.tile(once, 8), rtol=1e-9)
    raw = NoveltyDetector().fit(X)
    once = raw.predict_novelty(X)
    np.testing.assert_allclose(raw.predict_novelty(many), np.tile(once, 8), rtol=1e-9)


def makers():
    classifier, regressor = TorchClassifier(**QUICK), TorchRegressor(**QUICK)
    ensemble = TorchClassifier(posterior=DeepEnsemble(2), max_epochs=2, random_state=0)
    yield from (NoveltyDetector(measure=m) for m in ("mahalanobis", "density", "knn"))
    yield NoveltyDetector(make_pipeline(StandardScaler(), classifier), cv=2)
    yield NoveltyDetector(ensemble, measure="relative_mahalanobis")
    yield NoveltyDetector(regressor, measure="knn", layer="0")
    yield NoveltyDetector(ensemble, measure="epistemic")
    yield GaussianDiscriminant(tied=False)
    yield GaussianDiscriminant(ensemble)


@pytest.mark.parametrize("model", list(makers()), ids=str)
def test_files(model, blobs, tmp_path):
    pytest.importorskip("safetensors")
    X, y = blobs
    model.fit(X, y)
    loaded = round_trip(model, tmp_path / "m.skuq")
    methods = ["score_samples"]
    detects = isinstance(model, NoveltyDetector)
    methods += ["predict_novelty", "predict", "p_values"] if detects else ["predict_proba"]
    for method in methods:
        expected = getattr(model, method)(X)
        np.testing.assert_array_equal(getattr(loaded, method)(X), expected)


def test_a_frozen_estimator_in_a_file(network, known, tmp_path):
    pytest.importorskip("safetensors")
    detector = NoveltyDetector(FrozenEstimator(network), measure="energy").fit(known[2])
    loaded = round_trip(detector, tmp_path / "m.skuq")
    np.testing.assert_array_equal(
        loaded.predict_novelty(known[4]), detector.predict_novelty(known[4])
    )
    with pytest.raises(skuq.PersistenceError, match="measure"):
        skuq.save(detector.set_params(measure=lambda e, X: X[:, 0]), tmp_path / "n.skuq")


@pytest.mark.gpu
def test_on_a_gpu(known, shuffled):
    X, y, X_other, y_other, rest = known
    on_gpu = TorchClassifier(**QUICK, device="cuda").fit(X, y)
    on_cpu = skuq.from_trained(on_gpu.module_, X, y, posterior=PointEstimate(), device="cpu")
    for measure in ("mahalanobis", "knn", "energy"):
        one, two = (
            NoveltyDetector(FrozenEstimator(network), measure=measure)
            .fit(X_other, y_other)
            .predict_novelty(rest)
            for network in (on_gpu, on_cpu)
        )
        np.testing.assert_allclose(one, two, rtol=1e-3)
