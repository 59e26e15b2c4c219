"""The planted circuits themselves: what they compute, by formula, and what they cannot."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from interp.errors import InputError
from interp.experiment import ModelConfig, Task
from interp.mathematics import key_frequencies
from interp.models import embed, transform, weight_shapes
from interp.runs import Checkpoint
from interp.testing import Neuron, circuit_checkpoint, circuit_model, circuit_neurons, circuit_weights

ACTIVATIONS = {"relu": lambda x: np.maximum(x, 0), "square": np.square}


def answers(checkpoint: Checkpoint) -> torch.Tensor:
    """The phase of the class that each pair of phases is answered with, minus the right one: 0 where it is right."""
    phase = checkpoint.task.phase
    residue = torch.arange(phase.order)
    largest = key_frequencies.logits_in_phase(checkpoint.logits, phase).argmax(-1)
    return (largest - residue[:, None] - residue) % phase.order


def spelled_out(task: Task, neurons: list[Neuron], activation: str, strength: float) -> np.ndarray:
    """The logits of the module's docstring, over phases, one neuron after the other."""
    n = task.phase.order
    w, t = 2 * math.pi / n, np.arange(n)
    logits = np.zeros((n, n, n))
    for neuron in neurons:
        k = neuron.frequency
        inside = np.cos(w * k * t - neuron.phase_a)[:, None] + np.cos(w * k * t - neuron.phase_b)
        out = np.cos(w * k * t - neuron.phase_a - neuron.phase_b)
        logits += strength * ACTIVATIONS[activation](inside)[..., None] * out
    return logits


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize(
    ("operation", "p", "circuit"),
    [("add", 7, "pizza"), ("add", 8, "pizza"), ("multiply", 7, "pizza")]
    + [(operation, 7, "clock") for operation in ("add", "subtract", "multiply", "divide")],
)
def test_the_network_computes_the_formula(operation, p, circuit, activation):
    task, neurons = Task(p, operation), circuit_neurons([1, 3], per_frequency=5, circuit=circuit)
    checkpoint = circuit_checkpoint(task, neurons, activation=activation, strength=2.0)
    found = key_frequencies.logits_in_phase(checkpoint.logits, task.phase)
    assert_close(found, torch.from_numpy(spelled_out(task, neurons, activation, 2.0)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("embedding", ["none", "untied", "tied"])
@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "divide"])
def test_an_mlp_computes_the_formula(operation, embedding):
    task, neurons = Task(7, operation), circuit_neurons([1, 3], per_frequency=5, circuit="clock")
    if embedding != "none" and operation in ("subtract", "divide"):
        with pytest.raises(InputError, match="one embedding serves both inputs"):
            circuit_checkpoint(task, neurons, family="mlp", embedding=embedding)
        return
    checkpoint = circuit_checkpoint(task, neurons, activation="square", strength=2.0, family="mlp", embedding=embedding)
    assert (checkpoint.model.inputs, checkpoint.W_in.dtype) == ("concatenated", torch.float64)
    found = key_frequencies.logits_in_phase(checkpoint.logits, task.phase)
    assert_close(found, torch.from_numpy(spelled_out(task, neurons, "square", 2.0)), rtol=0, atol=1e-12)


def test_square_neurons_make_an_exact_pizza_and_an_exact_clock():
    p, k, N = 11, 3, 8
    w, t = 2 * math.pi * k / p, torch.arange(p, dtype=torch.float64)
    a, b, c = t[:, None, None], t[:, None], t
    clock = torch.cos(w * (a + b - c))
    for circuit, logits in (("pizza", N * torch.cos(w * (a - b) / 2) ** 2 * clock), ("clock", N / 2 * clock)):
        neurons = circuit_neurons([k], per_frequency=N, circuit=circuit)
        found = circuit_checkpoint(Task(p), neurons, activation="square", strength=1.0).logits
        assert_close(found, logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("p", "frequencies"), [(5, [1]), (7, [3]), (9, [1, 3]), (13, [2, 6]), (15, [3, 5]), (15, [7])])
@pytest.mark.parametrize(
    ("activation", "per_frequency"),
    [("relu", 5), ("relu", 7), ("relu", 9), ("square", 3), ("square", 5), ("square", 6)],
)
def test_a_pizza_adds_modulo_an_odd_number(p, frequencies, activation, per_frequency):
    checkpoint = circuit_checkpoint(
        Task(p), circuit_neurons(frequencies, per_frequency=per_frequency), activation=activation
    )
    assert math.gcd(p, *frequencies) == 1
    assert checkpoint.accuracy("all") == 1.0


