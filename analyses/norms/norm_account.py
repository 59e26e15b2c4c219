"""Norm account. Which weights, and in which directions, lose the norm that cleanup takes away?

The squared norm of all weights, Σw², is taken apart into parts that share nothing, so that it is their sum exactly:

    W_E (rows: residues)       by the orthonormal Fourier basis: constant, key and other frequencies
                               (of two vocabularies the sum)
    W_U (columns: classes)     likewise
    neurons of the last layer  column of W_in, entry of b_in and row of W_out, by the neuron's frequency:
                               key, other, or dead (of an MLP with several hidden layers column of the last W_l,
                               entry of the last b_l, and row of W_out)
    every other tensor         as a whole; rows and columns without a phase (`=`; 0 for × and ÷) on their own

The key frequencies, and the frequency of every neuron, are those of the last checkpoint, so that a part is always the
same weights. The contribution of a part to a phase of training is its squared norm at the end minus that at the start,
at the saved steps nearest to the boundaries of `transitions`; contributions add up to the change of the total. Without
boundaries only the whole run is accounted for.

It cannot tell why a part shrank: weight decay shrinks all that the gradient does not hold, and what is lost in a
direction may have been of no use or have been made up for elsewhere.
"""

import numpy as np
import torch
import xarray as xr

from interp.figures import NEUTRAL, PALETTE, PHASE_COLORS, color_of_frequency, new_panels, short_name
from interp.mathematics import fourier
from interp.models import neuron_axes

REFERENCE = (
    "Nanda et al. 2023, arXiv:2301.05217, §5.2; Liu et al. 2022 (Omnigrok), arXiv:2210.01117; the account is ours"
)
NEEDS = ("transitions",)

PHASES = ("memorization", "circuit formation", "cleanup", "after cleanup", "whole run")
MATRICES = ("W_E", "W_U", "neurons")
DIRECTIONS = ("constant", "key", "other", "no phase")
NEURONS = ("key", "other", "dead")


def compute(run) -> xr.Dataset:
    """`squared_norm` [step, part] and `total` [step]; `boundary` [phase, end]: the steps accounted for;
    `change` [phase, part]; `change_by_frequency` [phase, matrix, frequency], where a neuron counts for its frequency;
    `is_key` [frequency].

    NaN for a phase whose boundaries are unknown, and for a matrix that the model does not have.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> from tempfile import TemporaryDirectory
    >>> pizza = circuit_checkpoint(interp.Task(11), circuit_neurons([1, 2]))
    >>> with TemporaryDirectory() as folder:
    ...     with interp.RunWriter.create(f"{folder}/run", pizza.task, pizza.model) as writer:
    ...         writer.append(0, pizza.weights)
    ...     found = compute(writer.run)
    >>> float(abs(found.squared_norm.sum("part") - found.total).max()) < 1e-3
    True
    >>> found.squared_norm.sel(part=["W_E key", "W_E other"]).values.round(3).tolist()  # four waves of 11/2
    [[22.0, 0.0]]
    """
    steps, key = run.steps, run.key_frequencies
    account = _Account(run.last, key)
    rows = [account.of({name: weight.double() for name, weight in run[step].weights.items()}) for step in steps]
    squares, by_frequency = np.stack([parts for parts, _ in rows]), np.stack([powers for _, powers in rows])
    index = _boundary_index(steps, run.result("transitions"))
    start, end = index.T
    known = (start >= 0) & (end >= 0)

    def changes(values: np.ndarray) -> np.ndarray:
        difference = values[end] - values[start]
        return np.where(known.reshape(-1, *[1] * (values.ndim - 1)), difference, np.nan)

    boundary = np.where(index >= 0, np.array(steps, dtype=np.float64)[index], np.nan)
    frequencies = np.arange(1, run.last.spectrum.n_frequencies + 1, dtype=np.int32)
    one, name, count = {"units": "1"}, {"units": "name"}, {"units": "updates"}
    return xr.Dataset(
        {
            "squared_norm": (("step", "part"), squares, {"long_name": "squared norm"} | one),
            "total": ("step", squares.sum(1), {"long_name": "squared norm of all weights"} | one),
            "boundary": (("phase", "end"), boundary, {"long_name": "saved step nearest to the boundary"} | count),
            "change": (("phase", "part"), changes(squares), {"long_name": "change of the squared norm"} | one),
            "change_by_frequency": (
                ("phase", "matrix", "frequency"),
                changes(by_frequency),
                {"long_name": "change by frequency"} | one,
            ),
            "is_key": ("frequency", np.isin(frequencies, key), {"long_name": "key at the last checkpoint"} | one),
        },
        coords={
            "step": ("step", np.array(steps, dtype=np.int32), {"long_name": "step"} | count),
            "part": ("part", np.array(account.names), {"long_name": "part of the weights"} | name),
            "phase": ("phase", np.array(PHASES), {"long_name": "phase of training"} | name),
            "end": ("end", np.array(["start", "end"]), {"long_name": "end of the phase"} | name),
            "matrix": ("matrix", np.array(MATRICES), {"long_name": "weights"} | name),
            "frequency": ("frequency", frequencies, {"long_name": "frequency k"} | one),
        },
    )


