"""The benchmark of label smoothing: its measures and tables, and a quick run."""

import json

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="not in a source checkout")

from benchmarks import label_smoothing as b


def test_tightness():
    """Two classes at ±2, whose rows are one unit from their means: 1 / 4."""
    y = np.repeat([0, 1], 4)
    across = np.tile([1.0, -1.0], 4)
    features = np.stack([np.where(y == 0, -2.0, 2.0), across], axis=1)
    assert b.tightness(features, y) == pytest.approx(1 / 4)
    assert b.tightness(3 * features + 1, y) == pytest.approx(1 / 4)


def test_quality_ranks_by_the_largest_probability():
    y = np.array([0, 0, 1, 1])
    proba = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.6, 0.4]])
    found = b.quality(y, proba, strange=np.full((3, 2), 0.5))
    assert found["error_auroc"] == found["strange_auroc"] == 1
    assert found["aurc"] == pytest.approx(0.25 / 4)  # the error comes last of four


def test_table_pairs_seeds():
    values = {(0.0, 0): 0.1, (0.0, 1): 0.3, (0.1, 0): 0.2, (0.1, 1): 0.4, (0.0, 2): 9.0}
    records = [{"epsilon": e, "seed": s, "error_auroc": v} for (e, s), v in values.items()]
    head, _, row = b.table(records)
    assert head.startswith("| 2 seeds | ε = 0 | ε = 0.1 | 0.1 minus 0")
    assert row == "| error auroc | 0.2000 ± 0.1000 | 0.3000 ± 0.1000 | 0.1000 ± 0.0000 |"


def test_digits_of_temperature_and_test_do_not_mix():
    data = b.load(b.experiment("digits"), 0)
    rows = np.concatenate([data.X, data.X_valid, data.X_test])
    assert len(rows) == 1797 and len(data.X_valid) == 408
    assert len(np.unique(rows.reshape(len(rows), -1), axis=0)) == 1797


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_quick_run_resumes(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    arguments = ["--seeds", "1", "--epochs", "2", "--folder", str(tmp_path / "runs")]
    arguments += ["--publish", str(tmp_path)]
    assert b.main(arguments) == 0
    text = (tmp_path / "digits.md").read_text()
    assert "| tightness |" in text and (tmp_path / "digits.png").exists()
    assert len(list((tmp_path / "runs").rglob("*.json"))) == 2
    monkeypatch.setattr(b, "fit", None)
    b.main(arguments)
    assert (tmp_path / "digits.md").read_text() == text
    record = json.loads(next((tmp_path / "runs").rglob("epsilon0.1*.json")).read_text())
    assert record["epsilon"] == 0.1 and 0 < record["accuracy"] <= 1
