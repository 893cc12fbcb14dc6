"""How Sphinx builds the site of skuq: `make docs`. It needs no network."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_ext")]

import skuq_gallery  # noqa: E402

import skuq  # noqa: E402

project = "skuq"
author = "the skuq developers"
copyright = author
release = version = skuq.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "skuq_api",
    "skuq_links",
    "skuq_math",
    "skuq_rooms",
]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build", "_ext", "_examples", "gallery/backreferences", "**/*.py.md5"]
templates_path: list[str] = []
nitpicky = True
default_role = "literal"  # skuq_links makes links of names of the API
highlight_language = "none"
language = "en"

# Docstrings: types stand in them, so signatures go without.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
autosummary_generate = False  # skuq_api writes a page for each public name
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False
# Most of what numpydoc's validation knows. tests/test_docstrings.py checks that parameters, results
# and methods are described (GL08, PR01, PR02, RT01), and sees inheritance. The text may begin
# beside the quotes (GL01); parameters "as in" another function stand together (PR03, PR04); a
# description may begin with a symbol (PR08).
numpydoc_validation_checks = {
    "GL03", "GL05", "GL06", "GL07", "GL09", "GL10", "PR05", "PR06", "PR07", "PR10",
    "RT03", "RT05", "SS01", "SS02", "SS03", "SS04", "YD01", "SA02", "SA04",
}  # fmt: skip
numpydoc_validation_exclude = {r"\.[A-Z0-9_]+$"}  # constants have the docstrings of their types

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "skuq"
html_static_path = ["_static"]
html_css_files = ["skuq.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "skuq"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navigation_with_keys": True,
}
html_sidebars = {"index": [], "start": [], "choose": [], "coming_from": [], "search": []}

sphinx_gallery_conf = skuq_gallery.settings(DOCS)
suppress_warnings = ["config.cache", "myst.header"]  # headings may skip a level
