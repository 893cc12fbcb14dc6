"""Digits that are corrupted more and more: what falls, what rises, and what notices.

Bands are the quartiles over nine corruptions. Takes about twenty seconds.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator

from skuq import TorchClassifier
from skuq.calibration import TemperatureScaler
from skuq.posteriors import DeepEnsemble, PointEstimate
from skuq.shift import corrupt, expected_accuracy, shift_report, shift_test

OUTPUT = Path(__file__).resolve().parent / "output"
SHAPE = (8, 8)


def main() -> None:
    torch.set_num_threads(1)  # the networks are small
    OUTPUT.mkdir(exist_ok=True)
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))  # they are sorted by writer
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

    figure, axes = plt.subplots(1, 4, figsize=(16, 3.8), layout="constrained")
    print(f"{'':20}{'severity':>9}{'accuracy':>10}{'NLL':>8}{'ECE':>8}{'AUROC of novelty':>18}")
    for name, estimator in estimators.items():
        report = shift_report(estimator, X_test, y_test, image_shape=SHAPE)
        report.plot(["accuracy", "ece", "nll"], ax=axes[:3], name=name)
        curves = [report.curve(m).median for m in ("accuracy", "nll", "ece", "novelty_auroc")]
        for severity in (0, 3, 5):
            accuracy, nll, ece, auroc = (curve[severity] for curve in curves)
            print(f"{name:20}{severity:9d}{accuracy:10.3f}{nll:8.3f}{ece:8.3f}{auroc:18.3f}")

    print(f"\n{'severity of rotation':20}{'accuracy':>10}{'expected':>10}", end="")
    print(f"{'thresholded':>13}{'p-value':>9}")
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
    for values, label in zip(
        np.transpose(shown), ("accuracy", "mean confidence", "thresholded confidence")
    ):
        axes[3].plot(values, marker="o", label=label)
    axes[3].set(xlabel="severity of the rotation", title="without labels")
    axes[3].legend()
    figure.savefig(OUTPUT / "shift.png", dpi=150)
    plt.close(figure)
    print(f"\npicture: {OUTPUT / 'shift.png'}")


if __name__ == "__main__":
    main()
