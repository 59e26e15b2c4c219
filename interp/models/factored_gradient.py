"""The plain one-layer network on the prompt `a b =` in its factored form: its loss and the gradient, in parts of a
batch that are worked on side by side.

Only the last position matters, and its token is always `=`. So its query is one vector, the scores and values of
positions 0 and 1 are tables over the p tokens that each may have, and the MLP runs once per example instead of three
times. With the small products of weights

    A = W_O W_in,   B = W_out W_U,   C = W_O W_U

taken first, the residual stream need not be computed at all: for z, the mixed values of the heads, and x₂, the
embedding of `=`,

    h = z A + x₂ W_in + b_in,   y = act(h),   logits = z C + y B + (x₂ + b_out) W_U

138 k multiply-adds per example at the canonical sizes instead of about 0.6 M, in the dtype of the weights. And since
the attention weights of a head have one sum, T = 3 − 2α (1 for a plain softmax), the values at `=` need not be mixed:
with scores s and values v at the three positions, and (w₀, w₁, w₂) = α·softmax(s) + 1 − α,

    z = w₀ (v₀ − v₂) + w₁ (v₁ − v₂) per head,   r = x₂ + T Σ_h v₂ W_O
    h = z A + r W_in + b_in,   y = act(h),   logits = z C + y B + (r + b_out) W_U

The constants are rows of two products of weights, [A; r W_in + b_in] and [C; (r + b_out) W_U], which [z, 1] is
multiplied by. The gradient is summed over examples with respect to these products, and carried to the weights once.

The parts of a batch do not depend on the number of threads, and their sums are added in their order: whoever works on
them, the result is the same to the last bit. They are small enough for a processor's cache, and each is given to one
thread, because torch's own threads would wait for one another after every operation.

Letters: n examples (the last axis of everything), p residues, H heads, e = d_head, v = H·e, m = d_mlp.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.experiment import ModelConfig
from interp.mathematics.losses import CROSS_ENTROPY, Loss
from interp.models.activations import activate, backward
from interp.models.values import Weights

PART = 960  # examples; a power of two would put the values of a row into the same few lines of the cache
MOST_PARTS = 16  # each has its own sums, of the size of the weights

NAMES = (
    "embed.W_E",
    "pos_embed.W_pos",
    *(f"blocks.0.attn.{name}" for name in ("W_Q", "W_K", "W_V", "W_O")),
    *(f"blocks.0.mlp.{name}" for name in ("W_in", "b_in", "W_out", "b_out")),
    "unembed.W_U",
)
Examples = tuple[Tensor, Tensor, Tensor]  # a, b and the labels, [n] each
Each = Callable[..., Iterable[Any]]  # `map`, or that of an executor of concurrent.futures


class Products(NamedTuple):
    """All that the examples need of the weights, or the gradient with respect to it."""

    table_a: Float[Tensor, "v+H p"]  # for every token in the place of a: v₀ − v₂, and below it s₀ − s₂
    table_b: Float[Tensor, "v+H p"]
    inner: Float[Tensor, "v+1 m"]  # A, and below it r W_in + b_in
    direct: Float[Tensor, "v+1 p"]  # C, and below it (r + b_out) W_U
    outer: Float[Tensor, "m p"]  # B


class Folded(NamedTuple):
    """The products of the weights, and what their gradient needs again."""

    products: Products
    embedded: tuple[Tensor, Tensor, Tensor]  # x₀ [d, p], x₁ [d, p] for every token, and x₂ [d] for `=`
    query: Float[Tensor, "H e"]  # already divided by √e
    read: Float[Tensor, "v+H d"]  # W_V, and below it W_K q: what makes values and scores of an embedding
    values_at_equals: Float[Tensor, " v"]
    constant: Float[Tensor, " d"]  # r


def fold(weights: Weights, model: ModelConfig) -> Folded:
    """The products of the weights."""
    W_E, W_pos, W_Q, W_K, W_V, W_O, W_in, b_in, W_out, b_out, W_U = (weights[name] for name in NAMES)
    d_model, d_head, p = *W_Q.shape[1:], W_U.shape[1]
    x0, x1, x2 = (W_E[:p] + W_pos[0]).T, (W_E[-1 - p : -1] + W_pos[1]).T, W_E[-1] + W_pos[2]
    query = x2 @ W_Q / math.sqrt(d_head)
    keys = (W_K @ query[:, :, None])[:, :, 0]
    W_O = W_O.reshape(-1, d_model)
    read = torch.cat([W_V.transpose(1, 2).reshape(-1, d_model), keys])
    at_equals = read @ x2
    v2 = at_equals[: len(W_O)]
    r = x2 + _attention_sum(model) * (v2 @ W_O)
    inner = torch.cat([W_O @ W_in, (r @ W_in + b_in)[None]])
    direct = torch.cat([W_O @ W_U, ((r + b_out) @ W_U)[None]])
    products = Products(read @ x0 - at_equals[:, None], read @ x1 - at_equals[:, None], inner, direct, W_out @ W_U)
    return Folded(products, (x0, x1, x2), query, read, v2, r)


def unfold(weights: Weights, model: ModelConfig, at: Folded, d: Products) -> Weights:
    """The gradient with respect to the weights, from the gradient with respect to their products."""
    _, _, W_Q, W_K, _, W_O, W_in, _, W_out, b_out, W_U = (weights[name] for name in NAMES)
    (n_heads, d_model, d_head), (x0, x1, x2) = W_Q.shape, at.embedded
    W_O = W_O.reshape(-1, d_model)
    v, total = len(W_O), _attention_sum(model)
    (d_A, d_C), d_b_in, d_c = (d.inner[:v], d.direct[:v]), d.inner[v], d.direct[v]
    d_b_out = W_U @ d_c
    d_r = W_in @ d_b_in + d_b_out
    d_at_equals = -(d.table_a.sum(1) + d.table_b.sum(1))
    d_at_equals[:v] += total * (W_O @ d_r)
    d_read = (d.table_a @ x0.T).addmm_(d.table_b, x1.T).addr_(d_at_equals, x2)
    d_V, d_keys = d_read[:v], d_read[v:]
    d_query = (d_keys[:, None] @ W_K)[:, 0] / math.sqrt(d_head)
    d_x0, d_x1 = d.table_a.T @ at.read, d.table_b.T @ at.read
    d_x2 = d_r + d_at_equals @ at.read + (W_Q @ d_query[:, :, None])[:, :, 0].sum(0)
    gradients = (
        torch.cat([d_x0 + d_x1, d_x2[None]] if model.vocabularies == "one" else [d_x0, d_x1, d_x2[None]]),
        torch.stack([d_x0.sum(0), d_x1.sum(0), d_x2]),
        x2[None, :, None] * d_query[:, None, :],
        d_keys[:, :, None] * at.query[:, None, :],
        d_V.view(n_heads, d_head, d_model).transpose(1, 2).contiguous(),
        (d_A @ W_in.T).addmm_(d_C, W_U.T).addr_(at.values_at_equals, d_r, alpha=total).view(n_heads, d_head, d_model),
        (W_O.T @ d_A).addr_(at.constant, d_b_in),
        d_b_in,
        d.outer @ W_U.T,
        d_b_out,
        (W_out.T @ d.outer).addmm_(W_O.T, d_C).addr_(at.constant + b_out, d_c),
    )
    return dict(zip(NAMES, gradients, strict=True))


def _attention_sum(model: ModelConfig) -> float:
    return 3 - 2 * model.attention_rate


class Forward(NamedTuple):
    """The forward pass on some examples, with all that the gradient needs again."""

    a: Int[Tensor, " n"]
    b: Int[Tensor, " n"]
    values: tuple[Tensor, Tensor]  # v₀ − v₂ and v₁ − v₂, [H, e, n]
    softmax: Float[Tensor, "2 H n"]  # at the first two positions
    attention: Float[Tensor, "2 H n"]
    heads: Float[Tensor, "v+1 n"]  # z, and below it 1
    preactivation: Float[Tensor, "m n"]  # h; of relu y, from which its derivative can be told as well
    neurons: Float[Tensor, "m n"]  # y
    logits: Float[Tensor, "p n"]


def forward(products: Products, model: ModelConfig, a: Int[Tensor, " n"], b: Int[Tensor, " n"]) -> Forward:
    """The forward pass on the pairs (a, b)."""
    of_a, of_b = products.table_a.index_select(1, a), products.table_b.index_select(1, b)
    v = len(products.inner) - 1
    softmax = torch.stack([of_a[v:], of_b[v:], torch.zeros_like(of_a[v:])]).softmax(0)[:2]
    attention = softmax if model.attention_rate == 1 else model.attention_rate * softmax + (1 - model.attention_rate)
    heads = torch.empty_like(of_a[: v + 1])
    z = heads[:v].view(model.n_heads, v // model.n_heads, len(a))
    v_a, v_b = of_a[:v].view_as(z), of_b[:v].view_as(z)
    torch.mul(v_a, attention[0, :, None], out=z).addcmul_(v_b, attention[1, :, None])
    heads[v] = 1
    h = products.inner.T @ heads
    y = h.relu_() if model.activation == "relu" else activate(model.activation, h)
    logits = (products.outer.T @ y).addmm_(products.direct.T, heads)
    return Forward(a, b, (v_a, v_b), softmax, attention, heads, h, y, logits)


def differentiable_logits(
    weights: Weights, model: ModelConfig, pairs: Int[Tensor, "n 2"]
) -> Float[Tensor, "n classes"]:
    """The logits in the same form with nothing written in place: for autograd, as often as one likes. Second
    derivatives take a fourth of the time that they take through the residual stream.

    >>> from interp.models import initial_weights
    >>> model, pairs = ModelConfig(d_model=8, d_mlp=4), torch.tensor([[2, 3], [0, 6]])
    >>> weights = initial_weights(model, 7)
    >>> bool(torch.allclose(differentiable_logits(weights, model, pairs), logits(weights, model, pairs), atol=1e-5))
    True
    """
    products, (a, b) = fold(weights, model).products, pairs.T
    of_a, of_b = products.table_a.index_select(1, a), products.table_b.index_select(1, b)
    v = len(products.inner) - 1
    softmax = torch.stack([of_a[v:], of_b[v:], torch.zeros_like(of_a[v:])]).softmax(0)[:2]
    attention = model.attention_rate * softmax + (1 - model.attention_rate)
    mixed = of_a[:v].unflatten(0, (model.n_heads, -1)) * attention[0, :, None]
    mixed = mixed + of_b[:v].unflatten(0, (model.n_heads, -1)) * attention[1, :, None]
    heads = torch.cat([mixed.flatten(0, 1), torch.ones_like(of_a[:1])])
    neurons = activate(model.activation, products.inner.T @ heads)
    return (products.outer.T @ neurons + products.direct.T @ heads).T


def write_gradient(
    out: Products, products: Products, model: ModelConfig, at: Forward, d_logits: Float[Tensor, "p n"]
) -> None:
    """The gradient with respect to the products, given that with respect to the logits."""
    v = len(products.inner) - 1
    d_y = products.outer @ d_logits
    d_h = backward(model.activation, at.preactivation, at.neurons, d_y, out=d_y)
    torch.mm(at.neurons, d_logits.T, out=out.outer)
    torch.mm(at.heads, d_logits.T, out=out.direct)
    torch.mm(at.heads, d_h.T, out=out.inner)
    d_z = (products.direct[:v] @ d_logits).addmm_(products.inner[:v], d_h)
    out.table_a.zero_()
    out.table_b.zero_()
    add_tables(out, model, at, d_z)


def add_tables(out: Products, model: ModelConfig, at: Forward, d_z: Float[Tensor, "v n"]) -> None:
    """Add the gradient with respect to both tables, given that with respect to z."""
    d_z = d_z.view_as(at.values[0])
    d_attention = torch.stack([(d_z * values).sum(1) for values in at.values])
    d_scores = at.softmax * (d_attention - (at.softmax * d_attention).sum(0)) * model.attention_rate
    for table, index, weight, d_score in zip(
        (out.table_a, out.table_b), (at.a, at.b), at.attention, d_scores, strict=True
    ):
        # Where the forward pass gathers columns by index, the gradient sums columns by index.
        table.index_add_(1, index, torch.cat([(d_z * weight[:, None]).flatten(0, 1), d_score]))


@torch.no_grad()
def loss_and_gradient(
    weights: Weights, model: ModelConfig, examples: Examples, each: Each = map, *, loss: Loss = CROSS_ENTROPY
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"], Weights]:
    """The loss of every example, whether its answer is correct, and the gradient of the mean loss. `each` works on the
    parts."""
    folded, parts = fold(weights, model), _parts(examples)
    products, n = folded.products, len(examples[0])
    sizes = [product.numel() for product in products]
    gradients = products.inner.new_empty(len(parts), sum(sizes))

    def as_products(flat: Tensor) -> Products:
        return Products(*(piece.view_as(product) for piece, product in zip(flat.split(sizes), products, strict=True)))

    def work(out: Tensor, part: Examples) -> tuple[Tensor, Tensor]:
        a, b, labels = part
        at = forward(products, model, a, b)
        losses, correct = loss.judge_with_gradient_(at.logits, labels, n)
        write_gradient(as_products(out), products, model, at, at.logits)
        return losses, correct

    losses, correct = zip(*_by(each, parts)(work, gradients, parts), strict=True)
    gradient = gradients.sum(0) if len(parts) > 1 else gradients[0]  # a sum of one takes as long as one of four
    return torch.cat(losses), torch.cat(correct), unfold(weights, model, folded, as_products(gradient))


@torch.no_grad()
def gradient(
    weights: Weights, model: ModelConfig, pairs: Int[Tensor, "n 2"], d_logits: Float[Tensor, "n p"]
) -> Weights:
    """The gradient of Σ d_logits·logits."""
    folded = fold(weights, model)
    total, out = (Products(*map(torch.zeros_like, folded.products)) for _ in range(2))
    for some, d_some in zip(pairs.split(PART), d_logits.split(PART), strict=True):
        write_gradient(out, folded.products, model, forward(folded.products, model, *some.T), d_some.T.contiguous())
        for sums, of_part in zip(total, out, strict=True):
            sums.add_(of_part)
    return unfold(weights, model, folded, total)


@torch.no_grad()
def logits(
    weights: Weights,
    model: ModelConfig,
    pairs: Int[Tensor, "n 2"],
    vectors: Float[Tensor, "sets residues d"] | None = None,
) -> Float[Tensor, "sets n p"]:
    """The logits; for each of several sets of `vectors`, where the residues enter by these in place of their rows of
    W_E."""
    folded, p = fold(weights, model), weights["unembed.W_U"].shape[1]
    products, index = folded.products, pairs.T
    if vectors is not None:
        W_pos, at_equals = weights["pos_embed.W_pos"], (folded.read @ folded.embedded[2])[:, None]
        of_a, of_b = (
            (rows + at).flatten(0, 1).T for rows, at in zip((vectors[:, :p], vectors[:, -p:]), W_pos, strict=False)
        )
        products = products._replace(table_a=folded.read @ of_a - at_equals, table_b=folded.read @ of_b - at_equals)
        # The sets are so many more residues.
        index = (pairs.T[:, None] + p * torch.arange(len(vectors))[:, None]).flatten(1)
    # Half a part: its neurons leave room in the cache for the tables of many sets.
    parts = zip(*(tokens.split(PART // 2) for tokens in index), strict=True)
    every = torch.cat([forward(products, model, a, b).logits.T for a, b in parts])
    return every.view(-1, len(pairs), p)


@torch.no_grad()
def evaluate(
    weights: Weights, model: ModelConfig, examples: Examples, each: Each = map, *, loss: Loss = CROSS_ENTROPY
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """The loss of every example, and whether its answer is correct."""
    products, parts = fold(weights, model).products, _parts(examples)

    def work(part: Examples) -> tuple[Tensor, Tensor]:
        a, b, labels = part
        return loss.judge(forward(products, model, a, b).logits, labels)

    losses, correct = zip(*_by(each, parts)(work, parts), strict=True)
    return torch.cat(losses), torch.cat(correct)


def _parts(examples: Examples) -> list[Examples]:
    """A GPU takes all at once."""
    n = len(examples[0])
    size = max(PART, math.ceil(n / MOST_PARTS)) if examples[0].device.type == "cpu" else max(1, n)
    return list(zip(*(values.split(size) for values in examples), strict=True))


def _by(each: Each, parts: list[Examples]) -> Each:
    return each if len(parts) > 1 else map  # to hand one part to another thread takes longer than a small one
