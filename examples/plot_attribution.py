"""
What in the image makes it unsure?
==================================

A network reads digits, some of which have a patch of another digit. Attribution finds what makes
it uncertain, repairs it, and says how much of the uncertainty goes away. Takes about 20 seconds.
"""

# %%
# scikit-learn's digits, enlarged to 24 × 24 pixels, and a small network with dropout in its head.

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.ndimage import zoom
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from skuq import TorchClassifier
from skuq.attribution import (
    AttributionDisplay,
    attribute_uncertainty,
    detection_accuracy,
    iou,
    planted_regions,
)
from skuq.posteriors import MCDropout

torch.set_num_threads(1)  # the network is small


def reader():
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(576, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10),
    )  # fmt: skip


digits = load_digits()
images = zoom(digits.images / 16, (1, 3, 3), order=1)[:, None].astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(
    images, digits.target, train_size=900, random_state=0
)
network = TorchClassifier(
    reader, posterior=MCDropout(30), max_epochs=30, lr=3e-3, random_state=0
).fit(X_train, y_train)
print(f"accuracy {network.score(X_test, y_test):.3f}")

# %%
# A patch of another digit is planted in each test image. Those whose uncertainty rises most are
# kept, so it is known where the uncertainty comes from.

planted = planted_regions(network, X_test, corruption="patch", keep=0.05)
print(f"{len(planted.X)} images: {planted.before.mean():.2f} nats, then {planted.after.mean():.2f}")

# %%
# Each method points at pixels. The overlap of as many top pixels with the patch says how well.

for method in ("gradient", "integrated_gradients", "occlusion", "kernel_shap", "optimized"):
    found = attribute_uncertainty(network, planted.X, method=method)
    overlap, detected = iou(found, planted.regions), detection_accuracy(found, planted.regions)
    print(f"{method:22} IoU {overlap.iou.mean():.2f}, found in {detected.accuracy:.0%}")
print(f"{'chance':22} IoU {overlap.chance.mean():.2f}, found in {detected.chance:.0%}")

# %%
# The images that became most uncertain, what makes them so (orange adds to the uncertainty), the
# mask, and the image after the masked pixels are filled from those around. The patch is framed.

most = np.argsort(-(planted.after - planted.before))[:4]
display = AttributionDisplay.from_attribution(
    found, most, names=[f"a {y_test[planted.kept[row]]} with a patch" for row in most]
)
for axes, row in zip(display.axes_, most):
    for ax in axes[:3]:
        ax.contour(planted.regions[row], levels=[0.5], colors="#009E73", linewidths=2)

display.figure_.set_label(
    "Four digits with a patch of another one, each beside a map of what makes the network "
    "unsure, the mask that was found, and the repaired image. A green frame marks the patch: in "
    "three rows the mask lies within it, in the last it does not."
)
if sys.argv[1:]:
    display.figure_.savefig(sys.argv[1], dpi=90)
plt.show()
