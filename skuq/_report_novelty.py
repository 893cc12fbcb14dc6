"""The part of the report that is about novelty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skuq.metrics import (
    NoveltyHistogramDisplay,
    NoveltyROCDisplay,
    novelty_metrics,
    uncertainty_error_auroc,
)

__all__ = ["judge_novelty"]

Figures = list[tuple[str, Callable[[Any], Any]]]


def judge_novelty(
    detector: Any, X: Any, X_novel: Any, y: np.ndarray, predicted: np.ndarray | None
) -> tuple[dict[str, float], Figures, dict[str, str], np.ndarray]:
    """Judge a detector on the rows of the report, and on novel ones if given.

    `predicted` are the labels that a classifier predicts, None for a regressor. Returns numbers,
    pictures, best values, and the novelty of each row.
    """
    if not hasattr(detector, "predict_novelty"):
        raise TypeError(
            f"novelty must be a fitted NoveltyDetector, got {type(detector).__name__}: expected an "
            "object with predict_novelty"
        )
    novelty = detector.predict_novelty(X)
    threshold = -detector.offset_
    share = "share flagged as novel"
    metrics, notes = {share: float((novelty > threshold).mean())}, {}
    notes[share] = f"{detector.contamination:g}, if the rows are like the known ones"
    if predicted is not None and 0 < (predicted != y).sum() < len(y):
        metrics["AUROC of errors by novelty"] = uncertainty_error_auroc(y, predicted, novelty)
        notes["AUROC of errors by novelty"] = "1; uncertainty often finds errors better"
    if X_novel is None:
        before = detector.calibration_scores_
        return metrics, [_beside(before, novelty, threshold)], notes, novelty
    strange = detector.predict_novelty(X_novel)
    found = novelty_metrics(novelty, strange)
    for name, value, best in (
        ("AUROC of novel rows", found.auroc, "1"),
        ("flagged when 95 % of the novel are found", found.fpr_at_95_novel_found, "0"),
        ("novel accepted when 95 % are kept", found.fpr_at_95_known_kept, "0"),
    ):
        metrics[name], notes[name] = value, best
    figures: Figures = [
        (
            "Novel rows should lie to the right of the line, known ones to the left.",
            lambda ax: NoveltyHistogramDisplay.from_predictions(
                novelty, strange, threshold=threshold, ax=ax
            ),
        ),
        (
            "The nearer to the upper left corner, the better.",
            lambda ax: NoveltyROCDisplay.from_predictions(novelty, strange, ax=ax),
        ),
    ]
    return metrics, figures, notes, novelty


def _beside(before: np.ndarray, novelty: np.ndarray, threshold: float) -> Any:
    groups = ("calibration rows", "these rows")
    return (
        "If these rows are like the known ones, the histograms agree.",
        lambda ax: NoveltyHistogramDisplay.from_predictions(
            before, novelty, threshold=threshold, groups=groups, ax=ax
        ),
    )
