"""Progress measures. How far has the generalizing circuit grown while the loss stands still, and how much is still memorized?

With P_k the projection of a function of the n² pairs on cos w_k(a+b) and sin w_k(a+b), w_k = 2πk/n, applied to the logits L class by
class, and the cross-entropy CE in nats over the pairs of a split (all, train, test):

    restricted loss = CE(Σ_k P_k L + mean of L over all pairs),  k over the key frequencies of the run's last checkpoint
    excluded loss   = CE(L − Σ_k P_k L),  the mean not put back;  excluded loss of frequency k = CE(L − P_k L)

Restricted loss keeps nothing but the circuit; excluded loss takes the circuit away and leaves what is memorized. The largest excluded
loss over all k needs no key frequencies. The ratio is test loss / restricted loss on all pairs. With an empty key set, restricted
loss is that of the mean logits and excluded loss is the loss itself. Published: excluded loss on train pairs; restricted loss on all.

It cannot tell where in the network the circuit sits; key frequencies are chosen with hindsight, and a frequency that the network used
for a while and gave up counts as memorized. For × and ÷ the pairs are those of units; without a phase (random labels), of residues.
"""

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from interp import fourier
from interp.checkpoint import Checkpoint
from interp.figures import PALETTE, TEST, TRAIN, color_of_frequency, new_panels, percent_axis, power_of_ten_axis, threshold_line
from interp.task import Task

REFERENCE = "Nanda et al. 2023, arXiv:2301.05217, §5.1 and App. C.2"
SPLITS = ("all", "train", "test")


