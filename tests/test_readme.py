"""The code of the README and of docs/ runs, page by page, and prints the output that is shown.

Blocks marked ``python`` run, in order, in one namespace for each page. A block marked ``text``
right after one of them is its output: the same words, and numbers within 0.2 (training amplifies
the rounding of other machines). Blocks without a mark do not run.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")]
BLOCK = re.compile(
    r"^```python\n(.*?)^```\n(?:\s*^```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
NUMBER = re.compile(r"-?\d+\.?\d*")

pytestmark = pytest.mark.skipif(not README.exists(), reason="not in a source checkout")


def blocks_of(page):
    """Code (at the line where it stands, for tracebacks) and the output that is shown, or None."""
    text = page.read_text()
    for match in BLOCK.finditer(text):
        yield "\n" * text.count("\n", 0, match.start(1)) + match[1], match[2]


def words(text):
    return NUMBER.sub("#", re.sub(r"\s+", "", text))


def numbers(text):
    return [float(number) for number in NUMBER.findall(text)]


@pytest.mark.filterwarnings("error")  # what users see, none of the exceptions for other tests
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.exists() and BLOCK.search(page.read_text())], ids=str
)
def test_code_runs(page, tmp_path, monkeypatch, capsys):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for code, shown in blocks_of(page):
        capsys.readouterr()
        exec(compile(code, str(page), "exec"), namespace)
        printed = capsys.readouterr().out
        if shown is not None:
            assert words(printed) == words(shown)
            assert numbers(printed) == pytest.approx(numbers(shown), abs=0.2)
    pyplot.close("all")


@pytest.mark.parametrize("page", PAGES + OTHERS, ids=str)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_first_page_is_short():
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    (picture,) = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert (ROOT / picture).stat().st_size < 60_000
    assert all(shown is not None for _, shown in list(blocks_of(README))[:1])
