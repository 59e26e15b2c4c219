"""MLP structure. Does the MLP hand the logits one cosine and one sine per key frequency?

The neurons' map to the logits, W_L = W_out W_U [neuron, class], is taken apart by the orthonormal real Fourier basis
over the classes,

    W_L = 1·(constant) + Σ_k u_k F_{2k−1}ᵀ + v_k F_{2k}ᵀ,

so that u_k, v_k are directions over the neurons. If the circuit is the published one, the MLP's output along u_k is a
wave in the sum of the inputs: the fraction of the variance of u_k·MLP(s, t) that cos w_k(s+t) explains, and of
v_k·MLP(s, t) that sin w_k(s+t) explains, over the n² pairs in phase coordinates; NaN where the MLP's output along a
direction is constant, and for the sine of k = n/2.

Residual: ‖W_L − its part at key frequencies‖ / ‖W_L‖ (Frobenius; the constant counts as residual). From the singular
values σ: effective rank exp(−Σ q log q), q = σ/Σσ, and rank: the smallest r with √(Σ_{i>r} σ_i²) ≤ `tolerance`·‖W_L‖.
Two per frequency are expected.

It cannot tell what the skip connection around the MLP adds to the logits, nor, where a norm stands before the
unembedding (its gain is folded into W_L), by which length it divides each example.
"""

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from interp.analysis import axes
from interp.figures import NEUTRAL, PALETTE, color_of_frequency, named_step, new_panels, percent_axis
from interp.mathematics import fourier
from interp.mathematics.effective_rank import effective_number
from interp.mathematics.key_frequencies import in_phase
from interp.runs import Checkpoint

REFERENCE = (
    "Nanda et al. 2023, arXiv:2301.05217, §4.2 and Table 1; effective rank: DeMoss et al. 2024, arXiv:2412.09810"
)
CORE = True
PLACE = 10
SCALES = {}  # its numbers are not compared
TABLES = (("frequency", "wave"),)
WAVES = ("cosine", "sine")


