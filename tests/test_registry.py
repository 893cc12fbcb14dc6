"""Classes of other packages, registered as stacks of draws."""

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import _registry
from skuq import metrics as m

X = np.linspace(-1, 1, 12)[:, None]


@pytest.fixture(autouse=True)
def same_table_after():
    before = dict(_registry._TABLE)
    yield
    _registry._TABLE.clear()
    _registry._TABLE.update(before)


class Slopes(RegressorMixin, BaseEstimator):
    """Lines through the origin; it does not show that it is fitted in scikit-learn's way."""

    slopes = None

    def fit(self, X, y):
        self.slopes = np.array([0.0, 1.0, 2.0])
        return self

    def predict(self, X):
        return np.asarray(X)[:, 0] * self.slopes.mean()


class Steeper(Slopes):
    pass


class Coins(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


def lines(model, X):
    return model.slopes[:, None] * np.asarray(X)[:, 0]


def test_means_only():
    skuq.register_draws(Slopes, lines)
    for model in (Slopes(), Steeper()):
        model.fit(X, X[:, 0])
        draws = skuq.predict_draws(model, X)
        np.testing.assert_allclose(draws[..., 0], np.array([[0.0], [1.0], [2.0]]) * X[:, 0])
        parts = skuq.predict_uncertainty(model, X, kind="all")
        np.testing.assert_allclose(parts.epistemic, 2 / 3 * X[:, 0] ** 2)
        assert not parts.aleatoric.any()
    inside = make_pipeline(StandardScaler(), Slopes()).fit(X, X[:, 0])
    unit = X[:, 0] / X[:, 0].std()
    np.testing.assert_allclose(skuq.predict_uncertainty(inside, X), 2 / 3 * unit**2)


def test_means_with_noise_and_distributions():
    model = Slopes().fit(X, X[:, 0])
    skuq.register_draws(Slopes, lambda model, X: (lines(model, X), np.full((3, len(X)), 2.0)))
    parts = skuq.predict_uncertainty(model, X, kind="all")
    np.testing.assert_allclose(parts.aleatoric, 4.0)
    np.testing.assert_allclose(parts.epistemic, 2 / 3 * X[:, 0] ** 2)
    interval = skuq.predict_interval(model, X)
    score = m.nll_scorer(model, X, X[:, 0])

    def normals(model, X):
        mean = torch.as_tensor(lines(model, X))[..., None]
        return torch.distributions.Normal(mean, torch.full_like(mean, 2.0))

    skuq.register_draws(Slopes, normals)  # a second call replaces the first
    np.testing.assert_allclose(skuq.predict_interval(model, X), interval)
    assert m.nll_scorer(model, X, X[:, 0]) == pytest.approx(score)


def test_probabilities():
    first = np.array([0.1, 0.9])[:, None, None]
    skuq.register_draws(
        Coins, lambda model, X: np.tile(np.concatenate([first, 1 - first], -1), (1, len(X), 1))
    )
    coins = Coins().fit(X, X[:, 0] > 0)
    parts = skuq.predict_uncertainty(coins, X, kind="all")
    np.testing.assert_allclose(parts.total, np.log(2))
    np.testing.assert_allclose(parts.aleatoric, -0.1 * np.log(0.1) - 0.9 * np.log(0.9))
    assert m.nll_scorer(coins, X, X[:, 0] > 0) == pytest.approx(-np.log(2))


def test_a_name_saves_the_import():
    package = Slopes.__module__.partition(".")[0]
    skuq.register_draws(f"{package}.Slopes", lines)
    assert len(skuq.predict_draws(Slopes().fit(X, X[:, 0]), X)) == 3


def test_the_nearest_class_counts():
    skuq.register_draws(Slopes, lines)
    skuq.register_draws(Steeper, lambda model, X: 2 * lines(model, X))
    np.testing.assert_allclose(
        skuq.predict_draws(Steeper().fit(X, X[:, 0]), X),
        2 * skuq.predict_draws(Slopes().fit(X, X[:, 0]), X),
    )


def test_a_row_replaces_one_of_skuq():
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(3, random_state=0).fit(X, X[:, 0])
    skuq.register_draws("sklearn.RandomForestRegressor", lambda model, X: np.zeros((2, len(X))))
    assert skuq.predict_draws(forest, X).shape == (2, len(X), 1)


@pytest.mark.parametrize(
    "draws, message",
    [
        (np.zeros(12), r"must have shape \(n_draws, n_samples\)"),
        (np.zeros((3, 11)), "with 12 rows, got shape"),
        (np.zeros((0, 12)), "got shape"),
        (np.full((3, 12), np.nan), "contain NaN"),
        ((np.zeros((3, 12)), np.zeros((2, 12))), "have the shape of the means"),
        ((np.zeros((3, 12)), np.full((3, 12), -1.0)), "at least 0"),
        (torch.distributions.Normal(torch.zeros(12), 1.0), "batch shape"),
        (torch.distributions.Normal(torch.zeros(2, 12, 1), 1.0), "finite numbers in float64"),
        (
            torch.distributions.Normal(torch.full((2, 12, 1), torch.nan).double(), 1.0, False),
            "finite numbers in float64",
        ),
    ],
)
def test_draws_of_a_wrong_kind(draws, message):
    skuq.register_draws(Slopes, lambda model, X: draws)
    with pytest.raises(ValueError, match=message):
        skuq.predict_draws(Slopes().fit(X, X[:, 0]), X)


@pytest.mark.parametrize(
    "draws",
    [np.zeros((2, 12, 2)), np.full((2, 12, 3), 1 / 3), np.tile([[[-1.0, 2.0]]], (2, 12, 1))],
)
def test_probabilities_of_a_wrong_kind(draws):
    skuq.register_draws(Coins, lambda model, X: draws)
    with pytest.raises(ValueError, match="must be probabilities of shape"):
        skuq.predict_draws(Coins().fit(X, X[:, 0] > 0), X)


def test_classifiers_need_labels():
    skuq.register_draws(Coins, lambda model, X: np.full((2, len(X), 2), 0.5))
    with pytest.raises(TypeError, match="must have classes_"):
        skuq.predict_draws(Coins(), X)


@pytest.mark.parametrize("cls", [None, Slopes(), "Slopes", "a.b.C", ".C", "a.", "a b.C"])
def test_classes_of_a_wrong_kind(cls):
    with pytest.raises(TypeError, match="cls must be a class, or a name such as"):
        skuq.register_draws(cls, lines)


@pytest.mark.parametrize("function", [None, "lines", Slopes])
def test_functions_of_a_wrong_kind(function):
    with pytest.raises(TypeError, match="function must be a function"):
        skuq.register_draws(LinearRegression, function)


def test_ngboost():
    ngboost = pytest.importorskip("ngboost")
    skuq.register_draws(
        ngboost.NGBRegressor,
        lambda model, X: tuple(model.pred_dist(X).params[name][None] for name in ("loc", "scale")),
    )
    rows = np.random.default_rng(0).normal(size=(60, 2))
    y = rows[:, 0] + 0.1 * rows[:, 1]
    model = ngboost.NGBRegressor(n_estimators=5, verbose=False, random_state=0).fit(rows, y)
    expected = model.pred_dist(rows).params["scale"] ** 2
    np.testing.assert_allclose(skuq.predict_uncertainty(model, rows), expected)
    assert np.isfinite(m.nll_scorer(model, rows, y))


def test_catboost():
    catboost = pytest.importorskip("catboost")

    def virtual_ensemble(model, X):
        stages = model.virtual_ensembles_predict(X, virtual_ensembles_count=5)
        return np.moveaxis(stages[..., 0], 0, 1)

    skuq.register_draws(catboost.CatBoostRegressor, virtual_ensemble)
    rows = np.random.default_rng(0).normal(size=(60, 2))
    model = catboost.CatBoostRegressor(
        iterations=20, posterior_sampling=True, random_seed=0, verbose=False,
        allow_writing_files=False,
    ).fit(rows, rows[:, 0])  # fmt: skip
    stages = model.virtual_ensembles_predict(rows, virtual_ensembles_count=5)[..., 0]
    np.testing.assert_allclose(skuq.predict_uncertainty(model, rows), stages.var(1))
