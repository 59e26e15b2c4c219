"""Figures of a sweep, over any two of its axes: learning curves of groups of runs, and a phase diagram."""

import math
import warnings
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from interp.errors import InputError, flag, unknown_name
from interp.figures import PALETTE, STEP_AXIS, as_count, band, new_panels, percent_axis, power_of_ten_axis
from interp.studies.phase_diagram import DIVERGED, Colored, Place, drawn_over

if TYPE_CHECKING:
    import plotly.graph_objects as go

FEWEST_FOR_A_BAND = 5  # quartiles of fewer are the runs themselves, and those are drawn
MOST_PANELS, MOST_GROUPS = 12, 24


def group_curves(table: xr.Dataset, axes: Sequence[str] = (), metric: str | None = None) -> "go.Figure":
    """A metric over training, in one color for each value on the first of `axes`, and one panel for each on the second
    (by default the first two that are no seeds). Runs that differ on other axes are a group: the line is their median,
    the band reaches from the lower to the upper quartile; of fewer than FEWEST_FOR_A_BAND runs every curve is drawn.

    Of a group that did not log at the same steps the median is drawn where all of them did. Runs that diverged or are
    not finished are left out, and counted below the title. The metric is `told_accuracy` by default. Raises
    InputError for axes and metrics that the table of `collect(…, curves=True)` does not have.
    """
    metric = flag(metric or told_accuracy(table)).replace("-", "_")
    known = [str(name) for name, values in table.data_vars.items() if "step" in values.dims]
    if metric not in known:
        raise unknown_name("metric", metric, known)
    chosen = _axes_of(table, axes)
    color, panel = chosen[0], chosen[1] if len(chosen) > 1 else None
    if table.sizes[color] > MOST_GROUPS or (panel is not None and table.sizes[panel] > MOST_PANELS):
        raise InputError(
            f"curves are drawn of at most {MOST_GROUPS} groups in at most {MOST_PANELS} panels; name other axes, or "
            "draw phases"
        )
    panels = table[panel].values if panel is not None else [None]
    grouped = [axis for axis in _dims(table) if axis not in (color, panel)]
    n_runs, n_left_out = table.state.size, int((table.state != "complete").sum())
    of = f"runs that differ in {' and '.join(map(_words, grouped))}" if grouped else "runs"
    largest = math.prod(table.sizes[axis] for axis in grouped)
    drawn = (
        f"line: median of {largest} {of}, band: quartiles"
        if largest >= FEWEST_FOR_A_BAND
        else f"every run; thick: median of {largest} {of}"
        if largest > 1
        else "every run"
    )
    if n_left_out and largest >= FEWEST_FOR_A_BAND:
        drawn += f" (of fewer than {FEWEST_FOR_A_BAND} every run is drawn)"
    out = f"; left out: {n_left_out:,} of {as_count(n_runs, 'run')}, diverged or not finished" if n_left_out else ""
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = new_panels(
        f"{escape(_sentence(metric))} over training",
        [f"{escape(_words(panel))} {escape(_label(value))}" for value in panels] if panel is not None else ["&nbsp;"],
        columns=columns,
        reference=escape(drawn + out),
        row_height=340 if rows == 1 else 270,
        shared_yaxes="all",
        shared_xaxes="all",
        horizontal_spacing=0.05,
        vertical_spacing=0.26 / rows,
    )
    colors = _colors(table[color].values)
    for place, value in enumerate(panels):
        row, column = place // columns + 1, place % columns + 1
        within = table if panel is None else table.sel({panel: value})
        for label, tint in zip(table[color].values, colors, strict=True):
            _draw_group(figure, within.sel({color: label}), metric, _label(label), tint, row=row, col=column)
    if "accuracy" in metric:
        percent_axis(figure)
    elif "loss" in metric or "norm" in metric:
        power_of_ten_axis(figure)
    figure.update_layout(
        legend={"title_text": escape(_words(color))}, showlegend=True, height=figure.layout.height + 20 * (rows > 1)
    )
    figure.update_xaxes(showticklabels=True, nticks=5)
    for column in range(1, columns + 1):  # below the last panel of every column
        last = rows if (rows - 1) * columns + column <= len(panels) else rows - 1
        figure.update_xaxes(title_text=STEP_AXIS, row=last, col=column)
    figure.update_yaxes(title_text=escape(_words(metric)), col=1)
    return figure


def sweep_phases(table: xr.Dataset, axes: Sequence[str] = (), color: str | None = None) -> "go.Figure":
    """What happened, and a number of the table, over two axes (by default the final `told_accuracy`, over the first two
    that are no seeds). A cell holds all runs that differ on other axes: the verdict that most of them have, of how
    many, and the mean of that number. Runs that are not finished have no place.

    Raises InputError for axes and numbers that the table of `collect` does not have, and where there are not two axes.
    """
    chosen = _axes_of(table, axes)
    if len(chosen) < 2:
        raise InputError(f"a phase diagram needs two axes with several values; {_words(chosen[0])} alone is there")
    across, up = chosen
    column = f"final_{told_accuracy(table)}" if color is None else _colored_column(table, color)
    is_step = column in ("memorized_at", "generalized_after", "generalized_at")
    title = f"log10 of {table[column].attrs['long_name']}" if is_step else _sentence(column)
    places = [
        Place(
            _plain(row[across]),
            _plain(row[up]),
            row["verdict"],
            row[column],
        )
        for row in table.drop_dims("step", errors="ignore").to_dataframe().reset_index().to_dict("records")
        if row["state"] in ("complete", DIVERGED)
    ]
    if not places:
        raise InputError(f"no run in {table.attrs['folder']} is complete; the same `interp sweep` goes on")
    others = [_words(axis) for axis in _dims(table) if axis not in chosen]
    cell = (
        f"a cell: the most frequent outcome, and the mean, of runs that differ in {' and '.join(others)}"
        if others
        else ""
    )
    n_left_out = table.state.size - len(places)
    out = f"{'; ' * bool(cell)}left out: {as_count(n_left_out, 'run')} not finished" if n_left_out else ""
    return drawn_over(
        _words(across),
        _words(up),
        places,
        title="What came of the sweep",
        colored=Colored(title, is_share=column.endswith("accuracy"), is_step=is_step),
        reference=escape(cell + out),
        labels_of=([_plain(label) for label in table[across].values], [_plain(label) for label in table[up].values]),
    )


