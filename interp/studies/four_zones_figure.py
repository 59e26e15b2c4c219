"""The figure of the four zones: what runs are called, D_mem and D_crit over the size of the network; and the norm."""

import math
import warnings
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from interp.figures import NEUTRAL, PALETTE, new_panels, plain_log_axis
from interp.studies.phase_diagram import COLORS
from interp.studies.zone_borders import border

if TYPE_CHECKING:
    import plotly.graph_objects as go

ZONE_COLORS = COLORS | {"progression": PALETTE[0], "semi-grokking": PALETTE[4]}


def four_zones_figure(result: xr.Dataset, title: str, reference: str) -> "go.Figure":
    """What most runs are called, at every width and number of facts, with D_mem and D_crit; and the
    change of the norm."""
    panels = ("What runs are called, and the two curves", "ln of the norm, since half was known")
    figure = new_panels(title, panels, reference=reference, row_height=420, horizontal_spacing=0.14)
    widths, sizes, facts = result.width.values, result["size"].values, result.facts.values.mean(1)
    cells = [
        (i, j, Counter(result.label.values[i, j].tolist()).most_common(1)[0])
        for i, j in np.ndindex(len(widths), len(sizes))
    ]
    n = result.sizes["seed"]
    for label in dict.fromkeys(most for *_, (most, _) in cells):
        of = [(i, j, count) for i, j, (most, count) in cells if most == label]
        marker = {"symbol": "square", "size": 22, "color": ZONE_COLORS.get(label, "#D0D0D0")}
        marker["opacity"] = [count / n for *_, count in of]
        figure.add_scatter(
            x=widths[[i for i, *_ in of]],
            y=facts[[j for _, j, _ in of]],
            mode="markers+text",
            text=[f"{count}/{n}" for *_, count in of],
            textfont={"size": 9},
            marker=marker,
            name=label,
            row=1,
            col=1,
        )
    critical = [border(sizes, of).critical for of in result.held_out_accuracy.values]
    curves = {
        "D_mem": (result.memory.values.mean(1), NEUTRAL, "solid"),
        "D_crit": (
            np.array([np.interp(at, sizes, facts) if 0 < at < math.inf else math.nan for at in critical]),
            NEUTRAL,
            "dash",
        ),
    }
    for key, (values, color, dash) in curves.items():
        line = {"color": color, "dash": dash, "width": 2}
        figure.add_scatter(
            x=widths, y=values, mode="lines+markers", line=line, marker={"size": 4}, name=key, row=1, col=1
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a cell in which no run learned half of its pairs
        change = np.nanmean(result.norm_change.values, axis=2)
    largest = float(np.nanmax(np.abs(change))) if np.isfinite(change).any() else 1.0
    figure.add_heatmap(
        x=[str(width) for width in widths],
        y=[f"{value:.0f}" for value in facts],
        z=change.T,
        zmin=-largest,
        zmax=largest,
        colorscale="RdBu_r",
        colorbar={"thickness": 12},
        texttemplate="%{z:+.2f}",
        row=1,
        col=2,
    )
    figure.update_xaxes(title_text="width", **plain_log_axis(widths), row=1, col=1)
    figure.update_yaxes(
        title_text="facts trained on", **plain_log_axis(np.append(facts, curves["D_mem"][0])), row=1, col=1
    )
    figure.update_xaxes(title_text="width", type="category", row=1, col=2)
    figure.update_yaxes(title_text="facts trained on", type="category", row=1, col=2)
    figure.update_xaxes(tickvals=widths, ticktext=[str(width) for width in widths], row=1, col=1)
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": -0.2})
    return figure
