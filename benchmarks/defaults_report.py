"""Tables of the runs of `benchmarks.defaults`: means, ratios to the best peer, ranks."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.defaults_models import PEERS
from benchmarks.defaults_tables import Table

__all__ = ["report"]

SCORE = {"regression": "crps", "classification": "log_loss"}
SHOWN = {
    "regression": ("crps", "rmse", "coverage", "width", "fit_s"),
    "classification": ("log_loss", "accuracy", "ece", "ece_excess", "fit_s"),
}

Runs = dict[str, dict[str, list[dict[str, Any]]]]


def _runs(folder: Path, tables: list[Table]) -> Runs:
    """Records by table and model."""
    found: Runs = {}
    for table in tables:
        by_model: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for path in sorted(folder.glob(f"{table.name}-*.json")):
            record = json.loads(path.read_text())
            if path.name.startswith(f"{table.name}-{record['model']}-"):
                by_model[record["model"]].append(record)
        if by_model:
            found[table.name] = dict(by_model)
    return found


def _mean(records: list[dict[str, Any]], score: str) -> tuple[float, float]:
    """The mean over splits, and its standard error."""
    values = np.array([record[score] for record in records])
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _ratio(one: list[dict[str, Any]], other: list[dict[str, Any]], score: str) -> float:
    """Of the means, over the splits that both have."""
    ours = {record["split"]: record[score] for record in one}
    theirs = {record["split"]: record[score] for record in other}
    both = sorted(ours.keys() & theirs.keys())
    return float(np.mean([ours[k] for k in both]) / np.mean([theirs[k] for k in both]))


def report(folder: Path, tables: list[Table]) -> str:
    """Markdown: for each table its scores, then ratios, ranks and coverages of each model."""
    runs = _runs(folder, tables)
    lines: list[str] = []
    for task in ("regression", "classification"):
        own = [table for table in tables if table.task == task and table.name in runs]
        for table in own:
            lines += _of_table(table, runs[table.name])
        if own:
            lines += _summary(task, {table.name: runs[table.name] for table in own})
    return "\n".join(lines)


def _of_table(table: Table, by_model: dict[str, list[dict[str, Any]]]) -> list[str]:
    shown = SHOWN[table.task]
    n_rows = next(iter(by_model.values()))[0]["n_train"]
    lines = [f"\n### {table.name}, {n_rows} training rows\n"]
    lines += ["| model | " + " | ".join(shown) + " |", "|---" * (1 + len(shown)) + "|"]
    for model, records in sorted(by_model.items(), key=lambda m: _mean(m[1], shown[0])[0]):
        cells = [f"{mean:.4g} ± {error:.2g}" for mean, error in (_mean(records, s) for s in shown)]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return lines


def _summary(task: str, runs: Runs) -> list[str]:
    score = SCORE[task]
    models = sorted({model for by_model in runs.values() for model in by_model})
    head = ["model", f"median {score} ratio to the best peer", "worst ratio", "median to boosting"]
    head += ["mean rank", "coverage, least to most", "fit s, median"]
    lines = [f"\n## {task}\n", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for model in models:
        lines.append(_line(model, score, runs))
    return lines


def _line(model: str, score: str, runs: Runs) -> str:
    best, boosting, ranks, coverages, times = [], [], [], [], []
    for table, by_model in runs.items():
        if model not in by_model:
            continue
        own, n_rows = by_model[model], by_model[model][0]["n_train"]
        peers = [by_model[peer] for peer in PEERS if peer in by_model and peer != model]
        if peers:
            best.append((max(_ratio(own, peer, score) for peer in peers), table))
        if "boosting" in by_model and model != "boosting":
            boosting.append(_ratio(own, by_model["boosting"], score))
        means = sorted(_mean(records, score)[0] for records in by_model.values())
        ranks.append(1 + means.index(_mean(own, score)[0]))
        if "coverage" in own[0] and n_rows >= 240:
            coverages.append(_mean(own, "coverage")[0])
        times.append(_mean(own, "fit_s")[0])
    worst = max(best, default=(np.nan, ""))
    spread = f"{min(coverages):.3f} to {max(coverages):.3f}" if coverages else ""
    return (
        f"| {model} | {np.median([ratio for ratio, _ in best] or [np.nan]):.3f} | "
        f"{worst[0]:.2f} ({worst[1]}) | {np.median(boosting or [np.nan]):.3f} | "
        f"{np.mean(ranks):.2f} | {spread} | {np.median(times):.2f} |"
    )
