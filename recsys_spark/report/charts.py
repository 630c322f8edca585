"""Charts of a report as inline SVG in the colours of the page, so that they follow its light and dark themes."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from recsys_spark.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK = "#010203"  # a colour that nothing else uses; replaced by the text colour of the page

_SERIES = ("#010204", "#010205", "#010206", "#010207")

_COLOURS = {_INK: "currentColor"} | {colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, 1)}

_SIZE = (5.2, 2.7)  # inches; letters stay legible on a phone, 390 px wide


def check_installed() -> None:
    """Check for the extra ``report`` before any work is done.

    Raises:
        UsageError: matplotlib or jinja2 is missing.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"a report needs {error.name}: install the extra 'report' of setup.py (jinja2, matplotlib)"
        ) from error


def line_chart(
    x: Sequence[Any], lines: Mapping[str, Sequence[float]], *, xlabel: str, ylabel: str, log: bool = False
) -> str:
    """One line per name; lines of less than 12 points are marked with dots."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    def draw(axes: "Axes") -> None:
        for (name, values), colour in zip(lines.items(), _SERIES, strict=False):
            axes.plot(x, values, color=colour, label=name, linewidth=1.4, marker="o" if len(values) < 12 else "")
        if log:
            axes.set_xscale("log")
            axes.set_yscale("log")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
                axis.set_minor_formatter(NullFormatter())
        elif len(x) and isinstance(x[0], date):
            days = AutoDateLocator(minticks=2, maxticks=6)
            axes.xaxis.set_major_locator(days)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(days))
        if len(lines) > 1:
            axes.legend(frameon=False, labelcolor=_INK, fontsize=9)

    return _svg(draw, xlabel, ylabel)


def bar_chart(labels: Sequence[str], values: Sequence[float], *, xlabel: str, ylabel: str) -> str:
    """One bar per label."""

    def draw(axes: "Axes") -> None:
        axes.bar(range(len(values)), values, color=_SERIES[0])
        turned = len(labels) > 8
        axes.set_xticks(range(len(values)), labels, rotation=35 * turned, ha="right" if turned else "center")

    return _svg(draw, xlabel, ylabel)


def _svg(draw: Callable[["Axes"], None], xlabel: str, ylabel: str) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # Text stays text, in the font of the page. A fixed salt makes the file a function of the numbers.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "recsys", "axes.unicode_minus": False}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.set_xlabel(xlabel, color=_INK)
        axes.set_ylabel(ylabel, color=_INK)
        draw(axes)
        axes.tick_params(colors=_INK, which="both")
        for name, spine in axes.spines.items():
            spine.set_color(_INK)
            spine.set_visible(name in ("left", "bottom"))
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue())


def _inline(document: str) -> str:
    """Only the ``svg`` element, without a fixed size, in the colours of the page."""
    text = document[document.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg [^>]*?)width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)height="[^"]*"', r'\1aria-hidden="true"', text, count=1)
    for colour, name in _COLOURS.items():
        text = text.replace(colour, name)
    return text
