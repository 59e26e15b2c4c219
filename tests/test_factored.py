"""The factored form and its closed-form gradient against the general forward pass and automatic differentiation of it."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from interp import factored, training
from interp.activations import activate, backward, backward_
from interp.experiment import Experiment, ModelConfig, TrainingConfig
from interp.model import embed, forward, transform
from interp.optimizers import WeightUpdater
from interp.task import Task
from interp.training import Batch, loss_and_gradient, train
from interp.weights import Weights, initial_weights

ACTIVATIONS = ["relu", "gelu", "square"]
RATES = [0.0, 0.3, 1.0]
P = 7


def network(activation: str, rate: float, *, causal: bool = True) -> tuple[ModelConfig, Weights]:
    """A model with an odd head size, and weights in float64 with biases that are not zero."""
    model = ModelConfig(d_model=8, n_heads=2, d_head=3, d_mlp=10, activation=activation, attention_rate=rate, causal=causal)
    generator = torch.Generator().manual_seed(4)
    weights = {name: weight.double() for name, weight in initial_weights(model, P).items()}
    return model, weights | {name: noise(generator, *weights[name].shape) for name in weights if name.endswith(("b_in", "b_out"))}


def noise(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def some_pairs() -> Tensor:
    """Thirty pairs, some of them twice: gathered rows must sum their gradients."""
    return torch.randint(0, P, (30, 2), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_factored_form_is_the_general_forward_pass(activation: str, rate: float, causal: bool) -> None:
    model, weights = network(activation, rate, causal=causal)
    pairs = some_pairs()
    general = transform(weights, model, embed(weights, model, pairs))
    for name, value in general._asdict().items():
        assert_close(getattr(forward(weights, model, pairs), name), value, rtol=0, atol=1e-12 * max(1.0, value.abs().max().item()))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_closed_form_gradient_is_that_of_the_general_forward_pass(activation: str, rate: float) -> None:
    """To 1e-10 of each tensor's largest entry, from an arbitrary gradient with respect to the logits."""
    model, weights = network(activation, rate)
    pairs = some_pairs()
    d_logits = noise(torch.Generator().manual_seed(6), len(pairs), P)
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    outputs = transform(leaves, model, embed(leaves, model, pairs)).logits
    expected = dict(zip(leaves, torch.autograd.grad(outputs, list(leaves.values()), d_logits, allow_unused=True), strict=True))
    at = factored.forward(weights, model, pairs[:, 0], pairs[:, 1])
    found = factored.gradient(weights, model, at, d_logits.T.contiguous())
    assert set(found) == set(weights)
    for name, value in expected.items():
        assert found[name].shape == weights[name].shape
        scale = max(1.0, value.abs().max().item())
        assert_close(found[name], value, rtol=0, atol=1e-10 * scale, msg=lambda text, name=name: f"{name}: {text}")
    for name in ("W_Q", "W_K"):
        # With uniform attention the scores do not matter, and with any softmax they do.
        assert found[f"blocks.0.attn.{name}"].any() == (rate > 0)


@pytest.mark.parametrize("rate", RATES)
def test_autograd_through_the_factored_form_agrees(rate: float) -> None:
    """The in-place steps of the factored form must not spoil gradients that an analysis takes through it."""
    model, weights = network("gelu", rate)
    pairs = some_pairs()
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    forward(leaves, model, pairs).logits.square().sum().backward()
    at = factored.forward(weights, model, pairs[:, 0], pairs[:, 1])
    for name, value in factored.gradient(weights, model, at, 2 * at.logits).items():
        grad = leaves[name].grad if leaves[name].grad is not None else torch.zeros_like(value)
        assert_close(value, grad, rtol=1e-10, atol=1e-10 * max(1.0, value.abs().max().item()))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_derivatives_of_the_activations(activation: str) -> None:
    """Also at zero, where relu has none and autograd says 0."""
    x = torch.tensor([-30.0, -2.5, -1e-3, 0.0, 1e-3, 0.7, 3.0, 30.0], dtype=torch.float64, requires_grad=True)
    d_y = torch.linspace(-1, 2, len(x), dtype=torch.float64)
    y = activate(activation, x)
    (expected,) = torch.autograd.grad(y, x, d_y)
    assert_close(backward(activation, x.detach(), y.detach(), d_y), expected, rtol=1e-12, atol=1e-14)
    assert_close(backward_(activation, x.detach(), y.detach(), d_y), expected, rtol=1e-12, atol=1e-14)


def test_activations_at_known_points() -> None:
    x = torch.tensor([-2.0, 0.0, 1.0], dtype=torch.float64)
    normal = torch.tensor([0.022750131948179195, 0.5, 0.8413447460685429], dtype=torch.float64)  # Φ(−2), Φ(0), Φ(1)
    for name, expected in {"relu": torch.tensor([0.0, 0, 1]), "square": torch.tensor([4.0, 0, 1]), "gelu": x * normal}.items():
        assert_close(activate(name, x), expected.double(), rtol=1e-14, atol=0)


# ---- trajectories ----------------------------------------------------------------------------------------------------


def fifty_steps(model: ModelConfig, weights: Weights, training_config: TrainingConfig) -> Weights:
    batch = Batch.of(Task(p=P, train_fraction=0.5), "train")
    weights = {name: weight.clone() for name, weight in weights.items()}
    updater = WeightUpdater(weights, training_config)
    for step in range(50):
        updater.update(step, loss_and_gradient(weights, model, batch)[2])
    return weights


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_fifty_steps_in_float64_take_both_forms_to_the_same_place(activation: str, optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, weights = network(activation, 1.0)
    config = TrainingConfig(optimizer=optimizer, lr=1e-2, weight_decay=0.1)
    by_factored = fifty_steps(model, weights, config)
    monkeypatch.setattr(training, "is_factored", lambda model: False)
    by_general = fifty_steps(model, weights, config)
    for name, start in weights.items():
        assert_close(by_factored[name], by_general[name], rtol=0, atol=1e-9)
        assert (by_factored[name] - start).abs().max() > 1e-4


def test_training_in_float32_follows_the_general_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding differs and grows from step to step: over 50 steps the losses agree to a thousandth."""
    experiment = Experiment(Task(p=P), ModelConfig(d_model=8, n_heads=2, d_mlp=16), TrainingConfig(steps=50, lr=3e-3))
    by_factored = list(train(experiment))
    monkeypatch.setattr(training, "is_factored", lambda model: False)
    for one, other in zip(by_factored, train(experiment), strict=True):
        for name in ("train_loss", "test_loss", "weight_norm", "gradient_norm"):
            assert one.metrics[name] == pytest.approx(other.metrics[name], rel=1e-3)
