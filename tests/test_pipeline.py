"""Uncertainty through scikit-learn's composition."""

import numpy as np
import pandas as pd
import pytest
from sklearn import pipeline as stock
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.novelty import NoveltyDetector
from skuq.pipeline import Pipeline, make_pipeline, predict_quantiles
from skuq.posteriors import MCDropout


def classifier():
    return TorchClassifier(posterior=MCDropout(5), max_epochs=3, lr=0.01, random_state=0)


def regressor():
    return TorchRegressor(posterior=MCDropout(5), max_epochs=5, lr=0.01, random_state=0)


def test_through_everything_at_once(blobs):
    """search → pipeline → frozen → pipeline."""
    X, y = blobs
    search = GridSearchCV(
        stock.make_pipeline(StandardScaler(), "passthrough", classifier()),
        {"torchclassifier__max_epochs": [2, 3]},
        cv=2,
    ).fit(X, y)
    frozen = stock.make_pipeline(FunctionTransformer(), FrozenEstimator(search)).fit(X, y)
    network = search.best_estimator_[-1]
    Z = search.best_estimator_[0].transform(X)
    for kind in ("total", "aleatoric", "epistemic"):
        expected = network.predict_uncertainty(Z, kind)
        assert np.array_equal(skuq.predict_uncertainty(frozen, X, kind), expected)
    assert np.array_equal(skuq.predict_draws(frozen, X), network.predict_draws(Z))
    margin = skuq.predict_uncertainty(frozen, X, measure="margin")
    assert np.array_equal(margin, network.predict_uncertainty(Z, measure="margin"))


def test_of_an_estimator_itself(blobs):
    X, y = blobs
    fitted = classifier().fit(X, y)
    assert np.array_equal(skuq.predict_uncertainty(fitted, X), fitted.predict_uncertainty(X))


def test_column_transformer_and_frames(blobs):
    X, y = blobs
    frame = pd.DataFrame(X, columns=list("abcdefghij")).assign(kind=np.array(["u", "v"])[y % 2])
    columns = ColumnTransformer(
        [("kind", OneHotEncoder(sparse_output=False), ["kind"])], remainder=StandardScaler()
    ).set_output(transform="pandas")
    fitted = make_pipeline(columns, classifier()).fit(frame, y)
    assert fitted.predict_uncertainty(frame, kind="all").epistemic.shape == (len(y),)
    assert fitted[-1].feature_names_in_[0] == "kind__kind_u"


def test_our_pipeline_offers_what_its_end_can(blobs, diabetes):
    X, y = blobs
    fitted = make_pipeline(StandardScaler(), classifier()).fit(X, y)
    assert isinstance(fitted, stock.Pipeline) and isinstance(fitted, Pipeline)
    assert np.array_equal(fitted.predict_uncertainty(X), skuq.predict_uncertainty(fitted, X))
    assert fitted.predict_draws(X).shape == (5, len(X), 3)
    assert not hasattr(fitted, "predict_interval")
    assert not hasattr(make_pipeline(StandardScaler(), LinearRegression()), "predict_uncertainty")
    inside = make_pipeline(FrozenEstimator(stock.make_pipeline(StandardScaler(), classifier())))
    assert hasattr(inside, "predict_draws") and not hasattr(inside, "predict_novelty")
    for around in (CalibratedClassifierCV(classifier()), NoveltyDetector(classifier())):
        assert not hasattr(make_pipeline(around), "predict_uncertainty")  # skuq could not ask it
    X, y = diabetes
    fitted = make_pipeline(StandardScaler(), TransformedTargetRegressor(regressor())).fit(X, y)
    assert fitted.predict_interval(X).shape == (len(y), 2)
    assert fitted.predict_quantiles(X, [0.2]).shape == (len(y), 1)


def test_return_std_through_a_stock_pipeline(diabetes):
    X, y = diabetes
    fitted = stock.make_pipeline(StandardScaler(), regressor()).fit(X, y)
    mean, std = fitted.predict(X, return_std=True)
    assert mean.shape == std.shape == y.shape and (std > 0).all()


SCALERS = [
    None,
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    RobustScaler(with_centering=False),
    RobustScaler(with_scaling=False),
    FunctionTransformer(),
    MinMaxScaler((-2, 5)),
    MaxAbsScaler(),
    RobustScaler(),
    stock.make_pipeline(StandardScaler(), "passthrough", MinMaxScaler()),
]