def _colored_column(table: xr.Dataset, color: str) -> str:
    """The column of a name, or the last value of the metric of that name."""
    numbers = [str(name) for name, of in table.data_vars.items() if of.dtype.kind in "fiu" and "step" not in of.dims]
    names = {flag(column.removeprefix("final_")): column for column in numbers} | {flag(one): one for one in numbers}
    if flag(color) not in names:
        raise unknown_name("color", color, names)
    return names[flag(color)]


def told_accuracy(table: xr.Dataset) -> str:
    """The metric that is nearest to what verdicts are told from, of those that every complete run has: the accuracy on
    held-out pairs, on unmirrored test pairs, or on all test pairs."""
    complete = (table.state == "complete").values
    for metric in ("held_out_accuracy", "unmirrored_test_accuracy"):
        final = table.get(f"final_{metric}")
        if final is not None and complete.any() and np.isfinite(final.values[complete]).all():
            return metric
    return "test_accuracy"


def _draw_group(figure: "go.Figure", group: xr.Dataset, metric: str, label: str, color: str, **where: Any) -> None:
    """The median of a group with its band, or its curves."""
    complete = (group.state == "complete").values.reshape(-1)
    curves = group[metric].transpose(..., "step").values.reshape(len(complete), -1)[complete]
    logged = ~np.isnan(curves).all(axis=0) if len(curves) else np.zeros(group.sizes["step"], dtype=bool)
    steps, curves = group.step.values[logged], curves[:, logged]
    is_first = where == {"row": 1, "col": 1}
    look = {"legendgroup": label, "name": escape(label), "line_color": color, "mode": "lines"}
    n_runs = len(curves)
    if not n_runs:
        figure.add_scatter(x=[None], y=[None], showlegend=is_first, **look, **where)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a step at which none has a number
        lower, median, upper = np.quantile(curves, (0.25, 0.5, 0.75), axis=0)
    if n_runs < FEWEST_FOR_A_BAND:
        for curve in curves if n_runs > 1 else ():
            known = ~np.isnan(curve)
            figure.add_scatter(
                x=steps[known],
                y=curve[known],
                opacity=0.45,
                line_width=1,
                showlegend=False,
                hoverinfo="skip",
                **look,
                **where,
            )
    else:
        band(figure, steps, (lower, upper), color, legendgroup=label, **where)
    known = ~np.isnan(median)
    words = f"{escape(label)}: %{{y:.4g}} at step %{{x}}, median of {n_runs}<extra></extra>"
    figure.add_scatter(
        x=steps[known], y=median[known], line_width=2, showlegend=is_first, hovertemplate=words, **look, **where
    )


def _dims(table: xr.Dataset) -> list[str]:
    return [str(axis) for axis in table.state.dims]


def _axes_of(table: xr.Dataset, asked: Sequence[str]) -> list[str]:
    """The dimensions that are asked for, or the first two that vary and are no seeds."""
    dims = _dims(table)
    if dims == ["run"]:
        raise InputError(f"{table.attrs['folder']} holds runs, but no sweep, whose axes could be drawn")
    if len(asked) > 2 or len(set(asked)) < len(asked):
        raise InputError(f"give one axis or two different ones, got {' '.join(asked)}")
    chosen = []
    for name in asked:
        short = flag(name).rpartition(".")[2].replace("-", "_")
        full = {flag(str(table[dim].attrs["long_name"])): dim for dim in dims}
        if flag(name) not in full and short not in dims:
            raise unknown_name("axis", name, map(flag, dims))
        chosen.append(full.get(flag(name), short))
    several = [dim for dim in dims if table.sizes[dim] > 1]
    no_seeds = [dim for dim in several if not dim.endswith("seed")]
    return chosen or (no_seeds or several or dims)[:2]


def _colors(labels: np.ndarray) -> list[str]:
    """Of numbers a scale, from dark to light, of words colors that differ."""
    if len(labels) < 3 or labels.dtype.kind == "U":
        return [PALETTE[place % len(PALETTE)] for place in range(len(labels))]
    from plotly.colors import sample_colorscale

    # Without its lightest end, which is hardly seen on white.
    return sample_colorscale("Viridis", [0.88 * place / (len(labels) - 1) for place in range(len(labels))])


def _plain(value: Any) -> float | str:
    return value if isinstance(value, str) else float(value)


def _label(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,g}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _sentence(name: str) -> str:
    words = _words(name)
    return words[:1].upper() + words[1:]
