"""The one-layer network on the prompt `a b =`, computed exactly with far less work than the textbook needs, and its gradient.

Only the last position matters, and its token is always `=`. So its query is one vector, the scores and values of positions 0 and 1 are
tables over the p tokens that each may have, and the MLP runs once per example instead of three times. With the small products of weights

    A = W_O W_in,   B = W_out W_U,   C = W_O W_U

taken first, the residual stream need not be computed at all: for z, the mixed values of the heads, and x₂, the embedding of `=`,

    h = z A + x₂ W_in + b_in,   y = act(h),   logits = z C + y B + (x₂ + b_out) W_U

138 k multiply-adds per example at the canonical sizes instead of about 0.6 M. The gradient is the same, written out backwards. Both
work in the dtype of the weights.

Letters: n examples, p residues, H heads, e = d_head, d = d_model, m = d_mlp. Examples are the last axis of everything here, because
that way round every large product and every elementwise pass runs along contiguous memory.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from interp.activations import activate, backward
from interp.experiment import ModelConfig
from interp.weights import Weights

PAIRS_AT_ONCE = 1000
NAMES = (
    "embed.W_E",
    "pos_embed.W_pos",
    *(f"blocks.0.attn.{name}" for name in ("W_Q", "W_K", "W_V", "W_O")),
    *(f"blocks.0.mlp.{name}" for name in ("W_in", "b_in", "W_out", "b_out")),
    "unembed.W_U",
)


class Forward(NamedTuple):
    """The values of one forward pass that the gradient, or an analysis, needs again."""

    a: Int[Tensor, " n"]
    b: Int[Tensor, " n"]
    embedded: tuple[Tensor, Tensor, Tensor]  # x₀ [d, p], x₁ [d, p] for every token, and x₂ [d] for `=`
    query: Float[Tensor, "H e"]  # already divided by √e
    keys: Float[Tensor, "H d"]  # κ_h = W_K q_h: the score of an embedding x is κ_h·x
    values: tuple[Tensor, Tensor, Tensor]  # x W_V at the three positions of each example: [H, e, n], [H, e, n], [H, e, 1]
    softmax: Float[Tensor, "3 H n"]
    attention: Float[Tensor, "3 H n"]
    heads: Float[Tensor, "H*e n"]  # z
    preactivation: Float[Tensor, "m n"]  # h
    neurons: Float[Tensor, "m n"]  # y
    logits: Float[Tensor, "p n"]


def forward(weights: Weights, model: ModelConfig, a: Int[Tensor, " n"], b: Int[Tensor, " n"]) -> Forward:
    """The forward pass on the pairs (a, b)."""
    W_E, W_pos, W_Q, W_K, W_V, W_O, W_in, b_in, W_out, b_out, W_U = (weights[name] for name in NAMES)
    n_heads, d_model, d_head = W_Q.shape
    p = W_U.shape[1]
    x0, x1, x2 = (W_E[:p] + W_pos[0]).T, (W_E[-1 - p : -1] + W_pos[1]).T, W_E[-1] + W_pos[2]
    query = torch.einsum("d,hde->he", x2, W_Q) / math.sqrt(d_head)
    keys = torch.einsum("hde,he->hd", W_K, query)
    V = W_V.transpose(1, 2).reshape(n_heads * d_head, d_model)
    v0 = (V @ x0).index_select(1, a).view(n_heads, d_head, -1)
    v1 = (V @ x1).index_select(1, b).view(n_heads, d_head, -1)
    v2 = (V @ x2).view(n_heads, d_head, 1)
    s2 = (keys @ x2)[:, None].expand(n_heads, len(a))
    softmax = torch.stack([(keys @ x0).index_select(1, a), (keys @ x1).index_select(1, b), s2]).softmax(0)
    attention = softmax if model.attention_rate == 1 else model.attention_rate * softmax + (1 - model.attention_rate)
    w0, w1, w2 = attention[:, :, None]
    heads = torch.addcmul(torch.addcmul(w0 * v0, w1, v1), w2, v2).view(n_heads * d_head, -1)
    W_O = W_O.reshape(n_heads * d_head, d_model)
    preactivation = ((W_O @ W_in).T @ heads).add_((x2 @ W_in + b_in)[:, None])
    neurons = activate(model.activation, preactivation)
    logits = ((W_out @ W_U).T @ neurons).addmm_((W_O @ W_U).T, heads).add_(((x2 + b_out) @ W_U)[:, None])
    return Forward(a, b, (x0, x1, x2), query, keys, (v0, v1, v2), softmax, attention, heads, preactivation, neurons, logits)


class Table(NamedTuple):
    """What a forward pass over all pairs leaves, pairs first."""

    logits: Float[Tensor, "p p p"]
    neurons: Float[Tensor, "p p m"]
    attention: Float[Tensor, "p p H 3"]
    residual_mid: Float[Tensor, "p p d"]
    residual_post: Float[Tensor, "p p d"]


def forward_all(weights: Weights, model: ModelConfig) -> Table:
    """The forward pass on all p² pairs, through the residual stream, which analyses read anyway."""
    W_in, b_in, W_out, b_out, W_U = (weights[name] for name in NAMES[-5:])
    p = W_U.shape[1]
    residue = torch.arange(p)
    attention, mid = _mixed(weights, model, residue.repeat_interleave(p), residue.repeat(p))
    neurons, post, logits = (mid.new_empty(p * p, size) for size in (W_in.shape[1], mid.shape[1], p))
    # A few pairs at a time stay in the processor's cache for all that is done with them.
    for x, y, stream, answer in zip(*(table.split(PAIRS_AT_ONCE) for table in (mid, neurons, post, logits)), strict=True):
        torch.mm(x, W_in, out=y).add_(b_in)
        y.relu_() if model.activation == "relu" else y.copy_(activate(model.activation, y))
        torch.addmm(x, y, W_out, out=stream).add_(b_out)
        torch.mm(stream, W_U, out=answer)
    tables = logits, neurons, attention.transpose(1, 2).contiguous(), mid, post
    return Table(*(table.view(p, p, *table.shape[1:]) for table in tables))


def _mixed(
    weights: Weights, model: ModelConfig, a: Int[Tensor, " n"], b: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "n 3 H"], Float[Tensor, "n d"]]:
    """The attention and the residual stream at `=` after it: x₂ and, mixed, three rows for each head of the table x W_V W_O of what it
    writes for every token."""
    W_E, W_pos, W_Q, W_K, W_V, W_O, *_, W_U = (weights[name] for name in NAMES)
    n_heads, _, d_head = W_Q.shape
    p = W_U.shape[1]
    x2 = W_E[-1] + W_pos[2]
    x = torch.cat([W_E[:p] + W_pos[0], W_E[-1 - p : -1] + W_pos[1], x2[None]])
    query = torch.einsum("d,hde->he", x2, W_Q) / math.sqrt(d_head)
    scores = x @ torch.einsum("hde,he->dh", W_K, query)  # [2p + 1, H]
    written = torch.matmul(x @ W_V, W_O).transpose(0, 1).reshape(-1, len(x2))  # [(2p + 1)·H, d]
    tokens = torch.stack([a, p + b, torch.full_like(a, 2 * p)], dim=1)
    softmax = scores[tokens].softmax(1)
    attention = softmax if model.attention_rate == 1 else model.attention_rate * softmax + (1 - model.attention_rate)
    rows = tokens[..., None] * n_heads + torch.arange(n_heads)
    mid = embedding_bag(rows.flatten(1), written, mode="sum", per_sample_weights=attention.flatten(1))
    return attention, mid.add_(x2)


def residual_mid(weights: Weights, at: Forward) -> Float[Tensor, "n d"]:
    """The residual stream at `=` between attention and MLP."""
    return at.embedded[2] + at.heads.T @ weights["blocks.0.attn.W_O"].flatten(0, 1)


def gradient(weights: Weights, model: ModelConfig, at: Forward, d_logits: Float[Tensor, "p n"]) -> Weights:
    """The gradient of a loss with respect to every weight, given its gradient `d_logits` with respect to the logits."""
    _, _, W_Q, W_K, W_V, W_O, W_in, _, W_out, b_out, W_U = (weights[name] for name in NAMES)
    n_heads, d_model, d_head = W_Q.shape
    p = W_U.shape[1]
    x0, x1, x2 = at.embedded
    v0, v1, v2 = at.values
    W_O, V = W_O.reshape(-1, d_model), W_V.transpose(1, 2).reshape(-1, d_model)

    # The products over examples; d_A, d_B, d_C are the gradients of A = W_O W_in, B = W_out W_U, C = W_O W_U.
    d_B = (d_logits @ at.neurons.T).T
    d_C = at.heads @ d_logits.T
    d_pre = backward(model.activation, at.preactivation, at.neurons, (W_out @ W_U) @ d_logits)
    d_A = at.heads @ d_pre.T
    d_heads = ((W_O @ W_in) @ d_pre).addmm_(W_O @ W_U, d_logits).view(n_heads, d_head, -1)
    d_logits_sum, d_pre_sum = d_logits.sum(1), d_pre.sum(1)

    # Attention. Where the forward pass gathers columns by index, the gradient sums columns by index.
    w0, w1, w2 = at.attention[:, :, None]
    d_attention = torch.stack([(d_heads * v0).sum(1), (d_heads * v1).sum(1), (d_heads * v2).sum(1)])
    d_scores = at.softmax * (d_attention - (at.softmax * d_attention).sum(0)) * model.attention_rate
    d_v0, d_v1 = _sum_by(at.a, (w0 * d_heads).flatten(0, 1), p), _sum_by(at.b, (w1 * d_heads).flatten(0, 1), p)
    d_v2 = (w2 * d_heads).sum(2).flatten()
    d_s0, d_s1, d_s2 = _sum_by(at.a, d_scores[0], p), _sum_by(at.b, d_scores[1], p), d_scores[2].sum(1)

    # From here on nothing has n columns.
    d_keys = d_s0 @ x0.T + d_s1 @ x1.T + d_s2[:, None] * x2
    d_query = torch.einsum("hd,hde->he", d_keys, W_K) / math.sqrt(d_head)
    d_V = d_v0 @ x0.T + d_v1 @ x1.T + d_v2[:, None] * x2
    d_x0 = d_s0.T @ at.keys + d_v0.T @ V
    d_x1 = d_s1.T @ at.keys + d_v1.T @ V
    d_x2 = W_U @ d_logits_sum + W_in @ d_pre_sum + d_v2 @ V + d_s2 @ at.keys + torch.einsum("he,hde->d", d_query, W_Q)
    gradients = (
        torch.cat([d_x0 + d_x1, d_x2[None]] if model.vocabularies == "one" else [d_x0, d_x1, d_x2[None]]),
        torch.stack([d_x0.sum(0), d_x1.sum(0), d_x2]),
        x2[None, :, None] * d_query[:, None, :],
        d_keys[:, :, None] * at.query[:, None, :],
        d_V.view(n_heads, d_head, d_model).transpose(1, 2).contiguous(),
        (d_A @ W_in.T + d_C @ W_U.T).view(n_heads, d_head, d_model),
        W_O.T @ d_A + x2[:, None] * d_pre_sum,
        d_pre_sum,
        d_B @ W_U.T,
        W_U @ d_logits_sum,
        W_out.T @ d_B + W_O.T @ d_C + (x2 + b_out)[:, None] * d_logits_sum,
    )
    return dict(zip(NAMES, gradients, strict=True))


def _sum_by(index: Int[Tensor, " n"], columns: Float[Tensor, "rows n"], p: int) -> Float[Tensor, "rows p"]:
    return columns.new_zeros(columns.shape[0], p).index_add_(1, index, columns)
