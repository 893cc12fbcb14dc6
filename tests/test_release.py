"""What a release must say in several places is the same in all of them; the site has its parts."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jinja2  # torch needs it
import pytest
import yaml  # dask needs it

import skuq

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "pyproject.toml"

pytestmark = pytest.mark.skipif(not PROJECT.exists(), reason="not in a source checkout")


def project():
    return tomllib.loads(PROJECT.read_text())["project"]


def test_the_version_is_the_same_everywhere():
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    recipe = re.search(r'set version = "(.+)"', (ROOT / "recipe/meta.yaml").read_text())
    changes = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    found = {citation[1], recipe[1], changes[1], skuq.__version__}
    assert found == {project()["version"]}


def recipe():
    """What conda reads: the recipe's template, filled in, as YAML."""
    text = (ROOT / "recipe/meta.yaml").read_text()
    template = jinja2.Template(text, undefined=jinja2.StrictUndefined)
    return yaml.safe_load(template.render(PYTHON="python"))


def test_the_recipe_needs_what_the_package_needs():
    python = "python " + project()["requires-python"]
    requirements = recipe()["requirements"]
    wanted = [re.sub("^torch", "pytorch", one) for one in project()["dependencies"]]
    assert set(requirements["run"]) == {python, *(one.replace(">=", " >=") for one in wanted)}
    (backend,) = tomllib.loads(PROJECT.read_text())["build-system"]["requires"]
    assert set(requirements["host"]) == {python, "pip", backend.replace(">=", " >=")}


def test_the_recipe_says_what_the_package_says():
    found, said = recipe(), project()
    assert found["package"] == {key: said[key] for key in ("name", "version")}
    assert found["about"]["license"] == said["license"]
    assert found["about"]["summary"] == said["description"]
    assert [found["about"]["license_file"]] == said["license-files"]
    assert all(importlib.util.find_spec(name) for name in found["test"]["imports"])


def test_the_other_sides_ran_with_the_versions_that_make_installs():
    """Whoever moves a pin runs `make other-sides` again, and writes so on the page."""
    paths = [ROOT / "requirements-cpu.txt", *(ROOT / "benchmarks").glob("requirements-peers*.txt")]
    pins = dict(re.findall(r"^(\S+)==(\S+)", "\n".join(p.read_text() for p in paths), re.M))
    pins = {name.lower(): version for name, version in pins.items()}
    page = (ROOT / "docs/coming_from.md").read_text()
    (ran,) = re.findall(r"^In \w+ \d{4} the left sides ran with (.+?)\. ", page, re.M | re.S)
    found = dict(re.findall(r"([\w-]+)\s(\d[\d.]*)", ran))
    assert len(found) == 8  # the seven of the page's sections, and torch
    assert {name: pins[name.lower()] for name in found} == found


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("plot_*.py")), ids=lambda p: p.name
)
def test_an_example_suits_the_gallery(path):
    """It has a title, cells and a figure that is left open, and knows nothing of its own place."""
    text = path.read_text()
    title = re.match(r"""\"\"\"\n?(.+)\n(=+)\n""", text)
    assert title, "begin with a docstring whose first line is a title, underlined by ="
    assert len(title[1]) <= len(title[2])
    assert "\n# %%\n" in text
    assert not re.search(r"__file__|matplotlib\.use|plt\.close", text)
    assert "sys.argv[1:]" in text  # `python examples/plot_x.py picture.png` writes the picture


def check(folder):
    command = [sys.executable, ROOT / "docs/_ext/check_site.py", folder]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_check_of_the_site_finds_what_is_wrong(tmp_path):
    assert check(tmp_path).returncode != 0  # no page at all
    (tmp_path / "a.html").write_text('<a href="b.html#here">b</a><img src="c.png" alt="A curve.">')
    (tmp_path / "b.html").write_text('<p id="here">Here.</p><a href="https://example.org">out</a>')
    (tmp_path / "c.png").write_bytes(b"")
    assert check(tmp_path).returncode == 0
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="d.html"></a><img src="c.png">')
    found = check(tmp_path)
    assert found.returncode != 0
    for problem in ("b.html#here has no such anchor", "d.html leads nowhere", "no alt text"):
        assert problem in found.stdout
