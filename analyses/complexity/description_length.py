"""Description length. In how few bits can the network be said, and is it less than the table it was trained on?

K_ε = the length of the shortest code found whose weights θ̂ have |L(θ̂) − L(θ)| < ε, L the mean cross-entropy of the
training labels. Coarse weights are truncated singular values and one quantization step Δ for all
(`interp.mathematics.coarse_graining`), their integers cost what the Krichevsky–Trofimov code needs. Beside it:

    what a compressor makes of the same integers (bzip2, lzma), and of the weights as they are (bzip2)
    the labels themselves, n log₂K bits of n pairs and K classes: those trained on, and the whole table
    the two-part code of the training labels, K_ε + n L(θ̂)/ln 2

The network compresses its data only where the two-part code is shorter than n log₂K. An untrained network needs next to
nothing: within ε of guessing is a network of zeros. So K rises where labels are memorized.

Neurons that change places are the same network: a receiver that needs no order would save log₂ m! bits of m different
neurons of the last layer, which is told and not subtracted. It cannot tell the Kolmogorov complexity, which is at most
that; nor that a short code is the cause of generalization. Coarse weights within ε may know fewer pairs: their accuracy
stands beside every length.
"""

import bz2
import lzma
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from scipy.special import gammaln

from interp.analysis import axes
from interp.errors import InputError, check_number
from interp.figures import NEUTRAL, PALETTE, SEQUENTIAL, as_number, as_percent, new_panels, percent_axis, plain_log_axis
from interp.mathematics.coarse_graining import Factored, shortest
from interp.mathematics.cross_entropy import judge_
from interp.models import logits, neuron_axes
from interp.runs import Checkpoint

if TYPE_CHECKING:
    import plotly.graph_objects as go

ASKS = "answers"
REFERENCE = "DeMoss et al. 2024, arXiv:2412.09810, §4; Krichevsky & Trofimov 1981, doi:10.1109/TIT.1981.1056331"
ON_REQUEST = True
MOST_STEPS = 24
SCALES = {"": "magnitude"}
TOLERANCES = [0.01, 0.03, 0.1, 0.3, 1.0]
CODES = ("shortest", "dense", "bzip2", "lzma")
REFERENCES = ("training labels", "all labels", "float32 under bzip2")
SPLITS = ("train", "held_out")
OF_SHORTEST = {
    "two_part_bits": "weights and training labels, bit",
    "symmetry_bits": "what the order of its different neurons says, bit",
    "tau": "share of the singular values that is kept, 1",
    "quantization_step": "quantization step, 1",
    "coarse_train_loss": "training loss of the coarse network, nat",
}