@pytest.mark.parametrize("scaler", SCALERS, ids=str)
@pytest.mark.parametrize("n_targets", [0, 2])
def test_linear_target_transforms_are_exact(scaler, n_targets, diabetes):
    X, y = diabetes
    y = np.column_stack([y, 5 - 1000 * y]) if n_targets else y
    fitted = TransformedTargetRegressor(regressor(), transformer=scaler).fit(X, y)
    inner = fitted.regressor_

    def back(values):
        """The transformer's own inverse, column by column."""
        flat = np.asarray(values).reshape(-1, n_targets or 1)
        return fitted.transformer_.inverse_transform(flat).reshape(values.shape)

    np.testing.assert_allclose(skuq.predict_draws(fitted, X), back(inner.predict_draws(X)))
    interval = inner.predict_interval(X)
    for end in (0, 1):
        np.testing.assert_allclose(
            skuq.predict_interval(fitted, X)[..., end], back(interval[..., end])
        )
    assert predict_quantiles(fitted, X, [0.1, 0.5, 0.9]).shape == (*y.shape, 3)
    parts = skuq.predict_uncertainty(fitted, X, kind="all")
    epistemic = skuq.predict_draws(fitted, X).var(0).reshape(y.shape)
    np.testing.assert_allclose(parts.epistemic, epistemic)
    slope = parts.total / inner.predict_uncertainty(X)
    np.testing.assert_allclose(parts.aleatoric, slope * inner.predict_uncertainty(X, "aleatoric"))


def test_nested_target_transforms(diabetes):
    X, y = diabetes
    inner = TransformedTargetRegressor(regressor(), transformer=MinMaxScaler())
    outer = TransformedTargetRegressor(inner, transformer=StandardScaler()).fit(X, y)
    np.testing.assert_allclose(skuq.predict_draws(outer, X).mean(0)[:, 0], outer.predict(X))


LOG = {"func": np.log1p, "inverse_func": np.expm1}


def quantiles_by_hand(inverse, regressor_, X, levels):
    inner = regressor_.predict_quantiles(X, levels)
    return np.stack([inverse(column) for column in inner.T], axis=1)


@pytest.mark.parametrize(
    "options",
    [
        LOG,
        {"func": np.negative, "inverse_func": np.negative},
        {"transformer": QuantileTransformer(n_quantiles=50, output_distribution="normal")},
        {"transformer": PowerTransformer()},
        {"transformer": make_pipeline(FunctionTransformer(np.log, np.exp), StandardScaler())},
    ],
    ids=str,
)
def test_quantiles_are_pushed_through_target_transforms(options, diabetes):
    X, y = diabetes
    fitted = TransformedTargetRegressor(regressor(), **options).fit(X, y)
    levels = np.array([0.3, 0.5, 0.7])
    turned = fitted.transformer_.inverse_transform([[1.0], [2.0]])
    inner_levels = 1 - levels if turned[1] < turned[0] else levels
    expected = quantiles_by_hand(
        lambda z: fitted.transformer_.inverse_transform(z[:, None])[:, 0],
        fitted.regressor_,
        X,
        inner_levels,
    )
    np.testing.assert_allclose(skuq.predict_quantiles(fitted, X, levels), expected, rtol=1e-9)
    interval = skuq.predict_interval(fitted, X, 0.4)
    np.testing.assert_allclose(interval, np.sort(expected[:, [0, 2]], axis=1), rtol=1e-9)


def test_moments_through_a_logarithm_are_those_of_a_lognormal(diabetes):
    X, y = diabetes
    fitted = TransformedTargetRegressor(regressor(), func=np.log, inverse_func=np.exp).fit(X, y)
    seen = fitted.regressor_._reduce(X, lambda d: (d.mean.movedim(0, 1), d.stddev.movedim(0, 1)))
    mean, std = (part[..., 0].T for part in seen)
    means = np.exp(mean + std**2 / 2)
    variances = means**2 * np.expm1(std**2)
    draws = skuq.predict_draws(fitted, X)
    np.testing.assert_allclose(draws[..., 0], means, rtol=1e-6)
    parts = skuq.predict_uncertainty(fitted, X, kind="all")
    np.testing.assert_allclose(parts.aleatoric, variances.mean(0), rtol=1e-5)
    np.testing.assert_allclose(parts.epistemic, means.var(0), rtol=1e-5)
    np.testing.assert_allclose(parts.total, parts.aleatoric + parts.epistemic)


def test_two_targets_through_a_nonlinear_transform(diabetes):
    X, y = diabetes
    both = np.stack([y, 400 - y], axis=1)
    fitted = TransformedTargetRegressor(regressor(), **LOG).fit(X, both)
    inner = fitted.regressor_.predict_quantiles(X, [0.2, 0.8])
    np.testing.assert_allclose(skuq.predict_quantiles(fitted, X, [0.2, 0.8]), np.expm1(inner))
    assert skuq.predict_uncertainty(fitted, X).shape == both.shape


