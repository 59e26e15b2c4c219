"""Norm landscape. Would the same weights generalize better if they were smaller, or larger?

All weights and biases are multiplied by α = 2^{−1}, 2^{−3/4}, … 2, and the losses of the network so rescaled are taken
on a fixed random sample of pairs of each split:

    ℓ_split(α) = mean over the sample of loss(logits(α w), label),      norm α‖w‖

with the loss that it was trained on, the cross-entropy −log softmax(logits)[label] where its training names no other.
The *generalizing shell* is the norm with the least loss on held-out pairs (`Task.held_out_mask`): the lowest of the
grid, refined by the parabola through it and its neighbors in (log α, log ℓ). There is none where the lowest lies at an
end of the grid, or above 90 % of the loss of outputs that are all zero (of the cross-entropy log p, which is chance).

This is no reduced landscape of Liu et al., min over ‖w‖ = r of the training loss, whose weights are trained anew at
every norm: here they only grow and shrink together, so it cannot tell that another network of that norm would not
generalize. In a network without biases and attention (an MLP with ReLU) logits scale as a power of α and answers stay
the same: there it only tells how loud the answers are. What only a norm reads has no length that matters, so that in a
network with norms the curve is that of the unembedding and the gains, mostly.
"""

import math

import numpy as np
import torch
import xarray as xr

from interp.analysis import axes
from interp.figures import NEUTRAL, PALETTE, TEST, TRAIN, new_panels, percent_axis, power_of_ten_axis
from interp.models import logits
from interp.runs import Checkpoint

ASKS = "answers"
REFERENCE = "after Liu et al. 2022 (Omnigrok), arXiv:2210.01117, §2; rescaling without training anew is ours"
SCALES = {}  # its numbers are not compared
SPLITS = ("train", "held_out")
CHANCE_SHARE = 0.9


