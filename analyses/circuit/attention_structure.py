"""Attention structure. Where does each head look, and does what it sees there move it?

Of the last layer's attention from the position that answers, over the n² pairs in phase coordinates: the mean and the
standard deviation on every position, and how well one frequency describes the attention A[s, t] to an input. With
w_k = 2πk/n,

    A[s, t] ≈ mean + α (cos w_k s − cos w_k t) + β (sin w_k s − sin w_k t)

by least squares; the fraction of A's variance that this explains, for every k, and α, β for the best. The mean is 0.5
for a head that shares itself out between the inputs. A head whose attention to an input does not depend on the inputs
has frequency 0, and NaN in place of the fractions, α and β.

It cannot tell that a head matters. And a mean of one half says nothing: uniform attention has it, and so has any sum of
the waves above; look at the standard deviation.
"""

import numpy as np
import torch
import xarray as xr

from interp.analysis import axes
from interp.figures import color_of_frequency, key_frequencies_of, named_step, new_panels, percent_axis
from interp.mathematics import fourier
from interp.mathematics.key_frequencies import in_phase
from interp.runs import Checkpoint

REFERENCE = "Nanda et al. 2023, arXiv:2301.05217, §4.1 and App. C"
SCALES = {}  # its numbers are not compared
FAMILIES = ("transformer",)
CORE = True
PLACE = 9
TABLES = (("head", "position"), ("head", "input"))
INPUTS = ("a", "b")


