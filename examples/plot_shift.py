"""
Digits that are corrupted more and more
=======================================

What falls, what rises, and what notices: accuracy, calibration error and log loss of three models
under nine corruptions, and two ways to estimate the accuracy without labels. Takes about twenty
seconds.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator

from skuq import TorchClassifier
from skuq.calibration import TemperatureScaler
from skuq.posteriors import DeepEnsemble, PointEstimate
from skuq.shift import corrupt, expected_accuracy, shift_report, shift_test

torch.set_num_threads(1)  # the networks are small
SHAPE = (8, 8)

# %%
# Three models
# ------------
# The digits of scikit-learn are sorted by writer, so they are shuffled first.

X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(X))
X, y = X[order] / 16, y[order]
(X_train, X_held, X_test), (y_train, y_held, y_test) = (
    np.split(values, [600, 1000]) for values in (X, y)
)
options = {"max_epochs": 30, "lr": 5e-3, "random_state": 0}
network, ensemble = (
    TorchClassifier(posterior=posterior, **options).fit(X_train, y_train)
    for posterior in (PointEstimate(), DeepEnsemble())
)
scaled = TemperatureScaler(FrozenEstimator(network)).fit(X_held, y_held)
estimators = {"one network": network, "with temperature": scaled, "ensemble of 5": ensemble}

# %%
# How fast does quality fall?
# ---------------------------
# ``shift_report`` corrupts the test digits in nine ways and five severities. A temperature that was
# learnt on clean digits helps there, and less and less as they change.

reports = {
    name: shift_report(estimator, X_test, y_test, image_shape=SHAPE)
    for name, estimator in estimators.items()
}
print(f"{'':20}{'severity':>9}{'accuracy':>10}{'NLL':>8}{'ECE':>8}{'AUROC of novelty':>18}")
for name, report in reports.items():
    curves = [report.curve(m).median for m in ("accuracy", "nll", "ece", "novelty_auroc")]
    for severity in (0, 3, 5):
        accuracy, nll, ece, auroc = (curve[severity] for curve in curves)
        print(f"{name:20}{severity:9d}{accuracy:10.3f}{nll:8.3f}{ece:8.3f}{auroc:18.3f}")

# %%
# Without labels
# --------------
# Both estimates miss what rotations cost. The test at the right sees that something has changed.

print(
    f"{'severity of rotation':20}{'accuracy':>10}{'expected':>10}{'thresholded':>13}{'p-value':>9}"
)
shown = []
for severity in range(6):
    turned = corrupt(X_test, "rotation", severity, image_shape=SHAPE)
    found = expected_accuracy(scaled, turned, reference=(X_held, y_held))
    accuracy = scaled.score(turned, y_test)
    p_value = shift_test(scaled, X_held, turned).p_value
    shown.append((accuracy, found.confidence, found.thresholded))
    print(
        f"{severity:20d}{accuracy:10.3f}{found.confidence:10.3f}{found.thresholded:13.3f}"
        f"{p_value:9.3f}"
    )

# %%
# The lines are medians over the corruptions, and the bands their quartiles.

figure, axes = plt.subplots(1, 4, figsize=(16, 3.8), layout="constrained")
for name, report in reports.items():
    report.plot(["accuracy", "ece", "nll"], ax=axes[:3], name=name)
for values, label in zip(
    np.transpose(shown), ("accuracy", "mean confidence", "thresholded confidence")
):
    axes[3].plot(values, marker="o", label=label)
axes[3].set(xlabel="severity of the rotation", title="without labels")
axes[3].legend()
figure.set_label(
    "Accuracy falls and calibration error and log loss rise with severity, for one network, one "
    "with a temperature and an ensemble. Under rotation the two estimates of accuracy stay near "
    "one, while accuracy falls."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=100)
else:
    plt.show()
