"""The figure of the growth ratios: who generalizes, and when."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from interp.figures import NEUTRAL, PALETTE, band, new_panels, plain_log_axis, threshold_line
from interp.mathematics.intervals import mean_interval
from interp.studies import growth_forecasts as forecasts
from interp.studies.growth_at_a_moment import (
    OUTCOMES,
    by_size,
    mean_of_known,
    of_grid,
    outcome,
    still_to_come,
    told_by_size,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

# What lies beyond is drawn at the border, as a triangle.
LOWEST_RATIO, HIGHEST_RATIO = 0.9, 1.15
LOWEST_DIFFERENCE, HIGHEST_DIFFERENCE = -0.06, 0.17
LATEST = 100_000  # forecast steps


def growth_figure(result: xr.Dataset, title: str, reference: str) -> "go.Figure":
    """Growth ratios against D; what became of whom; forecasts against what came; and errors, beside the baselines'."""
    panels = (
        "Growth ratios early on the plateau",
        "What became of each network",
        "Rule over memory: forecast, and what came",
        "Networks forecast within a factor of …",
    )
    figure = new_panels(
        title, panels, reference=reference, row_height=370, horizontal_spacing=0.11, vertical_spacing=0.15
    )
    _draw_ratios(figure, of_grid(result, int(result.attrs["p"]), decay=float(result.attrs["middle_weight_decay"])))
    _draw_outcomes(figure, of_grid(result))
    _draw_forecasts(figure, result)
    _draw_errors(figure, of_grid(result, int(result.attrs["p"])))
    corners = {"legend": (0.0, 1.0), "legend2": (0.555, 1.0), "legend3": (0.445, 0.0), "legend4": (1.0, 0.0)}
    for legend, (x, y) in corners.items():  # of their panels
        anchors = {"xanchor": "left" if legend in ("legend", "legend2") else "right"}
        anchors["yanchor"] = "top" if y else "bottom"
        figure.update_layout({legend: {"x": x, "y": y, **anchors, "font": {"size": 11}}})
    return figure


def _markers(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], low: float, high: float, look: dict[str, Any], **trace: Any
) -> "go.Scatter":
    """Points, those above or below at the border."""
    import plotly.graph_objects as go

    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    symbol = look.get("symbol", "circle")
    symbols = np.where(y > high, "triangle-up", np.where(y < low, "triangle-down", symbol)).tolist()
    return go.Scatter(x=x, y=np.clip(y, low, high), mode="markers", marker=look | {"symbol": symbols}, **trace)


def _draw_ratios(figure: "go.Figure", some: xr.Dataset) -> None:
    sizes = np.unique(some["size"].values)
    for key, label, color in (("r_C", "r of the rule", PALETTE[2]), ("r_M", "r of memory", PALETTE[1])):
        table = by_size(some, told_by_size(some)[key])
        band(figure, sizes, np.clip(mean_interval(table), LOWEST_RATIO, HIGHEST_RATIO), color, row=1, col=1)
        figure.add_scatter(
            x=sizes,
            y=mean_of_known(table),
            mode="lines",
            name=label,
            legend="legend",
            line={"color": color, "width": 2},
            row=1,
            col=1,
        )
        look = {"color": color, "size": 6, "opacity": 0.7}
        x = np.repeat(sizes, table.shape[1]).astype(float)
        points = _markers(x, table.reshape(-1), LOWEST_RATIO, HIGHEST_RATIO, look, showlegend=False)
        figure.add_trace(points, row=1, col=1)
    threshold_line(figure, 1, row=1, column=1)
    figure.update_xaxes(
        title_text=f"training pairs D of {some.attrs['p']}², weight decay {some.attrs['middle_weight_decay']:g}",
        row=1,
        col=1,
    )
    figure.update_yaxes(
        title_text="r = loss / |decay|", range=[LOWEST_RATIO - 0.01, HIGHEST_RATIO + 0.01], row=1, col=1
    )


def _draw_outcomes(figure: "go.Figure", some: xr.Dataset) -> None:
    difference, share = told_by_size(some)["r_C_minus_r_M"], 2 ** told_by_size(some)["log2_C_over_M"]
    became = outcome(some)
    looks = ((PALETTE[2], "circle"), (PALETTE[4], "diamond"), (NEUTRAL, "circle-open"))
    for index, (color, symbol) in reversed([*enumerate(looks)]):
        look, of = {"color": color, "symbol": symbol, "size": 7}, became == index
        points = _markers(
            share[of],
            difference[of],
            LOWEST_DIFFERENCE,
            HIGHEST_DIFFERENCE,
            look,
            name=OUTCOMES[index],
            legend="legend2",
        )
        figure.add_trace(points, row=1, col=2)
    threshold_line(figure, 0, row=1, column=2)
    figure.update_xaxes(title_text="C / M at the moment", **_powers(share), row=1, col=2)
    border = [LOWEST_DIFFERENCE - 0.01, HIGHEST_DIFFERENCE + 0.01]
    figure.update_yaxes(title_text="r_C − r_M", range=border, row=1, col=2)