def summary(result: xr.Dataset) -> dict:
    """For every phase its steps, the change of the squared norm and the contribution of every part, the largest loss
    first; null for a phase whose boundaries are unknown."""
    phases = {}
    for phase in PHASES:
        change = result.change.sel(phase=phase).values
        start, end = result.boundary.sel(phase=phase).values
        order = np.argsort(change, kind="stable")
        contributions = {str(result.part.values[index]): float(change[index]) for index in order}
        known = np.isfinite(change).all()
        values = (
            {"steps": [int(start), int(end)], "change": float(change.sum()), "contributions": contributions}
            if known
            else None
        )
        phases[phase.replace(" ", "_")] = values
    return phases


def plot(result: xr.Dataset):
    """The parts over training, what each phase added and took, and, by frequency, what cleanup (or the whole run)
    did."""
    import plotly.graph_objects as go

    known = [phase for phase in PHASES[:4] if np.isfinite(result.change.sel(phase=phase).values).all()] or [PHASES[4]]
    shown = "cleanup" if "cleanup" in known else PHASES[4]
    kept = [
        str(part) for part in result.part.values if result.squared_norm.sel(part=part).max() > 0.01 * result.total.max()
    ]
    panels = (
        "Squared norm by part",
        "Change in each phase",
        *(f"{matrix[:1].upper()}{matrix[1:]} by frequency: {shown}" for matrix in MATRICES),
        f"Contributions: {shown}",
    )
    figure = new_panels(
        "Norm account", panels, reference=REFERENCE, vertical_spacing=0.13, row_height=320, horizontal_spacing=0.14
    )
    for index, part in enumerate(kept):
        color, hatched = PALETTE[index % len(PALETTE)], index >= len(PALETTE)  # there are more parts than colors
        line = {"width": 0.8, "color": color}
        trace = go.Scatter(
            x=result.step.values, y=result.squared_norm.sel(part=part).values, name=part, line=line, stackgroup="norm"
        )
        trace.update(fillpattern={"shape": "/", "size": 6, "fgcolor": color} if hatched else None)
        figure.add_trace(trace.update(hovertemplate=f"{part}<br>step %{{x}}: %{{y:.4g}}<extra></extra>"), row=1, col=1)
    of_phases = {**PHASE_COLORS, PHASES[3]: PHASE_COLORS["stable"], PHASES[4]: PALETTE[0]}
    for phase in known:
        bars = go.Bar(
            x=kept, y=result.change.sel(phase=phase, part=kept).values, name=phase, marker_color=of_phases[phase]
        )
        figure.add_trace(
            bars.update(legend="legend2").update(hovertemplate=f"{phase}<br>%{{x}}: %{{y:.4g}}<extra></extra>"),
            row=1,
            col=2,
        )
    frequencies, key = (
        result.frequency.values,
        [int(k) for k in result.frequency.values[result.is_key.values.astype(bool)]],
    )
    colors = [color_of_frequency(int(k), key) if int(k) in key else NEUTRAL for k in frequencies]
    for place, matrix in enumerate(MATRICES, start=2):
        values = result.change_by_frequency.sel(phase=shown, matrix=matrix).values
        bars = go.Bar(
            x=frequencies,
            y=values,
            marker_color=colors,
            showlegend=False,
            hovertemplate="k = %{x}: %{y:.4g}<extra></extra>",
        )
        figure.add_trace(bars, row=1 + place // 2, col=1 + place % 2)
        figure.update_xaxes(title_text="frequency k", row=1 + place // 2, col=1 + place % 2)
    change = result.change.sel(phase=shown, part=kept).sortby(
        result.change.sel(phase=shown, part=kept), ascending=False
    )
    bars = go.Bar(
        x=change.values,
        y=[str(part) for part in change.part.values],
        orientation="h",
        marker_color=PALETTE[0],
        showlegend=False,
    )
    figure.add_trace(bars.update(hovertemplate="%{y}: %{x:.4g}<extra></extra>"), row=3, col=2)
    figure.update_layout(
        margin_r=190,
        legend={"x": 1.02, "y": 1, "font_size": 10, "yanchor": "top"},
        legend2={"x": 1.02, "y": 0.62, "font_size": 11, "yanchor": "top"},
    )
    figure.update_xaxes(title_text="step (updates)", row=1, col=1)
    figure.update_xaxes(tickfont_size=9, tickangle=-40, row=1, col=2)
    figure.update_yaxes(title_text="Σw²", row=1, col=1)
    figure.update_yaxes(title_text="change of Σw²", row=1, col=2)
    figure.update_yaxes(title_text="change of Σw²", row=2)
    figure.update_yaxes(title_text="change of Σw²", row=3, col=1)
    figure.update_xaxes(title_text="change of Σw²", row=3, col=2)
    figure.update_yaxes(tickfont_size=9, row=3, col=2)
    return figure


class _Account:
    """The parts of the weights of one model, and how a set of weights fills them."""

    def __init__(self, last, key: list[int]) -> None:
        self.rows = {"embed.W_E": last.token_rows, "unembed.W_U": (torch.from_numpy(last.task.coordinates.classes),)}
        self.key = key
        self.n_frequencies, self.n_layers = last.spectrum.n_frequencies, last.model.n_layers
        self.is_key = torch.isin(torch.arange(self.n_frequencies + 1), torch.tensor(key, dtype=torch.long))
        self.neuron_frequency = last.spectrum.neuron_frequencies
        self.neuron_axis = neuron_axes(last.model)
        self.names = list(self._parts({name: weight.double() for name, weight in last.weights.items()})[0])

    def of(self, weights: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """The squared norm of every part, and of every frequency [matrix, frequency]."""
        parts, powers = self._parts(weights)
        absent = np.full(self.n_frequencies, np.nan)
        return np.array(list(parts.values())), np.stack([powers.get(matrix, absent) for matrix in MATRICES])

    def _parts(self, weights: dict[str, torch.Tensor]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        parts: dict[str, float] = {}
        powers: dict[str, np.ndarray] = {}
        for name, weight in weights.items():
            if name in self.rows:
                symbol = name.rpartition(".")[2]
                values, powers[symbol] = self._directions(weight if name == "embed.W_E" else weight.T, self.rows[name])
                parts |= {f"{symbol} {direction}": value for direction, value in zip(DIRECTIONS, values, strict=True)}
            elif name in self.neuron_axis:
                squares = weight.square() if weight.ndim == 1 else weight.square().sum(1 - self.neuron_axis[name])
                by_frequency = torch.zeros(self.n_frequencies + 1, dtype=torch.float64).index_add_(
                    0, self.neuron_frequency, squares
                )
                powers["neurons"] = powers.get("neurons", 0) + by_frequency[1:].numpy()
                dead, key = float(by_frequency[0]), float(by_frequency[self.is_key].sum())
                values = (key, float(by_frequency[1:][~self.is_key[1:]].sum()), dead)
                short = name.rpartition(".")[2]
                parts |= {f"{short} {group} neurons": value for group, value in zip(NEURONS, values, strict=True)}
            else:
                parts[self._short(name)] = float(weight.square().sum())
        return parts, powers

    def _short(self, name: str) -> str:
        """`W_K`, `ln1.w` of a norm, and `1.W_K` where there are several layers."""
        layer = name.removeprefix("blocks.").partition(".")[0]
        return f"{layer}.{short_name(name)}" if self.n_layers > 1 and layer.isdigit() else short_name(name)

    def _directions(self, matrix: torch.Tensor, rows: tuple[torch.Tensor, ...]) -> tuple[tuple[float, ...], np.ndarray]:
        inside = torch.cat([matrix[index] for index in rows], dim=1)
        power = fourier.power(inside).sum(1)
        constant = float(inside.mean(0).square().sum()) * len(inside)
        outside = torch.ones(len(matrix), dtype=torch.bool)
        outside[torch.cat(rows)] = False
        key, other = float(power[self.is_key[1:]].sum()), float(power[~self.is_key[1:]].sum())
        return (constant, key, other, float(matrix[outside].square().sum())), power.numpy()


def _boundary_index(steps: list[int], transitions: xr.Dataset) -> np.ndarray:
    """The index of the checkpoints at which each phase starts and ends [phase, end]; −1 where unknown."""
    found = transitions.boundary_at.sel(boundary_value="step").values
    nearest = [int(np.abs(np.array(steps) - step).argmin()) if np.isfinite(step) else -1 for step in found]
    first, last = 0, len(steps) - 1
    return np.array([[first, nearest[0]], nearest[:2], nearest[1:], [nearest[2], last], [first, last]])
