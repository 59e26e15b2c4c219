"""The figure of bias and variance: stacked parts, and the risk that was measured on top of them."""

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from interp.figures import PALETTE, STEP_AXIS, grid_log_axis, new_panels
from interp.studies.variance_levers import of_part, places

if TYPE_CHECKING:
    import plotly.graph_objects as go

AREAS = {
    "bias": ("bias²", PALETTE[0]),
    "data": ("variance by the draw of the data", PALETTE[1]),
    "initialization": ("variance by the initial weights", PALETTE[2]),
}


def bias_variance_figure(result: xr.Dataset, title: str, reference: str) -> "go.Figure":
    """Digits at the end against width, and at the peak's width against step; addition against step, of the fewest and
    of the most neurons."""
    peak, neurons = places(result)["peak"], result.neurons.values.tolist()
    noise = f"{100 * float(result.attrs['noise']):g} % wrong labels"
    drawn = {
        f"Digits, {noise}, at the end": (result.digits.isel(step=-1), "width"),
        f"Digits, {peak} hidden neurons": (result.digits.sel(width=peak), "step"),
    } | {
        f"Addition modulo {result.attrs['p']}, {few} neurons": (result.addition.sel(neurons=few), "addition_step")
        for few in dict.fromkeys((neurons[0], neurons[-1]))
    }
    figure = new_panels(title, tuple(drawn), reference=reference, row_height=320, vertical_spacing=0.16)
    for place, (table, along) in enumerate(drawn.values()):
        where: dict[str, Any] = {"row": place // 2 + 1, "col": place % 2 + 1}
        known = table[along].values > 0  # step 0 has no place on a logarithmic axis
        _stack(figure, table.isel({along: known}), along, showlegend=place == 0, **where)
        over_width = along == "width"
        axis = grid_log_axis(table[along].values) if over_width else {"type": "log", "dtick": 1}
        figure.update_xaxes(title_text="hidden neurons" if over_width else STEP_AXIS, **axis, **where)
        figure.update_yaxes(title_text="Brier score", **where)
    return figure


def _stack(figure: "go.Figure", table: xr.DataArray, along: str, **where: Any) -> None:
    """Areas on top of each other, by their values: an estimate below 0 is drawn below what it stands on."""
    x, lower = table[along].values, np.zeros(table.sizes[along])
    for part, (name, color) in AREAS.items():
        upper = lower + of_part(table, part)[:, 0]
        outline = {"x": [*x, *x[::-1]], "y": [*upper, *lower[::-1]], "mode": "lines", "line": {"width": 0}}
        figure.add_scatter(
            **outline, fill="toself", fillcolor=color, opacity=0.55, name=name, legendgroup=part, **where
        )
        lower = upper
    risk = of_part(table, "risk")[:, 0]
    line = {"color": "#222", "width": 2}
    figure.add_scatter(x=x, y=risk, mode="lines+markers", line=line, name="risk", legendgroup="risk", **where)
