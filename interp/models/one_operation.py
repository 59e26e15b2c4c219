"""A network of several operations as the network of one of them: the same answers, neurons and attention, with nothing
left of the tokens of the others.

Where one operation ∘ alone is asked, its token is always the same. A transformer keeps of the tokens of operations that
one, and is the network of a prompt with a constant in its place. An MLP, which reads v(a), v(b) and v(∘), gets a bias,

    act([v(a), v(b), v(∘)] W_in + b_in) = act([v(a), v(b)] W_ab + b),   b = b_in + v(∘) W_∘,

W_ab and W_∘ the rows of W_in that read the residues and the operation; where their vectors are added up, both are W_in.
"""

from dataclasses import replace

import torch

from interp.experiment import OPERATOR, ModelConfig
from interp.models import mlp, transformer
from interp.models.values import Sizes, Weights
from interp.models.weights import weight_shapes


def of_operation(
    weights: Weights, model: ModelConfig, place: int, sizes: int | tuple[int, ...]
) -> tuple[Weights, ModelConfig]:
    """Weights and model of the network that is asked the operation of that place alone.

    >>> from interp.models import initial_weights, logits
    >>> weights = initial_weights(model := ModelConfig(d_model=8, d_mlp=4, prompt="aob="), (7, 7, 3))
    >>> of_second, same = of_operation(weights, model, 1, (7, 7, 3))
    >>> of_second["embed.W_E"].shape, same == model  # seven residues, the operation, and `=`
    (torch.Size([9, 8]), True)
    >>> asked, pairs = torch.tensor([[2, 3, 1]]), torch.tensor([[2, 3]])
    >>> bool(torch.allclose(logits(weights, model, asked), logits(of_second, model, pairs), atol=1e-6))
    True
    """
    if model.family == "transformer":
        W_E, first = weights["embed.W_E"], transformer.first_rows(weights, model)[OPERATOR]
        rest = W_E[first + Sizes.of(sizes).operators :]
        return weights | {"embed.W_E": torch.cat([W_E[:first], W_E[first + place : first + place + 1], rest])}, model
    return _of_mlp(weights, model, place, Sizes.of(sizes))


def _of_mlp(weights: Weights, model: ModelConfig, place: int, sizes: Sizes) -> tuple[Weights, ModelConfig]:
    W_in, p, token = weights["mlp.W_in"], sizes.inputs, sizes.inputs + place
    found, with_biases = dict(weights), replace(model, biases=True)
    tokens = p + sizes.operators
    rows = tokens if model.embedding == "none" else model.d_model  # that read one of a, b and ∘
    of_pair, of_operation = (W_in, W_in) if model.inputs == "sum" else (W_in[: 2 * rows], W_in[2 * rows :])
    if model.embedding == "none":
        found["mlp.W_in"] = torch.cat([block[:p] for block in of_pair.split(rows)])
        added = of_operation[token]
    else:
        W_E = weights["embed.W_E"]
        found |= {"embed.W_E": W_E[:p], "mlp.W_in": of_pair}
        added = W_E[token] @ of_operation
    shapes = weight_shapes(with_biases, (p, sizes.classes))
    _, b_in = mlp.hidden_maps(model)[0]
    found = {name: found.get(name, W_in.new_zeros(shape)) for name, shape in shapes.items()}
    return found | {b_in: found[b_in] + added}, with_biases
