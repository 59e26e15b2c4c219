"""The optimizers for many networks whose weights are stacked along a first axis, each with numbers of its own.

The rules are those of `interp.training.optimizers`, written out for tensors [S, …]: what is one number there (learning
rate, decay, betas, ε, momentum) is S numbers here, which multiply along the first axis. torch's own functions take one
of each. To add an optimizer: its rule in RULES, under the name that it has there.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.experiment import TrainingConfig
from interp.models import Weights
from interp.training.muon import is_hidden, update_matrices
from interp.training.optimizers import BUFFERS, buffers_of, check_state

Memory = dict[str, Weights]  # by the name of the buffer: one for every stacked weight


class _Numbers:
    """The numbers of every network at update number `step`, each as wide as the first axis of the weights."""

    def __init__(self, configs: Sequence[TrainingConfig], step: int, done: int, like: Tensor) -> None:
        self._configs, self._like, self._done = configs, like, done
        self._lr = [config.learning_rate(step) for config in configs]

    def of(self, number: Callable[[float, TrainingConfig, int], float]) -> Float[Tensor, " S"]:
        """number(learning rate, configuration, updates done with this one), of every network."""
        values = [number(lr, config, self._done) for lr, config in zip(self._lr, self._configs, strict=True)]
        return torch.tensor(values, dtype=torch.float64).to(self._like.device, self._like.dtype)


def _along(numbers: Float[Tensor, " S"], tensor: Float[Tensor, "S *shape"]) -> Tensor:
    """So shaped that they multiply along the first axis."""
    return numbers.view(-1, *[1] * (tensor.ndim - 1))


def _adamw(weights: Weights, gradients: Weights, memory: Memory, numbers: _Numbers) -> None:
    """w ← w(1 − lr·wd), then Adam's step, bias-corrected."""
    kept = numbers.of(lambda lr, config, done: 1 - lr * config.weight_decay)
    for weight in weights.values():
        weight.mul_(_along(kept, weight))
    _adaptive(weights, gradients, memory, numbers)


def _adam(weights: Weights, gradients: Weights, memory: Memory, numbers: _Numbers) -> None:
    """Adam's step with wd·w added to the gradient."""
    decay = numbers.of(lambda lr, config, done: config.weight_decay)
    decayed = {name: torch.addcmul(gradients[name], _along(decay, weight), weight) for name, weight in weights.items()}
    _adaptive(weights, decayed, memory, numbers)


def _adaptive(weights: Weights, gradients: Weights, memory: Memory, numbers: _Numbers) -> None:
    """m ← m + (1 − β₁)(g − m), v ← β₂v + (1 − β₂)g², w ← w − lr/(1 − β₁ᵗ) · m/(√v/√(1 − β₂ᵗ) + ε)."""
    for name in ("exp_avg", "exp_avg_sq"):
        if name not in memory:
            memory[name] = {weight: torch.zeros_like(value) for weight, value in weights.items()}
    new = numbers.of(lambda lr, config, done: 1 - config.betas[0])
    beta2 = numbers.of(lambda lr, config, done: config.betas[1])
    new_square = numbers.of(lambda lr, config, done: 1 - config.betas[1])
    corrected = numbers.of(lambda lr, config, done: 1 / math.sqrt(1 - config.betas[1] ** done))
    eps = numbers.of(lambda lr, config, done: config.eps)
    rate = numbers.of(lambda lr, config, done: lr / (1 - config.betas[0] ** done))
    for name, weight in weights.items():
        gradient, mean, square = gradients[name], memory["exp_avg"][name], memory["exp_avg_sq"][name]
        mean.lerp_(gradient, _along(new, weight))
        square.mul_(_along(beta2, weight)).addcmul_(gradient * _along(new_square, weight), gradient)
        below = square.sqrt().mul_(_along(corrected, weight)).add_(_along(eps, weight))
        weight.sub_((mean * _along(rate, weight)).div_(below))


def _sgd(weights: Weights, gradients: Weights, memory: Memory, numbers: _Numbers) -> None:
    """u ← μu + g + wd·w, w ← w − lr·u; u begins as its first gradient."""
    decay = numbers.of(lambda lr, config, done: config.weight_decay)
    momentum = numbers.of(lambda lr, config, done: config.momentum)
    rate = numbers.of(lambda lr, config, done: lr)
    velocities = memory.setdefault(
        "momentum_buffer", {name: torch.zeros_like(weight) for name, weight in weights.items()}
    )
    for name, weight in weights.items():
        velocity = velocities[name].mul_(_along(momentum, weight)).add_(gradients[name])
        velocity.addcmul_(_along(decay, weight), weight)
        weight.sub_(velocity * _along(rate, weight))


