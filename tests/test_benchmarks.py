"""The benchmarks' harness on contenders that do next to nothing: what is told, not how long."""

import json
import time

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="not in a source checkout")

from benchmarks import calibration, peers, prediction
from benchmarks.harness import Bar, Curve, Disagreement, Report, check, exponent, measure, ratio
from benchmarks.memory import extra_memories, extra_memory
from benchmarks.models import logits_and_labels
from benchmarks.output import as_json, earlier, markdown
from benchmarks.run import TABLES, chosen, main, run_table

CONTENDERS = {"short": lambda: time.sleep(0.001), "long": lambda: time.sleep(0.003)}


@pytest.mark.slow
def test_a_turn_is_a_time_of_each_and_the_slow_have_few():
    calls = []
    contenders = {name: lambda name=name: calls.append(name) for name in ("a", "b", "c")}
    times = measure(contenders, repeats=5, slow={"c"})
    assert [len(times[name]) for name in "abc"] == [5, 5, 2]
    assert [calls.count(name) for name in "abc"] == [6, 6, 3]  # with a turn of warm-up
    assert calls[:3] == ["a", "b", "c"] and calls[3:6] == ["b", "c", "a"]


def test_ratios_are_of_turns():
    assert ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0])[0] == 3.0
    assert ratio([2.0, 30.0], [1.0, 10.0, 2.0])[0] == 2.5  # the slow took part in two alone


def test_report_in_markdown_and_json():
    report = Report(repeats=2)
    report.time("sleep", CONTENDERS, [Bar("long", "short", 1e6), Bar("long", "short", 1e-6)])
    report.memory("space", "nothing", 3.0, limit=2.0)
    report.remark("a GPU", "unmeasured")
    report.curves.append(Curve("rows", "sleep", [1, 10, 100, 1000], [9.0, 9.0, 1.0, 100.0], "s"))
    text = markdown({"date": "today"}, report)
    assert "goal at most 1e+06: met" in text and "goal at most 1e-06: missed" in text
    assert "nothing: 3 MiB, goal at most 2: missed" in text
    assert "**a GPU**" in text and "* unmeasured" in text
    assert "| sleep, against rows | 1: 9 s | 1,000: 100 s | 2.00 |" in text
    found = json.loads(as_json({"date": "today"}, report))
    assert [goal["met"] for goal in found["goals"]] == [True, False, False]
    assert found["curves"][0]["exponent"] == pytest.approx(2)
    assert found["lines"][0]["ratio"] == [1, 1, 1]


def test_small_sizes_have_no_goals():
    report = Report(repeats=1, quick=True)
    report.time("sleep", CONTENDERS, [Bar("long", "short", 1e-6)])
    assert report.verdicts == [] and report.sized(1000, 10) == 10


def test_what_disagrees_is_not_timed_and_does_not_stop_the_rest():
    check("twins", [1.0, 2.0], [1.0, 2.0], 0)
    with pytest.raises(Disagreement, match=r"differ by 1, more than 0\.5"):
        check("strangers", 1.0, 2.0, 0.5)
    with pytest.raises(Disagreement):
        check("NaN", np.nan, np.nan, 1.0)

    def table(report):
        check("strangers", 1.0, 2.0, 0.5)

    report = Report(repeats=1)
    assert not run_table("a table", table, report)
    assert "not measured: Disagreement" in report.remarks[0][1]


def test_exponent():
    sizes = np.array([1, 10, 100])
    assert exponent(sizes, 5.0 * sizes**1.5) == pytest.approx(1.5)


def allocate(mebibytes):
    return lambda: np.ones(mebibytes * 2**17).sum()


@pytest.mark.slow
def test_extra_memory():
    assert 60 < extra_memory(allocate, 64) < 80
    large, small = extra_memories(allocate, [(128,), (32,)])
    assert 120 < large < 140 and 30 < small < 45


def test_names_of_tables():
    assert chosen(list(TABLES), "fit,ece-float32") == [
        "fit-short",
        "fit-long",
        "fit-conv",
        "ece-float32",
    ]
    with pytest.raises(SystemExit, match="no table 'nothing'"):
        chosen(list(TABLES), "nothing")


def test_peers_that_are_missing_are_named(monkeypatch):
    monkeypatch.setitem(peers.PACKAGES, "netcal", "a_package_that_is_not_there")
    report = Report(repeats=1)
    assert peers.present(report, "a table", {"netcal": print}) == {}
    assert report.remarks == [("a table", "left out, not installed: netcal")]
    assert peers.present(Report(1, with_peers=False), "a table", {"torchmetrics": print}) == {}


def test_the_gpu_is_unmeasured_without_one(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    path = tmp_path / "table.md"
    assert main(["--only", "gpu-fit", "--markdown", str(path), "--quick"]) == 0
    assert "unmeasured: this machine has no CUDA device" in path.read_text()


def test_references_agree():
    """What the tables compare skuq with is right by itself."""
    logits, y = logits_and_labels(2000, 4)
    best = calibration.reference_temperature(logits, y)
    losses = [calibration.negative_log_likelihood(logits, y, best * f) for f in (0.99, 1, 1.01)]
    assert losses[1] == min(losses)
    draws = prediction.random_logits(7, 50, 4)
    for a, b in zip(prediction.stacked_torch(draws), prediction.skuq_reduction(draws)):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.figures import draw

    curves = [
        Curve("rows", name, [1000, 10_000], [0.0, scale], unit)
        for name, scale in (("fit", 1.0), ("predict", 2.0))
        for unit in ("s", "MiB")
    ]
    (path,) = draw(curves, tmp_path)
    assert path.name == "curves-rows.svg" and path.stat().st_size > 1000


def test_tables_that_are_not_made_anew_stay(tmp_path):
    where, report = {"date": "today", "torch": "1"}, Report(repeats=1)
    report.time("sleep", CONTENDERS, [Bar("long", "short", 1e6)])
    report.memory("space", "nothing", 3.0, limit=2.0)
    report.curves.append(Curve("rows", "sleep", [1, 10], [9.0, 9.0], "s"))
    path = tmp_path / "numbers.json"
    path.write_text(as_json(where, report))
    again = earlier({"date": "tomorrow", "torch": "1"}, Report(repeats=1), path)
    assert as_json(where, again) == as_json(where, report)
    made = Report(repeats=1)
    made.memory("space", "nothing", 1.0, limit=2.0)
    again.take(made)
    assert again.tables == ["sleep", "space"]
    assert [v.met for v in again.verdicts if v.table == "space"] == [True]
    assert earlier({"torch": "2"}, Report(repeats=1), path).tables == []
    assert earlier(where, Report(repeats=1), tmp_path / "missing").tables == []
