"""Frequency evidence. Which frequencies are key, how surely, and what would the published rules say?

A frequency is key when the logits of pairs that could not have been memorized have more of cos w_k(a+b−c) than logits
that know nothing of the sum would (its *signal*: α_k lies z_k standard deviations above chance), and when the loss on
these pairs is clearly higher without it (its *size*). The rule, its two thresholds and how often it errs:
`interp.mathematics.key_frequencies` and docs/key-frequencies.md.

The published rules beside it, of weights alone: a norm of W_E, or of W_L, of at least a quarter of the largest one, and
what dominates some neuron, however weakly. Of a network that memorizes they call most frequencies key.

It cannot tell how the network computes what it has, nor, where the split is unknown or hardly anything is held out,
a circuit from a memorizer whose answers happen to favor some frequencies.
"""

import json
import math

import numpy as np
import torch
import xarray as xr

from interp.analysis import axes
from interp.figures import NEUTRAL, PALETTE, color_of_frequency, named_step, new_panels, threshold_line, vertical_line
from interp.mathematics import fourier
from interp.mathematics.key_frequencies import LEAST_FACTOR, LEAST_RISE, NORM_THRESHOLD
from interp.runs import Checkpoint

REFERENCE = "Ours; published rules: Nanda et al. 2023, arXiv:2301.05217, §4.1, App. C.2 and the authors' code"
READS = ()
CORE = True
PLACE = 4
SCALES = {}  # its numbers say whether, not how much
RULES = ("embedding", "output", "neurons")
LARGEST_FACTOR = 1e300  # of two losses; those of a circuit alone can be smaller than any number


def measure(checkpoint: Checkpoint) -> xr.Dataset:
    """`strength` α_k (logits), `deviations` z_k, `loss_factor` (the loss without the frequency over the loss)
    [frequency], and the `loss` itself (nats), all over the pairs that judge; `is_key` [frequency] and
    `is_key_by` [rule, frequency]. As attributes the least deviation of a signal, `limit`, and the pairs that judge,
    `judged_by` "held-out pairs" or "all pairs".

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> found = measure(circuit_checkpoint(interp.Task(13), circuit_neurons([2, 5])))
    >>> found.frequency[found.is_key].values.tolist(), round(found.attrs["limit"], 1), found.attrs["judged_by"]
    ([2, 5], 2.9, 'held-out pairs')
    """
    spectrum, phase = checkpoint.spectrum, checkpoint.task.coordinates
    found, frequencies = spectrum.evidence, np.arange(1, spectrum.n_frequencies + 1, dtype=np.int32)
    known = _known_rules(checkpoint)
    by_rule = np.zeros((len(RULES), len(frequencies)), dtype=bool)
    if "embedding" in known:
        embedding = fourier.power(checkpoint.W_E.double()[torch.from_numpy(phase.rows)]).sum(1).sqrt()
        by_rule[0] = (embedding >= NORM_THRESHOLD * embedding.max()).numpy() & (embedding.max() > 0).item()
    if "output" in known:
        norms = spectrum.output_norms
        by_rule[1] = (norms >= NORM_THRESHOLD * norms.max()).numpy() & (norms.max() > 0).item()
    if "neurons" in known:
        by_rule[2] = np.isin(frequencies, spectrum.neuron_frequencies.numpy())
    factor = (found.log_loss_without - found.log_loss).clamp(max=np.log(LARGEST_FACTOR)).exp()
    one = {"units": "1"}
    return xr.Dataset(
        {
            "strength": (
                "frequency",
                found.strength.numpy(),
                {"long_name": "strength of cos w_k(a+b−c)", "units": "logits"},
            ),
            "deviations": (
                "frequency",
                found.deviations.numpy(),
                {"long_name": "standard deviations above chance"} | one,
            ),
            "loss": ((), float(np.exp(found.log_loss)), {"long_name": "loss of the sum", "units": "nats"}),
            "loss_factor": ("frequency", factor.numpy(), {"long_name": "loss without it over loss"} | one),
            "is_key": ("frequency", found.is_key.numpy(), {"long_name": "key"} | one),
            "is_key_by": (
                ("rule", "frequency"),
                by_rule,
                {"long_name": "key by a published rule"} | one,
            ),
        },
        coords=axes(
            {
                "frequency": ("frequency", frequencies, {"long_name": "frequency k"} | one),
                "rule": ("rule", np.array(RULES), {"long_name": "published rule", "units": "name"}),
            }
        ),
        attrs={"limit": found.limit, "judged_by": "held-out pairs" if found.held_out else "all pairs"}
        | ({} if len(known) == len(RULES) else {"rules": json.dumps(known)}),
    )


def _known_rules(checkpoint: Checkpoint) -> list[str]:
    """The published rules that can be asked: of a recorded module those about what was recorded."""
    held = checkpoint.model.module.holds if checkpoint.model.is_recorded else RULES
    return [rule for rule in RULES if rule in held]


