"""Do the tests notice a change of the code? Run by hand: ``python -m tests.mutants --help``.

A mutant is a copy of skuq with one small change, chosen by a seed: another comparison, another
operator, a number moved, a condition turned round, a keyword's value dropped. The tests of its
module run against it, until the first failure. What survives is printed: write the test that kills
it, or see why it is equivalent.
"""

from __future__ import annotations

import argparse
import ast
import copy
import fnmatch
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]

# The tests of a module: those of the first pattern that matches its path.
TESTS = {
    "skuq/_engine/*": "tests/test_engine.py tests/test_memory.py tests/test_outputs.py",
    "skuq/uncertainty.py": "tests/test_uncertainty.py tests/test_behaviour.py",
    "skuq/likelihoods/_base.py": "tests/likelihoods/test_contract.py",
    "skuq/likelihoods/_standardised.py": "tests/likelihoods/test_contract.py "
    "tests/likelihoods/test_gaussian.py",
    "skuq/likelihoods/*": "tests/likelihoods/test{name}.py tests/likelihoods/test_contract.py",
    "skuq/_distributions/_softmax.py": "tests/test_softmax.py tests/test_uncertainty.py "
    "tests/likelihoods/test_categorical.py",
    "skuq/_distributions/*": "tests/test_mixture.py tests/test_derived.py "
    "tests/likelihoods/test_contract.py tests/metrics/test_regression.py",
    "skuq/calibration/_temperature.py": "tests/calibration/test_temperature.py",
    "skuq/calibration/*": "tests/calibration",
    "skuq/metrics/_display*": "tests/metrics/test_displays.py",
    "skuq/metrics/*": "tests/metrics",
    "skuq/_predict.py": "tests/test_estimators.py tests/test_outputs.py tests/test_pipeline.py",
    "skuq/pipeline.py": "tests/test_pipeline.py tests/test_derived.py",
    "skuq/augmentation/*": "tests/augmentation",
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
        node.value = node.value + 1 if type(node.value) is int else node.value * 2
    elif isinstance(node, ast.IfExp):
        node.body, node.orelse = node.orelse, node.body
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
    pattern = next(p for p in TESTS if fnmatch.fnmatch(path, p))
    name = Path(path).stem
    found = TESTS[pattern].format(name=name).split()
    return [one for one in found if (ROOT / one).exists()]


def mutated(path: str, number: int) -> tuple[str, str]:
    """The source of a mutant, and the change in words."""
    tree = ast.parse((ROOT / path).read_text())
    node = list(ast.walk(tree))[number]
    before, line = ast.unparse(node), getattr(node, "lineno", 0)
    after = ast.unparse(changed(copy.deepcopy(node)) or node)
    source = ast.unparse(ast.fix_missing_locations(Change(node).visit(tree)))
    return source, f"{path}:{line}: {before}  →  {after}"


def survives(folder: Path, path: str, number: int, limit: int) -> tuple[bool, str]:
    """Run the tests of a mutant in a forked process of this one, which has imported the rest."""
    source, words = mutated(path, number)
    original = (ROOT / path).read_text()
    (folder / path).write_text(source)
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(folder)
        sys.path[:] = [str(folder), *(p for p in sys.path if p not in ("", str(ROOT)))]
        os.environ["PYTHONPATH"] = str(folder)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--doctest-modules"]
        os._exit(int(pytest.main([*options, *tests_of(path)])))
    end, status = time.monotonic() + limit, 1
    while time.monotonic() < end:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
            break
        time.sleep(0.2)
    else:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    (folder / path).write_text(original)
    return status == 0, words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=150, help="number of mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="*", help="pattern of the path, such as 'skuq/metrics/*'")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=int, default=300, help="seconds for each")
    given = parser.parse_args()

    # What every child needs is imported once, here; skuq itself is not.
    import matplotlib.pyplot
    import skorch.callbacks
    import torch
    from hypothesis import given as _hypothesis
    from sklearn.utils import estimator_checks

    del matplotlib, skorch, _hypothesis, estimator_checks
    torch.set_num_threads(1)
    chosen = mutants(given.n, given.seed, given.only)
    folders = [Path(tempfile.mkdtemp(prefix="skuq-mutant-")) for _ in range(given.jobs)]
    free = list(folders)
    for folder in folders:
        for name in ("skuq", "tests", "docs", "pyproject.toml", "README.md"):
            copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copied(ROOT / name, folder / name)

    def one(mutant: tuple[str, int]) -> bool:
        folder = free.pop()
        survived, words = survives(folder, *mutant, given.limit)
        free.append(folder)
        print("SURVIVED" if survived else "killed  ", words, flush=True)
        return survived

    with ThreadPoolExecutor(given.jobs) as pool:
        survived = sum(pool.map(one, chosen))
    for folder in folders:
        shutil.rmtree(folder)
    print(f"{len(chosen) - survived} of {len(chosen)} mutants were killed (seed {given.seed})")


if __name__ == "__main__":
    main()