def measure(checkpoint: Checkpoint, *, key_frequencies: list[int] | None = None, tolerance: float = 0.05) -> xr.Dataset:
    """`singular_value` [component], `effective_rank`, `rank`; `norm` and `fraction_explained` [frequency, wave], the
    latter NaN but for key frequencies; `is_key` [frequency]; `residual`.

    `key_frequencies` are those of the run's last checkpoint; of a checkpoint alone, its own.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> found = measure(circuit_checkpoint(interp.Task(11), circuit_neurons([2, 5])))
    >>> found["rank"].item(), round(found.effective_rank.item(), 3)  # two directions per frequency
    (4, 4.0)
    """
    phase = checkpoint.task.coordinates
    key = checkpoint.spectrum.frequencies_to_use(key_frequencies)
    frequencies = np.arange(1, checkpoint.spectrum.n_frequencies + 1, dtype=np.int32)
    is_key = np.isin(frequencies, key)
    W_L = checkpoint.W_L[:, torch.from_numpy(phase.classes)]
    singular = torch.linalg.svdvals(W_L)
    left_over = singular.square().flip(0).cumsum(0).flip(0).sqrt()  # entry r: without the first r components
    total = left_over[0]
    directions = fourier.coefficients(W_L.T)  # [K, (cos, sin), d_mlp]
    norm = directions.norm(dim=-1)
    chosen = torch.from_numpy(np.flatnonzero(is_key))
    # The neurons are projected in their own type: the large product of this measure; [pairs, 2 per frequency].
    along = checkpoint.neurons.flatten(0, 1) @ directions[chosen].flatten(0, 1).to(checkpoint.neurons.dtype).T
    explained = torch.full((len(frequencies), 2), torch.nan, dtype=torch.float64)
    explained[chosen] = _explained(
        in_phase(along.unflatten(0, checkpoint.neurons.shape[:2]), phase).movedim(-1, 0), chosen
    )
    key_part = norm[torch.from_numpy(is_key)].square().sum()
    one = {"units": "1"}
    return xr.Dataset(
        {
            "singular_value": ("component", singular.numpy(), {"long_name": "singular value of W_L"} | one),
            "effective_rank": ((), effective_number(singular), {"long_name": "effective rank of W_L"} | one),
            "rank": (
                (),
                np.int32((left_over > tolerance * total).sum()),
                {"long_name": f"rank of W_L up to {tolerance:g} of its norm"} | one,
            ),
            "norm": (("frequency", "wave"), norm.numpy(), {"long_name": "norm of u_k and v_k"} | one),
            "fraction_explained": (
                ("frequency", "wave"),
                explained.numpy(),
                {"long_name": "fraction of variance explained"} | one,
            ),
            "is_key": ("frequency", is_key, {"long_name": "key frequency of the last checkpoint"} | one),
            "residual": (
                (),
                _share(total.square() - key_part, total),
                {"long_name": "norm of W_L outside key frequencies, share"} | one,
            ),
        },
        coords=axes(
            {
                "component": (
                    "component",
                    np.arange(1, len(singular) + 1, dtype=np.int32),
                    {"long_name": "component"} | one,
                ),
                "frequency": ("frequency", frequencies, {"long_name": "frequency k"} | one),
                "wave": ("wave", np.array(WAVES), {"long_name": "wave", "units": "name"}),
            }
        ),
        attrs={"tolerance": tolerance},
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step: rank and effective rank of W_L, its share (of the norm) outside the key frequencies, and the
    fraction explained along u_k and v_k by key frequency (JSON keys are strings), with the lowest of them."""
    last = result.isel(step=-1)
    key = _key(last)
    fractions = {
        str(k): {str(wave): float(last.fraction_explained.sel(frequency=k, wave=wave)) for wave in last.wave.values}
        for k in key
    }
    known = [value for by_wave in fractions.values() for value in by_wave.values() if np.isfinite(value)]
    return {
        "step": int(last.step),
        "key_frequencies": key,
        "rank": int(last["rank"]),
        "effective_rank": float(last.effective_rank),
        "residual": float(last.residual),
        "fraction_explained": fractions,
        "lowest_fraction_explained": min(known) if known else None,
    }


def plot(result: xr.Dataset):
    """Singular values and the norms of u_k, v_k at the last step; fraction explained, residual and ranks over
    training."""
    import plotly.graph_objects as go

    last, steps = result.isel(step=-1), result.step.values
    key = _key(last)
    panels = (
        f"Singular values of W_L, {named_step(int(last.step))} (rank {int(last['rank'])})",
        f"Norms of u_k and v_k, {named_step(int(last.step))}",
        "Fraction explained along u_k (solid) and v_k (dotted)",
        "Residual outside key frequencies",
        "Rank of W_L",
    )
    figure = new_panels("MLP structure", panels, reference=REFERENCE, vertical_spacing=0.11)
    at_rank = np.where(last.component.values <= int(last["rank"]), PALETTE[0], NEUTRAL)
    figure.add_trace(
        go.Bar(x=last.component.values, y=last.singular_value.values, marker_color=at_rank, showlegend=False),
        row=1,
        col=1,
    )
    figure.update_xaxes(title_text="component", row=1, col=1)
    figure.update_yaxes(title_text="singular value", row=1, col=1)
    colors = [color_of_frequency(int(k), key) for k in last.frequency.values]
    for wave, opacity in zip(WAVES, (1.0, 0.5), strict=True):
        bars = go.Bar(
            x=last.frequency.values,
            y=last.norm.sel(wave=wave).values,
            marker_color=colors,
            opacity=opacity,
            showlegend=False,
        )
        bars.hovertemplate = f"k = %{{x}}, {wave}<br>norm %{{y:.4g}}<extra></extra>"
        figure.add_trace(bars, row=1, col=2)
    figure.update_xaxes(title_text="frequency k", row=1, col=2)
    figure.update_yaxes(title_text="norm", row=1, col=2)
    for k in key:
        for wave, dash in zip(WAVES, ("solid", "dot"), strict=True):
            values = result.fraction_explained.sel(frequency=k, wave=wave).values
            line = {"color": color_of_frequency(k, key), "width": 1.8, "dash": dash}
            trace = go.Scatter(
                x=steps,
                y=values,
                mode="lines",
                line=line,
                name=f"k = {k}",
                legendgroup=str(k),
                showlegend=wave == "cosine",
            )
            figure.add_trace(
                trace.update(hovertemplate=f"k = {k}, {wave}<br>step %{{x}}: %{{y:.2%}}<extra></extra>"), row=2, col=1
            )
    percent_axis(figure, row=2, col=1, title_text="fraction of variance")
    figure.add_trace(
        go.Scatter(x=steps, y=result.residual.values, mode="lines", line_color="#222", showlegend=False), row=2, col=2
    )
    percent_axis(figure, row=2, col=2, title_text="share of the norm of W_L")
    for name, color in (("rank", PALETTE[0]), ("effective_rank", PALETTE[6])):
        line = go.Scatter(
            x=steps,
            y=result[name].values,
            mode="lines",
            line_color=color,
            name=name.replace("_", " "),
            legend="legend2",
        )
        figure.add_trace(line, row=3, col=1)
    figure.update_yaxes(title_text="rank", rangemode="tozero", row=3, col=1)
    for row, column in ((2, 1), (2, 2), (3, 1)):
        figure.update_xaxes(title_text="step (updates)", row=row, col=column)
    figure.update_layout(
        legend={"y": 0.6, "yanchor": "top"}, legend2={"x": 0.5, "y": 0.2, "yanchor": "top"}, bargap=0.1
    )
    return figure


def _key(last: xr.Dataset) -> list[int]:
    return [int(k) for k in last.frequency.values[last.is_key.values.astype(bool)]]


def _explained(along: Float[Tensor, "directions n n"], chosen: Int[Tensor, " keys"]) -> Float[Tensor, "keys 2"]:
    """The share of the variance along u_k that cos w_k(s+t) carries, and along v_k that of sin w_k(s+t), for
    k = chosen + 1."""
    if not len(chosen):
        return along.new_zeros(0, 2, dtype=torch.float64)
    n = along.shape[-1]
    largest = along.abs().amax((1, 2)).double()
    centred = along - along.mean((1, 2), keepdim=True)
    total = centred.square().sum((1, 2), dtype=torch.float64)
    basis = fourier.pairs(n, along.dtype)[chosen].repeat_interleave(2, dim=0)  # [directions, (cos, sin), n]
    products = (basis @ centred @ basis.transpose(1, 2)).double()  # of cos, sin of s with cos, sin of t
    # cos w(s+t) = cos cos − sin sin and sin w(s+t) = sin cos + cos sin; their length is √2 but for k = n/2, where the
    # sine is zero.
    cosine, sine = products[::2, 0, 0] - products[::2, 1, 1], products[1::2, 1, 0] + products[1::2, 0, 1]
    length = torch.where(2 * (chosen + 1) == n, 1, 2)
    own = torch.stack([cosine, sine], dim=1).square() / length[:, None]
    nothing = total <= (16 * torch.finfo(along.dtype).eps * largest * n).square()
    return (own / total.view_as(own)).masked_fill(nothing.view_as(own), torch.nan)


def _share(square: Tensor, total: Tensor) -> float:
    return float(square.clamp(min=0).sqrt() / total)
