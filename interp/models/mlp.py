"""The MLP with one hidden layer: the smallest network that adds.

With the vectors v(a) and v(b) of the two residues, one-hot or rows of W_E,

    h = (v(a) + v(b)) W_in   or   [v(a), v(b)] W_in,
    logits = act(h) W_out   or   act(h) W_out W_U   or   act(h) W_out W_Eᵀ

and, where the model has `biases`, one after every matrix: h + b_in, act(h) W_out + b_out, and (…) W_U + b_U.

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
from interp.models.values import Activations, Matrices, Sizes, Weights


def shapes(model: ModelConfig, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Every weight and its shape."""
    features, said = sizes if model.embedding == "none" else (model.d_model, model.d_model)
    named: dict[str, tuple[int, ...]] = {} if model.embedding == "none" else {"embed.W_E": (sizes.inputs, features)}
    named["mlp.W_in"] = (features if model.inputs == "sum" else 2 * features, model.d_mlp)
    named["mlp.W_out"] = (model.d_mlp, said)
    named |= {"unembed.W_U": (said, sizes.classes)} if model.embedding == "untied" else {}
    if model.biases:
        named |= {"mlp.b_in": (model.d_mlp,), "mlp.b_out": (said,)}
        named |= {"unembed.b_U": (sizes.classes,)} if model.embedding != "none" else {}
    return named


def inverse_variance(name: str, shape: tuple[int, ...], model: ModelConfig, sizes: Sizes) -> int:
    """1/variance of the initial values: the rows of a matrix, and d_model for the embedding, so that every value has a
    variance of order one."""
    return model.d_model if name == "embed.W_E" else shape[0]


def last_mlp(model: ModelConfig) -> str:
    """What the names of W_in and W_out begin with."""
    return "mlp"


def matrices(weights: Weights, model: ModelConfig) -> Matrices:
    """W_E is one-hot where there is no embedding; W_U is W_Eᵀ where it is tied."""
    W_in, W_out = weights["mlp.W_in"], weights["mlp.W_out"]
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


def transform(weights: Weights, model: ModelConfig, x: Float[Tensor, "n positions features"]) -> Activations:
    """From any vectors to the logits."""
    read = x.sum(1) if model.inputs == "sum" else x.flatten(1)
    h = read @ weights["mlp.W_in"]
    neurons = activate(model.activation, h + weights["mlp.b_in"] if model.biases else h)
    said, W_U = neurons @ weights["mlp.W_out"], matrices(weights, model).W_U
    said = said + weights["mlp.b_out"] if model.biases else said
    no_heads = x.new_zeros(len(x), 0, x.shape[1])
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
