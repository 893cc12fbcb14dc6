"""The picture of a segmenter: every column shows the numbers that the display holds."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from skuq import TorchSegmenter
from skuq.metrics import SegmentationDisplay
from skuq.posteriors import MCDropout


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


@pytest.fixture
def maps():
    """Two images of three colours, masks, predictions, aleatoric, epistemic."""
    generator = np.random.default_rng(0)
    X = generator.normal(size=(2, 3, 4, 5))
    y, predicted = generator.choice(["a", "b", "c"], size=(2, 2, 4, 5)).astype("<U4")
    y[0, 0, :2] = "void"
    aleatoric, epistemic = generator.random((2, 2, 4, 5))
    aleatoric[0, 0, 0] = 7.0  # of a pixel that does not count
    return X, y, predicted, aleatoric, epistemic


OPTIONS = {"labels": ["a", "b", "c"], "ignore_label": "void"}


def pictures(display, column):
    return [ax.get_images()[0].get_array() for ax in display.axes_[:, column]]


def test_columns_show_the_numbers(maps):
    X, y, predicted, aleatoric, epistemic = maps
    display = SegmentationDisplay.from_predictions(*maps, **OPTIONS, name="network")
    assert display.axes_.shape == (2, 5) and display.ax_ is display.axes_[0, 0]
    titles = [ax.get_title() for ax in display.axes_[0]]
    assert titles == ["image", "truth", "prediction", "aleatoric", "epistemic"]
    assert display.figure_.get_suptitle() == "network"
    truth, guess = (np.searchsorted(["a", "b", "c"], m) for m in (y, predicted))
    counted = y != "void"
    for i in range(2):
        shown = pictures(display, 1)[i]
        assert np.array_equal(np.ma.getmaskarray(shown), ~counted[i])
        assert np.array_equal(shown[counted[i]], truth[i][counted[i]])
        assert np.array_equal(pictures(display, 2)[i], guess[i])
        assert np.array_equal(pictures(display, 3)[i], aleatoric[i])
        assert np.array_equal(pictures(display, 4)[i], epistemic[i])
        order = np.argsort(X[i].ravel())
        image = np.moveaxis(pictures(display, 0)[i], -1, 0).ravel()
        assert (np.diff(image[order]) >= 0).all() and 0 <= image.min() < image.max() <= 1


def test_a_bar_for_each_column_and_one_scale(maps):
    _, y, _, aleatoric, epistemic = maps
    display = SegmentationDisplay.from_predictions(*maps, **OPTIONS, class_names=("A", "B", "C"))
    assert len(display.bars_) == 4
    for bar in display.bars_[:2]:
        assert [text.get_text() for text in bar.ax.get_xticklabels()] == ["A", "B", "C"]
    for bar, column, part in zip(display.bars_[2:], (3, 4), (aleatoric, epistemic)):
        most = part[y != "void"].max()
        limits = {ax.get_images()[0].get_clim() for ax in display.axes_[:, column]}
        assert limits == {(0.0, most)} and (bar.vmin, bar.vmax) == (0.0, most)
        assert bar.ax.get_xlabel() == "nats"
    assert display._largest([np.zeros((4, 5))] * 2) == 1.0


def test_pixels_that_do_not_count_are_hatched(maps):
    display = SegmentationDisplay.from_predictions(*maps, **OPTIONS)
    for row, hatched in ((0, True), (1, False)):
        for column, ax in enumerate(display.axes_[row]):
            sets = [c for c in ax.collections if c.hatches == ["////"]]
            assert len(sets) == (hatched and column > 0)
            if sets:  # the two left pixels of the first line, up to the border
                corners = sets[0].get_paths()[0].vertices
                assert corners[:, 0].min() == -1 and corners[:, 0].max() == 1.5
                assert corners[:, 1].max() == 0.5
                assert ax.get_xlim() == (-0.5, 4.5) and ax.get_ylim() == (3.5, -0.5)


def test_without_masks_and_in_a_given_place(maps):
    X, _, predicted, aleatoric, epistemic = maps
    figure, axes = plt.subplots(1, 2)
    display = SegmentationDisplay.from_predictions(
        X[:, :1], None, predicted, aleatoric, epistemic, ax=axes[1], cmap="magma", **OPTIONS
    )
    assert display.axes_.shape == (2, 4) and display.figure_ is figure
    assert display.ax_ is axes[1] and len(display.bars_) == 4  # that of the grey image, too
    assert pictures(display, 0)[1] is not None
    np.testing.assert_array_equal(pictures(display, 0)[1], X[1, 0])
    assert display.axes_[0, 2].get_images()[0].get_cmap().name == "magma"
    assert display.axes_[0, 0].get_position().x0 > 0.5
    assert display._largest(aleatoric) == 7.0


@pytest.mark.parametrize("n_classes", [8, 11, 25])
def test_many_classes_have_different_colours(n_classes):
    labels = np.arange(n_classes)
    mask = labels[None, None]
    zero = np.zeros(mask.shape)
    display = SegmentationDisplay.from_predictions(
        zero[:, None], mask, mask, zero, zero, labels=labels
    )
    image = display.axes_[0, 1].get_images()[0]
    colours = image.cmap(image.norm(labels))
    assert len(np.unique(colours, axis=0)) == n_classes


def test_images_may_differ_in_size():
    masks = [np.zeros((3, 4), int), np.ones((5, 2), int)]
    images = [np.zeros((1, *mask.shape)) for mask in masks]
    maps = [mask / 2 for mask in masks]
    display = SegmentationDisplay.from_predictions(images, masks, masks, maps, maps, labels=[0, 1])
    assert [p.shape for p in pictures(display, 3)] == [(3, 4), (5, 2)]


def test_from_estimator():
    X = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)
    y = np.where(X[:, 0] > 0, 1, 0)
    y[:, 0] = 255
    segmenter = TorchSegmenter(
        module__base_width=4, module__depth=1, max_epochs=2, ignore_label=255,
        posterior=MCDropout(3), random_state=0,
    ).fit(X, y)  # fmt: skip
    display = SegmentationDisplay.from_estimator(segmenter, X, y, n_images=2)
    parts = segmenter.predict_uncertainty(X[:2], kind="all")
    np.testing.assert_array_equal(display.aleatoric, parts.aleatoric)
    np.testing.assert_array_equal(display.epistemic, parts.epistemic)
    np.testing.assert_array_equal(display.prediction, segmenter.predict(X[:2]))
    assert all((mask[0] == -1).all() and mask[1:].min() >= 0 for mask in display.truth)
    assert display.figure_.get_suptitle() == "TorchSegmenter with MCDropout"
    all_of_them = SegmentationDisplay.from_estimator(segmenter, X, n_images=9, name="x")
    assert all_of_them.axes_.shape == (5, 4)


def test_bad_input_is_refused(maps):
    X, y, predicted, aleatoric, epistemic = maps
    with pytest.raises(ValueError, match=r"must hold 3 names.*got 1"):
        SegmentationDisplay.from_predictions(*maps, **OPTIONS, class_names=["a"])
    with pytest.raises(ValueError, match=r"epistemic of image 0 must have shape \(4, 5\)"):
        SegmentationDisplay.from_predictions(
            X, y, predicted, aleatoric, epistemic[:, :3], **OPTIONS
        )
    with pytest.raises(ValueError, match=r"y_true contains labels \['void'\]"):
        SegmentationDisplay.from_predictions(*maps, labels=["a", "b", "c"])
