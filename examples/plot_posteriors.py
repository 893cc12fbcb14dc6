"""A curve with a gap in the data, and all posteriors: where does each say that it does not know?

y = 2 sin(1.5 x) + 0.2 ε, with data only where 1.5 < |x| < 4. The bands are the epistemic deviation.
It should be small at the data, larger in the gap, and largest far outside. The table gives its mean
in each of the three, and how often the band mean ± 1.645 total deviations holds the true curve in
the gap. Takes about half a minute.

``python examples/plot_posteriors.py docs/posteriors.png`` writes the picture of the documentation.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

from skuq import TorchRegressor
from skuq.likelihoods import Gaussian
from skuq.posteriors import (
    SGMCMC,
    SWAG,
    DeepEnsemble,
    LastLayerLaplace,
    MCDropout,
    Posterior,
    SnapshotEnsemble,
    Variational,
)

OUTPUT = Path(__file__).resolve().parent / "output" / "posteriors.png"
DARK, LIGHT = "#0b4f8a", "#f0a030"  # told apart by colour-blind readers and in greyscale
SIGMA, INNER, OUTER, FAR = 0.2, 1.5, 4.0, 6.0

POSTERIORS: list[Posterior] = [
    MCDropout(), DeepEnsemble(), LastLayerLaplace(), SWAG(), SWAG(n_members=5), SnapshotEnsemble(),
    SGMCMC(), Variational(),
]  # fmt: skip


def curve(x: np.ndarray) -> np.ndarray:
    return 2 * np.sin(1.5 * x)


def make_data(n_samples: int = 120) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.uniform(INNER, OUTER, n_samples) * random.choice([-1, 1], n_samples)
    return x[:, None], curve(x) + SIGMA * random.standard_normal(n_samples)


def fit(posterior: Posterior, X: np.ndarray, y: np.ndarray) -> TorchRegressor:
    dropout = 0.05 if isinstance(posterior, MCDropout) else 0.0
    return TorchRegressor(
        posterior=posterior,
        likelihood=Gaussian(),
        module__hidden_layer_sizes=(50, 50),
        module__dropout=dropout,
        lr=3e-3,
        max_epochs=400,
        batch_size=32,
        device="cpu",
        random_state=0,
    ).fit(X, y)


def print_row(name: str, model: TorchRegressor, x: np.ndarray) -> None:
    parts = model.predict_uncertainty(x[:, None], kind="all")
    total, epistemic = np.sqrt(parts.total), np.sqrt(parts.epistemic)
    size = np.abs(x)
    places = (size > INNER) & (size < OUTER), size < INNER, size > 5
    mean = model.predict(x[:, None])
    holds = np.abs(mean - curve(x)) < 1.645 * total
    values = "".join(f"{epistemic[place].mean():>10.3f}" for place in places)
    print(f"{name:<22}{values}{holds[places[1]].mean():>14.0%}", flush=True)


def draw(models: dict[str, TorchRegressor], x: np.ndarray, data: tuple, path: Path) -> None:
    figure, axes = plt.subplots(
        2, 4, figsize=(13, 6), sharex=True, sharey=True, layout="constrained"
    )
    for ax, (name, model) in zip(axes.flat, models.items()):
        mean = model.predict(x[:, None])
        std = np.sqrt(model.predict_uncertainty(x[:, None], kind="epistemic"))
        ax.fill_between(x, mean - 2 * std, mean + 2 * std, color=LIGHT, alpha=0.6, lw=0)
        ax.plot(x, curve(x), "k--", lw=1)
        ax.plot(x, mean, color=DARK, lw=2)
        ax.plot(data[0][:, 0], data[1], ".", color="0.3", ms=3)
        ax.set(title=name, ylim=(-6, 6), xlim=(-FAR, FAR))
    figure.supxlabel("x; the bands are the mean ± 2 epistemic deviations, dashes the true curve")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    torch.set_num_threads(1)  # networks as small as this one train fastest so
    X, y = make_data()
    x = np.linspace(-FAR, FAR, 241)
    print(f"{'epistemic deviation':<22}{'data':>10}{'gap':>10}{'|x| > 5':>10}{'holds in gap':>14}")
    models = {}
    started = time.perf_counter()
    for posterior in POSTERIORS:
        name = str(posterior)
        models[name] = fit(posterior, X, y)
        print_row(name, models[name], x)
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    draw(models, x, (X, y), path)
    print(f"{time.perf_counter() - started:.0f} s, {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
