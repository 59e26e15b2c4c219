"""The figure of double descent: error over width, examples and steps, and where it can be computed."""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Real

from interp.figures import NEUTRAL, PALETTE, SEQUENTIAL, band, new_panels
from interp.mathematics.double_descent import INTERPOLATES
from interp.mathematics.intervals import mean_interval
from interp.studies.double_descent_curves import (
    Curve,
    middle_n,
    over_draws,
    over_features,
    over_linear_steps,
    over_samples,
    over_widths,
    threshold_of,
)
from interp.studies.double_descent_scores import LOSSES
from interp.studies.random_features import PACES

if TYPE_CHECKING:
    import plotly.graph_objects as go

WIDTH = {"digits": "width (neurons)", "addition": "width of the residual stream"}
CUTS = 4  # widths of which the error over steps is drawn


def double_descent_figure(result: xr.Dataset, title: str, reference: str) -> "go.Figure":
    """As many panels as there is something to draw in."""
    panels: list[tuple[str, Callable[..., None]]] = [
        ("Test error over width, by label noise", partial(_draw_arms, field="arm_noise", words="noise {:.0%}")),
        ("Other sizes, and cures", _draw_cures),
        ("Three losses of the base, over their last values", _draw_losses),
        ("Test error, over width and training", _draw_map),
        ("… and over training, of some widths", _draw_cuts),
    ]
    if "n" in result.sizes:
        words = f"Over training examples, at width {result.attrs['samples_width']}"
        panels.insert(3, (words, _draw_samples))
    if "features_error" in result:
        panels.append((f"Least squares on random features, n = {middle_n(result)}", _draw_features))
        panels.append(("Gradient descent on a linear model: risk over steps", _draw_linear))
    titles = [words for words, _ in panels]
    n_rows = -(-len(panels) // 2)
    figure = new_panels(
        title, titles, reference=reference, row_height=350, horizontal_spacing=0.13, vertical_spacing=0.32 / n_rows
    )
    for place, (_, draw) in enumerate(panels):
        row, column = place // 2 + 1, place % 2 + 1
        legend = "legend" if place == 0 else f"legend{place + 1}"
        draw(figure, result, {"row": row, "col": column}, legend)
        x, y = figure.get_subplot(row, column)
        corner = {"x": x.domain[1], "y": y.domain[1], "xanchor": "right", "yanchor": "top", "font": {"size": 11}}
        corner["bgcolor"] = "rgba(255,255,255,0)"  # it may lie over a band
        figure.update_layout({legend: corner})
    return figure


def _line(figure: "go.Figure", curve: Curve, color: str, where: dict[str, int], **named: str) -> None:
    """Means over draws, and their intervals, as far as there can be such errors."""
    most = 1.0 if curve.errors.max() <= 1 else math.inf  # others than shares have no upper end
    band(figure, curve.grid, np.clip(mean_interval(curve.errors), 0, most), color, **where)
    figure.add_scatter(x=curve.grid, y=curve.mean, line={"color": color, "width": 2}, **named, **where)


def _training(figure: "go.Figure", curve: Curve, color: str, where: dict[str, int]) -> None:
    line = {"color": color, "width": 1.2, "dash": "dot"}
    figure.add_scatter(x=curve.grid, y=curve.mean, mode="lines", line=line, showlegend=False, **where)


def _threshold_band(figure: "go.Figure", result: xr.Dataset, arm: str, where: dict[str, int]) -> None:
    """Where the training error passes ε."""
    threshold, low, high = threshold_of(result, arm)
    if not 0 < threshold < math.inf:
        return
    within = [np.clip(end, result.width.values.min(), result.width.values.max()) for end in (low, high)]
    # It comes before the lines, and plotly leaves it out of a panel that has none yet unless it is told not to.
    panel: dict[str, Any] = where | {"exclude_empty_subplots": False, "layer": "below"}
    if math.isfinite(low + high):
        figure.add_vrect(x0=within[0], x1=within[1], fillcolor=NEUTRAL, opacity=0.18, line_width=0, **panel)
    figure.add_vline(x=threshold, line={"color": NEUTRAL, "width": 1, "dash": "dash"}, **panel)


def _width_axis(figure: "go.Figure", grid: Real[np.ndarray, " point"], where: dict[str, int], title: str) -> None:
    """A log axis with the grid's own numbers, as far as they have room."""
    shown: list[float] = []
    for value in grid.tolist():
        if not shown or value / shown[-1] >= (grid[-1] / grid[0]) ** 0.09:
            shown.append(value)
    figure.update_xaxes(
        type="log",
        tickvals=shown,
        ticktext=[f"{value:,g}" for value in shown],
        tickangle=0,
        title_text=title,
        **where,
    )


def _error_axis(figure: "go.Figure", where: dict[str, int], title: str = "error") -> None:
    figure.update_yaxes(rangemode="tozero", title_text=title, **where)


def _draw_arms(
    figure: "go.Figure", result: xr.Dataset, where: dict[str, int], legend: str, *, field: str, words: str
) -> None:
    """The base, and the arms that differ from it in one field."""
    arms = result.arm.values.tolist()
    first = result.sel(arm=arms[0])
    alike = [name for name in arms if name == arms[0] or result.sel(arm=name)[field] != first[field]]
    _threshold_band(figure, result, arms[0], where)
    for place, name in enumerate(sorted(alike, key=lambda name: float(result.sel(arm=name)[field]))):
        color, value = PALETTE[place % len(PALETTE)], float(result.sel(arm=name)[field])
        _line(figure, over_widths(result, name), color, where, name=words.format(value), legend=legend)
        _training(figure, over_widths(result, name, "training_error"), color, where)
    _width_axis(figure, result.width.values, where, WIDTH[result.attrs["task"]])
    _error_axis(figure, where)


def _draw_cures(figure: "go.Figure", result: xr.Dataset, where: dict[str, int], legend: str) -> None:
    arms = result.arm.values.tolist()
    first = result.sel(arm=arms[0])
    _line(figure, over_widths(result, arms[0]), PALETTE[1], where, name=f"n = {int(first.arm_n)}", legend=legend)
    colors = iter([PALETTE[0], PALETTE[3], PALETTE[4], PALETTE[5], *PALETTE])
    for name in arms[1:]:
        arm = result.sel(arm=name)
        if arm.arm_noise == first.arm_noise:
            words = f"n = {int(arm.arm_n)}" if arm.arm_n != first.arm_n else f"weight decay {float(arm.arm_decay):g}"
            _line(figure, over_widths(result, name), next(colors), where, name=words, legend=legend)
    stopped = Curve(result.width.values.astype(float), over_draws(result, "stopped_error", arm=arms[0]), "width")
    _line(figure, stopped, PALETTE[2], where, name="stopped early", legend=legend)
    _width_axis(figure, result.width.values, where, WIDTH[result.attrs["task"]])
    _error_axis(figure, where)


def _draw_losses(figure: "go.Figure", result: xr.Dataset, where: dict[str, int], legend: str) -> None:
    arm = result.arm.values.tolist()[0]
    _threshold_band(figure, result, arm, where)
    for (loss, words), color in zip(LOSSES.items(), PALETTE[1:], strict=False):
        curve = over_widths(result, arm, loss)
        relative = Curve(curve.grid, curve.errors / curve.mean[-1], "width")
        _line(figure, relative, color, where, name=words.removesuffix(" (nats)"), legend=legend)
    _width_axis(figure, result.width.values, where, WIDTH[result.attrs["task"]])
    _error_axis(figure, where, "over that of the widest")


def _draw_samples(figure: "go.Figure", result: xr.Dataset, where: dict[str, int], legend: str) -> None:
    _line(figure, over_samples(result), PALETTE[1], where, name="test", legend=legend)
    _training(figure, over_samples(result, "training_error"), PALETTE[1], where)
    figure.update_xaxes(title_text="training examples n", **where)
    _error_axis(figure, where)


def _map_of(result: xr.Dataset, variable: str) -> xr.DataArray:
    """A mean over networks of the base [width, step], without step 0, which a log axis has no place for."""
    values = result[variable].isel(arm=0).mean(["draw", "seed"]).transpose("width", "step")
    return values.isel(step=slice(int(result.step.values[0] == 0), None))


def _draw_map(figure: "go.Figure", result: xr.Dataset, where: dict[str, int], legend: str) -> None:
    """The picture of Nakkiran et al.: the base's test error, and where its training error is ε."""
    import plotly.graph_objects as go

    test, training = _map_of(result, "test_error"), _map_of(result, "training_error")
    x, y = figure.get_subplot(where["row"], where["col"])
    bar = {"thickness": 10, "len": y.domain[1] - y.domain[0], "y": sum(y.domain) / 2, "x": x.domain[1] + 0.005}
    figure.add_trace(
        go.Contour(
            x=test.step.values,
            y=test.width.values,
            z=test.values,
            colorscale=SEQUENTIAL,
            contours={"coloring": "heatmap"},
            line={"width": 0},
            colorbar=bar,
            hovertemplate="step %{x}, width %{y}: %{z:.3f}<extra></extra>",
        ),
        **where,
    )
    line = {"color": "white", "width": 2, "dash": "dash"}
    level = {"start": INTERPOLATES, "end": INTERPOLATES, "size": 1, "coloring": "none"}
    figure.add_trace(
        go.Contour(
            x=training.step.values,
            y=training.width.values,
            z=training.values,
            contours=level,
            line=line,
            showscale=False,
            showlegend=False,
            hoverinfo="skip",
        ),
        **where,
    )
    figure.update_xaxes(type="log", dtick=1, title_text="step (updates); dashed: training error 1 %", **where)
    values = test.width.values
    figure.update_yaxes(
        type="log", tickvals=values[::2], ticktext=[f"{value:g}" for value in values[::2]], title_text="width", **where
    )


def _draw_cuts(figure: "go.Figure", result: xr.Dataset, where: dict[str, int], legend: str) -> None:
    test = result.test_error.isel(arm=0).mean("seed")
    widths = result.width.values
    chosen = np.unique(np.linspace(1, len(widths) - 1, CUTS).round().astype(int))
    later = result.step.values > 0
    for place, color in zip(chosen.tolist(), PALETTE, strict=False):
        values = test.isel(width=place).transpose("step", "draw").values[later]
        curve = Curve(result.step.values[later].astype(float), values, "step")
        _line(figure, curve, color, where, name=f"width {widths[place]}", legend=legend)
    figure.update_xaxes(type="log", dtick=1, title_text="step (updates)", **where)
    _error_axis(figure, where)


def _draw_features(figure: "go.Figure", result: xr.Dataset, where: dict[str, int], legend: str) -> None:
    n, noise_of_ridge = middle_n(result), float(result.attrs["slice_noise"])
    for noise, color in zip(result.features_noise.values.tolist(), PALETTE, strict=False):
        _line(figure, over_features(result, n, noise), color, where, name=f"noise {noise:.0%}", legend=legend)
    tuned = over_features(result, n, noise_of_ridge, "ridge_error")
    _line(figure, tuned, PALETTE[3], where, name=f"noise {noise_of_ridge:.0%}, tuned ridge", legend=legend)
    panel: dict[str, Any] = dict(where)
    figure.add_vline(x=n, line={"color": NEUTRAL, "width": 1, "dash": "dash"}, **panel)
    _width_axis(figure, result.features.values, where, "random features d; dashed: d = n")
    _error_axis(figure, where)


def _draw_linear(figure: "go.Figure", result: xr.Dataset, where: dict[str, int], legend: str) -> None:
    for pace, color in zip(PACES, (PALETTE[1], PALETTE[2]), strict=True):
        curve = over_linear_steps(result, pace)
        later = curve.grid > 0
        shown = Curve(curve.grid[later], curve.errors[later], "step")
        _line(figure, shown, color, where, name=f"learned {pace}", legend=legend)
    figure.update_xaxes(type="log", dtick=1, title_text="step (updates)", **where)
    _error_axis(figure, where, "squared error")
