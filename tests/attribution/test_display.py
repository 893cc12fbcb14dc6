"""Pictures of attributions: what they show, not how."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib")

import matplotlib.pyplot as plt

from skuq.attribution import AttributionDisplay, attribute_uncertainty, plot_global
from tests.attribution.helpers import SQUARES, weighted


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def of_images(method="optimized", channels=1):
    X = np.random.default_rng(0).random((4, channels, 4, 8))
    field = np.linspace(0, 1, 32).reshape(4, 8)
    return attribute_uncertainty(weighted(field), X, method=method, segments=SQUARES, sparsity=0.5)


def of_table(method="optimized"):
    X = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.5, 1.5, 5.0]})
    U = lambda x: x[:, 0] + 2 * x[:, 1]
    return attribute_uncertainty(U, X, method=method, background=X * 0, sparsity=0.5)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_images(channels):
    found = of_images(channels=channels)
    display = AttributionDisplay.from_attribution(found, [2, 0], names=["two", "zero"])
    assert display.axes_.shape == (2, 4)
    assert (display.axes_[0, 1].images[0].get_array() == found.values[2]).all()
    assert (display.axes_[1, 2].images[0].get_array() == found.mask[0]).all()
    titles = [ax.get_title() for ax in display.axes_[0]]
    assert titles[0].startswith("two") and f"{found.uncertainty[2]:.4g}" in titles[0]
    assert f"{found.refined_uncertainty[2]:.4g}" in titles[3]
    assert display.figure_ is display.axes_[0, 0].figure
    without = AttributionDisplay.from_attribution(of_images("occlusion"))
    assert without.axes_.shape == (3, 2)
    most = np.argsort(-without.attribution.uncertainty)[:3].tolist()
    assert without.rows == most


def test_bars():
    found = of_table()
    display = AttributionDisplay.from_attribution(found, [1])
    ax = display.axes_[0, 0]
    assert [bar.get_width() for bar in ax.patches] == [2.0, 3.0]
    assert ["a = 2" in t.get_text() or "b = 1.5" in t.get_text() for t in ax.get_yticklabels()]
    frame = AttributionDisplay.from_attribution(found, [1, 0]).frame()
    np.testing.assert_array_equal(frame, found.values[[1, 0]])
    assert list(frame.columns) == ["a", "b"]
    assert "✱" in ax.get_yticklabels()[1].get_text() and "replaced" in ax.get_title()


def test_global():
    found = of_table("occlusion")
    (ax,) = plot_global(found)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([2.0, 14 / 3])
    axes = plot_global(found, ["x", "y", "x"])
    assert [ax.get_title() for ax in axes] == ["x (2 rows)", "y (1 rows)"]
    maps = plot_global(of_images(), [0, 1, 1, 2])
    assert len(maps) == 3
    shown = of_images()
    assert (maps[0].images[0].get_array() == shown.values[0]).all()
    limits = {ax.images[0].get_clim() for ax in maps}
    assert len(limits) == 1  # one scale
    _, given = plt.subplots(1, 3)
    assert list(plot_global(shown, [0, 1, 1, 2], axes=given)) == list(given)


def test_bad_pictures():
    found = of_images()
    for rows in ([4], [], [-5]):
        with pytest.raises(ValueError, match="rows must be some of the 4 rows"):
            AttributionDisplay.from_attribution(found, rows)
    with pytest.raises(ValueError, match="names must hold 1 titles, got 2"):
        AttributionDisplay.from_attribution(found, [0], names=["a", "b"])
    _, axes = plt.subplots(1, 4)
    with pytest.raises(ValueError, match="axes must be 2 lines of 4"):
        AttributionDisplay.from_attribution(found, [0, 1], axes=axes)
    with pytest.raises(ValueError, match="axes must be 1, one for each picture"):
        plot_global(found, axes=axes)
    with pytest.raises(ValueError, match="one label for each"):
        plot_global(found, [1])
