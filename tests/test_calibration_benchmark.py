"""The benchmark of calibrators: its matrices over logits, and its run on tiny files."""

import json

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

pytest.importorskip("benchmarks", reason="not in a source checkout")

from benchmarks import calibration_outputs as b
from benchmarks import calibrators
from benchmarks.quality_runs import spread
from skuq.calibration import fit_vector_scaling
from tests.calibration.test_matrix import planted


def test_without_a_penalty_it_is_logistic_regression():
    logits, y, *_ = planted(500)
    found = calibrators.logit_matrix(logits, y)(logits)
    x = log_softmax(logits, axis=1)
    expected = LogisticRegression(C=1e8, max_iter=5000, tol=1e-8).fit(x, y).predict_proba(x)
    np.testing.assert_allclose(np.exp(found), expected, atol=1e-3)


def test_penalties_of_the_matrix_over_logits():
    logits, y, *_ = planted(300)
    x = log_softmax(logits, axis=1)
    near_one = calibrators.over_logits(x, y, 1e6, 1e6, 1e6)
    np.testing.assert_allclose(near_one, np.column_stack([np.zeros(3), np.eye(3)]), atol=1e-5)
    free = calibrators.over_logits(x, y, 0.0, 1e6, 0.0)  # a vector scaling without a penalty
    off = free[:, 1:][~np.eye(3, dtype=bool)]
    np.testing.assert_allclose(off, 0, atol=1e-5)
    scale, bias = fit_vector_scaling(x, y, l2=0)
    np.testing.assert_allclose(np.diag(free[:, 1:]), scale, atol=2e-3)
    np.testing.assert_allclose(free[:, 0] - free[:, 0].mean(), bias, atol=2e-3)


@pytest.mark.parametrize("name", list(b.METHODS))
def test_each_calibrator_gives_log_probabilities_that_fit(name):
    logits, y, *_ = planted(400)
    found = b.METHODS[name](3 * logits, y)(3 * logits)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1)
    before = log_loss(y, np.exp(log_softmax(3 * logits, axis=1)))
    after = log_loss(y, np.exp(found))
    assert after == pytest.approx(before) if name == "uncalibrated" else after < before - 0.1


def test_mean_and_standard_error():
    assert spread(np.array([1.0, 2.0, 3.0]), 3) == "2.000 ± 0.577"
    assert spread(np.array([1.0]), 1) == "1.0"
    assert spread(np.array([]), 1) == "–"


def write_outputs(folder, n=120):
    (folder / "outputs").mkdir(parents=True)
    random = np.random.default_rng(0)
    proba = random.dirichlet(np.full(3, 0.5), (7, n))
    labels = (random.random((n, 1)) > proba[0].cumsum(1)).sum(1).clip(max=2)
    names = np.array([f"cifar10_net{k}" for k in range(7)])
    path = folder / "outputs" / "cifar10_7models_probs.npz"
    np.savez(path, probs=proba, labels=labels, models=names)
    entries = [
        {"name": f"net{k}", "T_first_half": 1.0, "ece15_second_half_after": 0.1} for k in range(7)
    ]
    (folder / "outputs" / "reference.json").write_text(json.dumps(entries))


def test_a_run_can_go_on(tmp_path, monkeypatch, capsys):
    write_outputs(tmp_path)
    monkeypatch.setattr(b, "reference_table", lambda folder: "the reference")
    options = ["--data", str(tmp_path), "--output", str(tmp_path / "kept"), "--rows", "30,60"]
    options += ["--publish", str(tmp_path / "docs"), "--only", "net0"]
    assert b.main([*options, "--halves", "1"]) == 0
    first = tmp_path / "kept" / "cifar10_net0-100.json"
    measured, stamp = json.loads(first.read_text()), first.stat().st_mtime_ns
    assert measured.keys() == {"30", "60"} and measured["30"].keys() == set(b.METHODS)
    assert b.main([*options, "--halves", "2", "--slow-halves", "1"]) == 0
    assert first.stat().st_mtime_ns == stamp  # not again
    assert (tmp_path / "kept" / "cifar10_net0-101.json").exists()
    table = (tmp_path / "docs" / "table.md").read_text()
    assert "the reference" in capsys.readouterr().out and table.count("| `MatrixScaler` | ") == 2
    lines = [line for line in table.splitlines() if line.startswith("| uncalibrated")]
    cells = lines[0].split("|")[1:]
    other = json.loads((tmp_path / "kept" / "cifar10_net0-101.json").read_text())
    values = [half["30"]["uncalibrated"]["NLL"] for half in (measured, other)]
    assert cells[2].strip() == spread(np.array(values), 4)
    assert set(other["30"]) == set(b.METHODS) - set(b.SLOW)  # in the first half only
    assert any(line.startswith("| the same, ODIR | 1 | ") for line in table.splitlines())
    with pytest.raises(SystemExit, match="give the folder with --data"):
        b.main(["--data", str(tmp_path / "nothing")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "0"], "--rows must be numbers of at least 2"),
        (["--rows", "500,x"], "--rows must be numbers of at least 2"),
        (["--halves", "0"], "--halves must be at least 1"),
        (["--slow-halves", "-1"], "--slow-halves must be at least 0"),
        (["--only", "nonsense"], "'nonsense' is in no name; they are cifar10_net0"),
    ],
)
def test_options_that_say_nothing(tmp_path, capsys, options, message):
    write_outputs(tmp_path, n=4)
    with pytest.raises(SystemExit):
        b.main(["--data", str(tmp_path), "--publish", str(tmp_path / "docs"), *options])
    assert message in capsys.readouterr().err and not (tmp_path / "docs").exists()


def test_halves_are_apart(monkeypatch):
    """Rows that calibrate never judge, and fewer rows are a part of more."""
    seen = []

    def spy(logits, y):
        seen.append(logits[:, 0].copy())

        def calibrated(z):
            seen.append(z[:, 0].copy())
            return log_softmax(z, axis=1)

        return calibrated

    monkeypatch.setattr(b, "METHODS", {"spy": spy})
    proba = np.random.default_rng(0).dirichlet(np.ones(3), 100)
    for rows in (20, 1000):
        b.judged(proba, np.arange(100) % 3, 100, rows, ["spy"])
    few, test, all_, test_again = seen
    assert (len(few), len(all_), len(test)) == (20, 50, 50)
    assert np.array_equal(test, test_again) and np.array_equal(few, all_[:20])
    assert len(np.union1d(all_, test)) == 100
