"""Calibration. How many neurons and frequencies pass by chance, and which are left when only `rate` of them may?

The residues of the inputs are renamed at random, which leaves the network as it is and takes every frequency away
(`interp.calibration`); what passes then passes by chance. With `rate` = 1 %:

    neurons      periodic when the fraction explained is above the quantile 1 − rate of renamed neurons; beside it the literature's 0.85,
                 and the same quantile of untrained networks of the same shape
    frequencies  key by `interp.key_frequencies` and with more logit power than any frequency of a renamed network has, but for `rate`

It cannot tell that a neuron above chance is *used*, nor that it has one frequency only: for that 0.85 is the stricter rule. The rate
is that of one neuron, or of one network, not of all that is looked at over a run.
"""

import math

import numpy as np
import xarray as xr

from interp import calibration
from interp.axes import axes
from interp.checkpoint import Checkpoint
from interp.figures import NEUTRAL, PALETTE, new_panels, percent_axis

REFERENCE = "Thresholds: Nanda et al. 2023, arXiv:2301.05217, §5.1; permutation null: Phipson & Smyth 2010, arXiv:1603.05766"
QUANTILES = (0.5, 0.9, 0.99, 1.0)


def measure(checkpoint: Checkpoint, *, rate: float = 0.01, threshold: float = 0.85, seed: int = 0) -> xr.Dataset:
    """`null_fraction_explained` [quantile]; `calibrated_threshold` and `random_network_threshold` of the fraction explained, and the
    `periodic_neurons` [rule] above the calibrated and from the fixed one on; `share_threshold`, `largest_share` of logit power,
    `is_key` [frequency]: key and above chance."""
    null = calibration.null_fractions_explained(checkpoint, rate=rate, seed=seed)
    quantiles = np.quantile(null.numpy(), QUANTILES) if len(null) else np.full(len(QUANTILES), np.nan)
    explained = checkpoint.neuron_shares.nan_to_num(nan=-1).max(0).values
    limit = calibration.upper_quantile(null, rate)
    counts = np.array([int((explained > limit).sum()), int((explained >= threshold).sum())], dtype=np.int32)
    share_limit = calibration.calibrated_share_threshold(checkpoint, rate=rate, seed=seed)
    random_limit = calibration.random_network_threshold(checkpoint.model, checkpoint.task, rate=rate)
    is_key = (checkpoint.key_mask & (checkpoint.logit_shares > share_limit)).numpy()
    one = {"units": "1"}
    return xr.Dataset(
        {
            "null_fraction_explained": ("quantile", quantiles, {"long_name": "fraction explained of renamed neurons"} | one),
            "calibrated_threshold": ((), limit, {"long_name": f"fraction explained passed by chance at a rate of {rate:g}"} | one),
            "random_network_threshold": ((), random_limit, {"long_name": f"the same of untrained networks, {rate:g}"} | one),
            "periodic_neurons": ("rule", counts, {"long_name": "periodic neurons"} | one),
            "share_threshold": ((), share_limit, {"long_name": f"share of logit power passed by chance at a rate of {rate:g}"} | one),
            "largest_share": ((), float(checkpoint.logit_shares.max()), {"long_name": "largest share of logit power"} | one),
            "is_key": ("frequency", is_key, {"long_name": "key, and above chance"} | one),
        },
        coords=axes(
            {
                "quantile": ("quantile", np.array(QUANTILES), {"long_name": "quantile"} | one),
                "rule": ("rule", np.array(["calibrated", f"{threshold:g}"]), {"long_name": "rule", "units": "name"}),
                "frequency": ("frequency", np.arange(1, len(is_key) + 1, dtype=np.int32), {"long_name": "frequency k"} | one),
            }
        ),
        attrs={"rate": rate, "threshold": threshold, "neurons": len(explained)},
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step: the thresholds, at a false-positive `rate` per neuron and per network, and what passes them."""
    last = result.isel(step=-1)
    limits = {name: float(last[name]) for name in ("calibrated_threshold", "random_network_threshold", "share_threshold")}
    counts = last.periodic_neurons.values
    return {
        "step": int(last.step),
        "rate": float(result.attrs["rate"]),
        **{name: value if math.isfinite(value) else None for name, value in limits.items()},
        "neurons": int(result.attrs["neurons"]),
        "calibrated_periodic_neurons": int(counts[0]),
        "periodic_neurons": int(counts[1]),
        "key_frequencies_above_chance": [int(k) for k in last.frequency.values[last.is_key.values.astype(bool)]],
    }


def plot(result: xr.Dataset):
    """Thresholds of the fraction explained and periodic neurons by both rules; the largest share of logit power beside chance."""
    import plotly.graph_objects as go

    panels = ("Fraction explained: thresholds", "Periodic neurons", "Share of logit power")
    figure = new_panels("Calibration", panels, columns=3, reference=REFERENCE, row_height=320, horizontal_spacing=0.07)
    rate, fixed = float(result.attrs["rate"]), float(result.attrs["threshold"])
    medians = result.null_fraction_explained.sel(quantile=0.5)
    lines = (
        (result.calibrated_threshold, f"renamed residues, {rate:.0%}", PALETTE[0], "solid", 1),
        (result.random_network_threshold, f"untrained networks, {rate:.0%}", PALETTE[2], "dot", 1),
        (medians, "renamed residues, median", NEUTRAL, "solid", 1),
        (xr.full_like(medians, fixed), f"literature, {fixed:g}", PALETTE[1], "dash", 1),
        (result.periodic_neurons.isel(rule=0), "neurons above chance", PALETTE[0], "solid", 2),
        (result.periodic_neurons.isel(rule=1), f"neurons from {fixed:g} on", PALETTE[1], "solid", 2),
        (result.largest_share, "largest share of a frequency", PALETTE[3], "solid", 3),
        (result.share_threshold, f"chance, {rate:.0%} per network", PALETTE[4], "dash", 3),
    )
    for values, name, color, dash, column in lines:
        trace = go.Scatter(x=result.step.values, y=values.values, name=name, line={"color": color, "dash": dash, "width": 1.8})
        trace.mode = "lines" if result.sizes["step"] > 2 else "lines+markers"
        figure.add_trace(trace, row=1, col=column)
    percent_axis(figure, row=1, col=1, title_text="fraction explained")
    figure.update_yaxes(title_text="neurons", range=[0, 1.02 * int(result.attrs["neurons"])], row=1, col=2)
    percent_axis(figure, row=1, col=3, title_text="share")
    figure.update_xaxes(title_text="step (updates)")
    figure.update_layout(legend={"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0}, margin={"b": 130}, height=500)
    return figure
