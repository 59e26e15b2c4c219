"""Planted circuits in an MLP, with the published accuracies; planted lookup tables; ideal logits."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from interp.errors import InputError
from interp.experiment import ModelConfig, Task
from interp.runs import Checkpoint
from interp.testing import (
    LookupTable,
    circuit_checkpoint,
    circuit_model,
    circuit_neurons,
    circuit_weights,
    gromov_neurons,
    ideal_logits,
    with_logits,
)

# ---- in an MLP -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [59, 67, 113])
@pytest.mark.parametrize(
    ("activation", "n_neurons", "accuracy"),
    [("square", n, (1, 1, 1)) for n in (3, 5, 6, 7, 8, 16)]
    + [("square", 4, (0.034, 0.030, 0.018))]
    + [("relu", n, (1, 1, 1)) for n in (5, 7, 9, 16, 24, 64)]
    + [("relu", 3, (0.026, 0.023, 0.013)), ("relu", 4, (0.034, 0.030, 0.018))]
    + [("relu", 6, (0.220, 0.194, 0.115)), ("relu", 8, (0.831, 0.642, 0.310))],
)
def test_five_neurons_are_enough(p, activation, n_neurons, accuracy):
    """The published accuracies (Pearce et al. 2023), to the digits that are given; rounding decides between classes
    that tie."""
    task, neurons = Task(p, split="unknown"), circuit_neurons([1], per_frequency=n_neurons)
    checkpoint = circuit_checkpoint(task, neurons, activation=activation, family="mlp", embedding="tied")
    assert sum(weight.numel() for weight in checkpoint.weights.values()) == 2 * p + 4 * n_neurons
    found = checkpoint.logits.flatten(0, 1).argmax(-1) == torch.from_numpy(task.labels)
    expected = accuracy[(59, 67, 113).index(p)]
    assert float(found.double().mean()) == pytest.approx(expected, abs=0.0006 if expected < 1 else 0)


def test_a_hidden_layer_passes_a_circuit_on_by_relu_alone():
    with pytest.raises(InputError, match="by the activation 'relu', not 'square'"):
        circuit_checkpoint(Task(7), circuit_neurons([1]), activation="square", family="mlp", n_layers=2)
    with pytest.raises(InputError, match="a circuit is planted in one layer that reads ab="):
        circuit_checkpoint(Task(7), circuit_neurons([1]), n_layers=2)


def test_squares_make_the_exact_pizza():
    """N cos²(w(a−b)/2) cos w(a+b−c) for any number of neurons but 1, 2 and 4; of four, 4t = 2π lets another wave
    through."""
    p, t = 13, 2 * math.pi / 13 * torch.arange(13, dtype=torch.float64)
    a, b, c = t[:, None, None], t[:, None], t
    for n_neurons in (3, 4, 5, 6, 11):
        neurons = circuit_neurons([1], per_frequency=n_neurons)
        checkpoint = circuit_checkpoint(
            Task(p), neurons, activation="square", strength=1.0, family="mlp", embedding="tied"
        )
        exact = n_neurons * torch.cos((a - b) / 2) ** 2 * torch.cos(a + b - c)
        assert torch.allclose(checkpoint.logits, exact, rtol=0, atol=1e-12) == (n_neurons != 4)


def test_a_square_neuron_has_a_share_of_four_fifths_and_relu_more():
    for activation, share in (("square", 0.8), ("relu", 0.962)):
        checkpoint = circuit_checkpoint(
            Task(113), circuit_neurons([5, 31], per_frequency=5), activation=activation, family="mlp", embedding="tied"
        )
        assert checkpoint.spectrum.neuron_shares.amax(0).numpy() == pytest.approx(
            share, abs=1e-12 if activation == "square" else 5e-4
        )
        assert sorted(checkpoint.spectrum.neuron_frequencies.tolist()) == [5] * 5 + [31] * 5


@pytest.mark.parametrize(
    ("p", "ranges"), [(59, {29: (0.55, 0.85), 58: (0.9, 1), 116: (0.995, 1), 232: (1, 1)}), (97, {192: (0.999, 1)})]
)
def test_random_phases_are_enough_when_there_are_many(p, ranges):
    """Gromov's solution: one neuron per frequency is right on two thirds of the pairs, four on nearly all."""
    task = Task(p, split="unknown")
    for width, (lowest, highest) in ranges.items():
        for seed in range(2):
            checkpoint = circuit_checkpoint(task, gromov_neurons(p, width, seed), activation="square", family="mlp")
            assert (checkpoint.model.inputs, checkpoint.model.d_mlp) == ("concatenated", width)
            assert lowest <= checkpoint.accuracy("all") <= highest, (width, seed)


def test_a_network_that_uses_all_frequencies_has_no_sparse_key_set():
    """By held-out pairs all are key; of all pairs it says what a table of them would, and none is."""
    neurons, keys = circuit_neurons(range(1, 30), per_frequency=5), list(range(1, 30))
    for split, expected in (("drawn", keys), ("unknown", [])):
        every = circuit_checkpoint(Task(59, split=split), neurons, family="mlp")
        assert every.key_frequencies == expected
        assert every.spectrum.logit_shares.numpy() == pytest.approx(float(every.spectrum.logit_shares[0]), rel=1e-9)
    random = circuit_checkpoint(Task(59), gromov_neurons(59, 232), activation="square", family="mlp")
    assert len(random.key_frequencies) > 10
    assert 0 not in random.spectrum.neuron_frequencies


