"""Render a report as one HTML file of sections with tables, figures, a map and a gallery. All data is escaped."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

Cell = str | int | float | None

_DIGITS = 4


class Share(float):
    """A number that the page prints in per cent."""


@dataclass(frozen=True)
class TableElement:
    """A table with a caption; numbers are right-aligned. ``folded``: the rows are hidden until it is opened."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    folded: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Figure:
    """A chart. ``svg`` is trusted and not escaped; ``alt`` is its text alternative."""

    caption: str
    alt: str
    svg: str
    kind: str = "figure"


@dataclass(frozen=True)
class Point:
    """An item on the map; x and y are from 0 to 100."""

    x: float
    y: float
    title: str
    group: int  # number of its colour from 1; 0: none


@dataclass(frozen=True)
class Map:
    """A scatter plot of titled points; ``groups`` names the colours from 1 on."""

    caption: str
    alt: str
    points: Sequence[Point]
    groups: Sequence[str]
    kind: str = "map"


@dataclass(frozen=True)
class UserCard:
    """One user: text, titles of recent favourites, and recommendations with reasons."""

    user: str
    text: str
    favourites: Sequence[str]
    recommendations: Sequence[tuple[int, str, float, Sequence[tuple[Share, str]]]]  # rank, title, score, reasons


@dataclass(frozen=True)
class Gallery:
    """Cards of a few users."""

    cards: Sequence[UserCard]
    kind: str = "gallery"


@dataclass(frozen=True)
class Note:
    """A sentence: a remark, or why there is nothing to show."""

    text: str
    kind: str = "note"


Element = TableElement | Figure | Map | Gallery | Note


@dataclass(frozen=True)
class Section:
    """A heading and the elements below it; ``name`` is its HTML id."""

    name: str
    title: str
    elements: Sequence[Element] = field(default_factory=list)


def render_page(title: str, lead: str, sections: Sequence[Section], figures: Sequence[tuple[str, Cell]] = ()) -> str:
    """The HTML document. It loads no other resource. ``figures``: names and values in the header."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"format_cell": format_cell, "is_number": is_number}
    template = environment.from_string((files("recsys_spark.report") / "page.html").read_text(encoding="utf-8"))
    return template.render(title=title, lead=lead, sections=sections, figures=figures)


def format_cell(value: Cell) -> str:
    """The text of a cell: thousands separators, four digits of a fraction, a dash for a missing value."""
    if value is None or value != value:
        return "–"
    if isinstance(value, Share):
        return f"{100 * value:.3g} %"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) >= 1e4):
        return f"{int(value):,}"
    return f"{value:.{_DIGITS}g}" if abs(value) < 1 else f"{value:,.2f}"


def is_number(value: Any) -> bool:
    """Whether a cell is right-aligned: numbers, missing values, and metrics with their interval."""
    if isinstance(value, str):
        return re.match(r"-?\d+\.\d{4}\b", value) is not None
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
