"""Pipelines, searches, calibrators and transformers around an estimator, in one file."""

import numpy as np
import pytest
import sklearn
from sklearn import preprocessing
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_selection import VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RandomizedSearchCV,
    StratifiedKFold,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skuq
from skuq import PersistenceError, TorchClassifier, TorchRegressor
from skuq.augmentation import (
    Crop,
    FeatureNoise,
    Flip,
    GaussianNoise,
    Shift,
    TestTimeAugmentation,
)
from skuq.calibration import QuantileRecalibrator, TemperatureScaler, VectorScaler
from skuq.metrics import ece_scorer
from skuq.persistence import _classes
from skuq.posteriors import DeepEnsemble, MCDropout
from tests.networks import Plain, ResidualNet
from tests.persistence.helpers import CHEAP, assert_same_answers, round_trip

pytest.importorskip("safetensors")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.skuq"


def classifier(**options):
    return TorchClassifier(**{"posterior": MCDropout(3), **CHEAP, **options})


def regressor(**options):
    return TorchRegressor(**{"posterior": DeepEnsemble(2), **CHEAP, **options})


@pytest.mark.parametrize("make", [make_pipeline, skuq.pipeline.make_pipeline])
def test_pipelines(make, blobs, path):
    X, y = blobs
    model = make(StandardScaler(), PCA(4), classifier()).fit(X, y)
    loaded = round_trip(model, path)
    assert type(loaded) is type(model) and list(loaded.named_steps) == list(model.named_steps)
    assert_same_answers(model, loaded, X)
    assert_same_answers(model.fit(X[:90], y[:90]), loaded.fit(X[:90], y[:90]), X)


def test_a_search_becomes_its_best_estimator(blobs, path):
    X, y = blobs
    grid = {
        "torchclassifier__posterior": [MCDropout(2), DeepEnsemble(2)],
        "torchclassifier__module__hidden_layer_sizes": [(4,), (8,)],
    }
    pipeline = make_pipeline(StandardScaler(), classifier())
    for search in (
        GridSearchCV(pipeline, grid, cv=2, scoring=ece_scorer),
        RandomizedSearchCV(pipeline, grid, n_iter=2, cv=2, random_state=0),
    ):
        loaded = round_trip(search.fit(X, y), path)
        assert type(loaded) is type(pipeline)
        assert_same_answers(search.best_estimator_, loaded, X)
        assert repr(loaded) == repr(search.best_estimator_)
    search = GridSearchCV(pipeline, grid, cv=2, refit=False).fit(X, y)
    with pytest.raises(PersistenceError, match=r"refit=False"):
        skuq.save(search, path)


@pytest.mark.parametrize("calibrator", [TemperatureScaler, VectorScaler])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_calibrated_classifiers(calibrator, blobs, path):
    X, y = blobs
    inner = make_pipeline(
        StandardScaler(),
        TorchClassifier(Plain, posterior=DeepEnsemble(2), max_epochs=4, random_state=0),
    )
    cv = StratifiedKFold(2, shuffle=True, random_state=np.random.RandomState(0))
    model = calibrator(inner, cv=cv).fit(X, y)
    loaded = round_trip(model, path, module=Plain)
    assert_same_answers(model, loaded, X)
    assert_same_answers(model.fit(X, y), loaded.fit(X, y), X)  # the same folds, drawn on
    pipeline = make_pipeline(StandardScaler(), calibrator(inner, cv=2)).fit(X, y)
    assert_same_answers(pipeline, round_trip(pipeline, path, module=Plain), X)


def test_a_calibrated_search(blobs, path):
    X, y = blobs
    search = GridSearchCV(classifier(), {"posterior": [MCDropout(2)]}, scoring=ece_scorer, cv=2)
    model = TemperatureScaler(search, cv=2).fit(X, y)
    with pytest.warns(UserWarning, match=r"estimator.scoring = "):
        skuq.save(model, path)
    loaded = skuq.load(path)
    assert_same_answers(model, loaded, X)
    assert type(loaded.estimator) is GridSearchCV and isinstance(loaded.estimator_, TorchClassifier)
    with pytest.raises(ValueError, match=r"scoring.*not saved"):
        loaded.fit(X, y)
    loaded.set_params(estimator__scoring=ece_scorer)
    assert_same_answers(model.fit(X, y), loaded.fit(X, y), X)


