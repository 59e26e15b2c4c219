"""The optimizers, by name. To add one: a line in OPTIMIZERS, its name in `experiment.Optimizer`, and what it needs in TrainingConfig."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import TrainingConfig
from interp.weights import Weights

# lr is a tensor-free float that `learning_rate` sets before every update; fused=True does each update in one pass over memory.
OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], TrainingConfig], torch.optim.Optimizer]] = {
    "adamw": lambda weights, c: torch.optim.AdamW(weights, c.lr, c.betas, c.eps, c.weight_decay, fused=True),
    "adam": lambda weights, c: torch.optim.Adam(weights, c.lr, c.betas, c.eps, c.weight_decay, fused=True),
    "sgd": lambda weights, c: torch.optim.SGD(weights, c.lr, c.momentum, weight_decay=c.weight_decay, fused=True),
}


class WeightUpdater:
    """Applies one optimizer to a set of named weights, in place, and gives and takes its state as named tensors."""

    def __init__(self, weights: Weights, config: TrainingConfig) -> None:
        self._weights, self._config = weights, config
        self._optimizer = OPTIMIZERS[config.optimizer](weights.values(), config)

    def update(self, step: int, gradient: Weights) -> None:
        """Update number `step` (from 0), with learning rate lr·min((step+1)/warmup, 1)."""
        warmup = self._config.warmup
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.lr * min((step + 1) / warmup, 1) if warmup else self._config.lr
        for name, weight in self._weights.items():
            weight.grad = gradient[name].contiguous()  # fused updates read memory in order, whatever the strides say
        self._optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """A copy of everything the optimizer remembers, as "<weight>|<buffer>" → tensor; empty before the first update."""
        remembered = {}
        for name, weight in self._weights.items():
            for key, value in self._optimizer.state[weight].items():
                if isinstance(value, Tensor):
                    remembered[f"{name}|{key}"] = value.detach().to("cpu", copy=True)
        return remembered

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` gave. Raises InputError for a state of other weights."""
        for full_name, value in state.items():
            name, _, key = full_name.partition("|")
            weight = self._weights.get(name)
            if weight is None or (value.ndim > 0 and value.shape != weight.shape):
                raise InputError(f"the optimizer state {full_name!r} {list(value.shape)} does not belong to these weights")
            self._optimizer.state[weight][key] = value.to(weight.device, copy=True)
