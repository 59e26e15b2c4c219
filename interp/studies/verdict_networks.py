"""The networks on which verdicts are judged: kinds of runs, each drawn from its seed, so that every verdict is many
times the true one, and not only where it is easy to tell.

On random labels, and on far fewer pairs than the rule needs, nothing can be generalized: there the truth is known by
construction. Everywhere else wrong answers are counted (`interp.studies.every_step`). The kinds are named for how they
were made, and not for what becomes of them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from interp.experiment import Experiment, ModelConfig, Operation, Task, TrainingConfig
from interp.studies.design import DecayDesign
from interp.sweeps import GridRun

# Weights and metrics are kept every so many steps.
EVERY = (10, 15, 20, 25, 30, 40, 50)
COPIES_APART = 1000


class Draw:
    """What is drawn for one network, in terms of a design: primes near its modulus, its widths, its learning rate, and
    its duration at weight decay 1. `number` is its seed."""

    def __init__(self, design: DecayDesign, kind: str, number: int) -> None:
        self.design, self.number = design, number
        self._generator = np.random.RandomState([*kind.encode(), number])

    def one_of(self, *values: Any) -> Any:
        """One of some values."""
        return values[self._generator.randint(len(values))]

    def between(self, low: float, high: float) -> float:
        """A number evenly drawn in its logarithm, of three digits."""
        return float(f"{math.exp(self._generator.uniform(math.log(low), math.log(high))):.3g}")

    def modulus(self, *factors: float) -> int:
        """A prime near one of so many times the modulus of the design."""
        return next_prime(round(self.one_of(*factors) * self.design.p))

    def mlp(self, inputs: str = "concatenated", activation: str = "square") -> ModelConfig:
        """An MLP; with squares it groks soon."""
        fields: dict[str, Any] = {"inputs": inputs, "activation": activation, "d_mlp": 2 * self.design.d_mlp}
        return ModelConfig(family="mlp", seed=self.number, **fields)

    def transformer(self, width: float = 1.0) -> ModelConfig:
        """A transformer of one layer."""
        d_model, d_mlp = round(width * self.design.d_model), self.one_of(1, 2) * self.design.d_mlp
        return ModelConfig(d_model=d_model, d_mlp=d_mlp, seed=self.number)

    def either(self) -> ModelConfig:
        """An MLP or a transformer."""
        return self.mlp() if self.one_of(True, False) else self.transformer()

    def task(self, p: int, share: float, operation: Operation = "add", **fields: Any) -> Task:
        """A task with a share of its pairs trained on."""
        return Task(p, operation, train_fraction=share, seed=self.number, **fields)

    def experiment(
        self, task: Task, model: ModelConfig, duration: float, *, lr: float, every: int | None = None, **training: Any
    ) -> Experiment:
        """An experiment over so many times the duration of the design, at so many times its learning rate."""
        interval: int = every or self.one_of(*EVERY)
        steps = max(1, round(duration * self.design.duration / self.design.lr / interval)) * interval
        fields: dict[str, Any] = {"steps": steps, "lr": lr * self.design.lr, "eps": self.design.eps}
        fields |= {"checkpoint_every": interval, "log_every": interval} | training
        return Experiment(task, model, TrainingConfig(**fields))


class Kind(NamedTuple):
    """How many networks of it there are for each seed, how one is drawn, and the verdicts that are possible by
    construction (empty: nothing is known)."""

    copies: int
    draw: Callable[[Draw], Experiment]
    possible: tuple[str, ...] = ()


def kind_of(name: str) -> str:
    """The kind of a run, from the name of its folder.

    >>> kind_of("much-data-mlp-2-seed5")
    'much-data-mlp'
    """
    return name.rsplit("-", 2)[0]


def seed_of(name: str) -> int:
    """The seed of a run, from the name of its folder.

    >>> seed_of("much-data-mlp-2-seed5")
    5
    """
    return int(name.rsplit("seed", 1)[1])


def networks(design: DecayDesign) -> list[GridRun]:
    """Every kind, as often as it has copies, for every seed."""
    runs = []
    for name, kind in KINDS.items():
        for copy in range(kind.copies):
            for seed in range(design.seeds):
                draw = Draw(design, name, COPIES_APART * copy + seed)
                runs.append(GridRun(f"{name}-{copy}-seed{seed}", kind.draw(draw)))
    return runs


def next_prime(least: int) -> int:
    """The first prime from `least` on.

    >>> next_prime(24), next_prime(11)
    (29, 11)
    """
    return next(n for n in range(max(2, least), 2 * least + 3) if all(n % d for d in range(2, math.isqrt(n) + 1)))


# Betas with which there are no loss spikes (docs/time-to-grok.md).
STEADY = (0.95, 0.95)


def _mlp(draw: Draw) -> Experiment:
    operation, decay = draw.one_of("add", "subtract", "multiply"), draw.one_of(*draw.design.weight_decays)
    if operation == "multiply":  # which has more symmetries: of a larger share too few pairs are held out
        task = draw.task(draw.modulus(1.25), draw.between(0.42, 0.48), operation)
    else:
        task = draw.task(draw.modulus(0.8, 1, 1.05), draw.between(0.52, 0.65), operation)
    return draw.experiment(task, draw.mlp(), 1.3, lr=draw.between(0.4, 1), weight_decay=decay)


def _transformer(draw: Draw) -> Experiment:
    task, model = draw.task(draw.modulus(1.25), draw.between(0.5, 0.62)), draw.transformer(draw.one_of(1, 1.5))
    return draw.experiment(task, model, 1, lr=draw.between(0.7, 1), weight_decay=2.0, betas=STEADY)


def _much_data_mlp(draw: Draw) -> Experiment:
    task = draw.task(draw.modulus(1.05, 1.25), draw.between(0.7, 0.78))
    model, decay = draw.mlp(draw.one_of("sum", "concatenated")), draw.between(1.5, 4)
    return draw.experiment(task, model, 1, lr=draw.between(0.12, 0.3), weight_decay=decay)


def _much_data_transformer(draw: Draw) -> Experiment:
    task, model = draw.task(draw.modulus(1.25), draw.between(0.68, 0.76)), draw.transformer(1.5)
    return draw.experiment(task, model, 0.9, lr=draw.between(0.35, 0.5), weight_decay=2.0, betas=STEADY)


def _random_labels(draw: Draw) -> Experiment:
    task, decay = draw.task(draw.modulus(0.8, 1), draw.between(0.3, 0.6), "random"), draw.one_of(0.0, 0.5, 1.0)
    return draw.experiment(task, draw.either(), 0.6, lr=draw.between(0.1, 1), weight_decay=decay)


def _wrong_labels(draw: Draw) -> Experiment:
    task = draw.task(draw.modulus(1, 1.05), draw.between(0.6, 0.72), label_noise=draw.between(0.03, 0.3))
    decay = draw.one_of(*draw.design.weight_decays)
    return draw.experiment(task, draw.either(), 0.8, lr=draw.between(0.3, 1), weight_decay=decay)


def _no_decay(draw: Draw) -> Experiment:
    task = draw.task(draw.modulus(0.8, 1), draw.between(0.35, 0.5))
    return draw.experiment(task, draw.either(), 0.7, lr=draw.between(0.2, 1), weight_decay=0.0)


def _few_pairs(draw: Draw) -> Experiment:
    task = Task(draw.design.p, train_pairs=draw.one_of(*draw.design.sizes), seed=draw.number)
    decay = draw.one_of(*draw.design.weight_decays)
    return draw.experiment(task, draw.either(), 0.6, lr=draw.between(0.2, 1), weight_decay=decay)


def _hardly_enough_pairs(draw: Draw) -> Experiment:
    task, decay = draw.task(draw.modulus(1, 1.05), draw.between(0.3, 0.5)), draw.one_of(*draw.design.weight_decays)
    return draw.experiment(task, draw.either(), 1.2, lr=draw.between(0.6, 1), weight_decay=decay)


def _quadratic(draw: Draw) -> Experiment:
    task = draw.task(draw.modulus(1.05), draw.between(0.33, 0.42), "x2+xy+y2")
    return draw.experiment(task, draw.either(), 0.8, lr=draw.between(0.4, 1))


def _few_steps(draw: Draw) -> Experiment:
    task, every = draw.task(draw.modulus(0.8, 1), draw.between(0.4, 0.6)), draw.one_of(10, 15)
    duration = draw.between(0.03, 0.09)
    return draw.experiment(task, draw.either(), duration, lr=draw.between(0.2, 0.8), every=every)


def _slow(draw: Draw) -> Experiment:
    task = draw.task(draw.modulus(0.8, 1), draw.between(0.4, 0.7))
    return draw.experiment(task, draw.either(), 0.5, lr=draw.between(0.005, 0.05))


def _crushed(draw: Draw) -> Experiment:
    task, decay = draw.task(draw.modulus(0.8, 1), draw.between(0.4, 0.7)), draw.between(8, 60)
    return draw.experiment(task, draw.either(), 0.4, lr=draw.between(0.3, 1), weight_decay=decay)


def _rising_rate(draw: Draw) -> Experiment:
    task, decay = draw.task(draw.modulus(1), draw.between(0.66, 0.76)), draw.between(1.5, 4)
    rate = draw.between(1.55, 1.88) / decay / draw.design.lr  # from 2 on weights would grow without bound
    warmup = round(draw.between(0.85, 1.2) * draw.design.duration / draw.design.lr)
    return draw.experiment(task, draw.mlp(), draw.between(1, 1.4), lr=rate, weight_decay=decay, warmup=warmup)


def _high_rate(draw: Draw) -> Experiment:
    task, model = draw.task(draw.modulus(1.05, 1.25), draw.between(0.5, 0.62)), draw.transformer()
    return draw.experiment(task, model, 0.8, lr=draw.between(1.5, 5), betas=(0.9, 0.95))


def _stopped_early(draw: Draw) -> Experiment:
    task = draw.task(draw.modulus(0.8, 1, 1.05), draw.between(0.5, 0.65))
    decay, duration = draw.one_of(*draw.design.weight_decays), draw.between(0.15, 0.4)
    return draw.experiment(task, draw.mlp(), duration, lr=draw.between(0.6, 1), weight_decay=decay)


_NOTHING_TO_GENERALIZE = ("memorization", "confusion")
KINDS = {
    "mlp": Kind(4, _mlp),
    "transformer": Kind(2, _transformer),
    "much-data-mlp": Kind(5, _much_data_mlp),
    "much-data-transformer": Kind(1, _much_data_transformer),
    "random-labels": Kind(2, _random_labels, _NOTHING_TO_GENERALIZE),
    "wrong-labels": Kind(2, _wrong_labels),
    "no-decay": Kind(1, _no_decay),
    "few-pairs": Kind(1, _few_pairs, _NOTHING_TO_GENERALIZE),
    "hardly-enough-pairs": Kind(2, _hardly_enough_pairs),
    "quadratic": Kind(1, _quadratic),
    "few-steps": Kind(3, _few_steps),
    "slow": Kind(1, _slow),
    "crushed": Kind(3, _crushed),
    "rising-rate": Kind(6, _rising_rate),
    "high-rate": Kind(2, _high_rate),
    "stopped-early": Kind(1, _stopped_early),
}
