"""Calibration. How many neurons count as periodic by chance, and how many are left when only `rate` of them may?

The residues of the inputs are renamed at random, X[a, b] → X[π(a), π(b)], in phase coordinates. Weights, variances and
symmetry stay as they are; the order of the residues goes, and with it every frequency. An untrained network, and one
trained on random labels, does not know that order: for it the renamed values have the distribution of the real ones, so
that the quantile 1 − rate of the renamed is passed by chance with probability `rate`. Renamings t → ut + v are not
drawn: they carry one frequency over into another.

A neuron is above chance when its fraction explained (the largest 3×3 share) is above the quantile 1 − rate of sampled
neurons under 4 renamings or more. Beside it stand the literature's 0.85, and the same quantile of untrained networks of
the same shape, which alone would be no null for a network that memorizes. `rate` is per neuron. What frequencies reach
by chance says `frequency_evidence`.

It cannot tell that a neuron above chance is *used*, nor that it has one frequency only: for that 0.85 is the stricter
rule. The rate is that of one neuron, not of all that is looked at over a run.
"""

import functools
import math
from dataclasses import replace

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from interp.analysis import axes
from interp.experiment import ModelConfig, Operation, Task
from interp.figures import NEUTRAL, PALETTE, new_panels, percent_axis
from interp.mathematics import fourier
from interp.models import initial_weights
from interp.runs import Checkpoint

REFERENCE = (
    "Thresholds: Nanda et al. 2023, arXiv:2301.05217, §5.1; permutation null: Phipson & Smyth 2010, arXiv:1603.05766"
)
READS = ("neurons",)
CORE = True
PLACE = 14
SCALES = {}  # its numbers are not compared
QUANTILES = (0.5, 0.9, 0.99, 1.0)
_NEURONS_AT_ONCE, _RENAMINGS_AT_ONCE = 64, 4


