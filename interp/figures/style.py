"""One palette and one template for every figure of the project. Importing this loads no plotly; making a figure
does."""

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, SupportsFloat

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

# Okabe & Ito (2008): distinguishable with every common form of color blindness; ordered so that neighbors differ most.
# They mean splits, circuits, tensors …, never frequencies.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#B8A800")
# After Tol (2021, "muted"): what has one of these is a key frequency. They keep apart from each other under every
# common form of color blindness, and from white by a contrast of at least 3.
FREQUENCY_PALETTE = ("#332288", "#999933", "#AA4499", "#117733", "#CC6677", "#2E9C8F", "#882255")
TRAIN, TEST, NEUTRAL = PALETTE[0], PALETTE[1], "#8A8A8A"
SEQUENTIAL = "Viridis"
PHASE_COLORS = {"memorization": PALETTE[1], "circuit formation": PALETTE[5], "cleanup": PALETTE[2], "stable": NEUTRAL}
STEP_AXIS = "step (updates)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

# plotly 7 adds an upload button by default; no figure of ours offers to send anything anywhere.
CONFIG: dict[str, Any] = {"showSendToCloud": False, "plotlyServerURL": "", "displaylogo": False, "responsive": True}


def color_of_frequency(frequency: int, key_frequencies: Sequence[int]) -> str:
    """The color of a frequency wherever it appears: key frequencies have colors of their own in ascending order, others
    are gray."""
    ordered = sorted({int(k) for k in key_frequencies})
    return FREQUENCY_PALETTE[ordered.index(frequency) % len(FREQUENCY_PALETTE)] if frequency in ordered else NEUTRAL


def key_frequencies_of(result: "xr.Dataset", otherwise: Iterable[int]) -> list[int]:
    """The key frequencies of the run that a result is about, by which every figure colors; `otherwise` for a result
    that stands alone."""
    known = result.attrs.get("key_frequencies")
    return json.loads(known) if known is not None else [int(k) for k in otherwise]


def new_figure(title: str, *, x: str, y: str, reference: str = "", height: int = 420) -> "go.Figure":
    """An empty figure in the project's template, with axis titles and the reference below the title.

    >>> figure = new_figure("Norm", x="step (updates)", y="norm")
    >>> figure.layout.xaxis.title.text, len(figure.data)
    ('step (updates)', 0)
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    apply_style(figure, title, reference, height)
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    return figure


def new_panels(
    title: str, panels: Sequence[str], *, columns: int = 2, reference: str = "", row_height: int = 300, **spacing: Any
) -> "go.Figure":
    """A grid of panels in the project's template, filled row by row; `spacing` goes to plotly's make_subplots."""
    from plotly.subplots import make_subplots

    rows = -(-len(panels) // columns)
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=list(panels), **spacing)
    apply_style(figure, title, reference, 130 + rows * row_height)
    figure.update_annotations(font_size=13)
    return figure


def apply_style(figure: "go.Figure", title: str, reference: str, height: int) -> None:
    """Give a figure the project's look."""
    subtitle = f"<br><span style='font-size:12px;color:#6b6b6b'>{reference}</span>" if reference else ""
    figure.update_layout(
        template=_template(),
        title={"text": f"<b>{title}</b>{subtitle}", "x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 17}},
        colorway=list(PALETTE),
        height=height,
        margin={"l": 70, "r": 30, "t": 104 if reference else 86, "b": 60},
    )


@functools.cache
def _template() -> "go.layout.Template":
    """What all figures have in common; plotly takes half as long to take it from here as to set it on every axis of
    every figure."""
    import plotly.graph_objects as go
    from plotly.io import templates

    template: Any = go.layout.Template(templates["plotly_white"])
    axis = {
        "showline": True,
        "linecolor": "#bbb",
        "ticks": "outside",
        "tickcolor": "#bbb",
        "showgrid": True,
        "gridcolor": "#eee",
        "zeroline": False,
        "title_font_size": 13,
    }
    template.layout.update(
        font={"family": FONT, "size": 13, "color": "#222"},
        legend={"title_font_size": 12, "bgcolor": "rgba(255,255,255,0.7)"},
        hoverlabel={"font_family": FONT},
        xaxis=axis,
        yaxis=axis,
    )
    return template


def band(figure: "go.Figure", x: Iterable[Any], limits: Iterable[Iterable[float]], color: str, **where: Any) -> None:
    """A tinted band between two curves (`limits`: the lower, the upper), one for each stretch of known neighbors,
    behind what is drawn later."""
    stretches: list[list[tuple[float, float, float]]] = [[]]
    for point in zip(x, *limits, strict=True):
        if all(map(math.isfinite, point)):
            stretches[-1].append(point)
        elif stretches[-1]:
            stretches.append([])
    for stretch in filter(lambda points: len(points) > 1, stretches):
        there, below, above = zip(*stretch, strict=True)
        outline = {
            "x": [*there, *reversed(there)],
            "y": [*above, *reversed(below)],
            "mode": "lines",
            "line": {"width": 0},
        }
        figure.add_scatter(
            **outline, fill="toself", fillcolor=color, opacity=0.18, hoverinfo="skip", showlegend=False, **where
        )


def threshold_line(figure: "go.Figure", y: float, row: int, column: int, label: str = "") -> None:
    """A dashed horizontal line across one panel, with a few words on it at its right end."""
    panel: dict[str, Any] = {"row": row, "col": column}
    if label:
        panel |= {
            "annotation_text": label,
            "annotation_position": "top right",
            "annotation_font": {"size": 11, "color": NEUTRAL},
        }
    figure.add_hline(y=y, line={"color": NEUTRAL, "width": 1, "dash": "dash"}, **panel)


def vertical_line(figure: "go.Figure", x: float, row: int, column: int, color: str = NEUTRAL) -> None:
    """A dotted vertical line across one panel."""
    panel: dict[str, Any] = {"row": row, "col": column}
    figure.add_vline(x=x, line={"color": color, "width": 1, "dash": "dot"}, **panel)


def across_panels(figure: "go.Figure", lines_and_bands: Iterable[Mapping[str, Any]]) -> None:
    """Lines and bands (plotly shapes with `x0` and `x1`) over the whole height of every panel that has something in
    it."""
    traces: Any = list(figure.select_traces())
    panels = dict.fromkeys((trace.xaxis or "x", trace.yaxis or "y") for trace in traces)
    shapes = [
        {"y0": 0, "y1": 1, "xref": x, "yref": f"{y} domain"} | dict(shape)
        for shape in lines_and_bands
        for x, y in panels
    ]
    figure.layout.shapes = (*figure.layout.shapes, *shapes)  # all at once: add_shape makes every earlier one again


def percent_axis(figure: "go.Figure", **where: Any) -> None:
    """A vertical axis from 0 to 100 %."""
    figure.update_yaxes(range=[-0.02, 1.02], tickformat=".0%", **where)


def power_of_ten_axis(figure: "go.Figure", **where: Any) -> None:
    """A logarithmic vertical axis with powers of ten, at most nine of them for what is drawn by now; `where` goes to
    update_yaxes."""
    # Plotly writes powers a quarter larger.
    figure.update_yaxes(type="log", exponentformat="power", tickfont_size=10.4, **where)
    for axis in figure.select_yaxes(row=where.get("row"), col=where.get("col")):
        own = axis.plotly_name.replace("axis", "")
        traces: Any = list(figure.select_traces())
        drawn = [trace["y"] for trace in traces if (trace["yaxis"] or "y") == own and trace["y"] is not None]
        values = [float(value) for series in drawn for value in series if value is not None]
        values = [value for value in values if 0 < value < math.inf]
        decades = math.log10(max(values) / min(values)) if values else 0
        axis.dtick = max(1, math.ceil(decades / 9))


def plain_log_axis(values: Iterable[SupportsFloat]) -> dict[str, Any]:
    """A logarithmic axis over a few powers of ten, with ticks at 1, 2, 5, 10, 20, … written out; closer where values
    span less."""
    known = [float(value) for value in values if math.isfinite(value) and float(value) > 0] or [1.0]
    digits = (1, 2, 5) if max(known) > 8 * min(known) else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    decades = range(math.floor(math.log10(min(known))), math.floor(math.log10(max(known))) + 1)
    ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits] + [float(f"1e{decades[-1] + 1}")]
    return {"type": "log", "tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:,.15g}" for tick in ticks]}


