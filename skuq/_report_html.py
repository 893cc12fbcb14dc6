"""The parts of an HTML page: the page itself, tables and pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from skuq._utils._files import replace_file
from skuq._utils._optional import import_optional
from skuq._utils._typing import StrPath

__all__ = ["Report", "figure_of", "number_table", "table", "thumbnail"]

_CSS = """
.skuq{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1080px;margin:0 auto;padding:1em}
.skuq h1{font-size:1.5em}.skuq h2{font-size:1.15em;margin-top:1.6em}
.skuq pre{background:#f5f5f5;padding:.7em;overflow-x:auto;white-space:pre-wrap;font-size:.85em}
.skuq table{border-collapse:collapse;margin:.5em 0;font-variant-numeric:tabular-nums}
.skuq td,.skuq th{border-bottom:1px solid #ddd;padding:.25em .8em;text-align:right}
.skuq td:first-child,.skuq th:first-child{text-align:left}
.skuq .figures{display:flex;flex-wrap:wrap;gap:1em}.skuq figure{margin:0;flex:1 1 440px}
.skuq img{max-width:100%;height:auto}.skuq figcaption{color:#555;font-size:.9em}
.skuq .wide{overflow-x:auto}
"""


class Report:
    """The result of `skuq.report`.

    Attributes
    ----------
    metrics : dict of str to float
        Values of the metrics, by name.
    html : str
        A complete HTML document without external files.
    intervals : dict of str to pair of float
        95 % confidence intervals of metrics, by the same names.
    """

    def __init__(
        self,
        metrics: dict[str, float],
        title: str,
        body: str,
        intervals: dict[str, tuple[float, float]] | None = None,
    ) -> None:
        self.metrics = metrics
        self.intervals = intervals or {}
        self._body = f"<style>{_CSS}</style><div class='skuq'>{body}</div>"
        self.html = (
            "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width'>"
            f"<title>{escape(title)}</title></head><body>{self._body}</body></html>"
        )

    def save(self, path: StrPath) -> Path:
        """Write the document to a file.

        Parameters
        ----------
        path : str or Path
            The file to write.

        Returns
        -------
        Path
            The path of the written file.
        """
        target = Path(path)
        replace_file(target, lambda file: file.write(self.html.encode()))
        return target

    def _repr_html_(self) -> str:
        return self._body

    def __repr__(self) -> str:
        return "Report(" + ", ".join(f"{k}={v:.4g}" for k, v in self.metrics.items()) + ")"


def figure_of(
    draw: Callable[[Any], Any], caption: str, size: tuple[float, float] = (5.2, 4.6)
) -> str:
    figure = import_optional("matplotlib.figure", "plot", "skuq.report").Figure(
        figsize=size, layout="constrained"
    )
    draw(figure.subplots())
    return f"<figure>{_image(figure, caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def _image(figure: Any, text: str, dpi: int = 110) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<img alt='{escape(text, quote=True)}' src='data:image/png;base64,{data}'>"


def table(head: list[str], rows: list[list[str]], raw: bool = False) -> str:
    """Make an HTML table. Cells are escaped, except the last of each row if `raw`."""
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    for row in rows:
        cells = [escape(cell) for cell in row]
        if raw:
            cells[-1] = row[-1]
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    return "<div class='wide'><table><tr>" + "</tr><tr>".join(lines) + "</tr></table></div>"


def number_table(
    metrics: dict[str, float],
    intervals: dict[str, tuple[float, float]],
    notes: dict[str, str],
) -> str:
    """Make the table of metrics, with a column of confidence intervals if there are any."""
    rows = []
    for name, value in metrics.items():
        ends = "{:.4g} to {:.4g}".format(*intervals[name]) if name in intervals else ""
        rows.append([name, f"{value:.4g}", notes.get(name, ""), ends])
    if intervals:
        return table(["", "value", "at best", "95 % interval"], rows)
    return table(["", "value", "at best"], [row[:3] for row in rows])


def thumbnail(row: np.ndarray) -> str:
    figure = import_optional("matplotlib.figure", "plot", "skuq.report").Figure(figsize=(0.7, 0.7))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    image = np.asarray(row, dtype=float)
    image = np.moveaxis(image, 0, -1) if image.ndim == 3 else image
    span = np.ptp(image) or 1.0
    ax.imshow((image - image.min()) / span, cmap="gray_r")
    return _image(figure, "the sample", dpi=80)
