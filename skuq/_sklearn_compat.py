"""The one place that imports what scikit-learn does not promise to keep."""

from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from sklearn.utils.validation import _check_sample_weight, _num_samples

__all__ = [
    "BaseSearchCV",
    "Interval",
    "StrOptions",
    "_check_sample_weight",
    "_num_samples",
    "_safe_indexing",
    "validate_parameter_constraints",
]
