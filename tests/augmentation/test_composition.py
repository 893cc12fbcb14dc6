"""Test-time augmentation around and inside of scikit-learn's estimators, and skuq's own."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq.augmentation import FeatureNoise, Shift, TestTimeAugmentation
from skuq.calibration import TemperatureScaler, VarianceScaler
from skuq.likelihoods import Bernoulli
from skuq.metrics import crps_scorer, ece_scorer, expected_calibration_error, nll_scorer
from skuq.pipeline import Pipeline
from skuq.posteriors import DeepEnsemble
from tests.augmentation.helpers import SHIFTED, classifier, frozen, moved, noisy, regressor


def test_around_and_inside_of_a_pipeline_and_a_temperature(blobs):
    X, y = blobs
    view = FeatureNoise(0.2)
    models = {
        "inside of a pipeline": make_pipeline(
            StandardScaler(), TestTimeAugmentation(classifier(), view, 3, random_state=0)
        ),
        "around a pipeline": TestTimeAugmentation(
            make_pipeline(StandardScaler(), classifier()), view, 3, random_state=0
        ),
        "temperature outside": TemperatureScaler(
            TestTimeAugmentation(classifier(), view, 3, random_state=0), cv=2
        ),
        "temperature inside": TestTimeAugmentation(
            TemperatureScaler(classifier(), cv=2), view, 3, random_state=0
        ),
        "search": GridSearchCV(
            TestTimeAugmentation(classifier(), view, random_state=0),
            {"n_views": [1, 3], "estimator__lr": [0.01], "views": [[view], [moved]]},
            cv=2,
            scoring=nll_scorer,
        ),
        "both": TestTimeAugmentation(
            TestTimeAugmentation(classifier(), view, 2, random_state=0), view, 2, random_state=1
        ),
    }
    for name, model in models.items():
        fitted = model.fit(X, y)
        proba, parts = fitted.predict_proba(X), skuq.predict_uncertainty(fitted, X, kind="all")
        np.testing.assert_allclose(parts.total, entropy(proba, axis=1), atol=1e-9, err_msg=name)
        np.testing.assert_allclose(skuq.predict_draws(fitted, X).mean(0), proba, atol=1e-9)
        assert ece_scorer(fitted, X, y) == pytest.approx(-expected_calibration_error(y, proba)), (
            name
        )
        assert fitted.score(X, y) > -1.1
    nested = skuq.predict_uncertainty(models["inside of a pipeline"], X, kind="nested")
    assert nested.between_views.mean() > 1e-4
    ours = Pipeline(models["inside of a pipeline"].steps)
    np.testing.assert_array_equal(ours.predict_uncertainty(X, "nested"), nested)


def test_a_temperature_inside_or_outside_is_of_every_draw(fitted, blobs):
    X, y = blobs
    with pytest.warns(UserWarning, match="was trained on"):  # also seen through the views
        outside = TemperatureScaler(FrozenEstimator(frozen(fitted, SHIFTED, X, y))).fit(X, y)
    averaged = frozen(fitted, SHIFTED, X, y).predict_draws(X)
    logits = np.log(averaged) / outside.temperature_
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(outside.predict_draws(X), expected, atol=1e-10)


def test_a_pipeline_inside_gets_views_of_the_rows_before_its_steps(blobs):
    X, y = blobs
    pipeline = make_pipeline(StandardScaler(), classifier()).fit(X, y)
    augmented = frozen(pipeline, SHIFTED, X, y)
    views = [X, X * np.float32(1.2), X + np.float32(0.5)]
    expected = np.mean([pipeline.predict_proba(view) for view in views], 0)
    np.testing.assert_allclose(augmented.predict_proba(X), expected, atol=1e-12)


@pytest.mark.parametrize(
    "around", [classifier, lambda: make_pipeline(StandardScaler(), classifier())]
)
def test_data_frames_keep_their_names(blobs, around):
    X, y = blobs
    frame = pd.DataFrame(X, columns=[f"x{k}" for k in range(X.shape[1])])
    augmented = TestTimeAugmentation(around(), SHIFTED, random_state=0).fit(frame, y)
    plain = TestTimeAugmentation(around(), SHIFTED, random_state=0).fit(X, y)
    np.testing.assert_allclose(augmented.predict_proba(frame), plain.predict_proba(X), atol=1e-12)
    assert list(augmented.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        augmented.predict(frame.rename(columns={"x0": "other"}))


def test_text_is_encoded_before(blobs):
    frame = pd.DataFrame({"a": ["u", "v"] * 20, "b": range(40)})
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder

    encoder = make_column_transformer((OneHotEncoder(), ["a"]), remainder="passthrough")
    y = np.arange(40) % 2
    with pytest.raises(ValueError, match="behind the steps that encode X"):
        TestTimeAugmentation(make_pipeline(encoder, classifier()), moved).fit(frame, y)
    make_pipeline(encoder, TestTimeAugmentation(classifier(), moved)).fit(frame, y).predict(frame)


def test_regressors_compose(diabetes):
    X, y = diabetes
    views = FeatureNoise(0.2)
    inner = TestTimeAugmentation(regressor(), views, 3, random_state=0)
    scaled = TransformedTargetRegressor(inner, transformer=StandardScaler()).fit(X, y)
    total = skuq.predict_uncertainty(scaled, X)
    plain = scaled.regressor_.predict_uncertainty(X)
    np.testing.assert_allclose(total, plain * y.var(), rtol=1e-9)
    variance = VarianceScaler(inner, cv=2).fit(X, y)
    ratio = variance.predict_uncertainty(X) / variance.estimator_.predict_uncertainty(X)
    np.testing.assert_allclose(ratio, variance.scale_**2, rtol=1e-9)
    around = TestTimeAugmentation(VarianceScaler(regressor(), cv=2), views, 3).fit(X, y)
    assert np.isfinite(around.predict_interval(X)).all()
    assert np.isfinite(crps_scorer(around, X, y))
    assert -3 < inner.fit(X, y).score(X, y) < 1


def test_conformal_prediction_takes_it(diabetes):
    regression = pytest.importorskip("mapie.regression")
    X, y = diabetes
    augmented = TestTimeAugmentation(regressor(), FeatureNoise(0.1), 3, random_state=0)
    conformal = regression.SplitConformalRegressor(augmented.fit(X[:300], y[:300]), prefit=True)
    conformal.conformalize(X[300:], y[300:])
    assert np.isfinite(conformal.predict_interval(X[300:])[1]).all()


def test_a_report_can_be_made(blobs):
    X, y = blobs
    augmented = TestTimeAugmentation(classifier(), SHIFTED).fit(X, y)
    assert 0 <= skuq.report(augmented, X, y).metrics["accuracy"] <= 1


def test_estimators_of_scikit_learn_are_one_draw(blobs):
    X, y = blobs
    plain = LogisticRegression(max_iter=1000).fit(X, y)
    augmented = frozen(plain, SHIFTED, X, y)
    views = [X, X * np.float32(1.2), X + np.float32(0.5)]
    expected = np.mean([plain.predict_proba(view) for view in views], 0)
    np.testing.assert_allclose(augmented.predict_proba(X), expected, atol=1e-6)
    assert not augmented.predict_uncertainty(X, "epistemic").any()


def test_several_labels_at_once(blobs):
    X, y = blobs
    indicators = np.stack([y > 0, y > 1], 1).astype(int)
    augmented = TestTimeAugmentation(classifier(likelihood=Bernoulli()), SHIFTED)
    assert augmented.fit(X, indicators).predict(X).shape == indicators.shape
    assert augmented.predict_proba(X).shape == indicators.shape
    parts = augmented.predict_uncertainty(X, "nested")
    assert parts.between_views.shape == indicators.shape and (parts.between_views >= 0).all()
    with pytest.raises(ValueError, match="one label per row"):
        augmented.predict_views(X)
    with pytest.raises(ValueError, match="one label per row"):
        clone(augmented).set_params(vote="mode").fit(X, indicators)


def test_ensembles_and_pickles(blobs):
    X, y = blobs
    augmented = TestTimeAugmentation(classifier(DeepEnsemble(2)), FeatureNoise(), 3).fit(X, y)
    loaded = pickle.loads(pickle.dumps(augmented))
    np.testing.assert_array_equal(loaded.predict_proba(X), augmented.predict_proba(X))


def test_threads_get_the_same(on_images, images):
    from concurrent.futures import ThreadPoolExecutor

    X, y = images[0][:64], images[1][:64]
    augmented = frozen(on_images, [noisy, Shift(1)], X, y, n_views=5)
    expected = augmented.predict_proba(X)
    with ThreadPoolExecutor(4) as pool:
        for proba in pool.map(lambda _: augmented.predict_proba(X), range(8)):
            np.testing.assert_array_equal(proba, expected)
