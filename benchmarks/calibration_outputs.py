"""Calibrators on public softmax outputs of image classifiers, and on six other classifiers.

    python -m benchmarks.calibration_outputs [--data FOLDER] [--halves 10] [--publish FOLDER]

The folder holds `outputs/*.npz` and `outputs/reference.json` (the values of an independent NumPy
computation); by default it is $SKUQ_DATA, else `../shared/data`. First T is fitted on the first
half of each test set and judged on the second, beside the reference.

Then calibrators are fitted on some rows of a random half and judged on the other half. A half is a
permutation from the seed 100, 101, ...; halves overlap, so standard errors over them are
approximate. The result of each network and half is kept in --output: the same command goes on
after an interruption. All takes about ten minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from benchmarks import calibrators
from benchmarks.calibration_others import Outputs, others
from benchmarks.calibration_tables import tables
from benchmarks.quality_runs import versions
from skuq.calibration import fit_temperature
from skuq.metrics import (
    brier_score,
    canonical_calibration_error,
    expected_calibration_error,
    negative_log_likelihood,
)

FIRST_SEED = 100
METHODS: dict[str, Callable[[np.ndarray, np.ndarray], calibrators.Calibrated]] = {
    "uncalibrated": calibrators.none,
    "`TemperatureScaler`": calibrators.temperature,
    "`VectorScaler`": calibrators.vector,
    "`MatrixScaler`": calibrators.matrix,
    "matrix on logits": calibrators.logit_matrix,
    "the same, ODIR": calibrators.odir,
    "the same, structured": calibrators.structured,
}
SLOW = ("matrix on logits", "the same, ODIR")  # of fewer halves


HEAD = """# Measured: calibrators

Calibrators are fitted on rows of a random half and judged on the other: {halves} halves, of the
seeds from 100 on. Mean ± standard error over the halves, which overlap, so errors are approximate.
NLL in nats; ECE in 15 bins; Brier score of all classes; "classwise" is the mean over classes of the
binary ECE; seconds are of the CPU, for one fit. The matrices on logits: no penalty (Guo et al.
2017); with ODIR, its two strengths by cross-validation (Kull et al. 2019); structured, ridge (Berta
et al. 2026). The first two are slow and have fewer halves. Tables of differences are in thousandths
of a nat, on the same halves: below 0 `MatrixScaler` is better. Where a half has fewer than 5,000
rows, all of them calibrate: 3,096 of kin8nm, 4,000 of MNIST, 4,967 of naval."""


def classifiers(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    with np.load(folder / "cifar10_7models_probs.npz") as file:
        for name, proba in zip(file["models"], file["probs"]):
            yield f"cifar10_{str(name).removeprefix('cifar10_')}", proba, file["labels"]
    for path in sorted(folder.glob("netcal_*_probs.npz")):
        with np.load(path) as file:
            yield path.name.removesuffix("_probs.npz"), file["probs"], file["labels"]


def logits_of(proba: np.ndarray) -> np.ndarray:
    return np.log(np.clip(proba.astype(float), 1e-30, None))


def softmax(logits: np.ndarray) -> np.ndarray:
    proba = np.exp(logits - logits.max(axis=1, keepdims=True))
    return proba / proba.sum(axis=1, keepdims=True)


def reference_table(folder: Path) -> str:
    """T and errors on fixed halves, beside an independent computation."""
    reference = {e["name"]: e for e in json.loads((folder / "reference.json").read_text())}
    heads = "network,T,T reference,NLL,after,ECE,after,reference,canonical,after".split(",")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, proba, labels in classifiers(folder):
        expected = reference.get(name) or reference[name.removeprefix("cifar10_")]
        logits = logits_of(proba)
        temperature = fit_temperature(logits[:5000], labels[:5000])
        y, classes = labels[5000:], np.arange(proba.shape[1])
        cells = [name, f"{temperature:.4f}", f"{expected['T_first_half']:.4f}"]
        before_after = [softmax(logits[5000:]), softmax(logits[5000:] / temperature)]
        for metric in (
            negative_log_likelihood,
            expected_calibration_error,
            canonical_calibration_error,
        ):
            cells += [f"{metric(y, table, labels=classes):.5f}" for table in before_after]
            if metric is expected_calibration_error:
                cells.append(f"{expected['ece15_second_half_after']:.5f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def judged(
    proba: np.ndarray, labels: np.ndarray, seed: int, rows: int, methods: Sequence[str]
) -> dict[str, Any]:
    """All measures of calibrators that are fitted on some rows of one half."""
    logits, classes = logits_of(proba), np.arange(proba.shape[1])
    order = np.random.default_rng(seed).permutation(len(labels))
    apart, test = order[: len(order) // 2][:rows], order[len(order) // 2 :]
    y, found = labels[test], {}
    for name in methods:
        begun = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # few rows may be separable
            calibrated = METHODS[name](logits[apart], labels[apart])
        seconds = time.process_time() - begun
        log_proba = calibrated(logits[test])
        table = np.exp(log_proba)
        found[name] = {
            "NLL": -float(log_proba[np.arange(len(y)), y].mean()),
            "ECE": expected_calibration_error(y, table, labels=classes),
            "Brier": brier_score(y, table, labels=classes),
            "classwise": expected_calibration_error(y, table, labels=classes, kind="classwise"),
            "accuracy": float((table.argmax(1) == y).mean()),
            "seconds": seconds,
        }
    return found


def measured(
    name: str,
    outputs: Callable[[], Outputs],
    seed: int,
    methods: Sequence[str],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Results of one half, {rows: {method: {measure: value}}}; kept in a file."""
    file = options.output / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for rows in options.rows:
        there = kept.setdefault(str(rows), {})
        if missing := [method for method in methods if method not in there]:
            there |= judged(*outputs(), seed, rows, missing)
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(kept, indent=1))
            unfinished.replace(file)
    return kept


