"""The figure of prequential codes: bits per label against the prefix, and what two data sets gain together."""

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from interp.figures import NEUTRAL, PALETTE, new_panels
from interp.mathematics.intervals import mean_interval
from interp.mathematics.prequential import FREE
from interp.studies.prequential_sentences import NULLS, codes, gains_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHORT = {
    "halves": "two halves",
    "mirrors-tied": "mirrors, inputs tied",
    "mirrors": "mirrors, inputs told apart",
    "operations": "two operations",
    "halves-random": "two halves, random labels",
    "operations-random": "rule and random labels",
}


def prequential_figure(result: xr.Dataset, title: str, reference: str) -> "go.Figure":
    """Left the learning curves in bits, right the gains."""
    panels = [f"Bits per label of {result.attrs['rule']}", "Saved by coding two data sets together"]
    how = {"reference": reference, "row_height": 390, "horizontal_spacing": 0.24, "column_widths": [0.6, 0.4]}
    figure = new_panels(title, panels, **how)
    _draw_curves(figure, result)
    _draw_gains(figure, result)
    figure.update_layout(legend={"orientation": "h", "y": -0.2})
    return figure


def _draw_curves(figure: "go.Figure", result: xr.Dataset) -> None:
    """Each block is a level from its prefix to the next, for its labels are coded by one network."""
    where = {"row": 1, "col": 1}
    uniform = float(np.log2(result.attrs["classes"]))
    edges = np.append(result.prefix.values, result["size"].values.sum())
    for labels, name, color in (("random", "random labels", NEUTRAL), ("rule", "the rule", PALETTE[0])):
        of = np.array([code.bits_per_label for code in codes(result, labels)])
        line = {"shape": "hv", "color": color}
        for curve in of:
            y = np.append(curve, curve[-1])
            look = {"mode": "lines", "line": line | {"width": 1}, "opacity": 0.35, "showlegend": False}
            figure.add_scatter(x=edges, y=y, hoverinfo="skip", **look, **where)
        mean = of.mean(0)
        figure.add_scatter(
            x=edges, y=np.append(mean, mean[-1]), mode="lines", line=line | {"width": 2.6}, name=name, **where
        )
    for level, text in ((uniform, f"log₂ {result.attrs['classes']}"), (FREE, "one bit")):
        figure.add_hline(level, line={"color": NEUTRAL, "width": 1, "dash": "dot"}, annotation_text=text, **where)
    figure.update_xaxes(title_text=f"prefix (labels of {result.attrs['pairs']})", rangemode="tozero", **where)
    figure.update_yaxes(title_text="bits per label of the next block", rangemode="tozero", **where)


def _draw_gains(figure: "go.Figure", result: xr.Dataset) -> None:
    where = {"row": 1, "col": 2}
    for setting in result.setting.values.tolist()[::-1]:  # the first is above
        found = np.array([gain.normalized for gain in gains_of(result, setting)])
        low, high = mean_interval(found[None])[:, 0]
        color = NEUTRAL if setting in NULLS else PALETTE[1]
        look = {"showlegend": False, "mode": "markers"}
        dots = {"color": color, "size": 6, "opacity": 0.45}
        figure.add_scatter(x=found, y=[SHORT[setting]] * len(found), marker=dots, hoverinfo="skip", **look, **where)
        bar = {"array": [high - found.mean()], "arrayminus": [found.mean() - low], "color": color, "thickness": 2}
        figure.add_scatter(
            x=[found.mean()],
            y=[SHORT[setting]],
            error_x=bar,
            marker={"color": color, "size": 10, "symbol": "diamond"},
            name=SHORT[setting],
            **look,
            **where,
        )
    figure.add_vline(0, line={"color": NEUTRAL, "width": 1, "dash": "dot"}, **where)
    figure.update_xaxes(title_text="gain / lesser code", **where)
