"""
Test-time augmentation: digits seen from several places
=======================================================

A small convolutional network learns from 300 digits, each also moved to the left and to the right
by a pixel. A shift and a little noise do not change which digit it is, so predictions for nine
views of each of 1197 other digits are averaged, and what the views disagree about is told apart
from the rest. On images as small as these the views bring little accuracy; they show where the
network is not as blind to shifts as it should be. Takes about 20 seconds.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from torch import nn

from skuq import TorchClassifier
from skuq.augmentation import GaussianNoise, Shift, TestTimeAugmentation
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import Categorical, UncertaintyAware
from skuq.metrics import (
    expected_calibration_error,
    negative_log_likelihood,
    uncertainty_error_auroc,
)
from skuq.posteriors import MCDropout

torch.set_num_threads(1)  # the networks are small

# %%
# A network, and its views
# ------------------------


class SmallCNN(nn.Module):
    def __init__(self, n_outputs, width=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(width * 16, n_outputs))

    def forward(self, x):
        return self.head(self.features(x))


def moved(images, labels):
    """Return each image, and the same a pixel to the left and to the right."""
    wide = np.pad(images, [(0, 0), (0, 0), (0, 0), (1, 1)])
    return np.concatenate([images, wide[..., :8], wide[..., 2:]]), np.tile(labels, 3)


def trained(labels, likelihood):
    network = TorchClassifier(
        SmallCNN, posterior=MCDropout(20), likelihood=likelihood, lr=5e-3, max_epochs=20,
        random_state=0,
    )  # fmt: skip
    return network.fit(*moved(X_train, labels))


X, y = load_digits(return_X_y=True)
images = (X.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
X_train, X_rest, y_train, y_rest = train_test_split(images, y, train_size=300, random_state=0)
X_apart, X_test, y_apart, y_test = train_test_split(X_rest, y_rest, train_size=300, random_state=0)
network = trained(y_train, Categorical())
shift = Shift(1, axes=(-1,), fill="zero")
views = {"views": [shift, GaussianNoise(0.1)], "n_views": 9, "random_state": 0}
augmented = TestTimeAugmentation(FrozenEstimator(network), **views).fit(X_apart, y_apart)

# %%
# One view, or nine?
# ------------------
# Averages are softer, which a temperature puts right.

models = {
    "one view": network,
    "nine views": augmented,
    "one view, temperature": TemperatureScaler(FrozenEstimator(network)).fit(X_apart, y_apart),
    "nine views, temperature": TemperatureScaler(FrozenEstimator(augmented)).fit(X_apart, y_apart),
}
print(f"{'':26}{'accuracy':>10}{'NLL':>8}{'ECE':>8}{'AUROC, errors':>16}")
for name, model in models.items():
    proba, parts = model.predict_proba(X_test, return_uncertainty=True)
    predicted = model.predict(X_test)
    print(
        f"{name:26}{model.score(X_test, y_test):10.3f}"
        f"{negative_log_likelihood(y_test, proba):8.3f}"
        f"{expected_calibration_error(y_test, proba):8.3f}"
        f"{uncertainty_error_auroc(y_test, predicted, parts.total):16.3f}"
    )
nested = augmented.predict_uncertainty(X_test, kind="nested")
print("\nnats on average:", end="")
for name in ("within_views", "between_views", "epistemic"):
    print(f"  {name} {getattr(nested, name).mean():.3f}", end="")

# %%
# Votes of the views
# ------------------
# The rules, of a network that learns from labels of which a fifth is wrong.

generator = np.random.default_rng(0)
wrong = generator.random(len(y_train)) < 0.2
noisy = np.where(wrong, generator.integers(10, size=len(y_train)), y_train)
misled = trained(noisy, UncertaintyAware())
print(f"one view {misled.score(X_test, y_test):.3f}")
for rule in ("mean", "mode", "confidence", "confidence_hard", "certainty", "certainty_hard"):
    model = TestTimeAugmentation(FrozenEstimator(misled), **views, vote=rule)
    model.fit(X_apart, y_apart)
    threshold = "" if model.threshold_ is None else f"  threshold {model.threshold_:.3f}"
    print(f"  {rule:16}{model.score(X_test, y_test):.3f}{threshold}")

# %%
# The digits whose views disagree most
# ------------------------------------
# Over each, the labels that the views give it; below, the parts of its uncertainty.

most = nested.between_views.argsort()[::-1][:6]
proba, labels = augmented.predict_proba(X_test), augmented.predict_views(X_test).labels
figure, axes = plt.subplots(2, 6, figsize=(11, 4.6), layout="constrained")
top = nested.total[most].max() * 1.05
for (image, bars), i in zip(axes.T, most):
    image.imshow(X_test[i, 0], cmap="gray_r")
    voted = " ".join(map(str, labels[:, i]))
    image.set_title(f"a {y_test[i]}, taken for {proba[i].argmax()}\n{voted}", fontsize=9)
    image.axis("off")
    heights = [getattr(nested, part)[i] for part in ("within_views", "between_views", "epistemic")]
    bars.bar(["within", "between", "draws"], heights, color=["#999", "#d62", "#269"])
    bars.set_ylim(0, top)
    bars.tick_params(labelsize=8)
for bars in axes[1, 1:]:
    bars.set_yticklabels([])
axes[1, 0].set_ylabel("nats")
figure.suptitle("Digits whose nine views disagree most: labels of the views, and uncertainty")
figure.set_label(
    "Six blurred digits with the nine labels that their views give, and below each a bar for the "
    "uncertainty within views, between views and between draws."
)

if sys.argv[1:]:
    figure.savefig(sys.argv[1], dpi=100)
else:
    plt.show()
