"""How an experiment is trained, and which steps are kept."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from interp.errors import InputError, check_choice, check_integer, check_number, flag
from interp.experiment.gradient_filter import GradientFilter
from interp.experiment.regularizers import DecayFactors, Regularizers

Optimizer = Literal["adamw", "adam", "sgd", "rmsprop", "muon"]
LossName = Literal["cross-entropy", "stablemax", "squared-error"]
LossPrecision = Literal["float64", "float32"]


@dataclass(frozen=True)
class TrainingConfig:
    """How the weights are updated, and which steps are kept.

    One step is one optimizer update; `batch_size` is the whole training set when not given. Update number s (from 0)
    uses the learning rate lr·min((s+1)/warmup, 1). `weight_decay` is decoupled for "adamw" and "muon", and an L2 term
    of the gradient for "adam", "sgd" and "rmsprop"; `betas` and `eps` belong to the Adams, `eps` and the second beta,
    which is its α, to "rmsprop", `momentum` to "sgd" and "muon". "muon" is of hidden matrices; all else is updated by
    AdamW with the same numbers (`interp.training.muon`). Checkpoints are kept at step 0, at the last step, every
    `checkpoint_every` steps, at `checkpoint_log` steps spaced evenly in log(step), and at `checkpoint_steps`. `seed`
    orders the mini-batches, and draws all noise. `filter` is what the gradient goes through before the optimizer;
    `regularizers` are penalties, noise and held norms; `decay` has the factors of weight decay by group of weights.
    With `one_pass` every example is seen in one batch and never again (`interp.training.prequential`).

    The loss is `loss` (`interp.mathematics.losses`), computed in `loss_precision`: "float32" is what torch makes of
    logits in float32, to show what its rounding does. `label_smoothing` ε wants (1 − ε) onehot + ε/K of K classes, and
    `zero_sum` subtracts its mean over the classes from the gradient with respect to the logits.

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
    loss: LossName = field(default="cross-entropy", metadata={"later": True})
    loss_precision: LossPrecision = field(default="float64", metadata={"later": True})
    label_smoothing: float = field(default=0.0, metadata={"later": True})
    zero_sum: bool = field(default=False, metadata={"later": True})
    filter: GradientFilter = field(default=GradientFilter(), metadata={"later": True})
    regularizers: Regularizers = field(default=Regularizers(), metadata={"later": True})
    decay: DecayFactors = field(default=DecayFactors(), metadata={"later": True})
    one_pass: bool = field(default=False, metadata={"later": True})

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
        self._check_loss()
        self._check_decay()
        self._check_one_pass()

    def _check_one_pass(self) -> None:
        if type(self.one_pass) is not bool:
            raise InputError(f"training.one-pass must be true or false, got {self.one_pass!r:.60}")
        if not self.one_pass:
            return
        if self.batch_size is None:
            raise InputError(
                "training.one-pass sees every example once, and without training.batch-size every step sees all; "
                "give that"
            )
        if self.loss == "squared-error" or self.label_smoothing:
            raise InputError(
                f"training.one-pass adds up −log p of the labels, and training.loss is {self.loss_title}; leave out "
                "one of the two"
            )
        if self.regularizers.is_noisy:
            raise InputError(
                "training.one-pass tells the losses of batches as those of unseen examples, and with dropout or "
                "weight noise they are of another network; leave out one of the two"
            )

    def _check_decay(self) -> None:
        if self.decay.is_used and not self.weight_decay:
            raise InputError(
                "training.decay multiplies training.weight-decay, which is 0; give that, or leave the factors out"
            )
        if self.regularizers.l2 and self.weight_decay and not self.decays_apart:
            raise InputError(
                f"training.weight-decay of {self.optimizer} is an L2 term of the gradient, as training.regularizers.l2 "
                "is; give one of the two, or training.optimizer adamw"
            )

    @property
    def decays_apart(self) -> bool:
        """Whether weight decay is decoupled from the gradient.

        >>> TrainingConfig().decays_apart, TrainingConfig(optimizer="adam").decays_apart
        (True, False)
        """
        return self.optimizer in ("adamw", "muon")

    def _check_loss(self) -> None:
        check_choice("training.loss", self.loss, get_args(LossName))
        if self.loss_precision not in get_args(LossPrecision):  # to none of the two is another precision nearer
            raise InputError(f"training.loss-precision is float64 or float32, got {self.loss_precision!r:.60}")
        check_number("training.label-smoothing", self.label_smoothing, 0, 1, below=True)
        if type(self.zero_sum) is not bool:
            raise InputError(f"training.zero-sum must be true or false, got {self.zero_sum!r:.60}")
        if self.loss == "squared-error" and self.loss_precision != "float64":
            raise InputError(
                "training.loss-precision float32 shows what rounding does to a softmax, and squared-error has none; "
                "leave it at float64, or choose training.loss cross-entropy or stablemax"
            )
        if self.loss == "squared-error" and self.label_smoothing:
            raise InputError(
                "training.label-smoothing is of the probabilities of a cross-entropy, and squared-error has none; "
                "leave it at 0, or choose training.loss cross-entropy or stablemax"
            )
        if self.loss != "cross-entropy" and self.zero_sum:
            raise InputError(
                "training.zero-sum mends the rounding of a gradient that sums to zero over the classes, and that of "
                f"{self.loss} does not; leave it out, or choose training.loss cross-entropy"
            )

    @property
    def loss_is_cross_entropy(self) -> bool:
        """Whether the logged losses are plain cross-entropies in nats, however they are rounded.

        >>> TrainingConfig().loss_is_cross_entropy, TrainingConfig(label_smoothing=0.1).loss_is_cross_entropy
        (True, False)
        """
        return self.loss == "cross-entropy" and not self.label_smoothing

    @property
    def loss_title(self) -> str:
        """The loss for a person.

        >>> TrainingConfig(loss="stablemax", label_smoothing=0.1, loss_precision="float32").loss_title
        'StableMax cross-entropy, labels smoothed by 0.1, in float32'
        """
        title = {"stablemax": "StableMax cross-entropy", "squared-error": "squared error"}.get(self.loss, self.loss)
        smoothing = f", labels smoothed by {self.label_smoothing:g}" if self.label_smoothing else ""
        precision = f", in {self.loss_precision}" if self.loss_precision != "float64" else ""
        return f"{title}{smoothing}{precision}"

    @property
    def loss_unit(self) -> str:
        """The unit of the loss.

        >>> TrainingConfig().loss_unit, TrainingConfig(loss="squared-error").loss_unit
        ('nats', '1')
        """
        return "1" if self.loss == "squared-error" else "nats"

    @property
    def loss_axis(self) -> str:
        """What stands at an axis of losses.

        >>> TrainingConfig().loss_axis, TrainingConfig(loss="squared-error").loss_axis
        ('cross-entropy (nats)', 'squared error')
        """
        return self.loss_title if self.loss_unit == "1" else f"{self.loss_title} ({self.loss_unit})"

    def learning_rate(self, step: int) -> float:
        """That of update number `step` (from 0).

        >>> TrainingConfig(lr=0.01, warmup=10).learning_rate(4)
        0.005
        """
        return self.lr * min((step + 1) / self.warmup, 1) if self.warmup else self.lr

    def decay_coefficients(self, first: int, last: int) -> tuple[float, float] | None:
        """c₀ and c₁ of what weight decay did between the weights of two steps, D = −(c₀ w_first + c₁ w_last), if in
        between they moved along a line; c₀ + c₁ is Σ lr_s·wd. Exact of one update by "adamw" or "muon", or by "sgd"
        without momentum.

        With momentum μ, SGD remembers the decay of the steps before: D = −Σ_s lr_s Σ_{j ≤ s} μ^{s−j}·wd·w_j, with
        the weights before `first` on the same line. None where it cannot be told apart from the loss: "adam" and
        "rmsprop" divide both by one root; and where there is more than these two, a penalty or a held norm, or a weight
        decay for each group of weights.

        >>> TrainingConfig(lr=0.01, weight_decay=2.0, warmup=0).decay_coefficients(5, 6)
        (0.02, 0.0)
        >>> TrainingConfig(optimizer="adam").decay_coefficients(5, 6)
        """
        if self.weight_decay == 0 and not self.regularizers.is_a_force:
            return 0.0, 0.0
        if self.optimizer in ("adam", "rmsprop") or self.regularizers.is_a_force or self.decay.is_used:
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
        steps = self.listed_steps()
        if self.checkpoint_every is not None:
            steps.update(range(0, self.steps + 1, self.checkpoint_every))
        return sorted(steps)

    def listed_steps(self) -> set[int]:
        """Those of them that do not come from `checkpoint_every`.

        >>> sorted(TrainingConfig(steps=100, checkpoint_log=3, checkpoint_steps=(7,)).listed_steps())
        [0, 1, 7, 10, 100]
        """
        steps = {0, self.steps, *self.checkpoint_steps}
        if self.checkpoint_log is not None:
            last = max(self.checkpoint_log - 1, 1)
            steps.update(round(self.steps ** (i / last)) for i in range(self.checkpoint_log) if self.steps > 0)
        return steps
