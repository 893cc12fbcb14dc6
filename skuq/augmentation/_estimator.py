"""Test-time augmentation as a scikit-learn estimator."""

from __future__ import annotations

import copy
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags, indexable
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skuq._data._checks import refuse_no_labels, shape_of
from skuq._meta import Around, fit_clone, folds_of, learns_several_labels, warn_of_rows_seen
from skuq._utils._messages import name_of, unfrozen
from skuq._utils._progress import Task, watchers
from skuq._utils._random import Purpose, derive_seed, root_seed
from skuq._utils._sklearn_compat import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _check_sample_weight,
    _safe_indexing,
    with_callbacks,
)
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState
from skuq.augmentation._answers import AugmentedPredictions, ViewPredictions, ask_views
from skuq.augmentation._evaluation import Evaluation, as_rows
from skuq.augmentation._fixed import fitted_copies
from skuq.augmentation._votes import RULES, vote_threshold

__all__ = ["TestTimeAugmentation"]


class TestTimeAugmentation(
    AugmentedPredictions, Around, CallbackSupportMixin, MetaEstimatorMixin, BaseEstimator
):
    """Predicts from several views of each row: unchanged, flipped, shifted, with noise [1]_ [2]_.

    For every draw of the posterior, the predictions for all views of a row are averaged:
    probabilities of a classifier, distributions of a regressor (to a mixture). Averages often are
    more accurate and better calibrated than the prediction for the row itself. Views that disagree
    reveal noise in the data that a network cannot see in a single view.

    The first view is always the row itself. Other views draw their random numbers once, from
    `random_state`, and use the same numbers for every row, so that a prediction depends only on its
    row. A view that draws numbers for each row of a batch, or mixes rows, gets one row at a time.
    `fit` finds such views by trying them on 32 rows, and cannot notice views that behave in another
    way on other rows.

    Parameters
    ----------
    estimator : classifier or regressor
        A skuq estimator, or a calibrator, Pipeline or search around one. Views are made of the
        rows that it takes. Pass a fitted estimator as ``FrozenEstimator(estimator)``; then `fit`
        does not fit it again.
    views : callable, or list or tuple of them, default=()
        Views besides the row itself: views of `skuq.augmentation`, transforms of kornia or
        torchvision, or any function ``view(X, generator) -> X`` or ``view(X) -> X`` of a float
        tensor of shape (n_rows, ...); see `View`. Integers become floats, without scaling.
    n_views : int, default=None
        Number of views of each row, including the row itself. The views are used in turn until
        this number is reached; a random view differs each time. None uses each view once.
    vote : {"mean", "mode", "confidence", "confidence_hard", "certainty", "certainty_hard"}, \
            default="mean"
        How a classifier's views decide: by their mean probabilities, or by a vote of the classes
        that they predict, weighted as in `multi_view_vote`. Certainty needs the
        `UncertaintyAware` likelihood. See Notes.
    threshold : float in [0, 1], default=None
        Threshold of the two hard votes; other votes ignore it. None tunes it in `fit`: for a frozen
        estimator on the given rows, otherwise on cross-fitted predictions. `tune_threshold` tunes
        it later.
    cv : int, cross-validation generator or iterable, default=5
        Folds to tune a threshold, if the estimator is not frozen. A number makes that many
        shuffled folds, stratified by class, which do not separate rows of one group.
    random_state : int, RandomState instance or None, default=None
        Seed of the views and of the shuffled folds. Training uses the `random_state` of the
        estimator.
    verbose : int, default=0
        1 shows a progress bar over the folds.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    n_views_ : int
        Number of views of each row, including the row itself.
    threshold_ : float or None
        Confidence below which a view abstains in a hard vote; None for other votes.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, in the order of the columns; only of a classifier.
    n_features_in_ : int
        Number of features that the estimator was fitted on.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of these features; only if all are strings.

    Raises
    ------
    ValueError
        In `fit`, if a view changes the shape of rows, gives NaN, is not repeatable, or lacks the
        inverse that dense outputs need, or if parameters contradict each other.

    Notes
    -----
    *Uncertainty* is nested: draws outside, the views of a draw inside. With p_ma the probabilities
    of draw m for view a, p_m their mean over the views, and p the mean over all,

        H[p] = mean_ma H[p_ma] + mean_m (H[p_m] − mean_a H[p_ma]) + (H[p] − mean_m H[p_m])
               within views      between views                      between draws,

    where the first two are aleatoric and the third is epistemic. Variances of a regressor nest in
    the same way, by the law of total variance. ``predict_uncertainty(X, kind="nested")`` has all
    parts.

    *Votes.* Each view votes for the most probable class of the mean of its draws. Unless `vote` is
    "mean", `predict_proba` is the share of each class in the votes. (The winner of a tie gets 1e-12
    more, a class without votes 2e-16.) `predict`, `predict_log_proba` and `decision_function`
    follow from these shares. So do calibrators around this estimator and scorers, which see one
    draw. `predict_uncertainty` and `predict_draws` always use the averaged probabilities.

    *Cost.* A prediction costs as much as one for each view. Memory holds the predictions of all
    views for one chunk of rows at a time.

    References
    ----------
    .. [1] M. S. Ayhan, P. Berens, "Test-time Data Augmentation for Estimation of Heteroscedastic
       Aleatoric Uncertainty in Deep Neural Networks", MIDL 2018.
    .. [2] G. Wang, W. Li, M. Aertsen, J. Deprest, S. Ourselin, T. Vercauteren, "Aleatoric
       uncertainty estimation with test-time augmentation for medical image segmentation with
       convolutional neural networks", Neurocomputing 338, 2019, doi:10.1016/j.neucom.2019.01.103.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.augmentation import FeatureNoise, TestTimeAugmentation
    >>> X, y = load_iris(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0)
    >>> augmented = TestTimeAugmentation(network, FeatureNoise(0.1), n_views=4, random_state=0)
    >>> parts = augmented.fit(X, y).predict_uncertainty(X, kind="nested")
    >>> parts.between_views.shape
    (150,)
    """

    __test__ = False  # for pytest, which takes the name for a test

    _reads_datasets: ClassVar[bool] = False
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "views": [callable, list, tuple],
        "n_views": [Interval(Integral, 1, None, closed="left"), None],
        "vote": [StrOptions({"mean", *RULES})],
        "threshold": [Interval(Real, 0, 1, closed="both"), None],
        "cv": ["cv_object"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any,
        views: Any = (),
        n_views: int | None = None,
        vote: str = "mean",
        threshold: float | None = None,
        cv: Any = 5,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.views = views
        self.n_views = n_views
        self.vote = vote
        self.threshold = threshold
        self.cv = cv
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -------------------------------------------------------------------------------------

    @with_callbacks
    def fit(
        self,
        X: MatrixLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit the estimator unless it is frozen, fix the views, and tune a threshold if needed.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,), or (n_samples, n_targets)
            True labels or targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows. The estimator gets them, too; in a Pipeline the last step does.
        groups : array-like of shape (n_samples,), default=None
            The group of each row. If `cv` is a number, or a splitter that knows groups, folds do
            not separate rows of one group.

        Returns
        -------
        self : TestTimeAugmentation
            The fitted estimator itself.

        Warns
        -----
        UserWarning
            If a threshold is tuned on many rows that a frozen estimator was trained on.
        """
        X, y = self._check_call_of_fit(X, y)
        views = self._checked_views()
        try:
            several = learns_several_labels(self.estimator, y) or len(shape_of(y)) == 4  # of masks
        except TypeError:  # labels of kinds that cannot be compared
            refuse_no_labels("y", y)
            raise
        self._multilabel = is_classifier(self.estimator) and several
        self._has_masks = len(shape_of(y)) > 2
        self._check_vote()
        X, y = indexable(X, y)
        weight: np.ndarray | None = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        with Task("fit", watchers(self, X, y, weight)) as task:
            if isinstance(self.estimator, FrozenEstimator):
                learnt = self._fit_around_frozen(task, X, y, weight, views)
            else:
                learnt = self._fit_around_unfitted(task, X, y, weight, groups, views)
            fitted, self._evaluation, self.threshold_ = learnt
            if self._evaluation.classifies:
                self.classes_ = np.arange(np.shape(y)[1]) if self._multilabel else fitted.classes_
            self.n_views_ = 1 + len(self._evaluation.views)
            self.estimator_ = fitted
            task.end(dict)  # a copy of self has every attribute
        return self

    def _fit_around_frozen(
        self, task: Task, X: Any, y: Any, sample_weight: Any, views: list[Any]
    ) -> tuple[Any, Evaluation, float | None]:
        task.begin()
        check_is_fitted(unfrozen(self.estimator))
        evaluation = Evaluation(self.estimator, self._fixed(views, X), X, self._multilabel)
        self._check_certainty(evaluation)
        if not self._tunes:
            return self.estimator, evaluation, self.threshold
        warn_of_rows_seen(self.estimator, X, to="tune the threshold")
        seen = ask_views(evaluation, X, self.estimator.classes_)
        best = self._best_threshold([seen], y, sample_weight, self.estimator.classes_)
        return self.estimator, evaluation, best

    def _fit_around_unfitted(
        self, task: Task, X: Any, y: Any, sample_weight: Any, groups: Any, views: list[Any]
    ) -> tuple[Any, Evaluation, float | None]:
        splits: list[Any] = []
        if self._tunes:
            splits = folds_of(
                self.cv, X, y, groups, classifies=True, random_state=self.random_state
            )
        task.begin(1 + len(splits), of="fit")
        whole = task.subtask("fit-estimator").begin()
        fitted = fit_clone(whole, self.estimator, X, y, sample_weight)
        whole.end()
        fixed = self._fixed(views, X)
        evaluation = Evaluation(fitted, fixed, X, self._multilabel)
        self._check_certainty(evaluation)
        if not splits:
            return fitted, evaluation, self.threshold
        parts, left = [], np.concatenate([test for _, test in splits])
        for train, test in splits:
            fold = task.subtask("fit-fold").begin()
            some, labels = (_safe_indexing(values, train) for values in (X, y))
            weight = None if sample_weight is None else sample_weight[train]
            part = fit_clone(fold, self.estimator, some, labels, weight)
            asked = Evaluation(part, fixed, some, self._multilabel)
            parts.append(ask_views(asked, _safe_indexing(X, test), part.classes_))
            fold.end()
        weight = None if sample_weight is None else sample_weight[left]
        best = self._best_threshold(parts, _safe_indexing(y, left), weight, fitted.classes_)
        return fitted, evaluation, best

    @property
    def _tunes(self) -> bool:
        """Whether `fit` tunes a threshold."""
        return self.vote.endswith("_hard") and self.threshold is None

    def _fixed(self, views: list[Any], X: Any) -> list[tuple[Any, int]]:
        """List the views besides the identity, used in turn, and the seed of each."""
        root = root_seed(self.random_state)
        n_views = 1 + len(views) if self.n_views is None else int(self.n_views)
        copies = fitted_copies(views, lambda: as_rows(X))
        return [
            (copies[(k - 1) % len(copies)], derive_seed(root, Purpose.OTHER, k))
            for k in range(1, n_views)
        ]

    def _checked_views(self) -> list[Any]:
        views = [self.views] if callable(self.views) else list(self.views)
        for view in views:
            if isinstance(view, type) or not callable(view):
                name = getattr(view, "__name__", repr(view))
                hint = f": write {name}()" if isinstance(view, type) else ""
                raise TypeError(f"views must be functions or instances of views, got {name}{hint}")
            if hasattr(view, "validate"):
                view.validate()
        if not views and self.n_views is not None and self.n_views > 1:
            raise ValueError(f"n_views={self.n_views} needs views to take in turn, got none")
        return views

    def _check_vote(self) -> None:
        name = name_of(self.estimator)
        if not (is_classifier(self.estimator) or is_regressor(self.estimator)):
            raise TypeError(f"{type(self).__name__} needs a classifier or a regressor, got {name}")
        if self.vote == "mean":
            return
        if not is_classifier(self.estimator) or self._multilabel or self._has_masks:
            needed = "one label per row, but y has several"
            if not is_classifier(self.estimator):
                needed = f"a classifier, got {name}"
            raise ValueError(f"vote={self.vote!r} needs {needed}; use vote='mean'")

    def _check_certainty(self, evaluation: Evaluation) -> None:
        if self.vote.startswith("certainty") and not evaluation.gives_noise:
            raise ValueError(
                f"vote={self.vote!r} needs an estimator that predicts how noisy each label is: a "
                "TorchClassifier with likelihood=UncertaintyAware(), without a calibrator. Use "
                "that, or vote='confidence'"
            )

    def _best_threshold(
        self, parts: list[ViewPredictions], y: Any, weight: Any, classes: np.ndarray
    ) -> float:
        """Tune the threshold on predictions of the views for rows that trained nothing."""
        kind = self.vote.removesuffix("_hard")
        labels, confidence, scores = (
            np.concatenate([getattr(part, name) for part in parts], axis=1)
            for name in ("labels", "confidence", kind)
        )
        truth = column_or_1d(y, warn=True)
        return vote_threshold(labels, scores, truth, confidence, weight, classes).threshold

    def tune_threshold(
        self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Set `threshold_` to the value for which the hard vote is right most often on these rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows that the estimator was not fitted on.
        y : array-like of shape (n_samples,)
            True labels of the rows.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; None weighs all equally.

        Returns
        -------
        self : TestTimeAugmentation
            The estimator itself, with the new threshold.

        Raises
        ------
        ValueError
            If `vote` is not a hard vote.
        """
        check_is_fitted(self)
        if not self.vote.endswith("_hard"):
            raise ValueError(
                f"vote={self.vote!r} has no threshold to tune; 'confidence_hard' and "
                "'certainty_hard' have"
            )
        X, y = indexable(X, y)
        seen = ask_views(self._evaluation, X, self.classes_)
        self.threshold_ = self._best_threshold([seen], y, sample_weight, self.classes_)
        return self

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = copy.deepcopy(inner.classifier_tags)
        tags.regressor_tags = copy.deepcopy(inner.regressor_tags)
        tags.target_tags.required = True
        if tags.classifier_tags is not None and self.vote != "mean":
            tags.classifier_tags.multi_label = False
        return tags
