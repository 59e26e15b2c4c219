"""Softmax collapse. How much of the training loss is lost to rounding, and does the classifier drift for it?

For each precision (bfloat16, float32, float64) the logits of the training samples are rounded to it, and in it torch
computes the cross-entropy and its gradient g = ∂loss/∂z (`interp.mathematics.softmax_collapse`):

    collapsed share     the share of the samples whose loss is exactly 0
    zero-sum defect     mean_x |Σ_c g_c(x)| / mean_x Σ_c |g_c(x)|:  0 where g is exact, 1 where its value at the label
                        is gone and those of the other classes are left

With W_L [features, classes] the last matrix and φ(x) what it reads, of the training samples,

    W_G = mean over classes of the columns of W_L,     μ_G = mean over training samples of φ(x),     cos(W_G, μ_G)

Where the gradients of the classes no longer sum to zero, W_G is pushed against μ_G and μ_G against W_G: both grow and
the cosine goes to −1, until the loss jumps (numerical feature inflation, Liu et al. 2026).

It tells what a loss in that precision would be, whatever the network was trained on: one that is trained in float64, as
networks are here by default, may have collapsed in float32 and never drift, because its gradient was not computed so.
It cannot tell that a jump follows: that takes an optimizer that divides by the size of so small a gradient.
"""

import math

import numpy as np
import torch
import xarray as xr

from interp.analysis import axes
from interp.figures import NEUTRAL, PALETTE, new_panels, percent_axis, power_of_ten_axis
from interp.mathematics.softmax_collapse import PRECISIONS, collapsed, zero_sum_defect
from interp.runs import Checkpoint

ASKS = "answers"
REFERENCE = "Liu et al. 2026, arXiv:2605.06152; Prieto et al. 2025, arXiv:2501.04697; the defect is ours"
SCALES = {}
CLEARLY = 0.01  # a share of the samples, or of the gradient


def measure(checkpoint: Checkpoint) -> xr.Dataset:
    """`collapsed_share`, `zero_sum_defect` [precision] of the training samples; `classifier_mean_norm` ‖W_G‖,
    `feature_mean_norm` ‖μ_G‖, `cosine` of the two, and `last_layer_norm` ‖W_L‖.

    NaN for what is of training samples where none are known, for a defect where no gradient is left, and for the cosine
    where one of the two is zero.

    >>> import interp
    >>> last = interp.open_run(interp.reference_path()).last
    >>> measure(last).collapsed_share.round(2).to_series().to_dict()  # trained in float64
    {'bfloat16': 1.0, 'float32': 0.75, 'float64': 0.0}
    """
    chosen = torch.from_numpy(np.flatnonzero(checkpoint.task.mask("train")))
    share, defect = np.full(len(PRECISIONS), np.nan), np.full(len(PRECISIONS), np.nan)
    W_L = checkpoint.W_U.double()
    W_G, mean_feature = W_L.mean(1), torch.full_like(W_L[:, 0], math.nan)
    if len(chosen):
        logits = checkpoint.logits.flatten(0, -2)[chosen]
        labels = torch.from_numpy(checkpoint.task.labels)[chosen]
        for place, precision in enumerate(PRECISIONS):
            share[place] = collapsed(logits, labels, precision).double().mean().item()
            defect[place] = zero_sum_defect(logits, labels, precision)
        mean_feature = checkpoint.residual_post.flatten(0, -2)[chosen].double().mean(0)
    norms = W_G.norm().item(), mean_feature.norm().item()
    cosine = (W_G @ mean_feature).item() / math.prod(norms) if all(norms) else math.nan
    one = {"units": "1"}
    return xr.Dataset(
        {
            "collapsed_share": ("precision", share, {"long_name": "samples whose loss is exactly 0"} | one),
            "zero_sum_defect": ("precision", defect, {"long_name": "zero-sum defect of the gradient"} | one),
            "classifier_mean_norm": ((), norms[0], {"long_name": "norm of the mean classifier row"} | one),
            "feature_mean_norm": ((), norms[1], {"long_name": "norm of the mean feature"} | one),
            "cosine": ((), cosine, {"long_name": "cosine of mean classifier row and mean feature"} | one),
            "last_layer_norm": ((), W_L.norm().item(), {"long_name": "L2 norm of the last matrix"} | one),
        },
        coords=axes(
            {"precision": ("precision", np.array(list(PRECISIONS)), {"long_name": "precision", "units": "name"})}
        ),
    )