def test_target_transforms_that_cannot_be_undone(diabetes):
    X, y = diabetes
    poles = {"func": np.reciprocal, "inverse_func": np.reciprocal}
    small = TransformedTargetRegressor(regressor(), **poles).fit(X, y)
    for ask in (skuq.predict_uncertainty, skuq.predict_interval):
        with pytest.raises(ValueError, match="not monotone"):
            ask(small, X)
    for undefined in (lambda z: np.full_like(z, np.nan), lambda z: np.where(z > 150, z, np.nan)):
        options = {"func": np.abs, "inverse_func": undefined, "check_inverse": False}
        partly = TransformedTargetRegressor(regressor(), **options).fit(X, y)
        between = {"func": np.abs, "inverse_func": lambda z: np.where(abs(z - 150) > 9, z, np.nan)}
        partly.transformer_.inverse_func = undefined
        if undefined(np.ones(1) * 200)[0] == 200:  # known above 150, and so is the limit there
            assert skuq.predict_interval(partly, X).min() == pytest.approx(150)
            partly.transformer_.inverse_func = between["inverse_func"]
        with pytest.raises(ValueError, match="gives NaN"):
            skuq.predict_interval(partly, X)
    mixing = TransformedTargetRegressor(regressor(), transformer=PCA(whiten=True))
    mixing.fit(X, np.stack([y, y + X[:, 0]], axis=1))
    with pytest.raises(ValueError, match="mixes targets"):
        skuq.predict_uncertainty(mixing, X)


def test_what_cannot_be_seen_through_is_named(blobs):
    X, y = blobs
    calibrated = CalibratedClassifierCV(classifier(), cv=2).fit(X, y)
    pipeline = stock.make_pipeline(StandardScaler(), calibrated).fit(X, y)
    with pytest.raises(TypeError, match=r"CalibratedClassifierCV \(inside of Pipeline\)"):
        skuq.predict_uncertainty(pipeline, X)
    with pytest.raises(TypeError, match="predict_interval needs a regressor"):
        skuq.predict_interval(classifier().fit(X, y), X)


def test_not_fitted_or_not_refitted(blobs):
    X, y = blobs
    with pytest.raises(NotFittedError):
        skuq.predict_uncertainty(stock.make_pipeline(StandardScaler(), classifier()), X)
    search = GridSearchCV(classifier(), {"lr": [0.1]}, cv=2, refit=False).fit(X, y)
    with pytest.raises(AttributeError, match="refit=False"):
        skuq.predict_uncertainty(search, X)


class LogScaler(StandardScaler):
    """Linear by name alone."""

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(np.log(X), y, sample_weight)

    def transform(self, X, copy=None):
        return super().transform(np.log(X), copy)

    def inverse_transform(self, X, copy=None):
        return np.exp(super().inverse_transform(X, copy))


class Named(StandardScaler):
    """A subclass that adds to its class, and leaves what it does."""


def test_a_subclass_of_a_scaler_is_linear_only_if_its_answers_are(diabetes):
    X, y = diabetes
    levels = [0.01, 0.5]
    asked = []
    for scaler in (LogScaler(), make_pipeline(LogScaler()), Named(), StandardScaler()):
        fitted = TransformedTargetRegressor(regressor(), transformer=scaler).fit(X, y)
        inner = fitted.regressor_.predict_quantiles(X, levels)
        expected = [fitted.transformer_.inverse_transform(z[:, None])[:, 0] for z in inner.T]
        asked.append(skuq.predict_quantiles(fitted, X, levels))
        np.testing.assert_allclose(asked[-1], np.stack(expected, axis=1), rtol=1e-9)
    assert asked[0].min() > 0
    assert np.array_equal(asked[2], asked[3])


class Doubling(TransformedTargetRegressor):
    def predict(self, X):
        return 2 * super().predict(X)


class Shifting(stock.Pipeline):
    def predict(self, X):
        return super().predict(X) + 1


def test_subclasses_with_a_predict_of_their_own_are_not_seen_through(diabetes):
    X, y = diabetes
    for around in (Doubling(regressor()), Shifting([("network", regressor())])):
        with pytest.raises(TypeError, match="subclasses only if they inherit"):
            skuq.predict_interval(around.fit(X, y), X)


@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
def test_quantiles_beyond_the_end_of_a_power_transform_are_its_limit(method, diabetes):
    """(λz + 1)^(1/λ) is infinite from z = −1/λ on, for λ < 0."""
    X, _ = diabetes
    y = np.exp(np.random.default_rng(0).normal(size=len(X)) + X[:, 0]) + 1
    transformer = PowerTransformer(method)
    fitted = TransformedTargetRegressor(regressor(), transformer=transformer).fit(X, y)
    power, scaler = fitted.transformer_.lambdas_[0], fitted.transformer_._scaler
    assert power < 0
    end = (-1 / power - scaler.mean_[0]) / scaler.scale_[0]
    levels = [0.5, 0.9, 0.999, 1 - 1e-9]
    inner = fitted.regressor_.predict_quantiles(X, levels)
    found = skuq.predict_quantiles(fitted, X, levels)
    inside = inner < end
    assert 0 < inside.mean() < 1
    back = fitted.transformer_.inverse_transform(inner[inside][:, None])[:, 0]
    np.testing.assert_allclose(found[inside], back, rtol=1e-9)
    assert (found[~inside] == np.inf).all()
    if method == "box-cox":  # rows whose mass goes there have no variance, the others do
        with pytest.warns(UserWarning, match="infinite in"):
            variance = skuq.predict_uncertainty(fitted, X)
        finite = np.isfinite(variance)
        assert 0 < finite.mean() < 1
        assert (finite <= np.isfinite(found[:, 1])).all()
