"""What weight decay did between two steps, against the sums that it is made of, update by update."""

from typing import get_args

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from interp.experiment import TrainingConfig
from interp.experiment.training import Optimizer
from interp.training import WeightUpdater

EXACT = {"rtol": 1e-12, "atol": 1e-15}
SPANS = [(0, 1), (0, 7), (3, 4), (3, 20), (9, 11), (40, 41), (40, 90), (300, 500)]


def config(**fields) -> TrainingConfig:
    return TrainingConfig(**({"steps": 1000, "optimizer": "adamw", "lr": 0.01, "weight_decay": 0.7} | fields))


def on_a_line(training: TrainingConfig, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights w_0 … w_last that move by the same way at every update, and D = −Σ_s lr_s·v_s over the updates first …
    last − 1, where v = μ v + wd·w is what the momentum holds of the decay; μ = 0 where there is none."""
    start, way = np.array([2.0, -1.0, 0.3]), np.array([0.01, 0.02, -0.005])
    w = start + way * np.arange(last + 1)[:, None]
    momentum = training.momentum if training.optimizer == "sgd" else 0.0
    held, moved = np.zeros(3), np.zeros(3)
    for step in range(last):
        held = momentum * held + training.weight_decay * w[step]
        if step >= first:
            moved -= training.lr * (min((step + 1) / training.warmup, 1) if training.warmup else 1) * held
    return w, moved


@pytest.mark.parametrize("span", SPANS, ids=str)
@pytest.mark.parametrize("warmup", [0, 1, 10])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"optimizer": "muon", "momentum": 0.9},
        {"optimizer": "sgd", "momentum": 0.0},
        {"optimizer": "sgd", "momentum": 0.5},
        {"optimizer": "sgd", "momentum": 0.9},
    ],
    ids=str,
)
def test_weights_that_move_along_a_line(fields, warmup: int, span: tuple[int, int]) -> None:
    """Exact, through warm-up, and while the momentum has not yet seen all that it will hold."""
    first, last = span
    training = config(warmup=warmup, **fields)
    w, moved = on_a_line(training, first, last)
    c0, c1 = training.decay_coefficients(first, last)
    assert_allclose(-(c0 * w[first] + c1 * w[last]), moved, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("span", SPANS, ids=str)
@pytest.mark.parametrize("warmup", [0, 1, 10])
def test_the_coefficients_of_decoupled_decay_add_up_to_the_exposure(warmup: int, span: tuple[int, int]) -> None:
    training = config(warmup=warmup)
    exposure = sum(training.learning_rate(step) * training.weight_decay for step in range(*span))
    assert_allclose(sum(training.decay_coefficients(*span)), exposure, **EXACT)


def test_after_warmup_a_mean_of_the_ends() -> None:
    """Σ_j (1 − j/n) w₀ + j/n w₁ over j = 0 … n − 1: (n + 1)/2n of the first, (n − 1)/2n of the last."""
    n = 8
    c0, c1 = config(warmup=10).decay_coefficients(100, 100 + n)
    assert_allclose([c0, c1], [0.007 * (n + 1) / 2, 0.007 * (n - 1) / 2], **EXACT)


def test_one_update_is_all_of_its_first_weights() -> None:
    for fields in ({}, {"optimizer": "sgd", "momentum": 0.0}):
        assert config(warmup=10, **fields).decay_coefficients(4, 5) == (0.01 * 0.5 * 0.7, 0.0)


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_without_weight_decay_there_is_none(optimizer) -> None:
    assert config(optimizer=optimizer, weight_decay=0.0).decay_coefficients(3, 9) == (0.0, 0.0)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_one_root_over_both_cannot_be_told_apart(optimizer: str) -> None:
    assert config(optimizer=optimizer).decay_coefficients(3, 9) is None


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_twice_the_product_is_twice_the_decay(momentum: float) -> None:
    """Exactly: only lr·wd counts."""
    one, other = (
        config(optimizer="sgd", momentum=momentum, lr=lr, weight_decay=wd) for lr, wd in ((0.25, 0.5), (0.5, 0.5))
    )
    of_one, of_other = (np.array(training.decay_coefficients(7, 30)) for training in (one, other))
    assert_allclose(of_other, 2 * of_one, rtol=0, atol=0)


def test_a_momentum_that_is_full_holds_all_decay_of_a_weight_at_rest() -> None:
    """Σ μ^j = 1/(1 − μ) of a weight that does not move; before that, 1 − μ^(s+1) of it."""
    training = config(optimizer="sgd", momentum=0.8, warmup=0)
    assert_allclose(sum(training.decay_coefficients(900, 901)), 0.007 / (1 - 0.8), rtol=1e-10)
    for step in (0, 1, 5):
        expected = 0.007 * (1 - 0.8 ** (step + 1)) / (1 - 0.8)
        assert_allclose(sum(training.decay_coefficients(step, step + 1)), expected, **EXACT)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_optimizer_itself(momentum: float) -> None:
    """A gradient that keeps the weights on a line: what the buffer of the gradients alone does not explain of the way
    that the optimizer went is D."""
    training = config(optimizer="sgd", momentum=momentum, warmup=5)
    weights = {"layer": torch.tensor([2.0, -1.0, 0.3], dtype=torch.float64)}
    updater, seen = WeightUpdater([weights], training), [weights["layer"].numpy().copy()]
    held_by_loss, of_loss = np.zeros(3), np.zeros(3)
    way = np.array([0.01, 0.02, -0.005])
    for step in range(30):
        # The gradient with which the buffer holds what moves the weights by `way`.
        buffer = updater.state().get("layer|momentum_buffer", torch.zeros(3)).numpy() if momentum else np.zeros(3)
        gradient = -way / training.learning_rate(step) - momentum * buffer - training.weight_decay * seen[-1]
        updater.update(step, [{"layer": torch.from_numpy(gradient)}])
        seen.append(weights["layer"].numpy().copy())
        held_by_loss = momentum * held_by_loss + gradient
        if step >= 12:
            of_loss -= training.learning_rate(step) * held_by_loss
    assert_allclose(np.diff(seen, axis=0), np.tile(way, (30, 1)), rtol=1e-9)
    c0, c1 = training.decay_coefficients(12, 30)
    assert_allclose(seen[30] - seen[12], of_loss - (c0 * seen[12] + c1 * seen[30]), rtol=1e-9)
