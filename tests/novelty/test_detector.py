"""The detector: what it finds, thresholds, p-values, which rows calibrate."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist, mahalanobis
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold

import skuq
from skuq import TorchClassifier, TorchRegressor, TorchSegmenter
from skuq.novelty import NoveltyDetector
from skuq.novelty._gaussians import fit_gaussians, log_densities
from skuq.novelty._measures import FEATURE_MEASURES, OUTPUT_MEASURES
from skuq.posteriors import DeepEnsemble, PointEstimate

QUICK = {"max_epochs": 5, "random_state": 0}
EVERY = (*FEATURE_MEASURES, *OUTPUT_MEASURES)


def auroc(detector, X, X_strange):
    novelty = np.append(detector.predict_novelty(X), detector.predict_novelty(X_strange))
    return roc_auc_score(np.repeat([0, 1], [len(X), len(X_strange)]), novelty)


@pytest.fixture(scope="module")
def detectors(network, known):
    """One of each measure, around the same network."""
    found = {}
    for measure in EVERY:
        detector = NoveltyDetector(FrozenEstimator(network), measure=measure)
        found[measure] = detector.fit(known[2], known[3])
    return found


@pytest.mark.parametrize("measure", EVERY)
def test_strange_rows_are_found(measure, detectors, known, shuffled):
    detector, rest = detectors[measure], known[4]
    assert auroc(detector, rest, shuffled) > (0.93 if measure in FEATURE_MEASURES else 0.75)
    novelty = detector.predict_novelty(rest)
    np.testing.assert_array_equal(detector.score_samples(rest), -novelty)
    decision = detector.decision_function(rest)
    np.testing.assert_array_equal(decision, -novelty - detector.offset_)
    np.testing.assert_array_equal(detector.predict(rest), np.where(decision < 0, -1, 1))
    assert (decision < 0).mean() == pytest.approx(0.05, abs=0.05)


def test_distances_find_the_strange_and_entropy_the_mistaken(detectors, network, known, shuffled):
    _, _, X, y, rest = known
    wrong = network.predict(X) != y
    far, unsure = detectors["mahalanobis"], detectors["entropy"]
    assert auroc(far, rest, shuffled) > auroc(unsure, rest, shuffled)
    finds_errors = [roc_auc_score(wrong, d.predict_novelty(X)) for d in (far, unsure)]
    assert finds_errors[0] < finds_errors[1]


def kept_and_left_out(detector, n):
    """The rows that a detector learns from without cv, and those that calibrate."""
    from skuq.novelty._judge import Judge
    from skuq.novelty._learning import Learning

    (split,) = Learning(Judge("knn", None, True), None, 0)._splits(None, np.zeros(n, int))
    return split


def test_measures_of_features_are_their_formulas(detectors, network, known):
    _, _, X, y, rest = known
    features, new = (skuq.predict_features(network, rows) for rows in (X, rest[:20]))
    kept, left_out = kept_and_left_out(detectors["knn"], len(X))
    assert len(left_out) == round(len(X) / 4) and not set(kept) & set(left_out)
    near = np.sort(cdist(new, features[kept]))[:, 4]
    np.testing.assert_allclose(detectors["knn"].predict_novelty(rest[:20]), near, rtol=1e-6)
    near = np.sort(cdist(features[left_out], features[kept]))[:, 4]
    np.testing.assert_allclose(detectors["knn"].calibration_scores_, np.sort(near), rtol=1e-5)

    tied = detectors["mahalanobis"]._learnt.models[0]
    covariance = np.linalg.inv(tied.whitening[0] @ tied.whitening[0].T)
    for mean, code in zip(tied.means, range(10)):
        np.testing.assert_allclose(mean, features[kept][y[kept] == code].mean(0), rtol=1e-5)
    precision = np.linalg.inv(covariance)
    expected = [min(mahalanobis(z, m, precision) for m in tied.means) for z in new]
    found = detectors["mahalanobis"].predict_novelty(rest[:20])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    alike = detectors["relative_mahalanobis"]._learnt.models[0][1]
    precision = alike.whitening[0] @ alike.whitening[0].T
    np.testing.assert_allclose(alike.means[0], features[kept].mean(0), rtol=1e-5)
    to_all = np.array([mahalanobis(z, alike.means[0], precision) for z in new])
    found = detectors["relative_mahalanobis"].predict_novelty(rest[:20])
    np.testing.assert_allclose(found, np.array(expected) ** 2 - to_all**2, rtol=1e-4, atol=1e-3)

    gaussians = fit_gaussians(features[kept], y[kept], tied=False, network=True)
    density = np.logaddexp.reduce(log_densities(gaussians, new), axis=1)
    found = detectors["density"].predict_novelty(rest[:20])
    np.testing.assert_allclose(found, -density, rtol=1e-4)


def test_measures_of_outputs_are_their_formulas(detectors, network, known):
    rest = known[4][:20]
    proba = network.predict_proba(rest)
    found = {m: detectors[m].predict_novelty(rest) for m in OUTPUT_MEASURES}
    np.testing.assert_allclose(found["max_probability"], 1 - proba.max(1), atol=1e-12)
    np.testing.assert_allclose(found["entropy"], network.predict_uncertainty(rest))
    epistemic = network.predict_uncertainty(rest, kind="epistemic")
    np.testing.assert_allclose(found["epistemic"], epistemic)
    logits = network._reduce(rest, lambda p: p._param.movedim(0, 1))  # of five draws
    energy = -np.logaddexp.reduce(logits, axis=2).mean(1)
    np.testing.assert_allclose(found["energy"], energy, rtol=1e-9)
    np.testing.assert_allclose(found["max_logit"], -logits.max(2).mean(1), rtol=1e-9)
    for measure in OUTPUT_MEASURES:  # nothing to learn, so all rows calibrate
        assert len(detectors[measure].calibration_scores_) == 800


def test_two_classes_by_one_logit_are_symmetrical():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 3))
    y = X[:, 0] > 0
    model = LogisticRegression().fit(X, y)
    score = model.decision_function(X)
    for measure, expected in (
        ("max_logit", -np.abs(score) / 2),
        ("energy", -np.logaddexp(score / 2, -score / 2)),
    ):
        detector = NoveltyDetector(FrozenEstimator(model), measure=measure).fit(X, y)
        np.testing.assert_allclose(detector.predict_novelty(X), expected, rtol=1e-9)


def test_a_function_as_measure(network, known):
    def measure(estimator, X):
        return np.linalg.norm(np.asarray(X) - 0.5, axis=1)

    detector = NoveltyDetector(FrozenEstimator(network), measure=measure).fit(known[2])
    np.testing.assert_array_equal(detector.predict_novelty(known[4]), measure(None, known[4]))
    np.testing.assert_array_equal(detector.calibration_scores_, np.sort(measure(None, known[2])))


def test_several_networks_count_equally(known, shuffled):
    X, y, X_other, y_other, rest = known
    ensemble = TorchClassifier(posterior=DeepEnsemble(3), **QUICK).fit(X, y)
    detector = NoveltyDetector(FrozenEstimator(ensemble)).fit(X_other, y_other)
    kept, _ = kept_and_left_out(detector, len(X_other))
    expected = 0
    for model, features in zip(
        detector._learnt.models, skuq.predict_features(ensemble, np.vstack([X_other, rest]))
    ):
        root = np.sqrt(
            [
                [(((row - m) @ model.whitening[0]) ** 2).sum() for m in model.means]
                for row in features
            ]
        ).min(1)
        old, new = root[: len(X_other)][kept], root[len(X_other) :]
        expected = expected + (new - old.mean()) / old.std() / 3
    np.testing.assert_allclose(detector.predict_novelty(rest), expected, atol=1e-4)
    assert auroc(detector, rest, shuffled) > 0.9


@pytest.mark.parametrize("outputs", [1, 2])
def test_regressors_have_features_without_classes(outputs):
    X, y = load_diabetes(return_X_y=True)
    X, y = X * 20, np.column_stack([y] * outputs) if outputs > 1 else y
    network = TorchRegressor(**QUICK).fit(X[:200], y[:200])
    far = X[200:] + 10
    for measure in ("mahalanobis", "density", "knn"):
        detector = NoveltyDetector(FrozenEstimator(network), measure=measure).fit(X[200:])
        assert auroc(detector, X[:200], far) > 0.95
    if outputs == 1:
        detector = NoveltyDetector(network, measure="epistemic").fit(X, y)
        assert auroc(detector, X[:200], far) > 0.9
    else:
        with pytest.raises(ValueError, match=r"one label or target.*predicts 2"):
            NoveltyDetector(FrozenEstimator(network), measure="epistemic").fit(X[200:])


def test_segmenters_have_features_without_classes():
    X = np.random.default_rng(0).normal(size=(12, 1, 8, 8)).astype(np.float32)
    inner = TorchSegmenter(
        module__depth=1,
        module__base_width=4,
        posterior=PointEstimate(),
        max_epochs=1,
        random_state=0,
    )
    detector = NoveltyDetector(inner, layer="head").fit(X, (X[:, 0] > 0).astype(int))
    frozen = NoveltyDetector(FrozenEstimator(detector.estimator_), layer="head", cv=3).fit(X + 0.1)
    for fitted in (detector, frozen):
        strange, known = (np.median(fitted.predict_novelty(rows)) for rows in (X + 9, X))
        assert strange > 2 * known
        assert len(fitted._learnt.models[0].means) == 1


def test_p_values_are_exact_for_rows_left_out(network, known):
    _, _, X, y, _ = known
    alarms = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(X))
        old, new = order[:399], order[399:]
        detector = NoveltyDetector(FrozenEstimator(network), random_state=seed)
        detector.fit(X[old], y[old])
        assert len(detector.calibration_scores_) == 100
        alarms.append((detector.p_values(X[new]) <= 0.1).mean())
    # 10 of 101 ranks; the same rows come again, so draws are not independent.
    assert np.mean(alarms) == pytest.approx(10 / 101, abs=0.02)


def test_false_discoveries(network, known, shuffled):
    _, _, X, y, rest = known
    detector = NoveltyDetector(FrozenEstimator(network)).fit(X, y)
    batch = np.vstack([rest[:200], shuffled[:200]])
    flagged = detector.predict(batch, fdr=0.1) == -1
    assert flagged[200:].mean() > 0.8
    assert flagged[:200].sum() / flagged.sum() < 0.15
    few = NoveltyDetector(FrozenEstimator(network)).fit(X[:80], y[:80])
    with pytest.raises(ValueError, match=r"20 calibration rows.*at least 99 rows"):
        few.predict(batch, fdr=0.01)


def test_contamination_is_the_share_that_is_flagged():
    X = np.random.default_rng(0).normal(size=(200, 5))
    for measure in FEATURE_MEASURES.keys() - {"relative_mahalanobis"}:
        for contamination in (0.01, 0.1, 0.5):
            detector = NoveltyDetector(measure=measure, contamination=contamination)
            assert (detector.fit_predict(X) == -1).mean() == contamination


@pytest.mark.parametrize(("n_features", "place"), [(3, 0.0), (30, 1e8)])  # a tree, and none
def test_a_known_row_is_not_its_own_neighbour(n_features, place):
    X = np.random.default_rng(0).normal(size=(100, n_features)) + place
    X[:3] = X[0]
    detector = NoveltyDetector(measure="knn", contamination=0.1)
    assert (detector.fit_predict(X) == -1).sum() == 10
    np.testing.assert_allclose(detector.predict_novelty(X), np.sort(cdist(X, X))[:, 5])
    new = X + 0.01
    np.testing.assert_allclose(detector.predict_novelty(new), np.sort(cdist(new, X))[:, 4])


def test_fewer_neighbours_than_five():
    detector = NoveltyDetector(measure="knn").fit([[0.0], [1.0], [3.0]])
    np.testing.assert_array_equal(detector.predict_novelty([[0.0], [1.0], [9.0]]), [3, 2, 9])


@pytest.mark.parametrize("cv", [3, KFold(4), ShuffleSplit(1, test_size=0.3, random_state=0)])
def test_folds(cv, network, known):
    _, _, X, y, rest = known
    detector = NoveltyDetector(FrozenEstimator(network), cv=cv).fit(X, y)
    splits_once = isinstance(cv, ShuffleSplit)
    assert len(detector.calibration_scores_) == (0.3 if splits_once else 1) * len(X)
    if not splits_once:  # what is learnt is of all rows
        features = skuq.predict_features(network, X)
        mean = features[y == np.unique(y)[0]].mean(0)
        np.testing.assert_allclose(detector._learnt.models[0].means[0], mean)
    assert (detector.predict(rest) == -1).mean() == pytest.approx(0.05, abs=0.04)


@pytest.mark.parametrize("cv", [None, 2])
@pytest.mark.parametrize("measure", ["mahalanobis", "entropy"])
def test_an_estimator_that_is_not_fitted(cv, measure, known, shuffled):
    X, y, *_, rest = known
    inner = TorchClassifier(posterior=PointEstimate(), lr=0.005, **QUICK)
    detector = NoveltyDetector(inner, measure=measure, cv=cv)
    same = clone(detector).fit_predict(X, y)
    detector.fit(X, y)
    np.testing.assert_array_equal(detector.predict(X), same)
    assert not hasattr(inner, "classes_")
    assert len(detector.calibration_scores_) == (150 if cv is None else 600)
    # Networks of folds differ from the one that judges, so this level is approximate.
    assert (detector.predict(rest) == -1).mean() < (0.1 if cv is None else 0.15)
    assert auroc(detector, rest, shuffled) > (0.9 if measure == "mahalanobis" else 0.6)
    whole = clone(inner).fit(X, y)  # cross-fitted: refitted on all rows
    agrees = np.array_equal(detector.estimator_.predict_proba(X), whole.predict_proba(X))
    assert agrees == (cv is not None)


def test_every_class_is_learnt_from_even_if_rare(network, known):
    _, _, X, y, _ = known
    rare = np.append(np.flatnonzero(y != 7), np.flatnonzero(y == 7)[:1])
    for seed in range(8):
        detector = NoveltyDetector(FrozenEstimator(network), random_state=seed)
        detector.fit(X[rare], y[rare])
        assert len(detector._learnt.models[0].means) == 10


def test_an_estimator_learns_every_class_even_if_rare(blobs):
    X, y = blobs
    rare = np.append(np.flatnonzero(y != 2), np.flatnonzero(y == 2)[:1])
    inner = LogisticRegression(C=1e-3)
    for seed in range(8):
        detector = NoveltyDetector(inner, measure="entropy", random_state=seed)
        assert len(detector.fit(X[rare], y[rare]).estimator_.classes_) == 3


def test_splitters_that_look_at_labels_need_none(blobs):
    detector = NoveltyDetector(cv=StratifiedKFold(3)).fit(blobs[0])
    assert len(detector.calibration_scores_) == 240
    places, rows = np.arange(240), np.arange(240) < 200
    masks, index = ([(a, b)] for a, b in [(rows, ~rows), (places[:200], places[200:])])
    one, two = (NoveltyDetector(cv=cv).fit(blobs[0]) for cv in (masks, index))
    np.testing.assert_array_equal(one.calibration_scores_, two.calibration_scores_)


def test_names_of_the_last_fit_do_not_stay(blobs):
    X, y = blobs
    detector = NoveltyDetector().fit(pd.DataFrame(X, columns=list("abcdefghij")))
    assert detector.feature_names_in_[0] == "a"
    inner = LogisticRegression(C=1e-3)
    detector.set_params(estimator=inner, measure="entropy").fit(X[:, :5], y)
    assert detector.n_features_in_ == 5
    assert not hasattr(detector, "feature_names_in_")


def test_seeds(network, known):
    _, _, X, y, rest = known

    def novelty(seed):
        detector = NoveltyDetector(FrozenEstimator(network), random_state=seed)
        return detector.fit(X, y).predict_novelty(rest)

    np.testing.assert_array_equal(novelty(1), novelty(1))
    assert not np.array_equal(novelty(1), novelty(2))


def test_rows_do_not_depend_on_their_neighbours(detectors, known):
    rest = known[4]
    for measure in ("mahalanobis", "density", "knn", "entropy"):
        together = detectors[measure].predict_novelty(rest)
        one_by_one = [detectors[measure].predict_novelty(rest[[i]])[0] for i in range(5)]
        np.testing.assert_allclose(one_by_one, together[:5], rtol=1e-9)
