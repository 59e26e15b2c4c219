"""The forward pass against one written as a textbook writes it: position by position, head by head."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from interp.experiment import ModelConfig, Task
from interp.models import (
    Activations,
    Weights,
    embed,
    forward_all,
    initial_weights,
    is_factored,
    logits,
    logits_with_vectors,
    residual_post,
    transform,
)
from interp.models.forward import forward


def drawn_weights(model: ModelConfig, p: int) -> Weights:
    """Initial weights in float64, halved so that three layers of squares stay moderate, and biases that are not
    zero."""
    generator = torch.Generator().manual_seed(1)
    weights = {name: weight.double() / 2 for name, weight in initial_weights(model, p).items()}
    biases = [name for name in weights if name.endswith(("b_in", "b_out"))]
    return weights | {name: torch.randn(weights[name].shape, generator=generator).double() for name in biases}


def every_pair(p: int) -> Tensor:
    return torch.tensor([(a, b) for a in range(p) for b in range(p)])


def textbook(weights: Weights, model: ModelConfig, pairs: Tensor) -> Activations:
    """A transformer without LayerNorm, plainly, and what its unembedding reads. x[i] is the residual stream at
    position i, one row per example."""
    tokens = [pairs[:, 0], pairs[:, 1]]
    if model.prompt == "ab=":
        tokens.append(torch.full((len(pairs),), weights["unembed.W_U"].shape[1]))
    n_positions = len(tokens)
    x = [weights["embed.W_E"][tokens[i]] + weights["pos_embed.W_pos"][i] for i in range(n_positions)]
    for layer in range(model.n_layers):
        block = {
            name.rpartition(".")[2]: weight for name, weight in weights.items() if name.startswith(f"blocks.{layer}.")
        }
        middle, neurons, last_attention = [], [], []
        for i in range(n_positions):
            visible = range(i + 1) if model.causal else range(n_positions)
            mixed = torch.zeros_like(x[i])
            for h in range(model.n_heads):
                query = x[i] @ block["W_Q"][h]
                scores = [(query * (x[j] @ block["W_K"][h])).sum(1) / math.sqrt(query.shape[1]) for j in visible]
                exponentials = [score.exp() for score in scores]
                weight = [
                    model.attention_rate * e / sum(exponentials) + (1 - model.attention_rate) for e in exponentials
                ]
                for j in visible:
                    mixed = mixed + weight[j][:, None] * (x[j] @ block["W_V"][h] @ block["W_O"][h])
                if i == n_positions - 1:
                    last_attention.append(torch.stack(weight, dim=1))
            middle.append(x[i] + mixed)
            h_in = middle[i] @ block["W_in"] + block["b_in"]
            if model.activation == "relu":
                neurons.append(torch.where(h_in > 0, h_in, 0.0))
            elif model.activation == "gelu":
                neurons.append(h_in * (1 + torch.erf(h_in / math.sqrt(2))) / 2)
            else:
                neurons.append(h_in**2)
        x = [middle[i] + neurons[i] @ block["W_out"] + block["b_out"] for i in range(n_positions)]
    return Activations(
        x[-1] @ weights["unembed.W_U"], neurons[-1], torch.stack(last_attention, dim=1), middle[-1], x[-1]
    )


@pytest.mark.parametrize("activation", ["relu", "gelu", "square"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("prompt", ["ab", "ab="])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_forward_is_the_textbook_for_every_option(n_layers: int, prompt: str, causal: bool, activation: str) -> None:
    """To 1e-12 of the largest value: float64 rounding over three layers of sums, and some room."""
    for attention_rate in (0.0, 0.5, 1.0):
        for d_head in (None, 3):
            for p in (5, 6):
                options = {
                    "d_head": d_head,
                    "activation": activation,
                    "prompt": prompt,
                    "causal": causal,
                    "attention_rate": attention_rate,
                }
                model = ModelConfig(n_layers=n_layers, d_model=8, n_heads=2, d_mlp=12, **options)
                weights, pairs = drawn_weights(model, p), every_pair(p)
                found, expected = forward(weights, model, pairs), textbook(weights, model, pairs)
                close = {"rtol": 0, "atol": 1e-12 * max(1.0, expected.residual_post.abs().max().item())}
                assert_close(
                    residual_post(weights, model, found.residual_mid, found.neurons), expected.residual_post, **close
                )
                of_all = [table.flatten(0, 1) for table in forward_all(weights, model, Task(p))]
                for name, seen, table, truth in zip(Activations._fields, found, of_all, expected, strict=True):
                    assert_close(table, seen, rtol=0, atol=1e-12 * max(1.0, truth.abs().max().item()))
                    message = f"{name} of {model} mod {p}: largest difference {(seen - truth).abs().max():.1e}"
                    assert_close(seen, truth, rtol=0, atol=1e-12 * max(1.0, truth.abs().max().item()), msg=message)
                assert_close(
                    logits(weights, model, pairs), found.logits, rtol=0, atol=1e-12 * found.logits.abs().max().item()
                )


OPTIONS = [
    ModelConfig(d_model=8, n_heads=2, d_mlp=12),
    ModelConfig(
        n_layers=2,
        d_model=8,
        n_heads=2,
        d_head=3,
        d_mlp=12,
        activation="gelu",
        prompt="ab",
        causal=False,
        attention_rate=0.5,
    ),
]


@pytest.mark.parametrize("model", OPTIONS)
def test_all_pairs_are_laid_out_by_a_and_b(model: ModelConfig) -> None:
    weights = drawn_weights(model, 5)
    everything = forward_all(weights, model, Task(5))
    shapes = {"logits": (5,), "neurons": (12,), "attention": (2, model.n_ctx), "residual_mid": (8,)}
    for name, shape in shapes.items():
        assert getattr(everything, name).shape == (5, 5, *shape)
    for a, b in ((0, 0), (1, 3), (4, 2)):
        one = forward(weights, model, torch.tensor([(a, b)]))
        for table, value in zip(everything, one, strict=True):
            assert_close(table[a, b], value[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", OPTIONS)
def test_float32_is_float64_rounded(model: ModelConfig) -> None:
    weights = drawn_weights(model, 7)
    exact = forward_all(weights, model, Task(7)).logits
    rounded = forward_all({name: weight.float() for name, weight in weights.items()}, model, Task(7)).logits
    assert rounded.dtype == torch.float32
    assert_close(rounded.double(), exact, rtol=0, atol=2e-6 * exact.abs().max().item())


@pytest.mark.parametrize("model", OPTIONS)
def test_relabeling_neurons_and_heads_changes_nothing(model: ModelConfig) -> None:
    weights = drawn_weights(model, 5)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    relabeled = dict(weights)
    for layer in range(model.n_layers):
        block = f"blocks.{layer}"
        relabeled |= {
            f"{block}.attn.{name}": weights[f"{block}.attn.{name}"].flip(0) for name in ("W_Q", "W_K", "W_V", "W_O")
        }
        relabeled[f"{block}.mlp.W_in"] = weights[f"{block}.mlp.W_in"][:, order]
        relabeled |= {f"{block}.mlp.{name}": weights[f"{block}.mlp.{name}"][order] for name in ("b_in", "W_out")}
    before, after = (forward_all(one, model, Task(5)) for one in (weights, relabeled))
    assert_close(after.logits, before.logits, rtol=0, atol=1e-12)
    assert_close(after.neurons, before.neurons[..., order], rtol=0, atol=1e-12)
    assert_close(after.attention, before.attention.flip(2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", OPTIONS)
def test_residues_enter_by_other_vectors_and_equals_by_its_own(model: ModelConfig) -> None:
    weights, pairs = drawn_weights(model, 5), every_pair(5)
    vectors = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(3)).double()
    vectors[0] = weights["embed.W_E"][:5]
    found = logits_with_vectors(weights, model, vectors, pairs)
    assert found.shape == (3, 25, 5)
    for own, rows in zip(found, vectors, strict=True):
        W_E = torch.cat([rows, weights["embed.W_E"][5:]])
        assert_close(own, textbook(weights | {"embed.W_E": W_E}, model, pairs).logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", OPTIONS)
def test_logits_can_be_differentiated(model: ModelConfig) -> None:
    weights, pairs = drawn_weights(model, 5), every_pair(5)
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    outputs = logits(leaves, model, pairs)
    assert_close(outputs.detach(), logits(weights, model, pairs), rtol=0, atol=1e-12)
    expected = torch.autograd.grad(textbook(leaves, model, pairs).logits.square().sum(), list(leaves.values()))
    found = torch.autograd.grad(outputs.square().sum(), list(leaves.values()))
    for name, gradient, right in zip(leaves, found, expected, strict=True):
        assert_close(
            gradient,
            right,
            rtol=0,
            atol=1e-9 * (1 + right.abs().max().item()),
            msg=lambda message, name=name: f"{name}: {message}",
        )


def test_transform_starts_from_any_residual_stream() -> None:
    """Patching b's stream at position 1 by that of b' is the same as asking about b'."""
    model = ModelConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=12)
    weights = drawn_weights(model, 5)
    stream, other = (embed(weights, model, torch.tensor([pair])) for pair in ((1, 2), (1, 4)))
    assert stream.shape == (1, 3, 8)
    stream[:, 1] = other[:, 1]
    assert_close(
        transform(weights, model, stream).logits, logits(weights, model, torch.tensor([(1, 4)])), rtol=0, atol=1e-12
    )


def test_the_equals_sign_is_the_last_token() -> None:
    model = OPTIONS[0]
    weights = drawn_weights(model, 5)
    expected = weights["embed.W_E"][5] + weights["pos_embed.W_pos"][2]
    assert_close(embed(weights, model, torch.tensor([(0, 0), (4, 1)]))[:, 2], expected.expand(2, 8), rtol=0, atol=0)


@pytest.mark.parametrize(("n_layers", "prompt", "expected"), [(1, "ab=", True), (2, "ab=", False), (1, "ab", False)])
def test_which_models_are_factored(n_layers: int, prompt: str, expected: bool) -> None:
    assert is_factored(ModelConfig(n_layers=n_layers, prompt=prompt)) == expected
