"""Weights of true labels, and names of labels."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import skuq
from skuq import TorchClassifier
from skuq.likelihoods import Bernoulli
from skuq.posteriors import PointEstimate
from tests.networks import Plain

Y = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 1], [0, 0, 1]])


def weights(pos_weight, y=Y, sample_weight=None, **options):
    return Bernoulli(pos_weight=pos_weight, **options).fit(y, sample_weight)._weights


def test_balanced_counts_rows():
    np.testing.assert_array_equal(weights("balanced"), [3, 3, 1])  # the last is always true
    np.testing.assert_array_equal(weights("balanced", Y[:, 0]), [3])
    by_row = np.array([2.0, 1, 1, 1])
    np.testing.assert_array_equal(weights("balanced", Y, by_row), [1.5, 4, 1])
    unknown = np.where(np.eye(4, 3, -1) > 0, np.nan, Y)
    np.testing.assert_array_equal(weights("balanced", unknown, uncertain_label="ignore"), [2, 1, 1])


@pytest.mark.parametrize("given", [2.5, [2.0, 0.5, 3.0], np.array([1.0, 2.0, 3.0])], ids=str)
def test_the_loss_is_torchs(given):
    random = torch.Generator().manual_seed(0)
    z = torch.randn(4, 3, dtype=torch.float64, generator=random)
    likelihood = Bernoulli(pos_weight=given).fit(Y)
    w = torch.as_tensor(np.broadcast_to(given, 3).copy(), dtype=torch.float64)
    expected = nn.BCEWithLogitsLoss(reduction="none", pos_weight=w)(z, torch.as_tensor(Y).double())
    torch.testing.assert_close(likelihood.loss(z, torch.as_tensor(Y)), expected.sum(-1))
    smooth = Bernoulli(label_smoothing=0.2, pos_weight=given).fit(Y)
    soft = 0.8 * torch.as_tensor(Y) + 0.1
    expected = nn.BCEWithLogitsLoss(reduction="none", pos_weight=w)(z, soft.double())
    torch.testing.assert_close(smooth.loss(z, torch.as_tensor(Y)), expected.sum(-1))


def rare(n=4000):
    random = np.random.default_rng(0)
    x = random.normal(size=(n, 1))
    proba = 1 / (1 + np.exp(-(x - [2.0, 0.0])))
    return x, (random.random((n, 2)) < proba).astype(int), proba


@pytest.mark.parametrize("several", [True, False])
def test_the_correction_undoes_the_weight(several):
    """A network with one input and logits a x + b finds b + log w with a weight w."""
    X, Y, _ = rare()
    y = Y if several else Y[:, 0]
    options = {"posterior": PointEstimate(), "max_epochs": 15, "lr": 0.01, "random_state": 0}
    found = {}
    for corrects in (False, True):
        model = TorchClassifier(
            Plain, likelihood=Bernoulli(pos_weight=5.0), prior_correction=corrects, **options
        )
        proba = model.fit(X, y).predict_proba(X)
        found[corrects] = proba if several else proba[:, 1:]
    log_odds = {c: np.log(p / (1 - p)) for c, p in found.items()}
    np.testing.assert_allclose(log_odds[False] - log_odds[True], np.log(5), rtol=1e-5)
    of_true = Y.mean(axis=0)[: found[True].shape[1]]
    assert (np.abs(found[True].mean(axis=0) - of_true) < 0.03).all()
    assert (found[False].mean(axis=0) > of_true + 0.1).all()


@pytest.mark.parametrize("bad", ["unbalanced", 0.0, [1.0, -1.0, 1.0], [1.0, 2.0], [[1.0] * 3]])
def test_bad_weights(bad):
    with pytest.raises(ValueError, match="pos_weight"):
        TorchClassifier(likelihood=Bernoulli(pos_weight=bad), max_epochs=1).fit(np.ones((4, 2)), Y)
    with pytest.raises(ValueError, match=r"pos_weight='balanced'"):
        TorchClassifier(likelihood=Bernoulli(), class_weight="balanced").fit(np.ones((4, 2)), Y)


def test_names_of_labels(tmp_path):
    frame = pd.DataFrame(Y, columns=["a", "b", "c"])
    X = np.random.default_rng(0).normal(size=(4, 2))
    model = TorchClassifier(likelihood=Bernoulli(), max_epochs=1, early_stopping=False)
    assert model.fit(X, frame).label_names_.tolist() == ["a", "b", "c"]
    skuq.save(model, tmp_path / "m.skuq")
    assert skuq.load(tmp_path / "m.skuq").label_names_.tolist() == ["a", "b", "c"]
    model.partial_fit(X, Y)  # without names
    with pytest.raises(ValueError, match=r"columns of y are \['c', 'a', 'b'\]"):
        model.partial_fit(X, frame[["c", "a", "b"]])
    assert not hasattr(model.fit(X, Y), "label_names_")