def measure(checkpoint: Checkpoint, *, rate: float = 0.01, threshold: float = 0.85, seed: int = 0) -> xr.Dataset:
    """`null_fraction_explained` [quantile]; `calibrated_threshold` and `random_network_threshold` of the fraction
    explained, and the `periodic_neurons` [rule] above the calibrated and from the fixed one on.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> found = measure(circuit_checkpoint(interp.Task(11), circuit_neurons([2, 5])))
    >>> found.periodic_neurons.sel(rule="calibrated").item()
    18
    """
    null = null_fractions_explained(checkpoint, rate=rate, seed=seed)
    quantiles = np.quantile(null.numpy(), QUANTILES) if len(null) else np.full(len(QUANTILES), np.nan)
    explained = checkpoint.spectrum.neuron_shares.nan_to_num(nan=-1).max(0).values
    limit = upper_quantile(null, rate)
    counts = np.array([int((explained > limit).sum()), int((explained >= threshold).sum())], dtype=np.int32)
    # Of a module that is not ours nobody here knows how it looks before training.
    unknown = checkpoint.model.is_recorded
    random_limit = np.nan if unknown else random_network_threshold(checkpoint.model, checkpoint.task, rate=rate)
    one = {"units": "1"}
    return xr.Dataset(
        {
            "null_fraction_explained": (
                "quantile",
                quantiles,
                {"long_name": "fraction explained of renamed neurons"} | one,
            ),
            "calibrated_threshold": (
                (),
                limit,
                {"long_name": f"fraction explained passed by chance at a rate of {rate:g}"} | one,
            ),
            "random_network_threshold": (
                (),
                random_limit,
                {"long_name": f"the same of untrained networks, {rate:g}"} | one,
            ),
            "periodic_neurons": ("rule", counts, {"long_name": "periodic neurons"} | one),
        },
        coords=axes(
            {
                "quantile": ("quantile", np.array(QUANTILES), {"long_name": "quantile"} | one),
                "rule": ("rule", np.array(["calibrated", f"{threshold:g}"]), {"long_name": "rule", "units": "name"}),
            }
        ),
        attrs={"rate": rate, "threshold": threshold, "neurons": len(explained)},
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step: the thresholds, at a false-positive `rate` per neuron, and how many pass them."""
    last = result.isel(step=-1)
    counts = last.periodic_neurons.values
    return {
        "step": int(last.step),
        "rate": float(result.attrs["rate"]),
        "calibrated_threshold": float(last.calibrated_threshold),
        "random_network_threshold": float(last.random_network_threshold),
        "neurons": int(result.attrs["neurons"]),
        "calibrated_periodic_neurons": int(counts[0]),
        "periodic_neurons": int(counts[1]),
    }


def plot(result: xr.Dataset):
    """Thresholds of the fraction explained and periodic neurons by both rules."""
    import plotly.graph_objects as go

    panels = ("Fraction explained: thresholds", "Periodic neurons")
    figure = new_panels("Calibration", panels, reference=REFERENCE, row_height=320, horizontal_spacing=0.1)
    rate, fixed = float(result.attrs["rate"]), float(result.attrs["threshold"])
    medians = result.null_fraction_explained.sel(quantile=0.5)
    lines = (
        (result.calibrated_threshold, f"renamed residues, {rate:.0%}", PALETTE[0], "solid", 1),
        (result.random_network_threshold, f"untrained networks, {rate:.0%}", PALETTE[2], "dot", 1),
        (medians, "renamed residues, median", NEUTRAL, "solid", 1),
        (xr.full_like(medians, fixed), f"literature, {fixed:g}", PALETTE[1], "dash", 1),
        (result.periodic_neurons.isel(rule=0), "neurons above chance", PALETTE[0], "solid", 2),
        (result.periodic_neurons.isel(rule=1), f"neurons from {fixed:g} on", PALETTE[1], "solid", 2),
    )
    for values, name, color, dash, column in lines:
        trace = go.Scatter(
            x=result.step.values, y=values.values, name=name, line={"color": color, "dash": dash, "width": 1.8}
        )
        trace.mode = "lines" if result.sizes["step"] > 2 else "lines+markers"
        figure.add_trace(trace, row=1, col=column)
    percent_axis(figure, row=1, col=1, title_text="fraction explained")
    figure.update_yaxes(title_text="neurons", range=[0, 1.02 * int(result.attrs["neurons"])], row=1, col=2)
    figure.update_xaxes(title_text="step (updates)")
    figure.update_layout(
        legend={"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0}, margin={"b": 130}, height=500
    )
    return figure


# ---- the nulls ----------------------------------------------------------------------------------------------------


def null_fractions_explained(
    checkpoint: Checkpoint, *, rate: float = 0.01, shuffles: int = 4, seed: int = 0
) -> Float[Tensor, " draws"]:
    """Fractions explained of live neurons, sampled anew for each renaming; as many renamings as leave two draws above
    the quantile."""
    n = checkpoint.task.coordinates.order
    alive = torch.nonzero(checkpoint.spectrum.neuron_frequencies)[:, 0]
    if n < 4 or not len(alive):
        return torch.empty(0)
    generator = torch.Generator().manual_seed(seed)
    at_once = min(len(alive), _NEURONS_AT_ONCE)
    draws = [
        (alive[torch.randperm(len(alive), generator=generator)[:at_once]], _renaming(n, generator).argsort())
        for _ in range(max(shuffles, math.ceil(2 / rate / at_once)))
    ]
    drawn, neurons, ordered = (
        [],
        checkpoint.spectrum.neurons_in_phase.flatten(0, 1),
        checkpoint.spectrum.neuron_marginals.sums,
    )
    for start in range(0, len(draws), _RENAMINGS_AT_ONCE):
        some = draws[start : start + _RENAMINGS_AT_ONCE]
        # Single neurons lie far apart in memory: to take a few costs as much as to take many.
        every = torch.cat([chosen for chosen, _ in some])
        samples = (
            neurons.index_select(1, every)
            .sub_(checkpoint.spectrum.neuron_mean[every])
            .unflatten(0, (n, n))
            .split(at_once, dim=2)
        )
        for sample, (chosen, names) in zip(samples, some, strict=True):
            sums = fourier.renamed_marginals(sample, ordered[0, :, chosen], ordered[1, :, chosen], names)
            power = fourier.block_coefficients(sums).square().sum((1, 2))
            drawn.append((power / (n * n * checkpoint.spectrum.neuron_variance[chosen])).amax(0))
    return torch.cat(drawn)


def random_network_threshold(model: ModelConfig, task: Task, *, rate: float = 0.01, networks: int = 2) -> float:
    """The quantile 1 − rate of the fractions explained of all neurons of untrained networks of the same shape."""
    return _random_network_threshold(replace(model, seed=0), task.p, task.operation, rate, networks)


@functools.lru_cache(maxsize=32)
def _random_network_threshold(model: ModelConfig, p: int, operation: Operation, rate: float, networks: int) -> float:
    task = Task(p, operation, split="unknown")
    drawn = []
    # Seeds that nobody trains with: the network under study must not be its own null.
    for seed in range(2**31, 2**31 + networks):
        checkpoint = Checkpoint(0, initial_weights(replace(model, seed=seed), p), task, model)
        shares = checkpoint.spectrum.neuron_shares
        drawn.append(shares[:, ~shares[0].isnan()].max(0).values)
    return upper_quantile(torch.cat(drawn), rate)


def upper_quantile(drawn: Float[Tensor, " draws"], rate: float) -> float:
    """The smallest value drawn that one more draw of the same kind exceeds with probability at most `rate`; the largest
    value drawn where there are too few to tell, NaN where there are none."""
    if not len(drawn):
        return math.nan
    rank = math.ceil((1 - rate) * (len(drawn) + 1))
    return float(np.sort(drawn.numpy())[min(rank, len(drawn)) - 1])


def _renaming(n: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """A random permutation of n ≥ 4 phases that is no t → ut + v."""
    t = torch.arange(n)
    while True:
        permutation = torch.randperm(n, generator=generator)
        if not torch.equal(permutation, (permutation[0] + (permutation[1] - permutation[0]) * t) % n):
            return permutation
