"""Attention structure: planted patterns with known coefficients, and the fit against plain least squares."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from interp.analyses import attention_structure
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import circuit_checkpoint, circuit_neurons


def untrained(task: Task, **model) -> Checkpoint:
    config = ModelConfig(**({"d_model": 8, "n_heads": 2, "d_mlp": 12} | model))
    return Checkpoint(
        0, {name: 1.5 * weight.double() for name, weight in initial_weights(config, task.p).items()}, task, config
    )


def with_attention_to_a(to_a: np.ndarray, task: Task) -> Checkpoint:
    """A checkpoint whose only head attends so to a, and with the rest to b."""
    checkpoint = untrained(task, n_heads=1)
    attention = np.stack([to_a, 1 - to_a, 0 * to_a], axis=-1)[:, :, None]
    checkpoint.activations = checkpoint.activations._replace(attention=torch.from_numpy(attention))
    return checkpoint


def waves(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    s, t = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    w = 2 * np.pi * k / n
    return np.cos(w * s) - np.cos(w * t), np.sin(w * s) - np.sin(w * t)


@pytest.mark.parametrize(("n", "k"), [(7, 3), (8, 2), (8, 4), (2, 1)])
def test_a_planted_pattern_comes_back(n: int, k: int) -> None:
    cosine, sine = waves(n, k)
    result = attention_structure.measure(with_attention_to_a(0.5 + 0.2 * cosine - 0.1 * sine, Task(n, split="unknown")))
    beta = 0 if 2 * k == n else -0.1  # k = n/2 has no sine
    assert result.frequency_of_head.values.tolist() == [[k, k]]
    assert_allclose(result.fraction_explained.sel(frequency=k), 1, atol=1e-12)
    assert_allclose(result.alpha, [[0.2, -0.2]], atol=1e-12)  # what a gains, b loses
    assert_allclose(result.beta, [[beta, -beta]], atol=1e-12)
    assert_allclose(result["mean"], [[0.5, 0.5, 0]], atol=1e-12)
    spread = np.sqrt((2 if 2 * k == n else 1) * 0.2**2 + beta**2)
    assert_allclose(result.deviation, [[spread, spread, 0]], atol=1e-12)


def test_a_pattern_in_the_sum_of_the_inputs_is_not_explained() -> None:
    s = np.arange(7)
    result = attention_structure.measure(
        with_attention_to_a(0.5 + 0.3 * np.cos(2 * np.pi * (s[:, None] + s) / 7), Task(7))
    )
    assert_allclose(result.fraction_explained, 0, atol=1e-12)


def test_gaussian_attention_has_no_frequency_worth_the_name() -> None:
    noise = 0.5 + 0.1 * np.random.RandomState(0).randn(31, 31)
    result = attention_structure.measure(with_attention_to_a(noise, Task(31)))
    assert float(result.fraction_explained.max()) < 0.05  # two of 960 directions, the best of fifteen


def test_constant_heads_have_no_fit() -> None:
    checkpoint = circuit_checkpoint(Task(7), circuit_neurons([1, 2]))  # one head, uniform attention
    result = attention_structure.measure(checkpoint)
    assert result.frequency_of_head.values.tolist() == [[0, 0]]
    for name in ("fraction_explained", "alpha", "beta"):
        assert np.isnan(result[name]).all()
    assert_allclose(result["mean"], 1 / 3, atol=1e-12)
    facts = attention_structure.summary(result.expand_dims(step=[3]))
    assert (
        facts["heads"][0]["frequency"],
        facts["heads"][0]["fraction_explained"],
        facts["single_frequency_heads"],
    ) == (None, None, 0)


def test_float32_rounding_is_constant_too() -> None:
    task, config = Task(7), ModelConfig(d_model=8, n_heads=2, d_mlp=12)
    weights = initial_weights(config, 7)
    weights["blocks.0.attn.W_K"] = weights["blocks.0.attn.W_K"] * 1e-7
    assert (attention_structure.measure(Checkpoint(0, weights, task, config)).frequency_of_head == 0).all()


@pytest.mark.parametrize(
    ("task", "model"),
    [
        (Task(7), {}),
        (Task(8), {"prompt": "ab", "causal": False, "attention_rate": 0.8}),
        (Task(11, "divide"), {"n_layers": 2}),
        (Task(9, "subtract"), {"prompt": "ab"}),
        (Task(7, "random"), {}),
    ],
    ids=str,
)
def test_the_fit_is_that_of_plain_least_squares(task: Task, model: dict) -> None:
    checkpoint, phase = untrained(task, **model), task.coordinates
    result = attention_structure.measure(checkpoint)
    n = phase.order
    assert list(result.position.values) == list(model.get("prompt", "ab="))
    for head in range(2):
        for position, token in enumerate("ab"):
            pattern = checkpoint.attention[:, :, head, position].numpy()[phase.rows][:, phase.columns].ravel()
            at = result.isel(head=head).sel(input=token)
            assert_allclose(result["mean"].isel(head=head, position=position), pattern.mean(), atol=1e-12)
            assert_allclose(result.deviation.isel(head=head, position=position), pattern.std(), atol=1e-12)
            fractions = []
            for k in range(1, n // 2 + 1):
                columns = np.stack([np.ones(n * n), *(wave.ravel() for wave in waves(n, k))], axis=1)
                fit, _, _, _ = np.linalg.lstsq(columns, pattern, rcond=1e-10)
                fractions.append(
                    1 - np.square(pattern - columns @ fit).sum() / np.square(pattern - pattern.mean()).sum()
                )
                if k == int(at.frequency_of_head):
                    assert_allclose([at.alpha, at.beta], fit[1:], atol=1e-10)
            assert_allclose(at.fraction_explained, fractions, atol=1e-10)
            assert int(at.frequency_of_head) == 1 + int(np.argmax(fractions))


def test_shifted_inputs_keep_the_fraction_explained() -> None:
    checkpoint = untrained(Task(7))
    moved = dict(checkpoint.weights)
    moved["embed.W_E"] = torch.cat([moved["embed.W_E"][:7].roll(2, 0), moved["embed.W_E"][7:]])
    one, other = (
        attention_structure.measure(c) for c in (checkpoint, Checkpoint(0, moved, checkpoint.task, checkpoint.model))
    )
    assert_allclose(other.fraction_explained, one.fraction_explained, atol=1e-10)
    assert not np.allclose(other.alpha, one.alpha)
