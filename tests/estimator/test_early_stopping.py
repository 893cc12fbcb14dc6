"""Early stopping, and the rows that it is decided on."""

import numpy as np
import pytest

from tests.estimator.helpers import classifier


def test_early_stopping_restores_the_best_weights(blobs):
    X, y = blobs
    fitted = classifier(early_stopping=True, max_epochs=300, n_iter_no_change=4, lr=0.05).fit(X, y)
    losses = [epoch["valid_loss"] for epoch in fitted.history_]
    assert fitted.n_iter_ == len(losses) == int(np.argmin(losses)) + 1 + 4 < 300
    _, valid = split(y, fitted)
    log_proba = fitted.predict_log_proba(X[valid])
    nll = -log_proba[np.arange(len(valid)), y[valid]].mean()
    assert nll == pytest.approx(min(losses), rel=1e-4)


def split(y, fitted, groups=None):
    from skuq._data._checks import train_valid_indices
    from skuq._utils._random import Purpose, derive_seed

    seed = derive_seed(fitted._root, Purpose.SPLIT)
    return train_valid_indices(y, groups, fitted.validation_fraction, seed, True)


def test_validation_rows_are_shuffled_and_stratified():
    from skuq._data._checks import train_valid_indices

    y = np.repeat([0, 1, 2, 3], [400, 150, 49, 1])
    train, valid = train_valid_indices(y, None, 0.1, 0, True)
    assert sorted([*train, *valid]) == list(range(600))
    assert len(valid) == 60 and np.ptp(valid) > 300
    assert np.bincount(y[valid], minlength=4).tolist() == [40, 15, 5, 0]
    again, _ = train_valid_indices(y, None, 0.1, 0, True)
    other, _ = train_valid_indices(y, None, 0.1, 1, True)
    assert np.array_equal(train, again) and not np.array_equal(train, other)
    train, valid = train_valid_indices(np.arange(100.0), None, 0.2, 0, False)
    assert len(valid) == 20 and np.ptp(valid) > 50


@pytest.mark.parametrize("stratify", [True, False])
def test_groups_stay_together(stratify):
    from skuq._data._checks import train_valid_indices

    groups = np.arange(200) // 10
    y = groups % 2
    train, valid = train_valid_indices(y, groups, 0.1, 0, stratify)
    assert not set(groups[train]) & set(groups[valid])
    assert 10 <= len(valid) <= 40


def test_each_class_keeps_a_row_in_training():
    from skuq._data._checks import train_valid_indices

    y = np.array([0, 0, 1, 2, 3, 4, 5, 6])
    for seed in range(20):
        train, valid = train_valid_indices(y, None, 0.2, seed, True)
        assert set(y[train]) == set(y) and y[valid] == [0]
    with pytest.raises(ValueError, match="every class has a single one"):
        train_valid_indices(np.arange(4), None, 0.2, 0, True)


def test_groups_reach_the_split(blobs):
    X, y = blobs
    groups = np.arange(len(y)) // 8
    one, two = (
        classifier(early_stopping=True).fit(X, y, groups=g).predict_proba(X) for g in (None, groups)
    )
    assert not np.array_equal(one, two)
    with pytest.raises(ValueError, match="at least 2 groups"):
        classifier(early_stopping=True).fit(X, y, groups=np.zeros(len(y)))


def test_too_few_rows_for_a_split():
    with pytest.raises(ValueError, match="leaves none to train on"):
        classifier(early_stopping=True, validation_fraction=0.99).fit(np.eye(3), [0, 1, 0])


def test_a_class_of_few_groups_is_no_warning(recwarn):
    from skuq._data._checks import train_valid_indices

    groups = np.arange(50) // 2
    y = np.where(groups == 0, 2, groups % 2)
    train, valid = train_valid_indices(y, groups, 0.1, 0, True)
    assert len(train) + len(valid) == 50 and not recwarn.list


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_groups_without_a_name_are_refused(blobs, share):
    X, y = blobs
    groups = np.arange(len(y), dtype=float)
    groups[: round(share * len(y))] = np.nan
    with pytest.raises(ValueError, match="groups contains NaN"):
        classifier().fit(X, y, groups=groups)
