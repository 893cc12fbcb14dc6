"""The only place that imports private parts of scikit-learn."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from sklearn.utils.metaestimators import available_if as _available_if
from sklearn.utils.validation import _check_sample_weight, _num_samples

from skuq._utils._stock import is_stock

try:
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback import with_callbacks as _with_callbacks
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """A mixin without callbacks to support."""

    def _with_callbacks(method: Any) -> Any:
        return method


_Method = TypeVar("_Method", bound=Callable[..., Any])


def with_callbacks(fit: _Method) -> _Method:
    """Let scikit-learn's callbacks watch `fit`, which keeps its type."""
    watched: _Method = _with_callbacks(fit)
    return watched


def available_if(check: Callable[[Any], bool]) -> Callable[[_Method], _Method]:
    """scikit-learn's decorator of the same name; the method keeps its type."""
    decorate: Callable[[_Method], _Method] = _available_if(check)
    return decorate


def is_transformed_target_regressor(estimator: Any) -> bool:
    """Return whether an estimator is a TransformedTargetRegressor.

    This does not import sklearn.compose, which would import every linear model: if there is such an
    estimator, it is imported already.
    """
    compose = sys.modules.get("sklearn.compose")
    return compose is not None and is_stock(estimator, compose.TransformedTargetRegressor)


__all__ = [
    "BaseSearchCV",
    "CallbackSupportMixin",
    "Interval",
    "StrOptions",
    "available_if",
    "_check_sample_weight",
    "_num_samples",
    "_safe_indexing",
    "is_transformed_target_regressor",
    "validate_parameter_constraints",
    "with_callbacks",
]
