"""A curve with growing noise and a gap in the data: which uncertainty is which.

y = sin(2x) + σ(x) ε, with σ growing from left to right and no data in a gap in the middle. The
aleatoric part should follow σ, and the epistemic part should grow where there are no data.

What the members of an ensemble do in a gap depends on the network. Members with tanh disagree; with
``module__activation="relu"`` all draw nearly the same straight line across it, and the epistemic
part says too little. Takes about twenty seconds.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchRegressor
from skuq.posteriors import DeepEnsemble
from skuq.uncertainty import Uncertainty

OUTPUT = Path(__file__).resolve().parent / "output"
DARK, LIGHT = "#0b4f8a", "#f0a030"  # told apart by colour-blind readers and in greyscale
ENDS, GAP = (-3.0, 3.0), (-1.0, 1.0)


def true_mean(x: np.ndarray) -> np.ndarray:
    return np.sin(2 * x)


def true_sigma(x: np.ndarray) -> np.ndarray:
    return 0.05 + 0.4 * (x - ENDS[0]) / (ENDS[1] - ENDS[0])


def in_gap(x: np.ndarray) -> np.ndarray:
    return (x > GAP[0]) & (x < GAP[1])


def make_data(n_samples: int = 400) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.uniform(*ENDS, n_samples)
    x = x[~in_gap(x)]
    return x[:, None], true_mean(x) + true_sigma(x) * random.standard_normal(len(x))


def fit(X: np.ndarray, y: np.ndarray) -> Pipeline:
    network = TorchRegressor(
        posterior=DeepEnsemble(n_members=10, bootstrap=True),
        module__hidden_layer_sizes=(64, 64),
        module__dropout=0.0,
        module__activation="tanh",
        lr=0.01,
        max_epochs=300,
        device="cpu",
        random_state=0,
    )
    return make_pipeline(StandardScaler(), network).fit(X, y)


def print_numbers(model: Pipeline, x: np.ndarray, parts: Uncertainty) -> None:
    gap, sigma = in_gap(x), true_sigma(x)
    rows = {f"{kind} std": np.sqrt(values) for kind, values in parts._asdict().items()}
    random = np.random.default_rng(1)
    y = true_mean(x) + sigma * random.standard_normal((1000, len(x)))
    low, high = skuq.predict_interval(model, x[:, None], confidence_level=0.9).T
    rows["true σ"] = sigma
    rows["90 % interval holds y in"] = ((y >= low) & (y <= high)).mean(axis=0)
    print(f"\n{'mean over x':<26}{'in the gap':>12}{'outside':>12}")
    for name, values in rows.items():
        print(f"{name:<26}{values[gap].mean():>12.3f}{values[~gap].mean():>12.3f}")
    follows = np.corrcoef(rows["aleatoric std"][~gap], sigma[~gap])[0, 1]
    print(f"\ncorrelation of aleatoric std and true σ, outside of the gap: {follows:.3f}\n")


def draw(model: Pipeline, x: np.ndarray, parts: Uncertainty, data: tuple) -> Path:
    mean = model.predict(x[:, None])
    aleatoric, epistemic, total = (
        np.sqrt(part) for part in (parts.aleatoric, parts.epistemic, parts.total)
    )
    figure, (curve, sigmas) = plt.subplots(
        2, 1, figsize=(9, 8), sharex=True, height_ratios=[3, 2], layout="constrained"
    )
    for ax in (curve, sigmas):
        ax.axvspan(*GAP, color="0.92", zorder=0)
    for name, std, color in (("total", total, LIGHT), ("epistemic", epistemic, DARK)):
        label = f"mean ± 2 {name} std"
        curve.fill_between(
            x, mean - 2 * std, mean + 2 * std, color=color, alpha=0.5, lw=0, label=label
        )
    curve.plot(x, mean, color=DARK, lw=2.5, label="mean")
    curve.plot(x, true_mean(x), "k--", lw=1.5, label="true mean")
    curve.plot(data[0][:, 0], data[1], ".", color="0.25", ms=4, label="data")
    curve.text(np.mean(GAP), curve.get_ylim()[0], "no data here", ha="center", va="bottom")
    curve.set_ylabel("y")
    curve.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)

    sigmas.plot(x, true_sigma(x), "k--", lw=1.5, label="true σ")
    sigmas.plot(x, aleatoric, color=LIGHT, lw=3, label="aleatoric")
    sigmas.plot(x, epistemic, color=DARK, lw=3, label="epistemic")
    sigmas.set(xlabel="x", ylabel="standard deviation", ylim=(0, None), xlim=ENDS)
    sigmas.legend(loc="upper left")
    OUTPUT.mkdir(exist_ok=True)
    path = OUTPUT / "heteroscedastic_regression.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def main() -> None:
    torch.set_num_threads(1)  # networks as small as this one train fastest so
    started = time.perf_counter()
    X, y = make_data()
    print(f"{len(X)} points, ten networks. Training ...", flush=True)
    model = fit(X, y)
    print(f"... {time.perf_counter() - started:.0f} s", flush=True)
    x = np.linspace(*ENDS, 301)
    parts = skuq.predict_uncertainty(model, x[:, None], kind="all")
    print_numbers(model, x, parts)
    print(os.path.relpath(draw(model, x, parts, (X, y))))


if __name__ == "__main__":
    main()
