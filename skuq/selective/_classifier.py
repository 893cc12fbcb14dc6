"""A classifier that may refuse."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skuq._data._checks import refuse_no_labels
from skuq._data._streams import rereadable, with_targets
from skuq._predict import ClassifierPredictions
from skuq._utils._messages import name_of, suggest
from skuq._utils._sklearn_compat import Interval, StrOptions
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState
from skuq.selective._base import KINDS, Selective
from skuq.selective._refusals import accepted_else

__all__ = ["SelectiveClassifier"]

_MEASURES = ("entropy", "variance", "variation_ratio", "margin", "least_confidence")


class SelectiveClassifier(ClassifierPredictions, ClassifierMixin, Selective):
    """A classifier that answers where its uncertainty is at most a threshold.

    The threshold is chosen in one of four ways, on rows that did not train the estimator: by a
    target risk, with a guarantee; by a coverage; by the cost of a refusal; or it is given.

    With `target_risk`, the guarantee is: with probability `confidence_level` over the calibration
    rows, the risk (mean loss) of accepted rows is at most `target_risk`. It holds for new rows of
    the same distribution, and only there.

    Parameters
    ----------
    estimator : classifier
        A skuq classifier; a calibrator, Pipeline or search around one; or any classifier with
        `predict_proba`. Pass a fitted classifier as ``FrozenEstimator(estimator)``: then all rows
        of X and y choose the threshold.
    target_risk : float in (0, 1), default=None
        Largest risk among accepted rows. If no threshold is certified to hold it, every row is
        refused, with a warning. With ``method="crc"`` the joint risk E[loss · accepted] is meant.
    coverage : float in (0, 1], default=None
        Share of the calibration rows to accept.
    reject_cost : float in [0, 1], default=None
        Cost of a refusal, where an error costs 1. Chow's rule [1]_ refuses rows whose largest
        probability is below 1 − cost, so the measure is "least_confidence". It is the best rule if
        the probabilities are right.
    threshold : float, default=None
        The largest uncertainty that is accepted.
    uncertainty : str, or fitted object with `predict_novelty`, default="total"
        What ranks the rows. A part of the entropy: "total", "aleatoric" or "epistemic". Another
        measure of total uncertainty: "variance", "variation_ratio", "margin",
        "least_confidence" ("entropy" is "total"). Or a fitted detector, whose `predict_novelty`
        is higher for stranger rows; clones and searches keep it fitted as
        ``FrozenEstimator(detector)``. It must not have learnt from the calibration rows. To refuse
        by two measures, put one selective estimator around each of them, and accept where both do.
    confidence_level : float in (0, 1), default=0.95
        Probability over the calibration rows that the guarantee holds.
    method : {"fixed_sequence", "sgr", "crc"}, default="fixed_sequence"
        How `target_risk` is certified. "fixed_sequence" [2]_ tests every threshold by an exact
        binomial p-value, from the smallest that can pass, until one fails. "sgr" [3]_ is a binary
        search. "crc" [4]_ bounds an expectation over calibration rows, the mean of
        loss · accepted, and does not use `confidence_level`. See Notes.
    n_starts : int, default=2
        Number of evenly spaced places at which a fixed sequence starts. They share the error, so
        that one early error does not end them all.
    loss : "zero_one" or callable, default="zero_one"
        A callable maps (y_true, y_pred) to a loss of each row in [0, 1], for errors of different
        weight; larger losses count as 1.
    reject_label : label, default=None
        The label that `predict` gives to refused rows. None gives every row its predicted class;
        `accept` has the decisions.
    calibration_size : float in (0, 1) or int, default=0.3
        Share or number of the rows that choose the threshold, unless the estimator is frozen.
    random_state : int, RandomState instance or None, default=0
        Seed of the split. Training uses the `random_state` of the estimator.

    Attributes
    ----------
    threshold_ : float
        The largest uncertainty that is accepted; −inf if every row is refused.
    coverage_ : float
        Share of the calibration rows that is accepted.
    risk_ : float
        Mean loss of the accepted calibration rows; NaN if there are none.
    bound_ : float
        What is certified. With `target_risk`, the largest risk: the target itself, or less with
        "sgr"; with "crc" the target, of the expected joint risk. Otherwise the upper limit of the
        risk at that threshold, by Clopper and Pearson. NaN if nothing is certified.
    certified_ : bool
        Whether `bound_` holds with probability `confidence_level` (for "crc", in expectation). It
        is False if no threshold passes, if the frozen estimator was trained on any of the rows, or
        if several calibration rows share a group.
    n_calibration_ : int
        Number of the rows that chose the threshold.
    estimator_ : classifier
        The fitted estimator.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, in the order of the columns.
    n_features_in_ : int
        Number of features that the estimator was fitted on.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of these features; only if all are strings.

    See Also
    --------
    skuq.metrics.coverage_at_risk : The same thresholds from arrays.
    SelectiveRegressor : The same for real targets.

    Notes
    -----
    Thresholds are uncertainties of calibration rows. If the risk rises with the threshold, the
    tests of "fixed_sequence" are exact. If it does not rise everywhere, the count of errors may
    be wrong by about one row. On outputs of public networks, a fixed sequence of two starts keeps
    most rows on average, and none of the methods is best everywhere: see the guide on refusals.

    References
    ----------
    .. [1] C. K. Chow, "On Optimum Recognition Error and Reject Tradeoff", IEEE Transactions on
       Information Theory 16, 1970, doi:10.1109/TIT.1970.1054406.
    .. [2] A. Angelopoulos, S. Bates, E. Candès, M. I. Jordan, L. Lei, "Learn then Test: Calibrating
       Predictive Algorithms to Achieve Risk Control", 2021, arXiv:2110.01052.
    .. [3] Y. Geifman and R. El-Yaniv, "Selective Classification for Deep Neural Networks",
       NeurIPS 2017, arXiv:1705.08500.
    .. [4] A. Angelopoulos, S. Bates, A. Fisch, L. Lei, T. Schuster, "Conformal Risk Control",
       ICLR 2024, arXiv:2208.02814.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skuq import TorchClassifier
    >>> from skuq.selective import SelectiveClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0)
    >>> selective = SelectiveClassifier(network, target_risk=0.02).fit(X / 16, y)
    >>> selective.certified_, selective.bound_
    (True, 0.02)
    >>> bool(selective.accept(X / 16).mean() > 0.5)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Selective._parameter_constraints,
        "target_risk": [Interval(Real, 0, 1, closed="neither"), None],
        "reject_cost": [Interval(Real, 0, 1, closed="both"), None],
        "loss": [StrOptions({"zero_one"}), callable],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        target_risk: float | None = None,
        coverage: float | None = None,
        reject_cost: float | None = None,
        threshold: float | None = None,
        uncertainty: Any = "total",
        confidence_level: float = 0.95,
        method: str = "fixed_sequence",
        n_starts: int = 2,
        loss: Any = "zero_one",
        reject_label: Any = None,
        calibration_size: float = 0.3,
        random_state: RandomState = 0,
    ) -> None:
        self.estimator = estimator
        self.target_risk = target_risk
        self.coverage = coverage
        self.reject_cost = reject_cost
        self.threshold = threshold
        self.uncertainty = uncertainty
        self.confidence_level = confidence_level
        self.method = method
        self.n_starts = n_starts
        self.loss = loss
        self.reject_label = reject_label
        self.calibration_size = calibration_size
        self.random_state = random_state

    def _check_estimator(self) -> None:
        if not is_classifier(self.estimator):
            raise TypeError(
                f"{type(self).__name__} needs a classifier, got {name_of(self.estimator)}"
            )
        known = (*KINDS, *_MEASURES)
        if isinstance(self.uncertainty, str) and self.uncertainty not in known:
            raise ValueError(
                f"uncertainty must be one of {', '.join(map(repr, known))}, or a fitted object "
                f"with predict_novelty, got {self.uncertainty!r}."
                + suggest(self.uncertainty, known)
            )

        label = self.reject_label
        if label is not None and not isinstance(label, str | Real | np.generic):
            raise ValueError(
                f"reject_label must be one label, such as a text, a number or NaN, got {label!r}"
            )

    def _check_cost(self) -> None:
        if self.uncertainty not in ("total", "least_confidence"):
            raise ValueError(
                "reject_cost compares the largest probability with 1 - reject_cost, so it needs "
                f"uncertainty='least_confidence', got {self.uncertainty!r}"
            )

    def _read_targets(self, y: Any) -> np.ndarray:
        refuse_no_labels("y", y)
        check_classification_targets(y)
        if type_of_target(y) not in ("binary", "multiclass"):
            raise ValueError(
                f"{type(self).__name__} is for one label per row, got y of shape {np.shape(y)}"
            )
        labels: np.ndarray = column_or_1d(y, warn=True)
        return labels

    def _check_to_fit(self, y: np.ndarray) -> None:
        self._check_reject_label(np.unique(y))

    def _check_reject_label(self, classes: np.ndarray) -> None:
        if self.reject_label is not None and self.reject_label in classes.tolist():
            raise ValueError(
                f"reject_label={self.reject_label!r} is one of the classes {classes}; choose "
                "another label"
            )

    def _begin(self, fitted: Any, y: np.ndarray) -> None:
        self.classes_ = fitted.classes_
        self._check_reject_label(self.classes_)  # those of a fitted estimator may be more

    def _measured(self, asked: Any, X: Any) -> np.ndarray:
        measure = "least_confidence" if self.reject_cost is not None else self.uncertainty
        options = {"kind": measure} if measure in KINDS else {"measure": measure}
        measured: np.ndarray = asked.predict_uncertainty(X, **options)
        return measured

    def _losses(self, estimator: Any, X: Any, y: np.ndarray) -> np.ndarray:
        return self._sample_losses(y, estimator.predict(X))

    def _largest_loss(self) -> float:
        return 1.0

    def predict(self, X: MatrixLike) -> np.ndarray:
        """Predict the class of each row, or `reject_label` where it is given and a row is refused.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows to predict, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_samples,)
            One of `classes_`, or `reject_label`. If one of them is text and the other is not, the
            array holds Python objects.
        """
        check_is_fitted(self)
        if self.reject_label is None:
            return np.asarray(self.estimator_.predict(X))
        X = rereadable(X)
        labels = np.asarray(self.estimator_.predict(X))
        return accepted_else(self.accept(X), labels, self.reject_label)

    def score(
        self, X: MatrixLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Compute the accuracy on all rows, refused or not; `report` has that of accepted rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as in `fit`.
        y : array-like of shape (n_samples,), default=None
            True labels; None if X is a Dataset of pairs (x, y), which has them.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; None weighs all equally.

        Returns
        -------
        float
            Share of the rows whose predicted class is right.
        """
        check_is_fitted(self)
        X, y = with_targets(X, y)
        if y is None:
            raise ValueError(f"score of {type(self).__name__} needs the labels y, got None")
        labels = self.estimator_.predict(X)
        return float(accuracy_score(y, labels, sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if tags.classifier_tags is not None:
            tags.classifier_tags.multi_label = False
        tags.target_tags.multi_output = False
        return tags
