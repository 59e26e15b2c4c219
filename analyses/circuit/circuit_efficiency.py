"""Circuit efficiency. How much logit does each circuit give for the norm of its own weights?

All weights are split into three parts that add up to them and are orthogonal in every tensor, so that their squared
norms add up too:

                 generalizing                   memorizing                   shared
    W_E, W_U     key frequencies over tokens,   the other frequencies        constant, `=`, residues without a phase
                 classes
    W_V          reads the space that the key   reads what is orthogonal     of the last layer's attention, W_Q, W_K
                 frequencies of W_E span        to that space
    W_O          reads what this W_V gives      the rest
    W_in, b_in,  neurons that a key frequency   every other living neuron    dead neurons; b_out, W_pos, layers before
    W_out        explains by half or more

(Without embedding an MLP's W_in and W_out are split both ways: generalizing is a key frequency in such a neuron,
memorizing the rest but for the constant.) With the held-out strengths S of `interp.mathematics.circuits`, the mean
logits of the label in the two parts of the logits,

    efficiency = S / ‖own part‖        scale-free efficiency = S^(1/κ) / ‖own part‖

κ is the number of weights multiplied on the way to a logit: scaling all weights by λ multiplies S by about λ^κ, so that
only the second compares circuits of unequal norm; it is not given for a circuit with less than 5 % of both strengths
together, because nothing then says that those logits come from the part. One norm for both circuits would only repeat
the ratio of their strengths. The network is also run with either part and what is shared, on a fixed random sample of
pairs.

Varma et al. measure efficiency on networks with one circuit only, as logit over the norm of all weights. There all but
the shared part belongs to that circuit, and theirs is ours times ‖own part‖/‖all weights‖. Within a run the split is
ours, and no more than a definition. It cannot show which weights a circuit needs: by chance a random matrix has a share
2·(number of key frequencies)/(dimension) in a key space, a weight may serve both circuits, and a part that fails alone
may still be needed.
"""

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from interp.analysis import axes
from interp.experiment import ModelConfig
from interp.figures import PALETTE, new_panels, percent_axis, power_of_ten_axis
from interp.mathematics import circuits, fourier
from interp.mathematics.cross_entropy import judge_
from interp.models import Weights, last_mlp, logits
from interp.runs import Checkpoint, centred_logits, phase_pairs

REFERENCE = "after Varma et al. 2023, arXiv:2309.02390, §3; the split of one network's weights is ours"
CORE = True
PLACE = 11
SCALES = {
    "norm": "magnitude",
    "share_of_squared_norm": "share",
    "efficiency": "signed",
    "scale_free_efficiency": "signed",
    "accuracy_alone": "share",
}
PARTS = ("generalizing", "memorizing", "shared")
CIRCUITS = PARTS[:2]
NETWORKS = ("whole", *CIRCUITS)
SPLITS = ("all", "train", "test")
NEGLIGIBLE = 0.05


