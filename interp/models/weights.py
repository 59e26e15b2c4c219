"""The names, shapes and initial values of the weights, in TransformerLens' classic names and orientation."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.models import mlp
from interp.models.families import FAMILIES
from interp.models.values import Sizes, Weights


def weight_shapes(model: ModelConfig, sizes: int | tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Every weight of a model and its shape; a modulus p stands for the sizes (p, p). Raises InputError for a model
    that cannot be told which of several operations is asked.

    >>> weight_shapes(ModelConfig(family="mlp", d_mlp=24), 7)
    {'mlp.W_in': (7, 24), 'mlp.W_out': (24, 7)}
    >>> weight_shapes(ModelConfig(d_model=16), 7)["embed.W_E"]  # residues 0 … 6, and the token `=`
    (8, 16)
    """
    if (of := Sizes.of(sizes)).operators > 1:
        model.check_reads_operator()
    return FAMILIES[model.family].shapes(model, of)


def is_vector(name: str, n_axes: int) -> bool:
    """Whether a weight of so many axes is a vector, or one for each head: a bias, or a gain. Anything else is a matrix,
    or one for each head.

    >>> is_vector("blocks.0.attn.b_Q", 2), is_vector("blocks.0.attn.W_Q", 3), is_vector("ln_final.w", 1)
    (True, False, True)
    """
    return n_axes == 1 or name.rpartition(".")[2].startswith("b_")


def initial_weights(model: ModelConfig, sizes: int | tuple[int, ...]) -> Weights:
    """The weights at step 0, drawn on the CPU from `model.seed`: matrices normal, biases zero, gains of norms one; and
    all of it times `model.initialization_scale`.

    Of a transformer: every matrix with variance 1/d_model, W_U with variance 1/d_vocab (Nanda et al. 2023,
    arXiv:2301.05217, and the authors' code). Of an MLP: every matrix with variance 1/rows, the embedding 1/d_model, so
    that every value has a variance of order one. With `model.initialization` "uniform", matrices and biases of an MLP
    are uniform between ±1/√rows: without embedding the very values of torch.nn.Linear layers, made in their order after
    torch.manual_seed(model.seed). Its embedding stays normal.

    >>> weights = initial_weights(ModelConfig(), 113)
    >>> round(128 * weights["embed.W_E"].var().item(), 1), weights["blocks.0.mlp.b_in"].any().item()
    (1.0, False)
    """
    generator = torch.Generator().manual_seed(model.seed)
    drawn = (_uniform if model.initialization == "uniform" else _normal)(model, sizes, generator)
    if model.initialization_scale != 1:
        return {name: model.initialization_scale * weight for name, weight in drawn.items()}
    return drawn


def _normal(model: ModelConfig, sizes: int | tuple[int, ...], generator: torch.Generator) -> Weights:
    weights = {}
    for name, shape in weight_shapes(model, sizes).items():
        last = name.rpartition(".")[2]
        if last == "b" or last.startswith("b_"):
            weights[name] = torch.zeros(shape)
        elif last == "w":
            weights[name] = torch.ones(shape)
        else:
            inverse_variance = FAMILIES[model.family].inverse_variance(name, shape, model, Sizes.of(sizes))
            weights[name] = torch.randn(shape, generator=generator) / math.sqrt(inverse_variance)
    return weights


def _uniform(model: ModelConfig, sizes: int | tuple[int, ...], generator: torch.Generator) -> Weights:
    """An MLP as torch draws it, layer by layer, each its matrix [out, in] and then its bias."""
    shapes, drawn = weight_shapes(model, sizes), {}
    if "embed.W_E" in shapes:
        drawn["embed.W_E"] = torch.randn(shapes["embed.W_E"], generator=generator) / math.sqrt(model.d_model)
    for matrix, bias in mlp.linear_maps(model):
        rows, columns = shapes[matrix] if matrix != "embed.W_E" else shapes[matrix][::-1]
        if matrix not in drawn:
            turned = torch.empty(columns, rows)
            torch.nn.init.kaiming_uniform_(turned, a=math.sqrt(5), generator=generator)
            drawn[matrix] = turned.T.contiguous()
        if bias in shapes:
            bound = 1 / math.sqrt(rows)
            drawn[bias] = torch.empty(shapes[bias]).uniform_(-bound, bound, generator=generator)
    return {name: drawn[name] for name in shapes}


def check_weights(
    weights: Mapping[str, Tensor], model: ModelConfig, sizes: int | tuple[int, ...], *, where: str = "weights"
) -> None:
    """Raises InputError, naming the tensor with the shape seen and the shape expected, unless `weights` are those of
    the model.

    >>> model = ModelConfig(d_model=8, d_mlp=4)
    >>> check_weights(initial_weights(model, 7), model, 7)
    >>> check_weights(initial_weights(model, 11), model, 7)
    Traceback (most recent call last):
        ...
    interp.errors.InputError: weights: tensor 'embed.W_E' has shape [12, 8], expected [8, 8]
    """
    expected = weight_shapes(model, sizes)
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
    """Whether no weight is NaN or infinite.

    >>> are_finite({"layer": torch.ones(2)}), are_finite({"layer": torch.tensor([1.0, torch.nan])})
    (True, False)
    """
    return all(bool(weight.isfinite().all()) for weight in weights.values())
