"""Phase diagrams: the outcome of every run of a grid, over two of the values that were set."""

import math
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from interp.errors import InputError, flag, unknown_name
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
DIVERGED = "diverged"
COLORS = dict(
    zip(grokking.VERDICTS, (PALETTE[2], PALETTE[5], PALETTE[1], PALETTE[6], PALETTE[3], "#D0D0D0"), strict=True)
) | {KEPT: PALETTE[2], KEPT_IN_PART: PALETTE[4], DIVERGED: "#111111"}
TIE, TIE_COLOR = "as many of each", "#4F4F4F"
Label = float | str


class Place(NamedTuple):
    """A run, by its values on two axes, and what came of it."""

    across: Label
    up: Label
    verdict: str
    value: float


class Colored(NamedTuple):
    """What a cell of the second panel shows: its title, and whether it is a share, from 0 to 1, or a step, whose power
    of ten is drawn."""

    title: str
    is_share: bool = False
    is_step: bool = False


ACCURACY = Colored("Final test accuracy", is_share=True)
COLORED_BY = {
    "test-accuracy": ACCURACY,
    "train-accuracy": Colored("Final train accuracy", is_share=True),
    "weight-norm": Colored("Final weight norm"),
    "memorized-at": Colored("log10 of the step at which it had memorized", is_step=True),
    "generalized-at": Colored("log10 of the step at which it had generalized", is_step=True),
}


def phase_diagram(
    found: Sequence[RunOutcome], across: str | None = None, up: str | None = None, color: str = "test-accuracy"
) -> "go.Figure | None":
    """What happened, and what `color` says of it, over two axes: the verdict that most runs of a cell have and how many
    have it (where several have as many, all of these, in gray: none is what happened there), and the mean over them.

    `across` and `up` are fields in which the runs differ ("training.lr", or "lr"); where neither is named, training
    pairs, weight decay, eps and seeds, as far as they vary, and None where fewer than two of them do. `color` is one of
    COLORED_BY. Raises InputError for names that are not there, for one axis twice, and for one without the other.

    >>> runs = [
    ...     RunOutcome("a", {"training.lr": lr, "training.eps": eps}, "grokking", 9.0, 99.0, 1.0, 1.0, 30.0, False)
    ...     for lr in (0.1, 0.2)
    ...     for eps in (1e-8, 1e-5)
    ... ]
    >>> phase_diagram(runs, "lr", "eps", "weight-norm").data[1].z.tolist()
    [[30.0, 30.0], [30.0, 30.0]]
    >>> phase_diagram(runs, "lt", "eps")
    Traceback (most recent call last):
        ...
    interp.errors.InputError: unknown axis 'lt'; did you mean 'lr'?
    """
    if color not in COLORED_BY:
        raise unknown_name("color", color, COLORED_BY)
    found = [run for run in found if not run.is_start]
    axes = _default_axes(found) if across is None and up is None else _named_axes(found, across, up)
    if axes is None:
        return None
    values = [getattr(run, color.replace("-", "_")) for run in found]
    places = [
        Place(_axis_value(run.fields[axes[0]]), _axis_value(run.fields[axes[1]]), run.verdict, float(value))
        for run, value in zip(found, values, strict=True)
    ]
    words = (AXIS_NAMES.get(axis, axis.rpartition(".")[2].replace("-", " ")) for axis in axes)
    across_words, up_words = words
    return drawn_over(across_words, up_words, places, colored=COLORED_BY[color])


def _default_axes(found: Sequence[RunOutcome]) -> tuple[str, str] | None:
    if found and {"task.operation", "model.family"} & set(found[0].fields):
        return None  # different networks have no cell in common
    varying = {axis for axis in (*FIRST_AXES, *SECOND_AXES) if len({str(run.fields.get(axis)) for run in found}) > 1}
    across = next((axis for axis in FIRST_AXES if axis in varying), None)
    up = next((axis for axis in SECOND_AXES if axis in varying and axis != across), None)
    return None if across is None or up is None else (across, up)


def _named_axes(found: Sequence[RunOutcome], across: str | None, up: str | None) -> tuple[str, str]:
    if across is None or up is None:
        raise InputError(f"a phase diagram has two axes; {'up' if up is None else 'across'} is not named")
    fields = list(found[0].fields) if found else []
    ends = [field.rpartition(".")[2] for field in fields]
    names = {field: field for field in fields}
    names |= {end: field for end, field in zip(ends, fields, strict=True) if ends.count(end) == 1}
    for name in (across, up):
        if flag(name) not in names:
            raise unknown_name("axis", name, names)
    chosen = names[flag(across)], names[flag(up)]
    if chosen[0] == chosen[1]:
        raise InputError(f"a phase diagram has two different axes, got {across} twice")
    return chosen


