"""Circuit efficiency. How much logit does the part of the weights with the key frequencies give alone, for its norm?

All weights are split into three parts that add up to them and are orthogonal in every tensor, so that their squared
norms add up too:

                 generalizing                   memorizing                   shared
    W_E, W_U     key frequencies over tokens,   the other frequencies        constant, `=`, residues without a phase
                 classes
    W_V          reads the space that the key   reads what is orthogonal     of the last layer's attention, W_Q, W_K
                 frequencies of W_E span        to that space
    W_O          reads what this W_V gives      the rest
    W_in, b_in,  neurons that a key frequency   every other living neuron    dead neurons; b_out, W_pos, layers before,
    W_out        explains by half or more                                    norms, other biases

(W_gate goes with W_in. Where attention reads through a norm, its space is that of the normalized embedding, and a tied
W_U goes with W_E. Without embedding an MLP's W_in and W_out are split both ways: generalizing is a key frequency in
such a neuron, memorizing the rest but for the constant. Of an MLP with several hidden layers W_in is split over tokens
alone, the last W_l by its neurons, and what is between is shared.) The network is run with the generalizing part and
what is shared, on a fixed random sample of pairs, and S is the held-out strength that it has then
(`interp.mathematics.circuits`, the generalizing one): the mean logit of the label that is told from pairs that could
not be memorized.

    efficiency = S / ‖generalizing part‖        in logits per norm; NaN for a part without norm

A split is a definition and makes numbers of any weights. So it is made once more for 19 random sets of as many
frequencies that are not key: a number above all of theirs is what one set in 20 has if the key set is like them. Only
what stands apart is kept. Key set v range of the random sets, on two runs (reference, p = 43; preset `spiky`, p = 113):

                                   step 100             step 300             step 600             last step
    reference   S                  2.9 v −0.03 to 0.03  4.6 v −0.04 to 0.05  13 v −0.03 to 0.05   43 v 0.00
                efficiency         0.19 v 0.00          0.28 v 0.00          0.65 v 0.00          2.0 v 0.00
                accuracy, held out 5.7 % v 1 to 4 %     5.1 % v 1 to 4 %     19 % v 1 to 4 %      100 % v 1 to 4 %
                norm               16 v 11 to 12        17 v 11 to 13        20 v 11 to 12        22 v 9 to 10
    spiky       S                  5.0 v −0.01 to 0.01  27 v 0.00            47 v 0.00            50 v 0.00
                efficiency         0.22 v 0.00          0.90 v 0.00          1.5 v 0.00           1.7 v 0.00
                accuracy, held out 22 % v 0 to 2 %      98 % v 0 to 2 %      100 % v 0 to 2 %     100 % v 0 to 2 %
                norm               23 v 15 to 16        30 v 10 to 11        31 v 10 to 12        29 v 12 to 14

From steps 23 (norm), 65 (S, efficiency) and 300 (accuracy) of the reference run on the key set is above all 19; in
`spiky` from 20, 60 and 80 on; before training nowhere. Random sets have no neurons; with those of the key set they
answer no better (S at most 0.2).

Not kept is what random sets do as well. The ratio of a strength in the whole network's logits to the norm of either
part is, at equal strengths, that of two norms, and any small part of the weights makes it large: 2.0 to 2.35 at step
300 of the reference run where the key set makes it 1.34. What the memorizing part does alone lies among what all but a
random set does, or below: strength 0.9 v 0.8 to 2.1 at step 100 and 0.8 v 0.1 to 1.3 at 600, and it knows fewer
training pairs than any of these from 300 to 1,500. And up to 600 the loss of the generalizing part alone is above
theirs, who say nothing.

Varma et al. measure efficiency on networks with one circuit only, as logit over the norm of all weights. Within a run
the split is ours. It cannot show which weights a circuit needs: by chance a random matrix has a share 2·(number of key
frequencies)/(dimension) in a key space, a weight may serve both circuits, and a part that fails alone may still be
needed. Nor does it say what memorizing costs, and so not why a network generalizes. The length of what only a norm
reads changes no answer, and is counted all the same: an efficiency is none to compare with that of a network without
norms.
"""

import math

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from interp.analysis import axes
from interp.experiment import ModelConfig
from interp.figures import PALETTE, band, new_panels, percent_axis
from interp.mathematics import circuits, fourier, grokking
from interp.mathematics.cross_entropy import judge_
from interp.mathematics.pair_samples import pair_sample
from interp.mathematics.random_sets import random_sets
from interp.models import Weights, logits, neuron_axes, norm
from interp.runs import Checkpoint, phase_pairs

