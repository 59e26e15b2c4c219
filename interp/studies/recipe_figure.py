"""The figure of the recipes: a dot plot of when each run generalized."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from interp.figures import NEUTRAL, PALETTE, new_panels, plain_log_axis
from interp.mathematics.intervals import seed_interval
from interp.studies.generalization_times import mean_log_time
from interp.studies.recipe_methods import BASES, NOTHING

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from interp.studies.recipe_effects import Effect

ROW = 24  # pixels
BEYOND = 1.12  # where dots of runs that never came stand, beyond the last step


def recipe_figure(result: xr.Dataset, effects: Sequence["Effect"], title: str, reference: str) -> "go.Figure":
    """A panel for each base, and in it a row for each method, the soonest on top; open dots at the right edge are runs
    that had not come when they ended."""
    reporters = result.isel(seed=slice(result.sizes["reporter"]))
    calls = {effect.setting: effect.call for effect in effects}
    names = result.setting.values.tolist()
    chosen = [names[row] for row in np.flatnonzero(result.chosen.values)]
    means = dict(zip(names, np.exp(mean_log_time(reporters, "generalized")).tolist(), strict=True))
    low, high = np.exp(
        seed_interval(reporters.sizes["seed"], lambda seeds: mean_log_time(reporters, "generalized", seeds))
    )
    of_base = {base: _sorted([name for name in chosen if name.startswith(f"{base}: ")], reporters) for base in BASES}
    panels = {"no decay": "AdamW without weight decay", "decay 1": "AdamW with weight decay 1"}
    figure = new_panels(
        title,
        [panels[base] for base in BASES],
        reference=reference,
        row_height=140 + ROW * max(map(len, of_base.values())),
        horizontal_spacing=0.24,
    )
    last = float(result.censored_at.max())
    for column, (base, rows) in enumerate(of_base.items(), start=1):
        for name in rows:
            color = {"sooner": PALETTE[2], "later": PALETTE[3]}.get(calls.get(name, ""), NEUTRAL)
            label = name.removeprefix(f"{base}: ")
            label = f"<b>{label}</b>" if label == NOTHING else label
            _draw_row(figure, reporters.sel(setting=name), label, color, column)
            mean, place = means[name], names.index(name)
            if math.isfinite(mean):
                error = {"array": [high[place] - mean], "arrayminus": [mean - low[place]], "color": color}
                figure.add_scatter(
                    x=[mean],
                    y=[label],
                    mode="markers",
                    marker={"color": color, "size": 14, "symbol": "line-ns-open"},
                    error_x={"type": "data", "symmetric": False, "thickness": 1.5} | error,
                    hoverinfo="skip",
                    showlegend=False,
                    row=1,
                    col=column,
                )
        figure.update_yaxes(categoryorder="array", categoryarray=_labels(rows, base), autorange="reversed", col=column)
    known = result.time.sel(event="generalized").values
    values = np.r_[known[np.isfinite(known)], last]
    span = [math.log10(values.min() / 1.2), math.log10(last * BEYOND * 1.06)]
    figure.update_xaxes(title_text="steps (updates)", **plain_log_axis(values), range=span)
    figure.add_vline(last, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    return figure


def _labels(rows: Sequence[str], base: str) -> list[str]:
    labels = [name.removeprefix(f"{base}: ") for name in rows]
    return [f"<b>{label}</b>" if label == NOTHING else label for label in labels]


def _sorted(names: Sequence[str], reporters: xr.Dataset) -> list[str]:
    """By the mean log time of runs, those that had not come counted at the last step."""

    def key(name: str) -> float:
        one = reporters.sel(setting=name)
        steps = np.fmin(np.nan_to_num(one.time.sel(event="generalized").values, nan=np.inf), one.censored_at.values)
        return float(np.log(np.maximum(steps, 1)).mean())

    return sorted(names, key=key)


def _draw_row(figure: "go.Figure", one: xr.Dataset, label: str, color: str, column: int) -> None:
    steps, last = one.time.sel(event="generalized").values, float(one.censored_at.max())
    came = np.isfinite(steps)
    words = [
        f"step {step:,.0f}" if there else f"not by step {last:,.0f}" for step, there in zip(steps, came, strict=True)
    ]
    figure.add_scatter(
        x=np.where(came, steps, last * BEYOND),
        y=[label] * len(steps),
        mode="markers",
        marker={"color": color, "size": 8, "symbol": ["circle" if there else "circle-open" for there in came]},
        text=words,
        hovertemplate="%{y}<br>%{text}<extra></extra>",
        showlegend=False,
        row=1,
        col=column,
    )
    never = int((~came).sum())
    if never > 1:  # they stand on one another
        figure.add_scatter(
            x=[last * BEYOND],
            y=[label],
            mode="text",
            text=f"&nbsp;&nbsp;{never}",
            textposition="middle right",
            textfont={"color": color, "size": 10},
            cliponaxis=False,
            hoverinfo="skip",
            showlegend=False,
            row=1,
            col=column,
        )
