"""The page of `skuq.report` about a segmenter."""

from __future__ import annotations

from html import escape
from math import prod
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skuq._composition import predictions
from skuq._meta import innermost
from skuq._predict import ClassifierPredictions
from skuq._report_html import Report, figure_of, table
from skuq._utils._sklearn_compat import _safe_indexing
from skuq.metrics import (
    DecompositionDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
    SegmentationDisplay,
    SegmentationScores,
)
from skuq.metrics._axes import description

__all__ = ["is_segmenter", "report_of_segmenter"]

_BATCH = 16  # images
_MOST_DRAWN = 6  # rows of pictures
_OF_MASKS = "of overlapping masks, each a sample, "


def is_segmenter(estimator: Any, X: Any) -> bool:
    """Return whether the estimator labels each pixel of an image; refuse regressors of pixels."""
    asked, inner = predictions(estimator, X)
    if not getattr(innermost(asked, inner)[0], "_is_dense", False):
        return False
    if not isinstance(asked, ClassifierPredictions):
        raise TypeError(
            "skuq.report judges classifiers, segmenters and regressors of rows, got a regressor of "
            "pixels; the scorers of skuq.metrics take it, each pixel as a sample"
        )
    return True


def report_of_segmenter(estimator: Any, X: Any, y: Any, n_most: int, title: str | None) -> Report:
    """Make the page, from one pass over the images."""
    masks = np.asarray(y)
    leaf, _ = innermost(*predictions(estimator, X[:1]))
    labels = (len(estimator.classes_),) if leaf._multilabel else ()  # with a mask each
    _check_masks(masks, labels)
    check_consistent_length(X, masks)
    scores = SegmentationScores(
        estimator.classes_, ignore_label=leaf.ignore_label, overlapping=leaf._multilabel
    )
    of_images = []
    for start in range(0, len(masks), _BATCH):
        rows = slice(start, min(start + _BATCH, len(masks)))
        proba, parts = estimator.predict_proba(_safe_indexing(X, rows), return_uncertainty=True)
        scores.update(masks[rows], proba, parts.total)
        of_images.append(np.stack([part.reshape(len(part), -1).mean(axis=1) for part in parts]))
    total, aleatoric, epistemic = np.concatenate(of_images, axis=1)
    order = np.argsort(-total, kind="stable")[:n_most]
    metrics, best = _judgement(scores)
    title = title or f"Uncertainty of {description(estimator)}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{len(masks)} images, {scores.n_pixels_} pixels {_OF_MASKS * leaf._multilabel}that "
        "count. The numbers hold for new images only if these trained, chose and calibrated "
        "nothing.</p>",
        f"<pre>{escape(repr(estimator))}</pre>",
        "<h2>In numbers</h2>",
        table(["", "value", "at best"], [[k, f"{v:.4g}", best[k]] for k, v in metrics.items()]),
        _classes(scores),
        "<h2>In pictures</h2><div class='figures'>",
        *_pictures(scores, aleatoric, epistemic),
        "</div><h2>The most uncertain images (nats per pixel)</h2>",
        table(
            ["image", "total", "aleatoric", "epistemic"],
            [
                [str(i), *(f"{part[i]:.4g}" for part in (total, aleatoric, epistemic))]
                for i in order
            ],
        ),
        _maps(estimator, X, masks, order, prod(labels)),
    ]
    return Report(metrics, title, "".join(body))


def _check_masks(masks: np.ndarray, labels: tuple[int, ...]) -> None:
    """Refuse what is no mask for each image, or no mask of each label where they overlap."""
    if masks.ndim < 3 or masks.shape[1:-2] != labels or len(masks) < 2:
        expected = ", ".join(["n_samples", *map(str, labels), "height", "width"])
        raise ValueError(
            f"y must have shape ({expected}), masks of at least 2 images, got {masks.shape}"
        )


def _judgement(scores: SegmentationScores) -> tuple[dict[str, float], dict[str, str]]:
    """Return the metrics, and what each is at best."""
    patches = scores.pavpu()
    low = {
        "negative log-likelihood (nats per pixel)": scores.negative_log_likelihood(),
        "Brier score": scores.brier_score(),
        "ECE (top label, 15 bins)": scores.calibration_error(),
        "MCE": scores.calibration_error("max"),
        "AURC": scores.area_under_risk_coverage(),
    }
    high = {
        "mean IoU": scores.mean_intersection_over_union(),
        "mean Dice": float(np.nanmean(scores.dice_score())),
        "pixel accuracy": scores.pixel_accuracy(),
    }
    for coverage in (0.9, 0.8, 0.7):
        high[f"accuracy of the most certain {coverage:.0%} of pixels"] = (
            scores.accuracy_at_coverage(coverage)
        )
    of_patches = "4 × 4 patches, the mean uncertainty as threshold"
    high |= {
        "AUROC of errors": scores.uncertainty_error_auroc(),
        f"PAvPU ({of_patches})": patches.pavpu,
        "share of certain patches that are accurate": patches.accurate_if_certain,
        "share of inaccurate patches that are uncertain": patches.uncertain_if_inaccurate,
    }
    known = {name: value for name, value in (high | low).items() if not np.isnan(value)}
    best = dict.fromkeys(high, "1") | dict.fromkeys(low, "0") | {"AURC": "low"}
    return known, best


def _classes(scores: SegmentationScores) -> str:
    counts = scores._of_labels(scores._confusion.matrix.sum(axis=1))
    whole = scores.n_pixels_ / scores._n_masks
    columns = (scores.intersection_over_union(), scores.dice_score(), scores.recall())
    rows = [
        [str(label), f"{count / whole:.2%}", *(f"{column[k]:.3f}" for column in columns)]
        for k, (label, count) in enumerate(zip(scores.classes_, counts))
    ]
    return table(["class", "share of pixels", "IoU", "Dice", "recall"], rows)


def _pictures(
    scores: SegmentationScores, aleatoric: np.ndarray, epistemic: np.ndarray
) -> list[str]:
    curve, accuracy = scores.risk_coverage_curve(), scores.pixel_accuracy()
    oracle = ((curve.coverage - accuracy) / curve.coverage).clip(min=0)
    aurc, bins, ece = (
        scores.area_under_risk_coverage(), scores._bins.bins(), scores.calibration_error()
    )  # fmt: skip
    return [
        figure_of(
            lambda ax: ReliabilityDisplay._of_bins(bins, ece, "top-label", None).plot(ax=ax),
            "Calibrated pixels lie on the diagonal.",
        ),
        figure_of(
            lambda ax: RiskCoverageDisplay(
                curve.coverage, curve.risk, oracle, aurc, risk_name="share of wrong pixels"
            ).plot(ax=ax),
            "The lower, the better uncertainty ranks wrong pixels last.",
        ),
        figure_of(
            lambda ax: DecompositionDisplay.from_predictions(
                aleatoric, epistemic, unit="nats per pixel", ax=ax
            ),
            "Means over the pixels of each image. Along a dotted line the total is the same.",
        ),
    ]


def _maps(estimator: Any, X: Any, masks: np.ndarray, order: np.ndarray, n_masks: int) -> str:
    order = order[: max(1, _MOST_DRAWN // n_masks)]
    shown = _safe_indexing(X, order)
    high, wide = masks.shape[-2:]
    return figure_of(
        lambda ax: SegmentationDisplay.from_estimator(
            estimator, shown, masks[order], n_images=len(order), name="", ax=ax
        ),
        "The most uncertain images, in the order of the table; pixels that do not count are "
        "hatched.",
        (10.5, 2.1 * len(order) * n_masks * high / wide + 1.3),
    )
