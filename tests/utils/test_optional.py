"""An error about a missing package names an extra that there is, and that brings the package."""

import ast
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from skuq._utils._optional import import_optional

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "pyproject.toml"


def calls():
    """The first two arguments of each call of `import_optional`, where they are written out."""
    for path in sorted((ROOT / "skuq").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_optional":
                name, extra = (getattr(one, "value", None) for one in node.args[:2])
                yield path.name, name, extra


@pytest.mark.skipif(not PROJECT.exists(), reason="not in a source checkout")
def test_the_extra_exists_and_brings_the_package():
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    distributions = packages_distributions()
    found = list(calls())
    assert len(found) > 20
    for file, name, extra in found:
        brought = {re.match(r"[\w-]+", one)[0].lower() for one in extras.get(extra, [])}
        assert brought, f"{file}: there is no extra {extra!r}"
        if isinstance(name, str):
            module = name.partition(".")[0]
            names = {one.lower() for one in distributions.get(module, [module])}
            assert names & brought, f"{file}: the extra {extra!r} does not bring {module}"


def test_the_error_names_the_feature_the_package_and_the_command():
    with pytest.raises(ImportError, match=r"it needs absent, .* pip install 'skuq\[plot\]'"):
        import_optional("absent.part", "plot", "it")
