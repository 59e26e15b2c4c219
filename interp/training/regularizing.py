"""Regularizers at work (`interp.experiment.Regularizers`): what is done to weights and gradient around the update.

    weight noise       the gradient is that at w + σξ
    dropout q          neurons ∘ M/(1 − q) with M of Bernoulli(1 − q), after the nonlinearity of every layer
    L2, L1             g + λ₂w + λ₁ sign(w), sign(0) = 0 (L1 as a subgradient)
    gradient noise     g + σξ
    L1, proximal       after the update w ← sign(w)·max(|w| − lr·λ₁, 0)
    held norms         at last w ← w·‖w₀‖/‖w‖, of all weights as one vector, or of each tensor

(weight and gradient noise: An 1996; Neelakantan et al. 2015, arXiv:1511.06807. Dropout: Srivastava et al. 2014.
Proximal: Beck and Teboulle 2009, with the learning rate as its step, which with Adam is not the LASSO. Held norms: Liu
et al. 2023, arXiv:2210.01117.)

Everything random is a function of the training's seed, the step and what it is drawn for, so that nothing of it has to
be remembered; the norms that are held are remembered, under `held|`, because weights can be given to start with.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import TrainingConfig
from interp.models import Weights

HELD = "held|"  # of the names of norms that are held
ALL = "all"
_PURPOSES = ("weights", "gradient", "neurons")


def generator_of(seed: int, step: int, purpose: str) -> torch.Generator:
    """What draws for one purpose at one step.

    >>> first, again = (torch.rand(1, generator=generator_of(0, 7, "neurons")) for _ in range(2))
    >>> bool(first == again), bool(first == torch.rand(1, generator=generator_of(0, 8, "neurons")))
    (True, False)
    """
    # torch's generator of the CPU begins from 32 bits, of whatever it is given, so that all three are mixed before.
    mixed = np.random.SeedSequence([seed, step, _PURPOSES.index(purpose)]).generate_state(1)
    return torch.Generator().manual_seed(int(mixed[0]))


class Regularizing:
    """The regularizers of one network, whose weights are changed in place.

    >>> from interp.experiment import Regularizers
    >>> weights = {"layer": torch.tensor([0.5, -0.01])}
    >>> config = TrainingConfig(lr=0.1, warmup=0, regularizers=Regularizers(l1=0.3))
    >>> Regularizing(config, weights).after(0)
    >>> weights["layer"]  # 0.1 · 0.3 nearer to 0, or 0
    tensor([0.4700, -0.0000])
    """

    def __init__(self, config: TrainingConfig, weights: Weights) -> None:
        self._config, self._of, self._weights = config, config.regularizers, weights
        self._held = self._norms() if self._of.norm != "free" else {}

    @property
    def is_noisy(self) -> bool:
        """Whether gradients are not those of the loss that is logged."""
        return self._of.is_noisy

    def given_to_loss(self, step: int) -> Weights:
        """The weights at which the gradient of update number `step` is computed."""
        if not (sigma := self._of.weight_noise):
            return self._weights
        drawing = generator_of(self._config.seed, step, "weights")
        return {name: weight + sigma * _normal(weight, drawing) for name, weight in self._weights.items()}

    def dropping(self, step: int) -> Callable[[Tensor], Tensor] | None:
        """What is done to the neurons of one layer after another, in the order of the layers; None without dropout."""
        if not (share := self._of.dropout):
            return None
        drawing = generator_of(self._config.seed, step, "neurons")

        def dropped(neurons: Tensor) -> Tensor:
            kept = torch.rand(neurons.shape, generator=drawing) >= share
            return neurons * kept.to(neurons) / (1 - share)

        return dropped

    def gradient(self, step: int, gradient: Weights) -> Weights:
        """What goes through the filter and to the optimizer at update number `step`, from the gradient of the loss."""
        of, found = self._of, gradient
        if of.l2:
            found = {name: one + of.l2 * self._weights[name] for name, one in found.items()}
        if of.l1 and of.l1_form == "subgradient":
            found = {name: one + of.l1 * self._weights[name].sign() for name, one in found.items()}
        if sigma := of.gradient_noise:
            drawing = generator_of(self._config.seed, step, "gradient")
            found = {name: found[name] + sigma * _normal(found[name], drawing) for name in self._weights}
        return found

    @torch.no_grad()
    def after(self, step: int) -> None:
        """What follows on update number `step`."""
        if self._of.l1 and self._of.l1_form == "proximal":
            threshold = self._config.learning_rate(step) * self._of.l1
            for weight in self._weights.values():
                weight.copy_(weight.sign() * (weight.abs() - threshold).clamp_(min=0))
        if self._held:
            now = self._norms()
            for name, weight in self._weights.items():
                key = name if self._of.norm == "tensors" else ALL
                if now[key] > 0:  # biases begin at 0, and a norm of 0 is held at 0
                    weight.mul_((self._held[key] / now[key]).to(weight))

    def state(self) -> dict[str, Tensor]:
        """The norms that are held."""
        return {f"{HELD}{name}": norm.clone() for name, norm in self._held.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave. Raises InputError for that of another network, or of none."""
        expected = {f"{HELD}{name}" for name in self._held}
        if expected != state.keys():
            name = min(expected ^ state.keys())
            missing = "lacks" if name in expected else "has"
            raise InputError(f"the state {missing} the norm {name!r:.100}; it is not one of this training")
        self._held = {name: state[f"{HELD}{name}"].double() for name in self._held}

    def _norms(self) -> dict[str, Tensor]:
        """In float64, of all or of each."""
        squares = {name: weight.double().square().sum() for name, weight in self._weights.items()}
        if self._of.norm == "tensors":
            return {name: square.sqrt() for name, square in squares.items()}
        return {ALL: torch.stack([square.cpu() for square in squares.values()]).sum().sqrt()}


def split_held(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The norms that are held, of the state of a snapshot, after all else.

    >>> split_held({"layer|exp_avg": torch.ones(1), "held|all": torch.ones(1)})
    ({'layer|exp_avg': tensor([1.])}, {'held|all': tensor([1.])})
    """
    rest = {name: value for name, value in state.items() if not name.startswith(HELD)}
    return rest, {name: value for name, value in state.items() if name.startswith(HELD)}


def _normal(like: Tensor, drawing: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=drawing).to(like)
