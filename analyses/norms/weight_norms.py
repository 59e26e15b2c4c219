"""Weight norms. Which weights grow, which shrink, and do the key frequencies keep what the others lose?

For every tensor W with entries w:  L1 = Σ|w|,  L2 = √Σw²,  RMS = √(mean w²); totals run over all weights,
L2_total = √Σ_tensors L2². The embedding (rows: residues, without `=`) and the unembedding (columns: classes) are
projected on the constant, on the key frequencies of the run's last checkpoint, and on all other frequencies of the
orthonormal Fourier basis; the squares of the three parts add up to the square of the whole (for × and ÷, to that of the
units). Gains of norms are tensors of their own, and no part of the unembedding here.

Weights alone, of any network, have no such parts: they are NaN. It cannot tell which circuit a weight serves: key
directions carry memorization too.
"""

import html

import numpy as np
import torch
import xarray as xr

from interp.analysis import axes
from interp.experiment import Task
from interp.figures import PALETTE, new_panels
from interp.mathematics import fourier
from interp.models import own_weights, unembedding
from interp.runs import Checkpoint, HasWeights

ASKS = "weights"
REFERENCE = "Nanda et al. 2023, arXiv:2301.05217, §5.2; Liu et al. 2022 (Omnigrok), arXiv:2210.01117"
CORE = True
PLACE = 1
PARTS = ("constant", "key", "other")


def measure(checkpoint: HasWeights, *, key_frequencies: list[int] | None = None) -> xr.Dataset:
    """`l1`, `l2`, `rms` [tensor]; `total_l1`, `total_l2`; `embedding_l2`, `unembedding_l2` [part].

    `key_frequencies` are those of the run's last checkpoint; of a checkpoint alone, its own.

    >>> import torch
    >>> from interp.runs import Weighted
    >>> found = measure(Weighted(0, {"layer": torch.tensor([3.0, -4.0])}))
    >>> found.total_l1.item(), found.total_l2.item()
    (7.0, 5.0)
    """
    weights = {name: weight.double() for name, weight in own_weights(checkpoint.weights).items()}
    l1 = np.array([float(w.abs().sum()) for w in weights.values()])
    l2 = np.array([float(w.square().sum().sqrt()) for w in weights.values()])
    rms = l2 / np.sqrt([w.numel() for w in weights.values()])
    of_embedding, of_unembedding = _parts_of_both_ends(checkpoint, key_frequencies)
    one = {"units": "1"}
    return xr.Dataset(
        {
            "l1": ("tensor", l1, {"long_name": "L1 norm"} | one),
            "l2": ("tensor", l2, {"long_name": "L2 norm"} | one),
            "rms": ("tensor", rms, {"long_name": "root mean square"} | one),
            "total_l1": ((), l1.sum(), {"long_name": "L1 norm of all weights"} | one),
            "total_l2": ((), np.sqrt(np.square(l2).sum()), {"long_name": "L2 norm of all weights"} | one),
            "embedding_l2": ("part", of_embedding, {"long_name": "L2 norm of W_E"} | one),
            "unembedding_l2": ("part", of_unembedding, {"long_name": "L2 norm of W_U"} | one),
        },
        coords=axes(
            {
                "tensor": ("tensor", np.array(list(weights)), {"long_name": "tensor", "units": "name"}),
                "part": ("part", np.array(PARTS), {"long_name": "part of the Fourier basis", "units": "name"}),
            }
        ),
    )


def summary(result: xr.Dataset) -> dict:
    """Total L2 norm at the first and last step and its highest, with its step; and the key frequencies' share of the
    squared norm of embedding and unembedding at the last step."""
    total = result.total_l2.values
    last = result.isel(step=-1)

    def share(parts: xr.DataArray) -> float | None:
        square = float(np.square(parts.values).sum())
        return float(np.square(parts.sel(part="key"))) / square if square else None

    return {
        "first_step": int(result.step.values[0]),
        "first_l2": float(total[0]),
        "highest_l2": float(total.max()),
        "highest_l2_at": int(result.step.values[total.argmax()]),
        "last_step": int(last.step),
        "last_l2": float(total[-1]),
        "last_sum_of_squares": float(total[-1] ** 2),
        "key_share_of_embedding": share(last.embedding_l2),
        "key_share_of_unembedding": share(last.unembedding_l2),
    }