def all_results(
    sources: dict[str, Callable[[], Outputs]], options: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """Results of each network and half; the slow methods come last, for fewer halves."""
    quick = [method for method in METHODS if method not in SLOW]
    names = [name for name in sources if options.only in name]
    results: dict[str, list[dict[str, Any]]] = {name: [{}] * options.halves for name in names}
    for n_halves, methods in ((options.halves, quick), (options.slow_halves, list(METHODS))):
        for half in range(min(n_halves, options.halves)):
            for name in names:
                seed = FIRST_SEED + half
                results[name][half] = measured(name, sources[name], seed, methods, options)
    return results


def rows_of(text: str, parser: argparse.ArgumentParser) -> list[int]:
    """Read numbers of calibration rows."""
    rows = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if min(rows) < 2:
        parser.error(f"--rows must be numbers of at least 2 with commas between, got {text!r}")
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = os.environ.get("SKUQ_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--halves", type=int, default=10)
    parser.add_argument("--slow-halves", type=int, default=3, help="for matrices on logits")
    parser.add_argument("--rows", default="500,1500,5000", help="calibration rows, at most a half")
    parser.add_argument("--only", default="", help="networks whose name contains this")
    kept = Path(__file__).parent / "output" / "calibration_outputs"
    parser.add_argument("--output", type=Path, default=kept)
    parser.add_argument("--publish", type=Path, help="write table.md to this folder")
    options = parser.parse_args(arguments)
    options.rows = rows_of(options.rows, parser)
    for name in ("halves", "slow_halves"):
        least = int(name == "halves")
        if getattr(options, name) < least:
            given = getattr(options, name)
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, got {given}")
    folder = options.data / "outputs"
    if not folder.is_dir():
        raise SystemExit(f"there is no {folder}: give the folder with --data")
    sources: dict[str, Callable[[], Outputs]] = {}
    for name, proba, labels in classifiers(folder):
        sources[name.removeprefix("netcal_")] = lambda p=proba, y=labels: (p, y)
    public = list(sources)
    sources |= {name: cache(train) for name, train in others(options.data).items()}
    if not any(options.only in name for name in sources):
        parser.error(f"--only {options.only!r} is in no name; they are {', '.join(sources)}")
    text = tables(all_results(sources, options), public, options.rows, list(METHODS))
    text = f"{HEAD.format(halves=options.halves)}\n\n{text}\n\n{versions()}"
    print(reference_table(folder), text, sep="\n\n")
    if options.publish:
        options.publish.mkdir(parents=True, exist_ok=True)
        (options.publish / "table.md").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
