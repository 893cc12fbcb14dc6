"""The floor plan: arrows run downwards, one file knows skorch, nothing executes data."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import mutants

PACKAGE = Path(__file__).parents[1] / "skuq"
TESTS_FOLDER = Path(__file__).parent

# From the top of the house to its ground. A room imports only rooms of lower storeys.
STOREYS = [
    ["skuq"],
    ["attribution"],
    [
        "_report",
        "_cross_validation",
        "_onnx",
        "_from_trained",
        "datasets",
        "distributed",
        "persistence",
        "shift",
    ],
    [
        "_report_intervals",
        "_report_labels",
        "_report_novelty",
        "_report_segmentation",
        "active_learning",
        "inputs",
        "selective",
        "semi_supervised",
    ],
    ["_report_html", "_differentiable", "_onnx_steps"],
    ["augmentation", "calibration", "metrics", "novelty"],
    ["_features"],
    ["_delegated", "_meta"],
    ["pipeline"],
    ["_ensembles"],
    ["_composition"],
    ["estimators", "segmentation", "dense_regression", "_sklearn_estimators"],
    ["_registry"],
    ["_estimator", "_predict_maps"],
    ["_predict"],
    ["posteriors"],
    ["_training"],
    ["_engine"],
    ["_data"],
    ["_networks"],
    ["likelihoods", "_reductions"],
    ["modules", "uncertainty"],
    ["_distributions", "_perceptrons"],
    ["_pixels"],
    ["_utils", "_bins", "_confusion", "exceptions", "_version"],
]
LEVEL = {room: level for level, rooms in enumerate(STOREYS) for room in rooms}


def room_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            yield node.module


def functions(tree):
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def n_body_lines(function):
    """Lines of a function below its signature and its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(TESTS_FOLDER.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_run_downwards(path):
    relative = path.relative_to(PACKAGE).with_suffix("")
    room = "skuq" if relative.name == "__init__" and len(relative.parts) == 1 else relative.parts[0]
    for name in imports(path):
        if name == "skuq" or name.startswith("skuq."):
            other = room_of(name)
            same_floor_room = other == room
            assert same_floor_room or LEVEL[other] > LEVEL[room], f"{room} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file(path):
    names = set(imports(path))
    if path != PACKAGE / "_training" / "_net.py":
        assert not any(name.split(".")[0] == "skorch" for name in names)
    optional = {"matplotlib", "pandas", "polars", "dask", "kornia", "torchvision"}
    optional |= {"safetensors", "onnx", "onnxruntime", "skl2onnx", "captum", "skimage"}
    assert not any(name.split(".")[0] in optional for name in names)
    text = path.read_text()
    assert not re.search(r"torch\.load|pickle\.load|(?<![.\w])(eval|exec)\(", text)
    if path.parent.name == "persistence":  # what reads files has no way to run what is in them
        assert not names & {"pickle", "joblib", "importlib", "marshal", "shelve", "runpy"}
        if path.name in ("_container.py", "_json.py", "_tensors.py", "_decoder.py", "_save.py"):
            assert not re.search(r"getattr|__import__|globals\(|locals\(|vars\(", text)
    assert len(text.splitlines()) <= 430
    assert not [f.name for f in functions(ast.parse(text)) if n_body_lines(f) > 50]
    assert len(path.relative_to(PACKAGE).parts) <= 2  # no room within a room


def test_files_of_tests_are_short():
    """What is longer is to be split by subject."""
    assert len(TESTS) > 100
    assert {path.name: n for path in TESTS if (n := len(path.read_text().splitlines())) > 430} == {}
    assert [path for path in TESTS if len(path.relative_to(TESTS_FOLDER).parts) > 2] == []


def test_tests_that_are_named_elsewhere_exist():
    """By the mutants, whose file names may hold the name of a module, and by the Makefile."""
    named = " ".join(text.partition(" -k ")[0] for text in mutants.TESTS.values()).split()
    found = {f"tests/{one}" for one in named if "{" not in one}
    makefile = PACKAGE.parent / "Makefile"
    if makefile.exists() and shutil.which("make"):
        plan = subprocess.run(
            ["make", "--dry-run", "--always-make", "test-floors"],
            capture_output=True, text=True, check=True, cwd=PACKAGE.parent,
        )  # fmt: skip
        found |= set(re.findall(r"tests/\S+", plan.stdout))
    assert [one for one in found if not (PACKAGE.parent / one).exists()] == []


def test_import_brings_no_plotting_or_frames():
    """Nothing at all beyond what torch, scikit-learn, SciPy and skorch import themselves."""
    code = (
        "import sys, torch, torch.func, scipy.optimize, sklearn.calibration, skorch.callbacks; "
        "import shlex, sklearn.pipeline, sklearn.compose, sklearn.model_selection, sklearn.frozen; "
        "import sklearn.covariance, sklearn.neighbors; "
        "before = set(sys.modules); import skuq, skuq.metrics, skuq.calibration; "
        "import skuq.augmentation, skuq.novelty, skuq.attribution; "
        "print(sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ast.literal_eval(run.stdout)) <= {"skuq", "skorch"}


def test_what_training_does_not_need_is_imported_later():
    code = (
        "import sys, skuq; rooms = ('metrics', 'persistence', 'augmentation', '_report', '_onnx'); "
        "assert not [r for r in (*rooms, 'novelty') if f'skuq.{r}' in sys.modules]; "
        "assert 'sklearn.linear_model' not in sys.modules; "
        "assert {'report', 'save', 'metrics'} <= set(dir(skuq)); "
        "assert skuq.save and skuq.report and skuq.metrics.brier_score and skuq.datasets"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_have_documentation():
    import importlib

    for name in ("", ".posteriors", ".likelihoods", ".uncertainty", ".calibration", ".metrics",
                 ".augmentation", ".pipeline", ".modules", ".exceptions", ".persistence",
                 ".datasets", ".distributed", ".inputs", ".novelty", ".selective",
                 ".semi_supervised", ".shift", ".active_learning", ".attribution"):  # fmt: skip
        module = importlib.import_module(f"skuq{name}")
        assert module.__doc__
        for public in module.__all__:
            assert getattr(module, public).__doc__, f"skuq{name}.{public}"


def test_floors_are_those_of_the_project():
    """`make test-floors` installs the oldest versions that pyproject.toml admits, but of torch."""
    root = PACKAGE.parent
    if not (root / "requirements-floors.txt").exists():
        pytest.skip("not in a source checkout")
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["save"]]
    floors = dict(line.split(">=") for line in wanted)
    lines = (root / "requirements-floors.txt").read_text()
    pinned = re.findall(r"^([\w-]+)==([\d.]+)$", lines, re.M)
    assert {name for name, _ in pinned} == set(floors) - {"torch"}
    for name, version in pinned:
        assert re.fullmatch(re.escape(floors[name]) + r"(\.0)*", version), name
