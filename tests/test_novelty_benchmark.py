"""The benchmark of novelty runs, and says what it measures."""

import pytest

pytest.importorskip("benchmarks", reason="not in a source checkout")

from benchmarks import novelty
from benchmarks.novelty import BAR, DEFAULT, MEASURES, NUMBERS, command_line, main, table, verdicts


def run_of(auroc, flagged):
    known = dict(zip(NUMBERS, (auroc, flagged, 0.5, 0.5)))
    return {DEFAULT: {**known, "flagged at 5 %": 0.05}, "entropy": known}


def test_goals_are_of_the_worst_seed():
    good, bad = run_of(0.995, 0.02), run_of(0.989, 0.04)
    assert verdicts([good, good]).count(": met") == len(BAR)
    assert verdicts([good, bad]).count(": missed") == len(BAR)
    assert "0.992 (worst 0.989)" in table("x", [good, bad])
    assert "| entropy | 0.992 | 0.030 |" in table("x", [good, bad])


def test_a_quick_run(tmp_path, monkeypatch, capsys):
    """Without images and times."""
    monkeypatch.setattr(novelty, "images", lambda: None)
    monkeypatch.setattr(novelty, "digits", lambda options: iter(()))
    novelty.digits.__doc__ = novelty.digits.__name__ = "digits"
    assert main(["--quick", "--no-speed", "--publish", str(tmp_path)]) == 0
    text = (tmp_path / "measured.md").read_text()
    assert "no images" in capsys.readouterr().out
    assert all(text.count(f"| {measure} |") == 2 for measure in MEASURES)
    assert command_line().parse_args([]).seeds == 3
