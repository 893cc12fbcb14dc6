"""Certified coverage on published outputs of real image classifiers, by method.

    python -m benchmarks.selective [--data FOLDER] [--draws 50] [--each]

The folder holds `outputs/*.npz`; by default it is $SKUQ_DATA, else `../shared/data`. Each file
counts as the world: calibration rows are drawn from it with replacement to choose a threshold of
1 - max p, and all of its rows judge it. The table has the mean coverage over files, targets and
draws (0 where nothing is certified), the share of draws in which nothing is certified, and the
share in which the error rate of the accepted rows exceeds the target, which may be at most delta.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.calibration_outputs import classifiers
from skuq.metrics._guarantees import certified, ranked

METHODS = {
    "fixed sequence, 1 start": ("fixed_sequence", 1),
    "fixed sequence, 2 starts": ("fixed_sequence", 2),
    "fixed sequence, 3 starts": ("fixed_sequence", 3),
    "fixed sequence, 5 starts": ("fixed_sequence", 5),
    "fixed sequence, 10 starts": ("fixed_sequence", 10),
    "SGR": ("sgr", 1),
}
TARGETS = (0.01, 0.02, 0.05, 0.1)
SETTINGS = [(n, delta) for n in (300, 1000, 5000) for delta in (0.05, 0.001)]


def outputs(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Errors and uncertainties of every file."""
    for name, proba, labels in classifiers(folder):
        yield name, (proba.argmax(1) != labels).astype(float), 1 - proba.max(1).astype(float)
    with np.load(folder / "markus93_top1.npz") as file:
        for name in sorted(key.removesuffix("_conf") for key in file if key.endswith("_conf")):
            wrong = file[f"{name}_pred"] != file[f"{name}_true"]
            yield name, wrong.astype(float), 1 - file[f"{name}_conf"].astype(float)


def judged(
    losses: np.ndarray, scores: np.ndarray, n: int, delta: float, n_draws: int
) -> np.ndarray:
    """Coverage, nothing certified and target exceeded: (draws, methods, targets, 3)."""
    random, found = np.random.default_rng(0), []
    for _ in range(n_draws):
        drawn = random.integers(0, len(losses), n)
        rows = ranked(losses[drawn], scores[drawn])
        for method, n_starts in METHODS.values():
            for target in TARGETS:
                best = certified(rows, target, delta, method, n_starts)
                kept = scores <= best.threshold
                exceeded = kept.any() and losses[kept].mean() > target
                found.append((kept.mean(), best.coverage == 0, exceeded))
    return np.reshape(found, (n_draws, len(METHODS), len(TARGETS), 3)).astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("SKUQ_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--each", action="store_true", help="also a table of each file")
    options = parser.parse_args()
    folder = options.data / "outputs"
    if not folder.is_dir():
        raise SystemExit(f"there is no {folder}: give the folder with --data")
    files = list(outputs(folder))
    means = {name: [] for name in METHODS}
    print("| rows | delta | method | coverage | nothing | exceeded |\n|---|---|---|---|---|---|")
    for n, delta in SETTINGS:
        results = np.stack([judged(*file[1:], n, delta, options.draws) for file in files])
        for k, name in enumerate(METHODS):
            coverage, nothing, exceeded = results[:, :, k].mean(axis=(0, 1, 2))
            means[name].append(coverage)
            print(f"| {n} | {delta} | {name} | {coverage:.3f} | {nothing:.3f} | {exceeded:.4f} |")
            for (file, *_), result in zip(files, results) if options.each else ():
                cells = [f"{c:.3f}/{z:.2f}" for c, z, _ in result[:, k].mean(axis=0)]
                print(f"|  | | {file} | {' | '.join(cells)} |")
    print("\n| method | mean coverage |\n|---|---|")
    for name, values in means.items():
        print(f"| {name} | {np.mean(values):.4f} |")


if __name__ == "__main__":
    main()
