"""How good are the maps of CamVid? Networks of several seeds, and the loops of other packages."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import binary_dilation

import skuq
from benchmarks.segmentation_peers import installed
from skuq import TorchSegmenter
from skuq.metrics import SegmentationScores
from skuq.posteriors import MCDropout

__all__ = ["VOID", "Images", "against_peers", "borders", "quality"]

VOID = 11
COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5)
Scores = dict[str, Any]


class Images(NamedTuple):
    X: np.ndarray  # (n, 3, height, width), float32
    y: np.ndarray  # (n, height, width), int64


def quality(train: Images, test: Images, options: argparse.Namespace) -> Scores:
    """Train a network for each seed; score MC dropout and one pass, and how the maps behave."""
    runs = []
    for seed in range(options.seeds):
        path = _path(options, seed).with_suffix(".json")
        if not path.exists():
            segmenter = trained(train, options, seed)
            path.write_text(json.dumps(_scored(segmenter, test), default=float))
        runs.append(json.loads(path.read_text()))
    return {"mean and standard error": summary_of(runs), "runs": runs}


def trained(train: Images, options: argparse.Namespace, seed: int) -> TorchSegmenter:
    """Train a network, or load the one of an earlier run."""
    path = _path(options, seed)
    if path.exists():
        stored: TorchSegmenter = skuq.load(path)
        return stored
    segmenter = TorchSegmenter(
        posterior=MCDropout(options.draws),
        ignore_label=VOID,
        module__dropout=options.dropout,
        lr=options.lr,
        batch_size=options.batch_size,
        max_epochs=options.epochs,
        precision=options.precision,
        random_state=seed,
        verbose=2 if options.verbose else 0,
    )
    segmenter.fit(*train, pixel_weight=options.weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    skuq.save(segmenter, path)
    return segmenter


def _path(options: argparse.Namespace, seed: int) -> Path:
    names = ("stride", "images", "epochs", "batch_size", "precision", "weights", "draws")
    name = "-".join(str(getattr(options, name)) for name in names)
    path: Path = options.folder / f"{name}-seed-{seed}.skuq"
    return path


def _scored(segmenter: TorchSegmenter, test: Images) -> Scores:
    dropout = SegmentationScores(segmenter.classes_, ignore_label=VOID)
    one_pass = SegmentationScores(segmenter.classes_, ignore_label=VOID)
    sums = {name: np.zeros(2) for name in ("border", "inside", "upright", "upside down")}
    counts = dict.fromkeys(sums, 0)

    def note(name: str, maps: np.ndarray, area: np.ndarray) -> None:
        sums[name] += maps[:, area].sum(axis=1)
        counts[name] += area.sum()

    start = time.perf_counter()
    for first in range(0, len(test.X), 8):
        X, y = test.X[first : first + 8], test.y[first : first + 8]
        proba, parts = segmenter.predict_proba(X, return_uncertainty=True)
        dropout.update(y, proba, parts.total)
        one_pass.update(y, one_forward(segmenter.module_, X).softmax(1).numpy())
        maps, border, counted = np.stack(parts[1:]), borders(y), y != VOID
        note("border", maps, border)
        note("inside", maps, ~border & counted)
        turned = segmenter.predict_uncertainty(X[:1, :, ::-1].copy(), kind="all")
        note("upright", maps[:, :1], counted[:1])
        note("upside down", np.stack(turned[1:]), counted[:1, ::-1])
    found = {
        "seconds of prediction": time.perf_counter() - start,
        "MC dropout": summary(dropout),
        "one pass": summary(one_pass),
    }
    for name, total in sums.items():
        found[f"aleatoric, {name}"], found[f"epistemic, {name}"] = total / counts[name]
    return found


def one_forward(module: torch.nn.Module, X: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return module.eval()(torch.as_tensor(X)).double()


def borders(y: np.ndarray) -> np.ndarray:
    """Return the pixels that count and touch a pixel of another class that counts."""
    differs = np.zeros(y.shape, dtype=bool)
    for axis in (1, 2):
        change = np.diff(y, axis=axis) != 0
        pad: list[tuple[int, int]] = [(0, 0)] * 3
        pad[axis] = (0, 1)
        differs |= np.pad(change, pad)
        pad[axis] = (1, 0)
        differs |= np.pad(change, pad)
    void = np.stack([binary_dilation(one) for one in y == VOID])
    return differs & ~void


def summary(scores: SegmentationScores) -> Scores:
    return {
        "mean IoU": scores.mean_intersection_over_union(),
        "IoU of each class": scores.intersection_over_union().tolist(),
        "pixel accuracy": scores.pixel_accuracy(),
        "NLL": scores.negative_log_likelihood(),
        "ECE": scores.calibration_error(),
        "PAvPU": scores.pavpu()._asdict(),
        "AUROC of errors": scores.uncertainty_error_auroc(),
        "accuracy at coverage": {str(c): scores.accuracy_at_coverage(c) for c in COVERAGES},
    }


def summary_of(runs: list[Scores]) -> dict[str, tuple[float, float | None]]:
    """Return mean and standard error over the runs, of each number by the names that lead there."""
    found: dict[str, tuple[float, float | None]] = {}
    for name, values in _numbers(runs):
        error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else None
        found[name] = float(np.mean(values)), None if error is None else float(error)
    return found


def _numbers(runs: list[Any], name: str = "") -> list[tuple[str, list[float]]]:
    if isinstance(runs[0], dict):
        parts = [_numbers([run[key] for run in runs], f"{name}, {key}") for key in runs[0]]
        return [one for part in parts for one in part]
    return [] if isinstance(runs[0], list) else [(name[2:], runs)]


# ---------------------------------------------------------------------------------------------
# Other packages


def against_peers(train: Images, test: Images, options: argparse.Namespace) -> Scores:
    """Score the maps of each package, from one network for each seed, in float32."""
    found: dict[str, list[Scores]] = {}
    for seed in range(options.seeds):
        network = trained(train, options, seed).module_.eval()
        segmenter = skuq.from_trained(
            network,
            *test,
            task="segmentation",
            posterior=MCDropout(options.draws),
            ignore_label=VOID,
            random_state=seed,
        )
        predicts = {"skuq": lambda X, one=segmenter: _of_skuq(one, X)}
        torch.manual_seed(seed)
        for name, adapter in installed().items():
            predicts[name] = adapter(network, options.draws)
        for name, predict in predicts.items():
            scores = SegmentationScores(segmenter.classes_, ignore_label=VOID)
            for image, mask in zip(test.X, test.y):  # a package need not take many images at once
                total, *_, proba = predict(image[None])
                scores.update(mask[None], proba, total)
            found.setdefault(name, []).append(summary(scores))
            print(seed, name, found[name][-1], flush=True)
    return {name: summary_of(runs) for name, runs in found.items()}


def _of_skuq(segmenter: TorchSegmenter, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    proba, parts = segmenter.predict_proba(X, return_uncertainty=True)
    return parts.total, proba
