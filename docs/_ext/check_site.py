"""Check a built site: every internal link leads somewhere, every picture is there and described.

``python docs/_ext/check_site.py docs/_build/html``. Asks no network.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors, links and pictures of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.undescribed: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        for name in ("id", "name"):
            self.anchors.add(found.get(name) or "")
        for name in ("href", "src"):
            self.links.append(found.get(name) or "")
        if tag == "img" and not (found.get("alt") or "").strip():
            self.undescribed.append(found.get("src") or "")


def problems(site: Path) -> Iterator[str]:
    """Yield what is wrong, page by page."""
    paths = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: Page(path.read_text()) for path in paths}
    for path, page in pages.items():
        title = path.relative_to(site)
        yield from (f"{title}: picture {source} has no alt text" for source in page.undescribed)
        for link in sorted(set(filter(None, page.links))):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                yield f"{title}: {link} leads nowhere"
            elif parts.fragment and target in pages:
                if unquote(parts.fragment) not in pages[target].anchors:
                    yield f"{title}: {link} has no such anchor"


def main(site: Path) -> None:
    found = list(problems(site.resolve()))
    print("\n".join(found))
    n_pages = sum(1 for _ in site.rglob("*.html"))
    if not n_pages:
        sys.exit(f"{site} has no pages")
    if found:
        sys.exit(f"{len(found)} problems on {n_pages} pages")
    print(f"{n_pages} pages: all internal links lead somewhere, all pictures are described")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
