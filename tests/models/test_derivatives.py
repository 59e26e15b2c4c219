"""The derivatives of the logits against central differences of the general forward pass, and the identities that they
obey."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from interp.experiment import ModelConfig
from interp.models import (
    Weights,
    derivatives,
    embed,
    factored_gradient,
    gradient,
    initial_weights,
    logits_and_derivatives,
    transform,
)

P = 7
TRANSFORMER = ModelConfig(d_model=8, n_heads=2, d_head=3, d_mlp=10)
MLP = ModelConfig(family="mlp", d_mlp=10)
MODELS = {
    "relu": TRANSFORMER,
    "gelu": replace(TRANSFORMER, activation="gelu"),
    "square": replace(TRANSFORMER, activation="square"),
    "uniform attention": replace(TRANSFORMER, attention_rate=0.0),
    "mixed attention": replace(TRANSFORMER, attention_rate=0.3, activation="gelu"),
    "two vocabularies": replace(TRANSFORMER, vocabularies="two"),
    "two layers": replace(TRANSFORMER, n_layers=2),
    "without =": replace(TRANSFORMER, prompt="ab", causal=False),
    "mlp": MLP,
    "mlp, side by side": replace(MLP, inputs="concatenated", activation="square"),
    "mlp, tied": replace(MLP, embedding="tied", d_model=6),
    "mlp, untied": replace(MLP, embedding="untied", d_model=6, activation="gelu"),
    "deep mlp": replace(MLP, n_layers=3, biases=True, activation="tanh"),
}
EVERY_MODEL = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


@pytest.fixture(params=[8, 960])
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The pairs in several parts, the last one smaller, and in one."""
    for module in (factored_gradient, derivatives):
        monkeypatch.setattr(module, "PART", request.param)
    return request.param


def random_weights(model: ModelConfig, seed: int) -> Weights:
    """In float64, no bias zero."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: weight.double() + torch.randn(weight.shape, generator=generator, dtype=torch.float64) / 5
        for name, weight in initial_weights(replace(model, seed=seed), P).items()
    }


def pairs(n: int = 21) -> Tensor:
    return torch.randint(0, P, (n, 2), generator=torch.Generator().manual_seed(3))


def general(weights: Weights, model: ModelConfig, inputs: Tensor) -> Tensor:
    return transform(weights, model, embed(weights, model, inputs)).logits


def moved(weights: Weights, direction: Weights, by: float) -> Weights:
    return {name: weight + by * direction[name] for name, weight in weights.items()}


@EVERY_MODEL
def test_central_differences(model: ModelConfig, part: int) -> None:
    weights, directions = random_weights(model, 0), [random_weights(model, seed) for seed in (1, 2, 3)]
    logits, along = logits_and_derivatives(weights, model, pairs(), directions)
    assert_close(logits, general(weights, model, pairs()), rtol=1e-12, atol=1e-12)
    h = 1e-6
    for found, direction in zip(along, directions, strict=True):
        ahead, behind = (general(moved(weights, direction, by), model, pairs()) for by in (h, -h))
        assert_close(found, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)


@EVERY_MODEL
def test_the_gradient_is_the_derivative_transposed(model: ModelConfig, part: int) -> None:
    """Σ A·∂L[v] = ∇(Σ A·L)·v, for every v."""
    weights, directions = random_weights(model, 0), [random_weights(model, seed) for seed in (1, 2)]
    logits, along = logits_and_derivatives(weights, model, pairs(), directions)
    A = torch.randn(logits.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    slope = gradient(weights, model, pairs(), A)
    assert slope.keys() == weights.keys()
    for found, direction in zip(along, directions, strict=True):
        by_weights = sum((slope[name] * direction[name]).sum() for name in weights)
        assert_close(by_weights, (A * found).sum(), rtol=1e-10, atol=1e-10)


@EVERY_MODEL
def test_linear_in_the_direction(model: ModelConfig) -> None:
    weights, one, other = (random_weights(model, seed) for seed in (0, 1, 2))
    both = {name: 3 * one[name] - 0.5 * other[name] for name in one}
    _, along = logits_and_derivatives(weights, model, pairs(), [one, other, both])
    assert_close(along[2], 3 * along[0] - 0.5 * along[1], rtol=1e-10, atol=1e-10)


@EVERY_MODEL
def test_a_direction_goes_by_names_and_not_by_their_order(model: ModelConfig) -> None:
    weights, direction = random_weights(model, 0), random_weights(model, 1)
    backwards = {name: direction[name] for name in reversed(direction)}
    _, along = logits_and_derivatives(weights, model, pairs(), [direction, backwards])
    assert_close(along[0], along[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("model", "degree"),
    [
        (MLP, 2),
        (MODELS["mlp, side by side"], 3),  # x² reads W_in twice
        (MODELS["mlp, tied"], 4),
        (replace(MODELS["mlp, untied"], activation="relu"), 4),
    ],
)
def test_euler(model: ModelConfig, degree: int) -> None:
    """Of a network without biases, L(λ w) = λ^κ L(w): the derivative along the weights is κ L."""
    weights = random_weights(model, 0)
    logits, (along,) = logits_and_derivatives(weights, model, pairs(), [weights])
    assert_close(along, degree * logits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("model", [TRANSFORMER, MLP], ids=["transformer", "mlp"])
def test_without_directions_there_are_none(model: ModelConfig) -> None:
    logits, along = logits_and_derivatives(random_weights(model, 0), model, pairs(), [])
    assert logits.shape == (21, P)
    assert along.shape == (0, 21, P)


@pytest.mark.parametrize("model", [TRANSFORMER, MLP], ids=["transformer", "mlp"])
def test_the_type_of_the_weights_and_nothing_written_to_them(model: ModelConfig) -> None:
    weights, direction = initial_weights(model, P), initial_weights(replace(model, seed=1), P)
    before = {
        name: weight.clone() for name, weight in (weights | {f"{n} of v": v for n, v in direction.items()}).items()
    }
    logits, along = logits_and_derivatives(weights, model, pairs(), [direction])
    slope = gradient(weights, model, pairs(), torch.ones(21, P))
    assert logits.dtype == along.dtype == torch.float32
    assert {values.dtype for values in slope.values()} == {torch.float32}
    assert not any(values.requires_grad for values in (logits, along, *weights.values(), *slope.values()))
    after = weights | {f"{n} of v": v for n, v in direction.items()}
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_direction_that_no_logit_sees() -> None:
    """Of residues that no pair names, and of constants added to all logits' own entry of b_out, whose effect W_U
    tells."""
    weights = random_weights(TRANSFORMER, 0)
    unseen = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    unseen["embed.W_E"][5] = 1.0
    inputs = pairs()[(pairs() != 5).all(1)]
    _, (along,) = logits_and_derivatives(weights, TRANSFORMER, inputs, [unseen])
    assert_close(along, torch.zeros_like(along), rtol=0, atol=1e-13)
    said = unseen | {"embed.W_E": torch.zeros_like(weights["embed.W_E"])}
    said["blocks.0.mlp.b_out"] = torch.arange(8, dtype=torch.float64)
    _, (along,) = logits_and_derivatives(weights, TRANSFORMER, inputs, [said])
    assert_close(along, (said["blocks.0.mlp.b_out"] @ weights["unembed.W_U"]).expand_as(along), rtol=1e-12, atol=1e-12)
