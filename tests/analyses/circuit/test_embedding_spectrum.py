"""Embedding and output spectra against closed forms of planted circuits, a slow Fourier transform, symmetries and
negative controls."""

import json
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from interp.analyses import embedding_spectrum
from interp.analysis import find, measure_checkpoint
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import circuit_checkpoint, circuit_neurons
from interp.training import train

CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def slow_norms(rows: np.ndarray) -> np.ndarray:
    """‖F_k W‖ for k = 1 … K along the first axis: complex exponentials, one frequency after the other."""
    n = len(rows)
    norms = []
    for k in range(1, n // 2 + 1):
        coefficient = sum(np.exp(-2j * np.pi * k * t / n) * rows[t] for t in range(n)) / math.sqrt(n)
        copies = 1 if 2 * k == n else 2  # −k holds as much as k, and is not another frequency where k = n/2
        norms.append(math.sqrt(copies * (np.abs(coefficient) ** 2).sum()))
    return np.array(norms)


def slow_gini(rows: np.ndarray) -> float:
    """Mean absolute difference of the norms of all n components, over twice their mean."""
    n = len(rows)
    t = np.arange(n)
    components = [np.ones(n) / math.sqrt(n)]
    for k in range(1, n // 2 + 1):
        components += [
            wave for wave in (np.cos(2 * np.pi * k * t / n), np.sin(2 * np.pi * k * t / n)) if np.abs(wave).max() > 1e-9
        ]
    norms = np.array([np.linalg.norm(wave @ rows) / np.linalg.norm(wave) for wave in components])
    assert len(norms) == n
    return float(np.abs(norms[:, None] - norms).mean() / (2 * norms.mean()))


def slow_shares(logits: np.ndarray) -> np.ndarray:
    """The share of centred logit power that is a combination of cos w_k(s+t) and sin w_k(s+t), by least squares."""
    n = len(logits)
    centred = (logits - logits.mean(-1, keepdims=True)).reshape(n * n, n)
    total = np.add.outer(np.arange(n), np.arange(n)).reshape(-1)
    shares = []
    for k in range(1, n // 2 + 1):
        waves = np.stack([np.cos(2 * np.pi * k * total / n), np.sin(2 * np.pi * k * total / n)], axis=1)
        fitted = waves @ np.linalg.lstsq(waves, centred, rcond=1e-9)[0]
        shares.append((fitted**2).sum() / (centred**2).sum())
    return np.array(shares)


def untrained(p: int, operation: str = "add", seed: int = 0, **fields) -> Checkpoint:
    task, model = Task(p, operation), ModelConfig(**({"d_model": 16, "n_heads": 2, "d_mlp": 24} | fields), seed=seed)
    return Checkpoint(0, {name: weight.double() for name, weight in initial_weights(model, p).items()}, task, model)


def key(result) -> list[int]:
    return [int(k) for k in result.frequency.values[result.is_key.values]]


# ---- closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "operation", "frequencies"),
    [
        (7, "add", [3]),
        (11, "add", [1, 4]),
        (13, "add", [2, 3, 6]),
        (12, "add", [5]),
        (12, "add", [1, 6]),
        (13, "subtract", [1, 6]),
        (13, "multiply", [1, 5]),
        (13, "divide", [2, 5]),
    ],
)
@pytest.mark.parametrize("activation", ["relu", "square"])
def test_the_planted_frequencies_are_key(p, operation, frequencies, activation):
    neurons = circuit_neurons(frequencies, per_frequency=16, circuit="clock")
    result = embedding_spectrum.measure(circuit_checkpoint(Task(p, operation), neurons, activation=activation))
    assert key(result) == frequencies


@pytest.mark.parametrize(("p", "frequencies"), [(11, [2]), (11, [1, 3, 5]), (10, [1, 4])])
def test_the_norms_and_gini_of_a_planted_circuit(p, frequencies):
    """W_E holds cos and sin of every planted k, of norm √(p/2) each; N neurons write strength·cos(w_k c − ψ) with
    evenly spread ψ. Of the p components, 2|K| are equal and the others vanish, so the Gini coefficient is
    1 − 2|K|/p."""
    strength, N = 3.0, 9
    checkpoint = circuit_checkpoint(Task(p), circuit_neurons(frequencies, per_frequency=N), strength=strength)
    result = embedding_spectrum.measure(checkpoint)
    planted = np.isin(np.arange(1, p // 2 + 1), frequencies)
    assert_allclose(result.embedding_norm, planted * math.sqrt(p), **CLOSE)
    assert_allclose(result.output_norm, planted * strength * math.sqrt(N * p / 2), **CLOSE)
    assert_allclose([result.gini_embedding, result.gini_output], 1 - 2 * len(frequencies) / p, **CLOSE)


@pytest.mark.parametrize("frequencies", [[4], [1, 3], [1, 2, 5]])
def test_the_logit_shares_of_an_exact_clock_and_an_exact_pizza(frequencies):
    """A clock of square neurons is cos w_k(a+b−c) alone. A pizza is cos²(w_k(a−b)/2) = ½ + ½ cos w_k(a−b) times that: ⅔
    of its power."""
    planted = np.isin(np.arange(1, 6), frequencies) / len(frequencies)
    for circuit, part in (("clock", 1.0), ("pizza", 2 / 3)):
        neurons = circuit_neurons(frequencies, per_frequency=8, circuit=circuit)
        result = embedding_spectrum.measure(circuit_checkpoint(Task(11), neurons, activation="square"))
        assert_allclose(result.logit_share, part * planted, **CLOSE)


def test_weights_that_speak_without_neurons_are_not_key():
    task, neurons = Task(11), circuit_neurons([2, 4])
    checkpoint = circuit_checkpoint(task, neurons)
    checkpoint.weights["blocks.0.mlp.W_in"][:, 9:] = 0
    result = embedding_spectrum.measure(checkpoint)
    assert_allclose(result.output_norm.sel(frequency=4), result.output_norm.sel(frequency=2), **CLOSE)
    assert key(result) == [2]


# ---- a second implementation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "operation"), [(6, "add"), (7, "add"), (7, "subtract"), (7, "multiply"), (7, "divide"), (5, "random")]
)
def test_spectra_agree_with_slow_transforms(p, operation):
    checkpoint = untrained(p, operation)
    phase = checkpoint.task.coordinates
    weights = {name: weight.numpy() for name, weight in checkpoint.weights.items()}
    W_E = weights["embed.W_E"][phase.rows]
    W_L = (weights["blocks.0.mlp.W_out"] @ weights["unembed.W_U"]).T[phase.classes]
    logits = checkpoint.logits.numpy()[np.ix_(phase.rows, phase.columns, phase.classes)]
    result = embedding_spectrum.measure(checkpoint)
    assert_allclose(result.embedding_norm, slow_norms(W_E), **CLOSE)
    assert_allclose(result.output_norm, slow_norms(W_L), **CLOSE)
    assert_allclose(result.logit_share, slow_shares(logits), **CLOSE)
    assert_allclose(result.gini_embedding, slow_gini(W_E), **CLOSE)
    assert_allclose(result.gini_output, slow_gini(W_L), **CLOSE)


# ---- symmetries ------------------------------------------------------------------------------------------------------


def same(one, other, names=("embedding_norm", "output_norm", "logit_share", "gini_embedding", "gini_output")) -> None:
    for name in names:
        assert_allclose(one[name], other[name], **CLOSE)
    assert_array_equal(one.is_key, other.is_key)


def changed(checkpoint: Checkpoint, weights: dict[str, torch.Tensor]) -> Checkpoint:
    return Checkpoint(checkpoint.step, checkpoint.weights | weights, checkpoint.task, checkpoint.model)


def test_a_rotation_of_the_residual_stream_changes_nothing():
    checkpoint = untrained(7, activation="gelu")
    Q = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    rotated = {}
    for name, weight in checkpoint.weights.items():
        reads = name.endswith(("W_Q", "W_K", "W_V", "W_in", "W_U"))
        if name.endswith("b_in"):
            continue
        rotated[name] = Q.T @ weight if reads else weight @ Q
    same(embedding_spectrum.measure(changed(checkpoint, rotated)), embedding_spectrum.measure(checkpoint))


def test_louder_logits_have_the_same_shares_and_keys():
    checkpoint = untrained(7)
    result = embedding_spectrum.measure(checkpoint)
    louder = embedding_spectrum.measure(changed(checkpoint, {"unembed.W_U": 50 * checkpoint.W_U}))
    same(louder, result, ["embedding_norm", "logit_share", "gini_embedding", "gini_output"])
    assert_allclose(louder.output_norm, 50 * result.output_norm, **CLOSE)


def test_permuting_the_neurons_changes_nothing():
    checkpoint, order = untrained(7), torch.randperm(24, generator=torch.Generator().manual_seed(1))
    W_in, b_in, W_out = (checkpoint.weights[f"blocks.0.mlp.{name}"] for name in ("W_in", "b_in", "W_out"))
    permuted = {
        "blocks.0.mlp.W_in": W_in[:, order],
        "blocks.0.mlp.b_in": b_in[order],
        "blocks.0.mlp.W_out": W_out[order],
    }
    same(embedding_spectrum.measure(changed(checkpoint, permuted)), embedding_spectrum.measure(checkpoint))


@pytest.mark.parametrize("p", [7, 8])
def test_shifting_the_inputs_leaves_the_power_alone(p):
    checkpoint = untrained(p, activation="gelu")
    W_E = checkpoint.weights["embed.W_E"]
    shifted = changed(checkpoint, {"embed.W_E": torch.cat([W_E[:p].roll(3, 0), W_E[p:]])})
    # The Gini coefficients are of cosines and sines one by one, which a shift does mix.
    same(
        embedding_spectrum.measure(shifted),
        embedding_spectrum.measure(checkpoint),
        ["embedding_norm", "output_norm", "logit_share"],
    )


# ---- where there is nothing to find ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_untrained_network_has_no_key_frequency(seed):
    result = embedding_spectrum.measure(untrained(23, seed=seed, d_model=32, d_mlp=64))
    assert key(result) == []
    assert result.gini_embedding < 0.2


def test_memorizing_a_random_table_makes_no_frequency_key():
    task, model = Task(23, "random", train_fraction=0.3), ModelConfig(d_model=32, n_heads=2, d_mlp=64)
    *_, last = train(Experiment(task, model, TrainingConfig(steps=100, lr=1e-2, checkpoint_every=None, log_every=100)))
    assert last.metrics["train_accuracy"] == 1.0
    assert key(embedding_spectrum.measure(Checkpoint(last.step, last.weights, task, model))) == []


def test_equal_logits_have_no_power_and_no_key_frequency():
    checkpoint = untrained(7)
    silent = changed(checkpoint, {"unembed.W_U": torch.zeros_like(checkpoint.W_U)})
    result = measure_checkpoint(silent, "embedding_spectrum")
    assert_array_equal(result.logit_share, np.zeros((1, 3)))
    assert key(result.isel(step=0)) == []
    facts = find("embedding_spectrum").summary(result)
    assert facts["gini_output"] is None
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


# ---- summary and figure ----------------------------------------------------------------------------------------------


def test_the_summary_says_which_and_how_much():
    checkpoint = circuit_checkpoint(
        Task(11), circuit_neurons([2, 5], per_frequency=8, circuit="clock"), activation="square", step=7
    )
    facts = find("embedding_spectrum").summary(measure_checkpoint(checkpoint, "embedding_spectrum"))
    assert (facts["step"], facts["key_frequencies"]) == (7, [2, 5])
    assert facts["logit_shares"] == pytest.approx({"2": 0.5, "5": 0.5})
    assert facts["gini_embedding"] == pytest.approx(1 - 4 / 11)


def test_the_figure_colors_key_frequencies_and_no_others():
    result = measure_checkpoint(circuit_checkpoint(Task(11), circuit_neurons([2, 5])), "embedding_spectrum")
    figure = embedding_spectrum.plot(result)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert len(bars) == 2
    for bar, name in zip(bars, ("embedding_norm", "output_norm"), strict=True):
        assert_allclose(bar.y, result[name][0], rtol=0)
        colors = dict(zip(bar.x, bar.marker.color, strict=True))
        assert len({colors[1], colors[3], colors[4]}) == 1
        assert len({colors[1], colors[2], colors[5]}) == 3
    named = [trace.name for trace in figure.data if trace.showlegend and trace.name.startswith("k = ")]
    assert named == ["k = 2", "k = 5"]
