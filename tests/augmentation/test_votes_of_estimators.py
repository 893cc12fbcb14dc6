"""Votes of the views of estimators, and their thresholds."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score

from skuq.augmentation import Shift, TestTimeAugmentation, multi_view_vote
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import UncertaintyAware
from skuq.metrics import ece_scorer, expected_calibration_error
from tests.augmentation.helpers import SHIFTED, classifier, frozen
from tests.networks import ConvNet


def test_votes_are_those_of_the_views(on_images, images):
    X, y = images
    augmented = frozen(on_images, Shift(2), X, y, n_views=5, vote="confidence_hard", threshold=0.5)
    views = augmented.predict_views(X)
    assert views.labels.shape == views.confidence.shape == (5, len(X))
    np.testing.assert_array_equal(views.labels[0], on_images.predict(X))
    np.testing.assert_allclose(views.confidence[0], on_images.predict_proba(X).max(1), atol=1e-13)
    np.testing.assert_array_equal(views.confidence_hard, views.confidence >= 0.5)
    assert views.certainty is views.certainty_hard is None
    vote = augmented.predict_votes(X)
    by_hand = multi_view_vote(views.labels, views.confidence, None, "confidence_hard", 0.5)
    np.testing.assert_array_equal(vote.predicted, by_hand.predicted)
    np.testing.assert_array_equal(augmented.predict(X), by_hand.predicted)
    assert vote.abstained.any() and not vote.abstained.all()


@pytest.mark.parametrize("rule", ["mode", "confidence", "confidence_hard"])
def test_answers_of_a_vote_never_disagree(on_images, images, rule):
    X, y = images
    augmented = frozen(on_images, Shift(2), X, y, n_views=4, vote=rule, threshold=0.4)
    proba, vote = augmented.predict_proba(X), augmented.predict_votes(X)
    shares = vote.weights / vote.weights.sum(1, keepdims=True)
    np.testing.assert_allclose(proba, shares, atol=1e-11)
    if rule != "confidence":
        assert (np.sort(vote.weights)[:, -1] == np.sort(vote.weights)[:, -2]).any()  # ties
    for scores in (proba, augmented.predict_log_proba(X), augmented.decision_function(X)):
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(scores.argmax(1), augmented.predict(X))
    assert augmented.score(X, y) == accuracy_score(y, augmented.predict(X))
    averaged = frozen(on_images, Shift(2), X, y, n_views=4)
    for kind in ("all", "nested"):
        np.testing.assert_array_equal(
            augmented.predict_uncertainty(X, kind), averaged.predict_uncertainty(X, kind)
        )
    np.testing.assert_array_equal(augmented.predict_draws(X), averaged.predict_draws(X))
    proba, parts = augmented.predict_proba(X, return_uncertainty=True)
    np.testing.assert_array_equal(parts, averaged.predict_uncertainty(X, "all"))
    assert -ece_scorer(augmented, X, y) == pytest.approx(expected_calibration_error(y, proba))


def test_certainty_is_what_the_likelihood_says_of_noise(blobs):
    X, y = blobs
    network = classifier(likelihood=UncertaintyAware()).fit(X, y)
    augmented = frozen(network, SHIFTED, X, y, vote="certainty")
    views = augmented.predict_views(X)
    moved_rows = torch.from_numpy(X + np.float32(0.5))
    s = network.draws(moved_rows)[..., -1].double().clamp(-6, 6)
    expected = torch.sigmoid(-s).mean(0).numpy()  # 1 / (1 + e^s)
    np.testing.assert_allclose(views.certainty[2], expected, atol=1e-6)
    vote = multi_view_vote(views.labels, views.confidence, views.certainty, "certainty")
    np.testing.assert_array_equal(augmented.predict(X), vote.predicted)


@pytest.mark.parametrize("rule", ["certainty", "certainty_hard"])
def test_certainty_of_what_says_nothing_of_noise_is_refused(fitted, blobs, rule):
    X, y = blobs
    with pytest.raises(ValueError, match="UncertaintyAware"):
        frozen(fitted, SHIFTED, X, y, vote=rule)
    network = classifier(likelihood=UncertaintyAware()).fit(X, y)
    scaled = TemperatureScaler(FrozenEstimator(network)).fit
    with pytest.warns(UserWarning, match="was trained on"):
        scaled = scaled(X, y)
    with pytest.raises(ValueError, match="without a calibrator"):
        frozen(scaled, SHIFTED, X, y, vote=rule)


def test_the_threshold_is_tuned_on_the_rows_of_a_frozen_estimator(images):
    X, y = images
    network = classifier(module=ConvNet).fit(X[:300], y[:300])
    augmented = frozen(network, Shift(2), X[300:], y[300:], n_views=5, vote="confidence_hard")
    views = augmented.predict_views(X[300:])

    def accuracy(threshold):
        vote = multi_view_vote(views.labels, views.confidence, None, "confidence_hard", threshold)
        return (vote.predicted == y[300:]).mean()

    best = max(accuracy(t) for t in [0, *np.unique(views.confidence)])
    assert augmented.score(X[300:], y[300:]) == accuracy(augmented.threshold_) == best
    assert best > accuracy(0.99)  # or there would be nothing to tune
    given = frozen(
        network, Shift(2), X[:9], y[:9], n_views=5, vote="confidence_hard", threshold=0.9
    )
    assert given.threshold_ == 0.9
    assert given.tune_threshold(X[300:], y[300:]).threshold_ == augmented.threshold_
    with pytest.warns(UserWarning, match="tune the threshold"):
        frozen(network, Shift(2), X, y, vote="confidence_hard")


def test_the_threshold_of_an_unfitted_estimator_is_tuned_on_rows_left_out(images):
    X, y = images[0][:200], images[1][:200]
    options = {"views": Shift(2), "n_views": 4, "vote": "confidence_hard", "random_state": 0}
    one, two = (
        TestTimeAugmentation(classifier(module=ConvNet), cv=cv, **options).fit(
            X, y, sample_weight=np.ones(len(X))
        )
        for cv in (2, 2)
    )
    assert 0 <= one.threshold_ == two.threshold_ < 1
    assert one.estimator_._share_seen(X) == 1  # it is fitted on everything in the end


def test_no_threshold_to_tune(fitted, blobs):
    with pytest.raises(ValueError, match="no threshold to tune"):
        frozen(fitted, SHIFTED, *blobs).tune_threshold(*blobs)
