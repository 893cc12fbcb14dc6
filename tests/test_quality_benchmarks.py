"""The tables of quality: how runs become rows, and that all that are listed can be made."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

pytest.importorskip("benchmarks", reason="not in a source checkout")

from benchmarks import quality, quality_dropout, quality_images, quality_runs, quality_tables
from benchmarks.defaults import of_regression
from benchmarks.defaults_models import LEVELS, Forecast, forecasts
from skuq.exceptions import DivergedError

PAGES = Path(__file__).parents[1] / "docs"


def test_a_run_that_was_measured_is_read(tmp_path):
    def diverges():
        raise DivergedError("the loss is NaN")

    path = tmp_path / "runs" / "one.json"
    assert quality_runs.of_run(path, lambda: {"NLL": 0.5}) == {"NLL": 0.5}
    assert quality_runs.of_run(path, diverges) == {"NLL": 0.5}
    assert quality_runs.of_run(tmp_path / "other.json", diverges) == {}


def test_a_cell_is_a_mean_with_its_standard_error():
    assert quality_runs.spread([1.0, 2.0, 3.0]) == "2.000 ± 0.577"
    assert quality_runs.spread([2.0], 1) == "2.0"
    assert quality_runs.spread([2.0, np.nan]) == "–"
    assert quality_runs.spread([2000.0, 2002.0]) == "2001 ± 1"
    assert quality_runs.in_code("PointEstimate(), epochs doubled") == (
        "`PointEstimate()`, epochs doubled"
    )
    assert (
        quality_runs.ratio([{"fit": 4.0}, {"fit": 9.0}], [{"fit": 2.0}, {"fit": 3.0}], "fit")
        == "2.5"
    )


def test_scores_of_a_normal_forecast():
    y = np.array([0.0, 1.0])
    quantiles = norm.ppf(LEVELS) * np.ones((2, 1))
    forecast = Forecast(quantiles, np.zeros(2), lambda y: -norm.logpdf(y).mean())
    scores = of_regression(forecast, y)
    assert scores["nll"] == pytest.approx(0.5 * np.log(2 * np.pi) + 0.25)
    assert scores["rmse"] == pytest.approx(0.5**0.5)
    assert scores["coverage"] == 1 and scores["width"] == pytest.approx(2 * norm.ppf(0.95))


def test_forecasts_of_a_gaussian_process_are_its_normal_distribution():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 1))
    y = X[:, 0] + 0.1 * rng.normal(size=40)
    forecast = forecasts("gp", {}, 0, X, y)(X)
    half = (forecast.quantiles[:, -1] - forecast.quantiles[:, 0]) / 2
    std = half / norm.ppf(0.95)
    np.testing.assert_allclose(forecast.quantiles[:, 9], forecast.mean)
    assert forecast.nll(y) == pytest.approx(-norm.logpdf(y, forecast.mean, std).mean())


def test_log_likelihood_of_draws():
    draws = np.array([[0.0], [2.0]])
    found = quality_dropout.log_likelihood(draws, np.array([1.0]), 0.5)
    assert found == pytest.approx(np.log(norm.pdf(1.0, 0.0, 2**0.5)))


def test_the_page_lists_every_table_with_its_command():
    text = (PAGES / "quality.md").read_text()
    listed = dict(re.findall(r"^\| `([\w-]+)` \|.*\| `(.+?)` \|$", text, re.M))
    assert listed == {name: table.command for name, table in quality.TABLES.items()}
    for table in quality.TABLES.values():
        assert (PAGES / f"{table.page}.md").exists()
        module = table.command.split()[0]
        assert (PAGES.parent / "benchmarks" / f"{module}.py").exists()


@pytest.fixture
def data(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for folder in ("images", "uci"):
        (tmp_path / folder).mkdir()
    for name in ("fashion_mnist_train", "fashion_mnist_test", "mnist_test"):
        X = random.integers(256, size=(300, 28, 28), dtype=np.uint8)
        np.savez(tmp_path / "images" / name, X=X, y=random.integers(10, size=300))
    for name in quality_tables.TABLES:
        X = random.normal(size=(60, 3)).astype(np.float32)
        np.savez(
            tmp_path / "uci" / name,
            X=X,
            y=X[:, 0] + 0.1 * random.normal(size=60),
            test_mask=np.arange(60) % 6 == np.arange(20)[:, None] % 6,
            gal_dropout_rates=[0.01, 0.1],
            gal_tau_values=[10.0, 50.0],
            gal_test_MC_rmse=np.ones(20),
            gal_test_ll=-np.ones(20),
        )
    monkeypatch.setenv("SKUQ_DATA", str(tmp_path))
    monkeypatch.setenv("SKUQ_RUNS", str(tmp_path / "runs"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("program", [quality_images, quality_tables, quality_dropout])
def test_tables_are_made_and_published(program, data, monkeypatch):
    name = program.__name__.rpartition("_")[2]
    make = getattr(program, name)
    monkeypatch.setattr(quality_tables, "PEERS", {"gp": "Gaussian process"})
    monkeypatch.setattr(quality_tables, "TABLES", {"yacht": 20, "kin8nm": 3})
    path = data / "published" / "table.md"
    status = quality_runs.command(make, 20, ["--quick", "--seeds", "2", "--publish", str(path)])
    text = path.read_text()
    assert status == 0 and "published" in text and text.count("±") > 10
    runs = list((data / "runs").rglob("*.json"))
    before = [run.stat().st_mtime_ns for run in runs]
    assert make(2, True) == text  # from the files
    assert before == [run.stat().st_mtime_ns for run in runs]


@pytest.mark.parametrize("program", [quality_images, quality_tables, quality_dropout])
def test_without_data_the_table_says_so(program, tmp_path, monkeypatch):
    monkeypatch.setenv("SKUQ_DATA", str(tmp_path))
    text = getattr(program, program.__name__.rpartition("_")[2])(1, True)
    assert "SKUQ_DATA" in text


def test_no_name_chooses_no_table(monkeypatch):
    monkeypatch.setattr(quality.subprocess, "call", lambda command: pytest.fail("it runs"))
    with pytest.raises(SystemExit, match="there is no table ''; there are tables, "):
        quality.main(["--only", ""])