def flipped(X):
    return X.flip(-1)


@pytest.mark.filterwarnings("ignore:the frozen")
def test_test_time_augmentation(blobs, diabetes, path):
    X, y = blobs
    model = TestTimeAugmentation(
        classifier(), [GaussianNoise(0.1), FeatureNoise(0.1)], n_views=4, random_state=0
    ).fit(X, y)
    loaded = round_trip(model, path)
    assert_same_answers(model, loaded, X)
    assert "skuq.augmentation.FeatureNoise" in str(skuq.inspect(path))
    frozen = make_pipeline(StandardScaler(), classifier()).fit(X, y)
    model = TestTimeAugmentation(
        FrozenEstimator(frozen), FeatureNoise(0.1), vote="confidence_hard", random_state=0
    ).fit(X, y)
    loaded = round_trip(model, path)
    assert_same_answers(model, loaded, X)
    assert loaded.threshold_ == model.threshold_ and loaded.estimator_ is loaded.estimator
    X, y = diabetes
    model = TestTimeAugmentation(regressor(), GaussianNoise(0.1), random_state=0).fit(X, y)
    assert_same_answers(model, round_trip(model, path), X)


def test_views_of_images(path):
    images = np.random.default_rng(0).normal(size=(40, 1, 8, 8)).astype(np.float32)
    y = (images.mean((1, 2, 3)) > 0).astype(int)
    model = TestTimeAugmentation(classifier(), [Flip(), Shift(1), Crop(0.5)], random_state=0)
    assert_same_answers(model.fit(images, y), round_trip(model, path), images)
    model = TestTimeAugmentation(classifier(), flipped).fit(images, y)
    with pytest.raises(
        PersistenceError, match=r"views is .*flipped.*the views of skuq.augmentation"
    ):
        skuq.save(model, path)


@pytest.mark.filterwarnings("ignore:the frozen")
def test_a_frozen_search(blobs, path):
    X, y = blobs
    search = GridSearchCV(classifier(), {"lr": [0.01]}, cv=2).fit(X, y)
    model = TemperatureScaler(FrozenEstimator(search)).fit(X, y)
    loaded = round_trip(model, path)
    assert_same_answers(model, loaded, X)
    assert loaded.estimator_ is loaded.estimator
    assert isinstance(loaded.estimator.estimator, TorchClassifier)


@pytest.mark.parametrize(
    "transformer",
    [
        StandardScaler(),
        make_pipeline(preprocessing.MinMaxScaler(), StandardScaler()),
        FunctionTransformer(np.log1p, np.expm1),
        None,
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore")
def test_transformed_targets(transformer, path):
    random = np.random.default_rng(0)
    X = random.normal(size=(90, 3)).astype(np.float32)
    y = np.exp(X[:, 0] + 0.1 * random.normal(size=90))
    functions = {} if transformer is not None else {"func": np.log, "inverse_func": np.exp}
    model = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), regressor()), transformer=transformer, **functions
    ).fit(X, y)
    model.regressor_[-1]._engine.n_rows = 16
    loaded = round_trip(model, path)
    assert np.array_equal(loaded.predict(X), model.predict(X))
    assert np.array_equal(skuq.predict_uncertainty(loaded, X), skuq.predict_uncertainty(model, X))
    outer = QuantileRecalibrator(FrozenEstimator(model)).fit(X, y)
    assert np.array_equal(round_trip(outer, path).predict(X), outer.predict(X))


