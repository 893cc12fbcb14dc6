"""The one place that imports what scikit-learn does not promise to keep."""

import sys
from typing import Any

from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from sklearn.utils.validation import _check_sample_weight, _num_samples

from skuq._utils._stock import is_stock

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing to support."""

    def with_callbacks(method: Any) -> Any:
        return method


def is_transformed_target_regressor(estimator: Any) -> bool:
    """Without importing sklearn.compose, and with it every linear model: where there is such an
    estimator, it is imported."""
    compose = sys.modules.get("sklearn.compose")
    return compose is not None and is_stock(estimator, compose.TransformedTargetRegressor)


__all__ = [
    "BaseSearchCV",
    "CallbackSupportMixin",
    "Interval",
    "StrOptions",
    "_check_sample_weight",
    "_num_samples",
    "_safe_indexing",
    "is_transformed_target_regressor",
    "validate_parameter_constraints",
    "with_callbacks",
]
