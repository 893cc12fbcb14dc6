"""Measuring: time and memory of contenders side by side, and what was found.

Every contender of a table runs in one process, one after another in turns, so that a machine that
slows down slows them all. A ratio is the median over the turns of the ratio within a turn, with
its quartiles; seconds are medians. Before anything is timed, the answers are checked to agree.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.metadata
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

Contenders = dict[str, Callable[[], Any]]
Spread = tuple[float, float, float]  # median and quartiles


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
    unit: str  # "s" or "MiB"
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


@dataclass
class Report:
    """What a run found, table by table."""

    repeats: int
    quick: bool = False  # sizes are small: no goal applies
    lines: list[Line] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)  # table and text

    def time(self, table: str, contenders: Contenders, bars: Sequence[Bar] = ()) -> None:
        """Time the contenders; ratios are to the first."""
        times = measure(contenders, self.repeats)
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

    def memory(self, table: str, what: str, mebibytes: float, limit: float | None = None) -> None:
        self.lines.append(Line(table, what, mebibytes, "MiB", None))
        if limit is not None:
            self.goal(table, what, (mebibytes,) * 3, limit, "MiB")

    def remark(self, table: str, text: str) -> None:
        print(text, flush=True)
        self.remarks.append((table, text))

    @property
    def tables(self) -> list[str]:
        named = [line.table for line in self.lines] + [table for table, _ in self.remarks]
        return list(dict.fromkeys(named))


# ---------------------------------------------------------------------------------------------
# Time


def measure(contenders: Contenders, repeats: int) -> dict[str, list[float]]:
    """Seconds of each contender in each turn, after one turn of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for turn in range(repeats + 1):
        for name in order:
            gc.collect()
            start = time.perf_counter()
            contenders[name]()
            if turn:
                times[name].append(time.perf_counter() - start)
        order = [*order[1:], order[0]]  # nobody always follows the same one
    return times


def median_and_quartiles(values: Sequence[float]) -> Spread:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float(low), float(high)


def ratio(above: list[float], below: list[float]) -> Spread:
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


# ---------------------------------------------------------------------------------------------
# Memory


def extra_memory(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> float:
    """MiB by which a call raises the peak of a process: one process with it, one without.

    `prepare(*arguments)`, a function of a module, is called in both and returns the call. What it
    needed itself does not count: the record of the peak begins anew after it, where the system
    can do that.
    """
    with_call, without = (_peak(prepare, arguments, run) for run in (True, False))
    return (with_call - without) / 2**20


def _peak(prepare: Callable[..., Any], arguments: tuple, run: bool) -> float:
    # A fork would begin with the memory of this process.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    threads = torch.get_num_threads()
    child = context.Process(target=_child, args=(sender, threads, prepare, arguments, run))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f"the process that measures {prepare.__name__} died") from None
    finally:
        child.join()


def _child(sender: Any, threads: int, prepare: Callable, arguments: tuple, run: bool) -> None:
    torch.set_num_threads(threads)
    call = prepare(*arguments)
    _forget_peak()
    if run:
        call()
    sender.send(_peak_bytes())


def _forget_peak() -> None:
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # free memory that is kept would hide what the call takes
        Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError):
        pass


def _peak_bytes() -> int:
    """VmHWM where there is one: the peak that getrusage tells is inherited from the parent."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# ---------------------------------------------------------------------------------------------
# The report


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.machine()


def environment(packages: Sequence[str], **settings: Any) -> dict[str, Any]:
    """Where and with what a run was made."""
    return {
        "date": date.today().isoformat(),
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch threads": torch.get_num_threads(),
        **settings,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def span(of: Spread) -> str:
    if of[0] == of[1] == of[2]:
        return f"{of[0]:.3g}"
    return f"{of[0]:.2f} [{of[1]:.2f}–{of[2]:.2f}]"


def table_markdown(report: Report, table: str) -> str:
    lines = [line for line in report.lines if line.table == table]
    rows: list[str] = []
    if lines:
        unit = "seconds" if lines[0].unit == "s" else lines[0].unit
        rows = [f"| {table} | {unit} | ratio [quartiles] |", "|---|---|---|"]
    for line in lines:
        relative = span(line.ratio) if line.ratio else "–"
        amount = f"{line.amount:.4f}" if line.unit == "s" else f"{line.amount:.0f}"
        rows.append(f"| {line.contender} | {amount} | {relative} |")
    rows.append("")
    for v in report.verdicts:
        if v.table == table:
            found = "met" if v.met else "missed"
            unit = f" {v.unit}" if v.unit else ""
            rows.append(f"* {v.what}: {span(v.measured)}{unit}, goal at most {v.limit:g}: {found}")
    rows += [f"* {text}" for where, text in report.remarks if where == table]
    return "\n".join(rows) + "\n"


def markdown(where: dict[str, Any], report: Report) -> str:
    head = ", ".join(f"{name} {value}" for name, value in where.items()) + "."
    if report.quick:
        head += " Small sizes, to try the program: no goal applies."
    return "\n".join([head, "", *(table_markdown(report, table) for table in report.tables)])


def as_json(where: dict[str, Any], report: Report) -> str:
    result = {
        "environment": where,
        "lines": [line._asdict() for line in report.lines],
        "goals": [{**v._asdict(), "met": v.met} for v in report.verdicts],
        "remarks": [{"table": table, "text": text} for table, text in report.remarks],
    }
    return json.dumps(result, indent=1) + "\n"


# ---------------------------------------------------------------------------------------------
# The command line


def command_line(description: str, repeats: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", help="names of tables, with commas; a name's beginning will do")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the program")
    parser.add_argument("--repeats", type=int, default=repeats, help="turns after the warm-up")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--markdown", type=Path, help="where to write the tables")
    return parser


def chosen(names: Sequence[str], only: str | None) -> list[str]:
    """Those of `names` that begin with one of the names asked for."""
    if only is None:
        return list(names)
    found: list[str] = []
    for wanted in only.split(","):
        matches = [n for n in names if n == wanted or n.startswith(f"{wanted}-")]
        if not matches:
            raise SystemExit(f"there is no table {wanted!r}; there are {', '.join(names)}")
        found += matches
    return [name for name in names if name in found]


def run_tables(
    tables: dict[str, Callable[[Report], None]],
    options: argparse.Namespace,
    packages: Sequence[str],
) -> int:
    """Make the chosen tables, print each when it is done, write the files; the exit status."""
    torch.set_num_threads(options.threads)
    report = Report(options.repeats, options.quick)
    where = environment(packages, turns=options.repeats)
    disagreements = 0
    for name in chosen(list(tables), options.only):
        done = set(report.tables)
        try:
            tables[name](report)
        except Disagreement as error:  # the other tables are worth having
            disagreements += 1
            report.remark(name, f"not timed: {error}")
        for table in report.tables:
            if table not in done:
                print("\n" + table_markdown(report, table), flush=True)
        # After each table: what was measured is not lost when a later one fails.
        if options.json:
            options.json.write_text(as_json(where, report))
        if options.markdown:
            options.markdown.write_text(markdown(where, report))
    print(markdown(where, report).splitlines()[0])
    return min(disagreements, 1)
