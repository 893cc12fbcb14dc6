"""What a run writes: where and with what it was made, tables in Markdown, numbers in JSON."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Curve, Line, Report, Spread, Verdict


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.machine()


def environment(packages: Sequence[str], **settings: Any) -> dict[str, Any]:
    """Where and with what a run was made; packages that are absent are left out."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    versions = {name: version(name) for name in packages}
    return {
        "date": date.today().isoformat(),
        "processor": processor(),
        "GPU": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "torch threads": torch.get_num_threads(),
        **settings,
        "python": platform.python_version(),
        **{name: found for name, found in versions.items() if found is not None},
    }


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def span(of: Spread) -> str:
    if of[0] == of[1] == of[2]:
        return f"{of[0]:.3g}"
    digits = 2 if of[0] >= 0.1 else 3
    return f"{of[0]:.{digits}f} [{of[1]:.{digits}f}–{of[2]:.{digits}f}]"


def table_markdown(report: Report, table: str) -> str:
    lines = [line for line in report.lines if line.table == table]
    rows: list[str] = []
    if lines:
        unit = "seconds" if lines[0].unit == "s" else lines[0].unit
        rows = [f"| {table} | {unit} | ratio [quartiles] |", "|---|---|---|"]
    else:
        rows = [f"**{table}**"]
    for line in lines:
        relative = span(line.ratio) if line.ratio else "–"
        amount = f"{line.amount:.0f}" if line.unit == "MiB" else f"{line.amount:.4f}"
        rows.append(f"| {line.contender} | {amount} | {relative} |")
    rows.append("")
    for v in report.verdicts:
        if v.table == table:
            found = "met" if v.met else "missed"
            unit = f" {v.unit}" if v.unit else ""
            rows.append(f"* {v.what}: {span(v.measured)}{unit}, goal at most {v.limit:g}: {found}")
    rows += [f"* {text}" for where, text in report.remarks if where == table]
    return "\n".join(rows) + "\n"


def curves_markdown(curves: Sequence[Curve]) -> str:
    rows = [
        "| curve | from | to | exponent of the upper half |",
        "|---|---|---|---|",
    ]
    for curve in curves:
        ends = [
            f"{size:,}: {amount:.3g} {curve.unit}"
            for size, amount in list(zip(curve.sizes, curve.amounts))[:: len(curve.sizes) - 1]
        ]
        power = "–" if curve.exponent is None else f"{round(curve.exponent, 2) + 0:.2f}"
        rows.append(f"| {curve.series}, against {curve.along} | {ends[0]} | {ends[-1]} | {power} |")
    return "\n".join(rows) + "\n"


def markdown(where: dict[str, Any], report: Report) -> str:
    head = ", ".join(f"{name} {value}" for name, value in where.items()) + "."
    if report.quick:
        head += " Small sizes, to try the program: no goal applies."
    parts = [head, "", *(table_markdown(report, table) for table in report.tables)]
    if report.curves:
        parts.append(curves_markdown(report.curves))
    return "\n".join(parts)


def as_json(where: dict[str, Any], report: Report) -> str:
    result = {
        "environment": where,
        "quick": report.quick,
        "lines": [line._asdict() for line in report.lines],
        "goals": [{**v._asdict(), "met": v.met} for v in report.verdicts],
        "curves": [{**c._asdict(), "exponent": c.exponent} for c in report.curves],
        "remarks": [{"table": table, "text": text} for table, text in report.remarks],
    }
    return json.dumps(result, indent=1) + "\n"


def earlier(where: dict[str, Any], report: Report, path: Path) -> Report:
    """What a run on the same machine with the same packages has left in a file of numbers."""
    if not path.exists():
        return report
    found = json.loads(path.read_text())
    before, settings = found["environment"], {"date", "turns"}
    if found["quick"] or any(before.get(k) != where.get(k) for k in {*before, *where} - settings):
        return report

    def spread(values: Any) -> Any:
        return None if values is None else tuple(values)

    lines = [Line(**{**line, "ratio": spread(line["ratio"])}) for line in found["lines"]]
    report.lines = lines
    for goal in found["goals"]:
        goal.pop("met")
        report.verdicts.append(Verdict(**{**goal, "measured": spread(goal["measured"])}))
    for curve in found["curves"]:
        curve.pop("exponent")
        report.curves.append(Curve(**curve))
    report.remarks = [(remark["table"], remark["text"]) for remark in found["remarks"]]
    return report