def _axis_value(value: object) -> Label:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else str(value)  # pyright: ignore[reportArgumentType]


def drawn_over(
    across: str,
    up: str,
    runs: Sequence[Place],
    *,
    title: str = "Over the grid",
    colored: Colored = ACCURACY,
    reference: str = "",
    labels_of: tuple[Sequence[Label], Sequence[Label]] | None = None,
) -> "go.Figure":
    """What happened, and what is `colored`, over two axes of those names: numbers in their order, words in that in
    which they come. `labels_of` both axes: their values, where some have no runs."""
    import plotly.graph_objects as go

    found = [run.across for run in runs], [run.up for run in runs]
    columns, rows = map(_in_order, labels_of or found)
    cells: dict[tuple[int, int], list[Place]] = {(i, j): [] for i in range(len(rows)) for j in range(len(columns))}
    for run in runs:
        cells[rows.index(run.up), columns.index(run.across)].append(run)
    shape = (len(rows), len(columns))
    kinds, shown = np.full(shape, np.nan), np.full(shape, np.nan)
    words, names = np.full(shape, "", dtype=object), np.full(shape, "", dtype=object)
    colors = COLORS | {TIE: TIE_COLOR}
    for place, within in cells.items():
        if within:
            counts = Counter(run.verdict for run in within)
            count = max(counts.values())
            most = [kind for kind in colors if counts[kind] == count]
            kinds[place] = list(colors).index(most[0] if len(most) == 1 else TIE)
            of_all = f"{count}/{len(within)}" if len(within) > 1 else ""
            words[place] = of_all if len(most) == 1 else "<br>".join(f"{kind} {of_all}" for kind in most)
            names[place] = most[0] if len(most) == 1 else TIE
            known = [run.value for run in within if math.isfinite(run.value)]
            if colored.is_step:
                known = [math.log10(max(value, 1.0)) for value in known]
            shown[place] = np.mean(known) if known else np.nan
    figure = new_panels(
        title,
        ("What happened", colored.title),
        reference=reference,
        row_height=110 + 46 * len(rows),
        horizontal_spacing=0.1,
        shared_yaxes="all",
    )
    labels = {"x": [_label(value) for value in columns], "y": [_label(value) for value in rows]}
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
    bar = {"tickformat": ".0%" if colored.is_share else ".3g", "thickness": 12, "title": ""}
    span = {"zmin": 0, "zmax": 1} if colored.is_share else {}
    drawn = go.Heatmap(z=shown, colorscale=SEQUENTIAL, colorbar=bar, **span, **labels, **look)
    z = "%{z:.1%}" if colored.is_share else "%{z:.3g}"
    figure.add_trace(drawn.update(hovertemplate=f"%{{x}}, %{{y}}: {z}<extra></extra>"), row=1, col=2)
    for kind in [*dict.fromkeys(run.verdict for run in runs), *([TIE] if TIE in names else [])]:
        marker = {"color": colors[kind], "symbol": "square", "size": 12}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=kind, row=1, col=1)
    above = 1 + 44 / (figure.layout.height - figure.layout.margin.t - figure.layout.margin.b)
    legend = {"orientation": "h", "x": 1, "xanchor": "right", "y": above, "yanchor": "bottom"}
    if reference:  # words stand beside the title, and every kind would reach into it
        below = 62 / (figure.layout.height - figure.layout.margin.t - figure.layout.margin.b)
        legend = {"orientation": "h", "x": 0, "xanchor": "left", "y": -below, "yanchor": "top"}
        figure.update_layout(height=figure.layout.height + 40, margin_b=figure.layout.margin.b + 40)
    figure.update_layout(showlegend=True, legend=legend)
    figure.update_xaxes(
        type="category", title_text=escape(across), showgrid=False, tickangle=-45 if len(columns) > 7 else 0
    )
    figure.update_yaxes(type="category", showgrid=False)
    figure.update_yaxes(title_text=escape(up), col=1)
    return figure


def _in_order(values: Sequence[Label]) -> list[Label]:
    """Each once."""
    once = list(dict.fromkeys(values))
    return once if any(isinstance(value, str) for value in once) else sorted(once)


def _label(value: Label) -> str:
    return escape(value) if isinstance(value, str) else f"{value:,g}"