def _powers(values: Float[np.ndarray, " n"]) -> dict[str, Any]:
    """A logarithmic axis with a tick for every power of ten."""
    known = [float(value) for value in values if np.isfinite(value) and value > 0] or [1.0]
    ticks = [10.0**n for n in range(math.floor(math.log10(min(known))), math.ceil(math.log10(max(known))) + 1)]
    return {"type": "log", "tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:,.15g}" for tick in ticks]}


def _draw_forecasts(figure: "go.Figure", result: xr.Dataset) -> None:
    """What did not generalize by its end stands there, open: it comes later, or never."""
    ours, true, asked = still_to_come(of_grid(result, int(result.attrs["p"])))
    other, steps, _ = still_to_come(of_grid(result.isel(run=np.flatnonzero(result.modulus != int(result.attrs["p"])))))
    method = forecasts.FORECASTS[1]
    within = forecasts.without_own_seed(ours, method, true, asked)
    across = forecasts.forecast(other, method, forecasts.fit(ours, method, true, asked))
    p, p_other = int(result.attrs["p"]), [*np.unique(other.modulus).tolist(), "?"][0]
    drawn = [1000.0]
    for told, came, last, label, color in (
        (within, true, ours.last_step.values, f"p = {p}, by the other seeds", PALETTE[0]),
        (across, steps, other.last_step.values, f"p = {p_other}, by p = {p}", PALETTE[3]),
    ):
        did = np.isfinite(came)
        at = np.where(np.isnan(told), np.nan, np.minimum(told, LATEST))
        y = np.where(did, came, last)
        for of, symbol, name in ((~did, "triangle-up-open", "not by its end"), (did, "circle", label)):
            look = {"color": color, "symbol": symbol, "size": 7, "opacity": 0.8}
            group = {"name": label, "legend": "legend3", "showlegend": name == label}
            figure.add_trace(_markers(at[of], y[of], 0, np.inf, look, **group), row=2, col=1)
        drawn += [*at[np.isfinite(at)], *y]
    ends = [min(drawn), max(drawn)]
    line = {"color": NEUTRAL, "dash": "dash", "width": 1}
    figure.add_scatter(x=ends, y=ends, mode="lines", line=line, showlegend=False, row=2, col=1)
    axis = _powers(np.array(drawn))
    latest = math.log10(max(drawn)) + 0.1
    figure.update_xaxes(
        title_text=f"forecast step (border: from {LATEST:,} on, or never)",
        range=[math.log10(min(drawn)) - 0.1, latest],
        **axis,
        row=2,
        col=1,
    )
    came_by = np.concatenate([true, steps, ours.last_step.values, other.last_step.values, [1000.0]])
    ticks = plain_log_axis(came_by)
    top = math.log10(np.nanmax(came_by))
    figure.update_yaxes(
        title_text="step of 99 % (open: not by its last step)",
        range=[math.log10(np.nanmin(came_by)) - 0.1, top + 0.1],
        **ticks,
        row=2,
        col=1,
    )


def _draw_errors(figure: "go.Figure", some: xr.Dataset) -> None:
    ours, true, asked = still_to_come(some)
    colors = (PALETTE[4], PALETTE[0], NEUTRAL, "#444444")
    for one, color in zip(forecasts.METHODS, colors, strict=True):
        errors = forecasts.log_error(forecasts.without_own_seed(ours, one, true, asked), true)[asked]
        factors = 10 ** np.sort(errors[np.isfinite(errors)])
        share = np.arange(1, len(factors) + 1) / max(1, len(errors))
        figure.add_scatter(
            x=[1, *factors, 10],
            y=[0, *share, share[-1] if len(share) else 0],
            mode="lines",
            name=one,
            legend="legend4",
            line={"color": color, "shape": "hv", "dash": "solid" if one in forecasts.FORECASTS else "dot"},
            row=2,
            col=2,
        )
    figure.update_xaxes(title_text="factor", range=[0, 1], **plain_log_axis([1, 10]), row=2, col=2)
    figure.update_yaxes(title_text="share", tickformat=".0%", range=[0, 1.02], row=2, col=2)
