"""
Calibrating a classifier: temperature, vector, matrix, isotonic
===============================================================

A network trained for too long on 300 digits is too sure of itself. Calibrators are fitted on 400
digits that it has not seen and judged on 1097 others. Takes about ten seconds.

``python examples/plot_calibrated_classifier.py picture.png report.html`` also writes skuq's report.
"""

import sys

import matplotlib.pyplot as plt
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import skuq
from skuq import TorchClassifier
from skuq.calibration import MatrixScaler, TemperatureScaler, VectorScaler
from skuq.metrics import (
    ReliabilityDisplay,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
)
from skuq.posteriors import PointEstimate

torch.set_num_threads(1)  # the networks are small

# %%
# A network that is too sure
# --------------------------

X, y = load_digits(return_X_y=True)
X_train, X_rest, y_train, y_rest = train_test_split(X, y, train_size=300, random_state=0)
X_apart, X_test, y_apart, y_test = train_test_split(X_rest, y_rest, train_size=400, random_state=0)
network = TorchClassifier(
    posterior=PointEstimate(), module__dropout=0.0, max_epochs=200, lr=0.01, random_state=0
)
fitted = make_pipeline(MinMaxScaler(), network).fit(X_train, y_train)

# %%
# Four calibrators
# ----------------
# One temperature; a scale and a bias for each class; a matrix that knows which classes the network
# takes for which; and scikit-learn's isotonic regression. Each learns from the same rows apart.

frozen = FrozenEstimator(fitted)
models = {
    "network": fitted,
    "temperature": TemperatureScaler(frozen).fit(X_apart, y_apart),
    "vector": VectorScaler(frozen).fit(X_apart, y_apart),
    "matrix": MatrixScaler(frozen).fit(X_apart, y_apart),
    "isotonic": CalibratedClassifierCV(frozen, method="isotonic").fit(X_apart, y_apart),
}
scaler = models["temperature"]
print(
    f"T = {scaler.temperature_:.3f}, in {scaler.n_iter_} steps: log loss "
    f"{scaler.loss_before_:.3f} before, {scaler.loss_after_:.3f} after\n"
)
print(f"{'':12}{'accuracy':>10}{'NLL':>8}{'Brier':>8}{'ECE':>8}")
for name, model in models.items():
    proba = model.predict_proba(X_test)
    scores = [m(y_test, proba) for m in (negative_log_likelihood, brier_score)]
    scores.append(expected_calibration_error(y_test, proba))
    columns = "".join(f"{score:8.3f}" for score in scores)
    print(f"{name:12}{model.score(X_test, y_test):10.3f}{columns}")

# %%
# How to read the diagram
# -----------------------
# Rows are sorted into bins by their largest probability. On the diagonal, nine in ten rows of a
# bin of confidence 0.9 are right. Below it the network is too sure.

figure, axes = plt.subplots(1, 2, figsize=(9.6, 5.2), layout="constrained")
for ax, pair in zip(axes, (("network", "temperature"), ("vector", "isotonic"))):
    for name in pair:
        ReliabilityDisplay.from_estimator(models[name], X_test, y_test, name=name, ax=ax)
figure.set_label(
    "Two reliability diagrams, accuracy against confidence: the network lies below the diagonal, "
    "the calibrated models near it."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=100)
    for path in sys.argv[2:]:
        skuq.report(scaler, X_test, y_test).save(path)
else:
    plt.show()