def _rmsprop(weights: Weights, gradients: Weights, memory: Memory, numbers: _Numbers) -> None:
    """v ← αv + (1 − α)g², w ← w − lr·g/(√v + ε), with wd·w added to g, and α = β₂."""
    decay = numbers.of(lambda lr, config, done: config.weight_decay)
    alpha = numbers.of(lambda lr, config, done: config.betas[1])
    new_square = numbers.of(lambda lr, config, done: 1 - config.betas[1])
    eps = numbers.of(lambda lr, config, done: config.eps)
    rate = numbers.of(lambda lr, config, done: lr)
    squares = memory.setdefault("square_avg", {name: torch.zeros_like(weight) for name, weight in weights.items()})
    for name, weight in weights.items():
        gradient = torch.addcmul(gradients[name], _along(decay, weight), weight)
        square = squares[name].mul_(_along(alpha, weight)).addcmul_(gradient * _along(new_square, weight), gradient)
        below = square.sqrt().add_(_along(eps, weight))
        weight.sub_(gradient.mul_(_along(rate, weight)).div_(below))


def _muon(weights: Weights, gradients: Weights, memory: Memory, numbers: _Numbers) -> None:
    """Muon of the hidden matrices, and AdamW of all else."""
    hidden = [name for name, weight in weights.items() if is_hidden(name, weight.ndim - 1)]
    averages = memory.setdefault("momentum_buffer", {name: torch.zeros_like(weights[name]) for name in hidden})
    momentum = numbers.of(lambda lr, config, done: config.momentum)
    new = numbers.of(lambda lr, config, done: 1 - config.momentum)
    kept = numbers.of(lambda lr, config, done: 1 - lr * config.weight_decay)
    rate = numbers.of(lambda lr, config, done: lr)
    for name in hidden:
        weight = weights[name]
        update_matrices(
            *(weight, gradients[name], averages[name]),
            momentum=_along(momentum, weight),
            new=_along(new, weight),
            kept=_along(kept, weight),
            lr=_along(rate, weight),
        )
    _adamw({name: weight for name, weight in weights.items() if name not in averages}, gradients, memory, numbers)


RULES: dict[str, Callable[[Weights, Weights, Memory, _Numbers], None]] = {
    "adamw": _adamw,
    "adam": _adam,
    "sgd": _sgd,
    "rmsprop": _rmsprop,
    "muon": _muon,
}


class StackedUpdater:
    """Applies one optimizer to stacked weights [S, …], in place, each network with the numbers of its configuration;
    and gives and takes the state of each as `WeightUpdater` does.

    >>> stacked, gradients = {"layer": torch.tensor([[1.0], [1.0]])}, {"layer": torch.tensor([[0.5], [0.5]])}
    >>> configs = [TrainingConfig(optimizer="sgd", lr=lr, weight_decay=0, warmup=0) for lr in (0.25, 0.5)]
    >>> updater = StackedUpdater(stacked, configs)
    >>> updater.update(0, gradients)
    >>> stacked["layer"].tolist()  # 1 − 0.25 · 0.5, and 1 − 0.5 · 0.5
    [[0.875], [0.75]]
    """

    def __init__(self, stacked: Weights, configs: Sequence[TrainingConfig]) -> None:
        self._stacked, self._configs, self._memory = stacked, configs, Memory()
        self._done = 0

    @torch.no_grad()
    def update(self, step: int, gradients: Weights) -> None:
        """Update number `step` (from 0)."""
        self._done += 1
        like = next(iter(self._stacked.values()))
        numbers = _Numbers(self._configs, step, self._done, like)
        RULES[self._configs[0].optimizer](self._stacked, gradients, self._memory, numbers)

    def states(self) -> list[dict[str, Tensor]]:
        """A copy of everything that the optimizer remembers of every network, in the CPU's memory, as `WeightUpdater`
        gives it of one; empty before the first update."""
        copies = {
            key: {name: value.to("cpu", copy=True) for name, value in of_all.items()}
            for key, of_all in self._memory.items()
        }
        return [self._of_one(copies, place) for place in range(len(self._configs))]

    def _of_one(self, copies: Memory, place: int) -> dict[str, Tensor]:
        config, state = self._configs[place], dict[str, Tensor]()
        if config.optimizer == "sgd" and not config.momentum:
            return state  # as torch has it: nothing is remembered
        for name, weight in self._stacked.items() if copies else ():
            for key in buffers_of(config.optimizer, name, weight.ndim - 1):
                state[f"{name}|{key}"] = torch.tensor(float(self._done)) if key == "step" else copies[key][name][place]
        return state

    def restore(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Continue from what `states` gave. Raises InputError for a state of other weights, of a part of them, or of
        networks that have not done as many updates."""
        optimizer = self._configs[0].optimizer
        shapes = {name: weight.shape[1:] for name, weight in self._stacked.items()}
        for state in states:
            check_state(state, shapes, optimizer)
        if not any(states):
            return
        for key in BUFFERS[optimizer]:
            named = [name for name, shape in shapes.items() if key in buffers_of(optimizer, name, len(shape))]
            if key == "step":
                self._done = int(states[0][f"{named[0]}|step"]) if named else self._done
                continue
            self._memory[key] = {
                name: torch.stack(
                    [state.get(f"{name}|{key}", torch.zeros(shapes[name])).to(self._stacked[name]) for state in states]
                )
                for name in named
            }
