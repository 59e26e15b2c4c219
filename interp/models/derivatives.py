"""The derivatives of the logits with respect to the weights: along directions, and of what is linear in the logits.

Forward mode: with weights w and a direction v of the same shapes,

    ∂L[v] = d/dε L(w + ε v) at ε = 0,

for several directions beside one forward pass. The factored network (`interp.models.factored_gradient`) carries a
direction first to the products of its weights and then through each example,

    ∂z = Σ_i ∂a_i v_i + a_i ∂v_i,   ∂h = ∂inner [z, 1] + inner [∂z, 0],   ∂y = act′(h) ∂h,
    ∂L = ∂direct [z, 1] + direct [∂z, 0] + ∂B y + B ∂y,

at about twice the work of a forward pass for a direction; every other network is differentiated by
torch.autograd.functional. Reverse mode: the gradient of Σ A·L for fixed A [n, classes].
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.functional import jvp

from interp.experiment import ModelConfig
from interp.models import factored_gradient
from interp.models.activations import backward
from interp.models.factored_gradient import PART, Products
from interp.models.forward import embed, is_factored, transform
from interp.models.values import Weights


@torch.no_grad()
def logits_and_derivatives(
    weights: Weights, model: ModelConfig, inputs: Int[Tensor, "n 2"], directions: Sequence[Weights]
) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "directions n classes"]]:
    """The logits, and their derivative along each direction, in the type of the weights.

    >>> from interp.models import initial_weights
    >>> model = ModelConfig(family="mlp", d_mlp=8)  # no biases: twice the weights, four times the logits
    >>> weights, pairs = initial_weights(model, 7), torch.tensor([[2, 3], [0, 6]])
    >>> logits, (along,) = logits_and_derivatives(weights, model, pairs, [weights])
    >>> bool(torch.allclose(along, 2 * logits))
    True
    """
    if not is_factored(model):
        return _by_torch(weights, model, inputs, directions)
    products = factored_gradient.fold(weights, model).products
    changes = [
        Products(*_along(lambda w: factored_gradient.fold(w, model).products, weights, each)) for each in directions
    ]
    # Half a part: several directions want room in the cache beside the neurons.
    parts = [_part(products, changes, model, *some.T) for some in inputs.split(PART // 2)]
    return torch.cat([logits.T for logits, _ in parts]), torch.cat([along.transpose(1, 2) for _, along in parts], dim=1)


def _part(
    products: Products, changes: Sequence[Products], model: ModelConfig, a: Int[Tensor, " n"], b: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "classes n"], Float[Tensor, "directions classes n"]]:
    at = factored_gradient.forward(products, model, a, b)
    v = len(products.inner) - 1
    z_shape = (model.n_heads, v // model.n_heads, len(a))
    along = at.logits.new_empty(len(changes), *at.logits.shape)
    for change, out in zip(changes, along, strict=True):
        of_a, of_b = change.table_a.index_select(1, a), change.table_b.index_select(1, b)
        d_scores = torch.stack([of_a[v:], of_b[v:]])
        d_attention = at.softmax * (d_scores - (at.softmax * d_scores).sum(0)) * model.attention_rate
        d_z = (d_attention[0, :, None] * at.values[0]).addcmul_(d_attention[1, :, None], at.values[1])
        d_z.addcmul_(at.attention[0, :, None], of_a[:v].view(z_shape))
        d_z = d_z.addcmul_(at.attention[1, :, None], of_b[:v].view(z_shape)).view(v, len(a))
        d_h = (change.inner.T @ at.heads).addmm_(products.inner[:v].T, d_z)
        d_y = backward(model.activation, at.preactivation, at.neurons, d_h, out=d_h)
        torch.mm(change.outer.T, at.neurons, out=out)
        out.addmm_(products.outer.T, d_y).addmm_(change.direct.T, at.heads).addmm_(products.direct[:v].T, d_z)
    return at.logits, along


def _by_torch(
    weights: Weights, model: ModelConfig, inputs: Int[Tensor, "n 2"], directions: Sequence[Weights]
) -> tuple[Tensor, Tensor]:
    parts = []
    for some in inputs.split(PART):

        def logits(w: Weights, some: Tensor = some) -> tuple[Tensor]:
            return (transform(w, model, embed(w, model, some)).logits,)

        along = [_along(logits, weights, direction)[0] for direction in directions]
        (of_weights,) = logits(weights)
        parts.append((of_weights, torch.stack(along) if along else of_weights.new_empty(0, *of_weights.shape)))
    return torch.cat([logits for logits, _ in parts]), torch.cat([along for _, along in parts], dim=1)


def _along(
    function: Callable[[Weights], tuple[Tensor, ...]], weights: Weights, direction: Weights
) -> tuple[Tensor, ...]:
    """The derivative along a direction, by two passes of reverse mode: forward mode of torch keeps its level for the
    whole process, and would not bear a second thread."""

    def of_values(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(function(dict(zip(weights, values, strict=True))))

    return jvp(of_values, tuple(weights.values()), tuple(direction[name] for name in weights))[1]


def gradient(
    weights: Weights, model: ModelConfig, inputs: Int[Tensor, "n 2"], d_logits: Float[Tensor, "n classes"]
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
