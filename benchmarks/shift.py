"""Quality under shift: the directions of Ovadia et al. (2019) on Fashion-MNIST.

    python -m benchmarks.shift [--data FOLDER] [--network convolutions] [--publish docs/shift]

The folder holds `images/fashion_mnist_{train,test}.npz`; by default it is $SKUQ_DATA, else
`../shared/data`. For each seed a network is trained by each posterior, and temperatures are fitted
on 1,000 images that trained nothing. `skuq.shift` corrupts test images in nine ways. Each seed is
written to `benchmarks/output/shift/` when it is done, so the same command resumes. The tables have
means over the corruptions, and standard deviations over seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from torch import nn

from skuq import TorchClassifier
from skuq.calibration import TemperatureScaler
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from skuq.shift import shift_report

OUTPUT = Path(__file__).parent / "output" / "shift"
N_CALIBRATION = 1000
MEASURES = ("accuracy", "nll", "brier", "ece", "total", "epistemic", "novelty_auroc")
NETWORKS = {
    "one network": PointEstimate(),
    "MC dropout": MCDropout(n_draws=20),
    "ensemble of 5": DeepEnsemble(n_members=5),
}


def perceptron() -> nn.Module:
    """A multilayer perceptron with dropout before its last two layers."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 128),
        nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10),
    )  # fmt: skip


def convolutions() -> nn.Module:
    """Two convolutions and two linear layers with dropout before each of the latter."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(16 * 49, 64), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(64, 10),
    )  # fmt: skip


MODULES = {function.__name__: function for function in (perceptron, convolutions)}


def images(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / f"fashion_mnist_{name}.npz") as file:
        return file["X"][:, None].astype(np.float32) / 255, file["y"].astype(int)


def one_seed(folder: Path, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train, calibrate and judge every method; records with the name of the method."""
    X, y = images(folder, "train")
    order = np.random.default_rng(seed).permutation(len(X))
    train, held = np.split(order[: options.train + N_CALIBRATION], [options.train])
    X_test, y_test = images(folder, "test")
    some = np.random.default_rng(1000 + seed).permutation(len(X_test))[: options.test]
    records = []
    for name, posterior in NETWORKS.items():
        fitted = TorchClassifier(
            MODULES[options.network],
            posterior=posterior,
            lr=1e-3,
            max_epochs=options.epochs,
            random_state=seed,
        ).fit(X[train], y[train])
        scaled = TemperatureScaler(FrozenEstimator(fitted)).fit(X[held], y[held])
        for method, estimator in ((name, fitted), (f"{name} + temperature", scaled)):
            report = shift_report(estimator, X_test[some], y_test[some], random_state=seed)
            records += [{"method": method, **record} for record in report.records]
    return records


def table(runs: list[list[dict[str, Any]]], measure: str) -> list[str]:
    """Mean over corruptions and seeds ± standard deviation over seeds."""
    lines = [f"| {measure} | " + " | ".join(f"severity {s}" for s in range(6)) + " |"]
    lines.append("|---|" + "---|" * 6)
    for method in methods_of(runs):
        means = curves(runs, method, measure)
        spread = means.std(axis=0, ddof=1) if len(runs) > 1 else np.full(6, np.nan)
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(means.mean(axis=0), spread)]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def methods_of(runs: list[list[dict[str, Any]]]) -> list[str]:
    return list(dict.fromkeys(record["method"] for record in runs[0]))


def curves(runs: list[list[dict[str, Any]]], method: str, measure: str) -> np.ndarray:
    """Means over corruptions, of shape (seeds, severities)."""
    return np.array(
        [
            [
                np.mean(
                    [r[measure] for r in run if r["method"] == method and r["severity"] == severity]
                )
                for severity in range(6)
            ]
            for run in runs
        ]
    )


def directions(runs: list[list[dict[str, Any]]]) -> list[str]:
    """Say in how many seeds each published direction holds."""
    n, methods = len(runs), methods_of(runs)

    def count(holds: Callable[[int], Any]) -> str:
        return f"{sum(bool(holds(k)) for k in range(n))} of {n}"

    found = {m: {q: curves(runs, m, q) for q in MEASURES} for m in methods}
    one, mc, several = (found[m] for m in NETWORKS)
    cooled = found["one network + temperature"]
    rise = lambda c: (np.diff(c) > 0).all()  # noqa: E731
    rows = [("accuracy falls with each severity", m, "accuracy", -1) for m in NETWORKS]
    rows += [("ECE rises with each severity", m, "ece", 1) for m in NETWORKS]
    lines = ["| direction | holds in |", "|---|---|"]
    for text, method, measure, sign in rows:
        curve = found[method][measure]
        lines.append(f"| {text}: {method} | {count(lambda k, c=curve, s=sign: rise(s * c[k]))} |")
    checks: dict[str, Callable[[int], Any]] = {
        "at severity 0, a temperature halves the ECE of one network": lambda k: (
            cooled["ece"][k, 0] < 0.5 * one["ece"][k, 0]
        ),
        "at severity 5, the ECE with that temperature is over 4 times that at 0": lambda k: (
            cooled["ece"][k, 5] > 4 * cooled["ece"][k, 0]
        ),
        "at severity 5, the plain ensemble has a lower ECE than one network + temperature": (
            lambda k: several["ece"][k, 5] < cooled["ece"][k, 5]
        ),
    }
    for measure in ("nll", "brier", "ece"):
        checks[f"severities 1 to 5, mean {measure}: ensemble below one network"] = (
            lambda k, q=measure: several[q][k, 1:].mean() < one[q][k, 1:].mean()
        )
        checks[f"severities 1 to 5, mean {measure}: ensemble below MC dropout"] = (
            lambda k, q=measure: several[q][k, 1:].mean() < mc[q][k, 1:].mean()
        )
    return lines + [f"| {text} | {count(holds)} |" for text, holds in checks.items()]


def draw(runs: list[list[dict[str, Any]]], path: Path) -> None:
    """Curves over the severities, with bands of one standard deviation over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    shown = ("one network", "one network + temperature", "MC dropout", "ensemble of 5")
    for ax, measure in zip(axes, ("accuracy", "ece", "nll")):
        for method in shown:
            means = curves(runs, method, measure)
            mean, spread = means.mean(axis=0), means.std(axis=0, ddof=1)
            (line,) = ax.plot(mean, marker="o", markersize=4, label=method)
            ax.fill_between(
                range(6), mean - spread, mean + spread, color=line.get_color(), alpha=0.2, lw=0
            )
        ax.set(xlabel="severity", ylabel={"ece": "ECE", "nll": "NLL"}.get(measure, measure))
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("SKUQ_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--network", choices=MODULES, default="perceptron")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--train", type=int, default=6000, help="number of training images")
    parser.add_argument("--test", type=int, default=1000, help="number of test images")
    parser.add_argument("--publish", type=Path, help="folder for the picture")
    options = parser.parse_args()
    torch.set_num_threads(1)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in range(options.seeds):
        settings = f"{options.network}_{options.train}_{options.test}_{options.epochs}"
        path = OUTPUT / f"{settings}_seed_{seed}.json"
        if not path.exists():
            start = time.perf_counter()
            path.write_text(json.dumps(one_seed(options.data / "images", seed, options)))
            print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
        runs.append(json.loads(path.read_text()))
    for measure in MEASURES:
        print("\n".join(["", *table(runs, measure)]))
    print("\n".join(["", *directions(runs)]))
    if options.publish:
        draw(runs, options.publish / f"fashion_mnist_{options.network}.png")


if __name__ == "__main__":
    main()
