"""Biases that our models lack, tokens and classes beyond the residues, and tensors that are of no use."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.interchange.layouts.fitting import fit
from interp.interchange.layouts.leftovers import of_no_use
from interp.models import Weights, initial_weights
from interp.models.forward import forward

P = 7
MODEL = ModelConfig(d_model=8, n_heads=2, d_head=3, d_mlp=12)
TWO_LAYERS = ModelConfig(n_layers=2, d_model=8, n_heads=2, d_head=3, d_mlp=12)


def with_biases(model: ModelConfig, *names: str) -> Weights:
    generator = torch.Generator().manual_seed(1)
    shapes = {"b_Q": (2, 3), "b_K": (2, 3), "b_V": (2, 3), "b_O": (8,)}
    weights = initial_weights(model, P)
    for layer in range(model.n_layers):
        weights |= {f"blocks.{layer}.attn.{name}": torch.randn(shapes[name], generator=generator) for name in names}
    return weights


def textbook(weights: Weights, model: ModelConfig, pairs: Tensor) -> Tensor:
    """Every position of every layer, with all biases, float64."""
    w = {name: weight.double() for name, weight in weights.items()}
    tokens = torch.cat([pairs, torch.full((len(pairs), 1), P)], 1)
    x = w["embed.W_E"][tokens] + w["pos_embed.W_pos"]
    for layer in range(model.n_layers):
        a, m = f"blocks.{layer}.attn", f"blocks.{layer}.mlp"
        q, k, v = (
            torch.einsum("npd,hde->nhpe", x, w[f"{a}.W_{s}"]) + w.get(f"{a}.b_{s}", torch.zeros(2, 3).double())[:, None]
            for s in "QKV"
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(model.head_size)
        scores = scores.masked_fill(~torch.ones(3, 3, dtype=torch.bool).tril(), -torch.inf)
        x = (
            x
            + torch.einsum("nhpe,hed->npd", scores.softmax(-1) @ v, w[f"{a}.W_O"])
            + w.get(f"{a}.b_O", torch.zeros(8).double())
        )
        x = x + torch.relu(x @ w[f"{m}.W_in"] + w[f"{m}.b_in"]) @ w[f"{m}.W_out"] + w[f"{m}.b_out"]
    return x[:, -1] @ w["unembed.W_U"]


@pytest.mark.parametrize("model", [MODEL, TWO_LAYERS], ids=["one layer", "two layers"])
@pytest.mark.parametrize("names", [("b_K",), ("b_V",), ("b_O",), ("b_K", "b_V", "b_O")], ids=str)
def test_folded_biases_change_no_output(model: ModelConfig, names: tuple[str, ...]):
    theirs = with_biases(model, *names)
    fitted = fit(theirs, {"n_layers": model.n_layers}, {"causal": True})
    assert fitted.model == model
    assert fitted.notes
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    expected = textbook(theirs, model, pairs)
    assert_close(
        forward(fitted.weights, model, pairs).logits.double(),
        expected,
        rtol=1e-5,
        atol=1e-5 * expected.abs().max().item(),
    )
    assert (textbook(initial_weights(model, P), model, pairs) - expected).abs().max() > 0.01 or names == ("b_K",)


@pytest.mark.parametrize(("name", "shape"), [("blocks.0.attn.b_Q", (2, 3)), ("unembed.b_U", (P,))])
def test_biases_that_cannot_be_folded_are_kept(name: str, shape: tuple[int, ...]):
    plain = initial_weights(MODEL, P)
    assert fit(plain | {name: torch.zeros(shape)}, {"n_layers": 1}, {}).model == MODEL
    bias = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    fitted = fit(plain | {name: bias}, {"n_layers": 1}, {})
    assert fitted.model == replace(MODEL, biases=True)
    assert torch.equal(fitted.weights[name], bias)
    assert not fitted.weights["blocks.0.attn.b_K"].any()
    # At step 0 it is zero, and the network is the same all the same.
    assert fit(plain | {name: torch.zeros(shape)}, {"n_layers": 1}, {"biases": True}).model == fitted.model


@pytest.mark.parametrize("inputs", ["sum", "concatenated"])
def test_a_hidden_bias_of_one_hot_inputs_is_folded_and_changes_no_output(inputs: str):
    model = ModelConfig(family="mlp", d_mlp=12, inputs=inputs)
    weights, bias = initial_weights(model, P), torch.randn(12, generator=torch.Generator().manual_seed(1))
    fitted = fit(weights | {"mlp.b_in": bias, "mlp.b_out": torch.zeros(P)}, {}, {})
    assert (fitted.model, fitted.notes) == (
        model,
        ("mlp.b_in was folded into W_in, half of it in every row: two rows are read for every pair",),
    )
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    one_hot = torch.eye(P)[pairs]  # [pair, a or b, residue]
    read = one_hot.sum(1) if inputs == "sum" else one_hot.flatten(1)
    expected = torch.relu(read @ weights["mlp.W_in"] + bias) @ weights["mlp.W_out"]
    assert_close(forward(fitted.weights, model, pairs).logits, expected, rtol=1e-5, atol=1e-6)
    assert (forward(weights, model, pairs).logits - expected).abs().max() > 0.1


def test_a_hidden_bias_behind_an_embedding_and_one_of_the_outputs_are_kept():
    model = ModelConfig(family="mlp", d_mlp=12, d_model=8, embedding="untied")
    fitted = fit(initial_weights(model, P) | {"mlp.b_in": torch.ones(12)}, {}, {})
    assert fitted.model == replace(model, biases=True)
    fitted = fit(initial_weights(ModelConfig(family="mlp", d_mlp=12), P) | {"mlp.b_out": torch.ones(P)}, {}, {})
    assert fitted.model == ModelConfig(family="mlp", d_mlp=12, biases=True)


def test_an_embedding_behind_which_classes_are_answered_at_once_is_folded():
    """v(a) and v(b) side by side, W_in, classes: a table for one-hot residues says the same."""
    generator = torch.Generator().manual_seed(3)
    W_E, W_in, W_out = (torch.randn(shape, generator=generator) for shape in ((P, 5), (10, 12), (12, P)))
    b_in = torch.randn(12, generator=generator)
    fitted = fit({"embed.W_E": W_E, "mlp.W_in": W_in, "mlp.b_in": b_in, "mlp.W_out": W_out}, {}, {})
    assert fitted.model == ModelConfig(family="mlp", d_mlp=12, inputs="concatenated")
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    expected = torch.relu(W_E[pairs].flatten(1) @ W_in + b_in) @ W_out
    assert_close(forward(fitted.weights, fitted.model, pairs).logits, expected, rtol=1e-5, atol=1e-5)


def test_a_value_bias_at_another_attention_rate_is_kept():
    assert fit(with_biases(MODEL, "b_V"), {"n_layers": 1}, {"attention_rate": 0.5}).model.biases


def test_biases_that_are_not_there_are_zero():
    weights = {name: weight for name, weight in initial_weights(MODEL, P).items() if ".b_" not in name}
    assert not fit(weights, {"n_layers": 1}, {}).weights["blocks.0.mlp.b_in"].any()


@pytest.mark.parametrize(
    ("tokens", "outputs", "positions", "p", "expected"),
    [
        (8, 7, 3, None, 7),
        (8, 8, 3, None, 7),
        (7, 7, 2, None, 7),
        (8, 7, 2, None, 7),
        (8, 8, 2, 7, 7),
        (10, 7, 3, None, 7),
        (6, 7, 3, None, r"W_U has 7 outputs, expected 5 \(or 6"),
        (8, 7, 3, 9, "W_E has 8 tokens, expected 10 for p = 9"),
        (8, 7, 1, None, "W_pos has 1 positions; the prompts that are known"),
    ],
)
def test_tokens_classes_and_positions(tokens: int, outputs: int, positions: int, p: int | None, expected: int | str):
    weights = initial_weights(MODEL, P)
    weights |= {
        "embed.W_E": torch.randn(tokens, 8),
        "unembed.W_U": torch.randn(8, outputs),
        "pos_embed.W_pos": torch.randn(positions, 8),
    }
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            fit(weights, {"n_layers": 1}, {}, p)
        return
    fitted = fit(weights, {"n_layers": 1}, {}, p)
    assert fitted.p == expected
    assert torch.equal(fitted.weights["embed.W_E"], weights["embed.W_E"][: expected + (positions == 3)])
    assert torch.equal(fitted.weights["unembed.W_U"], weights["unembed.W_U"][:, :expected])


@pytest.mark.parametrize(
    ("shapes", "p", "vocabularies", "expected"),
    [
        ((14, 7, 2), None, None, "two"),
        ((15, 7, 2), None, None, "two"),  # a token for `=` that the prompt does not have
        ((15, 7, 3), None, None, "two"),
        ((15, 8, 3), None, None, "two"),
        ((14, 14, 2), 7, None, "two"),
        ((14, 14, 2), None, "two", "two"),
        ((15, 15, 3), 7, "two", "two"),
        ((14, 14, 2), None, None, "one"),
        ((14, 14, 2), 14, None, "one"),
        ((6, 7, 2), 7, "one", "W_E has 6 tokens, expected 7 for p = 7 and the prompt 'ab'; is"),
        ((8, 7, 3), 7, "two", "W_E has 8 tokens, expected 15 for p = 7 and the prompt 'ab=', with two vocabularies"),
        ((14, 7, 3), 7, None, "W_E has 14 tokens, expected 15 for p = 7 and the prompt 'ab=', with two vocabularies"),
        ((14, 11, 2), 7, None, r"W_U has 11 outputs, expected 7 \(or 8"),
    ],
)
def test_sizes_tell_the_vocabularies(
    shapes: tuple[int, int, int], p: int | None, vocabularies: str | None, expected: str
):
    tokens, outputs, positions = shapes
    weights = initial_weights(MODEL, P)
    weights |= {
        "embed.W_E": torch.randn(tokens, 8),
        "unembed.W_U": torch.randn(8, outputs),
        "pos_embed.W_pos": torch.randn(positions, 8),
    }
    if expected not in ("one", "two"):
        with pytest.raises(InputError, match=expected):
            fit(weights, {"n_layers": 1}, {"vocabularies": vocabularies}, p)
        return
    fitted = fit(weights, {"n_layers": 1}, {"vocabularies": vocabularies}, p)
    assert (fitted.model.vocabularies, fitted.p) == (expected, 7 if expected == "two" else 14)
    kept = 14 + (positions == 3)
    assert torch.equal(fitted.weights["embed.W_E"], weights["embed.W_E"][:kept])
    assert torch.equal(fitted.weights["unembed.W_U"], weights["unembed.W_U"][:, : fitted.p])


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"d_model": 9}, r"model.d-model 9, as given or configured, contradicts the tensors, which have 8"),
        ({"n_layers": 3}, r"model.n-layers 3, as given"),
        ({"attention_rate": 2}, r"model.attention-rate must be at most 1, got 2"),
        ({"activation": "sigmoid"}, r"unknown model.activation 'sigmoid'"),
    ],
)
def test_what_is_given_must_be_possible(given: dict, complaint: str):
    with pytest.raises(InputError, match=complaint):
        fit(initial_weights(MODEL, P), {"n_layers": 1}, given)


# ---- tensors that no rule speaks of ----------------------------------------------------------------------------------

W_E = initial_weights(MODEL, P)["embed.W_E"]


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("blocks.0.attn.mask", torch.ones(3, 3).tril(), "an attention mask"),
        ("blocks.0.attn.IGNORE", torch.tensor(-1e5), "the value of a masked score"),
        ("x_embed", W_E[:P].clone(), "a copy of embed.W_E"),
        ("y_embed", W_E[:P].T.clone(), "a copy of embed.W_E"),
        ("old", torch.zeros(4), "zero"),
        ("seen", torch.arange(4), "int64, so no weight"),
        ("dft", torch.cos(2 * torch.pi * torch.outer(torch.arange(4), torch.arange(7)) / 7), "an orthogonal basis"),
        ("attn.causal_mask", torch.tensor([[True, False], [False, True]]), None),  # hides a from the last position
        ("attn.mask", torch.full((1, 1, 3, 3), -torch.inf).triu(1), "an attention mask"),
        ("ln.w", torch.ones(8), None),
        ("other", torch.randn(7, 7, generator=torch.Generator().manual_seed(0)), None),
        ("y_embed", W_E[1:].clone(), None),
    ],
)
def test_what_may_be_left_out(name: str, tensor: Tensor, reason: str | None):
    assert of_no_use(name, tensor, {"embed.W_E": W_E}) == reason
