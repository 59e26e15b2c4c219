"""Representation: circles, lines and spectra with known answers, and every measure against its definition written
out."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from interp.analyses import representation
from interp.analysis import find
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import circuit_checkpoint, circuit_neurons


def untrained(task: Task, **model) -> Checkpoint:
    config = ModelConfig(**({"d_model": 8, "n_heads": 2, "d_mlp": 12} | model))
    return Checkpoint(
        0, {name: weight.double() for name, weight in initial_weights(config, task.p).items()}, task, config
    )


def with_embedding(columns: np.ndarray, task: Task) -> Checkpoint:
    """An untrained network whose residues, in phase order, are embedded so."""
    checkpoint = untrained(task)
    checkpoint.weights["embed.W_E"].zero_()
    checkpoint.weights["embed.W_E"][torch.from_numpy(task.coordinates.rows), : columns.shape[1]] = torch.from_numpy(
        columns
    ).double()
    return checkpoint


def circle(n: int, k: int) -> np.ndarray:
    angle = 2 * np.pi * k * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def summed(checkpoint: Checkpoint, **parameters) -> dict:
    return find("representation").summary(representation.measure(checkpoint, **parameters).expand_dims(step=[0]))


@pytest.mark.parametrize("task", [Task(13), Task(12), Task(13, "multiply")], ids=str)
def test_planted_circles_are_found_and_drawn_as_circles(task: Task) -> None:
    n = task.phase.order
    checkpoint = with_embedding(np.concatenate([circle(n, 5), 2 * circle(n, 2)], axis=1), task)
    result = representation.measure(checkpoint)
    assert result.frequency_of_component.values.tolist() == [2, 2, 5, 5, 0, 0, 0, 0]
    assert_allclose(result.variance_share, [0.4, 0.4, 0.1, 0.1, 0, 0, 0, 0], atol=1e-12)
    assert_allclose(result.circularity[:4], 1, atol=1e-9)
    assert np.isnan(result.circularity[4:]).all()
    radius = np.hypot(*result.coordinate.values[:2])
    assert_allclose(radius, 2, rtol=1e-6)
    assert summed(checkpoint)["circles"] == [
        {"frequency": 2, "components": [1, 2]},
        {"frequency": 5, "components": [3, 4]},
    ]


def test_the_alternating_component_of_an_even_modulus_is_one_frequency() -> None:
    result = representation.measure(with_embedding((-1.0) ** np.arange(8)[:, None], Task(8)))
    assert int(result.frequency_of_component[0]) == 4
    assert_allclose(result.circularity[0], 1, atol=1e-12)


def test_an_untrained_embedding_has_no_circles() -> None:
    facts = summed(untrained(Task(113), d_model=32))
    assert facts["circles"] == []
    assert max(component["circularity"] for component in facts["components"]) < 0.5


@pytest.mark.parametrize("task", [Task(7), Task(8)], ids=str)
def test_numbers_on_a_line_close_every_parallelogram_and_circles_or_noise_none(task: Task) -> None:
    n = task.p
    assert summed(with_embedding(np.outer(np.arange(n), [1.0, 2.0]), task))["rqi"] == 1
    assert summed(with_embedding(circle(7, 1), Task(7)))["rqi"] == 0
    assert summed(untrained(task))["rqi"] == 0


@pytest.mark.parametrize("delta", [1.2, 2.0])
def test_rqi_counts_parallelograms_one_by_one(delta: float) -> None:
    checkpoint = untrained(Task(7), d_model=4)
    E = checkpoint.W_E.numpy()
    size = np.sqrt(np.square(E - E.mean(0)).sum(1).mean())
    pairs = [(i, j) for i in range(7) for j in range(i, 7)]
    kept = [(one, other) for one, other in itertools.combinations(pairs, 2) if sum(one) == sum(other)]
    expected = np.mean([np.linalg.norm(E[i] + E[j] - E[m] - E[n]) <= delta * size for (i, j), (m, n) in kept])
    assert 0 < expected < 1
    assert_allclose(summed(checkpoint, delta=delta)["rqi"], expected, atol=1e-12)
    assert representation._parallelograms(7, 10**6, 0)[0].shape == (2, len(kept))


def test_a_sample_of_parallelograms_estimates_them_all() -> None:
    checkpoint = untrained(Task(13), d_model=2, n_heads=1)
    every = summed(checkpoint, delta=1.0)["rqi"]
    drawn = [summed(checkpoint, delta=1.0, parallelograms=50, seed=seed)["rqi"] for seed in range(30)]
    assert_allclose(np.mean(drawn), every, atol=4 * np.sqrt(every * (1 - every) / 50 / 30))


def test_effective_rank_counts_equal_directions() -> None:
    checkpoint = untrained(Task(7))
    checkpoint.weights["blocks.0.mlp.W_in"].zero_()
    checkpoint.weights["blocks.0.mlp.W_in"][:5, :5] = 3 * torch.eye(5)
    ranks = summed(checkpoint)["effective_rank"]
    assert_allclose(ranks["W_in"], 5, atol=1e-9)
    for name, matrix in {"W_E": checkpoint.W_E, "W_out": checkpoint.W_out, "W_U": checkpoint.W_U}.items():
        share = np.linalg.svd(matrix.numpy(), compute_uv=False)
        share = share / share.sum()
        assert_allclose(ranks[name], np.exp(-np.sum(share * np.log(share))), rtol=1e-9)


@pytest.mark.parametrize(
    ("task", "model"), [(Task(7), {}), (Task(11, "divide"), {"prompt": "ab"}), (Task(8, "random"), {})], ids=str
)
def test_spectral_entropy_is_that_of_the_covariance(task: Task, model: dict) -> None:
    checkpoint, phase = untrained(task, **model), task.coordinates
    activations = checkpoint.residual_post[phase.rows][:, phase.columns].reshape(-1, 8).numpy()
    values = np.linalg.eigvalsh(np.cov(activations.T))
    share = values[values > 1e-14] / values.sum()
    assert_allclose(summed(checkpoint)["spectral_entropy"], -np.sum(share * np.log(share)) / np.log(8), atol=1e-9)


def test_spectral_entropy_of_known_activations() -> None:
    """Equal variance in 2 of 8 directions: log 2 / log 8."""
    checkpoint = untrained(Task(8))
    signs = torch.tensor([1.0, -1.0]).double().repeat(4)
    post = torch.zeros(8, 8, 8, dtype=torch.float64)
    post[..., 0], post[..., 1] = signs[:, None], signs
    checkpoint.residual_post = post + 5
    assert_allclose(summed(checkpoint)["spectral_entropy"], 1 / 3, atol=1e-9)


@pytest.mark.parametrize("circuit", ["clock", "pizza"])
def test_planted_neurons_have_one_frequency_on_both_sides(circuit: str) -> None:
    """Squared, the mean response of a neuron is one wave, of twice its frequency; its output is one wave too."""
    neurons = circuit_neurons([1, 3], per_frequency=16 if circuit == "clock" else 9, circuit=circuit)
    facts = summed(circuit_checkpoint(Task(13), neurons, activation="square"))
    assert_allclose([facts["ipr"]["input"], facts["ipr"]["output"]], 1, atol=1e-9)


@pytest.mark.parametrize(
    ("task", "model"), [(Task(7), {}), (Task(8), {"prompt": "ab"}), (Task(11, "divide"), {})], ids=str
)
def test_ipr_is_its_definition(task: Task, model: dict) -> None:
    checkpoint, phase = untrained(task, **model), task.coordinates
    neurons = checkpoint.neurons.numpy()[phase.rows][:, phase.columns]
    output = (checkpoint.W_out @ checkpoint.W_U).numpy()[:, phase.classes]
    n, found = phase.order, {"input": [], "output": []}
    for j in range(neurons.shape[-1]):
        for side, waves in {
            "input": (neurons[..., j].mean(1), neurons[..., j].mean(0)),
            "output": (output[j],),
        }.items():
            power = sum(np.abs(np.fft.fft(wave)) ** 2 for wave in waves)
            power = [power[k] if 2 * k == n else power[k] + power[n - k] for k in range(1, n // 2 + 1)]
            if sum(power) > 0:
                found[side].append(sum(np.square(power)) / sum(power) ** 2)
    facts = summed(checkpoint)
    assert_allclose(
        [facts["ipr"]["input"], facts["ipr"]["output"]], [np.mean(found["input"]), np.mean(found["output"])], atol=1e-9
    )


def test_a_rotation_of_the_embedding_changes_nothing() -> None:
    checkpoint = untrained(Task(9))
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    moved = dict(checkpoint.weights) | {"embed.W_E": checkpoint.weights["embed.W_E"] @ rotation}
    one, other = (
        representation.measure(c, delta=1.0)
        for c in (checkpoint, Checkpoint(0, moved, checkpoint.task, checkpoint.model))
    )
    for name in ("variance_share", "circularity", "frequency_of_component", "rqi"):
        assert_allclose(other[name], one[name], atol=1e-9)
    assert_allclose(np.abs(other.coordinate), np.abs(one.coordinate), atol=1e-5)


def test_a_network_of_zeros_has_nothing_to_measure() -> None:
    checkpoint = untrained(Task(7))
    for weight in checkpoint.weights.values():
        weight.zero_()
    facts = summed(checkpoint)
    assert [facts["spectral_entropy"], facts["rqi"], facts["ipr"]["input"], facts["effective_rank"]["W_E"]] == [
        None
    ] * 4
    assert facts["circles"] == []