def measure(checkpoint: Checkpoint, *, tolerances: Sequence[float] = TOLERANCES) -> xr.Dataset:
    """For each ε of `tolerances` in nats the `bits` [epsilon, code] of the shortest code, of the shortest without
    truncated singular values (dense), and what bzip2 and lzma make of the integers of the shortest; of the shortest
    `two_part_bits`, `symmetry_bits`, `tau` and `quantization_step`, and its network's `coarse_train_loss` and
    `coarse_accuracy` [epsilon, split]. And `reference_bits` [reference]: of the training labels, of all labels, and of
    the float32 weights compressed by bzip2.

    NaN of codes where no training pairs are known, and where no code was found.

    Raises InputError for tolerances that are not above 0, or twice the same.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> found = [measure(run[step]).bits.sel(epsilon=1.0, code="shortest").item() / 8 for step in (0, 100, 1000)]
    >>> [round(size, -2) for size in found]  # bytes: untrained, memorized, generalized
    [0.0, 5900.0, 1900.0]
    """
    for tolerance in tolerances:
        check_number("tolerances", tolerance, 0, above=True)
    if len({*tolerances}) < len(tolerances):
        raise InputError(f"tolerances have to differ; got {' '.join(map(str, tolerances))}")
    task, n_classes = checkpoint.task, checkpoint.logits.shape[-1]
    weights = {name: weight.numpy() for name, weight in checkpoint.weights.items()}
    n_trained = len(task.train_indices)
    bits = np.full((len(tolerances), len(CODES)), np.nan)
    accuracy = np.full((len(tolerances), len(SPLITS)), np.nan)
    rows = {name: np.full(len(tolerances), np.nan) for name in OF_SHORTEST}
    if n_trained:
        splits = [_Split(checkpoint, task.mask(split)) for split in SPLITS]
        known = splits[0].judged(weights)[0]

        def distortion(coarse: Mapping[str, np.ndarray]) -> float:
            return abs(splits[0].judged(coarse)[0] - known)

        factored = Factored(weights)
        dense = shortest(factored, distortion, tolerances, taus=(1.0,))
        for place, (found, plain) in enumerate(zip(shortest(factored, distortion, tolerances), dense, strict=True)):
            bits[place, 1] = plain.code.bits if plain else np.nan
            if found:
                packed, coarse = found.code.packed, found.code.decoded(factored.shapes)
                bits[place, 0] = found.code.bits
                bits[place, 2:] = [8 * len(compress(packed)) for compress in (bz2.compress, lzma.compress)]
                (loss, accuracy[place, 0]), (_, accuracy[place, 1]) = (split.judged(coarse) for split in splits)
                values = {
                    "two_part_bits": found.code.bits + n_trained * loss / math.log(2),
                    "symmetry_bits": symmetry_bits(coarse, neuron_axes(checkpoint.model)),
                    "tau": found.tau,
                    "quantization_step": found.code.step,
                    "coarse_train_loss": loss,
                }
                for name, value in values.items():
                    rows[name][place] = value
    raw = b"".join(weight.tobytes() for weight in weights.values())
    labels = np.array([n_trained or math.nan, int(task.defined.sum())]) * math.log2(n_classes)
    bit, name = {"units": "bit"}, {"units": "name"}
    return xr.Dataset(
        {
            "bits": (("epsilon", "code"), bits, {"long_name": "length of the code"} | bit),
            "coarse_accuracy": (
                ("epsilon", "split"),
                accuracy,
                {"long_name": "accuracy of the coarse network", "units": "1"},
            ),
            "reference_bits": (
                "reference",
                np.r_[labels, 8.0 * len(bz2.compress(raw))],
                {"long_name": "what else it could be said by"} | bit,
            ),
        }
        | {
            one: ("epsilon", rows[one], dict(zip(("long_name", "units"), told.rsplit(", ", 1), strict=True)))
            for one, told in OF_SHORTEST.items()
        },
        coords=axes(
            {
                "epsilon": ("epsilon", np.array(tolerances), {"long_name": "ε", "units": "nat"}),
                "code": ("code", np.array(CODES), {"long_name": "code"} | name),
                "split": ("split", np.array(SPLITS), {"long_name": "split"} | name),
                "reference": ("reference", np.array(REFERENCES), {"long_name": "what it is compared with"} | name),
            }
        ),
    )


class _Split:
    """Some examples of a checkpoint, and what other weights make of them."""

    def __init__(self, checkpoint: Checkpoint, mask: np.ndarray) -> None:
        self.model, chosen = checkpoint.model, np.flatnonzero(mask)
        self.inputs = torch.from_numpy(checkpoint.task.inputs[chosen])
        self.labels = torch.from_numpy(checkpoint.task.labels[chosen])

    def judged(self, weights: Mapping[str, np.ndarray]) -> tuple[float, float]:
        """The mean cross-entropy, and the share that is right; NaN of no examples."""
        if not len(self.labels):
            return math.nan, math.nan
        with torch.no_grad():
            said = logits({name: torch.from_numpy(weight) for name, weight in weights.items()}, self.model, self.inputs)
            losses, correct = judge_(said.T.double(), self.labels)
        return losses.mean().item(), correct.double().mean().item()


