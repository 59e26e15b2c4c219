"""The figures of a comparison: one color per side, and the same axes and color scales for all."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from interp.explanation import Comparison, Side
from interp.figures import (
    NEUTRAL,
    PALETTE,
    SEQUENTIAL,
    TEST,
    TRAIN,
    apply_style,
    color_of_frequency,
    new_figure,
    new_panels,
    power_of_ten_axis,
    short_name,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Blue and orange mean train and test everywhere else, green and pink the generalizing and the memorizing circuit: these
# come last.
SIDE_COLORS = (PALETTE[4], PALETTE[5], PALETTE[7], PALETTE[6], PALETTE[3], PALETTE[2])


def figures(comparison: Comparison) -> dict[str, "go.Figure"]:
    """The figures by name, in reading order."""
    made: dict[str, Callable[[Sequence[Side]], Any]] = {
        "curves": curves,
        "losses": losses,
        "circuits": circuits,
        "spectra": spectra,
        "neurons": neurons,
        "norms": norms,
        "ranks": ranks,
    }
    return {name: figure for name, make in made.items() if (figure := make(comparison.sides)) is not None}


def curves(sides: Sequence[Side]) -> "go.Figure | None":
    """The losses of every run over training, with the step of each side; None where no run has any."""
    known = {
        str(side.run.path): side
        for side in sides
        if side.curves is not None and np.isfinite(side.curves.loss.values).any()
    }
    if not known:
        return None
    names = {path: text(side.run.path.resolve().name) for path, side in known.items()}
    figure = new_panels(
        "Losses over training", list(names.values()), columns=len(known), shared_yaxes="all", horizontal_spacing=0.04
    )
    decades: list[float] = []
    for column, (path, side) in enumerate(known.items(), start=1):
        assert side.curves is not None
        for split, color in (("train", TRAIN), ("test", TEST)):
            values = side.curves.loss.sel(split=split).values
            values = np.where(values > 0, values, np.nan)
            trace = {
                "x": side.curves.step.values,
                "y": values,
                "name": split,
                "line_color": color,
                "showlegend": column == 1,
            }
            figure.add_scatter(
                **trace, mode="lines", hovertemplate=f"{split}, step %{{x}}: %{{y:.3g}}", row=1, col=column
            )
            decades += np.log10(values[np.isfinite(values)]).tolist()
        for index, other in enumerate(sides):
            if str(other.run.path) == path:
                line = {"color": SIDE_COLORS[index], "width": 2, "dash": "dash"}
                figure.add_vline(x=other.step, line=line, row=1, col=column)  # pyright: ignore[reportArgumentType]
    for index, side in enumerate(sides):
        if str(side.run.path) in known:  # lines of add_vline have no entry in the legend
            figure.add_scatter(
                x=[None],
                y=[None],
                mode="lines",
                line={"color": SIDE_COLORS[index], "width": 2, "dash": "dash"},
                name=text(side.label),
            )
    power_of_ten_axis(figure, range=[min(decades) - 0.3, max(decades) + 0.3])
    axes = dict.fromkeys(side.curves.attrs["loss_axis"] for side in known.values() if side.curves is not None)
    figure.update_yaxes(title_text=" | ".join(axes), col=1)
    figure.update_xaxes(title_text="step (updates)", matches="x")
    return _with_room(figure)


def losses(sides: Sequence[Side]) -> "go.Figure":
    """The losses of the whole network, of its key frequencies alone and of the rest without them."""
    rows = [
        ("network, train", "loss.train"),
        ("network, test", "loss.test"),
        ("network, all", "loss.all"),
        ("key frequencies alone, all", "restricted_loss.all"),
        ("without them, all", "excluded_loss.all"),
    ]
    figure = new_figure("What the network and its key frequencies achieve", x="", y="cross-entropy (nats)")
    for index, side in enumerate(sides):
        values = [side.quantities[name].value for _, name in rows]
        shown = [value if value else None for value in values]  # a logarithmic axis has no zero
        marker = {"color": SIDE_COLORS[index], "size": 15}
        trace = {
            "x": [label for label, _ in rows],
            "y": shown,
            "name": text(side.label),
            "mode": "markers",
            "marker": marker,
        }
        figure.add_scatter(**trace, offsetgroup=str(index), hovertemplate="%{x}: %{y:.4g}")
    figure.update_layout(scattermode="group", scattergap=0.5)
    power_of_ten_axis(figure)
    return _with_room(figure)


def circuits(sides: Sequence[Side]) -> "go.Figure | None":
    """Strength and norm of the two circuits, efficiency of the generalizing one; None without the analyses of them."""
    measured = {title: [_numbers_under(side, name) for side in sides] for title, name in _OF_CIRCUITS.items()}
    measured = {
        title: found
        for title, found in measured.items()
        if any(value is not None for side in found for value in side.values())
    }
    if not measured:
        return None
    figure = new_panels(
        "The two circuits", list(measured), columns=len(measured), row_height=290, horizontal_spacing=0.08
    )
    for column, found in enumerate(measured.values(), start=1):
        labels = list(dict.fromkeys(label for values in found for label in values))
        for index, (side, values) in enumerate(zip(sides, found, strict=True)):
            _bars(
                figure,
                side,
                index,
                labels,
                [values.get(label) for label in labels],
                legend=column == 1,
                row=1,
                col=column,
            )
    return _with_room(figure)


_OF_CIRCUITS = {
    "Strength on training pairs (logits)": "circuit_split.strength",
    "Norm of their weights": "circuit_efficiency.norm",
    "Strength of the part alone, per norm": "circuit_efficiency.efficiency",
}


def _numbers_under(side: Side, name: str) -> dict[str, float | None]:
    return {
        key.removeprefix(f"{name}."): each.value for key, each in side.quantities.items() if key.startswith(f"{name}.")
    }


def spectra(sides: Sequence[Side]) -> "go.Figure":
    """Embedding, output map, logits and their cosines by frequency, a column per side; its own key frequencies have
    colors."""
    import plotly.graph_objects as go

    rows = (
        ("embedding_spectrum", "embedding_norm", "norm of W_E"),
        ("embedding_spectrum", "output_norm", "norm of W_L"),
        ("embedding_spectrum", "logit_share", "share of logit power"),
        ("logit_structure", "coefficient", "α_k of cos w_k(a+b−c)"),
    )
    titles = [text(side.label) for side in sides] + [""] * (3 * len(sides))
    figure = new_panels(
        "Spectra by frequency",
        titles,
        columns=len(sides),
        row_height=210,
        shared_xaxes="all",
        shared_yaxes="rows",
        vertical_spacing=0.035,
        horizontal_spacing=0.03,
    )
    colors = colors_of_frequencies({k for side in sides for k in side.key_frequencies})
    for column, side in enumerate(sides, start=1):
        for row, (analysis, name, _) in enumerate(rows, start=1):
            values = side.results[analysis].isel(step=0)
            frequencies = values.frequency.values
            color = [colors[int(k)] if int(k) in side.key_frequencies else NEUTRAL for k in frequencies]
            bars = go.Bar(x=frequencies, y=values[name].values, marker_color=color, showlegend=False)
            figure.add_trace(bars.update(hovertemplate="k = %{x}: %{y:.4g}<extra></extra>"), row=row, col=column)
    for row, (_, _, label) in enumerate(rows, start=1):
        figure.update_yaxes(title_text=label, row=row, col=1)
    figure.update_yaxes(tickformat=".0%", row=3)
    figure.update_xaxes(title_text="frequency k", row=len(rows))
    return figure


def colors_of_frequencies(keys: Iterable[int]) -> dict[int, str]:
    """One color for every frequency that is key on any side. Gray is for the others."""
    every = sorted(set(keys))
    return {k: color_of_frequency(k, every) for k in every}


def neurons(sides: Sequence[Side]) -> "go.Figure":
    """The neuron–frequency map of every side on one color scale, neurons sorted by their frequency."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [f"{text(side.label)}: {_periodic(side)}" for side in sides]
    figure = make_subplots(rows=1, cols=len(sides), subplot_titles=titles, shared_yaxes="all", horizontal_spacing=0.03)  # pyright: ignore[reportArgumentType]
    apply_style(figure, "Neuron–frequency maps (neurons sorted by dominant frequency)", "", 460)
    figure.update_annotations(font_size=13)
    for column, side in enumerate(sides, start=1):
        last: xr.Dataset = side.results["neuron_periodicity"].isel(step=0)
        order = np.lexsort((-np.nan_to_num(last.fraction_explained.values), last.dominant_frequency.values))
        heatmap = go.Heatmap(
            z=np.round(last.share.values[order].T.astype(np.float64), 3), y=last.frequency.values, coloraxis="coloraxis"
        )
        heatmap.update(hovertemplate="place %{x}<br>frequency %{y}<br>share %{z:.1%}<extra></extra>")
        figure.add_trace(heatmap, row=1, col=column)
    bar = {"title": {"text": "share of<br>variance", "font": {"size": 12}}, "tickformat": ".0%", "thickness": 12}
    figure.update_layout(coloraxis={"colorscale": SEQUENTIAL, "cmin": 0, "cmax": 1, "colorbar": bar})
    figure.update_xaxes(title_text="neuron, in this order")
    figure.update_yaxes(title_text="frequency k", col=1)
    return figure


