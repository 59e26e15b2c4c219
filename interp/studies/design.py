"""What an experiment varies, and what a prediction came to."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from interp.errors import InputError, check_integer, check_number
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig, json_values

Verdict = Literal["confirmed", "not confirmed", "not shown"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True, kw_only=True)
class Design:
    """What an experiment varies: the field that all have. A subclass has those of its own."""

    seeds: int = 3
    """Seeds 0 … N−1, each of split and initial weights."""

    def __post_init__(self) -> None:
        check_integer("seeds", self.seeds, 1, 1000)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class TableDesign(Design):
    """Of tables over Z_p."""

    p: int = 113
    """The modulus."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("p", self.p, 2, 4096)


@dataclass(frozen=True, kw_only=True)
class DecayDesign(TableDesign):
    """A grid of sizes and weight decays, and how long it trains.

    The pace of AdamW's weight decay is lr·wd per step, so 1/(lr·wd) steps, in which decay alone shrinks weights by e,
    are the unit of time here. With `rescale_lr` the learning rate is lr/wd: every weight decay has one pace, and a run
    one cost. Where training comes to rest does not depend on it: there the gradient is far below AdamW's eps, the
    update is lr·(g/eps + wd·w), and g = −eps·wd·w holds for every lr; but with too large an lr (0.03 is) it does not
    come to rest.
    """

    sizes: tuple[int, ...] = ()
    """Training pairs D."""
    weight_decays: tuple[float, ...] = (1.0,)
    """Weight decays."""
    duration: float = 8.0
    """How long each network trains, in units of 1/(lr·wd) steps."""
    lr: float = 1e-2
    """The learning rate, at weight decay 1."""
    rescale_lr: bool = True
    """Whether the learning rate is lr / weight decay, so that all weight decays have one pace."""
    eps: float = 1e-8
    """AdamW's eps."""
    d_model: int = 128
    """Width of the residual stream (4 heads)."""
    d_mlp: int = 512
    """Number of neurons."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sizes", "weight_decays"):
            values = getattr(self, name)
            flag = name.replace("_", "-")
            if not values:
                raise InputError(f"{flag} is empty; give at least one")
            if len(set(values)) != len(values):
                raise InputError(f"{flag} names a value twice: {' '.join(map(str, values))}")
        for size in self.sizes:
            check_integer("sizes", size, 1, self.p**2)
        for weight_decay in self.weight_decays:
            check_number("weight-decays", weight_decay, 0, above=True)
        check_number("duration", self.duration, 0, above=True)
        check_number("lr", self.lr, 0, above=True)
        check_number("eps", self.eps, 0, above=True)

    def steps(self, weight_decay: float) -> int:
        """The steps of a run: `duration` in units of 1/(lr·wd)."""
        return max(1, round(self.duration / (self.rate(weight_decay) * weight_decay)))

    def rate(self, weight_decay: float) -> float:
        """The learning rate of a run."""
        return self.lr / weight_decay if self.rescale_lr else self.lr

    def experiment(self, task: Task, weight_decay: float, seed: int, **training: Any) -> Experiment:
        """A run of the design: metrics at 40 steps evenly spaced and at the last, weights at the first and the last
        step alone."""
        steps = self.steps(weight_decay)
        config = TrainingConfig(
            steps=steps,
            lr=self.rate(weight_decay),
            weight_decay=weight_decay,
            eps=self.eps,
            checkpoint_every=None,
            log_every=max(1, math.ceil(steps / 40)),  # the last step is logged because it is kept
        )
        return Experiment(
            task, ModelConfig(d_model=self.d_model, d_mlp=self.d_mlp, seed=seed), replace(config, **training)
        )


@dataclass(frozen=True)
class Prediction:
    """What was predicted, what it came to, and by which numbers. "not shown": the data cannot decide."""

    name: str
    statement: str
    verdict: Verdict
    because: str
    numbers: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; what is not finite is null."""
        values = {"prediction": self.statement, "verdict": self.verdict, "because": self.because}
        return values | {"numbers": json_values(self.numbers)}
