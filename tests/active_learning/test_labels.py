"""Labels of which some are missing: text, several targets, Datasets, several inputs."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch.utils.data import Dataset, TensorDataset

import skuq
from skuq import TorchClassifier
from skuq.active_learning import ActiveLearner, QueryStrategy, batch_bald
from skuq.posteriors import PointEstimate

NAMES = np.array(["cat", "dog", "elephant"])


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA, "", "?"], ids=str)
def test_lists_of_text(blobs, missing):
    X, y = blobs
    labels = [str(NAMES[k]) if i < 40 else missing for i, k in enumerate(y)]
    given = missing if isinstance(missing, str) or missing is pd.NA else None
    learner = ActiveLearner(LogisticRegression(), missing_label=given, batch_size=2)
    learner.fit(X, labels)
    assert learner.labelled_.sum() == 40 and list(learner.classes_) == list(NAMES)
    learner.teach([50, 51], ["hippopotamus", missing])
    assert list(learner.classes_) == [*NAMES, "hippopotamus"]
    assert learner.labelled_[50] and not learner.labelled_[51]
    chosen = QueryStrategy(missing_label=given).query(X, labels, learner, batch_size=2)
    assert (chosen >= 40).all()


def test_labels_of_another_shape(blobs):
    X, _ = blobs
    targets = np.where(np.arange(240)[:, None] < 40, X[:, :2], np.nan)
    learner = ActiveLearner(Ridge()).fit(X, targets)
    with pytest.raises(ValueError, match=r"labels of shape \(2, 2\).*got \(2,\)"):
        learner.teach([50, 51], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"got \(2, 1\)"):
        ActiveLearner(Ridge()).fit(X, targets[:, 0]).teach([50, 51], [[1.0], [2.0]])


def test_labels_that_cannot_be_learnt_are_not_kept(blobs):
    X, _ = blobs
    learner = ActiveLearner(Ridge()).fit(X, np.where(np.arange(240) < 40, X[:, 0], np.nan))
    with pytest.raises(ValueError, match="infinity"):
        learner.teach([50], [np.inf])
    assert learner.teach([50], [1.0]).labelled_.sum() == 41


class Rows(Dataset):
    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, place):
        return self.X[place]


def test_datasets_and_several_inputs_are_learnt_from(blobs):
    X, y = blobs[0].astype(np.float32), blobs[1]
    labels = np.where(np.arange(240) < 40, y, np.nan)
    network = TorchClassifier(posterior=PointEstimate(), max_epochs=2, random_state=0)

    def asked(rows):
        learner = ActiveLearner(network, "margin", batch_size=3, random_state=0).fit(rows, labels)
        first = learner.ask()
        return first, learner.teach(first, y[first]).ask()

    expected = asked(X)
    for rows in (Rows(X), TensorDataset(torch.tensor(X), torch.zeros(240))):  # old labels are not
        np.testing.assert_array_equal(asked(rows), expected)
    parts = {"a": X[:, :1], "b": X[:, 1:]}
    wide = network.set_params(module=TwoInputs)
    np.testing.assert_array_equal(asked(parts), asked(skuq.Inputs(parts)))
    options = {"n_rounds": 1, "batch_size": 3, "random_state": 0}
    runs = [
        ActiveLearner(wide, **options).simulate(rows, y) for rows in (parts, skuq.Inputs(parts))
    ]
    assert runs[0].rounds_[0]["asked"] == runs[1].rounds_[0]["asked"]


class TwoInputs(torch.nn.Module):
    def __init__(self, n_outputs=3):
        super().__init__()
        self.first, self.second = torch.nn.LazyLinear(n_outputs), torch.nn.LazyLinear(n_outputs)

    def forward(self, a, b):
        return self.first(a) + self.second(b)


def test_strategies_that_choose_what_they_may_not(blobs):
    X, y = blobs

    class Stubborn:
        def query(self, X, y, estimator, *, candidates=None, batch_size=1):
            return np.array([0, 0, 1])

    with pytest.raises(ValueError, match="different candidates without a label"):
        ActiveLearner(LogisticRegression(), Stubborn()).simulate(X, y)


@pytest.mark.parametrize("missing", [-1, "?"])
def test_strategies_with_a_missing_label_of_their_own(blobs, missing):
    X, y = blobs
    labels = y if missing == -1 else NAMES[y]
    strategy = QueryStrategy("margin", missing_label=missing)
    options = {"n_rounds": 1, "batch_size": 4, "random_state": 0}
    own, named = (
        ActiveLearner(LogisticRegression(), each, **options).simulate(X, labels)
        for each in (strategy, "margin")
    )
    assert own.rounds_[0]["asked"] == named.rounds_[0]["asked"]


def test_large_batches_of_batch_bald():
    """Products of many probabilities are below the smallest number."""
    draws = np.random.RandomState(0).dirichlet(np.ones(10), (3, 420))
    chosen = batch_bald(draws, 400, n_samples=20, random_state=0)  # warnings are errors
    assert len(set(chosen)) == 400
