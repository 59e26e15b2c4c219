"""Neuron periodicity against closed forms, a slow Fourier transform, symmetries, and networks in which there is nothing
to find."""

import json
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from interp.analyses import neuron_periodicity
from interp.analysis import measure_checkpoint
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.mathematics import key_frequencies
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import Neuron, circuit_checkpoint, circuit_neurons, circuit_weights
from interp.training import train

VARIABLES = {
    "share",
    "dominant_frequency",
    "fraction_explained",
    "phase_a",
    "phase_b",
    "variance",
    "periodic_neurons",
}
# The measure is kept in float32.
CLOSE = {"rtol": 2e-6, "atol": 2e-6}


def slow_shares(grid: np.ndarray) -> np.ndarray:
    """The share of each frequency, [K], of one neuron over all pairs: complex exponentials, one coefficient after the
    other."""
    n = len(grid)
    wave = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
    power = np.array([[abs((grid * np.outer(wave[f], wave[g])).sum()) ** 2 for g in range(n)] for f in range(n)])
    power[0, 0] = 0
    blocks = [{(f, g) for f in (0, k, n - k) for g in (0, k, n - k)} for k in range(1, n // 2 + 1)]
    return np.array([sum(power[f, g] for f, g in block) for block in blocks]) / power.sum()


def angle_between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The difference of two angles, in (−π, π]."""
    return np.angle(np.exp(1j * (np.asarray(one, dtype=np.float64) - other)))


def untrained(p: int, operation: str = "add", seed: int = 0, **fields) -> Checkpoint:
    """With gelu, because it leaves no neuron dead."""
    task = Task(p, operation)
    model = ModelConfig(**({"d_model": 16, "n_heads": 2, "d_mlp": 24, "activation": "gelu"} | fields), seed=seed)
    return Checkpoint(0, {name: weight.double() for name, weight in initial_weights(model, p).items()}, task, model)


def changed(checkpoint: Checkpoint, **weights: torch.Tensor) -> Checkpoint:
    """The same network with some weights replaced, each named by the end of its name."""
    full = {
        next(name for name in checkpoint.weights if name.endswith(f".{end}")): weight for end, weight in weights.items()
    }
    return Checkpoint(checkpoint.step, checkpoint.weights | full, checkpoint.task, checkpoint.model)


# ---- closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "k"), [(7, 1), (7, 2), (7, 3), (11, 5), (13, 6), (10, 1), (10, 3)])
def test_a_square_neuron_is_four_fifths_periodic(p, k):
    """(cos x + cos y)² = 1 + ½ cos 2x + ½ cos 2y + 2 cos x cos y: variance 1 in the block of k, 1/8 + 1/8 in that of
    2k."""
    neurons = [Neuron(k, 0.3, 0.3), Neuron(k, 2.1, 2.1), Neuron(k, 1.0, -0.7)]
    result = neuron_periodicity.measure(circuit_checkpoint(Task(p), neurons, activation="square"))
    double = min(2 * k, p - 2 * k)
    expected = [{k: 0.8, double: 0.2}.get(frequency, 0.0) for frequency in range(1, p // 2 + 1)]
    assert_allclose(result.share, np.tile(expected, (3, 1)), **CLOSE)
    assert_array_equal(result.dominant_frequency, [k] * 3)
    assert_allclose(result.variance, [1.25] * 3, **CLOSE)


def test_where_the_double_of_a_frequency_is_itself_or_a_half():
    """At p = 9, 2·3 is −3, so the block of 3 has everything. At p = 8, cos(2w_2 s − 2α) is cos 2α·(−1)^s, of variance
    cos² 2α."""
    nine = neuron_periodicity.measure(circuit_checkpoint(Task(9), [Neuron(3, 0.4, 0.4)], activation="square"))
    assert_allclose(nine.fraction_explained, [1.0], **CLOSE)
    eight = neuron_periodicity.measure(
        circuit_checkpoint(Task(8), [Neuron(2, 0.4, 0.1), Neuron(4, 0.4, 0.1)], activation="square")
    )
    doubled = (math.cos(0.8) ** 2 + math.cos(0.2) ** 2) / 4
    assert_allclose(eight.fraction_explained, [1 / (1 + doubled), 1.0], **CLOSE)
    assert_array_equal(eight.dominant_frequency, [2, 4])


def test_a_relu_neuron_is_96_percent_periodic():
    """relu(z) = (z + |z|)/2 with |cos x + cos y| = 2|cos u||cos v|, u, v = (x ± y)/2. Over all angles the variance is
    ½ − 16/π⁴: the half-sum gives ¼ to the block of k, and the first harmonics of |cos| (means 2/π, amplitudes 4/3π)
    give 64/9π⁴."""
    limit = (1 / 4 + 64 / (9 * math.pi**4)) / (1 / 2 - 16 / math.pi**4)
    assert limit == pytest.approx(0.962, abs=5e-4)
    neuron = Neuron(1, 0.5, 0.2)
    result = neuron_periodicity.measure(circuit_checkpoint(Task(61), [neuron]))
    assert_allclose(result.fraction_explained, [limit], rtol=0, atol=1e-3)
    angle = 2 * np.pi * np.arange(61) / 61
    grid = np.maximum(np.cos(angle - 0.5)[:, None] + np.cos(angle - 0.2), 0)
    assert_allclose(result.share[0], slow_shares(grid), **CLOSE)


@pytest.mark.parametrize("p", [7, 8, 13])
def test_every_frequency_is_found(p):
    frequencies = list(range(1, p // 2 + 1))
    result = neuron_periodicity.measure(circuit_checkpoint(Task(p), [Neuron(k, 0.3, 0.9) for k in frequencies]))
    assert_array_equal(result.dominant_frequency, frequencies)
    assert_array_equal(result.periodic_neurons, [1] * len(frequencies))


@pytest.mark.parametrize(("p", "k"), [(7, 2), (11, 5), (12, 1), (12, 6)])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_phases_are_recovered(p, k, activation):
    """On the grid, α = w_k m, a neuron is symmetric about a = m, so its phase is exact."""
    on_grid = 2 * math.pi * k / p
    neurons = [Neuron(k, on_grid * m, on_grid * (p - 2 * m)) for m in range(4)]
    result = neuron_periodicity.measure(circuit_checkpoint(Task(p), neurons, activation=activation))
    assert_allclose(angle_between(result.phase_a, [neuron.phase_a for neuron in neurons]), 0, atol=1e-5)
    assert_allclose(angle_between(result.phase_b, [neuron.phase_b for neuron in neurons]), 0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mean_without_the_frequency_has_no_phase(dtype):
    checkpoint = circuit_checkpoint(Task(11), circuit_neurons([1, 4]), activation="square")
    weights = {name: weight.to(dtype) for name, weight in checkpoint.weights.items()}
    result = neuron_periodicity.measure(Checkpoint(0, weights, checkpoint.task, checkpoint.model))
    assert (result.dominant_frequency > 0).all()
    assert np.isnan(result.phase_a).all()
    assert np.isnan(result.phase_b).all()


@pytest.mark.parametrize(("threshold", "counted"), [(0.75, [3, 0, 3]), (0.85, [0, 0, 0])])
def test_the_threshold_decides_what_is_counted(threshold, counted):
    checkpoint = circuit_checkpoint(Task(7), circuit_neurons([1, 3], per_frequency=3), activation="square")
    result = measure_checkpoint(checkpoint, "neuron_periodicity", threshold=threshold)
    assert_array_equal(result.periodic_neurons[0], counted)
    assert neuron_periodicity.summary(result)["periodic_neurons"] == sum(counted)


# ---- a second implementation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "operation"), [(6, "add"), (7, "add"), (7, "subtract"), (7, "multiply"), (7, "divide"), (5, "x3+xy")]
)
def test_shares_agree_with_a_slow_transform(p, operation):
    checkpoint = untrained(p, operation, d_mlp=5)
    result = neuron_periodicity.measure(checkpoint)
    grid = key_frequencies.in_phase(checkpoint.neurons, checkpoint.task.coordinates).numpy()
    expected = np.stack([slow_shares(grid[..., neuron]) for neuron in range(5)])
    assert_allclose(result.share, expected, **CLOSE)
    assert_array_equal(result.dominant_frequency, expected.argmax(1) + 1)
    assert_allclose(result.fraction_explained, expected.max(1), **CLOSE)
    assert_allclose(result.variance, grid.reshape(-1, 5).var(0), **CLOSE)


@pytest.mark.parametrize("operation", ["multiply", "divide"])
def test_multiplication_is_addition_of_discrete_logarithms(operation):
    neurons = circuit_neurons([1, 3, 5], per_frequency=5, circuit="clock")
    product = neuron_periodicity.measure(circuit_checkpoint(Task(11, operation), neurons))
    total = neuron_periodicity.measure(circuit_checkpoint(Task(10), neurons))
    for name in VARIABLES - {"phase_a", "phase_b"}:
        assert_allclose(product[name], total[name], **CLOSE)
    for name in ("phase_a", "phase_b"):
        assert_allclose(angle_between(product[name], total[name]), 0, atol=1e-5)


# ---- symmetries ------------------------------------------------------------------------------------------------------


def test_permuting_the_neurons_permutes_the_answer():
    checkpoint, order = untrained(7), torch.randperm(24, generator=torch.Generator().manual_seed(0))
    weights = {end: checkpoint.weights[f"blocks.0.mlp.{end}"] for end in ("W_in", "b_in", "W_out")}
    permuted = changed(
        checkpoint, W_in=weights["W_in"][:, order], b_in=weights["b_in"][order], W_out=weights["W_out"][order]
    )
    result, other = neuron_periodicity.measure(checkpoint), neuron_periodicity.measure(permuted)
    assert set(result.data_vars) == VARIABLES
    for name in VARIABLES - {"periodic_neurons"}:
        assert_allclose(other[name], result[name][order.numpy()], **CLOSE)
    assert_array_equal(other.periodic_neurons, result.periodic_neurons)


def test_scaling_the_logits_changes_nothing():
    checkpoint = untrained(7)
    louder = changed(checkpoint, W_U=1000 * checkpoint.W_U)
    assert neuron_periodicity.measure(louder).identical(neuron_periodicity.measure(checkpoint))


def test_scaling_a_relu_neuron_leaves_its_shares_and_phases():
    checkpoint = circuit_checkpoint(Task(7), [Neuron(k, 0.3 * k, 0.7) for k in (1, 2, 3)])
    result = neuron_periodicity.measure(checkpoint)
    other = neuron_periodicity.measure(changed(checkpoint, W_in=3 * checkpoint.weights["blocks.0.mlp.W_in"]))
    for name in ("share", "fraction_explained", "phase_a", "phase_b"):
        assert_allclose(other[name], result[name], **CLOSE)
    assert_allclose(other.variance, 9 * result.variance, rtol=1e-6)


@pytest.mark.parametrize(("p", "shift"), [(7, 3), (8, 1)])
def test_shifting_the_inputs_leaves_the_power_and_moves_the_phases(p, shift):
    checkpoint = untrained(p)
    W_E = checkpoint.weights["embed.W_E"]
    result = neuron_periodicity.measure(checkpoint)
    shifted = neuron_periodicity.measure(changed(checkpoint, W_E=torch.cat([W_E[:p].roll(shift, 0), W_E[p:]])))
    for name in ("share", "dominant_frequency", "fraction_explained", "variance", "periodic_neurons"):
        assert_allclose(shifted[name], result[name], **CLOSE)
    turn = 2 * np.pi * result.dominant_frequency.values * shift / p
    for name in ("phase_a", "phase_b"):
        assert_allclose(angle_between(shifted[name], result[name] + turn), 0, atol=1e-4)


def test_renaming_the_residues_renames_the_frequencies():
    """Under a → u a, a wave of frequency k becomes one of frequency k/u: the shares move, and none is lost."""
    p, u = 11, 3
    checkpoint = untrained(p)
    W_E = checkpoint.weights["embed.W_E"]
    renamed = neuron_periodicity.measure(
        changed(checkpoint, W_E=torch.cat([W_E[:p][torch.arange(p) * u % p], W_E[p:]]))
    )
    moved = [min(k * u % p, -k * u % p) for k in range(1, p // 2 + 1)]
    original = neuron_periodicity.measure(checkpoint).share.values
    assert_allclose(renamed.share.sel(frequency=moved), original, **CLOSE)


# ---- where there is nothing to find ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_untrained_network_has_no_periodic_neurons(seed):
    result = neuron_periodicity.measure(untrained(23, seed=seed, d_model=32, d_mlp=64, activation="relu"))
    assert result.periodic_neurons.sum() == 0
    assert np.nanmedian(result.fraction_explained) < 0.4


def test_memorizing_a_random_table_makes_few_neurons_periodic():
    task, model = Task(13, "random", train_fraction=0.5), ModelConfig(d_model=32, n_heads=2, d_mlp=64)
    *_, last = train(Experiment(task, model, TrainingConfig(steps=150, lr=1e-2, checkpoint_every=None, log_every=150)))
    assert last.metrics["train_accuracy"] == 1.0
    result = neuron_periodicity.measure(Checkpoint(last.step, last.weights, task, model))
    assert result.periodic_neurons.sum() <= 2


def test_dead_neurons_have_frequency_zero_and_nothing_else():
    neurons = circuit_neurons([2], per_frequency=5)
    model = ModelConfig(d_model=8, n_heads=1, d_mlp=8)
    checkpoint = Checkpoint(0, circuit_weights(Task(7), model, neurons), Task(7), model)
    result = neuron_periodicity.measure(checkpoint)
    assert_array_equal(result.dominant_frequency, [2] * 5 + [0] * 3)
    for name in ("share", "fraction_explained", "phase_a", "phase_b"):
        assert np.isfinite(result[name][:5]).all()
        assert np.isnan(result[name][5:]).all()
    assert_array_equal(result.periodic_neurons, [0, 5, 0])


@pytest.mark.parametrize("bias", [0.0, 0.1, -0.1, 1234.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neurons_that_never_change_are_all_dead(bias, dtype):
    checkpoint = untrained(7)
    weights = {name: weight.to(dtype) for name, weight in checkpoint.weights.items()}
    W_in, b_in = torch.zeros_like(weights["blocks.0.mlp.W_in"]), torch.full_like(weights["blocks.0.mlp.b_in"], bias)
    constant = changed(Checkpoint(0, weights, checkpoint.task, checkpoint.model), W_in=W_in, b_in=b_in)
    result = measure_checkpoint(constant, "neuron_periodicity")
    assert (result.dominant_frequency == 0).all()
    facts = neuron_periodicity.summary(result)
    assert (facts["dead_neurons"], facts["periodic_neurons"], facts["median_fraction_explained"]) == (24, 0, None)
    assert len(neuron_periodicity.plot(result).data) > 0


# ---- summary and figure ----------------------------------------------------------------------------------------------


def test_the_summary_counts():
    result = measure_checkpoint(circuit_checkpoint(Task(13), circuit_neurons([2, 5]), step=40), "neuron_periodicity")
    facts = neuron_periodicity.summary(result)
    assert facts | {"median_fraction_explained": None} == {
        "step": 40,
        "neurons": 18,
        "periodic_neurons": 18,
        "periodic_neurons_per_frequency": {"2": 9, "5": 9},
        "dead_neurons": 0,
        "median_fraction_explained": None,
    }
    assert facts["median_fraction_explained"] == pytest.approx(float(np.median(result.fraction_explained)))
    assert json.loads(json.dumps(facts)) == facts


def test_the_figure_shows_every_neuron():
    neurons = circuit_neurons([5], per_frequency=5) + circuit_neurons([2])
    result = measure_checkpoint(circuit_checkpoint(Task(13), neurons), "neuron_periodicity")
    figure = neuron_periodicity.plot(result)
    heat_map = figure.data[0]
    assert heat_map.type == "heatmap"
    assert np.shape(heat_map.z) == (6, 14)
    # Sorted by frequency: the nine neurons of frequency 2 come first.
    assert_array_equal(np.argmax(heat_map.z, axis=0), [1] * 9 + [4] * 5)
    assert_allclose(np.asarray(heat_map.z).max(0), result.fraction_explained[0, heat_map.customdata[0]], atol=1e-4)
