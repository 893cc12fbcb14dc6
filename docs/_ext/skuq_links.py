"""Links that the sources leave to the build.

Code in running text that names something of the API, an example or a page becomes a link to it, so
that sources read well in any viewer: ``MCDropout``, ``skuq.shift``, ``examples/plot_digits.py``,
``docs/losses.md``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from skuq_api import contents, public_names
from skuq_gallery import pages_of_examples
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

# Files of the repository that have a page of the site, and the name of that page.
WRAPPED = {
    "../CONTRIBUTING.md": "contributing.md",
    "../SECURITY.md": "security.md",
    "../CHANGELOG.md": "changelog.md",
    "../README.md": "index.md",
    "../benchmarks/README.md": "benchmarks_running.md",
}
# Where other packages explain their public names, in files that are called like them.
OTHERS = {
    "numpy": "https://numpy.org/doc/stable/reference",
    "scipy": "https://docs.scipy.org/doc/scipy/reference",
    "sklearn": "https://scikit-learn.org/stable/modules",
    "torch": "https://docs.pytorch.org/docs/stable",
}
CALL = re.compile(r"^([A-Za-z_][\w.]*)(\(.*\))?$", re.DOTALL)
NAMES: dict[str, str] = {}
ROOMS: set[str] = set()


class LinkCode(SphinxTransform):
    """Make links of code in running text."""

    default_priority = 300

    def apply(self, **options: Any) -> None:
        here = self.env.docname
        examples = pages_of_examples(Path(self.env.srcdir))
        for literal in list(self.document.findall(nodes.literal)):
            if self.in_link(literal) or literal.get("classes") == ["xref"]:
                continue
            link = self.link_of(literal.astext(), here, examples)
            if link is not None:
                literal.replace_self(link)
                link += literal

    @staticmethod
    def in_link(node: nodes.Node) -> bool:
        while node is not None:
            if isinstance(node, nodes.reference | addnodes.pending_xref | nodes.title):
                return True
            node = node.parent
        return False

    def link_of(self, text: str, here: str, examples: dict[str, str]) -> nodes.Element | None:
        options = {"refdoc": here, "refwarn": True, "refexplicit": True}
        page = re.fullmatch(r"docs/(\w+)\.md", text)
        example = re.fullmatch(r"(?:python )?examples/(plot_\w+\.py)(?: .*)?", text)
        room = text in ROOMS and here != f"api/{text}"
        if page or room or (example and example[1] in examples):
            target = f"api/{text}" if room else page[1] if page else examples[example[1]]
            return addnodes.pending_xref(
                "", refdomain="std", reftype="doc", reftarget=f"/{target}", **options
            )
        call = CALL.match(text)
        full = NAMES.get(call[1]) if call else None
        if full is None or here == f"api/{full}":
            return None
        if "." not in text.partition("(")[0] and text[:1].islower() and "_" not in text:
            return None  # an everyday word, such as `save`
        return addnodes.pending_xref("", refdomain="py", reftype="obj", reftarget=full, **options)


class DescribePictures(SphinxTransform):
    """Give the small pictures of the gallery the title of their example as text."""

    default_priority = 310

    def apply(self, **options: Any) -> None:
        folder = Path(self.env.srcdir) / "_examples"
        for image in self.document.findall(nodes.image):
            example = re.search(r"sphx_glr_(plot_\w+)_thumb\.png$", image["uri"])
            if example and not image.get("alt"):
                (path,) = folder.glob(f"*/{example[1]}.py")
                image["alt"] = path.read_text().lstrip('"\n').partition("\n")[0]


def rewrite(app: Any, docname: str, source: list[str]) -> None:
    """Bring in files from outside of ``docs/``, and lead the links between them and the pages."""
    folder = Path(app.srcdir)
    outside = {page.removesuffix(".md"): path for path, page in WRAPPED.items()}
    if docname in outside and docname != "index":
        path = (folder / outside[docname]).resolve()
        source[0] = path.read_text().replace("](docs/", "](").replace("](../docs/", "](")
        app.env.note_dependency(str(path))
    for path, page in WRAPPED.items():
        source[0] = source[0].replace(f"]({path}", f"]({page}")
    if (
        "/" in docname and Path(app.env.doc2path(docname)).suffix == ".md"
    ):  # a table that a page links
        heading = "" if source[0].startswith("# ") else f"# Measured: {docname}\n\n"
        source[0] = f"---\norphan: true\n---\n{heading}{source[0]}"
    if docname == "guide":
        source[0] += unlisted(folder)


def unlisted(folder: Path) -> str:
    """Return a table of contents of the pages that no other page lists."""
    pages = {path.stem: path.read_text() for path in sorted(folder.glob("*.md"))}
    entries = "\n".join(
        re.findall(r"^```\{toctree\}\n(.*?)^```", "\n".join(pages.values()), re.M | re.S)
    )
    names = [n for n in pages if n != "index" and not re.search(rf"^(.*<)?{n}>?$", entries, re.M)]
    if not names:
        return ""
    lines = ["", "```{toctree}", ":caption: More questions", ":maxdepth: 1", "", *names, "```", ""]
    return "\n".join(lines)


def other_projects(
    app: Any, env: Any, node: nodes.Element, content: nodes.TextElement
) -> nodes.Node | None:
    """Lead names of other packages to their sites, without asking the network for its contents."""
    target = node.get("reftarget", "")
    address = OTHERS.get(target.partition(".")[0])
    if node.get("refdomain") != "py" or address is None:
        return None
    uri = f"{address}/generated/{target}.html"
    return nodes.reference("", "", content, internal=False, refuri=uri)


def find_names(app: Any) -> None:
    NAMES.update(public_names())
    ROOMS.update(set(contents()) - {"skuq"})


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", find_names)
    app.connect("source-read", rewrite)
    app.connect("missing-reference", other_projects)
    app.add_transform(LinkCode)
    app.add_transform(DescribePictures)
    return {"parallel_read_safe": True}
