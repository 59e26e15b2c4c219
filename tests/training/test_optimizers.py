"""The optimizers against their update rules, written out by hand in numpy."""

from typing import get_args

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from interp.errors import InputError
from interp.experiment import TrainingConfig
from interp.experiment.training import Optimizer
from interp.models import Weights
from interp.training import WeightUpdater
from interp.training.optimizers import BUFFERS, RULES

STEPS = 30


def problem(dtype: torch.dtype = torch.float64) -> tuple[Weights, list[Weights]]:
    """Two weights and a gradient for each step."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"matrix": (3, 4), "bias": (5,)}
    draws = [
        {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
        for _ in range(STEPS + 1)
    ]
    return draws[0], draws[1:]


def by_hand(start: np.ndarray, gradients: list[np.ndarray], c: TrainingConfig) -> np.ndarray:
    """The published rules: AdamW (Loshchilov & Hutter), Adam with L2 (Kingma & Ba), and SGD with momentum as torch
    defines it."""
    w, first, second, velocity = start.copy(), np.zeros_like(start), np.zeros_like(start), np.zeros_like(start)
    for step, given in enumerate(gradients):
        lr = c.lr if c.warmup == 0 else c.lr * min((step + 1) / c.warmup, 1)
        if c.optimizer == "adamw":
            w, gradient = w * (1 - lr * c.weight_decay), given
        else:
            gradient = given + c.weight_decay * w
        if c.optimizer == "sgd":
            velocity = c.momentum * velocity + gradient
            w = w - lr * velocity
        else:
            t = step + 1
            first = c.betas[0] * first + (1 - c.betas[0]) * gradient
            second = c.betas[1] * second + (1 - c.betas[1]) * gradient**2
            w = w - lr * (first / (1 - c.betas[0] ** t)) / (np.sqrt(second / (1 - c.betas[1] ** t)) + c.eps)
    return w


@pytest.mark.parametrize("warmup", [0, 1, 10])
@pytest.mark.parametrize(
    "fields",
    [
        {"optimizer": "adamw"},
        {"optimizer": "adamw", "weight_decay": 0.0, "betas": (0.5, 0.6), "eps": 0.1},
        {"optimizer": "adam", "weight_decay": 0.3},
        {"optimizer": "sgd", "weight_decay": 0.3, "momentum": 0.9},
        {"optimizer": "sgd", "weight_decay": 0.0, "momentum": 0.0},
    ],
)
def test_updates_are_those_of_the_written_rule(fields: dict[str, object], warmup: int) -> None:
    config = TrainingConfig(lr=0.05, warmup=warmup, **fields)
    start, gradients = problem()
    weights = {name: weight.clone() for name, weight in start.items()}
    updater = WeightUpdater([weights], config)
    for step, gradient in enumerate(gradients):
        updater.update(step, [gradient])
    for name, weight in weights.items():
        expected = by_hand(start[name].numpy(), [gradient[name].numpy() for gradient in gradients], config)
        assert_allclose(weight.numpy(), expected, rtol=0, atol=1e-12)


def test_warm_up_rises_from_one_part_to_the_whole() -> None:
    """With SGD and a gradient of one, each update is its learning rate."""
    weights = {"w": torch.zeros(1, dtype=torch.float64)}
    updater = WeightUpdater(
        [weights], TrainingConfig(optimizer="sgd", lr=0.5, momentum=0.0, weight_decay=0.0, warmup=4)
    )
    positions = [0.0]
    for step in range(6):
        updater.update(step, [{"w": torch.ones(1, dtype=torch.float64)}])
        positions.append(weights["w"].item())
    assert_allclose(-np.diff(positions), np.array([1, 2, 3, 4, 4, 4]) * 0.5 / 4, rtol=1e-12)


def test_adamw_without_gradient_decays_by_lr_times_weight_decay() -> None:
    weights = {"w": torch.ones(1, dtype=torch.float64)}
    updater = WeightUpdater([weights], TrainingConfig(lr=0.1, weight_decay=0.5, warmup=0))
    for step in range(10):
        updater.update(step, [{"w": torch.zeros(1, dtype=torch.float64)}])
    assert weights["w"].item() == pytest.approx(0.95**10, rel=1e-12)


@pytest.mark.parametrize("optimizer", RULES)
def test_a_gradient_may_lie_in_memory_as_it_likes(optimizer: str) -> None:
    """Automatic differentiation gives transposed gradients; torch's fused updates would take their entries in the wrong
    order."""
    gradient = torch.arange(12.0).reshape(4, 3).T
    results = []
    for given in (gradient, gradient.contiguous()):
        weights = {"w": torch.zeros(3, 4)}
        updater = WeightUpdater([weights], TrainingConfig(optimizer=optimizer, warmup=0, betas=(0.0, 0.0), eps=1.0))
        updater.update(0, [{"w": given}])
        results.append(weights["w"])
    assert not gradient.is_contiguous()
    assert results[0].abs().max() > 0
    assert torch.equal(results[0], results[1])


def test_every_name_has_an_optimizer() -> None:
    assert set(RULES) == set(BUFFERS) == set(get_args(Optimizer))


@pytest.mark.parametrize("optimizer", RULES)
def test_a_restored_optimizer_goes_on_bit_for_bit(optimizer: str) -> None:
    config = TrainingConfig(optimizer=optimizer, lr=0.05)
    weights, gradients = problem(torch.float32)
    updater = WeightUpdater([weights], config)
    for step, gradient in enumerate(gradients[:12]):
        updater.update(step, [gradient])
    resumed = {name: weight.clone() for name, weight in weights.items()}
    state = updater.state()
    second = WeightUpdater([resumed], config)
    second.restore([state])
    remembered = {name: value.clone() for name, value in state.items()}
    for step, gradient in enumerate(gradients[12:], start=12):
        updater.update(step, [gradient])
        second.update(step, [gradient])
    for name, weight in weights.items():
        assert torch.equal(weight, resumed[name])
    for name, value in state.items():  # what was handed over is a copy, on both ways
        assert torch.equal(value, remembered[name])


def test_an_optimizer_that_has_not_moved_remembers_nothing() -> None:
    for optimizer in RULES:
        assert WeightUpdater([problem()[0]], TrainingConfig(optimizer=optimizer)).state() == {}
    weights, gradients = problem()
    updater = WeightUpdater([weights], TrainingConfig(optimizer="sgd", momentum=0.0))
    updater.update(0, gradients[:1])
    assert updater.state() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("elsewhere|exp_avg", torch.zeros(3, 4)), ("matrix|exp_avg", torch.zeros(4, 3)), ("matrix", torch.zeros(12))],
)
def test_a_state_of_other_weights_is_refused(name: str, value: torch.Tensor) -> None:
    with pytest.raises(
        InputError, match=rf"optimizer state '{name.replace('|', '.')}' .* does not belong to these weights"
    ):
        WeightUpdater([problem()[0]], TrainingConfig()).restore([{name: value}])


def test_a_state_of_some_of_the_weights_is_refused() -> None:
    weights, gradients = problem()
    updater = WeightUpdater([weights], TrainingConfig())
    updater.update(0, gradients[:1])
    state = updater.state()
    del state["bias|exp_avg_sq"]
    with pytest.raises(InputError, match=r"optimizer state has no 'bias\|exp_avg_sq'"):
        WeightUpdater([weights], TrainingConfig()).restore([state])


def test_updates_are_those_of_torchs_own_optimizers_bit_for_bit() -> None:
    classes = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    for optimizer, kind in classes.items():
        config = TrainingConfig(optimizer=optimizer, lr=0.05, warmup=0)
        weights, gradients = problem(torch.float32)
        theirs = {name: weight.clone() for name, weight in weights.items()}
        options = {"momentum": config.momentum} if optimizer == "sgd" else {"betas": config.betas, "eps": config.eps}
        reference = kind(theirs.values(), config.lr, weight_decay=config.weight_decay, fused=True, **options)
        updater = WeightUpdater([weights], config)
        for step, gradient in enumerate(gradients):
            updater.update(step, [gradient])
            for name, weight in theirs.items():
                weight.grad = gradient[name]
            reference.step()
        assert all(torch.equal(weights[name], theirs[name]) for name in weights)