def summary(result: xr.Dataset) -> dict:
    """By precision: the share of collapsed samples and the defect at the last step, the highest of each, and the first
    step at which 1 % of the samples had collapsed, and at which the defect was 1 % (None: never); the lowest cosine
    with its step, and the norms at the first and the last step."""
    steps, cosine = result.step.values, result.cosine.values
    told: dict = {"step": int(steps[-1])}
    for name in ("collapsed_share", "zero_sum_defect"):
        of = {str(one): result[name].sel(precision=one).values for one in result.precision.values}
        told[name] = {one: float(values[-1]) for one, values in of.items()}
        told[f"highest_{name}"] = {
            one: float(np.nanmax(values)) if np.isfinite(values).any() else None for one, values in of.items()
        }
        told[f"{name}_from"] = {
            one: int(steps[(values >= CLEARLY).argmax()]) if (values >= CLEARLY).any() else None
            for one, values in of.items()
        }
    is_known = np.isfinite(cosine).any()
    told["lowest_cosine"] = float(np.nanmin(cosine)) if is_known else None
    told["lowest_cosine_at"] = int(steps[np.nanargmin(cosine)]) if is_known else None
    for name in ("classifier_mean_norm", "feature_mean_norm", "last_layer_norm"):
        told[name] = {"first": float(result[name][0]), "last": float(result[name][-1])}
    return told


def plot(result: xr.Dataset):
    """Collapsed samples and the defect by precision, the norms of W_G, μ_G and the last matrix, and the cosine."""
    panels = (
        "Training samples whose loss is exactly 0",
        "Zero-sum defect of the gradient",
        "Norms of the last layer",
        "Cosine of W_G and μ_G",
    )
    figure = new_panels("Softmax collapse", panels, reference=REFERENCE, vertical_spacing=0.16)
    steps = result.step.values
    mode = "lines" if len(steps) > 1 else "markers"
    for place, precision in enumerate(map(str, result.precision.values)):
        for column, name in enumerate(("collapsed_share", "zero_sum_defect"), start=1):
            values = result[name].sel(precision=precision).values
            values = values if column == 1 else np.where(values > 0, values, np.nan)  # a logarithmic axis has no zero
            look = {"name": precision, "legendgroup": precision, "showlegend": column == 1}
            figure.add_scatter(x=steps, y=values, mode=mode, line_color=PALETTE[place], **look, row=1, col=column)
    for place, (name, label) in enumerate(
        {
            "classifier_mean_norm": "‖W_G‖, mean classifier row",
            "feature_mean_norm": "‖μ_G‖, mean feature",
            "last_layer_norm": "‖W_L‖, last matrix",
        }.items()
    ):
        values = np.where(result[name].values > 0, result[name].values, np.nan)
        color = PALETTE[place + len(PRECISIONS)]
        figure.add_scatter(x=steps, y=values, mode=mode, name=label, line_color=color, legend="legend2", row=2, col=1)
    figure.add_scatter(x=steps, y=result.cosine.values, mode=mode, line_color=NEUTRAL, showlegend=False, row=2, col=2)
    figure.update_xaxes(title_text="step (updates)")
    percent_axis(figure, row=1, col=1, title_text="share of training samples")
    power_of_ten_axis(figure, row=1, col=2, title_text="defect (1: all of it)")
    power_of_ten_axis(figure, row=2, col=1, title_text="L2 norm")
    figure.update_yaxes(title_text="cosine", range=[-1.05, 1.05], row=2, col=2)
    figure.update_layout(legend={"y": 1, "yanchor": "top"}, legend2={"y": 0.4, "yanchor": "top"})
    return figure
