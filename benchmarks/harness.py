"""Measuring: the time of contenders side by side, and what was found.

Every contender of a table runs in one process, one after another in turns, so that a machine that
slows down slows them all. A ratio is the median over the turns of the ratio within a turn, with
its quartiles; seconds are medians. Before anything is timed, the answers are checked to agree.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

Contenders = dict[str, Callable[[], Any]]
Spread = tuple[float, float, float]  # median and quartiles

SLOW_TURNS = 2  # of a contender that takes too long to run in every turn


class Disagreement(Exception):
    """Contenders do not compute the same."""


class Bar(NamedTuple):
    """A goal: the time of `contender` is at most `limit` times that of `base`."""

    contender: str
    base: str
    limit: float


class Line(NamedTuple):
    """A row of the report."""

    table: str
    contender: str
    amount: float
    unit: str  # "s", "MiB" or "value"
    ratio: Spread | None  # to the first contender


class Verdict(NamedTuple):
    """A goal and what was measured."""

    table: str
    what: str
    measured: Spread
    limit: float
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.measured[0] <= self.limit


class Curve(NamedTuple):
    """An amount against a size."""

    along: str  # what is varied
    series: str  # what is measured
    sizes: list[int]
    amounts: list[float]
    unit: str  # "s" or "MiB"

    @property
    def exponent(self) -> float | None:
        """Of the upper half of the sizes: below, what a call costs at least hides the law."""
        upper = [
            (size, amount)
            for size, amount in list(zip(self.sizes, self.amounts))[len(self.sizes) // 2 :]
            if amount > 0
        ]
        return exponent(*zip(*upper)) if len(upper) > 1 else None


@dataclass
class Report:
    """What a run found, table by table."""

    repeats: int
    quick: bool = False  # sizes are small: no goal applies
    with_peers: bool = True
    clock: Callable[[], float] = time.perf_counter
    lines: list[Line] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)  # table and text

    def sized(self, full: int, small: int) -> int:
        return small if self.quick else full

    def time(
        self,
        table: str,
        contenders: Contenders,
        bars: Sequence[Bar] = (),
        slow: Collection[str] = (),
    ) -> None:
        """Time the contenders; ratios are to the first. The slow ones run in few turns alone."""
        times = measure(contenders, self.repeats, slow, self.clock)
        base = times[next(iter(contenders))]
        for name, seconds in times.items():
            line = Line(table, name, statistics.median(seconds), "s", ratio(seconds, base))
            self.lines.append(line)
        for bar in bars:
            measured = ratio(times[bar.contender], times[bar.base])
            self.goal(table, f"{bar.contender} / {bar.base}", measured, bar.limit)

    def goal(self, table: str, what: str, measured: Spread, limit: float, unit: str = "") -> None:
        if not self.quick:
            self.verdicts.append(Verdict(table, what, measured, limit, unit))

    def seconds(self, table: str, what: str, measured: Spread, limit: float) -> None:
        """A time by itself, and the most that it should be."""
        self.lines.append(Line(table, what, measured[0], "s", None))
        self.goal(table, what, measured, limit, "s")

    def memory(self, table: str, what: str, mebibytes: float, limit: float | None = None) -> None:
        self.lines.append(Line(table, what, mebibytes, "MiB", None))
        if limit is not None:
            self.goal(table, what, (mebibytes,) * 3, limit, "MiB")

    def remark(self, table: str, text: str) -> None:
        print(text, flush=True)
        self.remarks.append((table, text))

    def take(self, made: Report) -> None:
        """Tables and curves of another run, in the place of those with the same names."""

        def merged(before: list, after: list, name: Callable[[Any], Any]) -> list:
            new = {name(item) for item in after}
            order = list(dict.fromkeys(map(name, [*before, *after])))
            kept = [item for item in before if name(item) not in new]
            return sorted([*kept, *after], key=lambda item: order.index(name(item)))

        remade = set(made.tables)
        self.verdicts = [v for v in self.verdicts if v.table not in remade] + made.verdicts
        self.remarks = [r for r in self.remarks if r[0] not in remade] + made.remarks
        self.lines = merged(self.lines, made.lines, lambda line: line.table)
        self.curves = merged(self.curves, made.curves, lambda curve: (curve.along, curve.series))

    @property
    def tables(self) -> list[str]:
        named = [line.table for line in self.lines] + [table for table, _ in self.remarks]
        return list(dict.fromkeys(named))


# ---------------------------------------------------------------------------------------------
# Time


def measure(
    contenders: Contenders,
    repeats: int,
    slow: Collection[str] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each contender in each turn, after one turn of warm-up.

    Those in `slow` take part in the first `SLOW_TURNS` turns alone.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for turn in range(repeats + 1):
        for name in order:
            if name in slow and turn > SLOW_TURNS:
                continue
            gc.collect()
            start = clock()
            contenders[name]()
            if turn:
                times[name].append(clock() - start)
        order = [*order[1:], order[0]]  # nobody always follows the same one
    return times


def median_and_quartiles(values: Sequence[float]) -> Spread:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float(low), float(high)


def ratio(above: list[float], below: list[float]) -> Spread:
    """Of the turns that both took part in, which are the first ones."""
    return median_and_quartiles([a / b for a, b in zip(above, below)])


def check(what: str, a: Any, b: Any, tolerance: float) -> None:
    """Contenders that do not compute the same must not be compared."""
    difference = float(np.abs(np.asarray(a) - np.asarray(b)).max())
    if not difference <= tolerance:
        raise Disagreement(f"{what} differ by {difference:.2g}, more than {tolerance:.2g}")
    print(f"checked: {what} differ by at most {difference:.1e}", flush=True)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def exponent(sizes: Sequence[float], amounts: Sequence[float]) -> float:
    """The slope of log amount against log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(amounts), 1)[0])
