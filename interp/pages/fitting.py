"""Figures made to stand alone, fitted into a page: their titles go to its headings, and panels without a number say
so."""

import math
import re
from collections.abc import Iterator
from html import unescape
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.figures import NEUTRAL

if TYPE_CHECKING:
    import plotly.graph_objects as go


def without_title(figure: "go.Figure") -> str:
    """Take the title off a figure, whose place on the page has one, and the room for it; what it said, without the
    reference. A figure that was not made with `interp.figures.style` keeps its own."""
    found = re.match(r"<b>(.*?)</b>", figure.layout.title.text or "")
    if not found:
        return ""
    legends = [figure.layout[name] for name in figure.layout if name.startswith("legend")]
    room = 72 if any((legend.y or 0) > 1 for legend in legends) else 40  # for the titles of the panels
    figure.update_layout(
        title_text="", margin_t=room, height=int(figure.layout.height or 450) - (figure.layout.margin.t or room) + room
    )
    return unescape(found[1])


def say_what_is_unknown(figure: "go.Figure") -> None:
    """Write "not known" into every panel that shows no number, as where a split would have to be known; and draw its
    axes all the same."""
    known = {(trace.xaxis or "x", trace.yaxis or "y") for trace in _traces(figure) if _shows_a_number(trace)}
    panels = [(axis.anchor or "x", axis.plotly_name.replace("axis", "")) for axis in figure.select_yaxes()]
    titled = {panel for panel in panels if _has_title(figure, *panel)}
    for x, y in panels:
        # Where every panel has a title of its own, one without is a corner of the grid that is left over.
        if (x, y) in known or (known <= titled and (x, y) not in titled):
            continue
        figure.add_scatter(x=[None], y=[None], xaxis=x, yaxis=y, showlegend=False, hoverinfo="skip")
        words: dict[str, Any] = {"text": "not known", "showarrow": False, "font": {"color": NEUTRAL, "size": 13}}
        figure.add_annotation(**words, x=0.5, y=0.5, xref=f"{x} domain", yref=f"{y} domain")


def _has_title(figure: "go.Figure", x: str, y: str) -> bool:
    """Whether words stand above the middle of a panel, as `plotly.subplots` puts titles."""
    layout: Any = figure.layout
    across, up = layout[x.replace("x", "xaxis")].domain, layout[y.replace("y", "yaxis")].domain
    if across is None or up is None:
        return False
    place = sum(across) / 2, up[1]
    words = [one for one in layout.annotations if one.text and (one.xref, one.yref) == ("paper", "paper")]
    return any(math.dist((one.x, one.y), place) < 0.03 for one in words)


def _traces(figure: "go.Figure") -> Iterator[Any]:
    yield from figure.select_traces()


def _shows_a_number(trace: Any) -> bool:
    if not hasattr(trace, "yaxis"):
        return True  # a pie, say, which has no axes
    drawn = trace.z if trace.type == "heatmap" else trace.x if getattr(trace, "orientation", None) == "h" else trace.y
    values = np.asarray(drawn if drawn is not None else [], dtype=object).ravel()
    # What stands at a name, as in a row of marks, is shown as well.
    return any(
        isinstance(value, str) or (isinstance(value, int | float | np.number) and math.isfinite(value))
        for value in values
    )
