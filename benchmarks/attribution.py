"""What makes images uncertain: methods of `skuq.attribution` side by side, and what they cost.

    python -m benchmarks.attribution [--data FOLDER] [--images fashion_mnist] [--half confirming]

The folder holds `images/fashion_mnist_{train,test}.npz` and `images/cifar10_jpeg_{train,test}.npz`;
by default it is $SKUQ_DATA, else `../shared/data`. A set that is not there is left out. Settings
were chosen on the "choosing" half, images of the training files that trained nothing, and the
published figures are those of the "confirming" half, images of the test files. Networks and results
are written to `benchmarks/output/attribution/` one by one, so the same command resumes.
`--publish docs/attribution` writes the tables there. The table "attribution-cost" of
`benchmarks.run` times the methods.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.harness import Bar, Report
from benchmarks.models import image_data
from skuq import TorchClassifier
from skuq.attribution import (
    attribute_uncertainty,
    iou,
    planted_regions,
    segment_ceiling,
    uncertainty_reduction,
)
from skuq.posteriors import MCDropout

OUTPUT = Path(__file__).parent / "output" / "attribution"
CORRUPTIONS = ("patch", "noise", "rectangle")
FILLS = ("blur", "mean", "inpaint")
SHARES = (0.02, 0.05)
SEGMENTED = {"segments": "slic"}
METHODS: dict[str, dict[str, Any]] = {
    "gradient": {"method": "gradient"},
    "SmoothGrad": {"method": "smoothgrad"},
    "integrated gradients": {"method": "integrated_gradients"},
    "ua_backprop (experimental)": {"method": "ua_backprop"},
    "KernelSHAP, grid": {"method": "kernel_shap", "segments": "grid"},
    "KernelSHAP + segments": {"method": "kernel_shap"},
    "LIME + segments": {"method": "lime"},
    "occlusion": {"method": "occlusion"},
    "occlusion of segments": {"method": "occlusion", **SEGMENTED},
    "optimized, Gumbel": {"optimizer": "gumbel"},
    "optimized, Gumbel, blur": {"optimizer": "gumbel", "perturbation": "blur"},
    "optimized, greedy": {},
}
DEFAULT = "optimized, greedy"
# Wang, Ji: "Optimization-based Uncertainty Attribution", ECCV 2024, as on its poster: CIFAR-10,
# IoU and detection on corrupted regions; then the fall at 2 % and 5 %.
PUBLISHED = {
    "gradient": (0.109, 0.054, 0.343, 0.440),
    "SmoothGrad": (0.297, 0.226, 0.331, 0.418),
    "integrated gradients": (0.208, 0.152, 0.392, 0.481),
    "UA-Backprop": (0.271, 0.178, 0.374, 0.453),
    "KernelSHAP": (0.324, 0.306, 0.823, 0.902),
    "KernelSHAP + SAM": (0.676, 0.670, None, None),
    "LIME": (0.281, 0.258, 0.378, 0.355),
    "occlusion": (0.218, 0.160, 0.730, 0.786),
    "optimised": (0.713, 0.700, 0.860, 0.918),
}


def lenet() -> nn.Module:
    """LeNet5-like, with dropout in its head only."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(120, 84), nn.ReLU(), nn.Dropout(0.3), nn.Linear(84, 10),
    )  # fmt: skip


def colour_net() -> nn.Module:
    """Three convolutions for 32 × 32 images in colour, and dropout in the head."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.3), nn.Linear(768, 96), nn.ReLU(), nn.Dropout(0.3), nn.Linear(96, 10),
    )  # fmt: skip


# The network, how many images train it, and for how many epochs.
SETS: dict[str, tuple[Any, int, int]] = {
    "fashion_mnist": (lenet, 30_000, 8),
    "cifar10_jpeg": (colour_net, 20_000, 8),
}


def images(folder: Path, name: str, part: str, which: slice) -> tuple[np.ndarray, np.ndarray]:
    """Images with values in [0, 1], of shape (n, n_channels, height, width), and labels."""
    with np.load(folder / f"{name}_{part}.npz") as file:
        y = file["y"].astype(int)[which]
        if "X" in file:
            return file["X"][which][:, None].astype(np.float32) / 255, y
        from PIL import Image

        data, offsets = file["jpeg"].tobytes(), file["offsets"]
        places = range(len(offsets) - 1)[which]
        decoded = [Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]])) for i in places]
    X = np.stack([np.asarray(image.convert("RGB")) for image in decoded])
    return X.transpose(0, 3, 1, 2).astype(np.float32) / 255, y


def network(folder: Path, name: str) -> TorchClassifier:
    """Train it once, and read it from the output folder afterwards."""
    path = OUTPUT / f"{name}.pickle"
    if path.exists():
        return pickle.loads(path.read_bytes())
    module, n_train, epochs = SETS[name]
    X, y = images(folder, name, "train", slice(n_train))
    start = time.perf_counter()
    fitted = TorchClassifier(
        module, posterior=MCDropout(n_draws=30), lr=2e-3, max_epochs=epochs, random_state=0
    ).fit(X, y)
    X, y = images(folder, name, "test", slice(2000))
    seconds = time.perf_counter() - start
    print(f"{name}: accuracy {fitted.score(X, y):.3f}, {seconds:.0f} s", flush=True)
    path.write_bytes(pickle.dumps(fitted))
    return fitted
