"""Embedding spectrum. Which frequencies do the embedding and the output map speak in, and what do the logits carry?

The embedding W_E (rows: residues in phase order) and the neurons' map to the logits W_L = (W_out W_U)ᵀ (rows: classes)
are taken apart by the orthonormal real Fourier basis F along their rows:

    norm_k = √(‖F_{2k−1} W‖² + ‖F_{2k} W‖²),   Gini over the n norms ‖F_f W‖, the constant included.

Beside them the share of the centred logit power in cos, sin w_k(a+b) for every frequency, ‖P_k L_c‖²/‖L_c‖². Key
frequencies, in color, are those of `frequency_evidence`.

It cannot tell that a frequency is used: that takes an ablation. Behind a final norm W_L has its gain folded in, and not
the length that it divides every example by: its norms then tell frequencies apart, and nothing of how loud they are. Of
a module that is not ours the norms of W_L are not known (NaN), nor are those of W_E where no embedding was recorded.
"""

import numpy as np
import torch
import xarray as xr

from interp.analysis import axes
from interp.figures import PALETTE, color_of_frequency, named_step, new_panels
from interp.mathematics import fourier
from interp.runs import Checkpoint

REFERENCE = "Nanda et al. 2023, arXiv:2301.05217, §4.1, §5.2 and App. C.2"
READS = ()
CORE = True
PLACE = 3


def measure(checkpoint: Checkpoint) -> xr.Dataset:
    """`embedding_norm`, `output_norm`, `logit_share` and `is_key` [frequency], `gini_embedding` and
    `gini_output`.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> found = measure(circuit_checkpoint(interp.Task(11), circuit_neurons([2, 5])))
    >>> found.frequency[found.is_key].values.tolist(), (found.embedding_norm > 1e-6).values.tolist()
    ([2, 5], [False, True, False, False, True])
    """
    phase, model = checkpoint.task.coordinates, checkpoint.model
    # One column of NaN for what is not known, which every measure then is too.
    embedding = output = torch.full((phase.order, 1), torch.nan, dtype=torch.float64)
    if not model.is_recorded or "embedding" in model.module.holds:
        embedding = checkpoint.W_E.double()[torch.from_numpy(phase.rows)]
    if not model.is_recorded:
        output = checkpoint.W_L[:, torch.from_numpy(phase.classes)].T
    frequencies = np.arange(1, checkpoint.spectrum.n_frequencies + 1, dtype=np.int32)
    one = {"units": "1"}
    return xr.Dataset(
        {
            "embedding_norm": (
                "frequency",
                fourier.power(embedding).sum(1).sqrt().numpy(),
                {"long_name": "norm of W_E"} | one,
            ),
            "output_norm": ("frequency", checkpoint.spectrum.output_norms.numpy(), {"long_name": "norm of W_L"} | one),
            "logit_share": (
                "frequency",
                checkpoint.spectrum.logit_shares.numpy(),
                {"long_name": "share of centred logit power"} | one,
            ),
            "is_key": ("frequency", checkpoint.key_mask.numpy(), {"long_name": "key"} | one),
            "gini_embedding": ((), _gini(embedding), {"long_name": "Gini coefficient of W_E"} | one),
            "gini_output": ((), _gini(output), {"long_name": "Gini coefficient of W_L"} | one),
        },
        coords=axes({"frequency": ("frequency", frequencies, {"long_name": "frequency k"} | one)}),
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step: the key frequencies with their shares of logit power, and the Gini coefficients."""
    last = result.isel(step=-1)
    key = _chosen(last, last.is_key)
    return {
        "step": int(last.step),
        "key_frequencies": key,
        "n_frequencies": result.sizes["frequency"],
        "logit_shares": {str(k): float(last.logit_share.sel(frequency=k)) for k in key},
        "gini_embedding": float(last.gini_embedding),
        "gini_output": float(last.gini_output),
    }


def plot(result: xr.Dataset):
    """The spectra of the last step, the norm of every frequency over training (key ones in color), the logit shares and
    the Ginis."""
    import plotly.graph_objects as go

    last = result.isel(step=-1)
    key = _chosen(last, last.is_key)
    panels = (
        f"Norm of W_E by frequency, {named_step(int(last.step))}",
        f"Norm of W_L by frequency, {named_step(int(last.step))}",
        "Norm of W_E over training",
        "Norm of W_L over training",
        "Share of centred logit power",
        "Gini coefficients",
    )
    figure = new_panels("Embedding and output spectra", panels, reference=REFERENCE, vertical_spacing=0.1)
    colors = [color_of_frequency(int(k), key) for k in last.frequency.values]
    for column, name in enumerate(("embedding_norm", "output_norm"), start=1):
        bars = go.Bar(x=last.frequency.values, y=last[name].values, marker_color=colors, showlegend=False)
        bars.hovertemplate = "k = %{x}<br>norm %{y:.4g}<extra></extra>"
        figure.add_trace(bars, row=1, col=column)
    for row, column, name in ((2, 1, "embedding_norm"), (2, 2, "output_norm"), (3, 1, "logit_share")):
        for k in sorted(map(int, last.frequency.values), key=lambda k: k in key):
            is_key = k in key
            line = {"color": color_of_frequency(k, key), "width": 2 if is_key else 0.6}
            trace = go.Scatter(
                x=result.step.values, y=result[name].sel(frequency=k).values, mode="lines", line=line, name=f"k = {k}"
            )
            trace.update(legendgroup=str(k), showlegend=is_key and row == 3, opacity=1 if is_key else 0.5)
            trace.hovertemplate = f"k = {k}<br>step %{{x}}: %{{y:.4g}}<extra></extra>"
            figure.add_trace(trace, row=row, col=column)
    for name, label, color in (
        ("gini_embedding", "Gini of W_E", PALETTE[6]),
        ("gini_output", "Gini of W_L", PALETTE[5]),
    ):
        figure.add_trace(
            go.Scatter(x=result.step.values, y=result[name].values, name=label, line_color=color), row=3, col=2
        )
    figure.update_xaxes(title_text="frequency k", row=1)
    for row in (2, 3):
        figure.update_xaxes(title_text="step (updates)", row=row)
    figure.update_yaxes(title_text="norm", row=1)
    figure.update_yaxes(title_text="norm", row=2)
    figure.update_yaxes(title_text="share", tickformat=".0%", row=3, col=1)
    figure.update_yaxes(title_text="Gini", range=[0, 1], row=3, col=2)
    return figure


def _chosen(last: xr.Dataset, mask: xr.DataArray) -> list[int]:
    return [int(k) for k in last.frequency.values[mask.values.astype(bool)]]


def _gini(matrix: torch.Tensor) -> float:
    components = fourier.basis(len(matrix)) @ matrix
    return float(fourier.gini(components.norm(dim=1)))
