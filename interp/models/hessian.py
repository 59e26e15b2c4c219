"""The Hessian of a loss in the weights, as products with vectors."""

from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.experiment import ModelConfig
from interp.models.factored_gradient import differentiable_logits
from interp.models.forward import Inputs, is_factored, logits
from interp.models.values import Weights


class Hessian:
    """H = ∇²L of L = mean cross-entropy of the softmax of logits/T at labels, in all weights as one vector, float64;
    weight decay is no part of L.

    The gradient is differentiated once more along a vector, through one graph that is kept (Pearlmutter 1994,
    doi:10.1162/neco.1994.6.1.147). ReLU has no second derivative here: H is that of the linear piece in which the
    weights are, and finite differences across its edge disagree.

    >>> import interp
    >>> checkpoint = interp.open_run(interp.reference_path()).last
    >>> task = checkpoint.task
    >>> inputs, labels = (torch.from_numpy(table[task.train_indices]) for table in (task.inputs, task.labels))
    >>> found = Hessian(checkpoint.weights, checkpoint.model, inputs, labels)
    >>> found.size, f"{found.loss:.0e}", found.times(np.ones(found.size)).shape
    (15328, '7e-08', (15328,))
    """

    def __init__(
        self,
        weights: Weights,
        model: ModelConfig,
        inputs: Inputs,
        labels: Int[Tensor, " n"],
        temperature: float = 1.0,
    ) -> None:
        self._weights = {name: weight.double().requires_grad_() for name, weight in _copies(weights).items()}
        if is_factored(model):
            said = differentiable_logits(self._weights, model, inputs)
        else:
            said = logits(self._weights, model, inputs.double() if inputs.is_floating_point() else inputs)
        self._loss = torch.nn.functional.cross_entropy(said / temperature, labels)
        self.size = sum(weight.numel() for weight in self._weights.values())

    @property
    def loss(self) -> float:
        return self._loss.item()

    @cached_property
    def weights(self) -> Float[np.ndarray, " weights"]:
        """All weights as one vector."""
        return _flat(list(self._weights.values())).detach().numpy()

    @cached_property
    def _gradient(self) -> Float[Tensor, " weights"]:
        return _flat(self._derivatives(self._loss, goes_on=True))

    @property
    def gradient(self) -> Float[np.ndarray, " weights"]:
        return self._gradient.detach().numpy()

    def times(self, vector: Float[np.ndarray, " weights"]) -> Float[np.ndarray, " weights"]:
        """H times a vector."""
        along = self._gradient @ torch.from_numpy(np.ascontiguousarray(vector))
        return _flat(self._derivatives(along)).numpy()

    def _derivatives(self, of: Tensor, *, goes_on: bool = False) -> list[Tensor]:
        """Zero where a weight has no part in it; `goes_on`: to be differentiated once more."""
        leaves = list(self._weights.values())
        found = torch.autograd.grad(
            of, leaves, retain_graph=True, create_graph=goes_on, materialize_grads=True, allow_unused=True
        )
        return list(found)


def _copies(weights: Weights) -> Weights:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def _flat(tensors: list[Tensor]) -> Float[Tensor, " n"]:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
