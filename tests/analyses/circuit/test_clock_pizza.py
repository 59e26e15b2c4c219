"""Clock and pizza: both ideal networks, planted ones, and every measure against its definition written out."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from interp.analyses import clock_pizza
from interp.analysis import find
from interp.experiment import ModelConfig, Task
from interp.models import embed, initial_weights, transform
from interp.runs import Checkpoint
from interp.testing import (
    LookupTable,
    circuit_checkpoint,
    circuit_neurons,
    ideal_logits,
    with_logits,
)

SMALL = {"d_model": 8, "n_heads": 2, "d_mlp": 12}


def untrained(p: int = 7, task: Task | None = None, **model) -> Checkpoint:
    task, config = task or Task(p, train_fraction=0.5), ModelConfig(**(SMALL | model))
    return Checkpoint(
        0, {name: weight.double() for name, weight in initial_weights(config, task.p).items()}, task, config
    )


def measured(checkpoint: Checkpoint, **parameters) -> dict:
    return find("clock_pizza").summary(
        clock_pizza.measure(checkpoint, **parameters).expand_dims(step=[checkpoint.step])
    )


def two_circles() -> Checkpoint:
    """A planted clock of two frequencies, whose circles are of different sizes: equal ones have no principal components
    of their own."""
    checkpoint = circuit_checkpoint(Task(13), circuit_neurons([1, 3], per_frequency=16, circuit="clock"))
    checkpoint.weights["embed.W_E"][:, :2] *= 2
    return checkpoint


# ---- ideal and planted networks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "frequencies"), [(13, [1, 4, 6]), (12, [1, 4, 6]), (2, [1])])
@pytest.mark.parametrize("formula", ["clock", "pizza"])
def test_an_ideal_network_fits_its_own_formula_exactly(p: int, frequencies: list[int], formula: str) -> None:
    found = measured(with_logits(Task(p), ideal_logits(p, frequencies, formula)), key_frequencies=frequencies)
    assert_allclose(found[f"explained_by_{formula}"], 1, atol=1e-12)
    # The ideal clock's correct logit is constant, 0/0; the ideal pizza's depends on the distance alone.
    assert_allclose(found["distance_irrelevance"], 1 if formula == "clock" else 0, atol=1e-12)
    other = "pizza" if formula == "clock" else "clock"
    for k in frequencies:
        amplitude = np.abs(np.cos(np.pi * k * np.arange(p) / p))
        expected = 2 * amplitude.mean() / math.sqrt((amplitude**2).mean()) - 1
        fit = found["fit_per_frequency"][str(k)]
        assert_allclose([fit[formula], fit[other]], [1, expected], atol=1e-12)


def test_the_ideal_margin_of_many_residues_is_that_of_the_integrals() -> None:
    found = measured(with_logits(Task(101), ideal_logits(101, [3], "clock")), key_frequencies=[3], triples=1)
    assert_allclose(found["margin"], 1 - 8 / math.pi**2, atol=1e-3)


@pytest.mark.parametrize("activation", ["relu", "square"])
@pytest.mark.parametrize("circuit", ["clock", "pizza"])
@pytest.mark.parametrize("operation", ["add", "multiply"])
def test_a_planted_circuit_is_told(activation: str, circuit: str, operation: str) -> None:
    neurons = circuit_neurons([1, 3], per_frequency=16 if circuit == "clock" else 9, circuit=circuit)
    checkpoint = circuit_checkpoint(Task(13, operation), neurons, activation=activation)
    found = measured(checkpoint, key_frequencies=[1, 3])
    assert found["verdict"] == circuit
    assert (found["margin"] > 0) == (circuit == "clock")
    if circuit == "pizza":
        assert_allclose(found["gradient_symmetricity"], 1, atol=1e-9)  # both inputs enter as one sum


def test_circles_of_different_sizes_are_circular_and_noise_is_not() -> None:
    checkpoint = two_circles()
    assert_allclose(measured(checkpoint)["circularity"], 1, atol=1e-9)
    assert measured(untrained(31))["circularity"] < 0.6


def test_circularity_is_the_published_formula() -> None:
    checkpoint = untrained(11)
    left = np.linalg.svd((checkpoint.W_E - checkpoint.W_E.mean(0)).numpy())[0][:, :4]
    waves = np.exp(2j * np.pi * np.outer(np.arange(1, 6), np.arange(11)) / 11)
    expected = np.minimum(1, 2 * np.abs(waves @ left) ** 2 / 11).max(0).mean()
    assert_allclose(measured(checkpoint)["circularity"], expected, rtol=1e-10)


def test_a_square_pizza_has_no_other_dependence_than_on_the_distance() -> None:
    checkpoint = circuit_checkpoint(Task(13), circuit_neurons([1, 3]), activation="square")
    assert_allclose(measured(checkpoint)["distance_irrelevance"], 0, atol=1e-9)


# ---- negative controls -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["ab=", "ab"])
def test_an_untrained_network_is_neither(prompt: str) -> None:
    found = measured(untrained(13, prompt=prompt), key_frequencies=[1, 2, 3, 4, 5, 6])
    assert found["verdict"] == "neither"
    assert found["distance_irrelevance"] > 0.6
    # Without a circuit no circle is isolated, and nobody is a witness.
    assert set(found["witnesses"].values()) == {None}
    assert {fit["clock"] for fit in found["isolated_fit_per_frequency"].values()} == {None}


@pytest.mark.parametrize("circuit", ["clock", "pizza"])
def test_a_circuit_with_shuffled_answers_is_neither(circuit: str) -> None:
    planted = circuit_checkpoint(Task(31), circuit_neurons([1, 3], per_frequency=16, circuit=circuit))
    order = torch.randperm(31, generator=torch.Generator().manual_seed(0))
    weights = planted.weights | {"unembed.W_U": planted.weights["unembed.W_U"][:, order]}
    found = measured(Checkpoint(0, weights, planted.task, planted.model), key_frequencies=[1, 3])
    assert found["verdict"] == "neither"


@pytest.mark.parametrize("label_noise", [0.0, 1.0])
def test_a_lookup_table_is_neither(label_noise: float) -> None:
    task = Task(31, train_fraction=0.5, label_noise=label_noise)
    found = measured(circuit_checkpoint(task, [], lookup=LookupTable(20.0)), key_frequencies=[1, 3])
    assert found["verdict"] == "neither"


def test_gaussian_logits_are_neither_and_their_correct_logit_is_as_wide_at_every_distance() -> None:
    logits = np.random.RandomState(0).randn(31, 31, 31)
    found = measured(with_logits(Task(len(logits)), logits), key_frequencies=[1, 2, 3], triples=1)
    assert found["verdict"] == "neither"
    assert_allclose(found["distance_irrelevance"], 1, atol=0.1)
    assert max(found["explained_by_clock"], found["explained_by_pizza"]) < 0.02


def test_without_key_frequencies_nothing_is_explained() -> None:
    found = measured(untrained(task=Task(7, "random", train_fraction=0.5)), key_frequencies=[])
    assert (found["verdict"], found["explained_by_clock"], found["fit_per_frequency"]) == ("neither", 0, {})


def test_equal_logits_have_no_distance_irrelevance() -> None:
    found = measured(with_logits(Task(7), np.full((7, 7, 7), 0.1)), key_frequencies=[1])
    assert (found["distance_irrelevance"], found["verdict"]) == (None, "neither")


def test_a_network_that_moves_nothing_has_no_gradient() -> None:
    checkpoint = untrained()
    checkpoint.weights["unembed.W_U"].zero_()
    assert measured(checkpoint)["gradient_symmetricity"] is None


# ---- invariances -----------------------------------------------------------------------------------------------------


def test_shifted_inputs_change_nothing() -> None:
    """a → a + 3 in the embedding moves every answer by 6: the same circuit."""
    checkpoint = two_circles()
    weights = {name: weight.clone() for name, weight in checkpoint.weights.items()}
    weights["embed.W_E"][:13] = weights["embed.W_E"][:13].roll(-3, 0)
    weights["unembed.W_U"] = weights["unembed.W_U"].roll(-6, 1)
    one, other = (
        measured(c, triples=13**3) for c in (checkpoint, Checkpoint(-1, weights, checkpoint.task, checkpoint.model))
    )
    for name in ("distance_irrelevance", "gradient_symmetricity", "circularity", "margin"):
        assert_allclose(other[name], one[name], atol=1e-9)


def test_the_scale_of_the_logits_and_the_order_of_the_neurons_change_nothing() -> None:
    checkpoint = untrained(9)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    weights = dict(checkpoint.weights)
    weights["blocks.0.mlp.W_in"], weights["blocks.0.mlp.W_out"] = (
        weights["blocks.0.mlp.W_in"][:, order],
        weights["blocks.0.mlp.W_out"][order],
    )
    weights["unembed.W_U"] = 5 * weights["unembed.W_U"]
    one, other = (
        measured(c, key_frequencies=[2])
        for c in (checkpoint, Checkpoint(0, weights, checkpoint.task, checkpoint.model))
    )
    for name in ("distance_irrelevance", "gradient_symmetricity", "circularity", "margin"):
        assert_allclose(other[name], one[name], atol=1e-10)


# ---- second implementations ------------------------------------------------------------------------------------------


def test_distance_irrelevance_is_that_of_the_published_matrix() -> None:
    """M[(a+b) mod p, (a−b) mod p] = correct logit, for odd p."""
    checkpoint, matrix = untrained(11), np.empty((11, 11))
    for a in range(11):
        for b in range(11):
            matrix[(a + b) % 11, (a - b) % 11] = checkpoint.logits[a, b, (a + b) % 11]
    assert_allclose(
        measured(checkpoint)["distance_irrelevance"], np.mean(matrix.std(axis=0)) / matrix.std(), rtol=1e-10
    )


@pytest.mark.parametrize("p", [7, 8])
def test_fits_are_those_of_whole_cubes(p: int) -> None:
    logits = np.random.RandomState(p).randn(p, p, p) + 3 * ideal_logits(p, [1, p // 2], "pizza").numpy()
    found = measured(with_logits(Task(len(logits)), logits), key_frequencies=[1, p // 2])
    cubes = {}
    for k in (1, p // 2):
        wave = np.cos(2 * np.pi * k * (np.arange(p)[:, None] - np.arange(p)) / p)
        part = logits @ wave * (1 if 2 * k == p else 2) / p  # the part with frequency k over the classes
        for formula in ("clock", "pizza"):
            cube = cubes[formula, k] = ideal_logits(p, [k], formula).numpy()
            y, fit = (part - part.mean()) / part.std(), (cube - cube.mean()) / cube.std()
            assert_allclose(found["fit_per_frequency"][str(k)][formula], 1 - np.mean((y - fit) ** 2), atol=1e-10)
    centred = (logits - logits.mean(-1, keepdims=True)).ravel()
    for formula in ("clock", "pizza"):
        columns = np.stack([cubes[formula, k].ravel() for k in (1, p // 2)], axis=1)
        _, residue, _, _ = np.linalg.lstsq(columns, centred)
        assert_allclose(found[f"explained_by_{formula}"], 1 - residue[0] / (centred @ centred), atol=1e-10)


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"prompt": "ab"},
        {"prompt": "ab", "causal": False, "attention_rate": 0.7},
        {"attention_rate": 0.4, "activation": "gelu"},
        {"attention_rate": 0.0, "activation": "square", "prompt": "ab"},
        {"n_layers": 2, "activation": "square"},
    ],
    ids=str,
)
@pytest.mark.parametrize("operation", ["add", "divide"])
def test_gradients_are_those_of_one_triple_at_a_time(model: dict, operation: str) -> None:
    checkpoint = untrained(task=Task(5, operation), **model)
    phase, cosines = checkpoint.task.phase, []
    for s in range(phase.order):
        for t in range(phase.order):
            x = embed(
                checkpoint.weights, checkpoint.model, torch.tensor([[phase.rows[s], phase.columns[t]]])
            ).requires_grad_()
            logits = transform(checkpoint.weights, checkpoint.model, x).logits[0]
            for c in phase.classes:
                (gradient,) = torch.autograd.grad(logits[c], x, retain_graph=True)
                cosines.append(torch.nn.functional.cosine_similarity(gradient[0, 0], gradient[0, 1], dim=0).item())
    found = measured(checkpoint)
    assert_allclose(found["gradient_symmetricity"], np.mean(cosines), atol=1e-10)
    assert found["gradient_symmetricity_error"] == 0  # all triples


@pytest.mark.parametrize("triples", [260, 600])  # less than two classes for each pair, and more
@pytest.mark.parametrize("operation", ["add", "multiply"])
def test_the_standard_error_is_the_spread_over_seeds(operation: str, triples: int) -> None:
    checkpoint = untrained(task=Task(13, operation), prompt="ab")
    truth = measured(checkpoint, triples=13**3)["gradient_symmetricity"]
    drawn = [measured(checkpoint, triples=triples, seed=seed) for seed in range(60)]
    errors = np.array([found["gradient_symmetricity_error"] for found in drawn])
    deviations = np.array([found["gradient_symmetricity"] for found in drawn]) - truth
    # The spread of 60 normal values is within 30 % of its expectation in all but one of 1,000 cases.
    assert_allclose(deviations.std() / np.sqrt((errors**2).mean()), 1, atol=0.3)
    assert abs(deviations.mean()) < 4 * errors.mean() / 60**0.5


@pytest.mark.parametrize(
    ("p", "n", "triples"), [(113, 113, 20_000), (113, 112, 20_000), (7, 7, 100), (7, 6, 1), (7, 7, 10**6), (2, 2, 1)]
)
def test_there_are_as_many_triples_as_promised_and_none_twice(p: int, n: int, triples: int) -> None:
    drawn = clock_pizza._random_classes(p, n, triples, 0)
    # A column outside the phases does not count.
    assert sum(classes[:, :n].numel() for _, classes in drawn) >= min(triples, n**3)
    different = {
        (s, t, c)
        for rows, classes in drawn
        for s, row in zip(rows.tolist(), classes.tolist(), strict=True)
        for t, c in enumerate(row)
    }
    assert len(different) == sum(classes.numel() for _, classes in drawn)
    assert all(0 <= c < n for _, _, c in different)
    assert len(drawn[0][0]) == n  # every pair is drawn
    assert len(drawn) > 1  # and some twice
