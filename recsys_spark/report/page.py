"""A report as one HTML file: sections of tables, figures, a map and a gallery. Whatever comes from data is escaped."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

Cell = str | int | float | None

_DIGITS = 4


class Share(float):
    """A number that is shown in per cent."""


@dataclass(frozen=True)
class TableBlock:
    """A table with a caption; numbers are right-aligned. ``folded``: its rows show when it is opened."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    folded: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Figure:
    """A chart: ``svg`` is ours and goes in as it is; ``alt`` says what there is to see."""

    caption: str
    alt: str
    svg: str
    kind: str = "figure"


@dataclass(frozen=True)
class Point:
    """An item on the map: x and y from 0 to 100."""

    x: float
    y: float
    title: str
    group: int  # number of its colour, 0: none


@dataclass(frozen=True)
class Map:
    """Points with their titles; ``groups`` names the colours from 1 on."""

    caption: str
    alt: str
    points: Sequence[Point]
    groups: Sequence[str]
    kind: str = "map"


@dataclass(frozen=True)
class Story:
    """A user: what was liked, what is offered and why."""

    user: str
    about: str
    history: Sequence[str]
    offered: Sequence[tuple[int, str, float, Sequence[tuple[Share, str]]]]  # rank, title, score, reasons


@dataclass(frozen=True)
class Gallery:
    """Some users."""

    stories: Sequence[Story]
    kind: str = "gallery"


@dataclass(frozen=True)
class Note:
    """A sentence, where there is nothing to show or something to know."""

    text: str
    kind: str = "note"


Block = TableBlock | Figure | Map | Gallery | Note


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    name: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list)


def page(title: str, lead: str, sections: Sequence[Section], figures: Sequence[tuple[str, Cell]] = ()) -> str:
    """The whole file. It loads nothing. ``figures``: what is to be seen first."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"shown": shown, "is_number": is_number}
    template = environment.from_string((files("recsys_spark.report") / "page.html").read_text(encoding="utf-8"))
    return template.render(title=title, lead=lead, sections=sections, figures=figures)


def shown(value: Cell) -> str:
    """A cell in words: thousands apart, four digits of a fraction, a dash for what is not there."""
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
    """Whether a cell is right-aligned: numbers, and metrics with their interval."""
    if isinstance(value, str):
        return re.match(r"-?\d+\.\d{4}\b", value) is not None
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
