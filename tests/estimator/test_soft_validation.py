"""Validation rows with probabilities of classes: names, not places, say which class is meant."""

import numpy as np
import pytest

from skuq import TorchClassifier
from skuq.likelihoods import Categorical
from skuq.posteriors import PointEstimate


def test_frames_of_shares_go_by_name():
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 2))
    shares = pandas.DataFrame(random.dirichlet([1, 1, 4], 40), columns=["z", "y", "x"])

    def watched(y_val):
        network = TorchClassifier(
            likelihood=Categorical(soft_labels=True), posterior=PointEstimate(), max_epochs=1,
            random_state=0,
        )  # fmt: skip
        return network.fit(X, shares, X_val=X, y_val=y_val)

    fitted = watched(shares)
    proba = fitted.predict_proba(X)
    expected = -(shares[fitted.classes_].to_numpy() * np.log(proba)).sum(1).mean()
    assert fitted.history_[-1]["valid_loss"] == pytest.approx(expected, rel=1e-5)
    moved = watched(shares[["y", "x", "z"]])
    assert moved.history_[-1]["valid_loss"] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"classes \['w' 'x' 'y'\]"):
        watched(shares.rename(columns={"z": "w"}))
