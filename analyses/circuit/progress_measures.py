"""Progress measures. How far has the generalizing circuit grown while the loss stands still, and how much is still
memorized?

With P_k the projection of a function of the n² pairs on cos w_k(a+b) and sin w_k(a+b), w_k = 2πk/n, applied to the
logits L class by class, and the cross-entropy CE in nats over the pairs of a split (all, train, test, held out:
`Task.held_out_mask`):

    restricted loss = CE(Σ_k P_k L + mean of L over all pairs),  k over the key frequencies
    excluded loss   = CE(L − Σ_k P_k L),  the mean not put back;  excluded loss of frequency k = CE(L − P_k L)

Of a run the key frequencies are those of its last checkpoint that has a circuit, the same for all checkpoints; of a
checkpoint alone, its own.

Restricted loss keeps nothing but the circuit; excluded loss takes the circuit away and leaves what is memorized. The
largest excluded loss over all k needs no key frequencies. The ratio is test loss / restricted loss on all pairs. With
an empty key set, restricted loss is that of the mean logits and excluded loss is the loss itself. Published: excluded
loss on train pairs; restricted loss on all.

It cannot tell where in the network the circuit sits; key frequencies are chosen with hindsight, and a frequency that
the network used for a while and gave up counts as memorized. For × and ÷ the pairs are those of units; without a phase
(random labels), of residues.
"""

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from interp.analysis import axes
from interp.experiment import Task
from interp.figures import (
    PALETTE,
    TEST,
    TRAIN,
    color_of_frequency,
    new_panels,
    percent_axis,
    power_of_ten_axis,
    threshold_line,
)
from interp.mathematics import fourier
from interp.runs import Checkpoint

REFERENCE = "Nanda et al. 2023, arXiv:2301.05217, §5.1 and App. C.2"
READS = ()
CORE = True
PLACE = 5
SPLITS = ("all", "train", "test", "held_out")
AT_ONCE = 8  # so many diagonals at once, in float64, stay in the processor's cache