REFERENCE = "after Varma et al. 2023, arXiv:2309.02390, §3; the split of one network's weights is ours"
CORE = True
PLACE = 13
SCALES = {
    "norm": "magnitude",
    "share_of_squared_norm": "share",
    "strength_alone": "signed",
    "efficiency": "signed",
    "accuracy_alone": "share",
}
PARTS = ("generalizing", "memorizing", "shared")
RANDOM = tuple(f"random_{draw}" for draw in range(1, 20))
SETS = ("key", *RANDOM)
SPLITS = ("all", "train", "test", "held_out")
# A part with a smaller share of the norm of all weights is the rounding of what it is told from, in float32.
ROUNDING = 1e-6


def measure(
    checkpoint: Checkpoint, *, key_frequencies: list[int] | None = None, threshold: float = 0.5, n_pairs: int = 1024
) -> xr.Dataset:
    """`norm`, `n_neurons` [set, part]; `tensor_norm` [part, tensor] of the key set; of the network with a set's
    generalizing part and what is shared, `strength` and `efficiency` [set], `accuracy` [set, split].

    `key_frequencies` are those of the run's last checkpoint; of a checkpoint alone, its own. The first set is theirs,
    the others are random (`interp.mathematics.random_sets`), NaN where there are not so many. The network is judged on
    a fixed random sample of `n_pairs` pairs, to which held-out ones are added if these are fewer than 256. Strengths
    are NaN where fewer than 20 independent pairs are held out.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> found = measure(circuit_checkpoint(interp.Task(11, train_fraction=0.5), circuit_neurons([2, 5])))
    >>> key = found.sel(set="key")
    >>> key.norm.values.round(1).tolist(), key.n_neurons.values.tolist()  # all of it generalizes
    ([43.6, 0.0, 0.0], [18, 0, 0])
    >>> found.accuracy.sel(split="held_out").values.round(2)[:5].tolist()  # there are three sets of two among 1, 3, 4
    [1.0, 0.0, 0.0, 0.0, nan]
    """
    key = checkpoint.spectrum.frequencies_to_use(key_frequencies)
    judged = _Judge(checkpoint, n_pairs)
    norm, strength = np.full((len(SETS), 3), np.nan), np.full(len(SETS), np.nan)
    n_neurons, accuracy = np.zeros((len(SETS), 3), dtype=np.int32), np.full((len(SETS), len(SPLITS)), np.nan)
    tensor_norm = np.zeros((len(PARTS), len(checkpoint.weights)))
    sets = [key, *random_sets(checkpoint.spectrum.n_frequencies, key, len(RANDOM))]
    for place, frequencies in enumerate(sets):
        parts, n_neurons[place] = split_weights(checkpoint, frequencies, threshold)
        norms = np.array([_norms(part) for part in parts])
        tensor_norm = norms if place == 0 else tensor_norm
        norm[place] = np.sqrt(np.square(norms).sum(1))
        strength[place], accuracy[place] = judged.alone(parts[0], parts[2])
    whole = math.sqrt(np.square(tensor_norm).sum())
    own = np.where(norm[:, 0] > ROUNDING * whole, norm[:, 0], np.nan)
    one, logit = {"units": "1"}, {"units": "logits"}
    return xr.Dataset(
        {
            "norm": (("set", "part"), norm, {"long_name": "L2 norm of the part"} | one),
            "tensor_norm": (("part", "tensor"), tensor_norm, {"long_name": "L2 norm by tensor"} | one),
            "n_neurons": (("set", "part"), n_neurons, {"long_name": "neurons", "units": "neurons"}),
            "strength": ("set", strength, {"long_name": "held-out strength of the part alone"} | logit),
            "efficiency": ("set", strength / own, {"long_name": "strength alone / norm of the part"} | logit),
            "accuracy": (("set", "split"), accuracy, {"long_name": "accuracy of the part alone"} | one),
        },
        coords=axes(
            {
                name: (name, np.array(values), {"long_name": name, "units": "name"})
                for name, values in {
                    "set": SETS,
                    "part": PARTS,
                    "tensor": list(checkpoint.weights),
                    "split": SPLITS,
                }.items()
            }
        ),
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step: norms of the three parts and their shares of the squared norm, neurons by part; of the
    generalizing part alone the strength in logits, the efficiency and the accuracy by split; `random_sets`: how many
    there are, and the lowest and the highest of the same numbers over them; and the first step from which on strength
    and held-out accuracy of the key set's part alone are above those of all random sets and stay it
    (`interp.mathematics.grokking.crossing`). Null where unknown."""
    last = result.isel(step=-1)
    own, random = last.sel(set="key"), last.sel(set=list(RANDOM))
    share = _shares(last.norm)

    def ends(values: xr.DataArray) -> list[float]:
        return [float(values.min()), float(values.max())]

    def above_from(values: xr.DataArray) -> int | None:
        highest = values.sel(set=list(RANDOM)).max("set")
        key = values.sel(set="key")
        states = np.where(np.isfinite(highest) & np.isfinite(key), key > highest, np.nan)
        found = grokking.crossing(result.step.values, states)
        return grokking.whole(found.at) if found is not None else None

    return {
        "step": int(last.step),
        "norm": {part: float(own.norm.sel(part=part)) for part in PARTS},
        "share_of_squared_norm": {part: float(share.sel(set="key", part=part)) for part in PARTS},
        "neurons": {part: int(own.n_neurons.sel(part=part)) for part in PARTS},
        "strength_alone": {"generalizing": float(own.strength)},
        "efficiency": {"generalizing": float(own.efficiency)},
        "accuracy_alone": {"generalizing": {split: float(own.accuracy.sel(split=split)) for split in SPLITS}},
        "random_sets": {
            "sets": int(np.isfinite(random.norm.sel(part="shared")).sum()),
            "norm": ends(random.norm.sel(part="generalizing")),
            "share_of_squared_norm": ends(share.sel(set=list(RANDOM), part="generalizing")),
            "strength_alone": ends(random.strength),
            "efficiency": ends(random.efficiency),
            "accuracy_alone": {split: ends(random.accuracy.sel(split=split)) for split in SPLITS},
        },
        "strength_alone_above_random_sets_from": above_from(result.strength),
        "accuracy_alone_above_random_sets_from": above_from(result.accuracy.sel(split="held_out")),
    }


def plot(result: xr.Dataset):
    """Norms of the parts, and of the generalizing part alone the share of the squared norm, strength, efficiency and
    accuracy over training; as bands, the same of random sets."""
    import plotly.graph_objects as go

    panels = (
        "Norm of each part",
        "Share of the squared norm",
        "Strength of the part alone",
        "Efficiency: strength alone / norm",
        "Held-out accuracy, the part alone",
        "Train accuracy, the part alone",
    )
    figure = new_panels("Circuit efficiency", panels, reference=REFERENCE, vertical_spacing=0.11)
    colors = dict(zip(PARTS, (PALETTE[2], PALETTE[3], PALETTE[6]), strict=True))
    steps, mode = result.step.values, "lines" if result.sizes["step"] > 1 else "lines+markers"
    known = bool(np.isfinite(result.accuracy.sel(set="key", split="held_out")).any())
    held_out, train = ("held_out", "train") if known else ("all", "all")
    share = _shares(result.norm)

    def add(values: xr.DataArray, name: str, color: str, row: int, column: int, *, legend: bool = False) -> None:
        trace = go.Scatter(x=steps, y=values.values, mode=mode, line={"color": color, "width": 1.8}, name=name)
        trace.update(showlegend=legend, hovertemplate=f"{name}<br>step %{{x}}: %{{y:.4g}}<extra></extra>")
        figure.add_trace(trace, row=row, col=column)

    def beside(values: xr.DataArray, row: int, column: int, *, legend: bool = False) -> None:
        """The generalizing part's, over the band of random sets."""
        random = values.sel(set=list(RANDOM))
        limits = random.min("set").values, random.max("set").values
        if np.isfinite(limits).any():
            band(figure, steps, limits, colors["shared"], row=row, col=column, name="random sets")
            figure.data[-1].update(showlegend=legend, opacity=0.4)
        add(values.sel(set="key"), "generalizing", colors["generalizing"], row, column, legend=legend)

    beside(result.norm.sel(part="generalizing"), 1, 1, legend=True)
    for part in PARTS[1:]:
        add(result.norm.sel(set="key", part=part), part, colors[part], 1, 1, legend=True)
    beside(share.sel(part="generalizing"), 1, 2)
    beside(result.strength, 2, 1)
    beside(result.efficiency, 2, 2)
    beside(result.accuracy.sel(split=held_out), 3, 1)
    beside(result.accuracy.sel(split=train), 3, 2)
    figure.update_layout(margin_r=190, legend={"x": 1.01, "xanchor": "left", "y": 1, "yanchor": "top", "font_size": 11})
    figure.update_xaxes(title_text="step (updates)", title_standoff=4)
    figure.update_yaxes(title_text="L2 norm", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="logits", row=2, col=1)
    figure.update_yaxes(title_text="logits / norm", row=2, col=2)
    for row, column, title in ((1, 2, "share"), (3, 1, "accuracy"), (3, 2, "accuracy")):
        percent_axis(figure, row=row, col=column, title_text=title)
    return figure


def _norms(part: Weights) -> list[float]:
    """The norm of every tensor, summed in float64."""
    return torch.stack([torch.linalg.vector_norm(weight, dtype=torch.float64) for weight in part.values()]).tolist()


def _shares(norm: xr.DataArray) -> xr.DataArray:
    square = norm**2
    total = square.sum("part")
    return square / total.where(total > 0)


class _Judge:
    """What a part of a network answers, on a sample of its pairs."""

    def __init__(self, checkpoint: Checkpoint, n_pairs: int) -> None:
        self.model, self.task, pairs = checkpoint.model, checkpoint.task, phase_pairs(checkpoint.task)
        places, is_drawn = pair_sample(pairs.is_held_out, n_pairs)
        self.pairs = pairs.some(places)
        self.inputs, self.labels = (
            torch.from_numpy(values)[self.pairs.row_major] for values in (self.task.pairs, self.task.labels)
        )
        within = torch.from_numpy(np.stack([self.task.mask(split) for split in SPLITS]))[:, self.pairs.row_major]
        # Held-out pairs that were added to the draw do not stand for all.
        self.splits = within & (is_drawn | torch.tensor([[split == "held_out"] for split in SPLITS]))

    def alone(self, part: Weights, shared: Weights) -> tuple[float, np.ndarray]:
        """The held-out strength and the accuracy on each split, of a part and what is shared."""
        network = _without_silent_neurons({name: weight + shared[name] for name, weight in part.items()}, self.model)
        outputs = logits(network, self.model, self.inputs)
        strength, _ = circuits.strengths(circuits.centred(outputs, self.task.coordinates), self.pairs)
        _, correct = judge_(outputs.T.contiguous(), self.labels)
        counts = self.splits.sum(1).double()
        return strength, ((self.splits & correct).sum(1) / counts).numpy()


def split_weights(
    checkpoint: Checkpoint, key: list[int], threshold: float
) -> tuple[tuple[Weights, Weights, Weights], list[int]]:
    """The three parts of the weights, which add up to them, and the number of neurons in each."""
    weights, model, phase = checkpoint.weights, checkpoint.model, checkpoint.task.coordinates
    explained = checkpoint.spectrum.neuron_shares.nan_to_num(nan=-1).amax(0)
    frequencies = checkpoint.spectrum.neuron_frequencies
    living = frequencies > 0
    follows = living & torch.isin(frequencies, torch.tensor(key, dtype=torch.long)) & (explained >= threshold)
    own, other = follows.to(explained.dtype), (living & ~follows).to(explained.dtype)
    of_neurons = {name: axis for name, axis in neuron_axes(model).items() if name in weights}
    # Without embedding an MLP's last map is over classes too; with one hidden layer its first is over tokens.
    is_bare = model.family == "mlp" and model.embedding == "none"
    split_both_ways = {n: of_neurons[n] for n in ("mlp.W_in", "mlp.W_out") if is_bare and n in of_neurons}
    generalizing = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    memorizing = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    def over_tokens(name: str, residues: np.ndarray, transposed: bool, rows: slice = slice(None)) -> None:
        """The Fourier basis over the tokens or classes that index the rows of a matrix, or, transposed, its columns."""
        index, whole = torch.from_numpy(residues), weights[name].T if transposed else weights[name]
        kept, rest = _by_frequency(whole[rows][index], key)
        for part, values in ((generalizing, kept), (memorizing, rest)):
            (part[name].T if transposed else part[name])[rows][index] = values

    if model.family == "transformer":
        for tokens in checkpoint.token_rows:
            over_tokens("embed.W_E", tokens.numpy(), transposed=False)
        if not model.tied:
            over_tokens("unembed.W_U", phase.classes, transposed=True)
        if model.n_layers == 1:
            _split_attention(checkpoint, key, generalizing, memorizing)
    elif model.embedding == "none":
        p = checkpoint.task.p
        over_tokens("mlp.W_in", phase.rows, transposed=False, rows=slice(0, p))
        if model.inputs == "concatenated":
            over_tokens("mlp.W_in", phase.columns, transposed=False, rows=slice(p, None))
        over_tokens("mlp.W_out", phase.classes, transposed=True)
        for name, axis in split_both_ways.items():
            shape = (-1, 1) if axis == 0 else (1, -1)
            memorizing[name] = (memorizing[name] + generalizing[name] * (1 - own).view(shape)) * (own + other).view(
                shape
            )
            generalizing[name] *= own.view(shape)
    else:
        over_tokens("embed.W_E", phase.rows, transposed=False)
        if model.embedding == "untied":
            over_tokens("unembed.W_U", phase.classes, transposed=True)
    for name, axis in of_neurons.items():
        if name not in split_both_ways:
            _by_neuron(weights, generalizing, memorizing, name=name, axis=axis, own=own, other=other)
    shared = {name: weight - generalizing[name] - memorizing[name] for name, weight in weights.items()}
    n_own, n_living = int(own.sum()), int(living.sum())
    return (generalizing, memorizing, shared), [n_own, n_living - n_own, len(living) - n_living]


def _without_silent_neurons(weights: Weights, model: ModelConfig) -> Weights:
    """The same network without the last layer's neurons that say nothing: of a part's, most."""
    axes = neuron_axes(model)
    (W_out,) = (name for name in axes if name.endswith("W_out"))
    speaks = weights[W_out].any(1)
    return {
        name: weight.index_select(axes[name], speaks.nonzero()[:, 0]) if name in axes else weight
        for name, weight in weights.items()
    }


def _by_frequency(rows: Float[Tensor, "n features"], key: list[int]) -> tuple[Tensor, Tensor]:
    """The parts of a function on the phases in the key frequencies, and in all others; neither has the constant."""
    kept = (_waves(len(rows), key).T @ _coefficients(rows, key)).to(rows.dtype)
    return kept, rows - rows.mean(0) - kept


def _coefficients(rows: Float[Tensor, "n features"], key: list[int]) -> Float[Tensor, "waves features"]:
    return _waves(len(rows), key) @ rows.double()


def _waves(n: int, key: list[int]) -> Float[Tensor, "waves n"]:
    return fourier.pairs(n)[[k - 1 for k in key]].flatten(0, 1)


def _split_attention(checkpoint: Checkpoint, key: list[int], generalizing: Weights, memorizing: Weights) -> None:
    """W_V by whether it reads the space that W_E's key frequencies span, W_O by whether it reads what that part of W_V
    gives."""
    weights, model = checkpoint.weights, checkpoint.model
    W_E, W_V, W_O = (weights[name] for name in ("embed.W_E", "blocks.0.attn.W_V", "blocks.0.attn.W_O"))
    # The rows of the key frequencies' part are sums of these few, over orthonormal waves: they span the same space.
    read = [W_E]
    if model.norm.is_at("attention") and model.norm.order == "pre":
        read = [norm(weights, model, "blocks.0.ln1", W_E + weights["pos_embed.W_pos"][i]) for i in model.inputs_at]
    by_tokens = [_coefficients(whole[tokens], key) for whole in read for tokens in checkpoint.token_rows]
    rows = torch.cat(by_tokens).to(W_E.dtype)
    space = _orthonormal(rows.T, ROUNDING * W_E.norm())
    reads = space @ (space.T @ W_V)
    sizes = torch.linalg.vector_norm(W_V.flatten(1), dim=1)
    given = _orthonormal((rows @ W_V).transpose(1, 2), ROUNDING * W_E.norm() * sizes)
    passes = given @ (given.transpose(1, 2) @ W_O)
    for name, whole, part in (("W_V", W_V, reads), ("W_O", W_O, passes)):
        generalizing[f"blocks.0.attn.{name}"] = part
        memorizing[f"blocks.0.attn.{name}"] = whole - part


def _orthonormal(
    columns: Float[Tensor, "*heads rows columns"], rounding: Float[Tensor, "*heads"]
) -> Float[Tensor, "*heads rows rank"]:
    """An orthonormal basis of the space that the columns span, but for what is no more than rounding; of several spaces
    at once, zeros where others have more dimensions."""
    if columns.shape[-1] == 0:
        return columns
    U, S, _ = torch.linalg.svd(columns, full_matrices=False)
    return U * (torch.maximum(1e-5 * S[..., :1], rounding[..., None]) < S)[..., None, :]


def _by_neuron(
    weights: Weights, generalizing: Weights, memorizing: Weights, *, name: str, axis: int, own: Tensor, other: Tensor
) -> None:
    shape = [1] * weights[name].ndim
    shape[axis] = -1
    generalizing[name], memorizing[name] = weights[name] * own.view(shape), weights[name] * other.view(shape)
