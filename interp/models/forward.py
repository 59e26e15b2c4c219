"""The forward pass of any model: the transformer's is written here, the MLP's in `interp.models.mlp`.

The transformer has no LayerNorm, reads the prompt and answers at the last position. With tokens t_0 … t_{T−1}, per
layer, over the positions that a position may see,

    x ← W_E[t] + W_pos
    attention_h = α·softmax(x W_Q^h (x W_K^h)ᵀ/√d_head) + (1 − α)·ones
    x ← x + Σ_h attention_h (x W_V^h) W_O^h
    x ← x + act(x W_in + b_in) W_out + b_out
    logits = x_{T−1} W_U

(Nanda et al. 2023, arXiv:2301.05217, §3; α: Zhong et al. 2023, arXiv:2306.17844, §4). The last layer is computed at the
last position only, and the one-layer `ab=` network by its exact factored form (`interp.models.factored`).
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.experiment import ModelConfig
from interp.models import factored, factored_gradient, mlp
from interp.models.activations import activate
from interp.models.weights import Weights

if TYPE_CHECKING:
    pass


class Activations(NamedTuple):
    """What one forward pass computed at the last position of the last layer, per example."""

    logits: Float[Tensor, "*examples outputs"]
    neurons: Float[Tensor, "*examples d_mlp"]  # after the nonlinearity
    attention: Float[
        Tensor, "*examples heads positions"
    ]  # from the last position to each, with the rate applied; an MLP has 0 heads
    residual_mid: Float[Tensor, "*examples inputs"]  # what W_in reads
    residual_post: Float[Tensor, "*examples features"]  # what the last matrix before the logits reads


def is_factored(model: ModelConfig) -> bool:
    """Whether the model is computed by its factored form."""
    return model.family == "transformer" and model.n_layers == 1 and model.prompt == "ab="


def modulus(weights: Weights, model: ModelConfig) -> int:
    """p, the number of outputs."""
    return output_matrix(weights, model).shape[1]


def token_vectors(weights: Weights, model: ModelConfig) -> Float[Tensor, "d_vocab features"]:
    """The vector by which each token enters: a row of W_E, or one-hot where there is no embedding."""
    return mlp.vectors(weights, model) if model.family == "mlp" else weights["embed.W_E"]


def output_matrix(weights: Weights, model: ModelConfig) -> Float[Tensor, "features p"]:
    """The last matrix before the logits: W_U, W_Eᵀ where that is tied to it, W_out where nothing comes after it."""
    if model.family == "mlp":
        W_U = mlp.unembedding(weights, model)
        return weights["mlp.W_out"] if W_U is None else W_U
    return weights["unembed.W_U"]


def output_map(weights: Weights, model: ModelConfig) -> Float[Tensor, "d_mlp p"]:
    """W_L, the neurons' map to the logits: W_out W_U in the last layer."""
    if model.family == "mlp":
        W_U = mlp.unembedding(weights, model)
        return weights["mlp.W_out"] if W_U is None else weights["mlp.W_out"] @ W_U
    return weights[f"blocks.{model.n_layers - 1}.mlp.W_out"] @ weights["unembed.W_U"]


def forward(weights: Weights, model: ModelConfig, pairs: Int[Tensor, "n 2"]) -> Activations:
    """The forward pass over any batch of pairs (a, b)."""
    if is_factored(model):
        at = factored.forward(weights, model, pairs[:, 0], pairs[:, 1])
        mid, neurons = factored.residual_mid(weights, at), at.neurons.T
        return Activations(
            at.logits.T, neurons, at.attention.permute(2, 1, 0), mid, residual_post(weights, model, mid, neurons)
        )
    return transform(weights, model, embed(weights, model, pairs))


