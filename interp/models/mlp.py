"""The MLP with one hidden layer and no biases: the smallest network that adds.

With the vectors v(a) and v(b) of the two residues, one-hot or rows of W_E,

    h = (v(a) + v(b)) W_in   or   [v(a), v(b)] W_in,
    logits = act(h) W_out   or   act(h) W_out W_U   or   act(h) W_out W_Eᵀ

One-hot inputs side by side: Gromov 2023, arXiv:2301.02679, and Morwani et al. 2023, arXiv:2311.07568; a sum with a tied
embedding: Pearce et al. 2023, "Do machine learning models memorize or generalize?"
(pair.withgoogle.com/explorables/grokking).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.experiment import ModelConfig
from interp.models.activations import activate
from interp.models.weights import Weights


class Values(NamedTuple):
    """What the forward pass computed, per example."""

    logits: Float[Tensor, "n p"]
    neurons: Float[Tensor, "n d_mlp"]  # after the nonlinearity
    read: Float[Tensor, "n inputs"]  # what W_in reads
    said: Float[Tensor, "n features"]  # what the unembedding reads; the neurons themselves where there is none


def vectors(weights: Weights, model: ModelConfig) -> Float[Tensor, "p features"]:
    """v: the vector of every residue."""
    if model.embedding == "none":
        W_out = weights["mlp.W_out"]
        return torch.eye(W_out.shape[1], dtype=W_out.dtype, device=W_out.device)
    return weights["embed.W_E"]


def unembedding(weights: Weights, model: ModelConfig) -> Float[Tensor, "features p"] | None:
    """W_U, or W_Eᵀ where it is tied, or None where the neurons speak to the classes themselves."""
    return {"none": None, "untied": weights.get("unembed.W_U"), "tied": vectors(weights, model).T}[model.embedding]


def embed(weights: Weights, model: ModelConfig, pairs: Int[Tensor, "n 2"]) -> Float[Tensor, "n 2 features"]:
    """The vectors of both residues of every pair."""
    return vectors(weights, model)[pairs]


def transform(weights: Weights, model: ModelConfig, x: Float[Tensor, "n 2 features"]) -> Values:
    """From any two vectors to the logits."""
    read = x.sum(1) if model.inputs == "sum" else x.flatten(1)
    neurons = activate(model.activation, read @ weights["mlp.W_in"])
    said, W_U = neurons @ weights["mlp.W_out"], unembedding(weights, model)
    return Values(said, neurons, read, neurons) if W_U is None else Values(said @ W_U, neurons, read, said)