def measure(
    checkpoint: Checkpoint, *, key_frequencies: list[int] | None = None, threshold: float = 0.5, n_pairs: int = 2048
) -> xr.Dataset:
    """`norm` [part]; `tensor_norm` [part, tensor]; `n_neurons` [part]; `strength` [network, circuit] in the whole
    network and in those with only a circuit's part and what is shared; `efficiency`, `scale_free_efficiency` [circuit]
    of the whole network, NaN without norm or strength; `loss`, `accuracy` [network, split].

    `key_frequencies` are those of the run's last checkpoint; of a checkpoint alone, its own. The partial networks are
    judged on a fixed random sample of `n_pairs` pairs. Strengths are NaN where the split is unknown.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> found = measure(circuit_checkpoint(interp.Task(11), circuit_neurons([2, 5])))
    >>> found.norm.values.round(1).tolist(), found.n_neurons.values.tolist()  # all of it generalizes
    ([43.6, 0.0, 0.0], [18, 0, 0])
    >>> found.accuracy.sel(split="test").values.tolist()  # of the whole network, of either part alone
    [1.0, 1.0, 0.0]
    """
    task, model = checkpoint.task, checkpoint.model
    parts, n_neurons = split_weights(checkpoint, checkpoint.spectrum.frequencies_to_use(key_frequencies), threshold)
    tensor_norm = np.array([[float(w.double().norm()) for w in part.values()] for part in parts])
    norm = np.sqrt(np.square(tensor_norm).sum(1))
    pairs = phase_pairs(task)
    sample = pairs.some(torch.from_numpy(np.sort(np.random.RandomState(0).permutation(len(pairs.row_major))[:n_pairs])))
    masks = [torch.from_numpy(task.mask(split))[sample.row_major] for split in SPLITS]
    strength = np.empty((3, 2))
    strength[0] = circuits.strengths(centred_logits(checkpoint, pairs), pairs)
    loss, accuracy = (
        np.array([[checkpoint.loss(s) for s in SPLITS]] * 3),
        np.array([[checkpoint.accuracy(s) for s in SPLITS]] * 3),
    )
    for index, part in enumerate(parts[:2], start=1):
        network = _without_silent_neurons({name: weight + parts[2][name] for name, weight in part.items()}, model)
        outputs = logits(network, model, torch.from_numpy(task.pairs)[sample.row_major])
        strength[index] = circuits.strengths(circuits.centred(outputs, task.coordinates), sample)
        losses, correct = judge_(outputs.T, torch.from_numpy(task.labels)[sample.row_major])
        loss[index] = [_mean(losses[mask]) for mask in masks]
        accuracy[index] = [_mean(correct[mask].double()) for mask in masks]
    own = np.where(norm[:2] > 0, norm[:2], np.nan)
    clear = strength[0] > NEGLIGIBLE * np.maximum(strength[0], 0).sum()
    root = np.where(clear, strength[0].clip(min=0), np.nan) ** (1 / path_length(model))
    one, logit = {"units": "1"}, {"units": "logits"}
    return xr.Dataset(
        {
            "norm": ("part", norm, {"long_name": "L2 norm of the part"} | one),
            "tensor_norm": (("part", "tensor"), tensor_norm, {"long_name": "L2 norm by tensor"} | one),
            "n_neurons": ("part", np.array(n_neurons, dtype=np.int32), {"long_name": "neurons", "units": "neurons"}),
            "strength": (
                ("network", "circuit"),
                strength,
                {"long_name": "held-out strength on training pairs"} | logit,
            ),
            "efficiency": ("circuit", strength[0] / own, {"long_name": "strength / norm of the own part"} | logit),
            "scale_free_efficiency": (
                "circuit",
                root / own,
                {"long_name": "strength^(1/κ) / norm of the own part"} | one,
            ),
            "loss": (("network", "split"), loss, {"long_name": "loss", "units": "nats"}),
            "accuracy": (("network", "split"), accuracy, {"long_name": "accuracy"} | one),
        },
        coords=axes(
            {
                name: (name, np.array(values), {"long_name": name, "units": "name"})
                for name, values in {
                    "part": PARTS,
                    "tensor": list(checkpoint.weights),
                    "circuit": CIRCUITS,
                    "network": NETWORKS,
                    "split": SPLITS,
                }.items()
            }
        ),
        attrs={"path_length": path_length(model)},
    )


def summary(result: xr.Dataset) -> dict:
    """Of the last step: norms of the three parts and their shares of the squared norm, neurons by part, strengths in
    logits, both efficiencies, and the accuracy on each split with either part alone; the first step from which on the
    generalizing strength stays above the memorizing one and 0.1 logits, and the generalizing circuit's scale-free
    efficiency there, as a multiple of the memorizing one's: near equal strengths that is how much less norm it needs.
    Null where unknown."""
    last = result.isel(step=-1)
    square = np.square(last.norm.values)
    strength, efficiency = result.strength.sel(network="whole"), result.scale_free_efficiency
    lead = circuits.leads_from(strength.sel(circuit="generalizing").values, strength.sel(circuit="memorizing").values)
    at_lead = efficiency.isel(step=[] if lead is None else [lead])
    ratio = at_lead.sel(circuit="generalizing").values / at_lead.sel(circuit="memorizing").values

    def by_circuit(values: xr.DataArray) -> dict[str, float]:
        return {circuit: float(values.sel(circuit=circuit)) for circuit in CIRCUITS}

    return {
        "step": int(last.step),
        "norm": {part: float(last.norm.sel(part=part)) for part in PARTS},
        "share_of_squared_norm": {
            part: float(s / square.sum()) if square.sum() else None for part, s in zip(PARTS, square, strict=True)
        },
        "neurons": {part: int(last.n_neurons.sel(part=part)) for part in PARTS},
        "strength": by_circuit(last.strength.sel(network="whole")),
        "efficiency": by_circuit(last.efficiency),
        "scale_free_efficiency": by_circuit(last.scale_free_efficiency),
        "accuracy_alone": {
            circuit: {split: float(last.accuracy.sel(network=circuit, split=split)) for split in SPLITS}
            for circuit in CIRCUITS
        },
        "generalizing_leads_from": int(at_lead.step[0]) if len(at_lead) else None,
        "efficiency_ratio_at_lead": float(ratio[0]) if len(ratio) else None,
    }


