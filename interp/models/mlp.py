"""The MLP: with one hidden layer the smallest network that adds, and with several a plain deep one.

With the vectors v(a) and v(b) of the two residues, one-hot or rows of W_E, and L hidden layers (`n_layers`),

    y_0 = act((v(a) + v(b)) W_in)   or   act([v(a), v(b)] W_in),
    y_l = act(y_{l−1} W_l)   for l = 1 … L−1,
    logits = y_{L−1} W_out   or   y_{L−1} W_out W_U   or   y_{L−1} W_out W_Eᵀ

and, where the model has `biases`, one after every matrix: b_in after W_in, b_l after W_l, b_out after W_out, and b_U
after the unembedding. Its neurons are those of the last hidden layer, which answer; W_in of `matrices` is what they
read by, the last W_l, and mlp.W_in only where there is one layer.

One-hot inputs side by side: Gromov 2023, arXiv:2301.02679, and Morwani et al. 2023, arXiv:2311.07568; a sum with a tied
embedding: Pearce et al. 2023, "Do machine learning models memorize or generalize?"
(pair.withgoogle.com/explorables/grokking). Examples that are vectors, and no pairs of tokens, enter as they are:
without embedding the sum of two one-hot vectors is such a vector too.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.experiment import ModelConfig
from interp.models.activations import activate
from interp.models.values import Activations, Drop, Matrices, Sizes, Weights, keep


def linear_maps(model: ModelConfig) -> tuple[tuple[str, str], ...]:
    """The names of every matrix, and of the bias after it where the model has `biases`, in the order of their use. A
    tied unembedding is W_Eᵀ.

    >>> linear_maps(ModelConfig(family="mlp", n_layers=2))
    (('mlp.W_in', 'mlp.b_in'), ('mlp.W_1', 'mlp.b_1'), ('mlp.W_out', 'mlp.b_out'))
    """
    unembedding = {"none": (), "untied": (("unembed.W_U", "unembed.b_U"),), "tied": (("embed.W_E", "unembed.b_U"),)}
    return (*hidden_maps(model), ("mlp.W_out", "mlp.b_out"), *unembedding[model.embedding])


def hidden_maps(model: ModelConfig) -> tuple[tuple[str, str], ...]:
    """Those of `linear_maps` that a nonlinearity comes after, one for each hidden layer."""
    return ("mlp.W_in", "mlp.b_in"), *((f"mlp.W_{layer}", f"mlp.b_{layer}") for layer in range(1, model.n_layers))


def shapes(model: ModelConfig, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Every weight and its shape."""
    features, said = sizes if model.embedding == "none" else (model.d_model, model.d_model)
    named: dict[str, tuple[int, ...]] = {} if model.embedding == "none" else {"embed.W_E": (sizes.inputs, features)}
    named["mlp.W_in"] = (features if model.inputs == "sum" else 2 * features, model.d_mlp)
    named |= {name: (model.d_mlp, model.d_mlp) for name, _ in hidden_maps(model)[1:]}
    named["mlp.W_out"] = (model.d_mlp, said)
    named |= {"unembed.W_U": (said, sizes.classes)} if model.embedding == "untied" else {}
    if model.biases:
        named |= {name: (model.d_mlp,) for _, name in hidden_maps(model)}
        named["mlp.b_out"] = (said,)
        named |= {"unembed.b_U": (sizes.classes,)} if model.embedding != "none" else {}
    return named


def inverse_variance(name: str, shape: tuple[int, ...], model: ModelConfig, sizes: Sizes) -> int:
    """1/variance of the initial values: the rows of a matrix, and d_model for the embedding, so that every value has a
    variance of order one."""
    return model.d_model if name == "embed.W_E" else shape[0]


def neuron_axes(model: ModelConfig) -> dict[str, int]:
    """The tensors that have an axis of the last hidden layer's neurons, and which axis it is."""
    W_in, b_in = hidden_maps(model)[-1]
    return {W_in: 1, b_in: 0, "mlp.W_out": 0}


