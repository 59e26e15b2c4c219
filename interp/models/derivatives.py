"""The derivatives of the logits with respect to the weights: along directions, and of what is linear in the logits.

Forward mode: with weights w and a direction v of the same shapes,

    ∂L[v] = d/dε L(w + ε v) at ε = 0,

for several directions beside one forward pass. The factored network (`interp.models.factored_gradient`) carries a
direction first to the products of its weights and then through each example,

    ∂z = Σ_i ∂a_i v_i + a_i ∂v_i,   ∂h = ∂inner [z, 1] + inner [∂z, 0],   ∂y = act′(h) ∂h,
    ∂L = ∂direct [z, 1] + direct [∂z, 0] + ∂B y + B ∂y;

every other network is differentiated by torch.autograd.functional. Reverse mode: the gradient of Σ A·L for fixed A
[n, classes].

Whoever asks for sums of logits over groups of examples is served faster by both: ∂L is linear in [z, 1], ∂z, y and ∂y,
so that these are added up before the last products, and A is one row for all examples of a group.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.functional import jvp

from interp.experiment import ModelConfig
from interp.models import factored_gradient
from interp.models.activations import backward
from interp.models.factored_gradient import PART, Forward, Products
from interp.models.forward import embed, transform
from interp.models.values import Weights
from interp.models.ways import is_factored


@torch.no_grad()
def logits_and_derivatives(
    weights: Weights,
    model: ModelConfig,
    inputs: Int[Tensor, "n 2"],
    directions: Sequence[Weights],
    *,
    group: Int[Tensor, " n"] | None = None,
    n_groups: int | None = None,
) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "directions groups classes"]]:
    """The logits, and their derivative along each direction, in the type of the weights; with the `group` of every
    example, 0 … n_groups − 1, the sums of the derivatives over the examples of each group.

    >>> from interp.models import initial_weights
    >>> model = ModelConfig(family="mlp", d_mlp=8)  # no biases: twice the weights, four times the logits
    >>> weights, pairs = initial_weights(model, 7), torch.tensor([[2, 3], [0, 6]])
    >>> logits, (along,) = logits_and_derivatives(weights, model, pairs, [weights])
    >>> bool(torch.allclose(along, 2 * logits))
    True
    >>> _, (sums,) = logits_and_derivatives(weights, model, pairs, [weights], group=torch.tensor([1, 1]), n_groups=2)
    >>> bool(torch.allclose(sums, torch.stack([0 * along[0], along.sum(0)])))
    True
    """
    if group is None:
        group = torch.arange(len(inputs))
    n_groups = len(inputs) if n_groups is None else n_groups
    if not is_factored(model):
        return _by_torch(weights, model, inputs, directions, group=group, n_groups=n_groups)
    products = factored_gradient.fold(weights, model).products
    changes = [
        Products(*_along(lambda w: factored_gradient.fold(w, model).products, weights, each)) for each in directions
    ]
    v, several = len(products.inner) - 1, (len(changes), n_groups)
    sum_z, sum_y = (like.new_zeros(n_groups, len(like)) for like in (products.inner, products.outer))
    sum_dz, sum_dy = (like.new_zeros(*several, size) for like, size in ((sum_z, v), (sum_y, sum_y.shape[1])))
    logits = []
    # Half a part: several directions want room in the cache beside the neurons.
    for some, into in zip(inputs.split(PART // 2), group.split(PART // 2), strict=True):
        at = factored_gradient.forward(products, model, *some.T)
        logits.append(at.logits.T)
        rows = _Rows(at)
        sum_z.index_add_(0, into, rows.heads)
        sum_y.index_add_(0, into, rows.neurons)
        for change, of_z, of_y in zip(changes, sum_dz, sum_dy, strict=True):
            d_z = _heads_along(change, model, at)
            d_h = torch.mm(at.heads.T, change.inner).addmm_(d_z, products.inner[:v])
            of_z.index_add_(0, into, d_z)
            of_y.index_add_(0, into, backward(model.activation, rows.preactivation, rows.neurons, d_h, out=d_h))
    along = sum_z.new_empty(*several, products.outer.shape[1])
    for change, of_z, of_y, out in zip(changes, sum_dz, sum_dy, along, strict=True):
        torch.mm(of_y, products.outer, out=out).addmm_(of_z, products.direct[:v])
        out.addmm_(sum_y, change.outer).addmm_(sum_z, change.direct)
    return torch.cat(logits), along


@torch.no_grad()
def gradients_of_sums(
    weights: Weights,
    model: ModelConfig,
    inputs: Int[Tensor, "n 2"],
    group: Int[Tensor, " n"],
    d_sums: Float[Tensor, "several groups classes"],
) -> list[Weights]:
    """The gradient of each of several Σ d_sums·S with respect to the weights, S [groups, classes] the sums of the
    logits over the examples of each group.

    >>> from interp.models import initial_weights
    >>> weights, pairs = initial_weights(model := ModelConfig(d_model=8, d_mlp=4), 7), torch.tensor([[2, 3], [0, 6]])
    >>> A = torch.ones(1, 1, 7)
    >>> (of_A,) = gradients_of_sums(weights, model, pairs, torch.tensor([0, 0]), A)
    >>> expected = gradient(weights, model, pairs, torch.ones(2, 7))
    >>> all(torch.allclose(of_A[name], expected[name], atol=1e-6) for name in weights)
    True
    """
    if not is_factored(model):
        return [gradient(weights, model, inputs, each[group]) for each in d_sums]
    folded = factored_gradient.fold(weights, model)
    products, v = folded.products, len(folded.products.inner) - 1
    of_neurons, of_heads = d_sums @ products.outer.T, d_sums @ products.direct[:v].T  # one row for every group
    total, n_groups = [Products(*map(torch.zeros_like, products)) for _ in d_sums], d_sums.shape[1]
    sum_z, sum_y = (
        products.inner.new_zeros(n_groups, v + 1),
        products.inner.new_zeros(n_groups, products.inner.shape[1]),
    )
    for some, into in zip(inputs.split(PART // 2), group.split(PART // 2), strict=True):
        at = factored_gradient.forward(products, model, *some.T)
        rows = _Rows(at)
        sum_z.index_add_(0, into, rows.heads)
        sum_y.index_add_(0, into, rows.neurons)
        for out, d_neurons, d_heads in zip(total, of_neurons, of_heads, strict=True):
            d_y = d_neurons.index_select(0, into)
            d_h = backward(model.activation, rows.preactivation, rows.neurons, d_y, out=d_y)
            out.inner.addmm_(at.heads, d_h)
            d_z = d_heads.index_select(0, into).addmm_(d_h, products.inner[:v].T)
            factored_gradient.add_tables(out, model, at, d_z.T.contiguous())
    for out, each in zip(total, d_sums, strict=True):
        torch.mm(sum_y.T, each, out=out.outer)
        torch.mm(sum_z.T, each, out=out.direct)
    return [factored_gradient.unfold(weights, model, folded, out) for out in total]


class _Rows:
    """A forward pass with the examples first: to add up rows is fast, to add up columns is not."""

    def __init__(self, at: Forward) -> None:
        self.heads, self.neurons = at.heads.T.contiguous(), at.neurons.T.contiguous()
        is_relu = at.preactivation.data_ptr() == at.neurons.data_ptr()
        self.preactivation = self.neurons if is_relu else at.preactivation.T.contiguous()


def _heads_along(change: Products, model: ModelConfig, at: Forward) -> Float[Tensor, "n v"]:
    """∂z."""
    v, shape = len(at.heads) - 1, at.values[0].shape
    of_a, of_b = change.table_a.index_select(1, at.a), change.table_b.index_select(1, at.b)
    d_scores = torch.stack([of_a[v:], of_b[v:]])
    d_attention = at.softmax * (d_scores - (at.softmax * d_scores).sum(0)) * model.attention_rate
    d_z = (d_attention[0, :, None] * at.values[0]).addcmul_(d_attention[1, :, None], at.values[1])
    d_z.addcmul_(at.attention[0, :, None], of_a[:v].view(shape))
    return d_z.addcmul_(at.attention[1, :, None], of_b[:v].view(shape)).view(v, -1).T.contiguous()


def _by_torch(
    weights: Weights,
    model: ModelConfig,
    inputs: Int[Tensor, "n 2"],
    directions: Sequence[Weights],
    *,
    group: Int[Tensor, " n"],
    n_groups: int,
) -> tuple[Tensor, Tensor]:
    answers, sums = [], None
    for some, into in zip(inputs.split(PART), group.split(PART), strict=True):

        def logits(w: Weights, some: Tensor = some) -> tuple[Tensor]:
            return (transform(w, model, embed(w, model, some)).logits,)

        (of_weights,) = logits(weights)
        answers.append(of_weights)
        if sums is None:
            sums = of_weights.new_zeros(len(directions), n_groups, of_weights.shape[1])
        for out, direction in zip(sums, directions, strict=True):
            out.index_add_(0, into, _along(logits, weights, direction)[0])
    assert sums is not None
    return torch.cat(answers), sums


def _along(
    function: Callable[[Weights], tuple[Tensor, ...]], weights: Weights, direction: Weights
) -> tuple[Tensor, ...]:
    """The derivative along a direction, by two passes of reverse mode: forward mode of torch keeps its level for the
    whole process, and would not bear a second thread."""

    def of_values(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(function(dict(zip(weights, values, strict=True))))

    return jvp(of_values, tuple(weights.values()), tuple(direction[name] for name in weights))[1]


def gradient(
    weights: Weights, model: ModelConfig, inputs: Int[Tensor, "n tokens"], d_logits: Float[Tensor, "n classes"]
) -> Weights:
    """The gradient of Σ d_logits·logits with respect to the weights.

    >>> from interp.models import initial_weights
    >>> weights, pairs = initial_weights(model := ModelConfig(d_model=8, d_mlp=4), 7), torch.tensor([[2, 3], [0, 6]])
    >>> A = torch.ones(2, 7)
    >>> of_A = gradient(weights, model, pairs, A)
    >>> logits, (along,) = logits_and_derivatives(weights, model, pairs, [weights])
    >>> by_weights = sum((of_A[name] * weight).sum() for name, weight in weights.items())
    >>> bool(torch.isclose(by_weights, (A * along).sum(), atol=1e-5))
    True
    """
    if is_factored(model):
        return factored_gradient.gradient(weights, model, inputs, d_logits)
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    with torch.enable_grad():
        outputs = transform(leaves, model, embed(leaves, model, inputs)).logits
    gradients = torch.autograd.grad(outputs, list(leaves.values()), d_logits)
    return dict(zip(leaves, gradients, strict=True))
