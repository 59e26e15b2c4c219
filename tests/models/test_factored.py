"""The factored form against the general forward pass."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from interp.experiment import ModelConfig
from interp.models import Weights, embed, initial_weights, transform
from interp.models.activations import activate, backward
from interp.models.forward import forward

ACTIVATIONS = ["relu", "gelu", "square"]
RATES = [0.0, 0.3, 1.0]
P = 7


def network(activation: str, rate: float, *, causal: bool = True) -> tuple[ModelConfig, Weights]:
    """A model with an odd head size, and weights in float64 with biases that are not zero."""
    model = ModelConfig(
        d_model=8, n_heads=2, d_head=3, d_mlp=10, activation=activation, attention_rate=rate, causal=causal
    )
    generator = torch.Generator().manual_seed(4)
    weights = {name: weight.double() for name, weight in initial_weights(model, P).items()}
    return model, weights | {
        name: noise(generator, *weights[name].shape) for name in weights if name.endswith(("b_in", "b_out"))
    }


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
        assert_close(
            getattr(forward(weights, model, pairs), name),
            value,
            rtol=0,
            atol=1e-12 * max(1.0, value.abs().max().item()),
        )


@pytest.mark.parametrize("rate", RATES)
def test_autograd_takes_the_general_pass(rate: float) -> None:
    """The in-place steps of the factored form would spoil gradients that an analysis takes."""
    model, weights = network("gelu", rate)
    pairs = some_pairs()
    gradients = []
    for compute in (forward, lambda weights, model, pairs: transform(weights, model, embed(weights, model, pairs))):
        leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
        compute(leaves, model, pairs).logits.square().sum().backward()
        gradients.append(
            {name: leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for name, leaf in leaves.items()}
        )
    for name, value in gradients[1].items():
        assert_close(gradients[0][name], value, rtol=1e-10, atol=1e-10 * max(1.0, value.abs().max().item()))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_derivatives_of_the_activations(activation: str) -> None:
    """Also at zero, where relu has none and autograd says 0."""
    x = torch.tensor([-30.0, -2.5, -1e-3, 0.0, 1e-3, 0.7, 3.0, 30.0], dtype=torch.float64, requires_grad=True)
    d_y = torch.linspace(-1, 2, len(x), dtype=torch.float64)
    y = activate(activation, x)
    (expected,) = torch.autograd.grad(y, x, d_y)
    x, y = x.detach(), y.detach()
    for of, out in ((x, None), (x, d_y.clone()), (y if activation == "relu" else x, None)):
        assert_close(backward(activation, of, y, d_y, out), expected, rtol=1e-12, atol=1e-14)
    assert backward(activation, x, y, d_y, d_y) is d_y


def test_activations_at_known_points() -> None:
    x = torch.tensor([-2.0, 0.0, 1.0], dtype=torch.float64)
    normal = torch.tensor([0.022750131948179195, 0.5, 0.8413447460685429], dtype=torch.float64)  # Φ(−2), Φ(0), Φ(1)
    for name, expected in {
        "relu": torch.tensor([0.0, 0, 1]),
        "square": torch.tensor([4.0, 0, 1]),
        "gelu": x * normal,
    }.items():
        assert_close(activate(name, x), expected.double(), rtol=1e-14, atol=0)
