"""The transformer: no LayerNorm, it reads the prompt and answers at the last position.

With tokens t_0 … t_{T−1}, per layer, over the positions that a position may see,

    x ← W_E[t] + W_pos
    attention_h = α·softmax(x W_Q^h (x W_K^h)ᵀ/√d_head) + (1 − α)·ones
    x ← x + Σ_h attention_h (x W_V^h) W_O^h
    x ← x + act(x W_in + b_in) W_out + b_out
    logits = x_{T−1} W_U

(Nanda et al. 2023, arXiv:2301.05217, §3; α: Zhong et al. 2023, arXiv:2306.17844, §4). The last layer is computed at the
last position only; the one-layer network on `ab=` has an exact factored form (`interp.models.factored`).
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.experiment import ModelConfig
from interp.models.activations import activate
from interp.models.values import Activations, Matrices, Sizes, Weights


def shapes(model: ModelConfig, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Every weight and its shape. The vocabulary is 0 … p−1 (with two, p … 2p−1 for b as well), and last the token `=`
    where the prompt has it."""
    p = sizes.inputs
    d_vocab = model.first_token_of_b(p) + p + (model.prompt == "ab=")
    n_heads, d_head, d_model, d_mlp = model.n_heads, model.head_size, model.d_model, model.d_mlp
    named: dict[str, tuple[int, ...]] = {"embed.W_E": (d_vocab, d_model), "pos_embed.W_pos": (model.n_ctx, d_model)}
    for layer in range(model.n_layers):
        block = f"blocks.{layer}"
        named |= {f"{block}.attn.{name}": (n_heads, d_model, d_head) for name in ("W_Q", "W_K", "W_V")}
        named[f"{block}.attn.W_O"] = (n_heads, d_head, d_model)
        named |= {f"{block}.mlp.W_in": (d_model, d_mlp), f"{block}.mlp.b_in": (d_mlp,)}
        named |= {f"{block}.mlp.W_out": (d_mlp, d_model), f"{block}.mlp.b_out": (d_model,)}
    named["unembed.W_U"] = (d_model, sizes.classes)
    return named


def inverse_variance(name: str, shape: tuple[int, ...], model: ModelConfig, sizes: Sizes) -> int:
    """1/variance of the initial values: d_model, and d_vocab for W_U (the authors' code)."""
    return shapes(model, sizes)["embed.W_E"][0] if name == "unembed.W_U" else model.d_model


def last_mlp(model: ModelConfig) -> str:
    """What the names of the last layer's W_in, b_in, W_out and b_out begin with."""
    return f"blocks.{model.n_layers - 1}.mlp"


def matrices(weights: Weights, model: ModelConfig) -> Matrices:
    """Those of the last layer, and the whole embedding."""
    layer = last_mlp(model)
    return Matrices(weights["embed.W_E"], weights[f"{layer}.W_in"], weights[f"{layer}.W_out"], weights["unembed.W_U"])


def embed(
    weights: Weights, model: ModelConfig, pairs: Int[Tensor, "n 2"], vectors: Float[Tensor, "residues d_model"] | None
) -> Float[Tensor, "n positions d_model"]:
    """The residual stream before the first layer."""
    W_E = weights["embed.W_E"]
    if vectors is not None:
        W_E = torch.cat([vectors, W_E[len(vectors) :]])
    tokens = pairs + pairs.new_tensor([0, model.first_token_of_b(weights["unembed.W_U"].shape[1])])
    if model.prompt == "ab=":
        tokens = torch.cat([tokens, tokens.new_full((len(pairs), 1), len(W_E) - 1)], dim=1)
    return W_E[tokens] + weights["pos_embed.W_pos"]


def transform(weights: Weights, model: ModelConfig, x: Float[Tensor, "n positions d_model"]) -> Activations:
    """The layers and the unembedding, from any residual stream."""
    n_ctx = x.shape[1]
    for layer in range(model.n_layers - 1):
        x, *_ = _layer(weights, model, layer, x, slice(None))
    post, neurons, attention, mid = _layer(weights, model, model.n_layers - 1, x, slice(n_ctx - 1, n_ctx))
    return Activations(post[:, 0] @ weights["unembed.W_U"], neurons[:, 0], attention[:, :, 0], mid[:, 0], post[:, 0])


def residual_post(
    weights: Weights, model: ModelConfig, mid: Float[Tensor, "... inputs"], neurons: Float[Tensor, "... d_mlp"]
) -> Float[Tensor, "... features"]:
    """The residual stream after the last MLP, given that before it and the neurons."""
    layer = last_mlp(model)
    return mid + neurons @ weights[f"{layer}.W_out"] + weights[f"{layer}.b_out"]


def _layer(
    weights: Weights, model: ModelConfig, layer: int, x: Tensor, queries: slice
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One layer at the positions `queries`: the residual stream after it, its neurons, its attention, the residual
    stream within."""
    W_Q, W_K, W_V, W_O = (weights[f"blocks.{layer}.attn.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O"))
    W_in, b_in, W_out, b_out = (weights[f"blocks.{layer}.mlp.{name}"] for name in ("W_in", "b_in", "W_out", "b_out"))
    visible = x.new_ones(x.shape[1], x.shape[1], dtype=torch.bool)
    visible = (visible.tril() if model.causal else visible)[queries]
    query = torch.einsum("nqd,hde->nhqe", x[:, queries], W_Q)
    key = torch.einsum("nkd,hde->nhke", x, W_K)
    value = torch.einsum("nkd,hde->nhke", x, W_V)
    scores = query @ key.transpose(-1, -2) / math.sqrt(W_Q.shape[-1])  # [n, heads, queries, positions]
    softmax = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    attention = model.attention_rate * softmax + (1 - model.attention_rate) * visible.to(x.dtype)
    residual_mid = x[:, queries] + torch.einsum("nhqe,hed->nqd", attention @ value, W_O)
    neurons = activate(model.activation, residual_mid @ W_in + b_in)
    return residual_mid + neurons @ W_out + b_out, neurons, attention, residual_mid
