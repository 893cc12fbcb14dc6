"""Segmentation of `skuq.datasets.make_shapes`: do the directions hold that theory promises?

    python -m benchmarks.segmentation_shapes [--seeds 5] [--quick] [--publish docs/segmentation]

from the root of the repository. A seed has its own data and networks: a plain network with MC
dropout, the same with weighted pixels, with few images, ensembles of many and of few images, and an
ensemble that has never seen squares. What each seed measured is a file below --folder, so an
interrupted program goes on; the table has means over the seeds with their standard errors.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import torch_threads
from skuq import TorchSegmenter
from skuq.datasets import SHAPE_NAMES, Shapes, make_shapes
from skuq.metrics import SegmentationScores, negative_log_likelihood
from skuq.posteriors import DeepEnsemble, MCDropout

POLE, SQUARE = SHAPE_NAMES.index("pole"), SHAPE_NAMES.index("square")
MANY, FEW = 400, 50  # training images
SIZE = 24  # pixels, height and width
COVERAGES = (1.0, 0.9, 0.8, 0.7)
LABELS = range(len(SHAPE_NAMES))
Measured = dict[str, float]


def fitted(
    shapes: Shapes, posterior: Any, seed: int, epochs: int, weights: Any = None
) -> TorchSegmenter:
    """Train on images; few images get more epochs, for as many steps.

    Members of ensembles are half as wide, which saves half of the time.
    """
    segmenter = TorchSegmenter(
        posterior=posterior,
        module__base_width=16 if isinstance(posterior, MCDropout) else 8,
        module__depth=2,
        lr=0.02,
        batch_size=16,
        max_epochs=round(epochs * MANY / len(shapes.X)),
        random_state=seed,
    )
    return segmenter.fit(shapes.X, shapes.y, pixel_weight=weights)


def scores_of(segmenter: TorchSegmenter, test: Shapes) -> tuple[SegmentationScores, Any]:
    """Return the scores on test images, and the maps of uncertainty."""
    proba, parts = segmenter.predict_proba(test.X, return_uncertainty=True)
    scores = SegmentationScores(LABELS).update(test.y, _all_classes(segmenter, proba), parts.total)
    return scores, parts


def _all_classes(segmenter: TorchSegmenter, proba: np.ndarray) -> np.ndarray:
    """Give classes that training left out the probability 0."""
    every = np.zeros((len(proba), len(LABELS), *proba.shape[2:]))
    every[:, segmenter.classes_] = proba
    return every


def single_scores(segmenter: TorchSegmenter, test: Shapes) -> SegmentationScores:
    """Return the scores of the same network without dropout."""
    with torch.no_grad():
        proba = segmenter.module_.eval()(torch.as_tensor(test.X)).double().softmax(1).numpy()
    return SegmentationScores(LABELS).update(test.y, proba)


def of_members(segmenter: TorchSegmenter, test: Shapes) -> float:
    """Return the mean negative log-likelihood of the members of an ensemble."""
    draws = np.moveaxis(segmenter.predict_draws(test.X), 2, -1)
    truth = test.y.ravel()
    return float(
        np.mean(
            [
                negative_log_likelihood(truth, one.reshape(len(truth), -1), labels=LABELS)
                for one in draws
            ]
        )
    )


def measure(seed: int, epochs: int, members: int, n_test: int) -> Measured:
    """Train and measure everything for one seed."""
    many = make_shapes(MANY, size=SIZE, random_state=seed)
    few = Shapes(*(part[:FEW] for part in many))
    no_squares = make_shapes(MANY, size=SIZE, leave_out=SQUARE, random_state=seed)
    test = make_shapes(n_test, size=SIZE, random_state=seed + 10_000)
    found: Measured = {}

    def note(name: str, value: float) -> None:
        found[name] = float(value)

    plain = fitted(many, MCDropout(20), seed, epochs)
    scores, parts = scores_of(plain, test)
    single = single_scores(plain, test)
    note("MC dropout: mean IoU", scores.mean_intersection_over_union())
    note("the same network, one pass: mean IoU", single.mean_intersection_over_union())
    note("MC dropout: NLL", scores.negative_log_likelihood())
    note("the same network, one pass: NLL", single.negative_log_likelihood())
    note("MC dropout: epistemic, 400 images", parts.epistemic.mean())
    note("MC dropout: aleatoric, 400 images", parts.aleatoric.mean())
    for rule in (None, "median_frequency"):
        of_rule = scores
        if rule is not None:
            of_rule, _ = scores_of(fitted(many, MCDropout(20), seed, epochs, rule), test)
        note(f"weights {rule}: recall of poles", of_rule.recall()[POLE])
        note(f"weights {rule}: pixel accuracy", of_rule.pixel_accuracy())
    _, parts = scores_of(fitted(few, MCDropout(20), seed, epochs), test)
    note("MC dropout: epistemic, 50 images", parts.epistemic.mean())
    note("MC dropout: aleatoric, 50 images", parts.aleatoric.mean())

    ensemble = fitted(many, DeepEnsemble(members), seed, epochs)
    scores, parts = scores_of(ensemble, test)
    for coverage in COVERAGES:
        note(f"accuracy at coverage {coverage:g}", scores.accuracy_at_coverage(coverage))
    note("ensemble: mean IoU", scores.mean_intersection_over_union())
    note("ensemble: ECE", scores.calibration_error())
    note("ensemble: NLL", scores.negative_log_likelihood())
    note("its members: NLL", of_members(ensemble, test))
    for where, there in (("along jittered borders", test.jittered), ("elsewhere", ~test.jittered)):
        note(f"aleatoric {where}", parts.aleatoric[there].mean())
        note(f"epistemic {where}", parts.epistemic[there].mean())
    note("ensemble: epistemic, 400 images", parts.epistemic.mean())
    note("ensemble: aleatoric, 400 images", parts.aleatoric.mean())
    squares = (test.y_clean == SQUARE) & ~test.jittered & ~test.occluded
    note("epistemic in squares, squares trained", parts.epistemic[squares].mean())
    note("aleatoric in squares, squares trained", parts.aleatoric[squares].mean())
    _, parts = scores_of(fitted(few, DeepEnsemble(members), seed, epochs), test)
    note("ensemble: epistemic, 50 images", parts.epistemic.mean())
    note("ensemble: aleatoric, 50 images", parts.aleatoric.mean())
    _, parts = scores_of(fitted(no_squares, DeepEnsemble(members), seed, epochs), test)
    note("epistemic in squares, squares left out", parts.epistemic[squares].mean())
    note("aleatoric in squares, squares left out", parts.aleatoric[squares].mean())
    return found


# What must hold: the greater, the lesser, and by how much at least.
CLAIMS = (
    ("weights median_frequency: recall of poles", "weights None: recall of poles", 0.0),
    ("weights None: pixel accuracy", "weights median_frequency: pixel accuracy", 0.0),
    ("accuracy at coverage 0.9", "accuracy at coverage 1", 0.0),
    ("accuracy at coverage 0.8", "accuracy at coverage 0.9", 0.0),
    ("accuracy at coverage 0.7", "accuracy at coverage 0.8", 0.0),
    ("aleatoric along jittered borders", "aleatoric elsewhere", 0.0),
    ("epistemic in squares, squares left out", "epistemic in squares, squares trained", 0.0),
    ("ensemble: epistemic, 50 images", "ensemble: epistemic, 400 images", 0.0),
    ("MC dropout: mean IoU", "the same network, one pass: mean IoU", -0.005),
    ("its members: NLL", "ensemble: NLL", 0.0),
)


def table(runs: list[Measured]) -> str:
    """Write means over the seeds with standard errors, and the claims, seed by seed."""
    n = len(runs)
    lines = [f"{n} seeds; mean ± standard error.", "", "| | |", "|---|---|"]
    for name in runs[0]:
        values = np.array([run[name] for run in runs])
        lines.append(f"| {name} | {mean_and_error(values)} |")
    lines += ["", "| greater | than | by | in seeds |", "|---|---|---|---|"]
    for more, less, least in CLAIMS:
        gaps = np.array([run[more] - run[less] for run in runs])
        holds = int((gaps > least).sum())
        beyond = f" (at least {least:g})" if least else ""
        lines.append(f"| {more} | {less} | {mean_and_error(gaps)}{beyond} | {holds} of {n} |")
    return "\n".join(lines) + "\n"


def mean_and_error(values: np.ndarray) -> str:
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{values.mean():.4f} ± {values.std(ddof=1) / np.sqrt(len(values)):.4f}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10, help="passes over 400 images")
    parser.add_argument("--members", type=int, default=3, help="networks of an ensemble")
    parser.add_argument("--quick", action="store_true", help="one seed, little training")
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/output/segmentation"))
    parser.add_argument("--publish", type=Path, help="a folder for the table")
    options = parser.parse_args(arguments)
    seeds, epochs, members, n_test = options.seeds, options.epochs, options.members, 200
    if options.quick:
        seeds, epochs, members, n_test = 1, 1, 2, 20
    options.folder.mkdir(parents=True, exist_ok=True)
    runs = []
    with torch_threads(1):
        for seed in range(seeds):
            path = options.folder / f"shapes-{epochs}-{members}-{n_test}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(measure(seed, epochs, members, n_test), indent=1))
            runs.append(json.loads(path.read_text()))
            print(table(runs), flush=True)
    if options.publish is not None:
        options.publish.mkdir(parents=True, exist_ok=True)
        (options.publish / "shapes.md").write_text(table(runs))


if __name__ == "__main__":
    main()
