"""The figure that the page begins with: what grew and what shrank, on one shared step axis, with the phases shaded."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from interp.discovery import find
from interp.figures import PALETTE, STEP_AXIS, TEST, TRAIN, new_panels, percent_axis, power_of_ten_axis, shade_phases

if TYPE_CHECKING:
    import plotly.graph_objects as go

_CURVES = (
    ("loss", "train", "train loss", TRAIN, 1),
    ("loss", "test", "test loss", TEST, 1),
    ("loss", "restricted", "restricted loss (key frequencies alone)", PALETTE[3], 1),
    ("loss", "excluded", "excluded loss (without them, train)", PALETTE[2], 1),
    ("accuracy", "train", "train accuracy", TRAIN, 2),
    ("accuracy", "test", "test accuracy", TEST, 2),
)


def phases(results: Mapping[str, xr.Dataset]) -> list[dict[str, Any]]:
    """`name`, `start` and `end` of every phase whose boundaries are known, and what comes after the last."""
    transitions = results["transitions"]
    known = [phase for phase in find("transitions").module.summary(transitions)["phases"] if phase["end"] is not None]
    known = [{name: phase[name] for name in ("name", "start", "end")} for phase in known if phase["start"] is not None]
    last = int(transitions.step.values[-1])
    complete = len(known) == 3 and known[-1]["end"] < last
    return [*known, {"name": "stable", "start": known[-1]["end"], "end": last}] if complete else known


def headline(results: Mapping[str, xr.Dataset]) -> "go.Figure":
    """Loss, accuracy, weight norm and Gini coefficient over steps; curves that are not known are left out."""
    import plotly.graph_objects as go

    transitions = results["transitions"]
    titles = ("Loss (nats)", "Accuracy", "Weight norm", "Gini coefficient of W_E")
    figure = new_panels(
        "", titles, columns=1, row_height=140, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.4, 0.22, 0.19, 0.19]
    )
    figure.update_layout(title=None, margin={"l": 64, "r": 16, "t": 60, "b": 48}, height=680, hovermode="x unified")
    figure.update_annotations(x=0, xanchor="left", font_size=12)
    curves = [(transitions[name].sel({f"{name}_of": split}).values, label, color, row) for name, split, label, color, row in _CURVES]
    curves.append((np.sqrt(transitions.sum_of_squares.values), "L2 norm of all weights", "#222", 3))
    curves.append((transitions.gini.values, "Gini of W_E", PALETTE[4], 4))
    steps = transitions.step.values
    for values, name, color, row in curves:
        known = np.isfinite(values)
        if known.any():
            line = go.Scatter(x=steps[known], y=values[known], name=name, line={"color": color, "width": 2}, showlegend=row == 1)
            line.update(mode="lines+markers" if known.sum() < 3 else "lines", hovertemplate="%{y:.4g}")
            figure.add_trace(line, row=row, col=1)
    power_of_ten_axis(figure, row=1, col=1)
    percent_axis(figure, row=2, col=1)
    figure.update_yaxes(rangemode="tozero", row=3)
    figure.update_yaxes(range=[0, 1], row=4)
    figure.update_xaxes(range=[int(steps[0]), max(int(steps[-1]), int(steps[0]) + 1)])
    figure.update_xaxes(title_text=STEP_AXIS, row=4)
    figure.update_layout(legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.05, "yanchor": "bottom"})
    shade_phases(figure, phases(results), named_in="y3")
    return figure