def summary(result: xr.Dataset) -> dict:
    """Of the last step: the key frequencies, with strength (logits), deviations above chance, and factor and rise
    (nats) of the loss without it, of each; those that have a signal and make too little difference; those of the
    published rules, None where a rule cannot be asked; the limit and who judges."""
    known = json.loads(result.attrs.get("rules", json.dumps(RULES)))
    last = result.isel(step=-1)
    key, signal = _chosen(last.is_key), _chosen(last.deviations > result.attrs["limit"])
    return {
        "step": int(last.step),
        "judged_by": result.attrs["judged_by"],
        "limit": float(result.attrs["limit"]),
        "key_frequencies": key,
        **{
            name: {str(k): float(last[name].sel(frequency=k)) for k in key}
            for name in ("strength", "deviations", "loss_factor")
        },
        "loss_rise": {str(k): float(last.loss * (last.loss_factor.sel(frequency=k) - 1)) for k in key},
        "signal_without_size": sorted(set(signal) - set(key)),
        "key_frequencies_by": {
            rule: _chosen(last.is_key_by.sel(rule=rule)) if rule in known else None for rule in RULES
        },
        "n_frequencies": result.sizes["frequency"],
    }


def plot(result: xr.Dataset):
    """Deviations above chance and strength over training (key frequencies of the last step in color), both conditions
    at the last step, and what each published rule calls key there."""
    import plotly.graph_objects as go

    last, limit = result.isel(step=-1), float(result.attrs["limit"])
    by_held_out = result.attrs["judged_by"] == "held-out pairs"
    here = named_step(int(last.step))
    nats = f" (or {LEAST_RISE:g} nats more)" if by_held_out else ""
    key, frequencies = _chosen(last.is_key), [int(k) for k in result.frequency.values]
    panels = (
        "Standard deviations above chance",
        "Strength of cos w<sub>k</sub>(a+b−c)",
        f"Signal and size, {here} (key: in color)",
        f"Published rules, {here}",
    )
    figure = new_panels(
        f"Evidence for key frequencies, by {result.attrs['judged_by']}",
        panels,
        reference=REFERENCE,
        vertical_spacing=0.16,
        horizontal_spacing=0.14,
    )
    for column, name in enumerate(("deviations", "strength"), start=1):
        for k in sorted(frequencies, key=lambda k: k in key):
            values = result[name].sel(frequency=k).values
            line = {"color": color_of_frequency(k, key), "width": 2 if k in key else 0.6}
            mode = "lines" if result.sizes["step"] > 1 else "markers"
            trace = go.Scatter(x=result.step.values, y=values, mode=mode, line=line, name=f"k = {k}")
            trace.update(legendgroup=str(k), showlegend=k in key and column == 1, opacity=1 if k in key else 0.5)
            trace.hovertemplate = f"k = {k}<br>step %{{x}}: %{{y:.3g}}<extra></extra>"
            figure.add_trace(trace, row=1, col=column)
        figure.update_xaxes(title_text="step (updates)", row=1, col=column)
    limit_is = "1 of 100 by chance" if by_held_out else "least of a signal"
    threshold_line(figure, limit, 1, 1, label=f"{limit_is}, {limit:.2f}")
    points = go.Scatter(
        x=last.deviations.values, y=last.loss_factor.values, mode="markers", showlegend=False, text=frequencies
    )
    points.update(
        marker={"color": [color_of_frequency(k, key) for k in frequencies], "size": 8},
        hovertemplate="k = %{text}<br>z %{x:.2f}<br>loss × %{y:.3g}<extra></extra>",
    )
    figure.add_trace(points, row=2, col=1)
    vertical_line(figure, limit, 2, 1)
    threshold_line(figure, LEAST_FACTOR, 2, 1)
    figure.add_annotation(  # of a logarithmic axis plotly places words by the logarithm
        x=1, xref="x3 domain", y=math.log10(LEAST_FACTOR), yanchor="bottom", xanchor="right", row=2, col=1
    )
    figure.layout.annotations[-1].update(
        text=f"{LEAST_FACTOR:g} times the loss{nats}", showarrow=False, font={"size": 11, "color": NEUTRAL}
    )
    figure.update_xaxes(title_text="standard deviations above chance", row=2, col=1)
    figure.update_yaxes(title_text="loss without it / loss", type="log", row=2, col=1)
    shown = {"embedding": "norm of W<sub>E</sub>", "output": "norm of W<sub>L</sub>", "neurons": "neurons"}
    known = json.loads(result.attrs.get("rules", json.dumps(RULES)))
    rows = (("this rule", key), *((shown[rule], _chosen(last.is_key_by.sel(rule=rule))) for rule in known))
    for index, (name, found) in enumerate(rows):
        marks = go.Scatter(x=found, y=[name] * len(found), mode="markers", showlegend=False)
        marks.update(marker={"symbol": "square", "size": 9, "color": PALETTE[0] if index == 0 else NEUTRAL})
        marks.hovertemplate = f"{name}: k = %{{x}}<extra></extra>"
        figure.add_trace(marks, row=2, col=2)
    figure.update_xaxes(title_text="frequency k", range=[0, len(frequencies) + 1], row=2, col=2)
    names = [name for name, _ in rows]
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], range=[-0.6, len(names) - 0.4], row=2, col=2)
    figure.update_yaxes(title_text="standard deviations", row=1, col=1)
    figure.update_yaxes(title_text="logits", row=1, col=2)
    return figure


def _chosen(mask: xr.DataArray) -> list[int]:
    return [int(k) for k in mask.frequency.values[mask.values.astype(bool)]]
