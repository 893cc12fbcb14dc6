"""Add noise to true labels on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skuq._utils._random import root_seed
from skuq._utils._typing import ArrayLike, RandomState
from skuq.metrics._checks import check_labels, check_real

__all__ = [
    "CIFAR10_PAIRS",
    "FASHION_MNIST_PAIRS",
    "PATRINI_MAP",
    "FlippedLabels",
    "flip_labels",
]

# For CIFAR-10, in both directions: airplane and bird, automobile and truck, cat and dog, deer and
# horse. Frog and ship are unchanged.
CIFAR10_PAIRS = ((0, 2), (1, 9), (3, 5), (4, 7))

# For CIFAR-10, one direction except for the last: truck → automobile, bird → airplane,
# deer → horse, cat ↔ dog. From G. Patrini et al., CVPR 2017, arXiv:1609.03683.
PATRINI_MAP = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}

# For Fashion-MNIST, in both directions: T-shirt and shirt, pullover and coat, sandal and sneaker,
# trouser and dress. Bag and ankle boot are unchanged.
FASHION_MNIST_PAIRS = ((0, 6), (2, 4), (5, 7), (1, 3))


class FlippedLabels(NamedTuple):
    """Labels with noise, and how they were made.

    Attributes
    ----------
    y_noisy : ndarray of shape (n_samples,)
        The labels after flipping.
    flipped : ndarray of bool of shape (n_samples,)
        Whether the label has changed.
    transition_matrix : ndarray of shape (n_classes, n_classes)
        The probability of each noisy label (column) given the true label (row), classes sorted.
    """

    y_noisy: np.ndarray
    flipped: np.ndarray
    transition_matrix: np.ndarray


def flip_labels(
    y: ArrayLike,
    pairs: Any = None,
    rate: float | None = None,
    random_state: RandomState = None,
    *,
    transition_matrix: ArrayLike | None = None,
    classes: ArrayLike | None = None,
) -> FlippedLabels:
    """Replace labels by others, at random and by class.

    Each label is replaced with probability `rate`: by its partner, or by a draw from its row of a
    transition matrix. Flip labels of training rows, and evaluate on rows with clean labels.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of any type.
    pairs : sequence of pairs of labels, or mapping, default=None
        ``((0, 6), (2, 4))`` exchanges 0 and 6, and 2 and 4. The mapping ``{9: 1, 2: 0}`` turns 9
        into 1 and 2 into 0, but not back. Other classes stay. Ready to use: `CIFAR10_PAIRS` [1]_,
        `PATRINI_MAP` [2]_ (also CIFAR-10), `FASHION_MNIST_PAIRS`.
    rate : float in [0, 1], default=None
        Probability that a label is replaced. Needed with `pairs`; with `transition_matrix` None
        means 1.
    random_state : int, RandomState instance or None, default=None
        Seed. With the same seed and pairs, labels that flip at one rate also flip at every higher
        rate.
    transition_matrix : array-like of shape (n_classes, n_classes), default=None
        An alternative to `pairs`: row i holds the probabilities of the labels that replace class i.
    classes : array-like of shape (n_classes,), default=None
        All labels, sorted, if y may lack some; they must include `pairs`. None takes the labels in
        y.

    Returns
    -------
    FlippedLabels of y_noisy, flipped and transition_matrix
        The noisy labels. The matrix describes the whole process: (1 − rate) · I + rate · (matrix of
        the pairs, or `transition_matrix`); it holds probabilities, not observed shares. With pairs
        and a rate below 0.5, the best classifier of noisy labels is also the best of clean labels.

    Raises
    ------
    ValueError
        If `rate` is outside of [0, 1], if `pairs` name a class that y lacks or one class twice, if
        the matrix does not fit the classes or its rows are no probabilities, or if labels are
        missing or continuous.

    References
    ----------
    .. [1] A. Kornaev et al., "Awareness of uncertainty in classification using a multivariate
       model and multi-views", 2024, arXiv:2404.10314.
    .. [2] G. Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction
       Approach", CVPR 2017, arXiv:1609.03683.

    Examples
    --------
    >>> from skuq.datasets import flip_labels
    >>> noisy, flipped, matrix = flip_labels(["a", "b", "c"] * 2, [("a", "b")], 0.5, random_state=0)
    >>> noisy.tolist(), flipped.tolist()
    (['a', 'a', 'c', 'b', 'b', 'c'], [False, True, False, True, False, False])
    >>> matrix
    array([[0.5, 0.5, 0. ],
           [0.5, 0.5, 0. ],
           [0. , 0. , 1. ]])
    """
    labels, classes = _labels_and_classes(y, classes)
    if (pairs is None) == (transition_matrix is None):
        which = "neither" if pairs is None else "both"
        raise ValueError(f"give either pairs or transition_matrix, got {which}")
    if pairs is not None:
        if rate is None:
            raise ValueError("pairs need a rate in [0, 1]: the probability that a label is flipped")
        jump = _matrix_of_pairs(pairs, classes)
    else:
        jump = _checked_matrix(transition_matrix, classes)
    rate = 1.0 if rate is None else _checked_rate(rate)
    check_random_state(random_state)  # raises if it is no random state
    generator = np.random.default_rng(root_seed(random_state))
    index = np.searchsorted(classes, labels)
    # Always two numbers for each row, so that the flips of one seed are nested.
    jumps, level = generator.random(len(index)) < rate, generator.random(len(index))
    cumulated = jump.cumsum(axis=1)
    cumulated /= cumulated[:, -1:]  # now the last is exactly 1, above every level
    landed = index.copy()
    for k, row in enumerate(cumulated):
        rows = index == k
        landed[rows] = np.searchsorted(row, level[rows], side="right")
    noisy = np.where(jumps, landed, index)
    matrix = (1 - rate) * np.eye(len(classes)) + rate * jump
    return FlippedLabels(classes[noisy], noisy != index, matrix)


def _labels_and_classes(y: Any, classes: Any) -> tuple[np.ndarray, np.ndarray]:
    labels = column_or_1d(y)
    if not len(labels):
        raise ValueError("y is empty: there are no labels to flip")
    check_labels("y", labels)
    check_classification_targets(labels)
    present = np.unique(labels)
    if classes is None:
        return labels, present
    known = column_or_1d(classes)
    if not np.array_equal(known, np.unique(known)):
        raise ValueError(f"classes must be sorted and without repetition, got {classes!r}")
    unknown = np.setdiff1d(present, known)
    if len(unknown):
        raise ValueError(f"y contains labels {unknown[:5]} that are not among classes={known}")
    return labels, known


def _checked_rate(rate: Any) -> float:
    number = float(rate) if isinstance(rate, Real) and rate is not True else np.nan
    if not 0 <= number <= 1:
        raise ValueError(f"rate must be a number in [0, 1], got {rate!r}")
    return number


def _matrix_of_pairs(pairs: Any, classes: np.ndarray) -> np.ndarray:
    """Make the transition matrix of certain replacements."""
    known = classes.tolist()
    becomes: dict[int, int] = {}
    for source, target in _directed(pairs):
        absent = [label for label in (source, target) if label not in known]
        if absent:
            raise ValueError(
                f"pairs name the class {absent[0]!r}, which y does not contain; its classes are "
                f"{known}. If y lacks some, give classes"
            )
        if source == target:
            raise ValueError(f"pairs map the class {source!r} to itself; leave it out")
        row = known.index(source)
        if row in becomes:
            raise ValueError(
                f"pairs name the class {source!r} twice; a class has one partner. For several, "
                "give a transition_matrix"
            )
        becomes[row] = known.index(target)
    matrix = np.eye(len(known))
    for row, column in becomes.items():
        matrix[row] = np.eye(len(known))[column]
    return matrix


def _directed(pairs: Any) -> list[tuple[Any, Any]]:
    """List source and target of every replacement."""
    if isinstance(pairs, Mapping):
        listed, both_ways = list(pairs.items()), False
    else:
        listed, both_ways = list(pairs) if isinstance(pairs, Iterable) else [], True
    if not listed or not all(
        isinstance(p, tuple | list | np.ndarray) and len(p) == 2 for p in listed
    ):
        raise ValueError(
            "pairs must be a sequence of pairs of labels, such as ((0, 6), (2, 4)), or a mapping "
            f"from label to label, such as {{9: 1, 2: 0}}; got {pairs!r}"
        )
    # Python's own numbers and strings, since NumPy compares numbers with strings as it likes.
    forward = [tuple(x.item() if isinstance(x, np.generic) else x for x in p) for p in listed]
    return forward + ([(b, a) for a, b in forward] if both_ways else [])


def _checked_matrix(transition_matrix: Any, classes: np.ndarray) -> np.ndarray:
    frame = hasattr(transition_matrix, "iloc")  # its index and columns name the classes
    for axis in ("index", "columns") if frame else ():
        names = list(getattr(transition_matrix, axis))
        if names not in (list(classes), list(range(len(classes)))):
            raise ValueError(
                f"transition_matrix has the {axis} {names}, expected the classes in order, "
                f"{list(classes)}: use transition_matrix.loc[classes, classes]"
            )
    matrix = check_real("transition_matrix", transition_matrix)
    if matrix.shape != (len(classes),) * 2:
        raise ValueError(
            f"transition_matrix must have a row and a column for each of the {len(classes)} "
            f"classes {classes}, got shape {matrix.shape}. If y lacks some, give classes"
        )
    worst = np.abs(matrix.sum(axis=1) - 1).max()
    if (matrix < 0).any() or worst > 1e-6:
        raise ValueError(
            "transition_matrix must hold probabilities, and each row must sum to 1; got values "
            f"from {matrix.min():.3g}, and sums that differ from 1 by up to {worst:.3g}"
        )
    normalised: np.ndarray = matrix / matrix.sum(axis=1, keepdims=True)
    return normalised