def matrices(weights: Weights, model: ModelConfig) -> Matrices:
    """W_E is one-hot where there is no embedding; W_in is what the last hidden layer reads by; W_U is W_Eᵀ where it is
    tied."""
    W_in, W_out = weights[hidden_maps(model)[-1][0]], weights["mlp.W_out"]
    if model.embedding == "none":
        return Matrices(torch.eye(W_out.shape[1], dtype=W_out.dtype, device=W_out.device), W_in, W_out, None)
    W_E = weights["embed.W_E"]
    return Matrices(W_E, W_in, W_out, W_E.T if model.embedding == "tied" else weights["unembed.W_U"])


def unembedding(weights: Weights, model: ModelConfig) -> Tensor:
    """The last matrix before the logits."""
    return matrices(weights, model).last


def embed(
    weights: Weights,
    model: ModelConfig,
    inputs: Int[Tensor, "n 2"] | Float[Tensor, "n features"],
    vectors: Float[Tensor, "residues features"] | None,
) -> Float[Tensor, "n positions features"]:
    """The vectors of both residues of every pair; examples that are vectors as they are, at one position."""
    if inputs.is_floating_point():
        return inputs[:, None]
    return (matrices(weights, model).W_E if vectors is None else vectors)[inputs]


def transform(
    weights: Weights, model: ModelConfig, x: Float[Tensor, "n positions features"], drop: Drop = keep
) -> Activations:
    """From any vectors to the logits."""
    read = x.sum(1) if model.inputs == "sum" else x.flatten(1)
    return _from_first(weights, model, (read, read @ weights["mlp.W_in"]), x.shape[1], drop)


def picks_rows(model: ModelConfig, inputs: Tensor) -> bool:
    """Whether the logits are computed by `logits_by_rows`. With one hidden layer they are not: that would change the
    last bits of runs that there were before."""
    return model.embedding == "none" and model.n_layers > 1 and not inputs.is_floating_point()


def logits_by_rows(
    weights: Weights, model: ModelConfig, pairs: Int[Tensor, "n 2"], drop: Drop = keep
) -> Float[Tensor, "n classes"]:
    """The logits of one-hot pairs, whose product with W_in is the sum of two of its rows: with p = 113 and two hidden
    layers of 200 loss and gradient take 0.72 of the time. Autograd can differentiate them."""
    W_in, (a, b) = weights["mlp.W_in"], pairs.unbind(1)
    first_row_of_b = len(W_in) // 2 if model.inputs == "concatenated" else 0
    h = W_in.index_select(0, a) + W_in.index_select(0, b + first_row_of_b)
    return _from_first(weights, model, (h, h), 2, drop).logits


def _from_first(
    weights: Weights, model: ModelConfig, first: tuple[Tensor, Tensor], positions: int, drop: Drop
) -> Activations:
    """From what the first hidden layer reads [n, inputs] and its product with W_in [n, d_mlp]."""
    read, h = first
    (_, b), *others = hidden_maps(model)
    neurons = drop(activate(model.activation, h + weights[b] if model.biases else h))
    for W, b in others:
        read, h = neurons, neurons @ weights[W]
        neurons = drop(activate(model.activation, h + weights[b] if model.biases else h))
    said, W_U = neurons @ weights["mlp.W_out"], matrices(weights, model).W_U
    said = said + weights["mlp.b_out"] if model.biases else said
    no_heads = h.new_zeros(len(h), 0, positions)
    if W_U is None:
        return Activations(said, neurons, no_heads, read, neurons)
    logits = said @ W_U + weights["unembed.b_U"] if model.biases else said @ W_U
    return Activations(logits, neurons, no_heads, read, said)


def residual_post(
    weights: Weights, model: ModelConfig, mid: Float[Tensor, "... inputs"], neurons: Float[Tensor, "... d_mlp"]
) -> Float[Tensor, "... features"]:
    """act(h) W_out, with its bias, or without embedding act(h) itself."""
    if model.embedding == "none":
        return neurons
    said = neurons @ weights["mlp.W_out"]
    return said + weights["mlp.b_out"] if model.biases else said


def answer_scale(
    weights: Weights, model: ModelConfig, mid: Float[Tensor, "... inputs"], neurons: Float[Tensor, "... d_mlp"]
) -> Float[Tensor, "..."]:
    """1: no norm stands before its answers."""
    return torch.ones_like(neurons[..., 0])
