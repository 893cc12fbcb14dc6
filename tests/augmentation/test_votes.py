"""Votes of views, on arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skuq.augmentation import multi_view_vote, vote_threshold

LABELS = [7, 7, 7, 4, 4]
CONFIDENCE = [0.3575, 0.3309, 0.3409, 0.3105, 0.2684]
CERTAINTY = [0.4999, 0.4999, 0.4998, 0.4999, 0.4999]


@pytest.mark.parametrize(
    ("rule", "weights"),
    [
        ("mode", (2, 3)),
        ("confidence", (0.5789, 1.0293)),
        ("confidence_hard", (0, 2)),
        ("certainty", (0.9998, 1.4996)),
        ("certainty_hard", (2, 3)),
    ],
)
def test_the_published_example(rule, weights):
    """Five views of one image: class 7 by all five rules."""
    vote = multi_view_vote(LABELS, CONFIDENCE, CERTAINTY, rule, threshold=0.34)
    assert vote.predicted == 7 and not vote.abstained
    np.testing.assert_array_equal(vote.classes, [4, 7])
    np.testing.assert_allclose(vote.weights, weights, atol=1e-12)


def test_samples_are_columns():
    labels = np.array([LABELS, LABELS[::-1], [4] * 5]).T
    scores = np.array([CONFIDENCE, CONFIDENCE, CONFIDENCE]).T
    vote = multi_view_vote(labels, scores, rule="confidence", classes=[3, 4, 7])
    # In the second column the surest two views say 4, and the third surest three say 7.
    np.testing.assert_array_equal(vote.predicted, [7, 7, 4])
    assert vote.weights.shape == (3, 3) and not vote.weights[:, 0].any()
    np.testing.assert_allclose(vote.weights.sum(1), scores.sum(0))


def test_ties_go_to_the_surer_class_then_to_the_first():
    labels, scores = [[1, 1], [0, 0]], [[0.9, 0.5], [0.6, 0.5]]
    np.testing.assert_array_equal(multi_view_vote(labels, scores).predicted, [1, 0])
    np.testing.assert_array_equal(multi_view_vote(labels).predicted, [0, 0])


def test_where_every_view_abstains_the_mode_decides():
    vote = multi_view_vote(
        [["a", "a"], ["b", "b"], ["b", "b"]],
        [[0.9, 0.5], [0.4, 0.5], [0.4, 0.5]],
        rule="confidence_hard",
        threshold=0.6,
    )
    np.testing.assert_array_equal(vote.predicted, ["a", "b"])
    np.testing.assert_array_equal(vote.abstained, [False, True])
    np.testing.assert_array_equal(vote.weights, [[1, 0], [1, 2]])


def test_a_score_at_the_threshold_counts():
    assert multi_view_vote([0, 1, 1], [0.5, 0.4, 0.4], None, "confidence_hard", 0.5).predicted == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "majority"}, "rule must be one of"),
        ({"rule": "confidence"}, "needs confidence"),
        ({"rule": "certainty", "confidence": [0.5, 0.5]}, "needs certainty"),
        ({"rule": "confidence_hard", "confidence": [0.5, 0.5]}, "needs a threshold"),
        ({"confidence": [0.5]}, "shape of labels"),
        ({"confidence": [0.5, 1.5]}, "at most 1"),
        ({"confidence": [0.5, np.nan]}, "finite"),
        ({"certainty": [0.5, -1]}, "at least 0"),
        ({"classes": [0, 2]}, "not in classes"),
        ({"classes": [1, 0]}, "increasing order"),
        (
            {"rule": "confidence_hard", "confidence": [0.5, 0.5], "threshold": np.nan},
            "finite number",
        ),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        multi_view_vote([0, 1], **options)


def test_labels_without_an_axis_of_views_are_refused():
    for labels in (7, np.zeros((2, 2, 2)), []):
        with pytest.raises(ValueError, match="n_views"):
            multi_view_vote(labels)


cases = st.integers(0, 2**32 - 1)


@given(cases)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_the_threshold_is_the_best_of_all(seed):
    """Against a search by hand over every value there is."""
    rng = np.random.default_rng(seed)
    n_views, n_samples, n_classes = rng.integers(1, 6), rng.integers(1, 12), rng.integers(1, 4)
    labels = rng.integers(n_classes, size=(n_views, n_samples))
    scores = rng.integers(1, 6, size=labels.shape) / 8  # with equal ones
    confidence = rng.random(labels.shape)
    truth = rng.integers(n_classes, size=n_samples)
    weight = rng.integers(1, 4, size=n_samples)

    def accuracy(threshold):
        vote = multi_view_vote(labels, confidence, scores, "certainty_hard", threshold)
        return np.average(vote.predicted == truth, weights=weight)

    best = vote_threshold(labels, scores, truth, confidence, weight, classes=np.arange(3))
    by_hand = max(accuracy(t) for t in [*np.unique(scores), 0.0, 2.0])
    assert best.accuracy == pytest.approx(by_hand, abs=1e-12)
    assert accuracy(best.threshold) == pytest.approx(best.accuracy, abs=1e-12)


def test_the_threshold_lies_halfway_and_is_the_lowest_of_the_best():
    labels, scores = [[0, 1], [1, 0], [1, 0]], [[0.9, 0.8], [0.4, 0.3], [0.4, 0.2]]
    best = vote_threshold(labels, scores, [0, 1])
    assert best.threshold == pytest.approx(0.6) and best.accuracy == 1.0
    assert vote_threshold(labels, scores, [1, 0]) == (0.0, 1.0)  # every view may vote
    weighted = vote_threshold(labels, scores, [0, 0], sample_weight=[0, 1])
    assert weighted == (0.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0.5, 0.5], [0]), "labels must have shape"),
        (([[0, 1]], [[0.5, 0.5]], [0]), "y_true"),
        (([[0, 1]], None, [0, 1]), "scores must be given"),
        (([[0, 1]], [[0.5, np.inf]], [0, 1]), "finite"),
        (([[0, 1]], [[0.5, 0.5]], [0, 1], None, [0, 0]), "zero for every sample"),
        (([[0, 1]], [[0.5, 0.5]], [0, 1], None, [1, -1]), "at least 0"),
    ],
)
def test_what_a_search_for_a_threshold_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        vote_threshold(*arguments)


def test_a_threshold_needs_labels_that_can_be_voted_for():
    labels, scores = [["a", "b"], ["b", "b"]], [[0.9, 0.8], [0.3, 0.2]]
    with pytest.raises(ValueError, match=r"y_true contains \['A' 'B'\], which no view votes for"):
        vote_threshold(labels, scores, ["A", "B"])
    with pytest.raises(ValueError, match="no view votes for"):
        vote_threshold(labels, scores, ["a", "c"], classes=["a", "b"])
    assert vote_threshold(labels, scores, ["a", "c"]).accuracy == 0.5
