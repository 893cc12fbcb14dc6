"""Calibration beside scikit-learn and torchmetrics: seconds and ratios, one torch thread.

    python benchmarks/calibration_speed.py [--repetitions 5]

Rounds are interleaved; the table gives medians. torchmetrics is left out where it is missing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.calibration import _TemperatureScaling

from skuq.calibration import fit_temperature
from skuq.metrics import expected_calibration_error


def medians(work: dict[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repetitions):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def logits_and_labels(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(z), and logits 2.5 z in float32."""
    random = np.random.default_rng(0)
    z = 2 * random.normal(size=(n, k)).astype(np.float32)
    y = (z + random.gumbel(size=(n, k)).astype(np.float32)).argmax(axis=1)
    return 2.5 * z, y


def temperatures(repetitions: int) -> None:
    for n, k in ((1_000_000, 10), (20_000, 1000)):
        logits, y = logits_and_labels(n, k)
        found = medians(
            {
                "skuq": lambda logits=logits, y=y: fit_temperature(logits, y),
                "scikit-learn": lambda logits=logits, y=y: _TemperatureScaling().fit(logits, y),
            },
            repetitions,
        )
        ratio = found["scikit-learn"] / found["skuq"]
        print(
            f"temperature, {n} × {k} float32: skuq {found['skuq']:.3f} s, scikit-learn "
            f"{found['scikit-learn']:.3f} s, {ratio:.1f} times as fast"
        )
        theirs = 1 / float(_TemperatureScaling().fit(logits, y).beta_)
        print(f"    T = {fit_temperature(logits, y):.5f}, scikit-learn {theirs:.5f}")


def calibration_errors(repetitions: int) -> None:
    n = 10_000_000
    random = np.random.default_rng(0)
    proba = random.random(n)
    y = (random.random(n) < proba).astype(int)
    index = np.minimum((proba * 15).astype(int), 14)
    work = {
        "skuq": lambda: expected_calibration_error(y, proba, kind="binary"),
        "np.bincount, counts": lambda: np.bincount(index, minlength=15),
        "np.bincount, weighted": lambda: np.bincount(index, proba, minlength=15),
        "three passes and their index": lambda: (
            (i := np.minimum((proba * 15).astype(int), 14)),
            np.bincount(i, minlength=15),
            np.bincount(i, proba, 15),
            np.bincount(i, y, 15),
        ),
    }
    try:
        from torchmetrics.functional.classification import binary_calibration_error
    except ImportError:
        pass
    else:
        tensors = torch.tensor(proba), torch.tensor(y)
        work["torchmetrics"] = lambda: binary_calibration_error(*tensors, n_bins=15)
    found = medians(work, repetitions)
    for name, seconds in found.items():
        print(f"ECE, 1e7 rows: {name} {seconds:.3f} s, {seconds / found['skuq']:.2f} of skuq's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    repetitions = parser.parse_args().repetitions
    torch.set_num_threads(1)
    temperatures(repetitions)
    calibration_errors(repetitions)


if __name__ == "__main__":
    main()
