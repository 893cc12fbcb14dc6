"""The benchmark of losses for noisy labels: that it resumes, what its tables say, and its claim."""

import dataclasses
import json
import re
import types

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="not in a source checkout")

from benchmarks import label_noise, label_noise_runs
from benchmarks.label_noise import main
from benchmarks.label_noise_output import cell, differences, mean_and_error, paired, table
from benchmarks.label_noise_runs import LOSSES, data_folder, experiment, fit, measure
from skuq.datasets import noise_scores

QUICK = ["--data", "digits", "--quick", "--epochs", "1", "--rates", "0,0.4", "--losses",
         "CE;UANLL, identity"]  # fmt: skip


@pytest.mark.slow
def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    arguments = [*QUICK, "--folder", str(tmp_path), "--publish", str(tmp_path / "published")]
    assert main(arguments) == 0
    (folder,) = (tmp_path / "digits").iterdir()
    records = sorted(folder.glob("*.json"))
    assert len(records) == len(list(folder.glob("*.joblib"))) == 4
    assert len(list((tmp_path / "published").glob("*.svg"))) == 2
    text = (folder / "digits.md").read_text()
    assert "1 seed\n" in text and text.count("| UANLL, identity |") == 2
    before = {path: json.loads(path.read_text()) for path in records}
    assert {"valid_nll", "valid_accuracy", "valid_clean", "train_loss"} == set(
        before[records[0]]["history"][0]
    )

    fits = []
    monkeypatch.setattr(label_noise, "fit", lambda *args: fits.append(args) or fit(*args))
    main(arguments)
    assert not fits and json.loads(records[0].read_text()) == before[records[0]]
    lost = next(path for path in records if "rate0-ce" in path.name)
    lost.unlink()
    main(arguments)
    assert [run[1:] for run in fits] == [("CE", 0.0, 0)]
    assert json.loads(lost.read_text())["views"] == before[lost]["views"]  # to the bit
    main([*arguments, "--lr", "0.01"])
    assert len(fits) == 5  # other settings are other runs


def test_views_are_measured_later(tmp_path, monkeypatch):
    """With skuq.augmentation there, networks that are fitted already are asked once more."""
    pytest.importorskip("matplotlib")
    arguments = [*QUICK, "--folder", str(tmp_path)]
    monkeypatch.setattr(label_noise, "test_time_augmented", lambda fitted: None)
    main(arguments)
    path = next(tmp_path.rglob("*rate0.4-ce.json"))
    assert list(json.loads(path.read_text())["views"]) == ["one"]
    monkeypatch.setattr(label_noise, "test_time_augmented", lambda fitted: fitted.model)
    monkeypatch.setattr(label_noise, "fit", None)
    main(arguments)
    views = json.loads(path.read_text())["views"]
    assert views["tta"] == views["one"]
    assert "| CE + TTA |" in next(tmp_path.rglob("digits.md")).read_text()

    of_an_earlier_program = json.loads(path.read_text())
    del of_an_earlier_program["views"]["one"]["pair_accuracy"]
    path.write_text(json.dumps(of_an_earlier_program))
    main(arguments)
    assert json.loads(path.read_text())["views"] == views


def record(loss, seed, rate, **numbers):
    return {"loss": loss, "seed": seed, "rate": rate, "views": {"one": numbers}}


def test_tables():
    records = [
        record(loss, seed, 0.4, accuracy=accuracy, nll=1.0)
        for loss, accuracies in (("CE", (0.7, 0.8, 0.6)), ("UANLL", (0.8, 0.8, 0.8)))
        for seed, accuracy in enumerate(accuracies)
    ]
    assert paired(records, "UANLL", "CE") == pytest.approx([0.1, 0.0, 0.2])
    error = np.std([0.1, 0.0, 0.2], ddof=1) / np.sqrt(3)
    assert f"| UANLL | +0.1000 ± {error:.4f} |" in differences(records)
    assert "| CE | 0.7000 ± 0.0577 | 1.0000 ± 0.0000 |" in table(records)
    assert mean_and_error([0.0, 2.0]) == pytest.approx((1.0, 1.0))
    assert cell([0.5]) == "0.5000"  # one seed has no error
    assert cell([0.5, None]) == cell([None]) == "–"


