"""The picture of a segmenter: images, masks, predictions and maps of both uncertainties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from skuq._meta import innermost
from skuq._utils._optional import import_optional
from skuq._utils._sklearn_compat import _num_samples, _safe_indexing
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.metrics._axes import COLOURS, Display, user_name
from skuq.metrics._checks import check_real
from skuq.metrics._overlapping import maps_apart, masks_apart
from skuq.metrics._pixels import PixelLabels, images_with
from skuq.pipeline import predict_uncertainty

__all__ = ["SegmentationDisplay"]

_COLUMN = 2.1  # inches, width of an image
_BAR = 1.0  # inches, height of a colour bar with its labels
Maps = Sequence[np.ndarray]


class SegmentationDisplay(Display):
    """Images in rows: image | truth | prediction | aleatoric | epistemic, a colour bar per column.

    Pixels that do not count are hatched. Each map of uncertainty has one scale for all images, from
    0 to the largest value of a pixel that counts. Where each image has several masks, which may
    overlap, each mask has a row.

    Parameters
    ----------
    images : sequence of n ndarray of shape (n_channels, height, width)
        Images: three channels are shown in colour, one in grey, of others their mean in grey.
    truth : sequence of n ndarray of int of shape (height, width), or None
        Places of the true labels among `classes`, −1 where a pixel does not count; None leaves the
        column out.
    prediction : sequence of n ndarray of int of shape (height, width)
        Places of the predicted labels among `classes`.
    aleatoric, epistemic : sequence of n ndarray of shape (height, width)
        The two parts of the uncertainty of each pixel.
    classes : sequence of str
        Names of the classes, for the colour bar.
    unit : str, default="nats"
        Unit of the uncertainty, for the colour bars.
    name : str, default=None
        For the title.
    row_names : sequence of n str, default=None
        What to write at the left of each row; None writes nothing.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n, n_columns), after `plot`
        The axes of the pictures.
    bars_ : list of matplotlib Colorbar, after `plot`
        The colour bars, from left to right: classes of the truth, of the prediction, aleatoric,
        epistemic; an image in grey has one, too.
    ax_, figure_ : matplotlib artists, after `plot`
        The axes that were given, or the first of the pictures; and the figure.
    """

    def __init__(
        self,
        images: Maps,
        truth: Maps | None,
        prediction: Maps,
        aleatoric: Maps,
        epistemic: Maps,
        classes: Sequence[str],
        unit: str = "nats",
        name: str | None = None,
        row_names: Sequence[str] | None = None,
    ) -> None:
        self.images = images
        self.truth = truth
        self.prediction = prediction
        self.aleatoric = aleatoric
        self.epistemic = epistemic
        self.classes = classes
        self.unit = unit
        self.name = name
        self.row_names = row_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        n_images: int = 4,
        class_names: Sequence[str] | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for a fitted segmenter.

        Parameters
        ----------
        estimator : fitted segmenter, or a calibrator around one
            The estimator whose predictions are drawn.
        X : array-like of shape (n, n_channels, height, width)
            Images, as the estimator takes them.
        y : array-like of shape (n, height, width) or (n, n_labels, height, width), default=None
            True masks; None leaves their column out.
        n_images : int, default=4
            How many of the images to draw, from the first on.
        class_names : sequence of str of length n_classes, default=None
            Names in the order of ``estimator.classes_``; None shows the labels.
        name : str, default=None
            For the title; None describes the estimator.
        ax : matplotlib Axes, default=None
            Whose place the pictures take; None makes a new figure.
        **kwargs
            Options passed to ``ax.imshow`` for the maps of uncertainty, such as `cmap`.

        Returns
        -------
        SegmentationDisplay
            The display, already drawn.
        """
        rows = slice(0, min(n_images, _num_samples(X)))
        shown = _safe_indexing(X, rows)
        leaf, _ = innermost(estimator, shown)
        parts = predict_uncertainty(estimator, shown, kind="all")
        return cls.from_predictions(
            np.asarray(shown),
            None if y is None else y[rows],  # type: ignore[index]  # an array or a list
            estimator.predict(shown),
            parts.aleatoric,
            parts.epistemic,
            labels=estimator.classes_,
            ignore_label=getattr(leaf, "ignore_label", None),
            overlapping=getattr(leaf, "_multilabel", False),
            class_names=class_names,
            name=user_name(estimator, name),
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        images: ArrayLike,
        y_true: ArrayLike | None,
        y_pred: ArrayLike,
        aleatoric: ArrayLike,
        epistemic: ArrayLike,
        *,
        labels: ArrayLike,
        ignore_label: Any = None,
        overlapping: bool = False,
        class_names: Sequence[str] | None = None,
        unit: str = "nats",
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for predictions and their uncertainties.

        Parameters
        ----------
        images : array-like of shape (n, n_channels, height, width), or sequence of arrays
            Images; they may differ in size.
        y_true : array-like of shape (n, height, width), or sequence of arrays, or None
            True labels of pixels; None leaves their column out.
        y_pred : as y_true
            Predicted labels of pixels.
        aleatoric, epistemic : as y_true
            The two parts of the uncertainty of each pixel.
        labels : array-like of shape (n_classes,)
            All labels, sorted, without the ignored one, as ``segmenter.classes_``.
        ignore_label : label, default=None
            True label of pixels that do not count.
        overlapping : bool, default=False
            Whether each label has a mask of its own, of 0 and 1: y_true, y_pred and both maps then
            have shape (n, n_labels, height, width), and each mask is drawn in a row of its own.
        class_names : sequence of str of length n_classes, default=None
            Names in the order of the labels; None shows the labels.
        unit : str, default="nats"
            Unit of the uncertainty, for the colour bars.
        name : str, default=None
            For the title.
        ax : matplotlib Axes, default=None
            Whose place the pictures take; None makes a new figure.
        **kwargs
            Options passed to ``ax.imshow`` for the maps of uncertainty, such as `cmap`.

        Returns
        -------
        SegmentationDisplay
            The display, already drawn.

        Raises
        ------
        ValueError
            If shapes differ, or labels are unknown.
        """
        known, rows = PixelLabels(labels, None if overlapping else ignore_label), None
        names = [str(label) for label in (known.classes if class_names is None else class_names)]
        if len(names) != (n_labels := len(known.classes)):
            raise ValueError(
                f"class_names must hold {n_labels} names, one for each label, got {len(names)}"
            )
        if overlapping:
            pictures: Any = images  # each once for each label
            images = [image for image in pictures for _ in names]
            rows = names * len(pictures)
            y_pred = masks_apart("y_pred", y_pred, n_labels, None)
            aleatoric = maps_apart("aleatoric", aleatoric, n_labels)
            epistemic = maps_apart("epistemic", epistemic, n_labels)
            if y_true is not None:
                y_true = masks_apart("y_true", y_true, n_labels, ignore_label)
            known, names = PixelLabels([0, 1], ignore_label), ["0", "1"]
        shown, predicted = [], []
        for mask, image in images_with(y_pred, "images", images, with_classes=True):
            predicted.append(known.codes("y_pred", mask))
            shown.append(check_real("images", image))
        parts = [
            [check_real(which, one) for _, one in images_with(y_pred, which, values)]
            for which, values in (("aleatoric", aleatoric), ("epistemic", epistemic))
        ]
        truth = None
        if y_true is not None:
            truth = [_codes(known, mask) for mask, _ in images_with(y_true, "y_pred", y_pred)]
        display = cls(shown, truth, predicted, parts[0], parts[1], names, unit, name, rows)
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> Self:
        """Draw the pictures, one row for each image.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Whose place the pictures take; None makes a new figure.
        name : str, default=None
            Replaces the display's own name in the title.
        **kwargs
            Options passed to ``ax.imshow`` for the maps of uncertainty, such as `cmap`.

        Returns
        -------
        self : SegmentationDisplay
            The display, with the attributes `axes_`, `bars_`, `ax_` and `figure_`.
        """
        n_rows, n_columns = len(self.images), 4 if self.truth is None else 5
        if ax is None:
            asking = "SegmentationDisplay.plot"
            pyplot = import_optional("matplotlib.pyplot", "plot", asking)
            high, wide = self.images[0].shape[1:]
            size = (n_columns * _COLUMN, n_rows * _COLUMN * high / wide + _BAR + 0.5)
            figure = pyplot.figure(figsize=size, layout="constrained")
            grid = figure.add_gridspec(n_rows, n_columns)
        else:
            figure = ax.figure
            ax.set_axis_off()
            grid = ax.get_subplotspec().subgridspec(n_rows, n_columns)
        self.axes_ = grid.subplots(squeeze=False)
        self.ax_, self.figure_ = self.axes_[0, 0] if ax is None else ax, figure
        self._draw(self.axes_, self.name if name is None else name, kwargs)
        return self

    def _columns(self) -> dict[str, Any]:
        parts = {"aleatoric": self.aleatoric, "epistemic": self.epistemic}
        found = {
            f"mean_{name}": np.array([one.mean() for one in maps]) for name, maps in parts.items()
        }
        return {"image": np.arange(len(self.prediction)), **found}

    def _draw(self, ax: Any, name: str | None, options: dict[str, Any]) -> None:
        if name:
            self.figure_.suptitle(name, fontsize="medium")
        drawn: dict[str, list[Any]] = {"image": _draw_images(ax[:, 0], self.images)}
        classes = self._class_colours()
        if self.truth is not None:
            drawn["truth"] = [
                one.imshow(np.ma.masked_less(codes, 0), **classes)
                for one, codes in zip(ax[:, 1], self.truth)
            ]
        drawn["prediction"] = [
            one.imshow(codes, **classes) for one, codes in zip(ax[:, -3], self.prediction)
        ]
        for place, title in ((-2, "aleatoric"), (-1, "epistemic")):
            maps = getattr(self, title)
            look = {"vmin": 0.0, "vmax": self._largest(maps), "interpolation": "nearest", **options}
            drawn[title] = [one.imshow(values, **look) for one, values in zip(ax[:, place], maps)]
        self.bars_: list[Any] = []
        for (title, artists), column in zip(drawn.items(), ax.T):
            column[0].set_title(title, fontsize="medium")
            self._add_bar(title, artists[0], column)
            for one, row in zip(column, range(len(column))):
                one.set(xticks=[], yticks=[])
                if title != "image":
                    self._hatch(one, row)
                elif self.row_names is not None:
                    one.set_ylabel(self.row_names[row], fontsize="medium")

    def _class_colours(self) -> dict[str, Any]:
        """Return the options of `imshow` that give each class its colour."""
        colors = import_optional("matplotlib", "plot", "SegmentationDisplay").colors
        n = len(self.classes)
        colours: Any = ("#DDDDDD", *COLOURS)[:n]
        if n > len(COLOURS) + 1:
            pyplot = import_optional("matplotlib.pyplot", "plot", "SegmentationDisplay")
            colours = pyplot.get_cmap("tab20" if n <= 20 else "turbo")(
                np.arange(n) if n <= 20 else np.linspace(0, 1, n)
            )
        return {
            "cmap": colors.ListedColormap(colours), "vmin": -0.5, "vmax": n - 0.5,
            "interpolation": "nearest",
        }  # fmt: skip

    def _largest(self, maps: Maps) -> float:
        """Return the largest value of a pixel that counts."""
        counted = self.prediction if self.truth is None else self.truth
        each = [float(one[codes >= 0].max(initial=0)) for one, codes in zip(maps, counted)]
        return max(each) or 1.0

    def _add_bar(self, title: str, artist: Any, column: np.ndarray) -> None:
        if title == "image" and self.images[0].shape[0] == 3:
            return
        bar = self.figure_.colorbar(artist, ax=list(column), location="bottom", aspect=12, pad=0.02)
        bar.ax.tick_params(labelsize="small")
        if title in ("truth", "prediction"):
            bar.set_ticks(np.arange(len(self.classes)), labels=self.classes, rotation=90)
            bar.ax.tick_params(length=0)
        elif title != "image":
            bar.set_label(self.unit, fontsize="small")
        self.bars_.append(bar)

    def _hatch(self, ax: Any, row: int) -> None:
        """Hatch the pixels that do not count."""
        if self.truth is None or not (ignored := self.truth[row] < 0).any():
            return
        wider = np.pad(ignored, 1, mode="edge").astype(float)  # up to the border of the picture
        high, wide = ignored.shape
        with import_optional("matplotlib", "plot", "SegmentationDisplay").rc_context(
            {"hatch.linewidth": 0.6, "hatch.color": "0.45"}
        ):
            ax.contourf(
                np.arange(-1, wide + 1), np.arange(-1, high + 1), wider, levels=[0.5, 1.5],
                colors="none", hatches=["////"],
            )  # fmt: skip
        ax.set(xlim=(-0.5, wide - 0.5), ylim=(high - 0.5, -0.5))


def _codes(known: PixelLabels, mask: np.ndarray) -> np.ndarray:
    counted, codes = known.counted(mask), np.full(mask.shape, -1)
    codes[counted] = known.codes("y_true", mask[counted])
    return codes


def _draw_images(column: np.ndarray, images: Maps) -> list[Any]:
    """Draw images on one scale, which leaves the darkest and the brightest 0.5 % out."""
    ends = np.concatenate([np.percentile(one, (0.5, 99.5)) for one in images])
    low, high = ends.min(), ends.max()
    if images[0].shape[0] == 3:
        scale = (high - low) or 1.0
        return [
            ax.imshow(((one - low) / scale).clip(0, 1).transpose(1, 2, 0))
            for ax, one in zip(column, images)
        ]
    return [
        ax.imshow(one.mean(axis=0), cmap="gray", vmin=low, vmax=high)
        for ax, one in zip(column, images)
    ]
