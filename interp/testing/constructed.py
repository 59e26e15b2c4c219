"""Networks with a planted circuit, a planted lookup table, or both; and ideal logits.

A planted neuron j of frequency k answers to the phases s, t of its two inputs and speaks to the class of phase u:

    y_j = act(cos(w_k s − α_j) + cos(w_k t − β_j)),      logit(u) = strength · Σ_j y_j cos(w_k u − α_j − β_j)

With α = β at equal distances this is a pizza (Zhong et al. 2023, arXiv:2306.17844; for y = x² and N neurons per
frequency exactly N cos²(w_k(s−t)/2) cos w_k(s+t−u)); with β = 2α, and each input read on its own, a clock, which can
also tell the classes of an even p apart; with random α and β, x² and all frequencies, Gromov's solution (2023,
arXiv:2301.02679). One frequency and a tied embedding of two dimensions are the "five neurons" of Pearce et al. 2023
(pair.withgoogle.com/explorables/grokking).

A lookup table has a ReLU neuron for every pair that it knows, relu(±1 ± 1) with + for "this is my residue", which is 2
for that pair and 0 for every other, and speaks to the pair's label alone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InputError
from interp.experiment import Activation, Embedding, Family, Inputs, ModelConfig, Task
from interp.mathematics.phases import Phase
from interp.models import Weights, initial_weights, weight_shapes
from interp.runs import Checkpoint


@dataclass(frozen=True)
class Neuron:
    """A planted neuron: its frequency k, and its phases α over the first and β over the second input, in radians.

    >>> circuit_neurons([2], per_frequency=3)[0]
    Neuron(frequency=2, phase_a=0.0, phase_b=0.0)
    """

    frequency: int
    phase_a: float
    phase_b: float


@dataclass(frozen=True)
class LookupTable:
    """Planted memorization: adds `strength` to the logit of the label on every training pair, and `leakage` times that
    on test pairs.

    >>> task = Task(3, split=(0, 4))  # (0, 0) and (1, 1)
    >>> LookupTable(strength=8.0, leakage=0.5).pairs(task).tolist()
    [[8.0, 4.0, 4.0], [4.0, 8.0, 4.0], [4.0, 4.0, 4.0]]
    """

    strength: float
    leakage: float = 0.0

    def pairs(self, task: Task) -> Float[np.ndarray, "n n"]:
        """What is added on every pair, in phase coordinates."""
        phase = task.coordinates
        index = phase.rows[:, None] * task.p + phase.columns
        return self.strength * (task.mask("train") + self.leakage * task.mask("test"))[index]


def circuit_neurons(
    frequencies: Iterable[int], *, per_frequency: int = 9, circuit: Literal["pizza", "clock"] = "pizza"
) -> list[Neuron]:
    """The neurons of a circuit that adds: right on all pairs when the frequencies and p have no common divisor.

    A pizza needs an odd p and, per frequency, 3 neurons or from 5 on with `square`, an odd number from 5 on or any from
    9 on with `relu`; a clock 8 or more with `square` and 16 or more with `relu`.

    >>> pizza, clock = circuit_neurons([2, 5]), circuit_neurons([2, 5], per_frequency=16, circuit="clock")
    >>> len(pizza), len(clock), clock[1].phase_b / clock[1].phase_a
    (18, 32, 2.0)
    """
    angles = [2 * math.pi * j / per_frequency for j in range(per_frequency)]
    return [Neuron(k, angle, angle if circuit == "pizza" else 2 * angle) for k in frequencies for angle in angles]


def gromov_neurons(p: int, width: int, seed: int = 0) -> list[Neuron]:
    """Gromov's solution, for the `square` activation: the frequencies 1 … (p−1)/2 in turn, both phases random. The
    wider, the more accurate: from 4 per frequency on nearly every pair is right.

    >>> checkpoint = circuit_checkpoint(Task(11), gromov_neurons(11, 300), activation="square", family="mlp")
    >>> checkpoint.accuracy("all") > 0.95, checkpoint.neurons.shape[-1]
    (True, 300)
    """
    phases = np.random.RandomState(seed).uniform(0, 2 * math.pi, size=(width, 2))
    return [Neuron(1 + j % ((p - 1) // 2), float(alpha), float(beta)) for j, (alpha, beta) in enumerate(phases)]


def circuit_model(
    neurons: Sequence[Neuron],
    activation: Activation = "relu",
    *,
    family: Family = "transformer",
    embedding: Embedding = "none",
    n_layers: int = 1,
    task: Task | None = None,
    lookup: LookupTable | None = None,
) -> ModelConfig:
    """The smallest model that has room for these neurons, and for the lookup table of a task. `embedding` and
    `n_layers`, its hidden layers, are those of an MLP.

    >>> model = circuit_model(circuit_neurons([2, 5]))
    >>> model.d_mlp, model.n_heads, model.d_model
    (18, 1, 8)
    """
    width, d_mlp, shared = (
        2 * len({neuron.frequency for neuron in neurons}),
        len(neurons),
        lookup is None and _same_phases(neurons),
    )
    if lookup is not None:
        if task is None:
            raise InputError("how much room a lookup table needs depends on the task; give task=")
        width, d_mlp = width + task.coordinates.order, d_mlp + int(np.count_nonzero(lookup.pairs(task)))
    if family == "mlp":
        d_model = ModelConfig.d_model if embedding == "none" else width
        inputs: Inputs = "sum" if shared else "concatenated"
        return ModelConfig(
            family=family,
            n_layers=n_layers,
            inputs=inputs,
            embedding=embedding,
            d_model=d_model,
            d_mlp=d_mlp,
            activation=activation,
        )
    d_model = 2 * width if shared else 3 * width + 2
    heads = 1 if shared else 2
    return ModelConfig(
        n_layers=n_layers, d_model=d_model, n_heads=heads, d_head=width, d_mlp=d_mlp, activation=activation
    )


def circuit_weights(
    task: Task,
    model: ModelConfig,
    neurons: Sequence[Neuron],
    *,
    strength: float = 10.0,
    lookup: LookupTable | None = None,
) -> Weights:
    """float64 weights of an MLP or of a one-layer `ab=` transformer with these neurons. All other weights are zero, and
    neurons beyond the planted ones dead.

    In an MLP with several hidden layers they are in the first, and the others pass on what they say: W_l is the
    identity, and relu leaves what is not negative. In a transformer, neurons with α = β stand behind one head of
    uniform attention (W_Q = W_K = 0), others behind two, each of which reads one input. Raises InputError for a model
    without room and for an operation without a phase (`Task.phase`).

    >>> neurons = circuit_neurons([2])
    >>> weights = circuit_weights(Task(7), circuit_model(neurons), neurons)
    >>> weights["blocks.0.attn.W_Q"].any().item(), weights["embed.W_E"].shape  # attention is uniform
    (False, torch.Size([8, 4]))
    """
    needed = circuit_model(
        neurons, model.activation, family=model.family, embedding=model.embedding, task=task, lookup=lookup
    )
    for name in ("d_model", "n_heads", "head_size", "d_mlp") if model.family == "transformer" else ("d_model", "d_mlp"):
        if getattr(model, name) < getattr(needed, name):
            raise InputError(f"this circuit needs {name} {getattr(needed, name)}, the model has {getattr(model, name)}")
    if model.family == "mlp" and model.n_layers > 1 and model.activation != "relu":
        raise InputError(f"a hidden layer passes a circuit on by the activation 'relu', not {model.activation!r}")
    if lookup is not None and model.activation != "relu":
        raise InputError(f"a lookup table needs the activation 'relu', not {model.activation!r}")
    shared = lookup is None and _same_phases(neurons) and (model.family == "transformer" or model.inputs == "sum")
    phase = task.phase
    if shared and model.vocabularies == "one" and not np.array_equal(phase.rows, phase.columns):
        raise InputError(f"{task.operation} tells its inputs apart, and their sum does not; plant a clock")
    weights = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in weight_shapes(model, task.p).items()}
    parts = _parts(task, neurons, strength, lookup)
    if model.family == "mlp":
        if not shared and model.inputs == "sum":
            raise InputError("these neurons tell the inputs apart; the model needs inputs 'concatenated'")
        _write_mlp(weights, model, phase, parts)
    else:
        if (model.n_layers, model.prompt) != (1, "ab=") or not (shared or model.attention_rate == 1):
            raise InputError(
                "a circuit is planted in one layer that reads ab=; where each input has a head, with attention-rate 1"
            )
        _write_transformer(weights, model, phase, parts, shared=shared)
    return weights


def circuit_checkpoint(
    task: Task,
    neurons: Sequence[Neuron],
    *,
    activation: Activation = "relu",
    strength: float = 10.0,
    family: Family = "transformer",
    embedding: Embedding = "none",
    n_layers: int = 1,
    lookup: LookupTable | None = None,
    step: int = -1,
) -> Checkpoint:
    """A checkpoint of the smallest network with these neurons.

    >>> checkpoint = circuit_checkpoint(Task(11), circuit_neurons([2, 5]))
    >>> checkpoint.key_frequencies, checkpoint.accuracy("all")
    ([2, 5], 1.0)
    """
    model = circuit_model(
        neurons, activation, family=family, embedding=embedding, n_layers=n_layers, task=task, lookup=lookup
    )
    return Checkpoint(step, circuit_weights(task, model, neurons, strength=strength, lookup=lookup), task, model)


def accompany(checkpoint: Checkpoint, frequencies: Iterable[int], strength: float) -> Checkpoint:
    """The transformer of a planted pizza with an accompanying circle of frequency 2k for each of these k, which
    attention passes to the logits unbent: −strength·cos w_k(s−t) cos w_k(s+t−u). With `square` and N neurons per
    frequency that say c each, a strength of N c/2 makes the logits of the pizza exactly those of a clock.

    >>> pizza = circuit_checkpoint(Task(7), circuit_neurons([1, 2]), activation="square", strength=1.0)
    >>> both = accompany(pizza, [1, 2], 4.5)
    >>> bool(torch.allclose(both.logits, 4.5 * ideal_logits(7, [1, 2], "clock")))
    True
    """
    task, phase, old = checkpoint.task, checkpoint.task.phase, checkpoint.model
    if old.family != "transformer" or old.n_heads != 1:
        raise InputError("circles accompany a pizza planted in a transformer with one head; this network is another")
    frequencies = list(frequencies)
    more, width, head = 2 * len(frequencies), old.d_model, old.head_size
    model = replace(old, d_model=width + more, d_head=head + more)
    shapes = weight_shapes(model, task.p)
    weights = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
    for name, weight in checkpoint.weights.items():
        weights[name][tuple(slice(size) for size in weight.shape)] = weight
    # With W_Q = 0 the attention stays uniform, whatever the size of a head.
    spread = old.attention_rate / 3 + 1 - old.attention_rate
    doubled, waves = _waves([2 * k for k in frequencies], phase.order), _waves(frequencies, phase.order)
    weights["embed.W_E"][torch.from_numpy(phase.rows), width:] = doubled.T
    if b := model.first_token_of_b(task.p):
        weights["embed.W_E"][b + torch.from_numpy(phase.columns), width:] = doubled.T
    weights["blocks.0.attn.W_V"][0, width:, head:] = torch.eye(more) / spread
    weights["blocks.0.attn.W_O"][0, head:, width:] = torch.eye(more)
    weights["unembed.W_U"][width:, torch.from_numpy(phase.classes)] = -strength / 2 * waves
    return Checkpoint(checkpoint.step, weights, task, model)


def ideal_logits(p: int, frequencies: Iterable[int], formula: Literal["clock", "pizza"]) -> Float[Tensor, "p p p"]:
    """Σ_k cos w_k(a+b−c), and for a pizza each term times |cos(w_k(a−b)/2)|, in float64.

    >>> clock, pizza = (ideal_logits(7, [1, 2], formula) for formula in ("clock", "pizza"))
    >>> clock[3, 5].argmax().item(), round(clock[3, 5, 1].item(), 6)  # 3 + 5 modulo 7, where both cosines are 1
    (1, 2.0)
    >>> bool(torch.allclose(pizza[3, 3], clock[3, 3]))  # a pizza is weaker only where a ≠ b
    True
    """
    a, b, c = (torch.arange(p, dtype=torch.float64).view(shape) for shape in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)))
    logits = torch.zeros(p, p, p, dtype=torch.float64)
    for k in frequencies:
        w = 2 * math.pi * k / p
        logits += (w * (a + b - c)).cos() * ((w * (a - b) / 2).cos().abs() if formula == "pizza" else 1)
    return logits


def with_logits(task: Task, logits: Float[Tensor, "p p p"] | Float[np.ndarray, "p p p"]) -> Checkpoint:
    """A checkpoint of a small untrained network that answers with these logits [a, b, c] all the same.

    >>> checkpoint = with_logits(Task(7), 9 * ideal_logits(7, [2], "clock"))
    >>> checkpoint.key_frequencies, checkpoint.accuracy("all")
    ([2], 1.0)
    """
    model = ModelConfig(d_model=4, n_heads=1, d_mlp=4)
    checkpoint = Checkpoint(0, initial_weights(model, task.p), task, model)
    checkpoint.__dict__["activations"] = checkpoint.activations._replace(logits=torch.as_tensor(logits))
    return checkpoint


# ---- what is planted, and where it is written ------------------------------------------------------------------------


class _Parts(NamedTuple):
    """Functions of a residue's phase, and for every neuron how much of each it reads from a and from b and says to the
    classes."""

    functions: Float[Tensor, "f n"]
    from_a: Float[Tensor, "f m"]
    from_b: Float[Tensor, "f m"]
    to_classes: Float[Tensor, "f m"]


def _parts(task: Task, neurons: Sequence[Neuron], strength: float, lookup: LookupTable | None) -> _Parts:
    n, frequencies = task.phase.order, sorted({neuron.frequency for neuron in neurons})
    functions, width = _waves(frequencies, n), 2 * len(frequencies)
    a, b, out = (torch.zeros(width, len(neurons), dtype=torch.float64) for _ in range(3))
    for j, neuron in enumerate(neurons):
        at = 2 * frequencies.index(neuron.frequency)
        a[at : at + 2, j], b[at : at + 2, j] = _direction(neuron.phase_a), _direction(neuron.phase_b)
        out[at : at + 2, j] = strength * _direction(neuron.phase_a + neuron.phase_b)
    if lookup is None:
        return _Parts(functions, a, b, out)
    added = torch.from_numpy(lookup.pairs(task))
    s, t = torch.nonzero(added, as_tuple=True)
    is_residue = torch.eye(n, dtype=torch.float64)
    of_phase = np.empty(task.p, dtype=np.int64)
    of_phase[task.phase.classes] = np.arange(n)
    index = task.phase.rows[s.numpy()] * task.p + task.phase.columns[t.numpy()]
    label = torch.from_numpy(of_phase[task.labels[index]])  # where labels are noisy, no longer s + t
    blocks = ((a, 2 * is_residue[s].T - 1), (b, 2 * is_residue[t].T - 1), (out, is_residue[label].T * added[s, t] / 2))
    return _Parts(torch.cat([functions, is_residue]), *(torch.block_diag(wave, table) for wave, table in blocks))


def _write_mlp(weights: Weights, model: ModelConfig, phase: Phase, parts: _Parts) -> None:
    rows, columns, classes = (torch.from_numpy(index) for index in (phase.rows, phase.columns, phase.classes))
    width, n_neurons = parts.from_a.shape
    both = model.inputs == "concatenated"
    for layer in range(1, model.n_layers):
        weights[f"mlp.W_{layer}"].fill_diagonal_(1)
    if model.embedding == "none":
        p = weights["mlp.W_out"].shape[1]
        weights["mlp.W_in"][rows, :n_neurons] = parts.functions.T @ parts.from_a
        if both:
            weights["mlp.W_in"][p + columns, :n_neurons] = parts.functions.T @ parts.from_b
        weights["mlp.W_out"][:n_neurons, classes] = parts.to_classes.T @ parts.functions
        return
    if not np.array_equal(phase.rows, phase.columns) or not (
        model.embedding == "untied" or np.array_equal(phase.rows, phase.classes)
    ):
        raise InputError(
            "one embedding serves both inputs, and the classes where it is tied; this operation needs more than one"
        )
    weights["embed.W_E"][rows, :width] = parts.functions.T
    weights["mlp.W_in"][:width, :n_neurons] = parts.from_a
    if both:
        weights["mlp.W_in"][model.d_model : model.d_model + width, :n_neurons] = parts.from_b
    weights["mlp.W_out"][:n_neurons, :width] = parts.to_classes.T
    if model.embedding == "untied":
        weights["unembed.W_U"][:width, classes] = parts.functions


def _write_transformer(weights: Weights, model: ModelConfig, phase: Phase, parts: _Parts, *, shared: bool) -> None:
    W_E, W_pos, W_U = weights["embed.W_E"], weights["pos_embed.W_pos"], weights["unembed.W_U"]
    W_Q, W_K, W_V, W_O = (weights[f"blocks.0.attn.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O"))
    W_in, W_out = weights["blocks.0.mlp.W_in"], weights["blocks.0.mlp.W_out"]
    width, n_neurons = parts.from_a.shape
    rows, columns = torch.from_numpy(phase.rows), torch.from_numpy(phase.columns)
    W_E[rows, :width] = parts.functions.T
    if b := model.first_token_of_b(W_U.shape[1]):
        W_E[b + columns, :width] = parts.functions.T
    if shared:
        spread = model.attention_rate / 3 + 1 - model.attention_rate
        W_V[0, :width, :width], W_O[0, :width, :width] = torch.eye(width).double() / spread, torch.eye(width)
    else:
        place = 3 * width
        W_pos[0, place], W_pos[1, place + 1], W_E[-1, place] = 1, 1, -1
        # Where the inputs do not play the same part (−, ÷), what an embedding of both says of the second one is turned
        # into what it means.
        turn = torch.eye(width).double()
        if not b:
            meant = torch.zeros_like(W_E[:-1, :width]).index_copy_(0, columns, parts.functions.T)
            turn = torch.linalg.lstsq(W_E[:-1, :width], meant, driver="gelsd").solution
        for head in range(2):
            # The score is 100 at the head's own position, and at most 0 elsewhere: a softmax of exactly one.
            W_Q[head, place, 0], W_K[head, place + head, 0] = -100 * math.sqrt(model.head_size), 1
            W_V[head, :width, :width] = turn if head else torch.eye(width)
            W_O[head, :width, head * width : (head + 1) * width] = torch.eye(width)
        W_in[width : 2 * width, :n_neurons] = parts.from_b
    W_in[:width, :n_neurons] = parts.from_a
    output = width if shared else 2 * width
    W_out[:n_neurons, output : output + width] = parts.to_classes.T
    W_U[output : output + width, torch.from_numpy(phase.classes)] = parts.functions


def _same_phases(neurons: Sequence[Neuron]) -> bool:
    return all(neuron.phase_a == neuron.phase_b for neuron in neurons)


def _waves(frequencies: Sequence[int], n: int) -> Float[Tensor, "f n"]:
    """cos w_k t and sin w_k t for every frequency, one below the other."""
    t = torch.arange(n, dtype=torch.float64)
    waves = [torch.stack([(2 * math.pi * k * t / n).cos(), (2 * math.pi * k * t / n).sin()]) for k in frequencies]
    return torch.cat(waves) if waves else torch.zeros(0, n, dtype=torch.float64)


def _direction(angle: float) -> Float[Tensor, " 2"]:
    return torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
