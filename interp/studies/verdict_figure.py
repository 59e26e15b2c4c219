"""The figure of the verdicts: what is said of a run, and what happened in it."""

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from interp.figures import NEUTRAL, PALETTE, new_panels
from interp.mathematics.grokking import VERDICTS
from interp.studies.verdict_scores import TRUE, borderline, clear, scores

if TYPE_CHECKING:
    import plotly.graph_objects as go


def verdict_figure(result: xr.Dataset, title: str, reference: str) -> "go.Figure":
    """The confusion matrix of the runs that judge, of those the constants were checked on, and of borderline ones; and
    the shares with their intervals."""
    halves = {"judge": clear(result, judging=True), "checked": clear(result, judging=False)}
    some = (*halves.values(), borderline(result))
    names = ("Networks that judge", "Networks the constants were checked on", "Borderline networks")
    panels = [f"{name}: {one.sizes['run']}" for name, one in zip(names, some, strict=True)]
    figure = new_panels(
        title,
        [*panels, "Shares, with Wilson’s 95 % intervals"],
        reference=reference,
        row_height=380,
        horizontal_spacing=0.19,
        vertical_spacing=0.2,
    )
    for place, one in enumerate(some):
        _draw_matrix(figure, one, row=1 + place // 2, col=1 + place % 2)
    for (half, one), color, shift in zip(halves.items(), (PALETTE[0], NEUTRAL), (-0.12, 0.12), strict=True):
        name = "that judge" if half == "judge" else "the constants were checked on"
        _draw_shares(figure, one, name, color, shift)
    figure.update_layout(
        margin_l=120, legend={"x": 1, "xanchor": "right", "y": -0.1, "yanchor": "top", "orientation": "h"}
    )
    return figure


def _draw_matrix(figure: "go.Figure", some: xr.Dataset, *, row: int, col: int) -> None:
    matrix = scores(some)["confusion_matrix"]
    counts = np.array([list(of_true.values()) for of_true in matrix.values()])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    words = np.where(counts > 0, counts.astype(str), "·")
    figure.add_heatmap(
        z=shares,
        text=words,
        texttemplate="%{text}",
        x=list(VERDICTS),
        y=[f"{name} ({total})" for name, total in zip(TRUE, counts.sum(1), strict=True)],
        zmin=0,
        zmax=1.3,  # so that dark numbers can be read on the darkest color
        colorscale="Blues",
        showscale=False,
        xgap=2,
        ygap=2,
        hovertemplate="true: %{y}<br>said: %{x}<br>%{text} runs, %{z:.0%} of them<extra></extra>",
        row=row,
        col=col,
    )
    figure.update_xaxes(title_text="said", showgrid=False, tickangle=-30, row=row, col=col)
    figure.update_yaxes(title_text="true", showgrid=False, autorange="reversed", row=row, col=col)


def _draw_shares(figure: "go.Figure", some: xr.Dataset, name: str, color: str, shift: float) -> None:
    found = scores(some)
    rows = {"right, of those given": found["right"], "unknown": found["unknown"]}
    rows |= {f"{verdict} told": one for verdict, one in found["recall"].items()}
    share = np.array([one["share"] for one in rows.values()])
    low, high = np.array([one["interval_95"] for one in rows.values()]).T
    figure.add_scatter(
        x=share,
        y=np.arange(len(rows)) + shift,
        mode="markers",
        marker={"color": color, "size": 8},
        error_x={"type": "data", "array": high - share, "arrayminus": share - low, "color": color, "width": 3},
        name=name,
        row=2,
        col=2,
    )
    figure.update_xaxes(range=[-0.03, 1.03], tickformat=".0%", title_text="share of the runs", row=2, col=2)
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=list(rows), autorange="reversed", row=2, col=2)