def plot(result: xr.Dataset):
    """L2 norms over training: in all, by tensor, and of embedding and unembedding by key frequencies and the rest."""
    import plotly.graph_objects as go

    has_parts = bool(np.isfinite(result.embedding_l2).any())
    panels = ("All weights", "By tensor", "Embedding W_E", "Unembedding W_U")[: 4 if has_parts else 2]
    figure = new_panels("Weight norms", panels, reference=REFERENCE, vertical_spacing=0.14)
    steps = result.step.values

    def add(
        values: xr.DataArray, name: str, color: str, *, row: int, column: int, legend: bool = False, dash: str = "solid"
    ) -> None:
        trace = go.Scatter(
            x=steps,
            y=values.values,
            name=name,
            line={"color": color, "width": 1.8, "dash": dash},
            showlegend=legend,
            mode="lines",
        )
        trace.update(
            legend="legend" if row == 1 else "legend2",
            hovertemplate=f"{name}<br>step %{{x}}: %{{y:.4g}}<extra></extra>",
        )
        figure.add_trace(trace, row=row, col=column)

    add(result.total_l2, "all weights", "#222", row=1, column=1)
    for index, name in enumerate(result.tensor.values):
        short = (
            str(name)
            .replace("blocks.", "")
            .replace("attn.", "")
            .replace("mlp.", "")
            .replace("pos_embed.", "")
            .split("embed.")[-1]
        )
        short = html.escape(short, quote=False)  # of a module that is not ours names can be anything
        add(
            result.l2.sel(tensor=name),
            short,
            PALETTE[index % len(PALETTE)],
            row=1,
            column=2,
            legend=True,
            dash=("solid", "dot")[index // len(PALETTE) % 2],
        )
    for column, parts in enumerate((result.embedding_l2, result.unembedding_l2) if has_parts else (), start=1):
        for part, color in zip(PARTS, (PALETTE[6], PALETTE[2], PALETTE[3]), strict=True):
            label = part if part == "constant" else f"{part} frequencies"
            add(parts.sel(part=part), label, color, row=2, column=column, legend=column == 1)
    figure.update_layout(legend={"y": 1, "yanchor": "top"}, legend2={"y": 0.4, "yanchor": "top"})
    figure.update_xaxes(title_text="step (updates)")
    figure.update_yaxes(title_text="L2 norm", rangemode="tozero")
    return figure


def _parts_of_both_ends(checkpoint: HasWeights, key_frequencies: list[int] | None) -> tuple[np.ndarray, np.ndarray]:
    """The parts of embedding and unembedding; NaN where nothing is known of phases, and of a recorded module where it
    was not asked for them."""
    unknown = np.full(len(PARTS), np.nan)
    if not isinstance(checkpoint, Checkpoint) or not isinstance(checkpoint.task, Task):
        return unknown, unknown
    phase, key = checkpoint.task.coordinates, checkpoint.spectrum.frequencies_to_use(key_frequencies)
    holds = checkpoint.model.module.holds if checkpoint.model.is_recorded else ("embedding", "unembedding")
    residues, classes = torch.from_numpy(phase.rows), torch.from_numpy(phase.classes)
    embedding = _parts(checkpoint.W_E[residues], key) if "embedding" in holds else unknown
    if "unembedding" not in holds:
        return embedding, unknown
    return embedding, _parts(unembedding(checkpoint.weights, checkpoint.model).T[classes], key)


def _parts(matrix: torch.Tensor, key: list[int]) -> np.ndarray:
    """L2 norms of the constant, key and other parts of a matrix along its rows."""
    matrix = matrix.double()
    power = fourier.power(matrix).sum(1)
    is_key = torch.isin(torch.arange(1, len(power) + 1), torch.tensor(key, dtype=torch.long))
    constant = matrix.mean(0).square().sum() * len(matrix)
    return torch.stack([constant, power[is_key].sum(), power[~is_key].sum()]).sqrt().numpy()
