"""Picture of the penultimate layer: rows in the plane through the weights of three classes."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

from skuq._features import last_layers, predict_features
from skuq._meta import innermost
from skuq._predict import ClassifierPredictions
from skuq._utils._messages import name_of
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.metrics._axes import COLOURS, Display, legend_above, user_name

__all__ = ["ClassPlaneDisplay"]

_MARKERS = ("o", "^", "s")
_FLAT = 1e-6  # of the largest distance of weights: they then lie on one line


class _Plane(NamedTuple):
    """Directions of the plane through three points, and where logits are equal in it."""

    basis: np.ndarray  # (2, n_features), orthonormal
    weights: np.ndarray  # (3, 2): a logit is weights · coordinates + bias, up to a shift of all
    meeting: np.ndarray  # (2,): where the three logits are equal

    @classmethod
    def through(cls, weight: np.ndarray, bias: np.ndarray) -> _Plane:
        """Make the plane: the first class points upwards, the second one to the right."""
        centred = weight - weight.mean(0)
        size = np.linalg.norm(centred, axis=1).max()
        up = centred[0]
        right = centred[1] - centred[1] @ up / max(up @ up, np.finfo(float).tiny) * up
        if min(np.linalg.norm(up), np.linalg.norm(right)) <= _FLAT * size:
            raise ValueError(
                "the weights of the three classes lie on one line, so there is no plane through "
                "them: choose other classes"
            )
        basis = np.stack([right / np.linalg.norm(right), up / np.linalg.norm(up)])
        flat = weight @ basis.T
        return cls(basis, flat, np.linalg.solve(flat[0] - flat[1:], bias[1:] - bias[0]))

    def border(self, a: int, b: int) -> np.ndarray:
        """Return the unit vector from the meeting point along which classes a and b are equal."""
        across = self.weights[a] - self.weights[b]
        along = np.array([-across[1], across[0]]) / np.linalg.norm(across)
        other = 3 - a - b
        return np.asarray(along if along @ (self.weights[a] - self.weights[other]) > 0 else -along)


class ClassPlaneDisplay(Display):
    """The penultimate layer of a network, in the plane through the weights of three classes.

    The inputs h of the last layer, whose logits are z_k = w_k · h + b_k, are projected onto the two
    directions of the plane through w_a, w_b and w_c [1]_. Since w_a − w_b lies in that plane, the
    coordinates hold everything about the differences of the three logits. So the borders in the
    picture are exact: within its sector, a class has the largest of the three logits. The first
    class points upwards, the second one to the right.

    Label smoothing contracts the rows of a class to a point that is equally far from the other
    classes. Networks trained without it spread them along the directions of the weights.

    Parameters
    ----------
    coordinates : ndarray of shape (n_samples, 2)
        The projected rows of the three classes.
    labels : ndarray of shape (n_samples,)
        Their true labels.
    classes : ndarray of shape (3,)
        The labels of the three classes.
    weights : ndarray of shape (3, 2)
        The projected weights of the classes.
    bias : ndarray of shape (3,)
        The biases of the classes. A logit is ``weights @ coordinates + bias``, up to a number that
        is the same for the three classes.
    meeting : ndarray of shape (2,)
        The place where the three logits are equal.
    borders : ndarray of shape (3, 2)
        Unit vectors from there, along which two logits are equal and the third is smaller: of the
        classes 0 and 1, 0 and 2, 1 and 2.
    name : str, default=None
        For the title.

    Attributes
    ----------
    ax_, figure_ : matplotlib artists, after `plot`
        Artists of the picture, to change its look.

    See Also
    --------
    skuq.predict_features : The inputs of the last layer.

    References
    ----------
    .. [1] R. Müller, S. Kornblith and G. Hinton, "When Does Label Smoothing Help?", NeurIPS 2019,
       arXiv:1906.02629.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.metrics import ClassPlaneDisplay
    >>> features = np.eye(4)[[0, 1, 2, 3]]
    >>> display = ClassPlaneDisplay.from_predictions(  # doctest: +SKIP
    ...     [0, 1, 2, 3], features, weight=np.eye(4), classes=[0, 1, 2]
    ... )
    >>> display.coordinates.shape  # doctest: +SKIP
    (3, 2)
    """

    def __init__(
        self,
        coordinates: np.ndarray,
        labels: np.ndarray,
        classes: np.ndarray,
        weights: np.ndarray,
        bias: np.ndarray,
        meeting: np.ndarray,
        borders: np.ndarray,
        name: str | None = None,
    ) -> None:
        self.coordinates = coordinates
        self.labels = labels
        self.classes = classes
        self.weights = weights
        self.bias = bias
        self.meeting = meeting
        self.borders = borders
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: ArrayLike,
        *,
        classes: ArrayLike | None = None,
        network: int = 0,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for a fitted classifier whose last layer has an output for each class.

        Parameters
        ----------
        estimator : object
            A fitted `TorchClassifier`; or a Pipeline, search or calibrator around one. Dropout is
            off, and a calibrator changes nothing, since its network is drawn.
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,)
            True labels; rows of other classes are left out.
        classes : array-like of shape (3,), default=None
            The labels of the three classes; None takes the first three.
        network : int, default=0
            The number of the network, of an ensemble.
        name : str, default=None
            Name of the model in the title.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.scatter``.

        Returns
        -------
        ClassPlaneDisplay
            The display, already drawn.

        Raises
        ------
        TypeError
            If the estimator is no classifier of one label for each row.
        ValueError
            If its last layer has no output for each class, or there are not three classes.
        """
        leaf, _ = innermost(estimator, X)
        if not isinstance(leaf, ClassifierPredictions) or leaf._multilabel:
            raise TypeError(
                f"ClassPlaneDisplay needs a classifier of one label per row, got {name_of(leaf)}"
                + (" of several labels" if isinstance(leaf, ClassifierPredictions) else "")
            )
        layers = last_layers(estimator, X)
        if not 0 <= network < len(layers):
            raise ValueError(f"network={network} must be from 0 to {len(layers) - 1}")
        weight, bias = layers[network]
        if len(weight) != len(leaf.classes_):
            raise ValueError(
                f"ClassPlaneDisplay needs an output of the last layer for each of the "
                f"{len(leaf.classes_)} classes, as Categorical() has; this one has {len(weight)}"
            )
        features = predict_features(estimator, X)
        return cls.from_predictions(
            y,
            features if features.ndim == 2 else features[network],
            weight,
            bias,
            class_names=leaf.classes_,
            classes=classes,
            name=user_name(estimator, name),
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        features: MatrixLike,
        weight: MatrixLike,
        bias: ArrayLike | None = None,
        *,
        class_names: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw for the inputs of a last layer, and its weights.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels; rows of other classes are left out.
        features : array-like of shape (n_samples, n_features)
            Inputs of the last layer, such as `skuq.predict_features` gives.
        weight : array-like of shape (n_classes, n_features)
            Weights of the last layer.
        bias : array-like of shape (n_classes,), default=None
            Biases of the last layer; None means zeros.
        class_names : array-like of shape (n_classes,), default=None
            The label of each row of `weight`; None means 0, 1, …
        classes : array-like of shape (3,), default=None
            The labels of the three classes; None takes the first three.
        name : str, default=None
            Name of the model in the title.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Options passed to ``ax.scatter``.

        Returns
        -------
        ClassPlaneDisplay
            The display, already drawn.

        Raises
        ------
        ValueError
            If shapes do not fit, a class is unknown, or the weights lie on one line.
        """
        labels = column_or_1d(y_true)
        rows = check_array(features, dtype=np.float64, input_name="features")
        weights = check_array(weight, dtype=np.float64, input_name="weight")
        check_consistent_length(labels, rows)
        biases = np.zeros(len(weights)) if bias is None else column_or_1d(bias).astype(float)
        if rows.shape[1] != weights.shape[1] or len(biases) != len(weights):
            raise ValueError(
                f"features of shape {rows.shape}, weight {weights.shape} and bias {biases.shape} "
                "do not fit: expected (n_samples, n_features), (n_classes, n_features), "
                "(n_classes,)"
            )
        chosen, number = _chosen(classes, class_names, len(weights))
        plane = _Plane.through(weights[number], biases[number])
        counts = np.isin(labels, chosen)
        borders = np.stack([plane.border(a, b) for a, b in ((0, 1), (0, 2), (1, 2))])
        display = cls(
            rows[counts] @ plane.basis.T,
            labels[counts],
            chosen,
            plane.weights,
            biases[number],
            plane.meeting,
            borders,
            name,
        )
        return display.plot(ax=ax, **kwargs)

    def _columns(self) -> dict[str, Any]:
        return {"x": self.coordinates[:, 0], "y": self.coordinates[:, 1], "label": self.labels}

    def _draw(self, ax: Any, name: str | None, options: dict[str, Any]) -> None:
        for label, colour, marker in zip(self.classes, COLOURS, _MARKERS):
            of_class = self.coordinates[self.labels == label].T
            look = {"s": 12, "alpha": 0.5, "linewidths": 0, "color": colour, "marker": marker}
            ax.scatter(*of_class, **{**look, "label": str(label), **options})
        ax.set_aspect("equal", adjustable="datalim")
        ax.autoscale_view()
        left_below, right_above = np.array([ax.get_xlim(), ax.get_ylim()]).T
        reach = 2 * np.linalg.norm(right_above - left_below) + np.linalg.norm(
            self.meeting - (left_below + right_above) / 2
        )
        for border in self.borders:
            ends = np.stack([self.meeting, self.meeting + reach * border]).T
            ax.plot(*ends, "-", color="0.3", linewidth=1, scalex=False, scaley=False, zorder=0.5)
        ax.set(xlabel="in the plane of three weight vectors", ylabel=f"towards {self.classes[0]}")
        if name:
            ax.set_title(name, loc="right", fontsize="medium")
        legend_above(ax)


def _chosen(
    classes: ArrayLike | None, class_names: ArrayLike | None, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of the three classes, and the numbers of their weights."""
    names = np.arange(n_classes) if class_names is None else np.asarray(class_names)
    if names.shape != (n_classes,):
        raise ValueError(
            f"class_names has shape {names.shape}, expected ({n_classes},): one for each row of "
            "weight"
        )
    chosen = names[:3] if classes is None else np.asarray(classes)
    if chosen.shape != (3,) or len(np.unique(chosen)) < 3:
        raise ValueError(
            f"classes must be three different labels, got {chosen.tolist()!r}: a plane goes "
            "through three points"
        )
    unknown = [label for label in chosen.tolist() if label not in names.tolist()]
    if unknown:
        raise ValueError(f"classes holds {unknown}; expected some of {names.tolist()}")
    return chosen, np.array([names.tolist().index(label) for label in chosen.tolist()])