def test_measures_are_of_clean_test_labels_and_noisy_training_labels():
    of = dataclasses.replace(experiment("digits"), epochs=8)
    fitted = fit(of, "UANLL, identity", 0.2, seed=3)
    model, data = fitted.model, fitted.data
    found = measure(model, fitted, of.pairs)
    assert found["accuracy"] == model.score(data.X_test, data.y_test)
    y = data.y_test
    assert found["nll"] == pytest.approx(
        -model.predict_log_proba(data.X_test)[range(len(y)), y].mean()
    )
    partner = {**dict(of.pairs), **{b: a for a, b in of.pairs}, 2: 2, 4: 4}
    predicted = model.predict(data.X_test)
    alike = [p in (label, partner[label]) for p, label in zip(predicted, y)]
    assert found["accuracy"] < found["pair_accuracy"] == np.mean(alike)
    weight = 1 / noise_scores(model, data.X, fitted.y_noisy).noise_variance
    untouched = (data.y == 2) | (data.y == 4)
    assert found["untouched_weight"] == pytest.approx(weight[untouched].sum() / weight.sum())
    assert (fitted.y_noisy != data.y).sum() == fitted.flipped.sum() > 100
    assert found["flip_auroc_loss"] > 0.7
    last = model.history_[-1]
    assert last["valid_clean"] == pytest.approx(model.score(data.X_valid, data.y_valid))
    assert last["valid_accuracy"] < last["valid_clean"]


def test_losses_differ_in_nothing_else():
    of = dataclasses.replace(experiment("digits"), epochs=1)
    fits = [fit(of, loss, 0.4, seed=0) for loss in LOSSES]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.y_noisy, fits[0].y_noisy)
        ours, theirs = (f.model.get_params(deep=False) for f in (fits[0], other))
        assert {k for k in ours if str(ours[k]) != str(theirs[k])} == {"likelihood"}


def test_bad_options(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="there is no loss 'MSE'"):
        main(["--losses", "MSE"])
    with pytest.raises(SystemExit, match="must be positive"):
        main(["--epochs", "0"])
    monkeypatch.setenv("SKUQ_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match=re.escape(f"skipped: there is no {tmp_path}/images")):
        main(["--quick", "--folder", str(tmp_path)])


def test_fashion_mnist_is_split_without_overlap():
    if not (data_folder() / "images").is_dir():
        pytest.skip(f"no images in {data_folder()}")
    data = label_noise_runs.fashion_mnist(0, 3000)
    assert data.X.shape == (3000, 1, 28, 28) and len(data.y_valid) == 2000
    assert len(data.y_test) == 10_000 and (np.bincount(data.y) == 300).all()
    rows = {row.tobytes() for row in data.X}
    assert sum(row.tobytes() in rows for row in data.X_valid) < 5  # a few images are there twice
    everything = label_noise_runs.fashion_mnist(0, 60_000)
    assert len(everything.y) == 58_000


def test_without_test_time_augmentation(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(label_noise_runs, "importlib", types.SimpleNamespace(import_module=absent))
    assert label_noise_runs.test_time_augmented(None) is None


def test_with_test_time_augmentation():
    pytest.importorskip("skuq.augmentation")
    of = dataclasses.replace(experiment("digits"), epochs=8)
    fitted = fit(of, "UANLL, identity", 0.2, seed=0)
    views = label_noise_runs.test_time_augmented(fitted)
    found, alone = (measure(asked, fitted, of.pairs) for asked in (views, fitted.model))
    assert views.n_views_ == 4 and found["nll"] != alone["nll"]
    assert found["accuracy"] == pytest.approx(alone["accuracy"], abs=0.1)
    assert found["flip_auroc_loss"] == pytest.approx(alone["flip_auroc_loss"], abs=0.1)


@pytest.mark.slow
def test_uanll_bears_noisy_labels_better_than_cross_entropy():
    """On digits at 40 %, ten seeds, the settings of both chosen together on other seeds."""
    of = experiment("digits")
    gains = []
    for seed in range(10):
        accuracies = []
        for loss in ("UANLL, identity", "CE"):
            fitted = fit(of, loss, 0.4, seed)
            accuracies.append(fitted.model.score(fitted.data.X_test, fitted.data.y_test))
        gains.append(accuracies[0] - accuracies[1])
    mean, error = mean_and_error(gains)
    assert mean > error > 0  # measured: 0.022 and 0.010
