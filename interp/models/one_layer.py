"""The forward pass of a transformer with one layer, computed exactly with far less work than the textbook needs.

What a position holds before the only layer is its token's vector and its own, W_E[t] + W_pos[i], whatever stands
elsewhere. So keys and values, and what every head writes, are tables over the few tokens that a position can have: p
for a and for b, one for a constant. Scores are a table over the tokens of the position that answers and those of each
position it sees; and that position alone is carried further, through the MLP, the norms and the unembedding.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from interp.experiment import OPERATOR, ModelConfig
from interp.models import transformer
from interp.models.activations import activate
from interp.models.values import Activations, Weights

PAIRS_AT_ONCE = 1000


class _Position(NamedTuple):
    """A position that is seen: the token of every pair, among those it can have, and what each of these holds there."""

    place: int
    which: Int[Tensor, " n"]
    held: Float[Tensor, "tokens d_model"]


def forward(
    weights: Weights,
    model: ModelConfig,
    pairs: Int[Tensor, "n tokens"],
    vectors: Float[Tensor, "residues d_model"] | None = None,
) -> Activations:
    """The forward pass on the pairs (a, b); with `vectors` the residues enter by these. Not for autograd."""
    attention, mid = _mixed(weights, model, pairs, vectors)
    W_out, b_out = weights["blocks.0.mlp.W_out"], weights["blocks.0.mlp.b_out"]
    W_in, b_in, n_classes = (
        weights["blocks.0.mlp.W_in"],
        weights["blocks.0.mlp.b_in"],
        transformer.classes(weights, model),
    )
    neurons, post, logits = (mid.new_empty(len(pairs), size) for size in (len(W_out), mid.shape[1], n_classes))
    is_read_normalized = model.norm.is_at("mlp") and model.norm.order == "pre"
    plain, W_U = model.is_plain, transformer.unembedding(weights, model)
    # A few pairs at a time stay in the processor's cache for all that is done with them.
    parts = zip(*(table.split(PAIRS_AT_ONCE) for table in (mid, neurons, post, logits)), strict=True)
    for x, y, stream, answer in parts:
        read = transformer.norm(weights, model, "blocks.0.ln2", x) if is_read_normalized else x
        if model.mlp.gated:
            y.copy_(transformer.neurons_of(weights, model, "blocks.0.mlp", read))
        else:
            torch.mm(read, W_in, out=y).add_(b_in)
            y.relu_() if model.activation == "relu" else y.copy_(activate(model.activation, y))
        torch.addmm(x, y, W_out, out=stream).add_(b_out)
        if plain:
            torch.mm(stream, W_U, out=answer)
        else:
            for table, values in zip((stream, answer), transformer.answer(weights, model, stream), strict=True):
                table.copy_(values)
    return Activations(logits, neurons, attention, mid, post)


def _mixed(
    weights: Weights, model: ModelConfig, pairs: Int[Tensor, "n tokens"], vectors: Tensor | None
) -> tuple[Float[Tensor, "n H T"], Float[Tensor, "n d"]]:
    """The attention of the position that answers, and the residual stream there after it: what it holds and, mixed, the
    rows for each head of a table of what that writes for every token."""
    attn, at = "blocks.0.attn", model.answer_at % model.n_ctx
    seen = _positions(weights, model, pairs, vectors, range(at + 1 if model.causal else model.n_ctx))
    own = next(position for position in seen if position.place == at)
    W_Q, W_K, W_V, W_O = (weights[f"{attn}.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O"))
    n_heads, _, d_head = W_Q.shape
    places = torch.cat([pairs.new_full((len(position.held),), position.place) for position in seen])
    held = torch.cat([position.held for position in seen])  # [rows, d], a row for every token of every position
    is_normalized = model.norm.is_at("attention") and model.norm.order == "pre"
    read, asks = (transformer.norm(weights, model, "blocks.0.ln1", x) if is_normalized else x for x in (held, own.held))
    query, value = asks @ W_Q / math.sqrt(d_head), read @ W_V  # [H, tokens, e], [H, rows, e]
    if model.biases:
        query = query + weights[f"{attn}.b_Q"][:, None] / math.sqrt(d_head)
        value = value + weights[f"{attn}.b_V"][:, None]
    if (base := model.attention.rotary_base) is None and not model.biases:
        scores = read @ torch.einsum("hde,hte->dht", W_K, query).flatten(1)  # [rows, H·tokens]
        scores = scores.view(len(read), n_heads, -1).permute(2, 0, 1)
    else:
        key = read @ W_K
        if model.biases:
            key = key + weights[f"{attn}.b_K"][:, None]
        if base is not None:
            query = transformer.turned(query, places.new_full((query.shape[1],), at), base)
            key = transformer.turned(key, places, base)
        scores = torch.einsum("hte,hre->trh", query, key)
    starts = [0]
    for position in seen:
        starts.append(starts[-1] + len(position.held))
    rows = torch.stack([position.which + start for position, start in zip(seen, starts, strict=False)], dim=1)  # [n, T]
    softmax = scores.flatten(0, 1)[own.which[:, None] * len(held) + rows].softmax(1)  # [n, T, H]
    rate = model.attention_rate
    attention = softmax if rate == 1 else rate * softmax + (1 - rate)
    written = torch.matmul(value, W_O).transpose(0, 1).reshape(-1, held.shape[1])  # [rows·H, d]
    of_heads = (rows[..., None] * n_heads + torch.arange(n_heads, device=pairs.device)).flatten(1)
    mid = embedding_bag(of_heads, written, mode="sum", per_sample_weights=attention.flatten(1))
    mid.add_(own.held[own.which] if len(own.held) > 1 else own.held)
    if model.biases:
        mid.add_(weights[f"{attn}.b_O"])
    if model.norm.is_at("attention") and model.norm.order == "post":
        mid = transformer.norm(weights, model, "blocks.0.ln1", mid)
    of_all = attention.new_zeros(len(pairs), n_heads, model.n_ctx)
    of_all[:, :, : len(seen)] = attention.transpose(1, 2)
    return of_all, mid


def _positions(
    weights: Weights, model: ModelConfig, pairs: Int[Tensor, "n tokens"], vectors: Tensor | None, places: range
) -> list[_Position]:
    W_E, W_pos = weights["embed.W_E"], weights["pos_embed.W_pos"]
    if vectors is not None:
        W_E = torch.cat([vectors, W_E[len(vectors) :]])
    p = transformer.residues(weights, model)
    b = model.first_token_of_b(p)
    none, rows = pairs.new_zeros(len(pairs)), transformer.first_rows(weights, model)
    n_operators = len(W_E) - b - p - len(model.constants) + 1
    found = []
    for place in places:
        token = model.prompt[place]
        if token in "ab":
            first = 0 if token == "a" else b
            which, vectors_of = pairs[:, "ab".index(token)], W_E[first : first + p]
        elif token == OPERATOR and pairs.shape[1] == 3:
            which, vectors_of = pairs[:, 2], W_E[rows[token] : rows[token] + n_operators]
        else:
            which, vectors_of = none, W_E[rows[token] : rows[token] + 1]
        found.append(_Position(place, which, vectors_of + W_pos[place]))
    return found
