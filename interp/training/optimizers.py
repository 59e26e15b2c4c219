"""The optimizers, by name. To add one: a rule in RULES, the names of what it remembers in BUFFERS, its own name in
`Optimizer` (interp.experiment.training), and what it needs in TrainingConfig.

The rules are the functions behind torch's optimizer classes, in their fused form: each update is one pass over memory.
An object of the classes themselves would import torch._dynamo, which takes nearly as long as torch.
"""

from collections.abc import Callable, Mapping, Sequence
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
    named tensors. `configs` is one configuration, or one for each network, with numbers of its own.

    >>> weights, gradient = {"layer": torch.tensor([1.0])}, {"layer": torch.tensor([0.5])}
    >>> updater = WeightUpdater([weights], TrainingConfig(optimizer="sgd", lr=0.25, weight_decay=0, warmup=0))
    >>> updater.update(0, [gradient])
    >>> weights["layer"].item(), list(updater.state())  # 1 − 0.25 · 0.5
    (0.875, ['layer|momentum_buffer'])
    """

    def __init__(self, weights: Sequence[Weights], configs: TrainingConfig | Sequence[TrainingConfig]) -> None:
        self._weights = weights
        self._configs = [configs] * len(weights) if isinstance(configs, TrainingConfig) else configs
        self._memories = [Memory() for _ in weights]

    def update(self, step: int, gradients: Sequence[Weights]) -> None:
        """Update number `step` (from 0), with learning rate lr·min((step+1)/warmup, 1)."""
        for own, gradient, config, memory in zip(self._weights, gradients, self._configs, self._memories, strict=True):
            # Fused updates read memory in order, whatever the strides say.
            ordered = [gradient[name].contiguous() for name in own]
            RULES[config.optimizer](list(own.values()), ordered, memory, config.learning_rate(step), config)

    def state(self, place: int = 0) -> dict[str, Tensor]:
        """A copy of everything the optimizer remembers of one network, as "<weight>|<buffer>" → tensor; empty before
        the first update."""
        return {
            f"{name}|{key}": buffers[index].to("cpu", copy=True)
            for index, name in enumerate(self._weights[place])
            for key, buffers in self._memories[place].items()
        }

    def restore(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Continue from what `state` gave of every network. Raises InputError for a state of other weights, or of a
        part of them."""
        for weights, state, config, memory in zip(self._weights, states, self._configs, self._memories, strict=True):
            check_state(state, {name: weight.shape for name, weight in weights.items()}, config.optimizer)
            for name, weight in weights.items() if state else ():
                for key in BUFFERS[config.optimizer]:
                    memory.setdefault(key, []).append(state[f"{name}|{key}"].to(weight.device, copy=True))


def check_state(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], optimizer: str) -> None:
    """Raises InputError unless a state, where there is one, is that of an optimizer of weights of these shapes.

    >>> check_state({}, {"layer": (1,)}, "adamw")
    >>> check_state({"layer|exp_avg": torch.zeros(2)}, {"layer": (1,)}, "adamw")
    Traceback (most recent call last):
        ...
    interp.errors.InputError: the optimizer state 'layer|exp_avg' [2] does not belong to these weights
    """
    expected = {f"{name}|{key}": name for key in BUFFERS[optimizer] for name in shapes}
    for full_name, value in state.items():
        name = expected.get(full_name)
        if name is None or (value.ndim > 0 and value.shape != shapes[name]):
            raise InputError(f"the optimizer state {full_name!r} {list(value.shape)} does not belong to these weights")
    if missing := sorted(expected.keys() - state.keys()) if state else []:
        raise InputError(f"the optimizer state has no {missing[0]!r}")