def frame():
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    n = 120
    table = pandas.DataFrame(
        {
            "age": random.normal(40, 10, n),
            "size": random.lognormal(size=n),
            "town": random.choice(["Köln", "Łódź", "Oslo"], n),
            "kind": pandas.Series(random.choice(["a", "b", None], n), dtype=object),
            "level": random.choice(["low", "high"], n),
        }
    )
    table.loc[::7, "age"] = np.nan
    return table, (table["size"] + (table["town"] == "Oslo") > 1.2).to_numpy()


def test_columns_of_all_kinds(path):
    table, y = frame()
    columns = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
                ["age"],
            ),
            ("log", FunctionTransformer(np.log1p, feature_names_out="one-to-one"), ["size"]),
            ("towns", preprocessing.OneHotEncoder(sparse_output=False), ["town"]),
            ("kinds", preprocessing.OrdinalEncoder(encoded_missing_value=-1), ["kind"]),
            ("target", preprocessing.TargetEncoder(cv=KFold(2)), ["town"]),
            ("left", "drop", ["level"]),
        ],
        remainder="passthrough",
    )
    model = make_pipeline(columns, classifier()).fit(table, y)
    loaded = round_trip(model, path)
    assert_same_answers(model, loaded, table)
    assert_same_answers(model, loaded, table[::-1])
    assert (loaded[0].get_feature_names_out() == model[0].get_feature_names_out()).all()
    model = make_pipeline(columns.set_output(transform="pandas"), classifier()).fit(table, y)
    assert_same_answers(model, round_trip(model, path), table)


TRANSFORMERS = [
    preprocessing.Binarizer(),
    FunctionTransformer(),
    preprocessing.KBinsDiscretizer(3, encode="onehot-dense", strategy="uniform"),
    preprocessing.MaxAbsScaler(),
    preprocessing.MinMaxScaler((-1, 1), clip=True),
    preprocessing.Normalizer(),
    preprocessing.OneHotEncoder(sparse_output=False, max_categories=4, dtype=np.float32),
    preprocessing.OrdinalEncoder(min_frequency=2),
    preprocessing.PolynomialFeatures(2),
    preprocessing.PowerTransformer(),
    preprocessing.QuantileTransformer(n_quantiles=30, output_distribution="normal"),
    preprocessing.RobustScaler(),
    StandardScaler(with_mean=False),
    preprocessing.TargetEncoder(cv=KFold(2)),
    KNNImputer(n_neighbors=2),
    MissingIndicator(features="all"),
    SimpleImputer(strategy="median"),
    PCA(2, whiten=True),
    TruncatedSVD(2, random_state=0),
    VarianceThreshold(),
    FeatureUnion([("a", StandardScaler()), ("b", PCA(1))], transformer_weights={"a": 2.0}),
    ColumnTransformer([("a", StandardScaler(), slice(0, 2)), ("b", PCA(1), [1, 2])]),
    ColumnTransformer([("a", StandardScaler(), np.array([True, False, True]))]),
]  # fmt: skip


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda t: type(t).__name__)
@pytest.mark.filterwarnings("ignore")
def test_transformers(transformer, path):
    random = np.random.default_rng(0)
    X, y = random.integers(0, 6, size=(60, 3)).astype(float), np.arange(60) % 2
    if isinstance(transformer, KNNImputer | MissingIndicator | SimpleImputer):
        X[::5, 1] = np.nan
    transformer = sklearn.base.clone(transformer).fit(X, y)
    loaded = round_trip(transformer, path)
    expected, got = transformer.transform(X), loaded.transform(X)
    assert type(expected) is type(got) and expected.dtype == got.dtype
    assert np.array_equal(expected, got, equal_nan=True)
    assert repr(loaded) == repr(transformer) and vars(loaded).keys() == vars(transformer).keys()
    again = sklearn.base.clone(loaded).fit(X, y).transform(X)
    assert np.array_equal(expected, again, equal_nan=True)


