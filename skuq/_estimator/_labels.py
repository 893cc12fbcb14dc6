"""Labels of a classifier, and their weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skuq._data._checks import (
    names_of_labels,
    refuse_no_labels,
    refuse_other_labels,
    shape_of,
)
from skuq._estimator._class_weights import weights_of_classes
from skuq._estimator._reading import Reading
from skuq._estimator._soft_labels import (
    checked_probabilities,
    names_of_classes,
    names_of_columns,
)
from skuq.likelihoods import Likelihood

__all__ = ["Labels"]


class Labels(Reading):
    """Mixin of the steps of `fit` that look at labels: one per row, or several indicators."""

    class_weight: Any
    classes_: np.ndarray
    label_names_: np.ndarray
    likelihood: Likelihood | None
    _multilabel: bool

    @property
    def _soft(self) -> bool:
        """Whether y holds probabilities of the classes."""
        return self.likelihood is not None and self.likelihood.takes_probabilities

    def _check_data(
        self, X: Any, y: Any, likelihood: Likelihood, checks: dict[str, Any], reset: bool
    ) -> Any:
        takes_columns = likelihood.takes_indicators or likelihood.takes_probabilities
        if not takes_columns and len(shape := shape_of(y)) == 2 and shape[1] > 1:
            raise ValueError(
                f"y should be a 1d array of labels, got shape {shape}. For several labels "
                "at once, each true (1) or not (0), use likelihood=Bernoulli(); for probabilities "
                "of classes, Categorical(soft_labels=True)"
            )
        if y is not None and not likelihood.takes_missing:
            refuse_no_labels("y", y)
        self._keep_label_names(y, reset)
        return super()._check_data(X, y, likelihood, checks, reset)

    def _keep_label_names(self, y: Any, reset: bool) -> None:
        """Keep the names of the columns of indicators, or refuse others than in the first fit."""
        names = None if self._soft else names_of_labels(y)
        if not reset:
            refuse_other_labels(names, getattr(self, "label_names_", None))
            return
        self.__dict__.pop("label_names_", None)
        if names is not None:
            self.label_names_ = names

    def _given_classes(self, y: Any, classes: Any) -> Any:
        return names_of_classes(classes, names_of_columns(y)) if self._soft else classes

    def _read_targets(self, y: np.ndarray, reset: bool, classes: Any = None) -> np.ndarray:
        if self._soft:
            return self._read_probabilities(y, reset, classes)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if callable(classes):
            classes = classes(y)
        if classes is not None:
            refuse_no_labels("classes", classes)
        if reset:
            self._multilabel = y.ndim == 2
        elif self._multilabel != (y.ndim == 2):
            raise ValueError(
                f"y has shape {y.shape}, but the first fit of this classifier had "
                f"{'several labels' if self._multilabel else 'one label'} per row"
            )
        if self._multilabel:
            return self._read_indicators(y, reset, classes)
        if reset and classes is None:
            self.classes_, codes = np.unique(y, return_inverse=True)
            self._refuse_one_class()
            return codes
        if reset:
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes={classes!r} differs from the classes of the first fit, {self.classes_}"
            )
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y contains labels {unknown[:5]} that are not in the classes {self.classes_}; "
                "give all labels as `classes`, in the first call of partial_fit or in "
                "from_trained, or set warm_start=False to fit anew"
            )
        self._refuse_one_class()
        return np.searchsorted(self.classes_, y)

    def _refuse_one_class(self) -> None:
        if len(self.classes_) < 2:
            raise ValueError(
                f"y contains only one class, {self.classes_}; a classifier needs at least 2 classes"
            )

    def _read_indicators(self, y: np.ndarray, reset: bool, classes: Any) -> np.ndarray:
        """Check indicators: 0 or 1 for each of several labels."""
        if not np.isin(y, (0, 1)).all():
            raise ValueError(
                f"y of shape {y.shape} must hold only 0 and 1, got values such as "
                f"{y[~np.isin(y, (0, 1))][:1]}; each column says whether its label is true"
            )
        labels = np.arange(y.shape[1])
        if classes is not None and not np.array_equal(np.unique(classes), labels):
            raise ValueError(
                f"classes={classes!r} must number the columns of y, of shape {y.shape}: 0, 1, …"
            )
        if reset:
            self.classes_ = labels
        elif len(labels) != len(self.classes_):
            raise ValueError(
                f"y has {len(labels)} labels, but the first fit of this classifier had "
                f"{len(self.classes_)}"
            )
        return y.astype(np.int64)

    def _read_probabilities(self, y: np.ndarray, reset: bool, classes: Any) -> np.ndarray:
        """Check probabilities of classes, one for each column."""
        if not reset and classes is None and y.shape[1:] == self.classes_.shape:
            classes = self.classes_
        proba, names = checked_probabilities(y, classes)
        if reset:
            self._multilabel, self.classes_ = False, names
        elif not np.array_equal(names, self.classes_):
            raise ValueError(
                f"y has a probability for each of the classes {names}, but the first fit of this "
                f"classifier had {self.classes_}; set warm_start=False to fit anew"
            )
        return proba

    def _check_warm_start(self, target: np.ndarray) -> None:
        absent = np.setdiff1d(np.arange(len(self.classes_)), target)
        if target.ndim == 1 and len(absent):
            raise ValueError(
                f"warm_start=True goes on with the classes {self.classes_} of the last fit, but y "
                f"has no row of {self.classes_[absent][:5]}; set warm_start=False to fit anew, or "
                "use partial_fit, whose rows need not hold every class"
            )

    def _check_targets(self, target: np.ndarray, weight: np.ndarray | None) -> None:
        known = target[~np.isnan(target)]
        if target.ndim == 1 and known.min() == known.max():
            by_class = "" if self.class_weight is None else "class_weight or "
            raise ValueError(
                f"only one class is left after rows with {by_class}sample_weight zero are removed, "
                f"{self.classes_[[int(known[0])]]}; a classifier needs at least 2 classes"
            )

    def _class_weights(self, target: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        if self.class_weight is None:
            return None
        if target.ndim == 2:
            raise ValueError(
                "class_weight needs one label per row; with several labels give "
                "likelihood=Bernoulli(pos_weight='balanced'), or a weight for each label; with "
                "probabilities of classes, give sample_weight"
            )
        known = ~np.isnan(target)
        of_known = None if weight is None else weight[known]
        labels = target[known].astype(np.int64)
        return weights_of_classes(self.class_weight, self.classes_, labels, of_known)