def plot(result: xr.Dataset):
    """Norms of the parts, strengths, both efficiencies, and what the network does with either part alone, over
    training."""
    import plotly.graph_objects as go

    panels = (
        "Norm of each part",
        "Strength on training pairs",
        "Efficiency: strength / norm of the own part",
        "Scale-free efficiency",
        "Loss on test pairs with one part alone",
        "Accuracy with one part alone",
    )
    figure = new_panels("Circuit efficiency", panels, reference=REFERENCE, vertical_spacing=0.11)
    colors = dict(zip((*PARTS, "whole"), (PALETTE[2], PALETTE[3], PALETTE[6], "#222"), strict=True))
    steps = result.step.values
    mode = "lines" if len(steps) > 1 else "lines+markers"

    def add(
        values: xr.DataArray, name: str, color: str, *, row: int, column: int, dash: str = "solid", legend: str = ""
    ) -> None:
        trace = go.Scatter(
            x=steps, y=values.values, mode=mode, line={"color": color, "dash": dash, "width": 1.8}, name=legend or name
        )
        trace.update(showlegend=bool(legend), hovertemplate=f"{name}<br>step %{{x}}: %{{y:.4g}}<extra></extra>")
        figure.add_trace(trace, row=row, col=column)

    for part in PARTS:
        add(result.norm.sel(part=part), part, colors[part], row=1, column=1, legend=part)
    known = bool(np.isfinite(result.loss.sel(split="test").values).any())
    test = "test" if known else "all"
    for circuit in CIRCUITS:
        color = colors[circuit]
        add(result.strength.sel(network="whole", circuit=circuit), circuit, color, row=1, column=2)
        alone = result.strength.sel(network=circuit, circuit=circuit)
        add(alone, f"{circuit}, its part alone", color, row=1, column=2, dash="dot", legend=f"{circuit} part alone")
        add(result.efficiency.sel(circuit=circuit), circuit, color, row=2, column=1)
        add(result.scale_free_efficiency.sel(circuit=circuit), circuit, color, row=2, column=2)
        add(
            result.accuracy.sel(network=circuit, split="train"), f"{circuit}, train", color, row=3, column=2, dash="dot"
        )
    for network in NETWORKS:
        legend = "whole network" if network == "whole" else ""
        add(result.loss.sel(network=network, split=test), network, colors[network], row=3, column=1, legend=legend)
        add(result.accuracy.sel(network=network, split=test), f"{network}, {test}", colors[network], row=3, column=2)
    figure.update_layout(margin_r=220, legend={"x": 1.01, "xanchor": "left", "y": 1, "yanchor": "top", "font_size": 11})
    figure.add_annotation(
        text="full: test pairs<br>dotted: train",
        showarrow=False,
        font_size=11,
        x=0.98,
        y=0.5,
        xref="x6 domain",
        yref="y6 domain",
    )
    figure.update_xaxes(title_text="step (updates)", title_standoff=4)
    figure.update_yaxes(title_text="L2 norm", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="logits", row=1, col=2)
    figure.update_yaxes(title_text="logits / norm", row=2, col=1)
    figure.update_yaxes(title_text="logits^(1/κ) / norm", rangemode="tozero", row=2, col=2)
    power_of_ten_axis(figure, row=3, col=1, title_text="cross-entropy (nats)")
    percent_axis(figure, row=3, col=2, title_text="accuracy")
    return figure


