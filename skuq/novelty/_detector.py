"""`NoveltyDetector`: whether rows are like those that are known."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from skuq._data._streams import rereadable, with_targets
from skuq._meta import warn_of_rows_seen
from skuq._utils._messages import unfrozen
from skuq._utils._random import root_seed
from skuq._utils._sklearn_compat import Interval, StrOptions, validate_parameter_constraints
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState
from skuq.novelty._judge import Judge
from skuq.novelty._learning import Learning
from skuq.novelty._levels import discoveries, p_values_of, threshold
from skuq.novelty._measures import FEATURE_MEASURES, OUTPUT_MEASURES
from skuq.novelty._rows import OnFeatures

__all__ = ["NoveltyDetector"]


class NoveltyDetector(OutlierMixin, OnFeatures, BaseEstimator):
    """Finds rows that are unlike the known ones: new kinds of inputs, not uncertain predictions.

    Distances between features of a network find what is strange; the entropy of its predictions
    finds what it may get wrong. Both kinds of measure are here, and all are high where a row is
    strange. The threshold, and `p_values`, come from known rows that the measure has not learnt
    from.

    Parameters
    ----------
    estimator : estimator, default=None
        A skuq estimator; or a Pipeline, search, calibrator or test-time augmentation around one.
        `fit` fits it, unless it is a ``FrozenEstimator(estimator)``: then X are known rows that the
        network has not seen. Measures of outputs also take classifiers of scikit-learn. None looks
        at the columns of X themselves.
    measure : str or callable, default="mahalanobis"
        What makes a row strange.

        By features, the inputs of the last linear layer:

        * "mahalanobis": distance to the nearest class mean, by the covariance within classes,
          which all classes share [1]_. Regressors have a single mean;
        * "relative_mahalanobis": the square of that distance, less that to the mean of all rows by
          the covariance of all rows [2]_. Needs classes;
        * "density": negative log-density of a mixture of Gaussians, one for each class [3]_;
        * "knn": distance to the fifth nearest known row [4]_. A known row is not its own neighbour,
          nor is one equal to it: then it is the fifth of the others.

        By the outputs of a classifier:

        * "energy": −log Σ exp(logits) [5]_, and "max_logit": minus the largest logit. Both are of
          the network itself, without calibrators around it, and the mean over the draws;
        * "max_probability": 1 minus the largest probability [6]_;
        * "entropy": total uncertainty, in nats;
        * "epistemic": epistemic uncertainty, which regressors have, too.

        A function ``measure(estimator, X)`` gives one number for each row, high where it is
        strange.
    contamination : float in (0, 0.5], default=0.05
        Share of the calibration rows that is flagged; it sets the threshold of `predict`.
    cv : int, cross-validation generator or iterable, default=None
        Which rows calibrate. None keeps a random quarter of the rows for that. A number makes that
        many folds: each is judged by what learnt from the others, and the detector then learns
        from all rows. A splitter of a single split is like None. See Notes.
    layer : str, default=None
        Name of the layer whose inputs are the features, as in `skuq.predict_features`; None takes
        the last linear layer.
    random_state : int, RandomState instance or None, default=0
        Seed of the rows that calibrate. Training uses the `random_state` of the estimator.

    Attributes
    ----------
    offset_ : float
        A row is flagged if its `score_samples` is below this.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Novelty of the calibration rows, in ascending order.
    estimator_ : estimator or None
        The fitted estimator.
    n_features_in_ : int
        Number of features that the estimator was fitted on.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of these features; only if all are strings.

    See Also
    --------
    GaussianDiscriminant : The Gaussians as a classifier.
    skuq.metrics.novelty_metrics : How well a measure tells novel rows from known ones.
    skuq.predict_features : The features.

    Notes
    -----
    *Rows.* A measure that learns (those of features) needs rows to learn from, and others to
    calibrate:

    ============  ==============  =====================  ====================  ===============
    estimator     cv              learns from            calibrates on         level of p-values
    ============  ==============  =====================  ====================  ===============
    frozen        None, 1 split   3/4 of the rows        the other rows        exact
    not fitted    None, 1 split   3/4, network included  the other rows        exact
    any           several folds   all rows               all rows, left out    approximate
    None          None            all rows               all rows, left out    approximate
    ============  ==============  =====================  ====================  ===============

    With folds, each network that is not frozen judges in its own way, so the level can be off by a
    factor of two, most with few folds and few rows. A frozen estimator with a measure that does
    not learn calibrates on all rows, and is exact.

    Without an estimator and without `cv`, `contamination` is the share of the rows of `fit` that
    `predict` flags among them, as in scikit-learn. New rows are a bit stranger than these for the
    Gaussians, which have learnt from these.

    *Several networks.* Each network of an ensemble has features of its own. Its scores are
    standardised on the rows that it learnt from, and the novelty is their mean. Features are those
    of the trained network, without dropout, so they cost one pass for each network, however many
    draws the posterior has.

    *Units.* Covariances are those of Ledoit and Wolf, of features in units of their deviation. A
    constant feature gets the typical deviation of the others, and a feature of a network at least
    a tenth of it. "knn" takes features as they are.

    References
    ----------
    .. [1] K. Lee, K. Lee, H. Lee, J. Shin, "A Simple Unified Framework for Detecting
       Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018, arXiv:1807.03888.
    .. [2] J. Ren, S. Fort, J. Liu, A. Guha Roy, S. Padhy, B. Lakshminarayanan, "A Simple Fix to
       Mahalanobis Distance for Improving Near-OOD Detection", 2021, arXiv:2106.09022.
    .. [3] J. Mukhoti, A. Kirsch, J. van Amersfoort, P. H. S. Torr, Y. Gal, "Deep Deterministic
       Uncertainty: A New Simple Baseline", CVPR 2023, arXiv:2102.11582.
    .. [4] Y. Sun, Y. Ming, X. Zhu, Y. Li, "Out-of-Distribution Detection with Deep Nearest
       Neighbors", ICML 2022, arXiv:2204.06507; there, features are scaled to length 1.
    .. [5] W. Liu, X. Wang, J. Owens, Y. Li, "Energy-based Out-of-distribution Detection", NeurIPS
       2020, arXiv:2010.03759.
    .. [6] D. Hendrycks, K. Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution
       Examples in Neural Networks", ICLR 2017, arXiv:1610.02136.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.novelty import NoveltyDetector
    >>> X, y = load_iris(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0)
    >>> detector = NoveltyDetector(network).fit(X, y)
    >>> detector.predict([[5.0, 3.5, 1.4, 0.2], [5.0, 3.5, 40.0, 0.2]])
    array([ 1, -1])
    >>> detector.p_values([[5.0, 3.5, 40.0, 0.2]]).round(3)  # 38 rows calibrate
    array([0.026])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "measure": [StrOptions({*FEATURE_MEASURES, *OUTPUT_MEASURES}), callable],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "cv": ["cv_object"],
        "layer": [str, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        measure: str | Callable[[Any, Any], ArrayLike] = "mahalanobis",
        contamination: float = 0.05,
        cv: Any = None,
        layer: str | None = None,
        random_state: RandomState = 0,
    ) -> None:
        self.estimator = estimator
        self.measure = measure
        self.contamination = contamination
        self.cv = cv
        self.layer = layer
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        fits = self.estimator is not None and not isinstance(self.estimator, FrozenEstimator)
        tags.target_tags.required = fits
        return tags

    # -- fit -------------------------------------------------------------------------------------

    def fit(self, X: MatrixLike, y: ArrayLike | None = None) -> Self:
        """Learn what known rows are like, and fit the estimator unless it is frozen.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Known rows, as the estimator takes them. Around a frozen estimator also a torch Dataset
            of pairs (x, y), or of x if no labels are needed.
        y : array-like of shape (n_samples,), or (n_samples, n_targets), default=None
            Labels or targets of the rows. An estimator that is not fitted needs them, and so do
            measures that tell the classes of a classifier apart. Ignored without an estimator.

        Returns
        -------
        self : NoveltyDetector
            The fitted detector itself.

        Raises
        ------
        ValueError
            If data or parameters cannot be used.

        Warns
        -----
        UserWarning
            If a frozen estimator was trained on many of the rows.
        """
        parameters = self.get_params(deep=False)
        validate_parameter_constraints(self._parameter_constraints, parameters, "NoveltyDetector")
        self._forget()
        self._judge = Judge(self.measure, self.layer, beside=self.estimator is not None)
        learning = Learning(self._judge, self.cv, root_seed(self.random_state))
        if self.estimator is None:
            estimator, (learnt, left_out) = (
                None,
                learning.learn(None, self._read_rows(X, reset=True)),
            )
        elif isinstance(self.estimator, FrozenEstimator):
            estimator = self.estimator
            check_is_fitted(unfrozen(estimator))
            X, y = with_targets(X, y) if learning.needs_labels(estimator) else (rereadable(X), y)
            warn_of_rows_seen(estimator, X, to="show what is normal")
            learnt, left_out = learning.learn(estimator, X, y)
        else:
            estimator, learnt, left_out = learning.fit(self.estimator, X, y)
        self._learnt, self.estimator_ = learnt, estimator
        self.calibration_scores_ = np.sort(left_out[~np.isnan(left_out)])
        flagged = self.calibration_scores_
        if estimator is None and self.cv is None:  # a share of these rows, as in scikit-learn
            flagged = self.predict_novelty(X)
        self.offset_ = -threshold(flagged, self.contamination)
        return self

    # -- predict ---------------------------------------------------------------------------------

    def predict_novelty(self, X: MatrixLike) -> np.ndarray:
        """Compute how strange each row is.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as the estimator takes them. Those of Datasets and large memory maps are read a
            few at a time.

        Returns
        -------
        ndarray of shape (n_samples,)
            The novelty of each row; high is strange. Its unit depends on the measure.
        """
        check_is_fitted(self)
        rows = X if self.estimator_ is not None else self._read_rows(X, reset=False)
        return self._judge(self.estimator_, self._learnt, rows)

    def score_samples(self, X: MatrixLike) -> np.ndarray:
        """Compute how normal each row is: the negative of `predict_novelty`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_samples,)
            The normality of each row; low is strange.
        """
        return -self.predict_novelty(X)

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Compute how far each row is on the normal side of the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``; negative where a row is flagged.
        """
        normality = self.score_samples(X)
        return normality - self.offset_

    def p_values(self, X: MatrixLike) -> np.ndarray:
        """Compute the conformal p-value of each row [1]_.

        It is (1 + number of calibration rows that are at least as strange) / (n + 1). If a row is
        exchangeable with the n calibration rows, it is at most α with probability at most α, for
        any α. This is exact if the calibration rows were kept apart, and approximate if they were
        cross-fitted; see the Notes of the class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_samples,)
            Numbers in [1/(n + 1), 1]; small is strange.

        References
        ----------
        .. [1] S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia, "Testing for Outliers with
           Conformal p-values", Annals of Statistics 51, 2023, arXiv:2104.08279.
        """
        return p_values_of(self.predict_novelty(X), self.calibration_scores_)

    def predict(self, X: MatrixLike, fdr: float | None = None) -> np.ndarray:
        """Flag strange rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as the estimator takes them.
        fdr : float in (0, 1), default=None
            None flags each row by the threshold `offset_`. A number flags rows of the whole batch,
            by the procedure of Benjamini and Hochberg [1]_ on `p_values`: among the flagged rows,
            the expected share of known ones is at most this.

        Returns
        -------
        ndarray of shape (n_samples,)
            −1 for strange rows, 1 for normal ones.

        Raises
        ------
        ValueError
            If so few calibration rows cannot reach `fdr`; the message says how many it takes.

        References
        ----------
        .. [1] Y. Benjamini, Y. Hochberg, "Controlling the False Discovery Rate: A Practical and
           Powerful Approach to Multiple Testing", Journal of the Royal Statistical Society B 57,
           1995, doi:10.1111/j.2517-6161.1995.tb02031.x.
        """
        if fdr is None:
            strange = self.decision_function(X) < 0
        else:
            strange = discoveries(self.p_values(X), fdr, len(self.calibration_scores_))
        return np.where(strange, -1, 1)

    def fit_predict(self, X: MatrixLike, y: ArrayLike | None = None, **options: Any) -> np.ndarray:
        """Fit the detector, and flag strange rows among the same.

        Parameters
        ----------
        X, y : as in `fit`
            Rows, and their labels or targets.
        **options
            Nothing; only for scikit-learn's signature.

        Returns
        -------
        ndarray of shape (n_samples,)
            −1 for strange rows, 1 for normal ones.
        """
        return self.fit(X, y, **options).predict(X)