def grid_log_axis(grid: Iterable[SupportsFloat]) -> dict[str, Any]:
    """A logarithmic axis with the numbers of a small grid as its ticks.

    >>> grid_log_axis([4, 64, 1000])["ticktext"]
    ['4', '64', '1,000']
    """
    ticks = [float(value) for value in grid]
    return {"type": "log", "tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:,.15g}" for tick in ticks]}


def shade_phases(figure: "go.Figure", phases: Sequence[Mapping[str, Any]], *, named: bool = False) -> None:
    """Tint the phases (each with `name`, `start` and `end`, in updates) behind every panel over steps; `named` tells
    beside the title which is which."""
    titles = {axis.plotly_name.replace("axis", ""): axis.title.text for axis in figure.select_xaxes()}
    shared = {axis.plotly_name.replace("axis", ""): (axis.matches or "") for axis in figure.select_xaxes()}
    of_steps = [x for x in titles if titles[x] == STEP_AXIS or titles.get(shared[x]) == STEP_AXIS]
    pairs = {axis.anchor: axis.plotly_name.replace("axis", "") for axis in figure.select_yaxes()}
    look = {"type": "rect", "y0": 0, "y1": 1, "line_width": 0, "layer": "below", "opacity": 0.09}
    tints = [
        look
        | {"xref": x, "yref": f"{pairs.get(x, x.replace('x', 'y'))} domain", "x0": phase["start"], "x1": phase["end"]}
        | {"fillcolor": PHASE_COLORS[phase["name"]]}
        for x in of_steps
        for phase in phases
    ]
    figure.layout.shapes = (*figure.layout.shapes, *tints)  # all at once, as above
    if named and tints:
        names = "  ".join(
            f"<span style='color:{PHASE_COLORS[name]}'>■</span> {name}" for name in (phase["name"] for phase in phases)
        )
        words = f"</b><span style='font-size:12px;color:#6b6b6b'>    tinted: {names}</span>"
        figure.layout.title.text = figure.layout.title.text.replace("</b>", words, 1)
