"""The directive ``{rooms}``: the plan of skuq's rooms, drawn from the imports of its files.

A room stands above all rooms that it imports. Rooms of one storey do not import each other.
"""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

import skuq

PACKAGE = Path(skuq.__file__).parent
WIDTH, ROOM, STOREY, GAP = 660, 24, 40, 8


def imports_of_rooms() -> dict[str, set[str]]:
    """Return, for each file or folder of the package, the others that it imports from."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE).with_suffix("")
        room = relative.parts[0]
        if room == "__init__":
            continue
        below = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [module or ""]
            below |= {name.split(".")[1] for name in names if name.startswith("skuq.")}
        below.discard(room)
    return found


def storeys(below: dict[str, set[str]]) -> list[list[str]]:
    """Put each room above the highest room that it imports, from the ground to the top."""
    level: dict[str, int] = {}
    for room in TopologicalSorter(below).static_order():
        level[room] = max((level[other] + 1 for other in below.get(room, ())), default=0)
    return [sorted(r for r in level if level[r] == n) for n in range(max(level.values()) + 1)]


def direct(below: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leave out imports of rooms that another imported room stands on: fewer lines, same order."""
    under: dict[str, set[str]] = {}
    for room in TopologicalSorter(below).static_order():
        under[room] = set().union(*({other} | under[other] for other in below.get(room, ())))
    return {
        room: {o for o in others if not any(o in under[other] for other in others)}
        for room, others in below.items()
    }


def lines_of(rooms: list[str]) -> list[list[str]]:
    """Break a storey that is too wide into several lines."""
    lines: list[list[str]] = [[]]
    for room in rooms:
        if lines[-1] and sum(map(width_of, [*lines[-1], room])) + 8 * len(lines[-1]) > WIDTH - 16:
            lines.append([])
        lines[-1].append(room)
    return lines


def width_of(room: str) -> float:
    return 7.3 * len(room) + 12


def draw(below: dict[str, set[str]]) -> str:
    """Draw the plan as SVG: public rooms filled, a line to each room that is imported."""
    floors = storeys(below)[::-1]
    rows = [line for rooms in floors for line in lines_of(rooms)]
    height = STOREY * len(rows) + GAP
    places: dict[str, tuple[float, float, float]] = {}
    for n, rooms in enumerate(rows):
        space = (WIDTH - sum(map(width_of, rooms))) / (len(rooms) + 1)
        left = space
        for room in rooms:
            places[room] = (left, n * STOREY + GAP, width_of(room))
            left += width_of(room) + space
    lines, boxes = [], []
    for room, others in sorted(direct(below).items()):
        for other in sorted(others):
            (x, y, w), (x2, y2, w2) = places[room], places[other]
            start, end = (x + w / 2, y + ROOM), (x2 + w2 / 2, y2)
            bend = f"C{start[0]:.0f} {start[1] + 22:.0f} {end[0]:.0f} {end[1] - 22:.0f}"
            path = f"M{start[0]:.0f} {start[1]:.0f}{bend} {end[0]:.0f} {end[1]:.0f}"
            lines.append(f'<path d="{path}"><title>{room} imports {other}</title></path>')
    for room, (x, y, w) in places.items():
        kind = "private" if room.startswith("_") else "public"
        boxes.append(
            f'<g class="{kind}"><rect x="{x:.0f}" y="{y}" width="{w:.0f}" height="{ROOM}" rx="4"/>'
            f'<text x="{x + w / 2:.0f}" y="{y + 16}">{room}</text></g>'
        )
    label = f"The {len(places)} rooms of skuq on {len(floors)} storeys; imports run downwards."
    return (
        f'<div class="skuq-rooms" tabindex="0" role="group" aria-label="Plan of the rooms">'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">'
        f"{''.join(lines)}{''.join(boxes)}</svg></div>"
    )


class Rooms(Directive):
    """Insert the plan."""

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", draw(imports_of_rooms()), format="html")]


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("rooms", Rooms)
    return {"parallel_read_safe": True}
