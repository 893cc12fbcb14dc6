"""The uncertainty of a network that is trained already: digits, and images that are none.

A small convolutional network is trained on digits by a loop in plain torch. ``skuq.from_trained``
makes an estimator of it, with the Laplace approximation of its last layer, and trains nothing. Its
predictions hardly change; what it gains is the epistemic uncertainty, which is larger on images
that are no digits: halves of two different digits side by side, and digits whose grey levels are
inverted.

Takes about ten seconds. The picture of the docs is made by
``python examples/plot_trained_network.py docs/trained_network.png``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from torch import nn

import skuq
from skuq.posteriors import PointEstimate

OUTPUT = Path(__file__).resolve().parent / "output" / "trained_network.png"
COLORS = {"digits": "#7a9cc6", "halves": "#f0a030", "inverted": "#a03060"}


def trained(X: np.ndarray, y: np.ndarray) -> nn.Module:
    """A network from a loop that knows nothing of skuq."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    rows, labels = torch.tensor(X), torch.tensor(y)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(40):
        for batch in torch.randperm(len(rows)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(rows[batch]), labels[batch]).backward()
            optimizer.step()
    return network


def strange(X: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Images that are no digits."""
    rng = np.random.default_rng(0)
    other = rng.permutation(len(X))
    apart = y != y[other]
    halves = np.concatenate([X[..., :4], X[other][..., 4:]], axis=-1)[apart]
    return {"halves": halves, "inverted": 1 - X}


def draw(images: dict[str, np.ndarray], epistemic: dict[str, np.ndarray], path: Path) -> None:
    figure = plt.figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1])
    ax = left.subplots()
    bins = np.geomspace(1e-4, max(map(np.max, epistemic.values())), 31)
    for name, values in epistemic.items():
        ax.hist(
            values.clip(bins[0]), bins, weights=np.full(len(values), 1 / len(values)),
            histtype="step", lw=2, color=COLORS[name], label=name,
        )  # fmt: skip
    ax.set(xscale="log", xlabel="epistemic uncertainty, nats", ylabel="share of the images")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    axes = right.subplots(3, 4)
    for row, (name, shown) in zip(axes, images.items()):
        median = np.argsort(epistemic[name])[len(shown) // 2 :][:4]
        for one, index in zip(row, median):
            one.imshow(shown[index, 0], cmap="gray_r", vmin=0, vmax=1)
            one.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, color=COLORS[name])
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(path: Path = OUTPUT) -> None:
    torch.set_num_threads(1)  # networks as small as these train fastest so
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).reshape(-1, 1, 8, 8).astype(np.float32)
    X, X_test, y, y_test = train_test_split(images, labels, test_size=0.5, random_state=0)
    network = trained(X, y)

    options = {"task": "classification", "random_state": 0}
    plain = skuq.from_trained(network, X, y, posterior=PointEstimate(), **options)
    model = skuq.from_trained(network, X, y, **options)
    print(model.network_)
    for name, one in {"as it was": plain, "LastLayerLaplace()": model}.items():
        loss = log_loss(y_test, one.predict_proba(X_test))
        print(f"{name:20} accuracy {one.score(X_test, y_test):.3f}, log loss {loss:.3f}")

    shown = {"digits": X_test, **strange(X_test, y_test)}
    epistemic = {name: model.predict_uncertainty(X, kind="epistemic") for name, X in shown.items()}
    total = {name: plain.predict_uncertainty(X) for name, X in shown.items()}
    print("tells them from digits, AUROC:")
    for name in list(shown)[1:]:
        is_strange = np.repeat([0, 1], [len(X_test), len(shown[name])])
        old, new = (
            roc_auc_score(is_strange, np.concatenate([of["digits"], of[name]]))
            for of in (total, epistemic)
        )
        print(f"{name:20} entropy as it was {old:.3f}, epistemic {new:.3f}")
    draw(shown, epistemic, path)
    print(os.path.relpath(path))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
