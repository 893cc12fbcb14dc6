"""The suite: every table, one after another, then the curves.

    python -m benchmarks.run [--only fit,ensemble] [--quick] [--markdown PATH] [--json PATH]

from the root of the repository. `--list` names the tables; benchmarks/README.md says how they are
measured.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmarks import (
    active_learning_costs,
    attribution,
    calibration,
    dropout,
    ensembles,
    figures,
    gpu,
    posteriors,
    prediction,
    scaling,
    training,
    which_images,
    which_posterior,
)
from benchmarks.harness import Report, torch_threads
from benchmarks.output import as_json, earlier, environment, markdown, table_markdown

TABLES: dict[str, Callable[[Report], None]] = {
    "import": training.importing,
    "fit-short": training.fit_short,
    "fit-long": training.fit_long,
    "fit-conv": training.fit_conv,
    "callback": training.callback,
    "ensemble-mlp": ensembles.ensemble_mlp,
    "ensemble-threads": ensembles.ensemble_threads,
    "ensemble-conv": ensembles.ensemble_conv,
    "dropout-conv": dropout.dropout_conv,
    "dropout-conv-peers": dropout.dropout_conv_peers,
    "dropout-mlp": dropout.dropout_mlp_draws,
    "dropout-memory": dropout.dropout_memory,
    "predict": prediction.predict,
    "answers-mlp": prediction.extra_answers_mlp,
    "answers-conv": prediction.extra_answers_conv,
    "reduction": prediction.reduction,
    "reduction-memory": prediction.reduction_memory,
    "laplace-digits": posteriors.digits,
    "laplace-conv": posteriors.conv,
    "laplace-images": posteriors.images,
    "which-tables": which_posterior.tables,
    "which-digits": which_posterior.digits,
    "which-gap": which_posterior.gap,
    "which-images": which_images.images,
    "which-memory": which_images.memory,
    "queries": active_learning_costs.scores,
    "query-batches": active_learning_costs.batches,
    "temperature-10": calibration.temperature_few_classes,
    "temperature-100": calibration.temperature_many_classes,
    "ece-float32": calibration.error_float32,
    "ece-float64": calibration.error_float64,
    "attribution-cost": attribution.cost,
    "gpu-ensemble": gpu.ensemble,
    "gpu-dropout": gpu.dropout,
    "gpu-fit": gpu.fit,
    **scaling.CURVES,
}

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

PACKAGES = (
    "skuq",
    "torch",
    "numpy",
    "scikit-learn",
    "skorch",
    "torch-uncertainty",
    "lightning",
    "lightning-uq-box",
    "laplace-torch",
    "baal",
    "netcal",
    "torchmetrics",
)


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What skuq costs, as ratios from one run.")
    parser.add_argument("--only", help="names of tables, with commas; a name's beginning will do")
    parser.add_argument("--skip", help="names of tables to leave out, in the same way")
    parser.add_argument("--list", action="store_true", help="print the names of the tables")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the program")
    parser.add_argument("--repeats", type=int, default=7, help="turns after the warm-up")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: time that this process got, where others keep the machine busy; it says nothing "
        "of tables with a GPU, more threads or other processes",
    )
    parser.add_argument("--no-peers", action="store_true", help="leave other packages out")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--markdown", type=Path, help="where to write the tables")
    parser.add_argument("--figures", type=Path, help="a folder for pictures of the curves")
    parser.add_argument(
        "--publish",
        type=Path,
        help="a folder for all three: table.md, numbers.json and the pictures. Tables that it "
        "holds and that are not made anew stay, if the machine and the packages are the same",
    )
    return parser


def chosen(names: Sequence[str], wanted: str) -> list[str]:
    """Those of `names` that are, or begin with, one of those in a list with commas."""
    found: set[str] = set()
    for beginning in wanted.split(","):
        matches = {n for n in names if n == beginning or n.startswith(f"{beginning}-")}
        if not matches:
            raise SystemExit(f"there is no table {beginning!r}; there are {', '.join(names)}")
        found |= matches
    return [name for name in names if name in found]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the chosen tables, print each when it is done, write the files; the exit status."""
    options = command_line().parse_args(arguments)
    if options.list:
        print("\n".join(TABLES))
        return 0
    names = chosen(list(TABLES), options.only) if options.only is not None else list(TABLES)
    left_out = chosen(list(TABLES), options.skip) if options.skip else []
    if options.publish:
        options.publish.mkdir(parents=True, exist_ok=True)
        options.markdown = options.publish / "table.md"
        options.json = options.publish / "numbers.json"
        options.figures = options.publish
    clock = CLOCKS[options.clock]
    report = Report(options.repeats, options.quick, not options.no_peers, clock)
    failed = False
    # What NumPy's own matrix products use is not torch's affair.
    with torch_threads(options.threads), threadpool_limits(options.threads, user_api="blas"):
        if options.publish and not options.quick:
            report = earlier(where(report, options), report, options.json)
        for name in names:
            if name not in left_out:
                failed |= not run_table(name, TABLES[name], report)
                write(report, options)
        print(markdown(where(report, options), report).splitlines()[0])
    return int(failed)


def run_table(name: str, table: Callable[[Report], None], report: Report) -> bool:
    """Whether it could be made; the others are worth having where it could not."""
    print(f"\n== {name}", flush=True)
    made = Report(report.repeats, report.quick, report.with_peers, report.clock)
    try:
        table(made)
    except Exception as error:
        traceback.print_exc()
        report.remark(name, f"not measured: {type(error).__name__}: {error}")
        return False
    report.remarks = [(where, text) for where, text in report.remarks if where != name]
    report.take(made)
    for title in made.tables:
        print("\n" + table_markdown(report, title), flush=True)
    return True


def where(report: Report, options: argparse.Namespace) -> dict[str, object]:
    return environment(PACKAGES, turns=report.repeats, clock=options.clock)


def write(report: Report, options: argparse.Namespace) -> None:
    """After each table: what was measured is not lost when a later one is interrupted."""
    if options.json:
        options.json.write_text(as_json(where(report, options), report))
    if options.markdown:
        options.markdown.write_text(markdown(where(report, options), report))
    if options.figures and report.curves:
        figures.draw(report.curves, options.figures)


if __name__ == "__main__":
    sys.exit(main())
