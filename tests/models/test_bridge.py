"""The bridge: TransformerLens computes the same network wherever it can express it."""

import pytest
import torch
from torch.testing import assert_close

from interp.errors import InputError
from interp.experiment import Attention, Mlp, ModelConfig, Norm
from interp.models import Weights, bridge, embed, initial_weights
from interp.models.forward import forward

P = 7


def drawn_weights(model: ModelConfig) -> Weights:
    """Initial weights, with biases that are not zero."""
    generator = torch.Generator().manual_seed(1)
    weights = initial_weights(model, P)
    return weights | {
        name: torch.randn(weights[name].shape, generator=generator)
        for name in weights
        if name.endswith(("b_in", "b_out"))
    }


def tokens(model: ModelConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """All pairs, and the prompts that TransformerLens reads."""
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    return pairs, pairs if model.prompt == "ab" else torch.cat([pairs, torch.full((len(pairs), 1), P)], dim=1)


@pytest.mark.parametrize("d_head", [None, 3])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("prompt", ["ab", "ab="])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_logits_are_those_of_transformer_lens(
    n_layers: int, prompt: str, causal: bool, activation: str, d_head: int | None
) -> None:
    """In float32 to 1e-6 of the largest logit, in float64 to 1e-12 of it."""
    model = ModelConfig(
        n_layers=n_layers,
        d_model=8,
        n_heads=2,
        d_head=d_head,
        d_mlp=12,
        activation=activation,
        prompt=prompt,
        causal=causal,
    )
    pairs, prompts = tokens(model)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        weights = {name: weight.to(dtype) for name, weight in drawn_weights(model).items()}
        with torch.no_grad():
            theirs = bridge(weights, model)(prompts)[:, -1]
        ours = forward(weights, model, pairs).logits
        assert theirs.dtype == dtype
        assert_close(ours, theirs, rtol=0, atol=tolerance * theirs.abs().max().item())


ARCHITECTURES = {
    "layer norm": {"norm": Norm(kind="layer"), "biases": True},
    "rms": {"norm": Norm(kind="rms", epsilon=1e-3)},
    "not learned": {"norm": Norm(kind="layer", learned=False)},
    "rms, not learned": {"norm": Norm(kind="rms", learned=False)},
    "gated": {"mlp": Mlp(gated=True), "activation": "silu", "norm": Norm(kind="rms")},
    "rotary": {"attention": Attention(rotary_base=50.0)},
    "tied, a op b =": {"tied": True, "prompt": "a+b=", "activation": "gelu-tanh"},
    "two vocabularies, tied": {"tied": True, "vocabularies": "two"},
    "answers at b": {"prompt": "^ab=", "answer_at": 2},
}
# What its native models have no place for.
ABSENT = {
    "gated": ("blocks.0.mlp.b_in", "blocks.1.mlp.b_in", "blocks.0.mlp.b_out", "blocks.1.mlp.b_out"),
    "rotary": ("pos_embed.W_pos",),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_that_it_has_is_the_same(name: str) -> None:
    """In float32 to 1e-6 of the largest logit, in float64 to 1e-12 of it; its norms compute in float32 in between."""
    model = ModelConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=12, **ARCHITECTURES[name])
    generator = torch.Generator().manual_seed(2)
    weights = {n: w + 0.3 * torch.randn(w.shape, generator=generator) for n, w in initial_weights(model, P).items()}
    for absent in ABSENT.get(name, ()):
        with pytest.raises(InputError, match=f"have no place for {absent}, and it is not zero"):
            bridge(weights | {other: weights[other] * 0 for other in ABSENT[name] if other != absent}, model)
    weights |= {absent: torch.zeros_like(weights[absent]) for absent in ABSENT.get(name, ())}
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    for dtype in (torch.float32, torch.float64):
        as_dtype = {n: weight.to(dtype) for n, weight in weights.items()}
        with torch.no_grad():
            theirs = bridge(as_dtype, model)(prompts_of(model))[:, model.answer_at]
        ours = forward(as_dtype, model, pairs).logits
        exact = dtype == torch.float64 and "rms" not in name and "not learned" not in name
        tolerance = 1e-12 if exact and name not in ("gated", "rotary") else 2e-6
        assert_close(ours, theirs, rtol=0, atol=tolerance * theirs.abs().max().item())


def prompts_of(model: ModelConfig) -> torch.Tensor:
    """All pairs as tokens, for any prompt."""
    a, b = torch.cartesian_prod(torch.arange(P), torch.arange(P)).T
    first = model.first_token_of_b(P)
    numbers = {token: torch.full_like(a, first + P + place) for place, token in enumerate(model.constants)}
    return torch.stack([{"a": a, "b": b + first, **numbers}[token] for token in model.prompt], dim=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"norm": Norm(kind="layer", order="post")}, "cannot express norms of order 'post' at attention, mlp, final"),
        ({"norm": Norm(kind="rms", at=("final",))}, "cannot express norms of order 'pre' at final"),
        ({"activation": "square"}, "no activation 'square'; its native models have relu, gelu, gelu-tanh, silu"),
    ],
)
def test_what_it_lacks_is_named(fields: dict, message: str) -> None:
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=12, **fields)
    with pytest.raises(InputError, match=message):
        bridge(initial_weights(model, P), model)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_cached_activations_have_their_classic_names(n_layers: int) -> None:
    model = ModelConfig(n_layers=n_layers, d_model=8, n_heads=2, d_mlp=12)
    weights = drawn_weights(model)
    pairs, prompts = tokens(model)
    ours = forward(weights, model, pairs)
    with torch.no_grad():
        _, cache = bridge(weights, model).run_with_cache(prompts)
    block = f"blocks.{n_layers - 1}"
    close = {"rtol": 1e-5, "atol": 1e-5}
    assert_close(ours.neurons, cache[f"{block}.mlp.hook_post"][:, -1], **close)
    assert_close(ours.attention, cache[f"{block}.attn.hook_pattern"][:, :, -1], **close)
    assert_close(ours.residual_mid, cache[f"{block}.hook_resid_mid"][:, -1], **close)
    assert_close(ours.residual_post, cache[f"{block}.hook_resid_post"][:, -1], **close)
    assert_close(embed(weights, model, pairs), cache["blocks.0.hook_resid_pre"], **close)


def test_a_hook_changes_what_it_says() -> None:
    """Silencing the MLP leaves x_mid W_U + b_out W_U."""
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
    weights = drawn_weights(model)
    pairs, prompts = tokens(model)
    with torch.no_grad():
        hooks = [("blocks.0.mlp.hook_post", lambda value, hook: torch.zeros_like(value))]
        silenced = bridge(weights, model).run_with_hooks(prompts, fwd_hooks=hooks)[:, -1]
    expected = (forward(weights, model, pairs).residual_mid + weights["blocks.0.mlp.b_out"]) @ weights["unembed.W_U"]
    assert_close(silenced, expected, rtol=1e-5, atol=1e-5)


def test_the_bridge_has_weights_of_its_own() -> None:
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
    weights = drawn_weights(model)
    before = {name: weight.clone() for name, weight in weights.items()}
    with torch.no_grad():
        for parameter in bridge(weights, model).parameters():
            parameter.zero_()
    for name, weight in weights.items():
        assert torch.equal(weight, before[name])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelConfig(attention_rate=0.5), r"TransformerLens cannot express model.attention-rate 0.5, only 1"),
        (ModelConfig(activation="square"), r"TransformerLens has no activation 'square'"),
    ],
)
def test_what_transformer_lens_cannot_express_is_refused(model: ModelConfig, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bridge(initial_weights(model, P), model)
