"""The page of `skuq.report` about a classifier of several labels at once."""

from __future__ import annotations

from html import escape
from typing import Any, cast

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skuq._composition import predictions
from skuq._meta import innermost, label_names_of
from skuq._predict import ClassifierPredictions
from skuq._report_html import Report, figure_of, table
from skuq.metrics import (
    DecompositionDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
    UncertaintyHistogramDisplay,
    area_under_risk_coverage,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    uncertainty_error_auroc,
)
from skuq.metrics._axes import description
from skuq.metrics._targets import encoded_targets, is_multilabel

__all__ = ["has_several_labels", "report_of_labels"]


def has_several_labels(estimator: Any, X: Any) -> bool:
    """Return whether the estimator predicts several labels at once."""
    return is_multilabel(predictions(estimator, X)[0])


def report_of_labels(estimator: Any, X: Any, y: Any, n_most: int, title: str | None) -> Report:
    """Make the page: a label of a row is a sample."""
    found, inner = predictions(estimator, X)
    asked = cast("ClassifierPredictions", found)
    truth = encoded_targets(asked, y)
    check_consistent_length(X, truth)
    if len(truth) < 2:
        raise ValueError(f"y must have at least 2 rows, got {len(truth)}")
    leaf, _ = innermost(asked, inner)
    known = label_names_of(asked)
    names = [str(name) for name in (leaf.classes_ if known is None else known)]
    proba, parts = asked.predict_proba(inner, return_uncertainty=True)
    wrong = (proba > 0.5) != truth
    title = title or f"Uncertainty of {description(estimator)}"
    metrics, best = _judgement(truth, proba, wrong, parts.total)
    order = np.argsort(-parts.total.sum(axis=1), kind="stable")[:n_most]
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{len(truth)} rows with {len(names)} labels each. The numbers hold for new rows only "
        "if these rows trained, chose and calibrated nothing. Where nothing else is said, each "
        "label of a row is a sample.</p>",
        f"<pre>{escape(repr(estimator))}</pre>",
        "<h2>In numbers</h2>",
        table(["", "value", "at best"], [[k, f"{v:.4g}", best[k]] for k, v in metrics.items()]),
        "<h2>Label by label</h2>",
        _labels(names, truth, proba, parts.total),
        "<h2>In pictures</h2><div class='figures'>",
        *_pictures(truth, proba, wrong, parts),
        "</div><h2>The most uncertain rows (nats, summed over labels)</h2>",
        _rows(order, names, truth, proba, parts),
    ]
    return Report(metrics, title, "".join(body))


def _judgement(
    truth: np.ndarray, proba: np.ndarray, wrong: np.ndarray, total: np.ndarray
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the metrics, and what each is at best."""
    two = _of_two(proba)
    ranks = (truth.ravel(), (proba > 0.5).astype(int).ravel(), total.ravel())
    high = {
        "share of labels that are right": float(1 - wrong.mean()),
        "share of rows with all labels right": float(1 - wrong.any(axis=1).mean()),
    }
    if 0 < wrong.sum() < wrong.size:
        high["AUROC of errors"] = uncertainty_error_auroc(*ranks)
    low = {
        "negative log-likelihood (nats per label)": negative_log_likelihood(truth.ravel(), two),
        "Brier score": brier_score(truth.ravel(), two),
        "ECE (of the probability that a label is true)": _calibration(truth, proba),
        "AURC": area_under_risk_coverage(*ranks),
    }
    best = dict.fromkeys(high, "1") | dict.fromkeys(low, "0") | {"AURC": "low"}
    return high | low, best


def _of_two(proba: np.ndarray) -> np.ndarray:
    """Return probabilities of 0 and 1, of shape (n_labels_of_rows, 2)."""
    flat = proba.ravel()
    return np.stack([1 - flat, flat], axis=1)


def _calibration(truth: np.ndarray, proba: np.ndarray) -> float:
    return float(expected_calibration_error(truth.ravel(), _of_two(proba), kind="binary"))


def _labels(names: list[str], truth: np.ndarray, proba: np.ndarray, total: np.ndarray) -> str:
    rows = []
    for k, name in enumerate(names):
        own, told = truth[:, k], proba[:, k]
        guessed = (told > 0.5).astype(int)
        hits, n_found, n_true = int((guessed * own).sum()), int(guessed.sum()), int(own.sum())
        values = (
            (guessed == own).mean(),
            hits / n_found if n_found else np.nan,
            hits / n_true if n_true else np.nan,
            negative_log_likelihood(own, _of_two(told), labels=[0, 1]),
            _calibration(own, told) if 0 < n_true < len(own) else np.nan,
            total[:, k].mean(),
        )
        shown = ("" if np.isnan(value) else f"{value:.3g}" for value in values)
        rows.append([name, f"{own.mean():.1%}", *shown])
    head = ["label", "true in", "right", "precision", "recall", "NLL", "ECE", "mean total (nats)"]
    return table(head, rows)


def _pictures(truth: np.ndarray, proba: np.ndarray, wrong: np.ndarray, parts: Any) -> list[str]:
    flat, errors = [part.ravel() for part in parts], wrong.ravel()
    total, aleatoric, epistemic = flat
    guessed = (proba > 0.5).astype(int).ravel()
    pictures = [
        figure_of(
            lambda ax: ReliabilityDisplay.from_predictions(
                truth.ravel(), _of_two(proba), kind="binary", ax=ax
            ),
            "Calibrated probabilities that a label is true lie on the diagonal.",
        ),
        figure_of(
            lambda ax: RiskCoverageDisplay.from_predictions(truth.ravel(), guessed, total, ax=ax),
            "The lower, the better uncertainty ranks wrong labels last.",
        ),
    ]
    if 0 < errors.sum() < len(errors):
        pictures.append(
            figure_of(
                lambda ax: UncertaintyHistogramDisplay.from_predictions(
                    total[~errors], total[errors], groups=("right", "wrong"), kind="total",
                    unit="nats", ax=ax,
                ),
                "Wrong labels should be more uncertain.",
            )
        )  # fmt: skip
    return [
        *pictures,
        figure_of(
            lambda ax: DecompositionDisplay.from_predictions(
                aleatoric, epistemic, wrong=errors, unit="nats", ax=ax
            ),
            "Along a dotted line the total is the same.",
        ),
    ]


def _rows(
    order: np.ndarray, names: list[str], truth: np.ndarray, proba: np.ndarray, parts: Any
) -> str:
    def named(row: np.ndarray) -> str:
        return ", ".join(name for name, is_true in zip(names, row) if is_true) or "none"

    rows = [
        [
            str(i), named(truth[i]), named(proba[i] > 0.5),
            *(f"{part[i].sum():.4g}" for part in parts),
            names[int(parts.total[i].argmax())],
        ]
        for i in order
    ]  # fmt: skip
    head = ["row", "true", "predicted", "total", "aleatoric", "epistemic", "most uncertain label"]
    return table(head, rows)