def logits(weights: Weights, model: ModelConfig, pairs: Int[Tensor, "n 2"]) -> Float[Tensor, "n outputs"]:
    """The logits alone, with no more work than they need; autograd can differentiate them."""
    if is_factored(model):
        if any(weight.requires_grad for weight in weights.values()):
            return factored.forward(weights, model, pairs[:, 0], pairs[:, 1]).logits.T
        return factored_gradient.logits(weights, model, pairs)[0]
    return transform(weights, model, embed(weights, model, pairs)).logits


def logits_with_vectors(
    weights: Weights, model: ModelConfig, vectors: Float[Tensor, "sets residues features"], pairs: Int[Tensor, "n 2"]
) -> Float[Tensor, "sets n outputs"]:
    """The logits for each of several sets of `vectors`, by which the residues enter in place of their own; where b has
    a vocabulary of its own, those of a come first. `=` keeps its vector, and a tied W_E its own at the end."""
    if is_factored(model):
        return factored_gradient.logits(weights, model, pairs, vectors)
    if model.family == "mlp":
        return torch.stack([mlp.transform(weights, model, rows[pairs]).logits for rows in vectors])
    others = weights["embed.W_E"][vectors.shape[1] :]
    return torch.stack([logits(weights | {"embed.W_E": torch.cat([rows, others])}, model, pairs) for rows in vectors])


def forward_all(weights: Weights, model: ModelConfig) -> Activations:
    """The forward pass over all p² pairs; every value has the leading axes [p, p] for (a, b)."""
    if is_factored(model):
        return Activations(*factored.forward_all(weights, model))
    p = modulus(weights, model)
    residues = torch.arange(p)
    activations = forward(weights, model, torch.cartesian_prod(residues, residues))
    return Activations(*(value.view(p, p, *value.shape[1:]) for value in activations))


def residual_post(
    weights: Weights, model: ModelConfig, mid: Float[Tensor, "... inputs"], neurons: Float[Tensor, "... d_mlp"]
) -> Float[Tensor, "... features"]:
    """What the last matrix before the logits reads, given what W_in reads and the neurons: the residual stream after
    the MLP; of an MLP, act(h) W_out, or without embedding act(h) itself."""
    if model.family == "mlp":
        return neurons if model.embedding == "none" else neurons @ weights["mlp.W_out"]
    block = f"blocks.{model.n_layers - 1}.mlp"
    return mid + neurons @ weights[f"{block}.W_out"] + weights[f"{block}.b_out"]


def embed(weights: Weights, model: ModelConfig, pairs: Int[Tensor, "n 2"]) -> Float[Tensor, "n positions d_model"]:
    """The residual stream before the first layer; of an MLP, the vectors of a and b."""
    if model.family == "mlp":
        return mlp.embed(weights, model, pairs)
    W_E = weights["embed.W_E"]
    tokens = pairs + pairs.new_tensor([0, model.first_token_of_b(modulus(weights, model))])
    if model.prompt == "ab=":
        tokens = torch.cat([tokens, tokens.new_full((len(pairs), 1), len(W_E) - 1)], dim=1)
    return W_E[tokens] + weights["pos_embed.W_pos"]


def transform(weights: Weights, model: ModelConfig, x: Float[Tensor, "n positions d_model"]) -> Activations:
    """The layers and the unembedding, from any residual stream: the door for gradients and patching at single
    positions."""
    if model.family == "mlp":
        outputs, neurons, read, said = mlp.transform(weights, model, x)
        return Activations(outputs, neurons, x.new_zeros(len(x), 0, x.shape[1]), read, said)
    n_ctx = x.shape[1]
    for layer in range(model.n_layers - 1):
        x, *_ = _layer(weights, model, layer, x, slice(None))
    post, neurons, attention, mid = _layer(weights, model, model.n_layers - 1, x, slice(n_ctx - 1, n_ctx))
    return Activations(post[:, 0] @ weights["unembed.W_U"], neurons[:, 0], attention[:, :, 0], mid[:, 0], post[:, 0])


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


def method(model: ModelConfig) -> str:
    """How the gradient of a model is computed: the first way is several times as fast."""
    return "factored, closed-form gradient" if is_factored(model) else "general, autograd"
