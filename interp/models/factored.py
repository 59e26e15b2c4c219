"""The one-layer network on the prompt `a b =`, computed exactly with far less work than the textbook needs; its
gradient: `interp.models.factored_gradient`.

Only the last position matters, and its token is always `=`. So its query is one vector, the scores and values of
positions 0 and 1 are tables over the p tokens that each may have, and the MLP runs once per example instead of three
times. With the small products of weights

    A = W_O W_in,   B = W_out W_U,   C = W_O W_U

taken first, the residual stream need not be computed at all: for z, the mixed values of the heads, and x₂, the
embedding of `=`,

    h = z A + x₂ W_in + b_in,   y = act(h),   logits = z C + y B + (x₂ + b_out) W_U

138 k multiply-adds per example at the canonical sizes instead of about 0.6 M, in the dtype of the weights.

Letters: n examples, p residues, H heads, e = d_head, d = d_model, m = d_mlp. Examples are the last axis of everything
here, because that way round every large product and every elementwise pass runs along contiguous memory.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from interp.experiment import ModelConfig
from interp.models.activations import activate
from interp.models.values import Activations, Weights

PAIRS_AT_ONCE = 1000
NAMES = (
    "embed.W_E",
    "pos_embed.W_pos",
    *(f"blocks.0.attn.{name}" for name in ("W_Q", "W_K", "W_V", "W_O")),
    *(f"blocks.0.mlp.{name}" for name in ("W_in", "b_in", "W_out", "b_out")),
    "unembed.W_U",
)


def forward(weights: Weights, model: ModelConfig, pairs: Int[Tensor, "n 2"]) -> Activations:
    """The forward pass on the pairs (a, b), through the residual stream, which analyses read anyway."""
    W_in, b_in, W_out, b_out, W_U = (weights[name] for name in NAMES[-5:])
    attention, mid = _mixed(weights, model, *pairs.T)
    neurons, post, logits = (mid.new_empty(len(pairs), size) for size in (W_in.shape[1], mid.shape[1], W_U.shape[1]))
    # A few pairs at a time stay in the processor's cache for all that is done with them.
    parts = zip(*(table.split(PAIRS_AT_ONCE) for table in (mid, neurons, post, logits)), strict=True)
    for x, y, stream, answer in parts:
        torch.mm(x, W_in, out=y).add_(b_in)
        y.relu_() if model.activation == "relu" else y.copy_(activate(model.activation, y))
        torch.addmm(x, y, W_out, out=stream).add_(b_out)
        torch.mm(stream, W_U, out=answer)
    return Activations(logits, neurons, attention.transpose(1, 2).contiguous(), mid, post)


def _mixed(
    weights: Weights, model: ModelConfig, a: Int[Tensor, " n"], b: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "n 3 H"], Float[Tensor, "n d"]]:
    """The attention and the residual stream at `=` after it: x₂ and, mixed, three rows for each head of the table
    x W_V W_O of what it writes for every token."""
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
