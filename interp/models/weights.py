"""The names, shapes and initial values of the weights, in TransformerLens' classic names and orientation."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import ModelConfig

Weights = dict[str, Tensor]


def weight_shapes(model: ModelConfig, p: int) -> dict[str, tuple[int, ...]]:
    """Every weight of a model on Z_p and its shape. The vocabulary is 0 … p−1 (with two, p … 2p−1 for b as well), and
    last the token `=` where a transformer's prompt has it; there are p outputs, one for each residue."""
    return _mlp_shapes(model, p) if model.family == "mlp" else _transformer_shapes(model, p)


def _mlp_shapes(model: ModelConfig, p: int) -> dict[str, tuple[int, ...]]:
    features = p if model.embedding == "none" else model.d_model
    shapes: dict[str, tuple[int, ...]] = {} if model.embedding == "none" else {"embed.W_E": (p, features)}
    shapes["mlp.W_in"] = (features if model.inputs == "sum" else 2 * features, model.d_mlp)
    shapes["mlp.W_out"] = (model.d_mlp, features)
    return shapes | ({"unembed.W_U": (features, p)} if model.embedding == "untied" else {})


def _transformer_shapes(model: ModelConfig, p: int) -> dict[str, tuple[int, ...]]:
    d_vocab = model.first_token_of_b(p) + p + (model.prompt == "ab=")
    n_heads, d_head, d_model, d_mlp = model.n_heads, model.head_size, model.d_model, model.d_mlp
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (d_vocab, d_model), "pos_embed.W_pos": (model.n_ctx, d_model)}
    for layer in range(model.n_layers):
        block = f"blocks.{layer}"
        shapes |= {f"{block}.attn.{name}": (n_heads, d_model, d_head) for name in ("W_Q", "W_K", "W_V")}
        shapes[f"{block}.attn.W_O"] = (n_heads, d_head, d_model)
        shapes |= {f"{block}.mlp.W_in": (d_model, d_mlp), f"{block}.mlp.b_in": (d_mlp,)}
        shapes |= {f"{block}.mlp.W_out": (d_mlp, d_model), f"{block}.mlp.b_out": (d_model,)}
    shapes["unembed.W_U"] = (d_model, p)
    return shapes


def initial_weights(model: ModelConfig, p: int) -> Weights:
    """The weights at step 0, drawn on the CPU from `model.seed`.

    Of a transformer: every matrix normal with variance 1/d_model, W_U with variance 1/d_vocab, biases zero (Nanda et
    al. 2023, arXiv:2301.05217, and the authors' code). Of an MLP: every matrix normal with variance 1/rows, the
    embedding 1/d_model, so that every value has a variance of order one.
    """
    generator = torch.Generator().manual_seed(model.seed)
    weights = {}
    for name, shape in weight_shapes(model, p).items():
        if name.rpartition(".")[2].startswith("b_"):
            weights[name] = torch.zeros(shape)
        else:
            weights[name] = torch.randn(shape, generator=generator) / math.sqrt(
                _inverse_variance(name, shape, model, weights)
            )
    return weights


def _inverse_variance(name: str, shape: tuple[int, ...], model: ModelConfig, weights: Weights) -> int:
    if model.family == "mlp" and name != "embed.W_E":
        return shape[0]
    return weights["embed.W_E"].shape[0] if name == "unembed.W_U" else model.d_model


def check_weights(weights: Mapping[str, Tensor], model: ModelConfig, p: int, *, where: str = "weights") -> None:
    """Raises InputError, naming the tensor with the shape seen and the shape expected, unless `weights` are those of
    the model."""
    expected = weight_shapes(model, p)
    for name, shape in expected.items():
        if name not in weights:
            raise InputError(f"{where}: tensor {name!r} {list(shape)} is missing")
        if tuple(weights[name].shape) != shape:
            raise InputError(f"{where}: tensor {name!r} has shape {list(weights[name].shape)}, expected {list(shape)}")
        if not weights[name].is_floating_point():
            raise InputError(f"{where}: tensor {name!r} has type {weights[name].dtype}, expected a floating-point type")
        if weights[name].dtype != (first := weights[next(iter(expected))]).dtype:
            raise InputError(
                f"{where}: tensor {name!r} has type {weights[name].dtype}, the first has {first.dtype}; use one"
            )
    for name in weights:
        if name not in expected:
            raise InputError(
                f"{where}: unexpected tensor {name!r} {list(weights[name].shape)}; this model has {', '.join(expected)}"
            )


def are_finite(weights: Mapping[str, Tensor]) -> bool:
    """Whether no weight is NaN or infinite."""
    return all(bool(weight.isfinite().all()) for weight in weights.values())