def path_length(model: ModelConfig) -> int:
    """κ: how many weights are multiplied on the longest way through the last layer's neurons to a logit; x² takes those
    before it twice."""
    before = 4 if model.family == "transformer" else 1 if model.embedding == "none" else 2
    after = 1 if model.family == "mlp" and model.embedding == "none" else 2
    return before * (2 if model.activation == "square" else 1) + after


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
    generalizing = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    memorizing = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    def over_tokens(name: str, residues: np.ndarray, transposed: bool, rows: slice = slice(None)) -> None:
        """The Fourier basis over the tokens or classes that index the rows of a matrix, or, transposed, its columns."""
        index, whole = torch.from_numpy(residues), weights[name].T if transposed else weights[name]
        kept, rest = _by_frequency(whole[rows][index], key)
        for part, values in ((generalizing, kept), (memorizing, rest)):
            (part[name].T if transposed else part[name])[rows][index] = values

    if model.family == "transformer":
        last = f"blocks.{model.n_layers - 1}"
        W_in, b_in, W_out = (f"{last}.mlp.{name}" for name in ("W_in", "b_in", "W_out"))
        for tokens in checkpoint.token_rows:
            over_tokens("embed.W_E", tokens.numpy(), transposed=False)
        over_tokens("unembed.W_U", phase.classes, transposed=True)
        if model.n_layers == 1:
            _split_attention(weights, generalizing, memorizing)
        for name, axis in ((W_in, 1), (b_in, 0), (W_out, 0)):
            _by_neuron(weights, generalizing, memorizing, name=name, axis=axis, own=own, other=other)
    elif model.embedding == "none":
        p = checkpoint.task.p
        over_tokens("mlp.W_in", phase.rows, transposed=False, rows=slice(0, p))
        if model.inputs == "concatenated":
            over_tokens("mlp.W_in", phase.columns, transposed=False, rows=slice(p, None))
        over_tokens("mlp.W_out", phase.classes, transposed=True)
        for name, axis in (("mlp.W_in", 1), ("mlp.W_out", 0)):
            shape = (-1, 1) if axis == 0 else (1, -1)
            memorizing[name] = (memorizing[name] + generalizing[name] * (1 - own).view(shape)) * (own + other).view(
                shape
            )
            generalizing[name] *= own.view(shape)
    else:
        over_tokens("embed.W_E", phase.rows, transposed=False)
        if model.embedding == "untied":
            over_tokens("unembed.W_U", phase.classes, transposed=True)
        for name, axis in (("mlp.W_in", 1), ("mlp.W_out", 0)):
            _by_neuron(weights, generalizing, memorizing, name=name, axis=axis, own=own, other=other)
    shared = {name: weight - generalizing[name] - memorizing[name] for name, weight in weights.items()}
    n_own, n_living = int(own.sum()), int(living.sum())
    return (generalizing, memorizing, shared), [n_own, n_living - n_own, len(living) - n_living]


def _without_silent_neurons(weights: Weights, model: ModelConfig) -> Weights:
    """The same network without the last layer's neurons that say nothing: of a part's, most."""
    layer = last_mlp(model)
    speaks = weights[f"{layer}.W_out"].any(1)
    axes = {f"{layer}.W_in": 1, f"{layer}.b_in": 0, f"{layer}.W_out": 0}
    return {
        name: weight.index_select(axes[name], speaks.nonzero()[:, 0]) if name in axes else weight
        for name, weight in weights.items()
    }


def _by_frequency(rows: Float[Tensor, "n features"], key: list[int]) -> tuple[Tensor, Tensor]:
    """The parts of a function on the phases in the key frequencies, and in all others; neither has the constant."""
    waves = fourier.pairs(len(rows))[[k - 1 for k in key]].flatten(0, 1)
    kept = (waves.T @ (waves @ rows.double())).to(rows.dtype)
    return kept, rows - rows.mean(0) - kept


def _split_attention(weights: Weights, generalizing: Weights, memorizing: Weights) -> None:
    """W_V by whether it reads the space that W_E's key frequencies span, W_O by whether it reads what that part of W_V
    gives."""
    W_V, W_O = (weights[f"blocks.0.attn.{name}"] for name in ("W_V", "W_O"))
    space = _orthonormal(generalizing["embed.W_E"].T)
    for head in range(len(W_V)):
        reads = space @ (space.T @ W_V[head])
        given = _orthonormal((generalizing["embed.W_E"] @ W_V[head]).T)
        passes = given @ (given.T @ W_O[head])
        for name, whole, part in (("W_V", W_V, reads), ("W_O", W_O, passes)):
            generalizing[f"blocks.0.attn.{name}"][head] = part
            memorizing[f"blocks.0.attn.{name}"][head] = whole[head] - part


def _orthonormal(columns: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows rank"]:
    """An orthonormal basis of the space that the columns span, up to rounding."""
    U, S, _ = torch.linalg.svd(columns, full_matrices=False)
    rank = int((S / S.amax() > 1e-5).sum()) if S.any() else 0
    return U[:, :rank]


def _by_neuron(
    weights: Weights, generalizing: Weights, memorizing: Weights, *, name: str, axis: int, own: Tensor, other: Tensor
) -> None:
    shape = [1] * weights[name].ndim
    shape[axis] = -1
    generalizing[name], memorizing[name] = weights[name] * own.view(shape), weights[name] * other.view(shape)


def _mean(values: Tensor) -> float:
    return values.mean().item() if len(values) else float("nan")
