"""Phase diagrams: the outcome of every run of a grid, over two of the values that were set."""

import math
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from interp.figures import PALETTE, SEQUENTIAL, new_panels
from interp.mathematics import grokking
from interp.studies.outcomes import KEPT, KEPT_IN_PART, RunOutcome

if TYPE_CHECKING:
    import plotly.graph_objects as go

FIRST_AXES = ("task.train-pairs", "training.weight-decay")
SECOND_AXES = ("training.weight-decay", "training.eps", "task.seed")
AXIS_NAMES = {
    "task.train-pairs": "training pairs",
    "training.weight-decay": "weight decay",
    "training.eps": "AdamW’s ε",
    "task.seed": "seed",
}
COLORS = dict(
    zip(grokking.VERDICTS, (PALETTE[2], PALETTE[5], PALETTE[1], PALETTE[6], PALETTE[3], "#D0D0D0"), strict=True)
) | {KEPT: PALETTE[2], KEPT_IN_PART: PALETTE[4]}
TIE, TIE_COLOR = "as many of each", "#8C8C8C"


def phase_diagram(found: Sequence[RunOutcome]) -> "go.Figure | None":
    """What happened, and the final test accuracy, over the two axes of the grid: the verdict that most seeds have and
    how many have it (where several have as many, all of these, in gray: none is what happened there), and the mean over
    seeds. None where fewer than two axes vary."""
    import plotly.graph_objects as go

    found = [run for run in found if not run.is_start]
    if found and {"task.operation", "model.family"} & set(found[0].fields):
        return None  # different networks have no cell in common
    varying = {axis for axis in (*FIRST_AXES, *SECOND_AXES) if len({str(run.fields.get(axis)) for run in found}) > 1}
    across = next((axis for axis in FIRST_AXES if axis in varying), None)
    up = next((axis for axis in SECOND_AXES if axis in varying and axis != across), None)
    if across is None or up is None:
        return None
    columns, rows = (sorted({float(run.fields[axis]) for run in found}) for axis in (across, up))
    cells = {(i, j): [] for i in range(len(rows)) for j in range(len(columns))}
    for run in found:
        cells[rows.index(float(run.fields[up])), columns.index(float(run.fields[across]))].append(run)
    shape = (len(rows), len(columns))
    kinds, accuracy = np.full(shape, np.nan), np.full(shape, np.nan)
    words, names = np.full(shape, "", dtype=object), np.full(shape, "", dtype=object)
    colors = COLORS | {TIE: TIE_COLOR}
    for place, runs in cells.items():
        if runs:
            counts = Counter(run.verdict for run in runs)
            count = max(counts.values())
            most = [kind for kind in colors if counts[kind] == count]
            kinds[place] = list(colors).index(most[0] if len(most) == 1 else TIE)
            of_all = f"{count}/{len(runs)}" if len(runs) > 1 else ""
            words[place] = of_all if len(most) == 1 else "<br>".join(f"{kind} {of_all}" for kind in most)
            names[place] = most[0] if len(most) == 1 else TIE
            known = [run.test_accuracy for run in runs if math.isfinite(run.test_accuracy)]
            accuracy[place] = np.mean(known) if known else np.nan
    figure = new_panels(
        "Over the grid",
        ("What happened", "Final test accuracy"),
        row_height=110 + 46 * len(rows),
        horizontal_spacing=0.1,
        shared_yaxes="all",
    )
    labels = {"x": [f"{value:,g}" for value in columns], "y": [f"{value:g}" for value in rows]}
    steps = [(index + shift) / len(colors) for index in range(len(colors)) for shift in (0, 1)]
    twice = [color for color in colors.values() for _ in (0, 1)]
    scale = [list(pair) for pair in zip(steps, twice, strict=True)]
    look = {"xgap": 2, "ygap": 2, "hoverongaps": False}
    drawn = go.Heatmap(
        z=kinds,
        text=words,
        texttemplate="%{text}",
        zmin=-0.5,
        zmax=len(colors) - 0.5,
        colorscale=scale,
        showscale=False,
        **labels,
        **look,
    )
    figure.add_trace(
        drawn.update(customdata=names, hovertemplate="%{x}, %{y}: %{customdata} %{text}<extra></extra>"), row=1, col=1
    )
    bar = {"tickformat": ".0%", "thickness": 12, "title": ""}
    drawn = go.Heatmap(z=accuracy, zmin=0, zmax=1, colorscale=SEQUENTIAL, colorbar=bar, **labels, **look)
    figure.add_trace(drawn.update(hovertemplate="%{x}, %{y}: %{z:.1%}<extra></extra>"), row=1, col=2)
    for kind in [*dict.fromkeys(run.verdict for run in found), *([TIE] if TIE in names else [])]:
        marker = {"color": colors[kind], "symbol": "square", "size": 12}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=kind, row=1, col=1)
    above = 1 + 44 / (figure.layout.height - figure.layout.margin.t - figure.layout.margin.b)
    figure.update_layout(
        showlegend=True, legend={"orientation": "h", "x": 1, "xanchor": "right", "y": above, "yanchor": "bottom"}
    )
    figure.update_xaxes(
        type="category", title_text=escape(AXIS_NAMES[across]), showgrid=False, tickangle=-45 if len(columns) > 7 else 0
    )
    figure.update_yaxes(type="category", showgrid=False)
    figure.update_yaxes(title_text=escape(AXIS_NAMES[up]), col=1)
    return figure
