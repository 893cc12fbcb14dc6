"""On a GPU: an ensemble as one stack, MC dropout, a fit beside stock skorch.

Without a GPU the tables say that they are unmeasured. Every call ends with a synchronisation, so
that the time is that of the work and not of its launch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks import peers
from benchmarks.dropout import check_answers
from benchmarks.harness import Bar, Contenders, Report, check
from benchmarks.models import (
    IMAGE_BATCH,
    ConvNet,
    accuracy,
    image_data,
    loop_fit,
    loop_proba,
    plain_mlp,
    skuq_classifier,
    table_data,
    tensors,
    trunk_and_heads,
)
from skuq.posteriors import DeepEnsemble, MCDropout

UNMEASURED = "unmeasured: this machine has no CUDA device"
SLICE = 4096  # images at once


def where_there_is_one(
    table: str,
) -> Callable[[Callable[[Report, str], None]], Callable[[Report], None]]:
    def decorate(run: Callable[[Report, str], None]) -> Callable[[Report], None]:
        def guarded(report: Report) -> None:
            if torch.cuda.is_available():
                run(report, table)
            else:
                report.remark(table, UNMEASURED)

        return guarded

    return decorate


def synchronised(contenders: Contenders) -> Contenders:
    def until_done(work: Callable[[], Any]) -> Callable[[], None]:
        def call() -> None:
            torch.cuda.synchronize()
            work()
            torch.cuda.synchronize()

        return call

    return {name: until_done(work) for name, work in contenders.items()}


def on_gpu(*arrays: Any) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.cuda() for tensor in tensors(*arrays))


@where_there_is_one("GPU: deep ensemble of the MLP, 100,000 rows, batch 1024, 1 epoch")
def ensemble(report: Report, table: str) -> None:
    X, y = table_data(report.sized(100_000, 10_000))
    X_test, y_test = table_data(5000, seed=1)
    inputs, targets = on_gpu(X, y)

    def stack(n_members: int) -> Any:
        posterior = DeepEnsemble(n_members)
        return skuq_classifier(posterior=posterior, batch_size=1024, device="cuda").fit(X, y)

    def loop() -> Any:
        return loop_fit(plain_mlp().cuda(), inputs, targets, batch=1024)

    by_hand = loop_proba(loop(), *on_gpu(X_test)).cpu()
    score = stack(1).score(X_test, y_test)
    check("accuracies of skuq and of the loop", score, accuracy(by_hand, y_test), 0.1)
    contenders = {
        "torch loop, one network": loop,
        "skuq, one member": lambda: stack(1),
        "skuq, ten members": lambda: stack(10),
    }
    bars = [Bar("skuq, ten members", "skuq, one member", 1.5)]
    report.time(table, synchronised(contenders), bars)


@where_there_is_one("GPU: MC dropout, conv net with dropout in its head, T = 100, 100,000 images")
def dropout(report: Report, table: str) -> None:
    n_draws = 100
    X, y = image_data(report.sized(100_000, 2000), seed=1)
    settings = {"batch_size": IMAGE_BATCH, "max_epochs": 3, "device": "cuda"}
    ours = skuq_classifier(ConvNet, posterior=MCDropout(n_draws), **settings)
    ours.fit(*image_data(1000))
    module = ConvNet().cuda().eval()
    module.load_state_dict(ours.module_.state_dict())
    (inputs,) = on_gpu(X)
    found = peers.present(report, table, {k: peers.DROPOUTS[k] for k in ("torch-uncertainty",)})

    def in_slices(predict: Any) -> Callable[[Any], Any]:
        return lambda x: peers.in_slices(predict, module, x, n_draws, SLICE)

    others = {name: in_slices(predict) for name, predict in found.items()}
    for_check = {name: lambda x, p=p: p(x.cuda()).cpu() for name, p in others.items()}
    check_answers(ours, for_check, X[:1000], y[:1000])
    base = f"one trunk pass + {n_draws} dropout-free head passes"
    contenders = {
        # The images are on the GPU already, those of skuq are not: its time has the copies.
        base: lambda: trunk_and_heads(module, inputs, n_draws, SLICE),
        "skuq": lambda: ours.predict_proba(X),
        **{name: lambda p=p: p(inputs) for name, p in others.items()},
    }
    bars = [Bar("skuq", base, 1.1), *(Bar("skuq", name, 1 / 20) for name in others)]
    report.time(table, synchronised(contenders), bars, slow=others)


@where_there_is_one("GPU: fit the MLP, 1,000,000 × 20, batch 4096, 1 epoch")
def fit(report: Report, table: str) -> None:
    X, y = table_data(report.sized(1_000_000, 20_000))
    X_test, y_test = table_data(5000, seed=1)
    inputs, targets = on_gpu(X, y)

    def ours() -> Any:
        return skuq_classifier(batch_size=4096, device="cuda").fit(X, y)

    def theirs() -> Any:
        return peers.skorch_net(batch_size=4096, device="cuda").fit(X, y)

    score = accuracy(theirs().predict_proba(X_test), y_test)
    check("accuracies of skuq and of skorch", ours().score(X_test, y_test), score, 0.05)
    contenders = {
        "torch loop": lambda: loop_fit(plain_mlp().cuda(), inputs, targets, batch=4096),
        "skuq": ours,
        "stock skorch": theirs,
    }
    report.time(table, synchronised(contenders), [Bar("skuq", "stock skorch", 0.1)])
