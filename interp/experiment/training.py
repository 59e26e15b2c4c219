"""How an experiment is trained, and which steps are kept."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from interp.errors import InputError, check_choice, check_integer, check_number, flag

Optimizer = Literal["adamw", "adam", "sgd"]


@dataclass(frozen=True)
class TrainingConfig:
    """How the weights are updated, and which steps are kept.

    One step is one optimizer update; `batch_size` is the whole training set when not given. Update number s (from 0)
    uses the learning rate lr·min((s+1)/warmup, 1). `weight_decay` is decoupled for "adamw" and an L2 term of the
    gradient for "adam" and "sgd"; `betas` and `eps` belong to the Adams, `momentum` to "sgd". Checkpoints are kept at
    step 0, at the last step, every `checkpoint_every` steps, at `checkpoint_log` steps spaced evenly in log(step), and
    at `checkpoint_steps`. `seed` orders the mini-batches.

    >>> TrainingConfig(steps=100, checkpoint_every=50, checkpoint_log=3).kept_steps()
    [0, 1, 10, 50, 100]
    """

    steps: int = 2000
    optimizer: Optimizer = "adamw"
    lr: float = 1e-2
    weight_decay: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    momentum: float = 0.9
    warmup: int = 10
    batch_size: int | None = None
    checkpoint_every: int | None = 10
    checkpoint_log: int | None = None
    checkpoint_steps: tuple[int, ...] = ()
    log_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("training.steps", self.steps, 0, 999_999_999)
        check_choice("training.optimizer", self.optimizer, get_args(Optimizer))
        check_number("training.lr", self.lr, 0, above=True)
        check_number("training.weight-decay", self.weight_decay, 0)
        if len(self.betas) != 2:
            raise InputError(f"training.betas must be two numbers, got {self.betas!r}")
        for beta in self.betas:
            check_number("training.betas", beta, 0, 1, below=True)
        check_number("training.eps", self.eps, 0, above=True)
        check_number("training.momentum", self.momentum, 0, 1, below=True)
        check_integer("training.warmup", self.warmup, 0)
        for name, maximum in {"batch_size": None, "checkpoint_every": None, "checkpoint_log": 1_000_000}.items():
            if getattr(self, name) is not None:
                check_integer(f"training.{flag(name)}", getattr(self, name), 1, maximum)
        for step in self.checkpoint_steps:
            check_integer("training.checkpoint-steps", step, 0, self.steps)
        check_integer("training.log-every", self.log_every, 1)
        check_integer("training.seed", self.seed, 0, 2**32 - 1)

    def learning_rate(self, step: int) -> float:
        """That of update number `step` (from 0).

        >>> TrainingConfig(lr=0.01, warmup=10).learning_rate(4)
        0.005
        """
        return self.lr * min((step + 1) / self.warmup, 1) if self.warmup else self.lr

    def decay_coefficients(self, first: int, last: int) -> tuple[float, float] | None:
        """c₀ and c₁ of what weight decay did between the weights of two steps, D = −(c₀ w_first + c₁ w_last), if in
        between they moved along a line; c₀ + c₁ is Σ lr_s·wd. Exact of one update by "adamw", or by "sgd" without
        momentum.

        With momentum μ, SGD remembers the decay of the steps before: D = −Σ_s lr_s Σ_{j ≤ s} μ^{s−j}·wd·w_j, with
        the weights before `first` on the same line. None where it cannot be told apart from the loss: "adam" divides
        both by one root.

        >>> TrainingConfig(lr=0.01, weight_decay=2.0, warmup=0).decay_coefficients(5, 6)
        (0.02, 0.0)
        >>> TrainingConfig(optimizer="adam").decay_coefficients(5, 6)
        """
        if self.weight_decay == 0:
            return 0.0, 0.0
        if self.optimizer == "adam":
            return None
        momentum = self.momentum if self.optimizer == "sgd" else 0.0
        remembered = math.ceil(math.log(1e-12) / math.log(momentum)) if momentum else 0
        total = moved = of_all = of_way = 0.0
        for step in range(max(0, first - remembered), last):
            of_all = momentum * of_all + self.weight_decay
            of_way = momentum * of_way + self.weight_decay * (step - first) / (last - first)
            if step >= first:
                total += self.learning_rate(step) * of_all
                moved += self.learning_rate(step) * of_way
        return total - moved, moved

    def kept_steps(self) -> list[int]:
        """The steps at which a checkpoint is kept, ascending."""
        steps = {0, self.steps, *self.checkpoint_steps}
        if self.checkpoint_every is not None:
            steps.update(range(0, self.steps + 1, self.checkpoint_every))
        if self.checkpoint_log is not None:
            last = max(self.checkpoint_log - 1, 1)
            steps.update(round(self.steps ** (i / last)) for i in range(self.checkpoint_log) if self.steps > 0)
        return sorted(steps)
