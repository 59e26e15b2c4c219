"""The figure of the critical size: both frontiers, norm at one logit, and D_crit by each way."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np
import xarray as xr
from jaxtyping import Float

from interp.figures import NEUTRAL, PALETTE, SEQUENTIAL, band, new_panels, plain_log_axis, threshold_line
from interp.mathematics.intervals import mean_interval
from interp.studies.efficiency_curves import EfficiencyCurves
from interp.studies.size_crossings import geometric_interval, geometric_mean
from interp.studies.ways_to_critical_size import (
    LEVEL,
    METHODS,
    costs,
    critical_sizes,
    efficiency_curves,
    isolated_curves,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

MEMORY, RULE = PALETTE[0], PALETTE[1]
NAMES = {
    "efficiency": "isolated networks",
    "efficiency_flat": "the same, C_gen flat",
    "isolated": "isolated circuits",
    "isolated_demanded": "the same, as demanded",
    "ungrokking": "ungrokking",
    "growth": "growth ratios",
}
# Of growth ratios; what lies below is of strengths hardly clear of nothing, and drawn at the edge.
LOWEST_DIFFERENCE = -0.1
SIZE_DIGITS = (1, 1.5, 2, 3, 5, 7)


def critical_size_figure(result: xr.Dataset, title: str, reference: str) -> "go.Figure":
    """Norm against strength of both isolated circuits; norm at one logit against D; accuracy after ungrokking; the
    difference of the growth ratios; and D_crit by each way. Dots are seeds, bands 95 % intervals over them."""
    logit = math.exp(efficiency_curves(result).at)
    panels = (
        "Isolated: least norm for a logit, of memory by D",
        f"Norm at a logit of {logit:.0f}" if math.isfinite(logit) else "Norm at one logit",
        "Ungrokking: held-out accuracy",
        "Growth ratios: rule less memory (▾ lies below)",
        "D_crit by each way (geometric mean, 95 % interval over seeds)",
    )
    figure = new_panels(
        title,
        panels,
        reference=reference,
        row_height=320,
        specs=[[{}, {}], [{}, {}], [{"colspan": 2}, None]],
        horizontal_spacing=0.14,
        vertical_spacing=0.12,
    )
    _draw_frontiers(figure, result)
    _draw_costs(figure, result)
    _draw_readings(figure, result)
    _draw_critical_sizes(figure, result)
    corner = {"x": figure.layout.xaxis2.domain[0] + 0.01, "y": figure.layout.yaxis2.domain[1]}
    figure.update_layout(
        margin_r=40,
        legend2=corner
        | {"xanchor": "left", "yanchor": "top", "font": {"size": 11}, "bgcolor": "rgba(255,255,255,0.8)"},
    )
    return figure


def _size_axis(sizes: Iterable[SupportsFloat]) -> dict[str, Any]:
    """A logarithmic axis of D whose ticks stand level and apart."""
    known = [size for size in map(float, sizes) if math.isfinite(size)]
    decades = range(math.floor(math.log10(min(known))), math.floor(math.log10(max(known))) + 1)
    ticks = [digit * 10**decade for decade in decades for digit in SIZE_DIGITS]
    return {"type": "log", "tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:,g}" for tick in ticks]} | {
        "tickangle": 0
    }


def _norm_axis(norms: Iterable[SupportsFloat], *, room: float = 1.0) -> dict[str, Any]:
    """A logarithmic axis of norms, which differ by less than a power of ten, with even ticks and `room` above."""
    known = [norm for norm in map(float, norms) if math.isfinite(norm)] or [1.0]
    low, high = 0.97 * min(known), 1.03 * max(known)
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, math.inf) if (high - low) / step <= 7)
    ticks = [step * place for place in range(math.ceil(low / step), math.floor(high / step) + 1)] if step < high else []
    span = {"range": [math.log10(low), math.log10(high * room)]}
    return {"type": "log", "tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:,g}" for tick in ticks]} | span


def _draw_frontiers(figure: "go.Figure", result: xr.Dataset) -> None:
    from plotly.colors import sample_colorscale

    sizes, kept = result.isolated_size.values, result.isolated_kept.values
    shades = sample_colorscale(SEQUENTIAL, np.linspace(0.0, 0.85, max(2, len(sizes) - 1)).tolist())
    logits, norms = (
        np.where(kept, result[f"isolated_{name}"].values, np.nan) for name in ("correct_logit", "weight_norm")
    )
    for row, column in [(0, column) for column in range(len(sizes) - 1)] + [(1, len(sizes) - 1)]:
        color = shades[column] if row == 0 else RULE
        name = f"memory, D = {sizes[column]:,}" if row == 0 else f"circuit, all {sizes[column]:,} pairs"
        short = f"{sizes[column]:,}" if row == 0 else "circuit"
        f, w = logits[row, column], norms[row, column]
        there = np.isfinite(f).any(1)
        means = [np.exp(np.nanmean(np.log(of[there]), axis=1)) for of in (f, w)]
        figure.add_scatter(
            x=means[0],
            y=means[1],
            mode="lines+markers+text",
            line={"color": color, "width": 2 if row == 0 else 4},
            text=[""] * (there.sum() - 1) + [short],
            textposition="top center" if row == 0 else "bottom right",
            textfont={"color": color, "size": 11},
            name=name,
            showlegend=False,
            row=1,
            col=1,
        )
        dots = {"color": color, "size": 4, "opacity": 0.5}
        figure.add_scatter(
            x=f[np.isfinite(f)], y=w[np.isfinite(f)], mode="markers", marker=dots, showlegend=False, row=1, col=1
        )
    figure.update_xaxes(title_text="centred logit of the label", **plain_log_axis(logits.reshape(-1)), row=1, col=1)
    figure.update_yaxes(title_text="L2 norm of all weights", **_norm_axis(norms.reshape(-1), room=1.03), row=1, col=1)


def _draw_costs(figure: "go.Figure", result: xr.Dataset) -> None:
    n, drawn = result.sizes["seed"], [np.empty(0)]

    def add(sizes: np.ndarray, tables: Float[np.ndarray, "seed size"], color: str, dash: str, name: str) -> None:
        known = np.isfinite(tables).all(0)
        if not known.any():
            return
        x, logs = sizes[known], tables[:, known]
        drawn.append(np.exp(logs.reshape(-1)))
        band(figure, x, np.exp(mean_interval(logs.T)), color, row=1, col=2)
        line = {"color": color, "width": 2, "dash": dash}
        mode = "lines+markers" if dash != "dot" else "lines"
        figure.add_scatter(x=x, y=np.exp(logs.mean(0)), mode=mode, line=line, name=name, legend="legend2", row=1, col=2)

    def of_all(curves: EfficiencyCurves) -> list:
        return [costs(curves, seed) for seed in range(n)]

    alone, isolated = of_all(efficiency_curves(result)), of_all(isolated_curves(result))
    sizes = alone[0].sizes
    add(sizes, np.array([one.memory for one in alone]), MEMORY, "solid", "C_mem, random labels")
    add(sizes, np.array([one.circuit for one in alone]), RULE, "solid", "C_gen, where it holds")
    add(sizes, np.array([one.line for one in alone]), RULE, "dot", "C_gen, its own slope")
    held = isolated[0].sizes[:-1]
    memory, circuit = (np.array([getattr(one, name) for one in isolated]) for name in ("memory", "circuit"))
    add(held, memory[:, :-1], MEMORY, "dash", "memory, isolated")
    add(held, np.repeat(circuit[:, -1:], len(held), 1), RULE, "dash", "circuit, isolated")
    figure.update_xaxes(title_text="training pairs D", **_size_axis(sizes), row=1, col=2)
    figure.update_yaxes(
        title_text="L2 norm of all weights", **_norm_axis(np.concatenate(drawn), room=1.25), row=1, col=2
    )


def _draw_readings(figure: "go.Figure", result: xr.Dataset) -> None:
    sizes = result["size"].values
    rule, memory = (result.growth_ratio.sel(circuit=circuit).values for circuit in ("circuit", "memorizing"))
    for column, values, level in ((1, result.held_out_accuracy.values, LEVEL), (2, rule - memory, 0.0)):
        color = PALETTE[2]
        known = np.isfinite(values).all(1)
        limits = np.where(known, mean_interval(values), np.nan)
        band(figure, sizes, limits, color, row=2, col=column)
        means = values[known].mean(1)
        line = {"color": color, "width": 2}
        figure.add_scatter(x=sizes[known], y=means, mode="lines", line=line, showlegend=False, row=2, col=column)
        dots = {"color": color, "size": 5, "opacity": 0.6}
        x, y = np.repeat(sizes, values.shape[1]), values.reshape(-1)
        there = np.isfinite(y)
        if column == 2:  # accuracy has no end to be cut off
            below = np.maximum(y, LOWEST_DIFFERENCE) != y
            mark = dots | {"symbol": "triangle-down", "size": 8}
            edge, there = np.full(int((there & below).sum()), LOWEST_DIFFERENCE), there & ~below
            cut = x[np.isfinite(y) & below]
            figure.add_scatter(x=cut, y=edge, mode="markers", marker=mark, showlegend=False, row=2, col=2)
        figure.add_scatter(x=x[there], y=y[there], mode="markers", marker=dots, showlegend=False, row=2, col=column)
        threshold_line(figure, level, row=2, column=column)
        figure.update_xaxes(title_text="training pairs D", **_size_axis(sizes), row=2, col=column)
    figure.update_yaxes(title_text="accuracy", range=[-0.02, 1.02], tickformat=".0%", row=2, col=1)
    known = (rule - memory)[np.isfinite(rule - memory)]
    highest = float(known.max(initial=0.1))
    lowest = max(LOWEST_DIFFERENCE, float(known.min(initial=-0.05)))
    margin = 0.05 * (highest - lowest)
    figure.update_yaxes(title_text="r_C − r_M", range=[lowest - margin, highest + margin], row=2, col=2)


def _draw_critical_sizes(figure: "go.Figure", result: xr.Dataset) -> None:
    found = critical_sizes(result)
    every = np.concatenate([*found.values(), result["size"].values])
    for way, name in NAMES.items():
        values = found[way]
        known = np.isfinite(values)
        dots = {"color": NEUTRAL, "size": 6, "opacity": 0.6}
        label = f"{name}<br>{known.sum()} of {len(values)} seeds"
        figure.add_scatter(
            x=values[known], y=[label] * int(known.sum()), mode="markers", marker=dots, showlegend=False, row=3, col=1
        )
        middle, (low, high) = geometric_mean(values), geometric_interval(values)
        there = math.isfinite(low)
        error = {"type": "data", "symmetric": False, "array": [high - middle], "arrayminus": [middle - low]}
        figure.add_scatter(
            x=[middle] if there else [None],
            y=[label],
            mode="markers",
            marker={"color": PALETTE[3], "size": 10, "symbol": "diamond" if way in METHODS else "diamond-open"},
            error_x=error if there else None,
            showlegend=False,
            row=3,
            col=1,
        )
    figure.update_xaxes(title_text="training pairs D", **plain_log_axis(every), tickangle=0, row=3, col=1)
    figure.update_yaxes(autorange="reversed", automargin=True, row=3, col=1)
