"""Whatever is put in: an error that somebody wrote, or finite numbers that can be true."""

import dis
import inspect
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skuq import TorchClassifier, TorchRegressor, calibration, metrics, uncertainty
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate

SIZES = st.sampled_from([0, 1, 2, 3, 5, 20])
DTYPES = ["float64", "float32", "float16", "int64", "bool", "object", ">f8", "list", "torch"]


def examples(n_fast, n_slow):
    """The same test, with few examples in the fast suite and many in the slow one."""

    def decorate(test):
        options = {"deadline": None, "derandomize": True, "database": None,
                   "suppress_health_check": list(HealthCheck)}  # fmt: skip

        @pytest.mark.parametrize("n", [n_fast, pytest.param(n_slow, marks=pytest.mark.slow)])
        def repeated(n, **fixed):
            settings(max_examples=n, **options)(given(data=st.data())(test))(**fixed)

        names = ["n", *(set(inspect.signature(test).parameters) - {"data"})]
        kind = inspect.Parameter.KEYWORD_ONLY
        repeated.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])
        repeated.__name__ = test.__name__
        return repeated

    return decorate


def written(error):
    """Whether somebody wrote ``raise`` and a message, rather than that an operation failed."""
    traceback = error.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    raised = dis.opname[code.co_code[traceback.tb_lasti]] in ("RAISE_VARARGS", "RERAISE")
    ours = any(f"/{name}/" in code.co_filename for name in ("skuq", "sklearn"))
    return raised and ours and len(str(error)) > 10


