"""Do the tests notice a change of the code? Run by hand: ``python -m tests.mutants --help``.

A mutant is a copy of skuq with one small change, chosen by a seed: another comparison, another
operator, a number moved, a condition turned round, a keyword argument left out. The tests of its
module run against it, until the first failure. First they run on the code as it is: they must pass.

What survives is printed. Write the test that kills it, and look for its siblings; or delete the
code, if nothing needs it; or see why it is equivalent: no input gives another answer (``<`` for
``<=`` where both sides agree at equality), or only speed, memory or the last bits differ. A default
that every caller overrides is no default: remove it.

A mutant has the number that it has in the sample, which stays the same until skuq changes:
``--numbers 3,17`` runs these only.
"""

from __future__ import annotations

import argparse
import ast
import copy
import fnmatch
import importlib.util
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
MEMORY = 8 * 2**30  # bytes; a mutant may ask for any number

# The tests of a module, in tests/: those of the first pattern that matches its path. What kills
# most is first.
TESTS = {
    "skuq/_engine/*": "engine/test_engine.py engine/test_memory.py test_published_outputs.py",
    "skuq/uncertainty.py": "test_uncertainty.py estimator/test_known_noise.py",
    "skuq/likelihoods/_base.py": "likelihoods/test_contract.py "
    "likelihoods/test_calibrators_and_scorers.py",
    "skuq/likelihoods/_standardised.py": "likelihoods/test_gaussian.py "
    "likelihoods/test_contract.py likelihoods/test_calibrators_and_scorers.py",
    "skuq/likelihoods/*": "likelihoods/test{name}.py likelihoods/test_fisher.py "
    "likelihoods/test_contract.py likelihoods/test_calibrators_and_scorers.py -k "
    "test{name}|{Class}",
    "skuq/_distributions/_softmax.py": "distributions/test_softmax.py test_uncertainty.py "
    "likelihoods/test_categorical.py",
    "skuq/_distributions/_transformed.py": "distributions/test_transformed.py test_pipeline.py "
    "likelihoods/test_scale.py",
    "skuq/_distributions/_monotone.py": "distributions/test_monotone.py test_pipeline.py "
    "likelihoods/test_scale.py",
    "skuq/_distributions/_derived.py": "distributions/test_derived.py "
    "calibration/test_regression.py likelihoods/test_scale.py",
    "skuq/_distributions/_families.py": "distributions/test_derived.py "
    "likelihoods/test_quantile.py likelihoods/test_mixture_of_gaussians.py "
    "likelihoods/test_student_t.py likelihoods/test_poisson.py distributions/test_mixture.py "
    "likelihoods/test_scale.py",
    "skuq/_distributions/*": "distributions/test_mixture.py distributions/test_derived.py "
    "metrics/test_regression.py test_pipeline.py likelihoods/test_quantile.py "
    "likelihoods/test_mixture_of_gaussians.py likelihoods/test_scale.py",
    "skuq/calibration/_temperature.py": "calibration/test_temperature.py "
    "calibration/test_objectives.py calibration/test_beside_scikit_learn.py "
    "calibration/test_vector_scaler.py",
    "skuq/calibration/_logits.py": "calibration/test_temperature.py calibration/test_vector.py "
    "calibration/test_vector_scaler.py calibration/test_objectives.py "
    "calibration/test_beside_scikit_learn.py",
    "skuq/calibration/_vector.py": "calibration/test_vector.py calibration/test_vector_scaler.py "
    "calibration/test_weights.py calibration/test_classification.py",
    "skuq/calibration/_matrix.py": "calibration/test_matrix.py calibration/test_weights.py",
    "skuq/calibration/_regression.py": "calibration/test_regression.py "
    "calibration/test_weights.py calibration/test_folds.py",
    "skuq/calibration/_classification.py": "calibration/test_classification.py "
    "calibration/test_objectives.py calibration/test_beside_scikit_learn.py "
    "calibration/test_vector_scaler.py calibration/test_folds.py",
    "skuq/calibration/_classifier.py": "calibration/test_classification.py "
    "calibration/test_folds.py calibration/test_masks.py calibration/test_vector_scaler.py",
    "skuq/calibration/*": "calibration",
    "skuq/metrics/_display*": "metrics/test_drawings.py metrics/test_displays.py",
    "skuq/metrics/_axes.py": "metrics/test_displays.py",
    "skuq/metrics/*scorers.py": "metrics/test_scorers.py",
    "skuq/metrics/_targets.py": "metrics/test_scorers.py metrics/test_displays.py",
    "skuq/metrics/_regression.py": "metrics/test_regression.py metrics/test_other_libraries.py",
    "skuq/metrics/_intervals.py": "metrics/test_regression.py metrics/test_other_libraries.py",
    "skuq/metrics/_guarantees.py": "metrics/test_guarantees.py metrics/test_selective.py",
    "skuq/metrics/_overlap.py": "metrics/test_segmentation.py metrics/test_segmentation_scorers.py",
    "skuq/metrics/_*pixel*": "metrics/test_segmentation.py metrics/test_segmentation_scorers.py",
    "skuq/metrics/_segmentation_scores.py": "metrics/test_segmentation.py",
    "skuq/metrics/_novelty.py": "metrics/test_novelty.py",
    "skuq/novelty/*": "novelty",
    "skuq/inputs/*": "inputs",
    "skuq/semi_supervised/*": "semi_supervised",
    "skuq/_training/_companion.py": "semi_supervised",
    "skuq/_delegated.py": "semi_supervised inputs augmentation",
    "skuq/_ensembles/*": "ensembles",
    "skuq/_registry.py": "test_registry.py",
    "skuq/active_learning/*": "active_learning",
    "skuq/attribution/*": "attribution",
    "skuq/posteriors/_swag.py": "posteriors/test_swag.py",
    "skuq/posteriors/_sgmcmc.py": "posteriors/test_sgmcmc.py",
    "skuq/posteriors/_snapshot_ensemble.py": "posteriors/test_snapshot_ensemble.py",
    "skuq/posteriors/_variational*": "posteriors/test_variational.py",
    "skuq/shift/*": "shift/test_corruptions.py shift/test_report.py shift/test_accuracy.py "
    "shift/test_two_samples.py",
    "skuq/selective/*": "selective/test_classifier.py selective/test_regressor.py "
    "selective/test_refusals.py selective/test_composition.py",
    "skuq/metrics/*": "metrics/test_calibration.py metrics/test_debiased_and_smooth_errors.py "
    "metrics/test_proper_scores.py metrics/test_selective.py metrics/test_other_libraries.py",
    "skuq/_predict.py": "test_published_outputs.py test_pipeline.py estimator",
    "skuq/pipeline.py": "test_pipeline.py distributions/test_derived.py",
    "skuq/augmentation/*": "augmentation",
}

COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


def _left_out(call: ast.Call) -> list[str]:
    """The keyword arguments that may be left out; that of the device says nothing on a CPU."""
    return [
        one.arg
        for one in call.keywords
        if one.arg not in (None, "device") and not isinstance(one.value, ast.Constant)
    ]


def changed(node: ast.AST) -> ast.AST | None:
    """The node after one small change, in place; None where there is none for it."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        node.ops[0] = COMPARISONS[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        node.op = OPERATORS[type(node.op)]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        return node.operand
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        node.value = not node.value
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        node.value = node.value + 1 if type(node.value) is int else node.value * 2 or 1.0
    elif isinstance(node, ast.IfExp):
        node.body, node.orelse = node.orelse, node.body
    elif isinstance(node, ast.Call) and (names := _left_out(node)):
        node.keywords = [one for one in node.keywords if one.arg != names[-1]]
    else:
        return None
    return node


class Change(ast.NodeTransformer):
    """Changes the node of one number, in the order of `ast.walk`."""

    def __init__(self, target: ast.AST) -> None:
        self.target = target

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.target:
            found = changed(node)
            assert found is not None
            return found
        return self.generic_visit(node)


def candidates(tree: ast.Module) -> list[int]:
    """The numbers of the nodes that can be changed; annotations, messages and constraints not."""
    silent: set[int] = set()
    for node in ast.walk(tree):
        hidden: list[ast.AST | None] = []
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.ImportFrom):
            hidden = [node]
        elif isinstance(node, ast.AnnAssign):
            hidden = [node.annotation]
            if isinstance(node.target, ast.Name) and node.target.id == "_parameter_constraints":
                hidden = [node]
        elif isinstance(node, ast.FunctionDef):
            hidden = [node.returns, *node.decorator_list]
            hidden += [a.annotation for a in [*node.args.args, *node.args.kwonlyargs]]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            hidden = [node]
        silent.update(id(inner) for one in hidden if one for inner in ast.walk(one))
    nodes = list(ast.walk(tree))
    return [
        k
        for k, node in enumerate(nodes)
        if id(node) not in silent and changed(copy.deepcopy(node)) is not None
    ]


def mutants(n: int, seed: int, only: str) -> list[tuple[str, int]]:
    """The path and the number of the node of each mutant."""
    sites = []
    for path in sorted((ROOT / "skuq").rglob("*.py")):
        relative = path.relative_to(ROOT).as_posix()
        known = any(fnmatch.fnmatch(relative, pattern) for pattern in TESTS)
        if known and fnmatch.fnmatch(relative, only) and path.name != "__init__.py":
            sites += [(relative, k) for k in candidates(ast.parse(path.read_text()))]
    random.seed(seed)
    return random.sample(sites, min(n, len(sites)))


def tests_of(path: str) -> list[str]:
    """The tests of a module, with the doctests in itself and those of its docstrings."""
    pattern, name = next(p for p in TESTS if fnmatch.fnmatch(path, p)), Path(path).stem
    tests = TESTS[pattern].format(name=name, Class=name.title().replace("_", ""))
    files, _, words = tests.partition(" -k ")
    given = [path, *(f"tests/{one}" for one in (*files.split(), "test_docstrings.py"))]
    found = [one for one in given if (ROOT / one).exists()]
    return [*found, "-k", f"{words.replace('|', ' or ')} or docstrings"] if words else found


def mutated(source: str, number: int) -> tuple[str, str]:
    """The source of a mutant, and the change in words."""
    tree = ast.parse(source)
    node = list(ast.walk(tree))[number]
    before, line = ast.unparse(node), getattr(node, "lineno", 0)
    after = ast.unparse(changed(copy.deepcopy(node)) or node)
    new = ast.unparse(ast.fix_missing_locations(Change(node).visit(tree)))
    return new, f"{line}: {before}  →  {after}"


def _test(folder: Path, tests: list[str]) -> int:
    """The exit status of pytest in a folder; runs in a process of its own."""
    os.setsid()
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    sys.path[:] = [str(folder), *(p for p in sys.path if p not in ("", str(ROOT)))]
    os.environ["PYTHONPATH"] = str(folder)
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "skuq")]:
        del sys.modules[name]
    found = importlib.util.find_spec("skuq")
    assert found is not None and Path(str(found.origin)).is_relative_to(folder)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler"]
    return int(pytest.main([*options, *tests]))


def run(folder: Path, tests: list[str], limit: float) -> int | None:
    """The exit status of the tests; None where they take longer than `limit` seconds.

    A forked process of this one runs them, which has imported the rest.
    """
    child = os.fork()
    if child == 0:
        status = 70
        try:
            status = _test(folder, tests)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(code)
        time.sleep(0.1)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def check(folder: Path, tests: list[str]) -> dict[str, float]:
    """The seconds that each file of tests takes on the code as it is, which it must pass."""
    taken = {}
    for one in tests:
        start = time.monotonic()
        status = run(folder, [one], limit=900)
        taken[one] = time.monotonic() - start
        print(f"unchanged {taken[one]:6.1f} s  {one}", flush=True)
        if status not in (0, 5):  # 5: a module without doctests
            raise SystemExit(f"{one} does not pass on the code as it is: exit status {status}")
    return taken


def copies(n: int) -> list[Path]:
    folders = [Path(tempfile.mkdtemp(prefix="skuq-mutant-")) for _ in range(n)]
    for folder in folders:
        for name in ("skuq", "tests", "docs", "pyproject.toml", "README.md", "CHANGELOG.md"):
            copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copied(ROOT / name, folder / name)
    return folders


def numbers_in(words: str) -> set[int]:
    """Those of "3,17,20-29"."""
    ends = [[int(end) for end in part.split("-")] for part in words.split(",")]
    return {number for part in ends for number in range(part[0], part[-1] + 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-n", type=int, default=150, help="number of mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="*", help="pattern of the path, such as 'skuq/metrics/*'")
    parser.add_argument("--numbers", help="run these of the sample only, such as 3,17,20-29")
    parser.add_argument("--unchecked", action="store_true", help="trust that unchanged code passes")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()

    # What every child needs is imported once, here; not skuq, nor what pytest rewrites.
    os.environ.update(SCIPY_ARRAY_API="1", MPLBACKEND="Agg")
    import matplotlib.pyplot
    import skorch.callbacks
    import torch
    from sklearn.utils import estimator_checks

    del matplotlib, skorch, estimator_checks
    torch.set_num_threads(1)
    chosen = list(enumerate(mutants(given.n, given.seed, given.only)))
    if given.numbers:
        chosen = [(k, one) for k, one in chosen if k in numbers_in(given.numbers)]
    folders = copies(given.jobs)
    free = list(folders)
    needed = dict.fromkeys(test for _, (path, _) in chosen for test in tests_of(path))
    files = [one for one in needed if (ROOT / one).exists()]
    taken = {} if given.unchecked else check(folders[0], files)

    def one(mutant: tuple[int, tuple[str, int]]) -> str:
        k, (path, number) = mutant
        folder, start = free.pop(), time.monotonic()
        original = (folder / path).read_text()
        source, words = mutated(original, number)
        (folder / path).write_text(source)
        tests = tests_of(path)
        status = run(folder, tests, limit=60 + 4 * sum(taken.get(test, 60) for test in tests))
        (folder / path).write_text(original)
        free.append(folder)
        outcome = "too slow" if status is None else "killed" if status else "SURVIVED"
        print(
            f"{k:4d} {outcome:8} {time.monotonic() - start:6.1f} s  {path}:{words}",
            flush=True,
        )
        return outcome

    with ThreadPoolExecutor(given.jobs) as pool:
        outcomes = list(pool.map(one, chosen))
    for folder in folders:
        shutil.rmtree(folder)
    slow, survived = outcomes.count("too slow"), outcomes.count("SURVIVED")
    print(
        f"{len(chosen) - survived} of {len(chosen)} mutants were killed, {slow} of them by the "
        f"time limit (seed {given.seed})"
    )


if __name__ == "__main__":
    main()
