"""The comparison of posteriors on images: what it trains."""

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="not in a source checkout")

from benchmarks import which_images
from benchmarks.harness import Report


def test_halves_are_of_images_of_two_classes():
    X = np.arange(6.0)[:, None, None, None] * np.ones((1, 1, 2, 4))
    y = np.array([0, 0, 1, 1, 2, 2])
    left, right = which_images.halves(X, y)[:, 0, 0, [0, 3]].T.astype(int)
    assert len(left) and (y[left] != y[right]).all()


@pytest.mark.slow
def test_all_posteriors_are_scored(tmp_path, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("fashion_mnist_train", "fashion_mnist_test", "mnist_test"):
        X = random.integers(256, size=(300, 28, 28), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", X=X, y=random.integers(10, size=300))
    monkeypatch.setenv("SKUQ_DATA", str(tmp_path))
    monkeypatch.setenv("SKUQ_RUNS", str(tmp_path / "runs"))
    report = Report(repeats=1, quick=True)
    which_images.images(report)
    text = "\n".join(line for _, line in report.remarks)
    for name in which_images.NAMES:
        assert f"{name}: accuracy" in text
    assert len(list((tmp_path / "runs" / "few-images").iterdir())) == 2 * len(which_images.NAMES)