def outcome(function, *args, **options):
    """What comes out, or None after an error that somebody wrote; other errors are raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(*args, **options)
        except (ValueError, TypeError) as error:
            if not written(error):
                raise
            return None


def numbers_of(result):
    if isinstance(result, tuple | list):
        return np.concatenate([numbers_of(part) for part in result]) if len(result) else np.empty(0)
    if isinstance(result, torch.Tensor):
        result = result.numpy()
    return np.asarray(result, dtype=float).ravel()


def check(result, low=-math.inf, high=math.inf):
    if result is None:
        return
    found = numbers_of(result)
    assert np.isfinite(found).all(), found
    assert (found >= low - 1e-6).all() and (found <= high + 1e-6).all(), found


# -- what is put in ------------------------------------------------------------------------------


@st.composite
def disturbed(draw, values):
    """The same numbers in another type, with NaN, infinity or constant columns among them."""
    values = np.array(values, dtype=float)
    disturbance = draw(st.sampled_from(["none"] * 6 + ["nan", "inf", "huge", "constant", "equal"]))
    if values.size and disturbance in ("nan", "inf", "huge"):
        place = draw(st.integers(0, values.size - 1))
        values.flat[place] = {"nan": np.nan, "inf": -np.inf, "huge": 1e30}[disturbance]
    elif disturbance == "constant" and values.ndim > 1 and values.shape[-1]:
        values[..., 0] = 3.0
    elif disturbance == "equal":
        values = np.full_like(values, 0.5)
    kind = draw(st.sampled_from(["float64"] * 4 + DTYPES))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "list":
            return values.tolist()
        return torch.as_tensor(values) if kind == "torch" else values.astype(kind)


def generator(draw):
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


@st.composite
def probabilities(draw, n, axes=1):
    n_classes = draw(st.sampled_from([1, 2, 2, 3, 5]))
    random = generator(draw)
    shape = (n,) if axes == 1 else (draw(st.sampled_from([1, 2, 4])), n)
    p = random.dirichlet(np.full(n_classes, draw(st.sampled_from([0.01, 1.0, 100.0]))), shape)
    if draw(st.integers(0, 5)) == 0:
        p = np.eye(n_classes)[random.integers(n_classes, size=shape)]
    if draw(st.integers(0, 9)) == 0:
        p = p * 2  # no probabilities
    if axes == 1 and n_classes == 2 and draw(st.booleans()):
        p = p[:, 1]
    return draw(disturbed(p)), n_classes


@st.composite
def labels(draw, n, n_classes):
    index = generator(draw).integers(n_classes, size=n)
    kind = draw(st.sampled_from(["index"] * 4 + ["text", "bool", "float", "far", "many", "one"]))
    return {
        "index": index,
        "text": np.array(list("abcdef"))[index],
        "bool": index > 0,
        "float": index + 0.5,
        "far": index * 7 - 3,
        "many": np.arange(n),
        "one": np.zeros(n, int),
    }[kind]


@st.composite
def weights(draw, n):
    random = generator(draw)
    kind = draw(st.sampled_from(["none"] * 5 + ["any", "zeros", "one", "negative", "nan", "short"]))
    weight = random.uniform(size=n)
    if kind in ("one", "nan", "negative") and n:
        weight = np.zeros(n) if kind == "one" else weight
        weight[0] = {"one": 1.0, "nan": np.nan, "negative": -1.0}[kind]
    return {"none": None, "zeros": np.zeros(n), "short": np.ones(n + 1)}.get(kind, weight)


@st.composite
def numbers(draw, *shape, positive=False):
    scale = draw(st.sampled_from([1e-6, 1.0, 1e6]))
    values = generator(draw).normal(size=shape) * scale
    return draw(disturbed(np.abs(values) if positive else values))


# -- metrics -------------------------------------------------------------------------------------

OF_PROBABILITIES = {
    "expected_calibration_error": (0, 1),
    "canonical_calibration_error": (0, 2),
    "smooth_calibration_error": (0, 1),
    "negative_log_likelihood": (0, math.inf),
    "brier_score": (0, 2),
    "brier_decomposition": (-2, 2),
}


@pytest.mark.parametrize("name", OF_PROBABILITIES)
@examples(15, 300)
def test_metrics_of_probabilities(name, data):
    n = data.draw(SIZES)
    proba, n_classes = data.draw(probabilities(n))
    y = data.draw(labels(n, n_classes))
    options = {"sample_weight": data.draw(weights(n))}
    if data.draw(st.booleans()):
        options["labels"] = np.unique(y)
    check(outcome(getattr(metrics, name), y, proba, **options), *OF_PROBABILITIES[name])


OF_GAUSSIANS = {
    "gaussian_nll": (-math.inf, math.inf),
    "crps": (0, math.inf),
    "expected_normalized_calibration_error": (0, math.inf),
    "pit_values": (0, 1),
}


@pytest.mark.parametrize("name", OF_GAUSSIANS)
@examples(15, 300)
def test_metrics_of_means_and_deviations(name, data):
    n = data.draw(SIZES)
    shape = (n,) if data.draw(st.booleans()) else (n, 2)
    parts = [data.draw(numbers(*shape)), data.draw(numbers(*shape))]
    parts.append(data.draw(numbers(*shape, positive=True)))
    options = {} if name == "pit_values" else {"sample_weight": data.draw(weights(n))}
    check(outcome(getattr(metrics, name), *parts, **options), *OF_GAUSSIANS[name])


@pytest.mark.parametrize(
    "name", ["interval_score", "prediction_interval_coverage", "mean_interval_width", "sharpness"]
)
@examples(15, 300)
def test_metrics_of_intervals(name, data):
    n = data.draw(SIZES)
    interval = data.draw(numbers(n, data.draw(st.sampled_from([2, 2, 2, 1, 3]))))
    y = data.draw(numbers(n))
    if data.draw(st.booleans()) and isinstance(interval, np.ndarray):
        interval = np.sort(interval.astype(float), axis=-1)
    first = {"sharpness": [data.draw(numbers(n, positive=True))], "mean_interval_width": [interval]}
    options = {"sample_weight": data.draw(weights(n))}
    result = outcome(getattr(metrics, name), *first.get(name, [y, interval]), **options)
    if result == math.inf and np.isinf(numbers_of(interval)).any():
        return  # the width of an unbounded interval
    check(result, 0, 1 if name == "prediction_interval_coverage" else math.inf)


@pytest.mark.parametrize("name", ["pinball_loss", "quantile_calibration_error"])
@examples(15, 300)
def test_metrics_of_quantiles(name, data):
    n, n_levels = data.draw(SIZES), data.draw(st.integers(1, 3))
    levels = data.draw(st.lists(st.sampled_from([0.1, 0.5, 0.9, 0.0, 1.0, math.nan, 2.0]),
                                min_size=n_levels, max_size=n_levels))  # fmt: skip
    quantiles, y = data.draw(numbers(n, n_levels)), data.draw(numbers(n))
    options = {"sample_weight": data.draw(weights(n))}
    check(outcome(getattr(metrics, name), y, quantiles, levels, **options), 0)


SELECTIVE = {
    "risk_coverage_curve": {},
    "area_under_risk_coverage": {},
    "uncertainty_error_auroc": {},
    "accuracy_at_coverage": {"coverage": st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0])},
    "coverage_at_risk": {"risk": st.sampled_from([0.0, 0.1, 1.0, -1.0])},
}


@pytest.mark.parametrize("name", SELECTIVE)
@examples(15, 300)
def test_metrics_of_any_uncertainty(name, data):
    n = data.draw(SIZES)
    n_classes = data.draw(st.sampled_from([1, 2, 3]))
    y, predicted = data.draw(labels(n, n_classes)), data.draw(labels(n, n_classes))
    options = {key: data.draw(strategy) for key, strategy in SELECTIVE[name].items()}
    if name != "coverage_at_risk":
        options["sample_weight"] = data.draw(weights(n))
    result = outcome(getattr(metrics, name), y, predicted, data.draw(numbers(n)), **options)
    if name == "risk_coverage_curve":
        result = None if result is None else (result.coverage, result.risk)
    elif name == "coverage_at_risk":  # of a guarantee that cannot be given the threshold is -inf
        result = None if result is None else [v for v in result if np.ndim(v) == 0 and abs(v) <= 1]
    elif name == "uncertainty_error_auroc" and result is not None and math.isnan(result):
        return  # of one class of errors alone, documented
    check(result, 0, 1)


# -- measures and calibration --------------------------------------------------------------------

MEASURES = {
    "entropy": 1, "least_confidence": 1, "margin": 1, "entropy_decomposition": 2,
    "expected_entropy": 2, "mutual_information": 2, "variance_decomposition": 2,
    "variation_ratio": 2,
}  # fmt: skip


BELOW_ONE = ("least_confidence", "margin", "variance_decomposition", "variation_ratio")


@pytest.mark.parametrize("name", MEASURES)
@examples(15, 200)
def test_measures_of_uncertainty(name, data):
    proba, _ = data.draw(probabilities(data.draw(SIZES), MEASURES[name]))
    check(outcome(getattr(uncertainty, name), proba), 0, 1 if name in BELOW_ONE else math.log(5))


@examples(15, 200)
def test_decomposition_of_moments(data):
    shape = (data.draw(st.sampled_from([0, 1, 3])), data.draw(SIZES))
    mean, variance = data.draw(numbers(*shape)), data.draw(numbers(*shape, positive=True))
    check(outcome(uncertainty.moment_decomposition, mean, variance), 0)


FITS = ["fit_temperature", "fit_vector_scaling", "fit_matrix_scaling", "fit_variance_scale"]


@pytest.mark.parametrize("name", FITS)
@examples(10, 150)
def test_fits_of_calibration(name, data):
    n, weight = data.draw(SIZES), None
    weight = data.draw(weights(n))
    if name == "fit_variance_scale":
        parts = [data.draw(numbers(n)) for _ in range(2)]
        parts.append(data.draw(numbers(n, positive=True)))
        check(outcome(calibration.fit_variance_scale, *parts, weight), 0)
        return
    n_classes = data.draw(st.sampled_from([1, 2, 3]))
    shape = (n, n_classes)
    if name == "fit_temperature" and data.draw(st.booleans()):
        shape = (2, *shape)
    y = data.draw(labels(n, n_classes))
    result = outcome(getattr(calibration, name), data.draw(numbers(*shape)), y, weight)
    check(result, 0 if name == "fit_temperature" else -math.inf)


# -- estimators ----------------------------------------------------------------------------------


@st.composite
def estimators(draw, kind):
    posterior = draw(st.sampled_from([MCDropout(2), DeepEnsemble(2), PointEstimate()]))
    return kind(
        posterior=posterior, max_epochs=1, random_state=0, module__hidden_layer_sizes=(4,),
        batch_size=draw(st.sampled_from([1, 2, 128])), early_stopping=draw(st.booleans()),
        precision=draw(st.sampled_from(["float32", "float64"])),
    )  # fmt: skip


def asked(data, fitted, X):
    """An answer of every kind about some rows."""
    rows = data.draw(st.sampled_from([X, X[:1], X[:0]]))
    for ask, low, high in [
        (lambda X: fitted.predict_uncertainty(X, kind="all"), 0, math.inf),
        (fitted.predict_draws, -math.inf, math.inf),
        *(
            [(fitted.predict_proba, 0, 1), (fitted.decision_function, -math.inf, math.inf)]
            if hasattr(fitted, "predict_proba")
            else [(lambda X: fitted.predict(X, return_std=True), -math.inf, math.inf)]
        ),
    ]:
        result = outcome(ask, rows)
        assert (result is None) == (len(rows) == 0)
        check(result, low, high)


@examples(25, 400)
def test_a_classifier(data):
    n = data.draw(SIZES)
    X = data.draw(numbers(n, data.draw(st.sampled_from([0, 1, 2, 5]))))
    y = data.draw(labels(n, data.draw(st.sampled_from([1, 2, 3]))))
    classifier = data.draw(estimators(TorchClassifier))
    fitted = outcome(classifier.fit, X, y, data.draw(weights(n)))
    if fitted is None:
        assert not hasattr(classifier, "n_iter_")
        return
    asked(data, fitted, X)
    assert set(fitted.predict(X)) <= set(np.unique(y))
    np.testing.assert_allclose(fitted.predict_proba(X).sum(1), 1, atol=1e-9)


@examples(25, 400)
def test_a_regressor(data):
    n = data.draw(SIZES)
    X = data.draw(numbers(n, data.draw(st.sampled_from([0, 1, 2, 5]))))
    y = data.draw(numbers(*data.draw(st.sampled_from([(n,), (n, 1), (n, 2)]))))
    regressor = data.draw(estimators(TorchRegressor))
    fitted = outcome(regressor.fit, X, y, data.draw(weights(n)))
    if fitted is None:
        assert not hasattr(regressor, "n_iter_")
        return
    asked(data, fitted, X)
    assert fitted.predict(X).shape == np.shape(y)
