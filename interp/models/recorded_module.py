"""A module of anybody's, as what it answered: the family that is never run here.

Its weights are the module's own parameters, under `module.` and their names, and beside them what was recorded when it
was run over all pairs (`interp.models.recording`):

    recorded.logits [p, p, p]    recorded.neurons [p, p, m]    recorded.W_E [p, d]    recorded.W_U [d, p]

A checkpoint answers from these, so that to open a run never runs anybody's code. What would need the network itself
(its matrices around the neurons, gradients, other inputs, other weights) is refused.
"""

from typing import NoReturn

from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.models.values import Activations, Drop, Matrices, Sizes, Weights, keep

OWN, RECORDED = "module.", "recorded."


def shapes(model: ModelConfig, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The module's own parameters, then what was recorded."""
    record, p = model.module, sizes.inputs
    named: dict[str, tuple[int, ...]] = {f"{OWN}{name}": shape for name, shape in record.parameters}
    named[f"{RECORDED}logits"] = (p, p, sizes.classes)
    named |= {f"{RECORDED}neurons": (p, p, record.neurons)} if record.neurons else {}
    named |= {f"{RECORDED}W_E": (p, record.embedding)} if record.embedding else {}
    return named | ({f"{RECORDED}W_U": (record.unembedding, sizes.classes)} if record.unembedding else {})


def own_weights(weights: Weights) -> Weights:
    """The weights that a network has, without what was recorded of its answers.

    >>> import torch
    >>> list(own_weights({"module.fc.weight": torch.ones(2), "recorded.logits": torch.ones(3)}))
    ['module.fc.weight']
    """
    return {name: weight for name, weight in weights.items() if not name.startswith(RECORDED)}


def answers(weights: Weights, pairs: Int[Tensor, "n 2"]) -> Activations:
    """What was recorded for some pairs; of no neurons, and of neither attention nor residual stream, 0 columns."""
    a, b = pairs.unbind(-1)
    logits = weights[f"{RECORDED}logits"][a, b]
    neurons = weights.get(f"{RECORDED}neurons")
    none = logits.new_zeros(*logits.shape[:-1], 0)
    return Activations(
        logits, none if neurons is None else neurons[a, b], none.unsqueeze(-1), residual_mid=none, residual_post=none
    )


def inverse_variance(name: str, shape: tuple[int, ...], model: ModelConfig, sizes: Sizes) -> int:
    """Raises InputError: its initial values are the module's own."""
    _refuse("initial weights")


def neuron_axes(model: ModelConfig) -> dict[str, int]:
    """Raises InputError: which tensors are around its neurons is not known."""
    _refuse("the matrices around its neurons")


def matrices(weights: Weights, model: ModelConfig) -> Matrices:
    """Raises InputError: which tensors are around its neurons is not known."""
    _refuse("the matrices around its neurons")


def unembedding(weights: Weights, model: ModelConfig) -> Tensor:
    """The columns of the residues, where they were recorded. Raises InputError where they were not."""
    if not model.module.unembedding:
        _refuse("an unembedding that was not named")
    return weights[f"{RECORDED}W_U"]


def embed(
    weights: Weights, model: ModelConfig, inputs: Tensor, vectors: Float[Tensor, "residues features"] | None
) -> Tensor:
    """Raises InputError: it cannot be run."""
    _refuse("answers to other inputs")


def transform(weights: Weights, model: ModelConfig, x: Tensor, drop: Drop = keep) -> Activations:
    """Raises InputError: it cannot be run."""
    _refuse("answers to other inputs")


def residual_post(weights: Weights, model: ModelConfig, mid: Tensor, neurons: Tensor) -> Tensor:
    """Raises InputError: it cannot be run."""
    _refuse("a residual stream")


def answer_scale(weights: Weights, model: ModelConfig, mid: Tensor, neurons: Tensor) -> Tensor:
    """Raises InputError: what its neurons say is not known."""
    _refuse("what its neurons say")


def _refuse(what: str) -> NoReturn:
    raise InputError(
        f"of a module that is not ours only its answers were recorded, and {what} would take the network itself"
    )
