"""The benchmark of few labels runs, resumes, and says what it measures."""

import json

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="not in a source checkout")

from benchmarks import semi_supervised
from benchmarks.semi_supervised import SELF_TRAINING, SUPERVISED, Task, main, methods_of, tables
from skuq import TorchClassifier
from skuq.posteriors import PointEstimate


def run_of(seed, method, accuracy, seconds=1.0):
    known = {"accuracy": accuracy, "NLL": 0.5, "ECE": 0.1, "seconds": seconds}
    return {"task": "digits", "seed": seed, "method": method, "measured": known}


def test_differences_are_paired():
    runs = [run_of(seed, SUPERVISED, 0.8 + 0.01 * seed) for seed in range(4)]
    runs += [run_of(seed, SELF_TRAINING, 0.79 + 0.01 * seed, 3.0) for seed in range(3)]
    text = tables(runs)
    assert f"| {SUPERVISED} | 4 | 0.8150 ± 0.0065 | — |" in text
    assert f"| {SELF_TRAINING} | 3 | 0.8000 ± 0.0058 | −0.0100 ± 0.0000" in text
    assert "| 3.0 × |" in text and "Fashion" not in text


def test_a_quick_run(tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 64)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    network = TorchClassifier(posterior=PointEstimate(), random_state=0)
    small = Task(X[:40], y[:40], np.arange(10), X[40:], y[40:], network, 1)
    monkeypatch.setitem(semi_supervised.TASKS, "digits", lambda seed, folder: small)
    arguments = ["--data", "digits", "--seeds", "1", "--epochs", "2", "--folder", str(tmp_path)]
    assert main([*arguments, "--publish", str(tmp_path)]) == 0
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    assert [json.loads(line)["method"] for line in lines] == methods_of("digits")
    assert all(
        f"| {method} | 1 |" in (tmp_path / "measured.md").read_text()
        for method in methods_of("digits")
    )
    capsys.readouterr()
    main(arguments)
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == len(lines)
