"""The benchmark of human labels: its measures against closed forms, and its run on tiny files."""

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="not in a source checkout")

from benchmarks import human_labels as b


def test_divergence():
    human = np.array([[0.5, 0.5], [1.0, 0.0]])
    proba = np.array([[0.9, 0.1], [1.0, 0.0]])
    expected = (0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)) / 2
    assert b.divergence(human, proba) == pytest.approx(expected)
    assert np.isfinite(b.divergence(human, proba[:, ::-1]))


def test_the_temperature_of_people_makes_their_distribution():
    logits = np.random.default_rng(0).normal(size=(1, 200, 4))
    human = b.mean_proba(logits, 2.5)
    assert b.human_temperature(logits, human) == pytest.approx(2.5, rel=1e-4)


def test_mean_of_draws_is_scaled_before_averaging():
    logits = np.log([[[0.8, 0.2]], [[0.2, 0.8]]])
    assert b.mean_proba(logits, 3.0) == pytest.approx(np.full((1, 2), 0.5))
    two = b.mean_proba(logits[:1], 2.0)
    assert two == pytest.approx(np.sqrt([[0.8, 0.2]]) / np.sqrt([0.8, 0.2]).sum())


def test_agreement_is_of_ranks():
    human = np.array([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    assert b.agreement(human, np.array([30.0, 2.0, 1.0])) == pytest.approx(1)


def test_the_bound_rises_with_the_votes():
    random = np.random.default_rng(0)
    shares = random.dirichlet([1, 1, 1], 300)
    few, many = (np.stack([random.multinomial(n, p) for p in shares]) for n in (6, 600))
    assert b.ceiling(few) < 0.95 < b.ceiling(many) < 1


def write_outputs(folder, n):
    """Ten classes, seven classifiers that know the human distribution to some degree."""
    random = np.random.default_rng(0)
    human = random.dirichlet(np.full(10, 0.3), n)
    y = human.argmax(1)
    y[:10] = np.arange(10)
    probs = np.stack([human * 0.7 + 0.3 * random.dirichlet(np.ones(10), n) for _ in range(7)])
    names = np.array([f"net{k}" for k in range(7)])
    np.savez(folder / "cifar10_7models_probs.npz", probs=probs, labels=y, models=names)
    for name in ("lenet-5", "wideresnet-16-4"):
        np.savez(folder / f"netcal_{name}-cifar-10_probs.npz", probs=probs[0], labels=y)
    counts = np.stack([random.multinomial(50, p) for p in human])
    np.savez(folder / "cifar10h_counts.npz", counts=counts, labels=y)


def test_a_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "outputs").mkdir()
    write_outputs(tmp_path / "outputs", 120)
    monkeypatch.setattr(b, "HALF", 60)
    assert b.main(["--data", str(tmp_path), "--seeds", "0", "--publish", str(tmp_path)]) == 0
    text = (tmp_path / "human_labels.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert text.count("\n| ") == 14 + 1 and "mean of the first 7" in text
    with pytest.raises(SystemExit, match="skipped: there is no"):
        b.main(["--data", str(tmp_path / "none")])


@pytest.mark.slow
def test_training(tmp_path, monkeypatch):
    (tmp_path / "outputs").mkdir()
    write_outputs(tmp_path / "outputs", 120)
    monkeypatch.setattr(b, "HALF", 60)
    lines = b.combined_table(b.Outputs(tmp_path / "outputs"), n_seeds=2, n_rows=60)
    assert len(lines) == 2 + 3 + 4
    assert "±" in lines[-1] and "±" not in lines[2]


def test_published_outputs(outputs):
    """Skipped where the data is not at hand."""
    of = b.Outputs(outputs)
    human, proba = of.human[b.HALF :], b.mean_proba(of.draws[:, b.HALF :])
    assert b.divergence(human, proba) == pytest.approx(0.2354, abs=1e-3)
    rho = b.agreement(of.human, b.entropy(b.mean_proba(of.draws)))
    assert rho == pytest.approx(0.3312, abs=1e-3)
