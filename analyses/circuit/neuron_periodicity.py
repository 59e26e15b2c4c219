"""Neuron periodicity. Does each neuron respond to one frequency of its inputs?

The activation N[a, b] of a neuron of the last layer, after the nonlinearity at the last position, centred over the n²
pairs in phase coordinates, is taken apart by H = F N Fᵀ (F: the orthonormal real Fourier basis). The share of frequency
k is

    share_k = Σ_{f,g ∈ {0, 2k−1, 2k}, (f,g) ≠ (0,0)} H[f,g]² / Σ_{f,g} H[f,g]²

(Nanda et al. 2023, §5.1 and the authors' code). The dominant frequency is the k of the largest share, the fraction
explained is that share, and a neuron is periodic from 0.85 on. Phases are those of the neuron's means over the other
input, ∝ cos(w_k t − φ), and NaN where these do not answer to k (the means of (cos(w_k a − α) + cos(w_k b − β))² answer
to 2k alone). A neuron whose variance is below 1e-8 of the average neuron's is dead: frequency 0, NaN elsewhere.

It cannot tell that the network uses a periodic neuron, and 0.85 is the literature's convention, no significance level.
"""

import numpy as np
import torch
import xarray as xr

from interp.analysis import axes
from interp.figures import (
    NEUTRAL,
    SEQUENTIAL,
    apply_style,
    color_of_frequency,
    key_frequencies_of,
    named_step,
    percent_axis,
    threshold_line,
)
from interp.mathematics import fourier
from interp.runs import Checkpoint

REFERENCE = "Nanda et al. 2023, arXiv:2301.05217, §5.1 and App. C"
READS = ("neurons",)
CORE = True
PLACE = 1


