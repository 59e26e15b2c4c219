"""MLP structure: planted circuits with known directions, and every measure against its definition written out."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from interp.analyses import mlp_structure
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


def basis_rows(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """F_{2k−1} and F_{2k}, the latter zero for k = n/2."""
    angle, scale = 2 * np.pi * k * np.arange(n) / n, np.sqrt((1 if 2 * k == n else 2) / n)
    return scale * np.cos(angle), 0 * angle if 2 * k == n else scale * np.sin(angle)


@pytest.mark.parametrize(
    ("task", "frequencies"), [(Task(13), [1, 3]), (Task(12), [1, 4, 5]), (Task(13, "divide"), [1, 3])], ids=str
)
def test_a_planted_clock_has_two_directions_per_frequency_and_waves_along_them(
    task: Task, frequencies: list[int]
) -> None:
    checkpoint = circuit_checkpoint(
        task, circuit_neurons(frequencies, per_frequency=16, circuit="clock"), activation="square", strength=3
    )
    result = mlp_structure.measure(checkpoint, key_frequencies=frequencies)
    n, rank = task.phase.order, 2 * len(frequencies)
    assert int(result["rank"]) == rank
    assert_allclose(result.effective_rank, rank, atol=1e-6)  # all singular values are equal
    assert_allclose(result.residual, 0, atol=1e-7)
    # u_k has 16 neurons with strength·cos(3α) √(n/2): the squares of the cosines add up to 8.
    assert_allclose(result.norm.sel(frequency=frequencies), 3 * np.sqrt(8 * n / 2), rtol=1e-9)
    assert_allclose(result.singular_value[:rank], 3 * np.sqrt(8 * n / 2), rtol=1e-9)
    assert_allclose(result.fraction_explained.sel(frequency=frequencies), 1, atol=1e-9)
    others = [k for k in result.frequency.values if k not in frequencies]
    assert_allclose(result.norm.sel(frequency=others), 0, atol=1e-9)


def test_along_a_square_pizza_the_waves_have_the_distance_as_amplitude() -> None:
    """N cos²(w(s−t)/2) cos w(s+t) = N/4·(2 cos w(s+t) + cos 2ws + cos 2wt): 4 parts of 6 lie in the wave of the sum."""
    checkpoint = circuit_checkpoint(Task(13), circuit_neurons([1]), activation="square")
    result = mlp_structure.measure(checkpoint, key_frequencies=[1])
    assert_allclose(result.fraction_explained.sel(frequency=1), 2 / 3, atol=1e-9)


def test_a_frequency_that_is_not_key_is_residual() -> None:
    checkpoint = circuit_checkpoint(Task(13), circuit_neurons([1, 3]))
    assert_allclose(mlp_structure.measure(checkpoint, key_frequencies=[3]).residual, np.sqrt(0.5), atol=1e-9)
    assert_allclose(mlp_structure.measure(checkpoint, key_frequencies=[]).residual, 1, atol=1e-9)


def test_an_untrained_network_has_no_structure() -> None:
    checkpoint = untrained(Task(31), d_model=64, n_heads=1, d_mlp=64)
    result = mlp_structure.measure(checkpoint)
    assert int(result["rank"]) > 20
    assert float(result.residual) == 1  # no key frequency
    assert np.isnan(result.fraction_explained).all()
    assert float(mlp_structure.measure(checkpoint, key_frequencies=list(range(1, 16))).fraction_explained.max()) < 0.1


def test_silent_neurons_have_no_waves() -> None:
    checkpoint = untrained(Task(8))
    checkpoint.weights["blocks.0.mlp.b_in"].fill_(-100)
    assert np.isnan(mlp_structure.measure(checkpoint).fraction_explained).all()
    facts = find("mlp_structure").summary(mlp_structure.measure(checkpoint, key_frequencies=[2]).expand_dims(step=[0]))
    assert facts["fraction_explained"] == {"2": {"cosine": None, "sine": None}}
    assert facts["lowest_fraction_explained"] is None


def test_a_map_of_zeros_has_no_rank() -> None:
    checkpoint = untrained(Task(8))
    checkpoint.weights["unembed.W_U"].zero_()
    result = mlp_structure.measure(checkpoint, key_frequencies=[2])
    assert int(result["rank"]) == 0
    assert np.isnan([result.effective_rank, result.residual]).all()


@pytest.mark.parametrize(
    ("task", "model"),
    [
        (Task(7), {}),
        (Task(8), {"prompt": "ab", "activation": "gelu"}),
        (Task(11, "multiply"), {"n_layers": 2}),
        (Task(7, "random"), {}),
    ],
    ids=str,
)
def test_every_measure_is_its_definition(task: Task, model: dict) -> None:
    checkpoint, phase = untrained(task, **model), task.coordinates
    result = mlp_structure.measure(checkpoint, key_frequencies=[2], tolerance=0.3)
    n = phase.order
    every = mlp_structure.measure(checkpoint, key_frequencies=list(range(1, n // 2 + 1)))
    assert np.isnan(result.fraction_explained).sum() >= 2 * (n // 2 - 1)
    s, t = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    W_L = (checkpoint.W_out @ checkpoint.W_U).numpy()[:, phase.classes]
    neurons = checkpoint.neurons.numpy()[phase.rows][:, phase.columns]
    approximation = np.zeros_like(W_L)
    for k in range(1, n // 2 + 1):
        for wave, row in enumerate(basis_rows(n, k)):
            direction = W_L @ row
            assert_allclose(result.norm.isel(frequency=k - 1, wave=wave), np.linalg.norm(direction), atol=1e-10)
            if k == 2:
                approximation += np.outer(direction, row)
            found = every.fraction_explained.isel(frequency=k - 1, wave=wave)
            if not row.any():
                assert np.isnan(found)
                continue
            expected = (np.cos, np.sin)[wave](2 * np.pi * k * (s + t) / n).ravel()
            assert_allclose(found, np.corrcoef((neurons @ direction).ravel(), expected)[0, 1] ** 2, atol=1e-9)
    assert_allclose(result.residual, np.linalg.norm(W_L - approximation) / np.linalg.norm(W_L), atol=1e-9)
    left, singular, right = np.linalg.svd(W_L, full_matrices=False)
    assert_allclose(result.singular_value, singular, atol=1e-9)
    share = singular[singular > 1e-12] / singular.sum()
    assert_allclose(result.effective_rank, np.exp(-np.sum(share * np.log(share))), rtol=1e-9)
    errors = [np.linalg.norm(W_L - left[:, :r] * singular[:r] @ right[:r]) for r in range(len(singular) + 1)]
    assert int(result["rank"]) == next(r for r, error in enumerate(errors) if error <= 0.3 * errors[0])


def test_the_order_and_scale_of_the_neurons_change_nothing() -> None:
    checkpoint = untrained(Task(9))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    weights = dict(checkpoint.weights)
    for name, change in {
        "W_in": lambda w: 2 * w[:, order],
        "b_in": lambda b: 2 * b[order],
        "W_out": lambda w: w[order] / 2,
    }.items():
        weights[f"blocks.0.mlp.{name}"] = change(weights[f"blocks.0.mlp.{name}"])
    both = checkpoint, Checkpoint(0, weights, checkpoint.task, checkpoint.model)
    one, other = (mlp_structure.measure(c, key_frequencies=[1, 4]) for c in both)
    for name in ("effective_rank", "fraction_explained"):
        assert_allclose(other[name], one[name], atol=1e-9)
    assert_allclose(other.norm, one.norm / 2, atol=1e-9)