@pytest.mark.parametrize(("p", "frequencies"), [(6, [1, 2, 3]), (8, [1]), (12, [1, 6]), (12, [3, 4]), (13, [5])])
@pytest.mark.parametrize(("activation", "per_frequency"), [("relu", 16), ("square", 8), ("gelu", 16)])
def test_a_clock_adds_modulo_any_number(p, frequencies, activation, per_frequency):
    neurons = circuit_neurons(frequencies, per_frequency=per_frequency, circuit="clock")
    assert circuit_checkpoint(Task(p), neurons, activation=activation).accuracy("all") == 1.0


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "divide"])
@pytest.mark.parametrize("p", [7, 13])
def test_a_clock_solves_every_operation_that_has_a_phase(operation, p):
    checkpoint = circuit_checkpoint(Task(p, operation), circuit_neurons([1, 2], per_frequency=16, circuit="clock"))
    assert (answers(checkpoint) == 0).all()


def test_a_common_divisor_leaves_classes_that_cannot_be_told_apart():
    error = answers(circuit_checkpoint(Task(9), circuit_neurons([3])))
    assert (error % 3 == 0).all()
    assert (error != 0).any()


def test_a_pizza_is_blind_to_pairs_half_of_an_even_p_apart():
    logits = circuit_checkpoint(Task(8), circuit_neurons([1, 3])).logits
    a = torch.arange(8)
    assert logits[a, (a + 4) % 8].abs().max() < 1e-12
    assert logits[a, a].abs().max() > 1


def test_four_phases_are_too_few_for_squares():
    assert (
        circuit_checkpoint(Task(11), circuit_neurons([1, 2], per_frequency=4), activation="square").accuracy("all")
        < 0.5
    )


def test_attention_is_uniform_in_a_pizza_and_reads_one_input_per_head_in_a_clock():
    pizza = circuit_checkpoint(Task(7), circuit_neurons([1])).attention
    assert_close(pizza, torch.full_like(pizza, 1 / 3), rtol=0, atol=1e-15)
    clock = circuit_checkpoint(Task(7), circuit_neurons([1], circuit="clock")).attention
    assert_close(clock, torch.eye(2, 3, dtype=torch.float64).expand(7, 7, 2, 3), rtol=0, atol=1e-15)


def test_a_larger_model_has_the_same_logits_and_dead_neurons():
    task, neurons = Task(7), circuit_neurons([1, 2])
    smallest = circuit_checkpoint(task, neurons)
    model = ModelConfig(d_model=24, n_heads=3, d_mlp=30, attention_rate=0.25)
    larger = Checkpoint(0, circuit_weights(task, model, neurons), task, model)
    assert_close(larger.logits, smallest.logits, rtol=0, atol=1e-12)
    assert (larger.neurons[..., 18:] == 0).all()


@pytest.mark.parametrize("circuit", ["pizza", "clock"])
def test_the_general_forward_pass_agrees(circuit):
    checkpoint = circuit_checkpoint(Task(7), circuit_neurons([1, 3], circuit=circuit))
    pairs = torch.from_numpy(checkpoint.task.pairs)
    general = transform(checkpoint.weights, checkpoint.model, embed(checkpoint.weights, checkpoint.model, pairs)).logits
    assert_close(general.reshape(7, 7, 7), checkpoint.logits, rtol=0, atol=1e-11)


def test_the_weights_are_those_of_the_model():
    neurons = circuit_neurons([1, 2], circuit="clock")
    weights = circuit_weights(Task(7), circuit_model(neurons), neurons)
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == weight_shapes(circuit_model(neurons), 7)


@pytest.mark.parametrize(
    ("task", "model", "circuit", "complaint"),
    [
        (Task(7), ModelConfig(d_model=4, n_heads=1, d_mlp=9), "pizza", "needs d_mlp 18, the model has 9"),
        (Task(7), ModelConfig(d_model=32, n_heads=1, d_mlp=64), "clock", "needs n_heads 2, the model has 1"),
        (Task(7), ModelConfig(d_model=32, d_head=2, d_mlp=64), "pizza", "needs head_size 4, the model has 2"),
        (Task(7), ModelConfig(n_layers=2), "pizza", "planted in one layer"),
        (Task(7), ModelConfig(prompt="ab"), "pizza", "planted in one layer"),
        (Task(7), ModelConfig(attention_rate=0.5), "clock", "with attention-rate 1"),
        (Task(7, "subtract"), ModelConfig(), "pizza", "subtract tells its inputs apart"),
        (Task(7, "x3+xy"), ModelConfig(), "clock", "no addition in disguise"),
    ],
)
def test_what_cannot_be_planted_is_refused(task, model, circuit, complaint):
    neurons = circuit_neurons([1, 2], circuit=circuit) if model.d_model > 4 else circuit_neurons([1], per_frequency=18)
    with pytest.raises(InputError, match=complaint):
        circuit_weights(task, model, neurons)
