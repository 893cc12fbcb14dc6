"""scikit-learn's ensembles as stacks of draws: skuq's own rows of the table of `register_draws`.

Each function takes a fitted estimator and rows, and returns draws as `skuq.register_draws` says.
The estimators are known by name, so that nothing of scikit-learn is imported before it is used.
"""

from __future__ import annotations

from skuq._ensembles._boosting import stages_of_classifier, stages_of_regressor
from skuq._ensembles._committees import (
    bagged_classifiers,
    bagged_regressors,
    stacked_classifiers,
    stacked_regressors,
    voting_classifiers,
    voting_regressors,
)
from skuq._ensembles._gaussians import gaussian_process, linear_bayes
from skuq._ensembles._trees import forest_classifier, forest_regressor, tree_regressor
from skuq._registry import register_built_in

__all__: list[str] = []

_ROWS = {
    "RandomForestClassifier": forest_classifier,
    "ExtraTreesClassifier": forest_classifier,
    "RandomForestRegressor": forest_regressor,
    "ExtraTreesRegressor": forest_regressor,
    "DecisionTreeRegressor": tree_regressor,
    "ExtraTreeRegressor": tree_regressor,
    "BaggingClassifier": bagged_classifiers,
    "BaggingRegressor": bagged_regressors,
    "VotingClassifier": voting_classifiers,
    "VotingRegressor": voting_regressors,
    "StackingClassifier": stacked_classifiers,
    "StackingRegressor": stacked_regressors,
    "GradientBoostingClassifier": stages_of_classifier,
    "GradientBoostingRegressor": stages_of_regressor,
    "HistGradientBoostingClassifier": stages_of_classifier,
    "HistGradientBoostingRegressor": stages_of_regressor,
    "GaussianProcessRegressor": gaussian_process,
    "BayesianRidge": linear_bayes,
    "ARDRegression": linear_bayes,
}
for _name, _function in _ROWS.items():
    register_built_in(f"sklearn.{_name}", _function)