def symmetry_bits(weights: Mapping[str, Float[np.ndarray, "..."]], axis_of: Mapping[str, int]) -> float:
    """log₂ of how many orders of the neurons there are that differ: m! over the factorials of how many are alike, in
    all tensors with an axis of neurons (`axis_of`).

    >>> symmetry_bits({"W_in": np.array([[1.0, 2, 3, 3]])}, {"W_in": 1})  # 4!/2!
    3.5849625007211565
    """
    of_neuron = [np.moveaxis(weights[name], axis, 0) for name, axis in axis_of.items() if name in weights]
    rows = np.concatenate([one.reshape(len(one), -1) for one in of_neuron], axis=1)
    _, alike = np.unique(rows, axis=0, return_counts=True)
    return float(gammaln(len(rows) + 1) - gammaln(alike + 1).sum()) / math.log(2)


def summary(result: xr.Dataset) -> dict:
    """Of the largest ε and of that nearest to a tenth of it: the bytes at the first and the last step and the most,
    with its step; how often the last goes into the most; the accuracies of the last coarse network; and whether its
    two-part code is shorter than the training labels. The bytes of these labels, of the whole table, and of the
    compressed weights at the last step."""
    last = result.isel(step=-1)
    told: dict = {
        "step": int(last.step),
        "label_bytes": float(last.reference_bits.sel(reference="training labels")) / 8,
        "table_bytes": float(last.reference_bits.sel(reference="all labels")) / 8,
        "raw_bzip2_bytes": float(last.reference_bits.sel(reference="float32 under bzip2")) / 8,
    }
    for tolerance in _told_at(result):
        one, end = result.sel(epsilon=tolerance), last.sel(epsilon=tolerance)
        size = one.bits.sel(code="shortest").values / 8
        known = np.isfinite(size).any()
        place = int(np.nanargmax(size)) if known else 0
        told[f"at {tolerance:g} nats"] = {
            "first_bytes": float(size[0]),
            "most_bytes": float(size[place]),
            "most_at": int(result.step.values[place]) if known else None,
            "last_bytes": float(size[-1]),
            "most_over_last": float(size[place] / size[-1]),
            "last_train_accuracy": float(end.coarse_accuracy.sel(split="train")),
            "last_held_out_accuracy": float(end.coarse_accuracy.sel(split="held_out")),
            "two_part_over_labels": float(end.two_part_bits / 8 / told["label_bytes"]),
            "is_a_compression": bool(end.two_part_bits / 8 < told["label_bytes"])
            if np.isfinite(end.two_part_bits)
            else None,
        }
    return told


def _told_at(result: xr.Dataset) -> list[float]:
    """The largest ε, and the one nearest to a tenth of it."""
    all_of_them = result.epsilon.values
    largest = all_of_them.max()
    return [
        float(one) for one in dict.fromkeys((largest, all_of_them[np.abs(np.log(all_of_them * 10 / largest)).argmin()]))
    ]


def in_words(found: Mapping) -> list[str]:
    """For each ε what the network needs and what its labels cost beside that, and what the labels and the weights cost
    by themselves."""
    lines = []
    for name, one in found.items():
        if not name.startswith("at ") or one["most_at"] is None or not math.isfinite(one["last_bytes"]):
            continue
        most, last = as_number(one["most_bytes"]), as_number(one["last_bytes"])
        trained, held_out = as_percent(one["last_train_accuracy"]), as_percent(one["last_held_out_accuracy"])
        is_one = "a compression of them" if one["is_a_compression"] else "no compression of them"
        lines += [
            f"within {name.removeprefix('at ')}: {most} bytes at most at step {one['most_at']:,}, where it is longest; "
            f"{last} at step {found['step']:,}",
            f"  there the coarse network knows {trained} of the training pairs and {held_out} of those held out; with "
            f"what it does not know it takes {as_number(one['two_part_over_labels'])} times the bytes of the training "
            f"labels: {is_one}",
        ]
    labels, table = as_number(found["label_bytes"]), as_number(found["table_bytes"])
    raw = as_number(found["raw_bzip2_bytes"])
    return [*lines, f"the training labels are {labels} bytes, all labels {table}, the weights under bzip2 {raw}"]


