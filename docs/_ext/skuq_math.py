"""Formulas as MathML, which browsers show by themselves: no script, and no network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.logging import getLogger

logger = getLogger(__name__)


def formula(node: nodes.Element, block: bool) -> str:
    """Translate the TeX of a node; what cannot be translated is a warning."""
    try:
        return tex2mathml(node.astext(), as_block=block)
    except MathError as error:
        logger.warning("formula %r: %s", node.astext(), error, location=node)
        return f"<code>{node.astext()}</code>"


def inline(translator: Any, node: nodes.Element) -> None:
    translator.body.append(formula(node, block=False))
    raise nodes.SkipNode


def displayed(translator: Any, node: nodes.Element) -> None:
    translator.body.append(
        f'<div class="skuq-formula" tabindex="0">{formula(node, block=True)}</div>'
    )
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
    return {"parallel_read_safe": True}