def measure(checkpoint: Checkpoint, *, threshold: float = 0.85) -> xr.Dataset:
    """`share` [neuron, frequency]; `dominant_frequency`, `fraction_explained`, `phase_a`, `phase_b` (radians),
    `variance` [neuron]; `periodic_neurons` [frequency], counted from `threshold` on.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> found = measure(circuit_checkpoint(interp.Task(11), circuit_neurons([2, 5], per_frequency=9)))
    >>> found.periodic_neurons.values.tolist(), bool((found.fraction_explained > 0.95).all())
    ([0, 9, 0, 0, 9], True)
    """
    n_frequencies = checkpoint.spectrum.n_frequencies
    shares, dominant = checkpoint.spectrum.neuron_shares, checkpoint.spectrum.neuron_frequencies
    alive = dominant > 0
    explained = torch.where(alive, shares.nan_to_num(nan=-1).max(0).values, torch.nan)
    over_a, over_b = checkpoint.spectrum.neuron_means
    counts = torch.bincount(dominant[explained >= threshold], minlength=n_frequencies + 1)[1:]
    one = {"units": "1"}
    return xr.Dataset(
        {
            "share": (
                ("neuron", "frequency"),
                _float32(shares.T),
                {"long_name": "share of variance in the 3×3 block"} | one,
            ),
            "dominant_frequency": (
                "neuron",
                dominant.numpy().astype(np.int32),
                {"long_name": "dominant frequency (0: dead)"} | one,
            ),
            "fraction_explained": (
                "neuron",
                _float32(explained),
                {"long_name": "fraction explained by the dominant frequency"} | one,
            ),
            "phase_a": (
                "neuron",
                _phase(over_a, dominant),
                {"long_name": "phase over the first input", "units": "rad"},
            ),
            "phase_b": (
                "neuron",
                _phase(over_b, dominant),
                {"long_name": "phase over the second input", "units": "rad"},
            ),
            "variance": (
                "neuron",
                _float32(checkpoint.spectrum.neuron_variance),
                {"long_name": "variance over all pairs"} | one,
            ),
            "periodic_neurons": (
                "frequency",
                counts.numpy().astype(np.int32),
                {"long_name": f"neurons from {threshold:g} on"} | one,
            ),
        },
        coords=axes(
            {
                "neuron": ("neuron", np.arange(len(dominant), dtype=np.int32), {"long_name": "neuron"} | one),
                "frequency": (
                    "frequency",
                    np.arange(1, n_frequencies + 1, dtype=np.int32),
                    {"long_name": "frequency k"} | one,
                ),
            }
        ),
        attrs={"threshold": threshold},
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step: how many neurons are periodic, in all and by frequency (JSON keys are strings), how many are
    dead, and the median fraction explained."""
    last = result.isel(step=-1)
    counts = {int(k): int(v) for k, v in zip(last.frequency.values, last.periodic_neurons.values, strict=True) if v > 0}
    explained = last.fraction_explained.values
    return {
        "step": int(last.step),
        "neurons": int(last.sizes["neuron"]),
        "periodic_neurons": sum(counts.values()),
        "periodic_neurons_per_frequency": {str(k): count for k, count in counts.items()},
        "dead_neurons": int((last.dominant_frequency.values == 0).sum()),
        "median_fraction_explained": float(np.nanmedian(explained)) if np.isfinite(explained).any() else None,
    }


def plot(result: xr.Dataset):
    """The neuron–frequency map of the last step, and how fraction explained and the count of periodic neurons came
    about."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    last = result.isel(step=-1)
    groups = sorted(map(int, last.periodic_neurons.frequency.values[np.argsort(-last.periodic_neurons.values)[:6]]))
    groups = [k for k in groups if int(last.periodic_neurons.sel(frequency=k)) > 0]
    key = key_frequencies_of(result, groups)
    titles = [
        f"Neuron–frequency map, {named_step(int(last.step))} (neurons sorted by dominant frequency)",
        "Fraction explained over training",
        "Periodic neurons by frequency",
    ]
    figure = make_subplots(
        rows=2,
        cols=2,
        specs=[[{"colspan": 2}, None], [{}, {}]],
        subplot_titles=titles,
        vertical_spacing=0.15,
        horizontal_spacing=0.16,
        row_heights=[0.53, 0.47],
    )
    apply_style(figure, "Neuron periodicity", REFERENCE, 800)
    figure.update_annotations(font_size=13)
    order = np.lexsort((-np.nan_to_num(last.fraction_explained.values), last.dominant_frequency.values))
    figure.add_trace(
        go.Heatmap(
            z=np.round(last.share.values[order].T, 4),
            y=last.frequency.values,
            customdata=np.broadcast_to(last.neuron.values[order], (last.sizes["frequency"], len(order))),
            hovertemplate="neuron %{customdata}<br>frequency %{y}<br>share %{z:.1%}<extra></extra>",
            colorscale=SEQUENTIAL,
            zmin=0,
            zmax=1,
            colorbar={
                "title": {"text": "share", "font": {"size": 12}},
                "tickformat": ".0%",
                "len": 0.5,
                "y": 0.77,
                "thickness": 12,
            },
        ),
        row=1,
        col=1,
    )
    figure.update_xaxes(title_text="neuron, in this order", row=1, col=1)
    figure.update_yaxes(title_text="frequency k", row=1, col=1)
    steps = result.step.values
    quartiles = np.nanpercentile(np.nan_to_num(result.fraction_explained.values), [25, 50, 75], axis=1)
    for values, name, dash in zip(
        quartiles, ("lower quartile", "median", "upper quartile"), ("dot", "solid", "dot"), strict=True
    ):
        line = {"color": NEUTRAL if dash == "dot" else "#222", "dash": dash, "width": 1.8}
        figure.add_trace(go.Scatter(x=steps, y=values, name=name, line=line, legend="legend"), row=2, col=1)
    threshold_line(figure, float(result.attrs["threshold"]), 2, 1, label=f"{float(result.attrs['threshold']):g}")
    percent_axis(figure, row=2, col=1, title_text="fraction explained")
    colored = [k for k in groups if k in key]
    for k in colored:
        counts = result.periodic_neurons.sel(frequency=k).values
        line = {"color": color_of_frequency(k, key), "width": 1}
        figure.add_trace(go.Scatter(x=steps, y=counts, name=f"k = {k}", stackgroup="count", line=line), row=2, col=2)
    others = (
        result.periodic_neurons.sum("frequency").values
        - result.periodic_neurons.sel(frequency=colored).sum("frequency").values
    )
    figure.add_trace(
        go.Scatter(x=steps, y=others, name="other k", stackgroup="count", line={"color": NEUTRAL, "width": 1}),
        row=2,
        col=2,
    )
    figure.update_yaxes(title_text="neurons", range=[0, result.sizes["neuron"]], row=2, col=2)
    figure.update_xaxes(title_text="step (updates)", row=2)
    figure.update_layout(legend={"y": 0.36, "yanchor": "top"})
    return figure


def _phase(response: torch.Tensor, dominant: torch.Tensor) -> np.ndarray:
    """φ of a response ∝ cos(w_k t − φ) at each neuron's dominant frequency."""
    cosine_sine = fourier.coefficients(response)  # [frequency, 2, neuron]
    index = (dominant - 1).clamp(min=0)
    cosine, sine = cosine_sine[index, :, torch.arange(len(dominant))].T
    # Below this is rounding, which has a phase too, but none that means anything.
    floor = 64 * torch.finfo(response.dtype).eps * response.norm(dim=0)
    return _float32(
        torch.where((dominant > 0) & (torch.hypot(cosine, sine) > floor), torch.atan2(sine, cosine), torch.nan)
    )


def _float32(values: torch.Tensor) -> np.ndarray:
    return values.numpy().astype(np.float32)
