"""The uncertainty-aware mean teacher as a scikit-learn estimator."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone, is_regressor
from sklearn.utils import get_tags, indexable

from skuq._data._checks import given_weights
from skuq._data._inputs import as_inputs
from skuq._estimator._base import TorchEstimator
from skuq._estimator._validation import GivenValidation
from skuq._meta import Around
from skuq._utils._messages import name_of, warn
from skuq._utils._progress import Task, watchers
from skuq._utils._sklearn_compat import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _safe_indexing,
    with_callbacks,
)
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.semi_supervised._answers import TeachersAnswers
from skuq.semi_supervised._teacher import Rules, Teaching
from skuq.semi_supervised._unlabelled import NO_LABEL, labelled_rows

__all__ = ["MeanTeacher"]


class MeanTeacher(
    TeachersAnswers,
    ClassifierMixin,
    Around,
    CallbackSupportMixin,
    MetaEstimatorMixin,
    BaseEstimator,
):
    """Trains a classifier or a segmenter on few labels and many rows without one [1]_ [2]_.

    A *student* learns from the labelled rows as usual. A *teacher*, the exponential average of the
    student's weights, predicts the unlabelled rows, and the student has to agree with it where it
    is certain:

        loss = supervised loss + consistency · ramp(t) · Σ c ‖p − q‖² / (C Σ c),

    where p and q are probabilities of the student and the teacher for C classes, and c is 1 where
    the entropy of the teacher's mean over `n_draws` passes is below a threshold, otherwise 0. The
    teacher sees rows with noise, and dropout is on. No gradient flows into it. After training, the
    teacher predicts.

    **Unlabelled rows** have y = −1, as for scikit-learn's `SelfTrainingClassifier`. This holds only
    here: for `TorchClassifier` −1 is a class like others. With labels of text, y must be an array
    of objects, ``np.array(["cat", "dog", -1], dtype=object)``. For a segmenter, an image is
    unlabelled if all its pixels have the estimator's `ignore_label`.

    Parameters
    ----------
    estimator : TorchClassifier or TorchSegmenter
        The estimator to train, with any posterior that does not go on training by itself:
        `DeepEnsemble` (each member has its own teacher), `MCDropout`, `LastLayerLaplace` or
        `PointEstimate`. A copy is fitted. Steps that change X come before, in a Pipeline whose last
        step is this one.
    consistency : float ≥ 0, default=1.0
        Weight of the disagreement at the end of `ramp_up`.
    ramp_up : float in [0, 1], default=0.4
        Share of the steps of the longest possible training over which this weight grows, as
        exp(−5 (1 − t)²) for t from 0 to 1.
    n_draws : int, default=8
        Number of passes of the teacher that measure its uncertainty. A further pass gives q.
    noise : float ≥ 0, default=0.1
        Standard deviation of the noise in the teacher's rows, clipped at two of them, as a multiple
        of the standard deviation of the feature, or of the channel of images. Integers among
        several inputs (`skuq.Inputs`), codes of categories, and columns of a table that an
        embedding of the module reads, have no noise.
    ema_decay : float in [0, 1), default=0.99
        Weight α of the teacher in θ' ← α θ' + (1 − α) θ. It is min(1 − 1/(s + 1), `ema_decay`) in
        step s = 0, 1, …, so that the first steps count. The teacher remembers 1/(1 − α) steps: in a
        training of few hundred steps, give 0.9.
    uncertainty_threshold : "ramp", float in (0, 1] or None, default="ramp"
        Entropy above which a row, or a pixel, does not count. "ramp" grows over the training from
        0.75 to 1 times log C: (0.75 + 0.25 exp(−5 (1 − t)²)) log C, where t goes from 0 to 1. A
        number is a share of log C. None counts all rows, which is the plain mean teacher [2]_.

    Attributes
    ----------
    estimator_ : TorchClassifier or TorchSegmenter
        The fitted estimator, whose networks are the teachers.
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted, without −1, in the order of the columns of `predict_proba`.
    n_unlabelled_ : int
        Number of unlabelled rows that took part.
    n_features_in_ : int
        Number of features that the estimator was fitted on.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of these features; only if all are strings.

    Raises
    ------
    TypeError
        In `fit`, if the estimator is a regressor or none of the two kinds.
    ValueError
        In `fit`, if no row has a label, if −1 seems to be a class, or if data or parameters cannot
        be used.

    Warns
    -----
    UserWarning
        If every row has a label.

    Notes
    -----
    An epoch is a pass over the labelled rows. In each step the student also gets `batch_size`
    unlabelled rows (all, if there are fewer). Early stopping watches the teacher on labelled rows;
    with few labels, better set ``max_epochs`` and ``early_stopping=False``, or give validation rows
    to `fit`. Callbacks see the teacher after each epoch.

    The teacher's parameters are averages. Buffers, such as running statistics of BatchNorm layers,
    are those of the student. `sample_weight` also weighs unlabelled rows among themselves.
    `training_views` of a segmenter change unlabelled images, too; student and teacher then get the
    same one.

    Without dropout in the network the draws differ only by the noise. Then the threshold means
    little more than a bound on the entropy of the teacher's prediction.

    References
    ----------
    .. [1] L. Yu, S. Wang, X. Li, C.-W. Fu, P.-A. Heng, "Uncertainty-aware Self-ensembling Model for
       Semi-supervised 3D Left Atrium Segmentation", MICCAI 2019, arXiv:1907.07034.
    .. [2] A. Tarvainen, H. Valpola, "Mean teachers are better role models", NeurIPS 2017,
       arXiv:1703.01780.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.semi_supervised import MeanTeacher
    >>> X, y = load_iris(return_X_y=True)
    >>> known = np.random.default_rng(0).permutation(len(X))[:15]
    >>> few = np.full(len(X), -1)
    >>> few[known] = y[known]
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0)
    >>> teacher = MeanTeacher(network).fit(X, few)
    >>> teacher.classes_, teacher.predict_uncertainty(X).shape
    (array([0, 1, 2]), (150,))
    """

    _answers_by_estimator: ClassVar[bool] = True
    _reads_datasets: ClassVar[bool] = False
    verbose: ClassVar[int] = 0  # for the watchers of `fit`
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "consistency": [Interval(Real, 0, None, closed="left")],
        "ramp_up": [Interval(Real, 0, 1, closed="both")],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "ema_decay": [Interval(Real, 0, 1, closed="left")],
        "uncertainty_threshold": [
            StrOptions({"ramp"}),
            Interval(Real, 0, 1, closed="right"),
            None,
        ],
    }

    n_unlabelled_: int

    def __init__(
        self,
        estimator: Any,
        *,
        consistency: float = 1.0,
        ramp_up: float = 0.4,
        n_draws: int = 8,
        noise: float = 0.1,
        ema_decay: float = 0.99,
        uncertainty_threshold: str | float | None = "ramp",
    ) -> None:
        self.estimator = estimator
        self.consistency = consistency
        self.ramp_up = ramp_up
        self.n_draws = n_draws
        self.noise = noise
        self.ema_decay = ema_decay
        self.uncertainty_threshold = uncertainty_threshold

    # -- fit -------------------------------------------------------------------------------------

    @with_callbacks
    def fit(
        self,
        X: MatrixLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train students and teachers on labelled and unlabelled rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Labelled and unlabelled rows, as the estimator takes them; no torch Dataset.
        y : array-like of shape (n_samples,), or (n_samples, height, width) for a segmenter
            Labels of any type, or −1 for a row without one. For a segmenter, masks; an image all of
            whose pixels are `ignore_label` has no label.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows: of labelled ones in the supervised loss, of unlabelled ones in the
            disagreement. Rows of weight zero do not take part.
        groups : array-like of shape (n_samples,), default=None
            The group of each row: early stopping does not separate labelled rows of one group.
        X_val, y_val, sample_weight_val : array-like, default=None
            Validation rows of your own, with their labels and weights, as the estimator's `fit`
            takes them; X_val may be a torch Dataset of pairs. Early stopping watches the teacher on
            these and sets no labelled rows apart. Each row must have a label.

        Returns
        -------
        self : MeanTeacher
            The fitted estimator itself.
        """
        X, y = self._check_call_of_fit(as_inputs(X), y)
        self._check_estimator()
        y, labelled = labelled_rows(y, self.estimator)
        X, y, groups = indexable(X, y, groups)
        weight = given_weights(sample_weight, X)
        unlabelled = ~labelled if weight is None else ~labelled & (weight > 0)
        if len(labelled) and not unlabelled.any():
            warn(
                f"every row that counts has a label; {type(self).__name__} learns from rows "
                f"without one, which have {NO_LABEL[self._is_dense]}",
                UserWarning,
            )
        teaching = Teaching(
            Rules(
                float(self.consistency),
                float(self.ramp_up),
                int(self.n_draws),
                float(self.noise),
                float(self.ema_decay),
                self.uncertainty_threshold,
            ),
            _safe_indexing(X, np.flatnonzero(unlabelled)) if unlabelled.any() else None,
            None if weight is None else _of_mean_one(weight[unlabelled]),
        )
        known = np.flatnonzero(labelled)
        rows, labels, own_groups = (_taken(values, known) for values in (X, y, groups))
        own_weight = None if weight is None else weight[known]
        own_validation = GivenValidation(X_val, y_val, sample_weight_val)
        with Task("fit", watchers(self, X, y, weight)) as task:
            student = clone(self.estimator)
            with task.of(student):
                student._fit_with(teaching, rows, labels, own_weight, own_groups, own_validation)
            self.n_unlabelled_ = int(unlabelled.sum())
            self.estimator_ = student
            task.end(dict)  # a copy of self has every attribute
        return self

    @property
    def _is_dense(self) -> bool:
        return bool(getattr(self.estimator, "_is_dense", False))

    def _check_estimator(self) -> None:
        name = type(self).__name__
        if is_regressor(self.estimator):
            raise TypeError(
                f"{name} needs a TorchClassifier or a TorchSegmenter, got the regressor "
                f"{name_of(self.estimator)}: its threshold is a share of log(n_classes)"
            )
        if not isinstance(self.estimator, TorchEstimator):
            raise TypeError(
                f"{name} needs a TorchClassifier or a TorchSegmenter, got "
                f"{name_of(self.estimator)}. Put it inside of what is around the classifier: "
                f"make_pipeline(StandardScaler(), {name}(TorchClassifier())), "
                f"TemperatureScaler(FrozenEstimator({name}(...)))"
            )

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.input_tags.two_d_array = inner.input_tags.two_d_array
        tags.target_tags.one_d_labels = inner.target_tags.one_d_labels
        tags.target_tags.required = True
        if tags.classifier_tags is not None:
            tags.classifier_tags.multi_label = False
        return tags


def _taken(values: Any, index: np.ndarray) -> Any:
    return None if values is None else _safe_indexing(values, index)


def _of_mean_one(weight: np.ndarray) -> np.ndarray | None:
    """Scale weights to mean 1; None if all are equal."""
    if not len(weight) or (weight == weight[0]).all():
        return None
    scaled: np.ndarray = weight / weight.mean()
    return scaled
