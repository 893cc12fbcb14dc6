"""Each example is fit for the gallery: title, text, cells, described figures, a section."""

import ast
import fnmatch
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))
GALLERY = ROOT / "docs" / "_ext" / "skuq_gallery.py"

pytestmark = pytest.mark.skipif(not EXAMPLES, reason="not in a source checkout")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_fit_for_the_gallery(path):
    text = path.read_text()
    title, line, blank, words = (ast.get_docstring(ast.parse(text)) or "").split("\n", 3)
    assert line == "=" * len(title), "the title is underlined by as many ="
    assert not blank and words.strip(), "a text follows the title"
    assert re.search(r"^# %%", text, re.M), "cells begin with # %%"
    for forbidden in ("__file__", "matplotlib.use", "plt.close"):
        assert forbidden not in text, f"sphinx-gallery does not work with {forbidden}"
    assert re.search(r"\.set_label\(", text), "figure.set_label describes the picture"
    assert "sys.argv[1:]" in text or "sys.argv[1]" in text, "the picture can be written to a file"


def test_patterns_of_sections_are_of_use():
    pytest.importorskip("sphinx", reason="the site's extra")
    spec = importlib.util.spec_from_file_location("skuq_gallery", GALLERY)
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    names = [path.stem.removeprefix("plot_") for path in EXAMPLES]
    for folder, title, _, patterns in gallery.SECTIONS:
        assert any(gallery.section_of(name) == folder for name in names), f"{title} is empty"
        assert any(fnmatch.fnmatch(name, p) for name in names for p in patterns), title
    assert gallery.section_of("few_labels") == "8_active_learning"
    assert gallery.section_of("input_noise") == "6_regression"
