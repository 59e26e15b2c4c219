"""The figure of effective model complexity: samples fitted against width, and test error on the axis EMC/n."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from interp.figures import NEUTRAL, PALETTE, grid_log_axis, new_panels, plain_log_axis
from interp.mathematics.effective_complexity import CRITICAL, Complexity
from interp.studies.complexity_sentences import complexities, epsilons

if TYPE_CHECKING:
    import plotly.graph_objects as go


def complexity_figure(result: xr.Dataset, title: str, reference: str) -> "go.Figure":
    """A column for each ε: above EMC against width, below test error against EMC/n."""
    levels = epsilons(result)
    panels = [f"Samples fitted to a training error of {level:g}" for level in levels]
    panels += [f"Test error, EMC at ε = {level:g}" for level in levels]
    how = {"reference": reference, "row_height": 330, "vertical_spacing": 0.16}
    figure = new_panels(title, panels, columns=len(levels), **how)
    found = complexities(result)
    for column, level in enumerate(levels, start=1):
        for row, noise in enumerate(result.noise.values.tolist()):
            color = PALETTE[row % len(PALETTE)]
            of_widths = [found[noise, width, level] for width in result.width.values.tolist()]
            look = {"row": 1, "col": column, "legendgroup": str(noise), "showlegend": column == 1}
            look |= {"name": f"{100 * noise:g} % wrong labels"}
            size = 8 + 4 * (result.sizes["noise"] - 1 - row)  # bounds of several noises lie on one another
            _draw_complexities(figure, result.width.values, of_widths, color, size, **look)
            _draw_errors(figure, result.sel(noise=noise), of_widths, color, column)
        figure.add_vrect(*CRITICAL, row=2, col=column, fillcolor=NEUTRAL, opacity=0.15, line_width=0, layer="below")
        figure.add_vline(1, row=2, col=column, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    sizes = result.n.values.astype(float)
    ratios = np.array([sizes[0] / sizes[-1], sizes[-1] / sizes[0], CRITICAL[0] / 1.4, CRITICAL[1] * 1.4])  # band inside
    figure.update_xaxes(row=1, title_text="hidden neurons", **grid_log_axis(result.width.values))
    figure.update_xaxes(row=2, range=np.log10([ratios.min() / 1.05, ratios.max() * 1.05]).tolist())
    figure.update_yaxes(row=1, title_text="samples", **grid_log_axis(result.n.values))
    figure.update_xaxes(row=2, title_text="EMC / n", **plain_log_axis(ratios))
    figure.update_yaxes(row=2, title_text="test error", rangemode="tozero")
    return figure


def _draw_complexities(
    figure: "go.Figure", widths: np.ndarray, found: list[Complexity], color: str, size: int, **where: Any
) -> None:
    """Crossings with their intervals; off the grid a triangle at its end, to which no line leads."""
    y, symbols, above, below = [], [], [], []
    for one in found:
        at = min(max(one.crossing, one.n_min), one.n_max)
        off = "triangle-up-open" if one.crossing else "triangle-down-open"
        symbols.append("circle" if 0 < one.crossing < math.inf else off)
        y.append(at)
        above.append(min(max(one.high, one.n_min), one.n_max) - at)
        below.append(at - min(max(one.low, one.n_min), one.n_max))
    known = np.array([0 < one.crossing < math.inf for one in found])
    line = {"color": color, "width": 1.5}
    figure.add_scatter(x=widths, y=np.where(known, y, np.nan), mode="lines", line=line, hoverinfo="skip", **where)
    # A bar without length would be drawn as a cap.
    array, minus = (np.where(np.array(side) > 0, side, np.nan) for side in (above, below))
    error = {"type": "data", "symmetric": False, "array": array, "arrayminus": minus, "thickness": 1.5}
    marker = {
        "color": color,
        "size": [8 if symbol == "circle" else size for symbol in symbols],
        "symbol": symbols,
        "opacity": 1,
    }
    figure.add_scatter(x=widths, y=y, mode="markers", marker=marker, error_y=error, **where | {"showlegend": False})


def _draw_errors(figure: "go.Figure", of_noise: xr.Dataset, found: list[Complexity], color: str, column: int) -> None:
    """A line for each n over the widths: fainter for fewer samples; open triangles where EMC/n is known on one side
    alone."""
    sizes = of_noise.n.values.tolist()
    for place, n in enumerate(sizes):
        errors = of_noise.test_error.sel(n=n).mean("draw").values
        x = [min(max(one.crossing, one.n_min), one.n_max) / n for one in found]
        symbols = [
            "circle" if 0 < one.crossing < math.inf else "triangle-right-open" if one.crossing else "triangle-left-open"
            for one in found
        ]
        known = np.array([0 < one.crossing < math.inf for one in found])
        look: dict[str, Any] = {"opacity": 0.25 + 0.75 * (place + 1) / len(sizes), "showlegend": False}
        look |= {"row": 2, "col": column, "name": f"n = {n}"}
        # No line to where EMC/n is not known.
        line = {"color": color, "width": 1.5}
        figure.add_scatter(x=x, y=np.where(known, errors, np.nan), mode="lines", line=line, hoverinfo="skip", **look)
        marker = {"color": color, "size": 7, "symbol": symbols}
        text = [f"width {width}, n {n}" for width in of_noise.width.values.tolist()]
        figure.add_scatter(x=x, y=errors, mode="markers", marker=marker, text=text, **look)