@pytest.mark.parametrize(
    "encoder",
    [
        preprocessing.LabelEncoder(),
        preprocessing.LabelBinarizer(),
        preprocessing.MultiLabelBinarizer(),
    ],
)
def test_encoders_of_labels(encoder, path):
    labels = [["a", "b"], ["b"], ["c"]] if "Multi" in type(encoder).__name__ else ["a", "b", "c"]
    loaded = round_trip(encoder.fit(labels), path)
    assert np.array_equal(loaded.transform(labels), encoder.transform(labels))


def test_every_transformer_is_tried():
    tried = {type(t).__name__ for t in TRANSFORMERS} | {
        "LabelEncoder", "LabelBinarizer", "MultiLabelBinarizer", "TransformedTargetRegressor",
        "Pipeline", "FrozenEstimator",
        # in test_without_rows.py
        "CountVectorizer", "HashingVectorizer", "TfidfVectorizer", "TfidfTransformer",
        "make_column_selector",
    }  # fmt: skip
    known = {
        name for room, names in _classes._SKLEARN.items() for name in names
        if room != "model_selection"
    }  # fmt: skip
    assert known == tried


@pytest.mark.parametrize("cv", [KFold(2, shuffle=True, random_state=3), GroupKFold(2)], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_splitters(cv, blobs, path):
    X, y = blobs
    model = TemperatureScaler(classifier(), cv=cv).fit(X, y, groups=np.arange(len(X)) // 2)
    loaded = round_trip(model, path)
    assert repr(loaded) == repr(model)
    assert_same_answers(model, loaded, X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_networks_of_two_classes(blobs, path):
    """A template of one class, and a fitted network of another."""
    X, y = blobs
    options = {"posterior": DeepEnsemble(2), "max_epochs": 2, "random_state": 0}
    model = TemperatureScaler(TorchClassifier(Plain, **options), cv=2).fit(X, y)
    model.set_params(estimator=TorchClassifier(ResidualNet, **options))
    skuq.save(model, path)
    with pytest.raises(PersistenceError, match=r"several classes, .*Plain.*ResidualNet"):
        skuq.load(path, module=Plain)
    loaded = skuq.load(path, module={"Plain": Plain, "ResidualNet": ResidualNet})
    assert loaded.estimator.module is ResidualNet and loaded.estimator_.module is Plain
    assert_same_answers(model, loaded, X)


def shifted(X):
    return X + 1


@pytest.mark.filterwarnings("ignore")
def test_what_is_refused(blobs, path):
    X, y = blobs
    network = classifier().fit(X, y)
    for model, message in (
        (
            make_pipeline(FunctionTransformer(shifted), network),
            r"steps\[0\]\[1\].func.*shifted.*skops",
        ),
        (TemperatureScaler(LogisticRegression(), cv=2), r"estimator is an object of .*Logistic"),
        (preprocessing.SplineTransformer(), r"the object is an object of .*SplineTransformer"),
        (
            ColumnTransformer([("a", StandardScaler(), lambda X: [0])]),
            r"transformers\[0\]\[2\] is .*lambda",
        ),
    ):  # fmt: skip
        with pytest.raises(PersistenceError, match=message):
            skuq.save(model.fit(X, y), path)
    assert not path.exists()


def test_conformal_objects_of_mapie(blobs, path):
    mapie = pytest.importorskip("mapie.classification")
    X, y = blobs
    network = classifier().fit(X, y)
    conformal = mapie.SplitConformalClassifier(network, prefit=True)
    with pytest.raises(
        PersistenceError, match=r"got SplitConformalClassifier of mapie.*conformalize again"
    ):
        skuq.save(conformal.conformalize(X, y), path)


def test_another_version_of_scikit_learn(blobs, path, monkeypatch):
    X, y = blobs
    monkeypatch.setattr(sklearn, "__version__", "1.0.1")
    skuq.save(make_pipeline(StandardScaler(), classifier()).fit(X, y), path)
    monkeypatch.undo()
    with pytest.warns(sklearn.exceptions.InconsistentVersionWarning, match=r"1\.0\.1"):
        skuq.load(path)