def measure(
    checkpoint: Checkpoint, *, pairs: int = 256, octaves: float = 1.0, per_octave: int = 4, seed: int = 0
) -> xr.Dataset:
    """`loss` (of what it was trained on) and `accuracy` [factor, split] on at most `pairs` pairs of a split, drawn with
    `seed`; `l2`, the norm of the weights as they are; `shell_factor`, `shell_norm` and `shell_loss` (the lowest
    held-out loss there). The factors reach `octaves` down and up.

    NaN for a split without pairs, and for a shell that is not there.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> found = measure(circuit_checkpoint(interp.Task(11), circuit_neurons([2, 5])))
    >>> half, same, twice = found.loss.sel(split="held_out", factor=[0.5, 1.0, 2.0]).values
    >>> bool(half > same > twice), found.shell_norm.item()  # it never rises: no shell
    (True, nan)
    """
    exponents = np.arange(-round(octaves * per_octave), round(octaves * per_octave) + 1) / per_octave
    factors = 2.0**exponents
    samples = [_sample(checkpoint, split, pairs, seed) for split in SPLITS]
    chosen = np.concatenate(samples)
    inputs, labels = (torch.from_numpy(table[chosen]) for table in (checkpoint.task.inputs, checkpoint.task.labels))
    loss, accuracy = (np.full((len(factors), len(SPLITS)), np.nan) for _ in range(2))
    for row, factor in enumerate(factors if len(chosen) else ()):
        scaled = {name: float(factor) * weight for name, weight in checkpoint.weights.items()}
        with torch.no_grad():
            known = checkpoint.logits.flatten(0, -2)[chosen] if factor == 1 else None
            outputs = logits(scaled, checkpoint.model, inputs) if known is None else known
            losses, right = checkpoint.trained_on.judge(outputs.T, labels)
        for column, part in enumerate(np.split(np.arange(len(chosen)), [len(samples[0])])):
            if len(part):
                loss[row, column], accuracy[row, column] = (
                    losses[part].mean().item(),
                    right[part].double().mean().item(),
                )
    l2 = math.sqrt(sum(float(weight.double().square().sum()) for weight in checkpoint.weights.values()))
    shell = _shell(factors, loss[:, 1], checkpoint.trained_on.of_guessing(checkpoint.task.n_classes))
    lowest = loss[:, 1].min() if np.isfinite(shell) else np.nan
    one, unit, title = {"units": "1"}, {"units": checkpoint.training.loss_unit}, checkpoint.training.loss_title
    return xr.Dataset(
        {
            "loss": (("factor", "split"), loss, {"long_name": f"{title} of the rescaled network"} | unit),
            "accuracy": (("factor", "split"), accuracy, {"long_name": "accuracy of the rescaled network"} | one),
            "l2": ((), l2, {"long_name": "L2 norm of all weights"} | one),
            "shell_factor": ((), shell, {"long_name": "factor to the generalizing shell"} | one),
            "shell_norm": ((), shell * l2, {"long_name": "norm of the generalizing shell"} | one),
            "shell_loss": ((), lowest, {"long_name": f"lowest held-out {title} of the rescaled network"} | unit),
        },
        coords=axes(
            {
                "factor": ("factor", factors, {"long_name": "factor α on all weights"} | one),
                "split": ("split", np.array(SPLITS), {"long_name": "split", "units": "name"}),
            }
        ),
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step: its norm, the norm of the shell, the factor between the two, the lowest held-out loss and that
    at factor 1 on the same pairs; the first step with a shell, and the first whose norm is no more than 5 % above its
    shell; null where there is none."""
    last = result.isel(step=-1)
    has_shell = np.isfinite(result.shell_factor.values)
    inside = has_shell & (result.shell_factor.values >= 1 / 1.05)

    def first(mask: np.ndarray) -> int | None:
        return int(result.step.values[mask.argmax()]) if mask.any() else None

    return {
        "step": int(last.step),
        "l2": float(last.l2),
        "shell_norm": float(last.shell_norm),
        "shell_factor": float(last.shell_factor),
        "shell_loss": float(last.shell_loss),
        "sampled_held_out_loss": float(last.loss.sel(split="held_out", factor=1.0)),
        "first_step_with_shell": first(has_shell),
        "first_step_within_shell": first(inside),
    }


def plot(result: xr.Dataset):
    """Train and test loss against the norm of the rescaled weights, for up to seven checkpoints; norm and shell over
    training; and the accuracies of the last checkpoint."""
    import plotly.graph_objects as go

    steps, last = result.step.values, result.isel(step=-1)
    panels = (
        "Train loss of the rescaled weights",
        "Held-out loss of the rescaled weights",
        "Norm and generalizing shell",
        "Accuracy, last step",
    )
    figure = new_panels("Norm landscape", panels, reference=REFERENCE, vertical_spacing=0.15)
    shown = np.unique(np.linspace(0, len(steps) - 1, 7).round().astype(int))
    for column, split in enumerate(SPLITS, start=1):
        for place, index in enumerate(shown):
            at = result.isel(step=index)
            values = at.loss.sel(split=split).values
            line = {"color": PALETTE[place % len(PALETTE)], "width": 1.8}
            trace = go.Scatter(
                x=at.l2.item() * at.factor.values,
                y=np.where(values > 0, values, np.nan),
                mode="lines+markers",
                line=line,
            )
            trace.update(name=f"step {int(at.step):,}", legendgroup=str(place), showlegend=column == 1, marker_size=4)
            figure.add_trace(trace.update(hovertemplate="norm %{x:.3g}: %{y:.3g}"), row=1, col=column)
    mode = "lines" if len(steps) > 1 else "lines+markers"
    for name, label, color, dash in (
        ("l2", "norm", "#222", "solid"),
        ("shell_norm", "generalizing shell", PALETTE[2], "dash"),
    ):
        line = {"color": color, "dash": dash, "width": 2}
        figure.add_trace(
            go.Scatter(x=steps, y=result[name].values, name=label, mode=mode, line=line, legend="legend2"), row=2, col=1
        )
    for split, color in zip(SPLITS, (TRAIN, TEST), strict=True):
        values = last.accuracy.sel(split=split).values
        figure.add_trace(
            go.Scatter(
                x=last.factor.values, y=values, name=split.replace("_", " "), line_color=color, legend="legend2"
            ),
            row=2,
            col=2,
        )
    figure.add_vline(x=1, line={"color": NEUTRAL, "width": 1, "dash": "dash"}, row=2, col=2)  # pyright: ignore[reportArgumentType]
    figure.update_xaxes(title_text="norm α‖w‖", row=1)
    figure.update_xaxes(title_text="step (updates)", row=2, col=1)
    figure.update_xaxes(title_text="factor α", type="log", tickvals=[0.5, 1, 2], row=2, col=2)
    title, unit = result.loss.attrs["long_name"].removesuffix(" of the rescaled network"), result.loss.attrs["units"]
    power_of_ten_axis(figure, row=1, title_text=title if unit == "1" else f"{title} ({unit})")
    figure.update_yaxes(title_text="L2 norm", row=2, col=1)
    percent_axis(figure, row=2, col=2, title_text="accuracy")
    figure.update_layout(legend={"y": 1, "yanchor": "top"}, legend2={"y": 0.4, "yanchor": "top"})
    return figure


def _sample(checkpoint: Checkpoint, split: str, pairs: int, seed: int) -> np.ndarray:
    """At most `pairs` indices of a split, always the same."""
    return np.random.RandomState(seed).permutation(np.flatnonzero(checkpoint.task.mask(split)))[:pairs]


def _shell(factors: np.ndarray, loss: np.ndarray, chance: float) -> float:
    """The factor with the least loss, refined by a parabola; NaN at an end of the grid and where the loss is not well
    below chance."""
    if not np.isfinite(loss).all():
        return math.nan
    lowest = int(loss.argmin())
    if lowest in (0, len(loss) - 1) or loss[lowest] > CHANCE_SHARE * chance:
        return math.nan
    below, at, above = np.log(np.maximum(loss[lowest - 1 : lowest + 2], 1e-300))
    step, curvature = math.log(factors[1] / factors[0]), below - 2 * at + above
    return (
        float(factors[lowest] * math.exp(step * (below - above) / (2 * curvature)))
        if curvature > 0
        else float(factors[lowest])
    )
