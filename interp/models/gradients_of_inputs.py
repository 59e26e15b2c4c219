"""The gradient of single logits with respect to the residual stream at the two inputs, for many pairs and classes.

Of any network by autograd; of the plain transformer with one layer, on `ab` or `ab=`, written out, several times
faster, because it reads what the forward pass over all pairs left behind, and what is the same for all rows is computed
once. With x₂ the residual stream between attention and MLP, z the heads,

    ∂x₂ = W_U[:, c] + W_in ∂h,   ∂z = W_O ∂x₂,

and at `=`, where no input needs ∂x₂ itself, ∂z = (W_O W_U)[:, c] + (W_O W_in) ∂h.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.experiment import ModelConfig
from interp.models import activations as activation_functions
from interp.models.forward import embed, transform
from interp.models.values import Activations, Weights

Gradients = Callable[[Int[Tensor, " rows"], Int[Tensor, "rows p"]], Float[Tensor, "pairs 2 features"]]


def input_gradients(weights: Weights, model: ModelConfig, activations: Activations) -> Gradients:
    """What gives ∂logit_c/∂x₀ and ∂logit_c/∂x₁, x₀ and x₁ the residual stream at the two inputs before the first layer
    (of an MLP their vectors), for the pairs (a, b) of some rows a with all b, and a class c for each. `activations` are
    those of the forward pass over all pairs, [p, p, …].

    >>> import interp
    >>> checkpoint = interp.open_run(interp.reference_path()).last
    >>> gradients = input_gradients(checkpoint.weights, checkpoint.model, checkpoint.activations)
    >>> gradients(torch.tensor([3, 7]), torch.zeros(2, 43, dtype=torch.int64)).shape  # rows of 43 pairs, d_model 32
    torch.Size([86, 2, 32])
    """
    if model.is_plain and model.n_layers == 1 and model.prompt in ("ab", "ab="):
        return written_out(weights, model, activations)
    return by_autograd(weights, model, activations)


def by_autograd(weights: Weights, model: ModelConfig, activations: Activations) -> Gradients:
    """Of any network.

    >>> from interp.models import forward_all, initial_weights
    >>> import interp
    >>> weights = initial_weights(model := ModelConfig(family="mlp", d_mlp=4), 7)
    >>> gradients = by_autograd(weights, model, forward_all(weights, model, interp.Task(7)))
    >>> found = gradients(torch.tensor([2]), torch.zeros(1, 7, dtype=torch.int64))
    >>> bool((found[:, 0] == found[:, 1]).all())  # of an MLP that reads a sum
    True
    """
    residues = torch.arange(len(activations.logits))
    places = list(model.inputs_at)

    def gradients(rows: Int[Tensor, " rows"], classes: Int[Tensor, "rows p"]) -> Float[Tensor, "pairs 2 features"]:
        with torch.enable_grad():
            x = embed(weights, model, torch.cartesian_prod(residues[rows], residues)).requires_grad_()
            chosen = transform(weights, model, x).logits.gather(1, classes.reshape(-1, 1))
            (gradient,) = torch.autograd.grad(chosen.sum(), x)
        return gradient[:, places]

    return gradients


def written_out(weights: Weights, model: ModelConfig, activations: Activations) -> Gradients:
    """Of a plain transformer with one layer, on `ab` or `ab=`.

    >>> import interp
    >>> checkpoint = interp.open_run(interp.reference_path()).last
    >>> one, other = (
    ...     way(checkpoint.weights, checkpoint.model, checkpoint.activations) for way in (written_out, by_autograd)
    ... )
    >>> rows, classes = torch.tensor([3, 7]), torch.arange(86).view(2, 43) % 43
    >>> bool(torch.allclose(one(rows, classes), other(rows, classes), atol=1e-4))
    True
    """
    activation, rate, p = model.activation, model.attention_rate, len(activations.logits)
    W_in, W_out, W_U = (weights[name] for name in ("blocks.0.mlp.W_in", "blocks.0.mlp.W_out", "unembed.W_U"))
    W_E, W_pos, b_in = (weights[name] for name in ("embed.W_E", "pos_embed.W_pos", "blocks.0.mlp.b_in"))
    W_Q, W_K, W_V, W_O = (weights[f"blocks.0.attn.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O"))
    W_Q, W_O, heads = W_Q / W_Q.shape[-1] ** 0.5, W_O.flatten(0, 1), W_O.shape[:2]
    outer_Q, outer_K, outer_V = (W.transpose(0, 1).flatten(1) for W in (W_Q, W_K, W_V))  # [d_model, heads·d_head]
    is_equals, b = len(W_pos) == 3, model.first_token_of_b(p)  # the last position is `=`, and no input
    by_class, by_neurons = (W_O @ W_U, W_O @ W_in) if is_equals else (W_U, W_in)
    W_L = (W_out @ W_U).T.contiguous()  # [p, d_mlp]

    def along(position: int, outer: Float[Tensor, "d_model heads_times_d_head"]) -> Float[Tensor, "heads d_head #p #p"]:
        table = (outer.T @ ((W_E[:p], W_E[b : b + p], W_E[-1:])[position] + W_pos[position]).T).view(*heads, -1)
        return table[..., None] if position == 0 else table[:, :, None]

    # A vector added to the values of all positions moves no score's gradient: less the value at `=`, only two positions
    # remain.
    values = [along(position, outer_V) - (along(2, outer_V) if is_equals else 0) for position in range(2)]
    query = along(len(W_pos) - 1, outer_Q)
    keys = [] if is_equals else [along(position, outer_K) for position in range(2)]
    asked = torch.einsum("hde,he->dh", W_K, query[:, :, 0, 0])  # `=` asks the same of every pair
    neurons, mid = activations.neurons, None if activation == "relu" else activations.residual_mid
    attention_table = activations.attention[..., :2].permute(2, 3, 0, 1).contiguous()  # [heads, 2, p, p]
    # Fresh memory for every few rows costs more than what is done in it.
    workspace = W_L.new_empty(p, W_L.shape[1])

    def gradients(rows: Int[Tensor, " rows"], classes: Int[Tensor, "rows p"]) -> Float[Tensor, "pairs 2 d_model"]:
        nonlocal workspace
        flat = classes.flatten()
        if len(workspace) < len(flat):
            workspace = W_L.new_empty(len(flat), W_L.shape[1])
        # Rows that adjoin need no copy.
        some = slice(int(rows[0]), int(rows[-1]) + 1) if (rows.diff() == 1).all() else rows
        y, d_neurons = neurons[some].flatten(0, 1), torch.index_select(W_L, 0, flat, out=workspace[: len(flat)])
        # The derivative of relu shows in its value.
        preactivation = y if mid is None else mid[some].flatten(0, 1) @ W_in + b_in
        activation_functions.backward(activation, preactivation, y, d_neurons, out=d_neurons)
        # From here on examples are the last axis: sums over heads then run along contiguous memory.
        d_mid = by_class.index_select(1, flat).addmm_(by_neurons, d_neurons.T)
        d_heads = (d_mid if is_equals else W_O @ d_mid).view(*heads, *classes.shape)
        attention = attention_table.index_select(2, rows)  # [heads, 2, rows, p]
        d_attention = torch.stack(
            [(d_heads * value).sum(1) for value in (values[0].index_select(2, rows), values[1])], dim=1
        )
        softmax_times_rate = attention - (1 - rate)
        d_scores = softmax_times_rate * d_attention
        d_scores.addcmul_(softmax_times_rate, d_scores.sum(1, keepdim=True) / (rate or 1), value=-1)
        # gradient [2·pairs, d_model]
        gradient = (d_heads[:, :, None] * attention[:, None]).flatten(0, 1).flatten(1).T @ outer_V.T
        if is_equals:
            gradient.addmm_(d_scores.flatten(2).flatten(1).T, asked.T)
        else:
            gradient.addmm_((query[:, :, None] * d_scores[:, None]).flatten(0, 1).flatten(1).T, outer_K.T)
            # The last position is an input itself: it also asks, and passes straight on.
            d_query = d_scores[:, None, 0] * keys[0].index_select(2, rows) + d_scores[:, None, 1] * keys[1]
            gradient[len(flat) :].add_(d_mid.T).addmm_(d_query.flatten(2).flatten(0, 1).T, outer_Q.T)
        return gradient.view(2, len(flat), -1).transpose(0, 1)

    return gradients