def norms(sides: Sequence[Side]) -> "go.Figure":
    """The norm of every tensor, and of embedding and unembedding in the constant, key and other frequencies."""
    figure = new_panels(
        "Weight norms",
        ("By tensor", "W_E and W_U by frequency"),
        column_widths=[0.62, 0.38],
        row_height=330,
        horizontal_spacing=0.09,
    )
    every = dict.fromkeys(name for side in sides for name in side.quantities if name.startswith("l2."))
    tensors = [name for name in every if name != "l2.total"]
    for index, side in enumerate(sides):
        values = [side.quantities[name].value if name in side.quantities else None for name in tensors]
        _bars(figure, side, index, [short_name(name.removeprefix("l2.")) for name in tensors], values, row=1, col=1)
        measured = side.results["weight_norms"].isel(step=0)
        parts = [
            (f"{symbol} {part}", measured[f"{name}_l2"].sel(part=part).item())
            for name, symbol in _MATRICES
            for part in _PARTS
        ]
        labels, lengths = zip(*parts, strict=True)
        _bars(figure, side, index, labels, lengths, legend=False, row=1, col=2)
    figure.update_yaxes(title_text="L2 norm", rangemode="tozero")
    return _with_room(figure)


def ranks(sides: Sequence[Side]) -> "go.Figure":
    """Effective ranks, and the share of variance of the embedding's principal components."""
    figure = new_panels(
        "Dimensions", ("Effective rank", "Principal components of W_E"), row_height=300, horizontal_spacing=0.09
    )
    for index, side in enumerate(sides):
        measured = side.results["representation"].isel(step=0)
        _bars(
            figure,
            side,
            index,
            [str(name) for name in measured.matrix.values],
            measured.effective_rank.values.tolist(),
            row=1,
            col=1,
        )
        components = measured.component.values
        line = {"color": SIDE_COLORS[index], "width": 2}
        trace = {
            "x": components,
            "y": measured.variance_share.values,
            "mode": "lines+markers",
            "line": line,
            "name": text(side.label),
        }
        figure.add_scatter(**trace, showlegend=False, hovertemplate="component %{x}: %{y:.1%}", row=1, col=2)
    figure.update_yaxes(title_text="effective rank", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="share of variance", tickformat=".0%", rangemode="tozero", row=1, col=2)
    figure.update_xaxes(title_text="component", row=1, col=2)
    return _with_room(figure)


_MATRICES, _PARTS = (("embedding", "W_E"), ("unembedding", "W_U")), ("constant", "key", "other")


def _bars(
    figure: "go.Figure",
    side: Side,
    index: int,
    labels: Sequence[str],
    values: Sequence[float | None],
    *,
    legend: bool = True,
    **where: Any,
) -> None:
    """One bar per label in the color of the side, beside those of the other sides."""
    bar = {
        "x": list(labels),
        "y": list(values),
        "name": text(side.label),
        "marker_color": SIDE_COLORS[index],
        "showlegend": legend,
    }
    figure.add_bar(**bar, hovertemplate="%{x}: %{y:.4g}", **where)


def _periodic(side: Side) -> str:
    counts = side.results["neuron_periodicity"].isel(step=0)
    return f"{int(counts.periodic_neurons.sum())} of {counts.sizes['neuron']} periodic"


def _with_room(figure: "go.Figure") -> "go.Figure":
    """The legend above the panels, where no bar stands."""
    figure.update_layout(
        barmode="group", legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.08, "yanchor": "bottom"}
    )
    return figure


def text(name: str) -> str:
    """The name of a folder, for plotly, which takes a few tags for markup."""
    return escape(name)