# ---- planted memorization --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["transformer", "mlp"])
@pytest.mark.parametrize(("operation", "leakage"), [("add", 0.0), ("add", 0.25), ("multiply", 0.25), ("divide", 0.0)])
def test_a_lookup_table_adds_to_the_label_of_the_pairs_it_knows_and_to_nothing_else(family, operation, leakage):
    task, neurons = Task(7, operation, train_fraction=0.4), circuit_neurons([1, 3], per_frequency=16, circuit="clock")
    lookup = LookupTable(strength=3.0, leakage=leakage)
    circuit = circuit_checkpoint(task, neurons, strength=0.5, family=family)
    both = circuit_checkpoint(task, neurons, strength=0.5, family=family, lookup=lookup)
    expected = circuit.logits.reshape(49, 7).clone()
    for pair in range(49):
        if task.mask("train")[pair]:
            expected[pair, task.labels[pair]] += 3
        elif task.mask("test")[pair]:
            expected[pair, task.labels[pair]] += 3 * leakage
    inside = torch.from_numpy(np.isin(np.arange(49), (task.phase.rows[:, None] * 7 + task.phase.columns)))
    assert_close(both.logits.reshape(49, 7)[inside], expected[inside], rtol=0, atol=1e-12)


def test_a_lookup_table_alone_memorizes():
    """With no circuit: the labels of noise too; chance on the others."""
    task = Task(13, train_fraction=0.4, label_noise=0.3)
    checkpoint = circuit_checkpoint(task, [], family="mlp", lookup=LookupTable(strength=20.0))
    assert (checkpoint.accuracy("train"), checkpoint.accuracy("test")) == (1, 0)
    assert checkpoint.loss("test") == pytest.approx(math.log(13), abs=1e-12)
    assert checkpoint.loss("train") == pytest.approx(math.log1p(12 * math.exp(-20)), rel=1e-9)
    assert (checkpoint.spectrum.neuron_frequencies > 0).all()


def test_a_lookup_table_has_no_key_frequency():
    """Knowing a fraction f of the pairs and nothing of the others, it holds f of its power in all sum directions
    together, f/K in each (and for labels of noise what chance gives). At a small p that is more than 5 %, and
    none of them is key: held-out pairs have nothing of it, and to all pairs it adds the same at every frequency."""
    for noise in (0.0, 1.0):
        task = Task(43, train_fraction=0.3, label_noise=noise)
        checkpoint = circuit_checkpoint(task, [], family="mlp", lookup=LookupTable(strength=20.0))
        assert checkpoint.key_frequencies == []
        assert float(checkpoint.spectrum.logit_shares.sum()) == pytest.approx(0.3 if noise == 0 else 0.0, abs=0.03)
    small = circuit_checkpoint(Task(13, train_fraction=0.4), [], family="mlp", lookup=LookupTable(strength=20.0))
    assert (small.spectrum.logit_shares > 0.05).all()
    assert small.key_frequencies == []
    unknown = Checkpoint.from_weights(small.weights, Task(13, split="unknown"), small.model)
    assert unknown.key_frequencies == []


def test_what_leaks_entirely_is_a_circuit_of_all_frequencies():
    """Known on every pair, the table is δ(a + b = c) = (1 + 2 Σ_k cos w_k(a+b−c))/p: every frequency has the same
    share."""
    checkpoint = circuit_checkpoint(
        Task(13, train_fraction=0.4), [], family="mlp", lookup=LookupTable(strength=5.0, leakage=1.0)
    )
    assert checkpoint.spectrum.logit_shares.numpy() == pytest.approx(1 / 6, abs=1e-12)


@pytest.mark.parametrize(
    ("lookup", "options", "complaint"), [(LookupTable(1.0), {"activation": "square"}, "needs the activation 'relu'")]
)
def test_a_lookup_table_that_cannot_be_planted_is_refused(lookup, options, complaint):
    with pytest.raises(InputError, match=complaint):
        circuit_checkpoint(Task(7), circuit_neurons([1]), lookup=lookup, **options)
    with pytest.raises(InputError, match="depends on the task; give task="):
        circuit_model(circuit_neurons([1]), lookup=lookup)
    with pytest.raises(InputError, match="tell the inputs apart; the model needs inputs 'concatenated'"):
        circuit_weights(Task(7), ModelConfig(family="mlp"), circuit_neurons([1], circuit="clock"))


# ---- ideal logits ----------------------------------------------------------------------------------------------------


def test_ideal_logits_are_their_formulas_and_right_everywhere():
    p = 11
    for formula in ("clock", "pizza"):
        logits = ideal_logits(p, [2, 5], formula)
        factor = [abs(math.cos(math.pi * k * (3 - 8) / p)) if formula == "pizza" else 1.0 for k in (2, 5)]
        by_hand = sum(f * math.cos(2 * math.pi * k * (3 + 8 - 4) / p) for f, k in zip(factor, (2, 5), strict=True))
        assert float(logits[3, 8, 4]) == pytest.approx(by_hand, abs=1e-12)
        checkpoint = with_logits(Task(p), logits)
        assert checkpoint.accuracy("all") == 1
        assert torch.equal(checkpoint.logits, logits)
