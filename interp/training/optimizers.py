"""The optimizers, by name. To add one: a rule in RULES, the names of what it remembers in BUFFERS, its own name in
`Optimizer` (interp.experiment.training), and what it needs in TrainingConfig.

The rules are the functions behind torch's optimizer classes, in their fused form where there is one: each update is
then one pass over memory. An object of the classes themselves would import torch._dynamo, which takes nearly as long as
torch. Muon is our own (`interp.training.muon`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from interp.errors import InputError
from interp.experiment import DecayFactors, TrainingConfig
from interp.machine import one_thread
from interp.models import Weights
from interp.training.muon import is_hidden, update_matrices

# What an optimizer remembers, by the name of the buffer, and there by that of the weight.
Memory = dict[str, Weights]
Rule = Callable[[Weights, Weights, Memory, float, TrainingConfig], None]


def _remembered(memory: Memory, buffer: str, weights: Weights) -> list[Tensor]:
    """A buffer of these weights, zeros at first."""
    held = memory.setdefault(buffer, {})
    return [held[name] if name in held else held.setdefault(name, torch.zeros_like(weights[name])) for name in weights]


def _adaptive(function: Callable[..., None]) -> Rule:
    def update(weights: Weights, gradients: Weights, memory: Memory, lr: float, config: TrainingConfig) -> None:
        averages, squares = (_remembered(memory, buffer, weights) for buffer in ("exp_avg", "exp_avg_sq"))
        counts = memory.setdefault("step", {})
        steps = [counts.setdefault(name, torch.zeros((), device=weight.device)) for name, weight in weights.items()]
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
        own, given = list(weights.values()), list(gradients.values())
        function(own, given, averages, squares, [], steps, fused=True, **options)

    return update


def _sgd(weights: Weights, gradients: Weights, memory: Memory, lr: float, config: TrainingConfig) -> None:
    held = memory.get("momentum_buffer", {})
    buffers: list[Tensor | None] = [held.get(name) for name in weights]
    rest: dict[str, Any] = {
        "weight_decay": config.weight_decay,
        "momentum": config.momentum,
        "dampening": 0.0,
        "nesterov": False,
    }
    sgd(list(weights.values()), list(gradients.values()), buffers, fused=True, lr=lr, maximize=False, **rest)
    if config.momentum:
        memory.setdefault("momentum_buffer", {}).update(
            {name: buffer for name, buffer in zip(weights, buffers, strict=True) if buffer is not None}
        )


def _rmsprop(weights: Weights, gradients: Weights, memory: Memory, lr: float, config: TrainingConfig) -> None:
    """v ← αv + (1 − α)g², w ← w − lr·g/(√v + ε), with wd·w added to g, and α = β₂. As v begins at 0 and nothing
    corrects it, the first step is lr/√(1 − α)·sign g."""
    squares = _remembered(memory, "square_avg", weights)
    counts = [torch.zeros(()) for _ in squares]  # of updates, which torch keeps and nothing here reads
    options = {"lr": lr, "alpha": config.betas[1], "eps": config.eps, "weight_decay": config.weight_decay}
    unused = {"momentum": 0.0, "centered": False}
    rmsprop(list(weights.values()), list(gradients.values()), squares, [], [], counts, **options, **unused)


def _muon(weights: Weights, gradients: Weights, memory: Memory, lr: float, config: TrainingConfig) -> None:
    """Muon of the hidden matrices, and AdamW of all else."""
    hidden = [name for name, weight in weights.items() if is_hidden(name, weight.ndim)]
    averages = _remembered(memory, "momentum_buffer", {name: weights[name] for name in hidden})
    numbers = {"momentum": config.momentum, "new": 1 - config.momentum, "kept": 1 - lr * config.weight_decay, "lr": lr}
    with one_thread():  # by how many a product of matrices is shared out decides its last bits
        for name, average in zip(hidden, averages, strict=True):
            update_matrices(weights[name], gradients[name], average, **numbers)
    if rest := [name for name in weights if name not in hidden]:
        own, given = ({name: values[name] for name in rest} for values in (weights, gradients))
        RULES["adamw"](own, given, memory, lr, config)


RULES: dict[str, Rule] = {
    "adamw": _adaptive(adamw),
    "adam": _adaptive(adam),
    "sgd": _sgd,
    "rmsprop": _rmsprop,
    "muon": _muon,
}
BUFFERS = {
    "adamw": ("exp_avg", "exp_avg_sq", "step"),
    "adam": ("exp_avg", "exp_avg_sq", "step"),
    "sgd": ("momentum_buffer",),
    "rmsprop": ("square_avg",),
    "muon": (
        "momentum_buffer",
        "exp_avg",
        "exp_avg_sq",
        "step",
    ),  # the first of hidden matrices, the others of the rest
}


def buffers_of(optimizer: str, name: str, n_axes: int) -> tuple[str, ...]:
    """What an optimizer remembers of one weight.

    >>> buffers_of("muon", "mlp.W_in", 2), buffers_of("muon", "mlp.b_in", 1)
    (('momentum_buffer',), ('exp_avg', 'exp_avg_sq', 'step'))
    """
    if optimizer != "muon":
        return BUFFERS[optimizer]
    return ("momentum_buffer",) if is_hidden(name, n_axes) else BUFFERS["adamw"]


def by_decay(weights: Weights, config: TrainingConfig) -> Iterator[tuple[Sequence[str], TrainingConfig]]:
    """The weights that have one weight decay, with a configuration that says it: all of them, where no group has a
    decay of its own.

    >>> from interp.experiment import DecayFactors
    >>> config = TrainingConfig(weight_decay=2.0, decay=DecayFactors(mlp=0.5))
    >>> weights = dict.fromkeys(("embed.W_E", "mlp.W_in", "mlp.b_in"), torch.zeros(1))
    >>> [(names, decayed.weight_decay) for names, decayed in by_decay(weights, config)]
    [(['embed.W_E'], 2.0), (['mlp.W_in', 'mlp.b_in'], 1.0)]
    """
    if not config.decay.is_used:
        yield list(weights), config
        return
    factors = {name: config.decay.of(name) for name in weights}
    for factor in dict.fromkeys(factors.values()):
        own = config.weight_decay * factor
        yield (
            [name for name, of in factors.items() if of == factor],
            replace(config, weight_decay=own, decay=DecayFactors()),
        )


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
            ordered = {name: gradient[name].contiguous() for name in own}
            for names, decayed in by_decay(own, config):
                weights, slopes = ({name: values[name] for name in names} for values in (own, ordered))
                RULES[config.optimizer](weights, slopes, memory, config.learning_rate(step), decayed)

    def state(self, place: int = 0) -> dict[str, Tensor]:
        """A copy of everything the optimizer remembers of one network, as "<weight>|<buffer>" → tensor; empty before
        the first update."""
        return {
            f"{name}|{key}": buffers[name].to("cpu", copy=True)
            for name in self._weights[place]
            for key, buffers in self._memories[place].items()
            if name in buffers
        }

    def restore(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Continue from what `state` gave of every network. Raises InputError for a state of other weights, or of a
        part of them."""
        for weights, state, config, memory in zip(self._weights, states, self._configs, self._memories, strict=True):
            check_state(state, {name: weight.shape for name, weight in weights.items()}, config.optimizer)
            for name, weight in weights.items() if state else ():
                for key in buffers_of(config.optimizer, name, weight.ndim):
                    memory.setdefault(key, {})[name] = state[f"{name}|{key}"].to(weight.device, copy=True)


def check_state(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], optimizer: str) -> None:
    """Raises InputError unless a state, where there is one, is that of an optimizer of weights of these shapes.

    >>> check_state({}, {"layer": (1,)}, "adamw")
    >>> check_state({"layer|exp_avg": torch.zeros(2)}, {"layer": (1,)}, "adamw")
    Traceback (most recent call last):
        ...
    interp.errors.InputError: the optimizer state 'layer|exp_avg' [2] does not belong to these weights
    """
    expected = {
        f"{name}|{key}": name for name, shape in shapes.items() for key in buffers_of(optimizer, name, len(shape))
    }
    for full_name, value in state.items():
        name = expected.get(full_name)
        if name is None or (value.ndim > 0 and value.shape != shapes[name]):
            raise InputError(f"the optimizer state {full_name!r} {list(value.shape)} does not belong to these weights")
    if missing := sorted(expected.keys() - state.keys()) if state else []:
        raise InputError(f"the optimizer state has no {missing[0]!r}")
