"""Predictions without draws, and what is made of draws: uncertainties from logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.dropout import conv_model, mlp_model
from benchmarks.harness import Bar, Report, check
from benchmarks.memory import extra_memory
from benchmarks.models import (
    image_data,
    loop_proba,
    plain_mlp,
    skuq_classifier,
    table_data,
    tensors,
)
from skuq._engine._engine import _CHUNK_BYTES
from skuq._reductions import class_uncertainty
from skuq.likelihoods import Categorical

# ---------------------------------------------------------------------------------------------
# A network without draws


def predict(report: Report) -> None:
    n_rows = report.sized(1_000_000, 20_000)
    table = f"predict_proba, the MLP without draws, {n_rows:,} × 20"
    X, _ = table_data(n_rows, seed=1)
    ours = skuq_classifier().fit(*table_data(2000))
    module = plain_mlp()
    with torch.no_grad():
        for mine, trained in zip(module.parameters(), ours.module_.parameters()):
            mine.copy_(trained)
    theirs = peers.skorch_net(module).initialize()
    (inputs,) = tensors(X)
    some = slice(0, 5000)
    expected = loop_proba(module, inputs[some])
    check("probabilities of skuq and of the loop", ours.predict_proba(X[some]), expected, 1e-5)
    check("probabilities of skorch and of the loop", _skorch_proba(theirs, X[some]), expected, 1e-5)
    contenders = {
        "torch loop over slices": lambda: loop_proba(module, inputs),
        "skuq": lambda: ours.predict_proba(X),
        "stock skorch": lambda: _skorch_proba(theirs, X),
    }
    report.time(table, contenders, [Bar("skuq", "torch loop over slices", 1.2)], {"stock skorch"})


def _skorch_proba(net: Any, X: np.ndarray) -> np.ndarray:
    """In batches of its default size; it applies the softmax that its criterion implies."""
    return net.predict_proba(X)


# ---------------------------------------------------------------------------------------------
# Uncertainties beside probabilities


def extra_answers_mlp(report: Report) -> None:
    n_rows = report.sized(10_000, 2000)
    table = f"predict_proba with uncertainties, MLP, T = 30, {n_rows:,} rows"
    X, _ = table_data(n_rows, seed=1)
    _extra_answers(report, table, mlp_model(30)[0], X)


def extra_answers_conv(report: Report) -> None:
    n_rows, n_draws = report.sized(10_000, 500), report.sized(100, 20)
    table = f"predict_proba with uncertainties, conv net, T = {n_draws}, {n_rows:,} images"
    _extra_answers(report, table, conv_model(n_draws)[0], image_data(n_rows, seed=1)[0])


def _extra_answers(report: Report, table: str, ours: Any, X: np.ndarray) -> None:
    proba, parts = ours.predict_proba(X, return_uncertainty=True)
    separate = ours.predict_uncertainty(X, kind="all")
    check("probabilities, alone and together,", proba, ours.predict_proba(X), 1e-12)
    check("uncertainties, alone and together,", np.stack(parts), np.stack(separate), 1e-12)
    contenders = {
        "predict_proba": lambda: ours.predict_proba(X),
        "with all three uncertainties": lambda: ours.predict_proba(X, return_uncertainty=True),
        "two calls": lambda: (ours.predict_proba(X), ours.predict_uncertainty(X, kind="all")),
    }
    report.time(table, contenders, [Bar("with all three uncertainties", "predict_proba", 1.25)])


# ---------------------------------------------------------------------------------------------
# Logits of many draws to every measure


DECOMPOSED = ("entropy", "variance")
TOTALS = ("variation_ratio", "margin", "least_confidence")
N_MEASURES = 3 * len(DECOMPOSED) + len(TOTALS)


def stacked_torch(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean probabilities and all measures, by the formulas, of all draws at once."""
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    mean = p.mean(0)
    entropy = -(mean * mean.log()).sum(-1)
    aleatoric = -(p * log_p).sum(-1).mean(0)
    spread = p.var(0, correction=0).sum(-1)
    noise = (p * (1 - p)).sum(-1).mean(0)
    votes = nn.functional.one_hot(p.argmax(-1), p.shape[-1]).sum(0).amax(-1)
    first, second = mean.topk(2, dim=-1).values.unbind(-1)
    measures = (
        *(entropy, aleatoric, entropy - aleatoric),
        *(noise + spread, noise, spread),
        *(1 - votes / len(p), 1 - (first - second), 1 - first),
    )
    return mean, torch.stack(measures)


def engine_blocks(logits: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """What the engine hands to a reduction: blocks in float64, rows last in memory."""
    n_draws, n_rows, n_classes = logits.shape
    size = max(1, _CHUNK_BYTES["cpu"] // (8 * n_draws * n_classes))
    size = 2 ** (size.bit_length() - 1)
    for start in range(0, n_rows, size):
        rows = slice(start, start + size)
        block = logits[:, rows].mT
        yield rows, torch.empty(block.shape, dtype=torch.float64).copy_(block).mT


def skuq_reduction(logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The same by what `predict_proba` and `predict_uncertainty` do with the logits of a block."""
    _, n_rows, n_classes = logits.shape
    mean, measures = np.empty((n_rows, n_classes)), np.empty((N_MEASURES, n_rows))
    predictive = Categorical().predictive
    for rows, block in engine_blocks(logits):
        draws = predictive(block)
        mean[rows] = draws.mean_probs
        parts = [part for m in DECOMPOSED for part in class_uncertainty("all", m)(draws)]
        parts += [class_uncertainty("total", m)(draws) for m in TOTALS]
        measures[:, rows] = torch.stack(parts)
    return mean, measures


def random_logits(n_draws: int, n_rows: int, n_classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    common = 2 * torch.randn(n_rows, n_classes, generator=generator)
    logits = torch.randn(n_draws, n_rows, n_classes, generator=generator)
    return logits.add_(common)


REDUCTIONS = {"stacked torch": stacked_torch, "skuq": skuq_reduction}


def reduction(report: Report) -> None:
    n_draws, n_rows, n_classes = 30, report.sized(100_000, 5000), 10
    table = f"{n_draws} draws × {n_rows:,} × {n_classes} logits to all measures"
    logits = random_logits(n_draws, n_rows, n_classes)
    for what, a, b in zip(
        ("mean probabilities", "measures"), stacked_torch(logits), skuq_reduction(logits)
    ):
        check(f"{what} of skuq and of stacked torch", a, b, 1e-5)
    contenders = {name: lambda f=f: f(logits) for name, f in REDUCTIONS.items()}
    report.time(table, contenders, [Bar("skuq", "stacked torch", 0.25)])


def prepare_reduction(name: str, n_draws: int, n_rows: int, n_classes: int) -> Callable[[], Any]:
    logits = random_logits(n_draws, n_rows, n_classes)
    REDUCTIONS[name](logits[:, :2000])
    return lambda: REDUCTIONS[name](logits)


def reduction_memory(report: Report) -> None:
    n_draws, n_rows, n_classes = 30, report.sized(1_000_000, 20_000), 10
    table = f"extra memory, {n_draws} draws × {n_rows:,} × {n_classes} logits to all measures"
    for name, answers in (("skuq", 8), ("stacked torch", 4)):  # bytes of a number
        results = answers * n_rows * (n_classes + N_MEASURES) / 2**20
        used = extra_memory(prepare_reduction, name, n_draws, n_rows, n_classes)
        what = f"{name}, beyond its answers of {results:.0f} MiB"
        report.memory(table, what, used - results, 64 if name == "skuq" else None)