def measure(checkpoint: Checkpoint, *, key_frequencies: list[int] | None = None) -> xr.Dataset:
    """`loss`, `restricted_loss`, `excluded_loss`, `restricted_accuracy`, `largest_excluded_loss` [split];
    `excluded_loss_of_frequency` [split, frequency]; `test_to_restricted_ratio`; `is_key` [frequency].

    `key_frequencies` are those of the run's last checkpoint that has a circuit; of a checkpoint alone, its own.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> found = measure(run[100], key_frequencies=run.key_frequencies)  # memorized, and not yet generalized
    >>> test = found.sel(split="test")
    >>> bool(test.restricted_loss < test.loss), bool(found.loss.sel(split="train") < 0.1)
    (True, True)
    """
    task, n_classes = checkpoint.task, checkpoint.logits.shape[-1]
    n = task.coordinates.order
    frequencies = np.arange(1, n // 2 + 1, dtype=np.int32)
    is_key = np.isin(frequencies, checkpoint.spectrum.frequencies_to_use(key_frequencies))

    pairs = _diagonals(task)
    # logits [s, a, c]
    logits = checkpoint.logits.reshape(-1, n_classes).index_select(0, pairs.flatten()).view(n, n, n_classes)
    labels = torch.from_numpy(task.labels)[pairs].clamp(min=0)
    masks = torch.stack([torch.from_numpy(task.mask(split))[pairs] for split in SPLITS])
    weights = masks / masks.sum((1, 2), keepdim=True).double()  # NaN for a split without pairs

    sums = torch.cat([some.double().sum(1) for some in logits.split(AT_ONCE)])
    coefficients = fourier.coefficients(sums) / n
    chosen = torch.from_numpy(is_key)
    # Σ_k P_k L, the same all along a diagonal.
    circuit = torch.einsum("kis,kic->sc", fourier.pairs(n)[chosen], coefficients[chosen])
    restricted = circuit + sums.mean(0) / n
    restricted_loss = -(weights * restricted.log_softmax(-1).gather(1, labels)).sum((1, 2))
    highest, answers = restricted.topk(2)
    # A tie is no answer (`interp.mathematics.cross_entropy`).
    answers = answers[:, :1].where(highest[:, :1] > highest[:, 1:], -1)
    restricted_accuracy = (masks & (answers == labels)).sum((1, 2)) / masks.sum((1, 2)).double()
    losses = torch.from_numpy(checkpoint.losses)[pairs].where(masks[0], 0)
    loss = (weights * losses).sum((1, 2))
    removed = sums.new_empty(len(frequencies) + 1, *sums.shape)  # every P_k L [s, c], and the circuit
    torch.matmul(fourier.pairs(n).transpose(1, 2), coefficients, out=removed[:-1])
    removed[-1] = circuit
    diagonals = zip(
        *(table.split(AT_ONCE, axis) for table, axis in ((logits, 0), (labels, 0), (weights, 1), (removed, 1))),
        strict=True,
    )
    label_weights = weights.new_zeros(len(SPLITS), n, n_classes).scatter_add_(2, labels.expand(weights.shape), weights)
    excluded = sum(_log_sums_without(*some) for some in diagonals) + label_weights.flatten(1) @ removed.flatten(1).T
    excluded.clamp_(min=0)  # rounding of a loss far below 1e-12
    by_frequency, excluded_loss = excluded[:, :-1], excluded[:, -1]

    nats, one = {"units": "nats"}, {"units": "1"}
    return xr.Dataset(
        {
            "loss": ("split", loss.numpy(), {"long_name": "cross-entropy"} | nats),
            "restricted_loss": (
                "split",
                restricted_loss.numpy(),
                {"long_name": "loss of the key frequencies alone"} | nats,
            ),
            "excluded_loss": ("split", excluded_loss.numpy(), {"long_name": "loss without the key frequencies"} | nats),
            "restricted_accuracy": (
                "split",
                restricted_accuracy.numpy(),
                {"long_name": "accuracy of the key frequencies alone"} | one,
            ),
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
            "test_to_restricted_ratio": (
                (),
                float(loss[SPLITS.index("test")] / restricted_loss[0]),
                {"long_name": "test loss / restricted loss"} | one,
            ),
            "is_key": ("frequency", is_key, {"long_name": "taken as key"} | one),
        },
        coords=axes(
            {
                "split": ("split", np.array(SPLITS), {"long_name": "split", "units": "name"}),
                "frequency": ("frequency", frequencies, {"long_name": "frequency k"} | one),
            }
        ),
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step, with these `key_frequencies`; losses in nats and accuracies by split, null where unknown.
    `largest_excluded_frequency` is the frequency whose removal raises the loss on all pairs most."""
    last = result.isel(step=-1)
    names = ("loss", "restricted_loss", "excluded_loss", "restricted_accuracy", "largest_excluded_loss")
    values = {name: {split: float(last[name].sel(split=split)) for split in SPLITS} for name in names}
    without = last.excluded_loss_of_frequency.sel(split="all")
    return {
        "step": int(last.step),
        "key_frequencies": _key(last),
        **values,
        "excluded_loss_of_frequency": {str(k): float(without.sel(frequency=k)) for k in _key(last)},
        "largest_excluded_frequency": int(last.frequency.values[without.values.argmax()])
        if np.isfinite(without.values).all()
        else None,
        "test_to_restricted_ratio": float(last.test_to_restricted_ratio),
    }


def plot(result: xr.Dataset):
    """Restricted and excluded loss beside train and test loss; the excluded loss of every frequency; restricted
    accuracy; the ratio."""
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

    def add(
        values: np.ndarray, name: str, line: dict, where: tuple[int, int], *, legend: str = "legend", shown: bool = True
    ) -> None:
        if np.isfinite(values).any():
            trace = go.Scatter(
                x=steps, y=np.where(values > 0, values, np.nan), name=name, line=line, mode=mode, showlegend=shown
            )
            trace.update(legend=legend, hovertemplate=f"{name}<br>step %{{x}}: %{{y:.4g}}<extra></extra>")
            figure.add_trace(trace, row=where[0], col=where[1])

    for split, color in (("train", TRAIN), ("test", TEST)) if known else (("all", TRAIN),):
        add(result.loss.sel(split=split).values, f"{split} loss", {"color": color, "width": 1.6}, (1, 1))
    add(
        result.restricted_loss.sel(split="all").values,
        "restricted loss, all",
        {"color": PALETTE[3], "width": 2.4},
        (1, 1),
    )
    add(
        result.excluded_loss.sel(split=seen).values,
        f"excluded loss, {seen}",
        {"color": PALETTE[2], "width": 2.4},
        (1, 1),
    )
    for k in sorted(map(int, result.frequency.values), key=lambda k: k in key):
        line = {"color": color_of_frequency(k, key), "width": 2 if k in key else 0.5}
        values = result.excluded_loss_of_frequency.sel(split=seen, frequency=k).values
        add(values, f"without k = {k}", line, (1, 2), legend="legend2", shown=k in key)
    largest = result.largest_excluded_loss.sel(split=seen).values
    add(largest, "largest over all k", {"color": "#222", "width": 1.4, "dash": "dot"}, (1, 2), legend="legend2")
    for split, color in (("train", TRAIN), ("test", TEST)) if known else (("all", TRAIN),):
        values = result.restricted_accuracy.sel(split=split).values
        trace = go.Scatter(
            x=steps, y=values, name=f"restricted accuracy, {split}", line={"color": color, "width": 1.8}, mode=mode
        )
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
    power_of_ten_axis(figure, row=2, col=2, title_text="ratio")
    return figure


def _diagonals(task: Task) -> Int[Tensor, "n n"]:
    """The pairs, as row-major indices, of phases (a, s − a) at [s, a]: along a row of it P_k L does not change."""
    phase = task.coordinates
    residue = np.arange(phase.order)
    return torch.from_numpy(phase.rows[residue] * task.p + phase.columns[(residue[:, None] - residue) % phase.order])


def _log_sums_without(
    logits: Float[Tensor, "s a c"],
    labels: Int[Tensor, "s a"],
    weights: Float[Tensor, "splits s a"],
    removed: Float[Tensor, "P s c"],
) -> Float[Tensor, "splits P"]:
    """What some diagonals add to the mean of log Σ_c exp(L − P L) − L_label, for every projection P L; it may write
    over the logits. P L is one table over (s, c), so Σ_c exp(L − P L) is for all of them at once the matrix product of
    exp(L) [pairs of s, c] with exp(−P L) [c, projection]: no exponential over pairs, classes and frequencies is
    taken."""
    logits = logits.double()
    highest, right = logits.amax(-1, keepdim=True), logits.gather(-1, labels[..., None])
    logits -= highest
    lowest = removed.amin(-1, keepdim=True)
    # The two factors have their largest terms at different classes, so the product may underflow, by no more than the
    # range of P_k L.
    wide = torch.nonzero((removed.amax(-1, keepdim=True) - lowest).amax((1, 2)) > 600)[:, 0].tolist()
    of_wide = {index: (logits + (lowest - removed)[index, :, None]).logsumexp(-1) for index in wide}
    log_sums = (logits.exp_() @ (lowest - removed).exp_().permute(1, 2, 0)).log_()
    for index, values in of_wide.items():
        log_sums[..., index] = values
    log_sums += highest - right
    return weights.flatten(1) @ log_sums.flatten(0, 1) - weights.sum(2) @ lowest[..., 0].T


def _key(result: xr.Dataset) -> list[int]:
    return [int(k) for k in result.frequency.values[result.is_key.values.astype(bool)]]