def plot(result: xr.Dataset):
    """K against the step, with what the labels cost; the accuracies of the coarse networks; K against ε at each step;
    and what else the same integers cost."""
    panels = (
        "Shortest code found",
        "What its coarse network knows (dotted: held out)",
        "Shortest code against ε (lighter: later)",
        f"The same weights in other codes, ε = {_told_at(result)[0]:g}",
    )
    figure = new_panels("Description length", panels, reference=REFERENCE, vertical_spacing=0.16)
    steps = result.step.values

    def draw(values: np.ndarray, name: str, color: str, row: int, column: int, **look: Any) -> None:
        marks = {"mode": "lines+markers", "marker_size": 4, "line": {"color": color, "width": 1.8}}
        figure.add_scatter(x=steps, y=values, name=name, **marks, row=row, col=column).data[-1].update(look)

    for place, epsilon in enumerate(_told_at(result)):
        one, name = result.sel(epsilon=epsilon), f"ε = {epsilon:g} nats"
        draw(one.bits.sel(code="shortest").values / 8, name, PALETTE[place], 1, 1)
        for split, dash in {"train": "solid", "held_out": "dot"}.items():
            accuracy = one.coarse_accuracy.sel(split=split).values
            draw(accuracy, name, PALETTE[place], 1, 2, line_dash=dash, showlegend=False)
    for name, dash in {"training labels": "dash", "all labels": "dot"}.items():
        values = result.reference_bits.sel(reference=name).values / 8
        draw(values, name, NEUTRAL, 1, 1, mode="lines", line_width=1, line_dash=dash)
    _draw_against_epsilon(figure, result)
    one = result.sel(epsilon=_told_at(result)[0])
    names = {"shortest": "KT code", "dense": "KT, no truncation", "bzip2": "bzip2", "lzma": "lzma"}
    for place, (code, name) in enumerate(names.items()):
        draw(one.bits.sel(code=code).values / 8, name, PALETTE[place], 2, 2, legend="legend2")
    raw = result.reference_bits.sel(reference="float32 under bzip2").values / 8
    draw(raw, "float32, bzip2", PALETTE[len(names)], 2, 2, legend="legend2")
    for row, column in ((1, 1), (2, 1), (2, 2)):
        drawn = np.concatenate([np.ravel(trace.y) for trace in figure.select_traces(row=row, col=column)])
        figure.update_yaxes(title_text="bytes", **plain_log_axis(drawn), row=row, col=column)
    percent_axis(figure, row=1, col=2)
    figure.update_xaxes(title_text="step (updates)")
    figure.update_xaxes(title_text="ε (nats)", **plain_log_axis(result.epsilon.values), row=2, col=1)
    figure.update_layout(legend={"y": 1, "yanchor": "top"}, legend2={"y": 0.4, "yanchor": "top"})
    return figure


def _draw_against_epsilon(figure: "go.Figure", result: xr.Dataset) -> None:
    """A curve for each step, lighter later."""
    from plotly.colors import sample_colorscale

    colors = sample_colorscale(SEQUENTIAL, np.linspace(0, 0.95, len(result.step)).tolist())
    for step, color in zip(result.step.values, colors, strict=True):
        figure.add_scatter(
            x=result.epsilon.values,
            y=result.bits.sel(step=step, code="shortest").values / 8,
            mode="lines",
            name=f"step {step:,}",
            line={"color": color, "width": 1.5},
            showlegend=False,
            row=2,
            col=1,
        )
