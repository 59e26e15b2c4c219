"""Weight norms against known weights, a slow Fourier transform and symmetries."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from interp.analyses import weight_norms
from interp.analysis import analyze, measure_checkpoint
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights, weight_shapes
from interp.runs import Checkpoint
from interp.testing import circuit_checkpoint, circuit_model, circuit_neurons, circuit_weights

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
MODEL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)


def untrained(p: int, operation: str = "add", model: ModelConfig = MODEL) -> Checkpoint:
    weights = {name: weight.double() for name, weight in initial_weights(model, p).items()}
    return Checkpoint(0, weights, Task(p, operation), model)


def slow_parts(rows: np.ndarray, key: list[int]) -> list[float]:
    """L2 norms of the constant, key and other parts along the first axis: complex exponentials, one frequency after the
    other."""
    n = len(rows)
    squares = {"constant": 0.0, "key": 0.0, "other": 0.0}
    for f in range(n):
        power = (np.abs(np.exp(-2j * np.pi * f * np.arange(n) / n) @ rows) ** 2).sum() / n
        squares["constant" if f == 0 else "key" if min(f, n - f) in key else "other"] += power
    return [math.sqrt(square) for square in squares.values()]


# ---- closed forms ----------------------------------------------------------------------------------------------------


def test_the_norms_of_weights_that_are_all_two():
    weights = {name: torch.full(shape, -2.0) for name, shape in weight_shapes(MODEL, 7).items()}
    result = weight_norms.measure(Checkpoint(0, weights, Task(7), MODEL), key_frequencies=[1])
    sizes = np.array([math.prod(shape) for shape in weight_shapes(MODEL, 7).values()])
    assert_array_equal(result.tensor, list(weights))
    assert_allclose(result.l1, 2 * sizes, **CLOSE)
    assert_allclose(result.l2, 2 * np.sqrt(sizes), **CLOSE)
    assert_allclose(result.rms, np.full(len(sizes), 2.0), **CLOSE)
    assert_allclose(result.total_l1, 2 * sizes.sum(), **CLOSE)
    assert_allclose(result.total_l2, 2 * math.sqrt(sizes.sum()), **CLOSE)
    # Every row alike: nothing but the constant; the row of `=` does not count.
    assert_allclose(result.embedding_l2, [2 * math.sqrt(7 * 8), 0, 0], rtol=1e-9, atol=1e-7)
    assert_allclose(result.unembedding_l2, [2 * math.sqrt(7 * 8), 0, 0], rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("p", [7, 10])
def test_totals_are_norms_of_all_weights_in_one_vector(p):
    checkpoint = untrained(p, model=ModelConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=12, prompt="ab"))
    result = weight_norms.measure(checkpoint)
    everything = np.concatenate([weight.numpy().ravel() for weight in checkpoint.weights.values()])
    assert_allclose(result.total_l1, np.linalg.norm(everything, 1), **CLOSE)
    assert_allclose(result.total_l2, np.linalg.norm(everything), **CLOSE)
    for name, weight in checkpoint.weights.items():
        one = result.sel(tensor=name)
        flat = weight.numpy().ravel()
        expected = [np.linalg.norm(flat, 1), np.linalg.norm(flat), math.sqrt(np.square(flat).mean())]
        assert_allclose([one.l1, one.l2, one.rms], expected, **CLOSE)


@pytest.mark.parametrize(
    ("given", "key", "other"), [(None, 2, 0), ([2], 1, 1), ([], 0, 2), ([1, 3], 0, 2), ([1, 2, 3, 4, 5], 2, 0)]
)
def test_a_planted_embedding_is_all_in_its_frequencies(given, key, other):
    """cos and sin of a frequency over p residues have norm √p together; the unembedding speaks in the same two."""
    result = weight_norms.measure(circuit_checkpoint(Task(11), circuit_neurons([2, 4])), key_frequencies=given)
    for parts in (result.embedding_l2, result.unembedding_l2):
        assert_allclose(parts, [0, math.sqrt(11 * key), math.sqrt(11 * other)], rtol=1e-9, atol=1e-7)


def test_the_highest_frequency_of_an_even_number():
    neurons = circuit_neurons([1, 6], per_frequency=16, circuit="clock")
    result = weight_norms.measure(circuit_checkpoint(Task(12), neurons), key_frequencies=[6])
    assert_allclose(result.embedding_l2, [0, math.sqrt(12), math.sqrt(12)], rtol=1e-9, atol=1e-7)


# ---- a second implementation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "operation"), [(7, "add"), (8, "add"), (7, "subtract"), (7, "multiply"), (7, "divide"), (5, "random")]
)
@pytest.mark.parametrize("key", [[], [2], [1, 2]])
def test_the_parts_agree_with_a_slow_transform(p, operation, key):
    checkpoint = untrained(p, operation)
    phase = checkpoint.task.coordinates
    result = weight_norms.measure(checkpoint, key_frequencies=key)
    embedding = checkpoint.weights["embed.W_E"].numpy()[phase.rows]
    unembedding = checkpoint.weights["unembed.W_U"].numpy().T[phase.classes]
    assert_allclose(result.embedding_l2, slow_parts(embedding, key), **CLOSE)
    assert_allclose(result.unembedding_l2, slow_parts(unembedding, key), **CLOSE)
    # Pythagoras, over the residues that have a phase.
    assert_allclose(np.square(result.embedding_l2).sum(), np.square(embedding).sum(), **CLOSE)
    assert_allclose(np.square(result.unembedding_l2).sum(), np.square(unembedding).sum(), **CLOSE)


# ---- symmetries ------------------------------------------------------------------------------------------------------


def changed(checkpoint: Checkpoint, weights: dict[str, torch.Tensor]) -> Checkpoint:
    return Checkpoint(checkpoint.step, checkpoint.weights | weights, checkpoint.task, checkpoint.model)


@pytest.mark.parametrize("factor", [0.5, -3.0])
def test_norms_scale_with_the_weights(factor):
    checkpoint = untrained(7)
    scaled = changed(checkpoint, {name: factor * weight for name, weight in checkpoint.weights.items()})
    one, other = (
        weight_norms.measure(checkpoint, key_frequencies=[1]),
        weight_norms.measure(scaled, key_frequencies=[1]),
    )
    for name in one.data_vars:
        assert_allclose(other[name], abs(factor) * one[name], **CLOSE)


def test_permuting_neurons_changes_nothing_and_a_rotation_keeps_the_l2_norms():
    checkpoint, generator = untrained(7), torch.Generator().manual_seed(0)
    order, Q = (
        torch.randperm(12, generator=generator),
        torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=generator))[0],
    )
    W_in, W_out = checkpoint.weights["blocks.0.mlp.W_in"], checkpoint.weights["blocks.0.mlp.W_out"]
    before = weight_norms.measure(checkpoint, key_frequencies=[1])
    permuted = weight_norms.measure(
        changed(checkpoint, {"blocks.0.mlp.W_in": W_in[:, order], "blocks.0.mlp.W_out": W_out[order]}),
        key_frequencies=[1],
    )
    for name in before.data_vars:
        assert_allclose(permuted[name], before[name], **CLOSE)
    rotated = weight_norms.measure(
        changed(checkpoint, {"embed.W_E": checkpoint.weights["embed.W_E"] @ Q}), key_frequencies=[1]
    )
    assert_allclose(rotated.l2, before.l2, **CLOSE)
    assert_allclose(rotated.embedding_l2, before.embedding_l2, **CLOSE)
    assert abs(float(rotated.total_l1 - before.total_l1)) > 0.1


@pytest.mark.parametrize("p", [7, 8])
def test_shifting_the_residues_keeps_every_part(p):
    checkpoint = untrained(p)
    W_E = checkpoint.weights["embed.W_E"]
    shifted = changed(checkpoint, {"embed.W_E": torch.cat([W_E[:p].roll(2, 0), W_E[p:]])})
    one, other = (weight_norms.measure(each, key_frequencies=[1, 3]) for each in (checkpoint, shifted))
    assert_allclose(other.embedding_l2, one.embedding_l2, **CLOSE)


# ---- over a run ------------------------------------------------------------------------------------------------------


def test_a_run_is_measured_in_the_key_frequencies_of_its_last_checkpoint(tmp_path, written_run):
    task, neurons = Task(11), circuit_neurons([1, 3])
    model = circuit_model(neurons)
    weights = {0: initial_weights(model, 11), 5: circuit_weights(task, model, neurons)}
    run = written_run(tmp_path / "run", task, model, weights, weights=weights.get)
    result = analyze(run, ["weight_norms"])["weight_norms"]
    assert run.key_frequencies == [1, 3]
    assert_allclose(result.embedding_l2[0], slow_parts(run[0].W_E.numpy(), [1, 3]), rtol=1e-6, atol=1e-6)
    facts = weight_norms.summary(result)
    norms = {
        step: math.sqrt(sum(float(weight.double().square().sum()) for weight in run[step].weights.values()))
        for step in (0, 5)
    }
    assert facts == pytest.approx(
        {
            "first_step": 0,
            "first_l2": norms[0],
            "highest_l2": max(norms.values()),
            "highest_l2_at": max(norms, key=norms.__getitem__),
            "last_step": 5,
            "last_l2": norms[5],
            "last_sum_of_squares": norms[5] ** 2,
            "key_share_of_embedding": 1.0,
            "key_share_of_unembedding": 1.0,
        }
    )


def test_a_share_of_nothing_is_unknown():
    checkpoint = untrained(7)
    silent = changed(checkpoint, {"embed.W_E": torch.zeros(8, 8).double(), "unembed.W_U": torch.zeros(8, 7).double()})
    facts = weight_norms.summary(measure_checkpoint(silent, "weight_norms"))
    assert (facts["key_share_of_embedding"], facts["key_share_of_unembedding"]) == (None, None)


def test_the_figure_shows_every_tensor_and_every_part():
    result = measure_checkpoint(untrained(7), "weight_norms")
    figure = weight_norms.plot(result)
    names = [trace.name for trace in figure.data]
    tensors = ["W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_in", "b_in", "W_out", "b_out", "W_U"]
    assert [name.rpartition(".")[2] for name in names[:12]] == ["all weights", *tensors]
    assert names[12:] == 2 * ["constant", "key frequencies", "other frequencies"]
    assert_allclose([trace.y[0] for trace in figure.data[1:12]], result.l2[0], rtol=0)
