"""Types that users see: what a type checker concludes from a call."""

import importlib
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.test_docstrings import PUBLIC, function_of

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "skuq"

# Public functions whose result only the call can tell.
UNKNOWN = {
    "load",  # the class is in the file
    "predict_blocks",  # a dask collection, where there is dask, or an iterator
}


def functions_of(thing):
    """A function itself, or the public methods that skuq gives to a class; by name."""
    if inspect.isfunction(thing):
        yield thing.__name__, thing
    elif inspect.isclass(thing):
        for base in (base for base in thing.__mro__ if base.__module__.startswith("skuq.")):
            for name, member in vars(base).items():
                if not name.startswith("_") and (function := function_of(member)) is not None:
                    yield f"{base.__name__}.{name}", function


@pytest.mark.parametrize("room", PUBLIC)
def test_public_functions_say_what_they_return(room):
    module = importlib.import_module(f"skuq{room}")
    unknown = {
        title
        for name in module.__all__
        for title, function in functions_of(getattr(module, name))
        if function.__annotations__.get("return", "Any") == "Any"
    }
    assert unknown <= UNKNOWN


def test_types_are_shipped():
    assert (PACKAGE / "py.typed").exists()


CALLS = """
    import numpy as np
    import torch
    from torch import Tensor
    from typing import assert_type

    import skuq
    from skuq.augmentation import NestedUncertainty, TestTimeAugmentation
    from skuq.calibration import TemperatureScaler, VarianceScaler, fit_temperature
    from skuq.selective import SelectiveClassifier, SelectiveRegressor
    from skuq.pipeline import Pipeline
    from skuq.uncertainty import Uncertainty, entropy, entropy_decomposition

    X, y = np.zeros((4, 2)), [0, 1, 0, 1]
    classifier = skuq.TorchClassifier(random_state=0)
    regressor = skuq.TorchRegressor(random_state=0)

    assert_type(classifier.fit(X, y), skuq.TorchClassifier)
    assert_type(regressor.partial_fit(X, y), skuq.TorchRegressor)
    assert_type(classifier.set_params(lr=0.1), skuq.TorchClassifier)
    assert_type(TemperatureScaler(classifier).fit(X, y), TemperatureScaler)

    assert_type(classifier.predict_uncertainty(X), np.ndarray)
    assert_type(classifier.predict_uncertainty(X, "epistemic"), np.ndarray)
    assert_type(classifier.predict_uncertainty(X, kind="all"), Uncertainty)
    assert_type(regressor.predict_uncertainty(X, kind="all"), Uncertainty)
    assert_type(skuq.predict_uncertainty(classifier, X, kind="all"), Uncertainty)
    assert_type(skuq.predict_uncertainty(classifier, X, measure="variance"), np.ndarray)

    selective = SelectiveRegressor(regressor, coverage=0.8)
    assert_type(selective.predict(X, return_std=True), tuple[np.ndarray, np.ndarray])
    assert_type(selective.predict(X), np.ndarray)
    assert_type(SelectiveClassifier(classifier, coverage=0.8).fit(X, y), SelectiveClassifier)
    augmented = TestTimeAugmentation(classifier)
    assert_type(augmented.predict_uncertainty(X), np.ndarray)
    assert_type(augmented.predict_uncertainty(X, kind="nested"), NestedUncertainty)

    assert_type(classifier.predict_proba(X), np.ndarray)
    assert_type(
        classifier.predict_proba(X, return_uncertainty=True), tuple[np.ndarray, Uncertainty]
    )
    assert_type(regressor.predict(X), np.ndarray)
    assert_type(regressor.predict(X, return_std=True), tuple[np.ndarray, np.ndarray])
    assert_type(VarianceScaler(regressor).predict(X), np.ndarray)

    assert_type(fit_temperature(X, y), float)
    assert_type(fit_temperature(X, X, multilabel=True), np.ndarray)
    assert_type(entropy(X), np.ndarray)
    assert_type(entropy(torch.zeros(4, 2)), Tensor)
    assert_type(entropy_decomposition(draws=X[None]), Uncertainty)
"""


@pytest.mark.slow
def test_a_type_checker_knows_the_results(tmp_path):
    pytest.importorskip("mypy")
    script = tmp_path / "calls.py"
    script.write_text(textwrap.dedent(CALLS))
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    command += ["--cache-dir", str(tmp_path / "cache"), str(script)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
