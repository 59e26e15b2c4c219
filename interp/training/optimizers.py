"""The optimizers, by name. To add one: a rule in RULES, the names of what it remembers in BUFFERS, its own name in
`Optimizer` (interp.experiment.training), and what it needs in TrainingConfig.

The rules are the functions behind torch's optimizer classes, in their fused form: each update is one pass over memory.
An object of the classes themselves would import torch._dynamo, which takes nearly as long as torch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from interp.errors import InputError
from interp.experiment import TrainingConfig
from interp.models import Weights

# What an optimizer remembers, by the name of the buffer: one for every weight, in their order.
Memory = dict[str, list[Tensor]]
Rule = Callable[[list[Tensor], list[Tensor], Memory, float, TrainingConfig], None]


def _adaptive(function: Callable[..., None]) -> Rule:
    def update(
        weights: list[Tensor], gradients: list[Tensor], memory: Memory, lr: float, config: TrainingConfig
    ) -> None:
        if not memory:
            memory |= {name: [torch.zeros_like(weight) for weight in weights] for name in ("exp_avg", "exp_avg_sq")}
            memory["step"] = [torch.zeros((), device=weight.device) for weight in weights]
        (beta1, beta2), decay = config.betas, config.weight_decay
        options = {
            "lr": lr,
            "beta1": beta1,
            "beta2": beta2,
            "weight_decay": decay,
            "eps": config.eps,
            "amsgrad": False,
            "maximize": False,
        }
        function(weights, gradients, memory["exp_avg"], memory["exp_avg_sq"], [], memory["step"], fused=True, **options)

    return update


def _sgd(weights: list[Tensor], gradients: list[Tensor], memory: Memory, lr: float, config: TrainingConfig) -> None:
    buffers: list[Tensor | None] = [*memory.get("momentum_buffer", [None] * len(weights))]
    rest: dict[str, Any] = {
        "weight_decay": config.weight_decay,
        "momentum": config.momentum,
        "dampening": 0.0,
        "nesterov": False,
    }
    sgd(weights, gradients, buffers, fused=True, lr=lr, maximize=False, **rest)
    if config.momentum:
        memory["momentum_buffer"] = [buffer for buffer in buffers if buffer is not None]


RULES: dict[str, Rule] = {"adamw": _adaptive(adamw), "adam": _adaptive(adam), "sgd": _sgd}
BUFFERS = {
    "adamw": ("exp_avg", "exp_avg_sq", "step"),
    "adam": ("exp_avg", "exp_avg_sq", "step"),
    "sgd": ("momentum_buffer",),
}


class WeightUpdater:
    """Applies one optimizer to the named weights of one or several networks, in place, and gives and takes its state as
    named tensors.

    >>> weights, gradient = {"layer": torch.tensor([1.0])}, {"layer": torch.tensor([0.5])}
    >>> updater = WeightUpdater([weights], TrainingConfig(optimizer="sgd", lr=0.25, weight_decay=0, warmup=0))
    >>> updater.update(0, [gradient])
    >>> weights["layer"].item(), list(updater.state())  # 1 − 0.25 · 0.5
    (0.875, ['layer|momentum_buffer'])
    """

    def __init__(self, weights: Sequence[Weights], config: TrainingConfig) -> None:
        self._weights, self._config, self._memory = weights, config, Memory()

    def update(self, step: int, gradients: Sequence[Weights]) -> None:
        """Update number `step` (from 0), with learning rate lr·min((step+1)/warmup, 1)."""
        lr = self._config.learning_rate(step)
        # Fused updates read memory in order, whatever the strides say.
        pairs = zip(self._weights, gradients, strict=True)
        ordered = [gradient[name].contiguous() for own, gradient in pairs for name in own]
        every = [weight for own in self._weights for weight in own.values()]
        RULES[self._config.optimizer](every, ordered, self._memory, lr, self._config)

    def state(self, place: int = 0) -> dict[str, Tensor]:
        """A copy of everything the optimizer remembers of one network, as "<weight>|<buffer>" → tensor; empty before
        the first update."""
        own = self._weights[place]
        return {
            f"{name}|{key}": buffers[index].to("cpu", copy=True)
            for index, name in enumerate(own, start=place * len(own))
            for key, buffers in self._memory.items()
        }

    def restore(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Continue from what `state` gave of every network. Raises InputError for a state of other weights, or of a
        part of them."""
        for weights, state in zip(self._weights, states, strict=True):
            expected = {f"{name}|{key}": (name, key) for key in BUFFERS[self._config.optimizer] for name in weights}
            for full_name, value in state.items():
                name, _ = expected.get(full_name, (None, None))
                if name is None or (value.ndim > 0 and value.shape != weights[name].shape):
                    raise InputError(
                        f"the optimizer state {full_name!r} {list(value.shape)} does not belong to these weights"
                    )
            if missing := sorted(expected.keys() - state.keys()) if state else []:
                raise InputError(f"the optimizer state has no {missing[0]!r}")
            for full_name, (name, key) in expected.items() if state else ():
                self._memory.setdefault(key, []).append(state[full_name].to(weights[name].device, copy=True))
