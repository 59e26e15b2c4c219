"""Neuron responses. What does each neuron do as its first input goes around?

The mean of a neuron's activation N[a, b] over b, as a function of a, in phase coordinates,

    N̄[a] = 1/n Σ_b N[a, b]

of a neuron that answers to one frequency k (`neuron_periodicity`) is a wave in w_k a: drawn over the turns w_k a / 2π
the periodic neurons of a frequency lie on one curve each, of one period. At most 20 checkpoints of a run are kept, the
first and the last among them: n numbers for every neuron are as much as all other results together.

It cannot show what a neuron does with both inputs together: one that answers to a + b alone has a constant mean.
"""

import numpy as np
import torch
import xarray as xr

from interp.analysis import axes
from interp.figures import NEUTRAL, color_of_frequency, key_frequencies_of, named_step, new_panels
from interp.runs import Checkpoint

REFERENCE = "Nanda et al. 2023, arXiv:2301.05217, §5.1 and App. C"
READS = ("neurons",)
PLACE = 2
MOST_STEPS = 20
SCALES = {}  # its numbers are not compared
MOST_PANELS = 6
MOST_LINES = 24


def measure(checkpoint: Checkpoint, *, threshold: float = 0.85) -> xr.Dataset:
    """`mean_over_b` [neuron, input], and of the frequency that explains most of a neuron's variance
    `dominant_frequency` (0 for a dead neuron) and `fraction_explained` [neuron], as in `neuron_periodicity`; neurons
    are drawn from `threshold` on.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> checkpoint = circuit_checkpoint(interp.Task(11), circuit_neurons([2]))
    >>> found = measure(checkpoint)
    >>> bool(np.allclose(found.mean_over_b.T, checkpoint.neurons.mean(1), atol=1e-6))
    True
    """
    shares, dominant = checkpoint.spectrum.neuron_shares, checkpoint.spectrum.neuron_frequencies
    explained = torch.where(dominant > 0, shares.nan_to_num(nan=-1).max(0).values, torch.nan)
    over_b, _ = checkpoint.spectrum.neuron_means
    one = {"units": "1"}
    return xr.Dataset(
        {
            "mean_over_b": (
                ("neuron", "input"),
                over_b.T.numpy().astype(np.float32),
                {"long_name": "activation, mean over the second input"} | one,
            ),
            "dominant_frequency": (
                "neuron",
                dominant.numpy().astype(np.int32),
                {"long_name": "dominant frequency (0: dead)"} | one,
            ),
            "fraction_explained": (
                "neuron",
                explained.numpy().astype(np.float32),
                {"long_name": "fraction explained by the dominant frequency"} | one,
            ),
        },
        coords=axes(
            {
                name: (name, np.arange(size, dtype=np.int32), {"long_name": label} | one)
                for name, size, label in (
                    ("neuron", len(dominant), "neuron"),
                    ("input", checkpoint.task.coordinates.order, "phase of the first input"),
                )
            }
        ),
        attrs={"threshold": threshold},
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step: how many neurons there are, the frequencies that have periodic ones, and the steps kept."""
    last = result.isel(step=-1)
    periodic = last.dominant_frequency.values[_is_periodic(last)]
    return {
        "step": int(last.step),
        "neurons": int(last.sizes["neuron"]),
        "frequencies_with_periodic_neurons": sorted({int(k) for k in periodic}),
        "steps_kept": [int(step) for step in result.step.values],
    }


def plot(result: xr.Dataset):
    """The periodic neurons of the last step as lines over the angle of their first input, a panel for each of the
    frequencies with the most of them; where none is periodic, neurons as they are, over the input."""
    import plotly.graph_objects as go

    last = result.isel(step=-1)
    frequencies, counts = np.unique(last.dominant_frequency.values[_is_periodic(last)], return_counts=True)
    groups = sorted(int(k) for k in frequencies[np.argsort(-counts, kind="stable")][:MOST_PANELS])
    panels = [f"k = {k}: {counts[frequencies == k][0]} neurons" for k in groups]
    title = f"Neuron responses, {named_step(int(last.step))}"
    none = [f"none is periodic: {min(last.sizes['neuron'], MOST_LINES)} of all neurons"]
    figure = new_panels(title, panels or none, reference=REFERENCE, vertical_spacing=0.14)
    key = key_frequencies_of(result, groups)
    for place, k in enumerate(groups or [1]):
        x, y = _lines(last, _is_periodic(last) & (last.dominant_frequency.values == k) if groups else slice(None), k)
        line = {"color": color_of_frequency(k, key) if groups else NEUTRAL, "width": 0.7}
        trace = go.Scatter(x=x, y=y, mode="lines", line=line, opacity=0.45, hoverinfo="skip", showlegend=False)
        figure.add_trace(trace, row=place // 2 + 1, col=place % 2 + 1)
    figure.update_xaxes(title_text="w_k a / 2π" if groups else "a / n", title_standoff=4, range=[0, 1])
    figure.update_yaxes(title_text="mean over b, scaled", range=[-1.05, 1.05])
    return figure


def _is_periodic(last: xr.Dataset) -> np.ndarray:
    return (last.dominant_frequency.values > 0) & (last.fraction_explained.values >= float(last.attrs["threshold"]))


def _lines(last: xr.Dataset, chosen: np.ndarray | slice, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Some neurons (at most two dozen of them, evenly chosen) as one broken line over the angle of their input at a
    frequency, in turns, each centred and scaled to at most 1."""
    lines = last.mean_over_b.values[chosen]
    lines = lines[:: max(1, -(-len(lines) // MOST_LINES))]
    lines = lines - lines.mean(1, keepdims=True)
    lines = lines / np.maximum(np.abs(lines).max(1, keepdims=True), 1e-30)
    turns = k * last.input.values.astype(np.int64) % last.sizes["input"] / last.sizes["input"]
    order = np.argsort(turns, kind="stable")
    x = np.append(np.round(turns[order], 4), np.nan)
    y = np.concatenate([lines[:, order], np.full((len(lines), 1), np.nan)], axis=1)
    return np.tile(x, len(lines)), np.round(y.reshape(-1), 3)
