"""The benchmarks of segmentation: what they count, on tiny data."""

import json

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="not in a source checkout")

from benchmarks import segmentation, segmentation_shapes
from benchmarks.segmentation_quality import summary_of


def test_the_table_of_claims():
    names = {name for claim in segmentation_shapes.CLAIMS for name in claim[:2]}
    runs = [dict.fromkeys(names, 0.5), dict.fromkeys(names, 0.5)]
    more, less = "its members: NLL", "ensemble: NLL"
    runs[0][more], runs[1][more] = 0.7, 0.4
    runs[0]["MC dropout: mean IoU"] = 0.496  # within half a point
    lines = segmentation_shapes.table(runs).splitlines()
    assert lines[0].startswith("2 seeds")
    (row,) = (line for line in lines if line.startswith(f"| {more} | {less}"))
    assert row.endswith("| 0.0500 ± 0.1500 | 1 of 2 |")
    (row,) = (line for line in lines if line.startswith("| MC dropout: mean IoU | the same"))
    assert row.endswith("| -0.0020 ± 0.0020 (at least -0.005) | 2 of 2 |")


def test_borders_leave_out_void():
    y = np.zeros((1, 4, 8), int)
    y[0, :, 3:] = 1
    y[0, :, 7] = segmentation.VOID
    found = segmentation.borders(y)[0]
    assert np.array_equal(found, np.isin(np.arange(8), (2, 3))[None].repeat(4, 0))


def test_images_are_means_of_blocks_and_masks_are_not(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    X = generator.integers(256, size=(2, 5, 6, 3), dtype=np.uint8)
    Y = generator.integers(12, size=(2, 5, 6), dtype=np.uint8)
    np.savez(tmp_path / "camvid_180x240_train.npz", X=X, Y=Y)
    monkeypatch.setattr(segmentation, "FOLDER", tmp_path)
    small, masks = segmentation.camvid("train", 2)
    assert small.shape == (2, 3, 2, 3) and small.dtype == np.float32
    np.testing.assert_allclose(small[1, 2, 1, 0], X[1, 2:4, :2, 2].mean() / 255, rtol=1e-6)
    assert np.array_equal(masks, Y[:, :4:2, ::2])


@pytest.mark.slow
def test_the_experiments_run(tmp_path, monkeypatch, capsys):
    segmentation_shapes.main(["--quick", "--folder", str(tmp_path), "--publish", str(tmp_path)])
    assert "| in seeds |" in (tmp_path / "shapes.md").read_text()
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        X = generator.integers(256, size=(9, 180, 240, 3), dtype=np.uint8)
        Y = np.broadcast_to((np.arange(240) // 20).astype(np.uint8), (9, 180, 240))
        np.savez(tmp_path / f"camvid_180x240_{part}.npz", X=X, Y=Y)
    monkeypatch.setattr(segmentation, "FOLDER", tmp_path)
    for part in ("memory", "loss", "quality", "peers", "cost"):
        path = tmp_path / f"{part}.json"
        seeds = ["--seeds", "2", "--folder", str(tmp_path)]
        segmentation.main(["--part", part, "--quick", "--json", str(path), *seeds])
        found = json.loads(path.read_text())
        assert found["options"]["part"] == part
    assert found["every block: skuq"]["seconds"] > 0


def test_means_and_errors_of_runs():
    runs = [{"a": 1.0, "b": {"c": 2.0, "each": [0.1]}}, {"a": 3.0, "b": {"c": 2.0, "each": [0.2]}}]
    assert summary_of(runs) == {"a": (2.0, 1.0), "b, c": (2.0, 0.0)}
    assert summary_of(runs[:1])["a"] == (1.0, None)
