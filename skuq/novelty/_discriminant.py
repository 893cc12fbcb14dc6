"""`GaussianDiscriminant`: a classifier that knows how dense its classes are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch import Tensor

from skuq._data._checks import refuse_no_labels
from skuq._distributions._softmax import Softmax
from skuq._features import map_features
from skuq._meta import fit_clone
from skuq._predict import ClassifierPredictions
from skuq._sklearn_estimators import reduced
from skuq._utils._arrays import tensor_of
from skuq._utils._messages import unfrozen
from skuq._utils._progress import Task
from skuq._utils._sklearn_compat import StrOptions
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.novelty._gaussians import fit_gaussians, log_densities
from skuq.novelty._rows import OnFeatures, checked_network, features_of

__all__ = ["GaussianDiscriminant"]

_WHY = "GaussianDiscriminant"


class GaussianDiscriminant(ClassifierPredictions, ClassifierMixin, OnFeatures, BaseEstimator):
    """Classifier by the densities of the classes: a Gaussian for each, on features [1]_ [2]_.

    By the rule of Bayes, p(y | z) ∝ p(z | y) p(y), where z are the features that enter the last
    linear layer of a network, p(z | y) is a Gaussian, and p(y) is the share of the class. Unlike a
    softmax, it also knows how dense features are: `score_samples` is low where no class is near.

    Parameters
    ----------
    estimator : estimator, default=None
        A skuq estimator; or a Pipeline, search or calibrator around one. `fit` fits it to the same
        rows, unless it is a ``FrozenEstimator(estimator)``. None stands on the columns of X
        themselves: then this is linear or quadratic discriminant analysis.
    covariance : {"ledoit_wolf", "empirical"}, default="ledoit_wolf"
        Estimate of the covariances: that of Ledoit and Wolf, which always has an inverse, of
        features in units of their deviation; or the empirical one, divided by the number of rows.
    tied : bool, default=True
        Whether all classes share one covariance, so that borders between classes are linear.
        Otherwise each class has its own.
    layer : str, default=None
        Name of the layer whose inputs are the features, as in `skuq.predict_features`; None takes
        the last linear layer.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, in the order of the columns.
    priors_ : ndarray of shape (n_classes,)
        Share of each class in the rows of `fit`.
    estimator_ : estimator or None
        The fitted estimator.
    n_features_in_ : int
        Number of features that the estimator was fitted on.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of these features; only if all are strings.

    See Also
    --------
    NoveltyDetector : Decides which rows are strange, by such Gaussians or otherwise.
    sklearn.discriminant_analysis.LinearDiscriminantAnalysis : The same on columns of X, with
        ``covariance="empirical"``.

    Notes
    -----
    Each network of an ensemble has Gaussians of its own: they are the draws of `predict_draws`,
    and their disagreement is the epistemic uncertainty. A constant feature counts as if it varied
    like the others; one that is constant in a class, as it varies within all classes. A feature of
    a network counts as if it had at least a tenth of the typical deviation.

    References
    ----------
    .. [1] K. Lee, K. Lee, H. Lee, J. Shin, "A Simple Unified Framework for Detecting
       Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018, arXiv:1807.03888.
    .. [2] J. Mukhoti, A. Kirsch, J. van Amersfoort, P. H. S. Torr, Y. Gal, "Deep Deterministic
       Uncertainty: A New Simple Baseline", CVPR 2023, arXiv:2102.11582.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq.novelty import GaussianDiscriminant
    >>> X, y = load_iris(return_X_y=True)
    >>> discriminant = GaussianDiscriminant().fit(X, y)
    >>> discriminant.predict_proba(X).shape
    (150, 3)
    >>> near, far = discriminant.score_samples([X[0], X[0] + 10])
    >>> bool(near > far)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "covariance": [StrOptions({"ledoit_wolf", "empirical"})],
        "tied": ["boolean"],
        "layer": [str, None],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        covariance: str = "ledoit_wolf",
        tied: bool = True,
        layer: str | None = None,
    ) -> None:
        self.estimator = estimator
        self.covariance = covariance
        self.tied = tied
        self.layer = layer

    def fit(self, X: MatrixLike, y: ArrayLike | None = None) -> Self:
        """Fit the Gaussians, and the estimator unless it is frozen.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them. Around a frozen estimator also a torch Dataset of
            pairs (x, y).
        y : array-like of shape (n_samples,), default=None
            Labels of the rows; None if X is a Dataset, which has them.

        Returns
        -------
        self : GaussianDiscriminant
            The fitted discriminant itself.

        Raises
        ------
        ValueError
            If data or parameters cannot be used, or an empirical covariance has no inverse.
        """
        self._forget()
        X, y = self._check_call_of_fit(X, y)
        if self.estimator is None:
            X, y = self._read_rows(X, y, reset=True)
        else:
            refuse_no_labels("y", y)
        check_classification_targets(y)
        labels = column_or_1d(y, warn=True)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"GaussianDiscriminant needs rows of at least 2 classes, got "
                f"{len(self.classes_)} class: {self.classes_}"
            )
        fitted = self._fitted(X, labels)
        self._at = self.layer
        features = X[None] if fitted is None else features_of(fitted, X, self._at, _WHY)
        if features.shape[1] != len(codes):
            raise ValueError(
                f"X has {features.shape[1]} rows, but y has {len(codes)} labels; expected as many"
            )
        options: dict[str, Any] = {"tied": self.tied, "empirical": self.covariance == "empirical"}
        options["network"] = fitted is not None
        self._gaussians = [fit_gaussians(rows, codes, **options) for rows in features]
        self.priors_ = np.bincount(codes) / len(codes)
        self.estimator_ = fitted
        return self

    def _fitted(self, X: Any, y: np.ndarray) -> Any:
        if self.estimator is None:
            return None
        if isinstance(self.estimator, FrozenEstimator):
            check_is_fitted(unfrozen(self.estimator))
            return self.estimator
        return fit_clone(Task("fit"), self.estimator, X, y, None)

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        """Reduce the distributions of all networks' Gaussians; see `skuq._predict`."""
        check_is_fitted(self)
        if self.estimator_ is None:
            rows = self._read_rows(X, reset=False)
            return reduced(reduction, self._posterior(rows[None]), aligned)
        checked_network(self.estimator_, X, _WHY)

        def of_features(features: Tensor, *same_rows: Tensor) -> Any:
            posterior = self._posterior(features.cpu().numpy())
            return reduction(posterior, *(rows.cpu() for rows in same_rows))

        return map_features(self.estimator_, X, of_features, *aligned, layer=self._at)

    def _posterior(self, features: np.ndarray) -> Softmax:
        """Make distributions whose logits are log p(z, y), from features of each network."""
        joint = [log_densities(one, rows) for one, rows in zip(self._gaussians, features)]
        return Softmax(tensor_of(np.stack(joint)))

    def score_samples(self, X: MatrixLike) -> np.ndarray:
        """Compute the logarithm of the density of each row's features, over all classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_samples,)
            log p(z) = log Σ_y p(z | y) p(y); with an ensemble, the mean over its networks. Low is
            strange.
        """
        density: np.ndarray = self._reduce(X, lambda joint: joint._param.logsumexp(-1).mean(0))
        return density
