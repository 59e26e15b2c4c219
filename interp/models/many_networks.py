"""Many plain one-layer networks at once: their losses and gradients in closed form, by batched matrix products.

One such network is far too little work for a GPU. Here everything of `interp.models.factored_gradient` (the same
formulae, letters and order of axes, examples last) has a first axis of S networks. They have one shape; weights,
examples and labels are each network's own. Three things differ from the form for one:

- Products of matrices are `bmm` and `baddbmm` over the S networks.
- The constants of h and of the logits are added by the products (`baddbmm`), in place of a row of ones.
- The gradient of the tables sums over the examples that share a token. It is a product with one-hot rows [S, n, p],
  whose order of summation is fixed, where `index_add_` on a GPU would add in the order in which threads arrive.

The loss is float64, as everywhere; all else has the type of the weights.

Letters: S networks, n examples, p residues, H heads, e = d_head, v = H·e, m = d_mlp, d = d_model.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from interp.experiment import ModelConfig
from interp.mathematics.losses import CROSS_ENTROPY, Loss
from interp.models.activations import activate, backward
from interp.models.factored_gradient import NAMES
from interp.models.values import Weights

EXAMPLES_AT_ONCE = 4096  # of each network, where only losses are asked for


class ManyExamples(NamedTuple):
    """The examples of every network, as many for each.

    >>> a, b = torch.tensor([[0, 1]]), torch.tensor([[2, 2]])
    >>> ManyExamples(a, b, (a + b) % 3).one_hot(3, torch.float32)[0].tolist()
    [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    """

    a: Int[Tensor, "S n"]
    b: Int[Tensor, "S n"]
    labels: Int[Tensor, "S n"]

    def one_hot(self, p: int, dtype: torch.dtype) -> tuple[Float[Tensor, "S n p"], Float[Tensor, "S n p"]]:
        """A row for the token of every example: of a, and of b."""
        return functional.one_hot(self.a, p).to(dtype), functional.one_hot(self.b, p).to(dtype)


class _Folded(NamedTuple):
    """The products of the weights that the examples need, and what their gradient needs again."""

    table_a: Float[Tensor, "S v+H p"]  # for every token in the place of a: v₀ − v₂, and below it s₀ − s₂
    table_b: Float[Tensor, "S v+H p"]
    inner: Float[Tensor, "S v m"]  # A
    direct: Float[Tensor, "S v p"]  # C
    outer: Float[Tensor, "S m p"]  # B
    inner_constant: Float[Tensor, "S m"]  # r W_in + b_in
    direct_constant: Float[Tensor, "S p"]  # (r + b_out) W_U
    x0: Float[Tensor, "S p d"]
    x1: Float[Tensor, "S p d"]
    x2: Float[Tensor, "S d"]
    query: Float[Tensor, "S H e"]  # already divided by √e
    read: Float[Tensor, "S v+H d"]
    values_at_equals: Float[Tensor, "S v"]
    constant: Float[Tensor, "S d"]  # r


class _Gradient(NamedTuple):
    """The gradients with respect to the products of the weights, in the order of `_Folded`."""

    table_a: Float[Tensor, "S v+H p"]
    table_b: Float[Tensor, "S v+H p"]
    inner: Float[Tensor, "S v m"]
    direct: Float[Tensor, "S v p"]
    outer: Float[Tensor, "S m p"]
    inner_constant: Float[Tensor, "S m"]
    direct_constant: Float[Tensor, "S p"]


class _Forward(NamedTuple):
    """The forward pass on some examples, with all that the gradient needs again."""

    values: tuple[Tensor, Tensor]  # v₀ − v₂ and v₁ − v₂, [S, H, e, n]
    softmax: tuple[Tensor, Tensor]  # at the first two positions, [S, H, n]
    attention: tuple[Tensor, Tensor]
    heads: Float[Tensor, "S v n"]  # z
    preactivation: Float[Tensor, "S m n"]
    neurons: Float[Tensor, "S m n"]
    logits: Float[Tensor, "S p n"]


@torch.no_grad()
def losses_and_gradients(
    stacked: Weights,
    model: ModelConfig,
    examples: ManyExamples,
    one_hot: tuple[Float[Tensor, "S n p"], Float[Tensor, "S n p"]] | None = None,
    *,
    loss: Loss = CROSS_ENTROPY,
) -> tuple[Float[Tensor, "S n"], Bool[Tensor, "S n"], Weights]:
    """The loss of every example of every network [S, n], float64; whether its answer is correct; and the gradients of
    their mean losses, each weight's with the first axis S that it has in `stacked`. `one_hot` is that of the examples,
    where somebody has it already.

    >>> from interp.models import initial_weights
    >>> model, a = ModelConfig(d_model=8, n_heads=2, d_mlp=12), torch.arange(7).repeat(3, 1)
    >>> drawn = [initial_weights(ModelConfig(d_model=8, n_heads=2, d_mlp=12, seed=seed), 7) for seed in range(3)]
    >>> stacked = {name: torch.stack([weights[name] for weights in drawn]) for name in drawn[0]}
    >>> losses, correct, gradients = losses_and_gradients(stacked, model, ManyExamples(a, a, 2 * a % 7))
    >>> losses.shape, losses.dtype, gradients["unembed.W_U"].shape
    (torch.Size([3, 7]), torch.float64, torch.Size([3, 8, 7]))
    """
    at = _fold(stacked, model)
    on_a, on_b = one_hot or examples.one_hot(at.outer.shape[2], at.outer.dtype)
    passed = _forward(at, model, examples)
    d_logits = passed.logits  # written over
    # The loss has the classes first, and any axes of examples after them.
    losses, correct = loss.judge_with_gradient_(d_logits.transpose(0, 1), examples.labels, examples.labels.shape[1])
    y, z = passed.neurons, passed.heads
    d_outer, d_direct = torch.bmm(y, d_logits.mT), torch.bmm(z, d_logits.mT)
    d_y = torch.bmm(at.outer, d_logits)
    d_h = backward(model.activation, passed.preactivation, y, d_y, out=d_y)
    d_inner, d_b_in, d_c = torch.bmm(z, d_h.mT), d_h.sum(2), d_logits.sum(2)
    d_z = torch.bmm(at.direct, d_logits).baddbmm_(at.inner, d_h).view_as(passed.values[0])
    d_attention = [(d_z * values).sum(2) for values in passed.values]
    mixed = sum(s * d for s, d in zip(passed.softmax, d_attention, strict=True))
    tables = []
    for softmax, weight, d_weight, rows in zip(
        passed.softmax, passed.attention, d_attention, (on_a, on_b), strict=True
    ):
        d_scores = softmax * (d_weight - mixed) * model.attention_rate
        tables.append(torch.bmm(torch.cat([(d_z * weight[:, :, None]).flatten(1, 2), d_scores], 1), rows))
    gradient = _Gradient(tables[0], tables[1], d_inner, d_direct, d_outer, d_b_in, d_c)
    return losses, correct, _unfold(stacked, model, at, gradient)


@torch.no_grad()
def evaluate(
    stacked: Weights, model: ModelConfig, examples: ManyExamples, *, loss: Loss = CROSS_ENTROPY
) -> tuple[Float[Tensor, "S n"], Bool[Tensor, "S n"]]:
    """The loss of every example of every network, and whether its answer is correct."""
    at = _fold(stacked, model)
    judged = []
    for part in zip(*(values.split(EXAMPLES_AT_ONCE, dim=1) for values in examples), strict=True):
        some = ManyExamples(*part)
        judged.append(loss.judge(_forward(at, model, some).logits.transpose(0, 1), some.labels))
    losses, correct = zip(*judged, strict=True)
    return torch.cat(losses, 1), torch.cat(correct, 1)


def bytes_for_each(model: ModelConfig, p: int, n_train: int, n_test: int) -> int:
    """About how many bytes of a GPU's memory training takes for each network: at the highest point of a step, eager.

    Counted from the arrays that live at once, and held against what torch allocates by the tests: 4 bytes a float,
    8 in the loss.

    >>> round(bytes_for_each(ModelConfig(), 113, 3831, 8938) / 1e6)  # the canonical network
    43
    """
    v, m, d = model.n_heads * model.head_size, model.d_mlp, model.d_model
    n_weights = (2 * p + 1) * d + 4 * v * d + 2 * m * d + m + d + d * p
    # Weights, their gradient, two moments, and what the update makes of them on the way; the products twice.
    held = 6 * n_weights + 2 * (2 * (v + model.n_heads) * p + v * m + v * p + m * p)
    one_hots, examples = 2 * n_train * p, 2 * 3 * (n_train + n_test)
    n = max(n_train, min(n_test, EXAMPLES_AT_ONCE))
    # Values of both tokens, their mixture, y, logits, the loss's two float64 copies of these; or later d_y and d_z.
    passing = n * (2 * (v + model.n_heads) + v + 10 * model.n_heads + m * (1 if model.activation == "relu" else 2) + p)
    passing += n * max(4 * p, m + 3 * v)
    return 4 * (held + one_hots + examples + passing)


# ---- one step --------------------------------------------------------------------------------------------------------


def _fold(stacked: Weights, model: ModelConfig) -> _Folded:
    W_E, W_pos, W_Q, W_K, W_V, W_O, W_in, b_in, W_out, b_out, W_U = (stacked[name] for name in NAMES)
    (n_networks, _, d, e), p = W_Q.shape, W_U.shape[2]
    x0, x1, x2 = W_E[:, :p] + W_pos[:, :1], W_E[:, -1 - p : -1] + W_pos[:, 1:2], W_E[:, -1] + W_pos[:, 2]
    query = (x2[:, None, None] @ W_Q)[:, :, 0] / math.sqrt(e)
    keys = (W_K @ query[..., None])[..., 0]
    W_O = W_O.reshape(n_networks, -1, d)
    v = W_O.shape[1]
    read = torch.cat([W_V.mT.reshape(n_networks, v, d), keys], 1)
    at_equals = read @ x2[:, :, None]
    v2 = at_equals[:, :v, 0]
    r = x2 + _attention_sum(model) * _row(v2, W_O)
    return _Folded(
        table_a=read @ x0.mT - at_equals,
        table_b=read @ x1.mT - at_equals,
        inner=W_O @ W_in,
        direct=W_O @ W_U,
        outer=W_out @ W_U,
        inner_constant=_row(r, W_in) + b_in,
        direct_constant=_row(r + b_out, W_U),
        x0=x0,
        x1=x1,
        x2=x2,
        query=query,
        read=read,
        values_at_equals=v2,
        constant=r,
    )


def _forward(at: _Folded, model: ModelConfig, examples: ManyExamples) -> _Forward:
    n_networks, rows = at.table_a.shape[:2]
    n, v, n_heads = examples.a.shape[1], at.inner.shape[1], model.n_heads
    of_a, of_b = (
        table.gather(2, token[:, None].expand(n_networks, rows, n))
        for table, token in ((at.table_a, examples.a), (at.table_b, examples.b))
    )
    zero = torch.zeros_like(of_a[:, v:])
    s0, s1, _ = torch.stack([of_a[:, v:], of_b[:, v:], zero]).softmax(0)
    rate = model.attention_rate
    w0, w1 = (s0, s1) if rate == 1 else (rate * s0 + (1 - rate), rate * s1 + (1 - rate))
    v_a, v_b = (of[:, :v].reshape(n_networks, n_heads, v // n_heads, n) for of in (of_a, of_b))
    z = (v_a * w0[:, :, None]).addcmul_(v_b, w1[:, :, None]).view(n_networks, v, n)
    h = torch.baddbmm(at.inner_constant[:, :, None], at.inner.mT, z)
    y = h.relu_() if model.activation == "relu" else activate(model.activation, h)
    logits = torch.baddbmm(at.direct_constant[:, :, None], at.outer.mT, y).baddbmm_(at.direct.mT, z)
    return _Forward((v_a, v_b), (s0, s1), (w0, w1), z, h, y, logits)


def _unfold(stacked: Weights, model: ModelConfig, at: _Folded, d: _Gradient) -> Weights:
    """The gradients with respect to the weights, from those with respect to their products."""
    W_Q, W_K, W_O, W_in, W_out, b_out, W_U = (stacked[NAMES[place]] for place in (2, 3, 5, 6, 8, 9, 10))
    d_a, d_b, d_A, d_C, d_B, d_b_in, d_c = d
    (n_networks, n_heads, d_model, e), total = W_Q.shape, _attention_sum(model)
    v = n_heads * e
    W_O = W_O.reshape(n_networks, v, d_model)
    d_b_out = _column(W_U, d_c)
    d_r = _column(W_in, d_b_in) + d_b_out
    d_at_equals = -(d_a.sum(2) + d_b.sum(2))
    d_at_equals[:, :v] += total * _column(W_O, d_r)
    d_read = torch.bmm(d_a, at.x0).baddbmm_(d_b, at.x1) + _outer(d_at_equals, at.x2)
    d_V, d_keys = d_read[:, :v], d_read[:, v:]
    d_query = (d_keys[:, :, None] @ W_K)[:, :, 0] / math.sqrt(e)
    d_x0, d_x1 = torch.bmm(d_a.mT, at.read), torch.bmm(d_b.mT, at.read)
    d_x2 = d_r + _row(d_at_equals, at.read) + (W_Q @ d_query[..., None])[..., 0].sum(1)
    d_O = torch.bmm(d_A, W_in.mT).baddbmm_(d_C, W_U.mT) + total * _outer(at.values_at_equals, d_r)
    gradients = (
        torch.cat([d_x0 + d_x1, d_x2[:, None]] if model.vocabularies == "one" else [d_x0, d_x1, d_x2[:, None]], dim=1),
        torch.stack([d_x0.sum(1), d_x1.sum(1), d_x2], 1),
        at.x2[:, None, :, None] * d_query[:, :, None],
        d_keys[..., None] * at.query[:, :, None],
        d_V.reshape(n_networks, n_heads, e, d_model).mT.contiguous(),
        d_O.view(n_networks, n_heads, e, d_model),
        torch.bmm(W_O.mT, d_A) + _outer(at.constant, d_b_in),
        d_b_in,
        torch.bmm(d_B, W_U.mT),
        d_b_out,
        torch.bmm(W_out.mT, d_B).baddbmm_(W_O.mT, d_C) + _outer(at.constant + b_out, d_c),
    )
    return dict(zip(NAMES, gradients, strict=True))


def _attention_sum(model: ModelConfig) -> float:
    return 3 - 2 * model.attention_rate


def _row(vectors: Float[Tensor, "S x"], matrices: Float[Tensor, "S x y"]) -> Float[Tensor, "S y"]:
    return torch.bmm(vectors[:, None], matrices)[:, 0]


def _column(matrices: Float[Tensor, "S x y"], vectors: Float[Tensor, "S y"]) -> Float[Tensor, "S x"]:
    return torch.bmm(matrices, vectors[:, :, None])[:, :, 0]


def _outer(left: Float[Tensor, "S x"], right: Float[Tensor, "S y"]) -> Float[Tensor, "S x y"]:
    return left[:, :, None] * right[:, None]
