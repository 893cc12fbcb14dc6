"""Makes the files in saved_files/ that later versions must load, once for each format:

python -m tests.persistence.formats
"""

import json
from pathlib import Path

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq.calibration import TemperatureScaler, VarianceScaler
from skuq.persistence._save import FORMAT
from skuq.posteriors import DeepEnsemble, MCDropout
from tests.networks import Plain

FOLDER = Path(__file__).parent / "saved_files"
MODULES = {"ensemble": Plain}  # by the last part of the name of a file


def rows():
    return np.linspace(-2, 2, 36).reshape(12, 3)


def make():
    """A calibrated Pipeline with MC dropout, and an ensemble of a user's module."""
    random = np.random.default_rng(0)
    X = random.normal(size=(80, 3))
    options = {"lr": 0.02, "max_epochs": 10, "random_state": 0}
    classifier = skuq.TorchClassifier(
        posterior=MCDropout(4), module__hidden_layer_sizes=(8,), **options
    )
    labels = np.array(["no", "yes"])[(X[:, 0] + 0.3 * random.normal(size=80) > 0).astype(int)]
    pipeline = make_pipeline(StandardScaler(), classifier).fit(X[:40], labels[:40])
    yield "dropout", TemperatureScaler(FrozenEstimator(pipeline)).fit(X[40:], labels[40:])
    y = 3 * X[:, 1] + random.normal(size=80)
    regressor = skuq.TorchRegressor(Plain, posterior=DeepEnsemble(2), module__width=4, **options)
    regressor.fit(X[:40], y[:40])
    yield "ensemble", VarianceScaler(FrozenEstimator(regressor)).fit(X[40:], y[40:])


def answers(model):
    """What is written beside a file, and compared with."""
    parts = skuq.predict_uncertainty(model, rows(), kind="all")
    found = {"predict": model.predict(rows()).tolist(), "uncertainty": np.stack(parts).tolist()}
    if hasattr(model, "predict_proba"):
        found["predict_proba"] = model.predict_proba(rows()).tolist()
    return found


if __name__ == "__main__":
    for name, model in make():
        path = FOLDER / f"format-{FORMAT}-{name}.skuq"
        skuq.save(model, path)
        path.with_suffix(".json").write_text(json.dumps(answers(model)) + "\n")