def measure(checkpoint: Checkpoint, *, key_frequencies: list[int] | None = None) -> xr.Dataset:
    """`loss`, `restricted_loss`, `excluded_loss`, `restricted_accuracy`, `largest_excluded_loss` [split]; `excluded_loss_of_frequency`
    [split, frequency]; `test_to_restricted_ratio`; `is_key` [frequency].

    `key_frequencies` are those of the run's last checkpoint; of a checkpoint alone, its own.
    """
    task, n_classes = checkpoint.task, checkpoint.logits.shape[-1]
    n = task.coordinates.order
    frequencies = np.arange(1, n // 2 + 1, dtype=np.int32)
    is_key = np.isin(frequencies, checkpoint.frequencies_to_use(key_frequencies))

    pairs = _diagonals(task)
    logits = checkpoint.logits.reshape(-1, n_classes)[pairs].double()  # [s, a, c]
    labels = torch.from_numpy(task.labels)[pairs].clamp(min=0)
    masks = torch.stack([torch.from_numpy(task.mask(split))[pairs] for split in SPLITS])
    weights = masks / masks.sum((1, 2), keepdim=True).double()  # NaN for a split without pairs
    label_weights = logits.new_zeros(len(SPLITS), n, n_classes).scatter_add_(2, labels.expand(len(SPLITS), n, n), weights)

    sums = logits.sum(1)
    waves = fourier.pairs(n)
    projections = torch.einsum("kis,kic->sck", waves, fourier.coefficients(sums)) / n  # P_k L, the same for every pair of a diagonal
    circuit = projections[..., torch.from_numpy(is_key)].sum(-1)
    restricted = circuit + sums.mean(0) / n
    restricted_loss = -(label_weights * restricted.log_softmax(-1)).sum((1, 2))
    restricted_accuracy = (masks & (restricted.argmax(-1)[:, None] == labels)).sum((1, 2)) / masks.sum((1, 2)).double()
    losses = torch.from_numpy(checkpoint.losses)[pairs].where(masks[0], 0)
    loss = (weights * losses).sum((1, 2))
    removed = torch.cat([projections, circuit[..., None]], dim=-1)
    excluded = _losses_without(logits, labels, removed, weights, label_weights)
    by_frequency, excluded_loss = excluded[:, :-1], excluded[:, -1]

    nats, one = {"units": "nats"}, {"units": "1"}
    return xr.Dataset(
        {
            "loss": ("split", loss.numpy(), {"long_name": "cross-entropy"} | nats),
            "restricted_loss": ("split", restricted_loss.numpy(), {"long_name": "loss of the key frequencies alone"} | nats),
            "excluded_loss": ("split", excluded_loss.numpy(), {"long_name": "loss without the key frequencies"} | nats),
            "restricted_accuracy": ("split", restricted_accuracy.numpy(), {"long_name": "accuracy of the key frequencies alone"} | one),
            "largest_excluded_loss": (
                "split",
                by_frequency.max(1).values.numpy(),
                {"long_name": "largest loss without one frequency, whichever"} | nats,
            ),
            "excluded_loss_of_frequency": (
                ("split", "frequency"),
                by_frequency.numpy(),
                {"long_name": "loss without one frequency"} | nats,
            ),
            "test_to_restricted_ratio": ((), float(loss[2] / restricted_loss[0]), {"long_name": "test loss / restricted loss"} | one),
            "is_key": ("frequency", is_key, {"long_name": "taken as key"} | one),
        },
        coords={
            "split": ("split", np.array(SPLITS), {"long_name": "split", "units": "name"}),
            "frequency": ("frequency", frequencies, {"long_name": "frequency k"} | one),
        },
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step; losses in nats and accuracies by split, null where the split is unknown. `largest_excluded_frequency` is the
    frequency whose removal raises the loss on all pairs most."""
    last = result.isel(step=-1)
    names = ("loss", "restricted_loss", "excluded_loss", "restricted_accuracy", "largest_excluded_loss")
    values = {name: {split: _known(last[name].sel(split=split)) for split in SPLITS} for name in names}
    without = last.excluded_loss_of_frequency.sel(split="all")
    return {
        "step": int(last.step),
        "key_frequencies": _key(last),
        **values,
        "excluded_loss_of_frequency": {str(k): _known(without.sel(frequency=k)) for k in _key(last)},
        "largest_excluded_frequency": int(last.frequency.values[without.values.argmax()]) if np.isfinite(without.values).all() else None,
        "test_to_restricted_ratio": _known(last.test_to_restricted_ratio),
    }


def plot(result: xr.Dataset):
    """Restricted and excluded loss beside train and test loss; the excluded loss of every frequency; restricted accuracy; the ratio."""
    import plotly.graph_objects as go

    steps, key = result.step.values, _key(result.isel(step=-1))
    known = bool(np.isfinite(result.loss.sel(split="train").values).any())
    seen = "train" if known else "all"
    panels = (
        "Restricted and excluded loss",
        f"Loss without one frequency, {seen} pairs",
        "Accuracy of the key frequencies alone",
        "Test loss / restricted loss" if known else "Loss / restricted loss, all pairs (no test pairs are known)",
    )
    figure = new_panels("Progress measures", panels, reference=REFERENCE, row_height=330, vertical_spacing=0.16)
    mode = "lines" if len(steps) > 1 else "lines+markers"

    def add(values: np.ndarray, name: str, line: dict, where: tuple[int, int], *, legend: str = "legend", shown: bool = True) -> None:
        if np.isfinite(values).any():
            trace = go.Scatter(x=steps, y=np.where(values > 0, values, np.nan), name=name, line=line, mode=mode, showlegend=shown)
            trace.update(legend=legend, hovertemplate=f"{name}<br>step %{{x}}: %{{y:.4g}}<extra></extra>")
            figure.add_trace(trace, row=where[0], col=where[1])

    for split, color in (("train", TRAIN), ("test", TEST)) if known else (("all", TRAIN),):
        add(result.loss.sel(split=split).values, f"{split} loss", {"color": color, "width": 1.6}, (1, 1))
    add(result.restricted_loss.sel(split="all").values, "restricted loss, all", {"color": PALETTE[2], "width": 2.4}, (1, 1))
    add(result.excluded_loss.sel(split=seen).values, f"excluded loss, {seen}", {"color": PALETTE[3], "width": 2.4}, (1, 1))
    for k in sorted(map(int, result.frequency.values), key=lambda k: k in key):
        line = {"color": color_of_frequency(k, key), "width": 2 if k in key else 0.5}
        values = result.excluded_loss_of_frequency.sel(split=seen, frequency=k).values
        add(values, f"without k = {k}", line, (1, 2), legend="legend2", shown=k in key)
    largest = result.largest_excluded_loss.sel(split=seen).values
    add(largest, "largest over all k", {"color": "#222", "width": 1.4, "dash": "dot"}, (1, 2), legend="legend2")
    for split, color in (("train", TRAIN), ("test", TEST)) if known else (("all", TRAIN),):
        values = result.restricted_accuracy.sel(split=split).values
        trace = go.Scatter(x=steps, y=values, name=f"restricted accuracy, {split}", line={"color": color, "width": 1.8}, mode=mode)
        figure.add_trace(trace.update(legend="legend3"), row=2, col=1)
    of_all = result.loss.sel(split="all").values / result.restricted_loss.sel(split="all").values
    ratio = result.test_to_restricted_ratio.values if known else of_all
    add(ratio, "ratio", {"color": "#222", "width": 1.8}, (2, 2), shown=False)
    threshold_line(figure, 1, row=2, column=2)
    # Each legend beside or under its own panel, where no curve can run through it.
    figure.update_layout(
        margin_r=190,
        legend={"orientation": "h", "x": 0, "y": 0.52, "yanchor": "top", "font_size": 11},
        legend2={"x": 1.01, "xanchor": "left", "y": 1, "yanchor": "top", "font_size": 11},
        legend3={"orientation": "h", "x": 0, "y": -0.09, "yanchor": "top", "font_size": 11},
    )
    figure.update_xaxes(title_text="step (updates)", title_standoff=4)
    power_of_ten_axis(figure, row=1, col=1, title_text="cross-entropy (nats)")
    power_of_ten_axis(figure, row=1, col=2, title_text="cross-entropy (nats)")
    percent_axis(figure, row=2, col=1, title_text="accuracy")
    figure.update_yaxes(type="log", exponentformat="power", title_text="ratio", row=2, col=2)
    return figure


def _diagonals(task: Task) -> Int[Tensor, "n n"]:
    """The pairs, as row-major indices, of phases (a, s − a) at [s, a]: along a row of it P_k L does not change."""
    phase = task.coordinates
    residue = np.arange(phase.order)
    return torch.from_numpy(phase.rows[residue] * task.p + phase.columns[(residue[:, None] - residue) % phase.order])


def _losses_without(
    logits: Float[Tensor, "n n c"],
    labels: Int[Tensor, "n n"],
    projections: Float[Tensor, "n c P"],
    weights: Float[Tensor, "splits n n"],
    label_weights: Float[Tensor, "splits n c"],
) -> Float[Tensor, "splits P"]:
    """CE(L − P L) of every projection P L. That is one table over (s, c), so Σ_c exp(L − P L) is for all of them at once the matrix
    product of exp(L) [pairs of s, c] with exp(−P L) [c, projection]: no exponential over pairs, classes and frequencies is taken."""
    right, highest = logits.gather(-1, labels[..., None]), logits.amax(-1, keepdim=True)
    removed = -projections
    largest = removed.amax(1, keepdim=True)
    log_sums = ((logits - highest).exp_() @ (removed - largest).exp_()).log_().add_(highest - right).add_(largest)
    # The two factors have their largest terms at different classes, so the product may underflow, by no more than the range of P_k L.
    for index in torch.nonzero((largest - removed).amax((0, 1)) > 600)[:, 0].tolist():
        log_sums[..., index] = (logits + removed[:, None, :, index]).logsumexp(-1) - right[..., 0]
    losses = weights.flatten(1) @ log_sums.flatten(0, 1) - label_weights.flatten(1) @ removed.flatten(0, 1)
    return losses.clamp(min=0)  # rounding of a loss far below 1e-12


def _key(result: xr.Dataset) -> list[int]:
    return [int(k) for k in result.frequency.values[result.is_key.values.astype(bool)]]


def _known(value: xr.DataArray) -> float | None:
    return float(value) if np.isfinite(value) else None
