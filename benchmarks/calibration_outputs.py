"""Temperature scaling on published outputs of real image classifiers.

    python benchmarks/calibration_outputs.py [--data FOLDER]

The folder holds `outputs/*.npz` and `outputs/reference.json` (the values of an independent NumPy
computation); by default it is $SKUQ_DATA, else `../shared/data`. T is fitted on the first half of
each test set and judged on the second.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from skuq.calibration import fit_temperature
from skuq.metrics import (
    canonical_calibration_error,
    expected_calibration_error,
    negative_log_likelihood,
)


def classifiers(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    with np.load(folder / "cifar10_7models_probs.npz") as file:
        for name, proba in zip(file["models"], file["probs"]):
            yield f"cifar10_{str(name).removeprefix('cifar10_')}", proba, file["labels"]
    for path in sorted(folder.glob("netcal_*_probs.npz")):
        with np.load(path) as file:
            yield path.name.removesuffix("_probs.npz"), file["probs"], file["labels"]


def softmax(logits: np.ndarray) -> np.ndarray:
    proba = np.exp(logits - logits.max(axis=1, keepdims=True))
    return proba / proba.sum(axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("SKUQ_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    folder = parser.parse_args().data / "outputs"
    if not folder.is_dir():
        raise SystemExit(f"there is no {folder}: give the folder with --data")
    reference = {e["name"]: e for e in json.loads((folder / "reference.json").read_text())}
    print(
        "| network | T | T, reference | NLL | after | ECE | after | reference | canonical | after |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, proba, labels in classifiers(folder):
        expected = reference.get(name) or reference[name.removeprefix("cifar10_")]
        logits = np.log(np.clip(proba.astype(float), 1e-30, None))
        temperature = fit_temperature(logits[:5000], labels[:5000])
        y, classes = labels[5000:], np.arange(proba.shape[1])
        cells = [name, f"{temperature:.4f}", f"{expected['T_first_half']:.4f}"]
        tables = [softmax(logits[5000:]), softmax(logits[5000:] / temperature)]
        for metric in (
            negative_log_likelihood,
            expected_calibration_error,
            canonical_calibration_error,
        ):
            cells += [f"{metric(y, table, labels=classes):.5f}" for table in tables]
            if metric is expected_calibration_error:
                cells.append(f"{expected['ece15_second_half_after']:.5f}")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