def measure(checkpoint: Checkpoint) -> xr.Dataset:
    """`mean`, `deviation` [head, position]; `fraction_explained` [head, input, frequency]; `frequency_of_head`,
    `alpha`, `beta` [head, input], of the best frequency; `attention_to_a` [head, phase]: the mean over the second
    input, as a function of the first.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> found = measure(circuit_checkpoint(interp.Task(11), circuit_neurons([2, 5])))  # one head, uniform
    >>> found["mean"].values.round(3).tolist(), found.frequency_of_head.values.tolist()
    ([[0.333, 0.333, 0.333]], [[0, 0]])
    """
    # attention [heads, positions, n, n]
    attention = in_phase(checkpoint.attention, checkpoint.task.coordinates).double().permute(2, 3, 0, 1)
    n = attention.shape[-1]
    mean, deviation = attention.mean((2, 3)), attention.std((2, 3), correction=0)
    to_inputs = attention[:, list(checkpoint.model.inputs_at)]
    over_a, over_b = to_inputs.mean(3), to_inputs.mean(2)  # [heads, inputs, n]
    of_inputs = to_inputs.std((2, 3), correction=0)
    # Only the difference of the two marginals meets the waves: their common part is orthogonal to every one of them.
    waves = fourier.coefficients((over_a - over_b).permute(2, 0, 1))  # [K, (cos, sin), heads, inputs]
    explained = waves.square().sum(1) / (2 / n * (n * of_inputs).square())
    constant = of_inputs <= 16 * torch.finfo(checkpoint.attention.dtype).eps
    explained = explained.masked_fill(constant, torch.nan).permute(1, 2, 0)  # [heads, inputs, K]
    best = explained.nan_to_num(nan=-1).argmax(-1)
    # From orthonormal rows of the basis to plain cosines and sines; k = n/2 alternates between ±1/√n.
    scale = torch.where(2 * (best + 1) == n, n**-0.5, (2 / n) ** 0.5) / 2
    alpha_beta = (
        waves.permute(2, 3, 0, 1).gather(2, best[..., None, None].expand(-1, -1, 1, 2))[:, :, 0] * scale[..., None]
    )
    alpha_beta = alpha_beta.masked_fill(constant[..., None], torch.nan)
    one = {"units": "1"}
    by_input = ("head", "input")
    return xr.Dataset(
        {
            "mean": (("head", "position"), mean.numpy(), {"long_name": "mean attention"} | one),
            "deviation": (
                ("head", "position"),
                deviation.numpy(),
                {"long_name": "standard deviation of attention over inputs"} | one,
            ),
            "fraction_explained": (
                (*by_input, "frequency"),
                explained.numpy(),
                {"long_name": "fraction explained by one frequency"} | one,
            ),
            "frequency_of_head": (
                by_input,
                torch.where(constant, 0, best + 1).numpy().astype(np.int32),
                {"long_name": "best frequency (0: constant attention)"} | one,
            ),
            "alpha": (by_input, alpha_beta[..., 0].numpy(), {"long_name": "cosine coefficient α"} | one),
            "beta": (by_input, alpha_beta[..., 1].numpy(), {"long_name": "sine coefficient β"} | one),
            "attention_to_a": (
                ("head", "phase"),
                over_a[:, 0].numpy().astype(np.float32),
                {"long_name": "attention to a, mean over b"} | one,
            ),
        },
        coords=axes(
            {
                "head": ("head", np.arange(len(mean), dtype=np.int32), {"long_name": "head"} | one),
                "position": (
                    "position",
                    np.array(checkpoint.model.positions),
                    {"long_name": "position", "units": "token"},
                ),
                "input": ("input", np.array(INPUTS), {"long_name": "input", "units": "token"}),
                "frequency": (
                    "frequency",
                    np.arange(1, n // 2 + 1, dtype=np.int32),
                    {"long_name": "frequency k"} | one,
                ),
                "phase": ("phase", np.arange(n, dtype=np.int32), {"long_name": "phase of the first input"} | one),
            }
        ),
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step, a list over heads: mean and standard deviation of the attention to each position, and the best
    frequency of the attention to a with the fraction it explains (None for constant attention); and how many heads one
    frequency explains to 90 %."""
    last = result.isel(step=-1)
    heads = []
    for head in range(last.sizes["head"]):
        at = last.isel(head=head)
        k = int(at.frequency_of_head.sel(input="a"))
        heads.append(
            {
                "mean": {str(position): float(at["mean"].sel(position=position)) for position in last.position.values},
                "standard_deviation": {
                    str(position): float(at.deviation.sel(position=position)) for position in last.position.values
                },
                "frequency": k or None,
                "fraction_explained": float(at.fraction_explained.sel(input="a", frequency=k)) if k else None,
            }
        )
    fractions = [head["fraction_explained"] for head in heads]
    return {
        "step": int(last.step),
        "heads": heads,
        "single_frequency_heads": sum(fraction is not None and fraction >= 0.9 for fraction in fractions),
    }


def plot(result: xr.Dataset):
    """The last step's attention to a over the angle of a, mean attention, its dependence on the inputs, and the fit,
    over training."""
    import plotly.graph_objects as go

    last, steps = result.isel(step=-1), result.step.values
    panels = (
        f"Attention to a, mean over b, by angle, {named_step(int(last.step))}",
        "Mean attention to a (solid) and b (dotted)",
        "Standard deviation of the attention to a",
        "Fraction explained by the head's best frequency",
    )
    figure = new_panels("Attention structure", panels, reference=REFERENCE, vertical_spacing=0.16)
    position_a, position_b = ({"position": token} for token in INPUTS)
    curves = (
        (1, 2, "solid", result["mean"].sel(position_a)),
        (1, 2, "dot", result["mean"].sel(position_b)),
        (2, 1, "solid", result.deviation.sel(position_a)),
        (2, 2, "solid", result.fraction_explained.sel(input="a").max("frequency")),
    )
    of_heads = [int(k) for k in last.frequency_of_head.sel(input="a").values]
    key = key_frequencies_of(result, {k for k in of_heads if k})
    for head, k in enumerate(of_heads):
        style = {
            "name": f"head {head}: k = {k}" if k else f"head {head}: constant",
            "legendgroup": str(head),
            "mode": "lines",
        }
        style["hovertemplate"] = f"head {head}<br>%{{x}}: %{{y:.3f}}<extra></extra>"
        # Heads of one frequency have its color, the later ones paler.
        before = sum(color_of_frequency(other, key) == color_of_frequency(k, key) for other in of_heads[:head])
        opacity = (1.0, 0.6, 0.35, 0.2)[before % 4]
        line = {"color": color_of_frequency(k, key), "width": 1.8}
        turns = last.phase.values * max(k, 1) % last.sizes["phase"] / last.sizes["phase"]
        order = np.argsort(turns, kind="stable")  # a head of frequency k is one wave over its angle
        attention = last.attention_to_a.isel(head=head).values
        figure.add_trace(
            go.Scatter(x=turns[order], y=attention[order], line=line, opacity=opacity, **style), row=1, col=1
        )
        for row, column, dash, values in curves:
            trace = go.Scatter(
                x=steps, y=values.isel(head=head).values, line=line | {"dash": dash}, opacity=opacity, **style
            )
            trace.update(showlegend=False)
            figure.add_trace(trace, row=row, col=column)
    figure.update_xaxes(title_text="w_k a / 2π, of the head's own k", row=1, col=1)
    for row, column in ((1, 2), (2, 1), (2, 2)):
        figure.update_xaxes(title_text="step (updates)", row=row, col=column)
    figure.update_yaxes(title_text="attention", rangemode="tozero", row=1)
    figure.update_yaxes(title_text="standard deviation", rangemode="tozero", row=2, col=1)
    percent_axis(figure, row=2, col=2, title_text="fraction of variance")
    return figure
