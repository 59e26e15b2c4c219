"""Runs in memory, of which forces are told."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.models import Weights, initial_weights
from interp.runs import Checkpoint
from interp.training import train


class Kept(SimpleNamespace):
    """A run in memory: the checkpoints of some steps."""

    @property
    def steps(self) -> list[int]:
        return list(self.kept)

    def __getitem__(self, step: int) -> Checkpoint:
        return self.kept[step]

    def every(self, stride: int) -> "Kept":
        return Kept(**(vars(self) | {"kept": {step: at for step, at in self.kept.items() if step % stride == 0}}))


@pytest.fixture(scope="session")
def kept() -> Callable[..., Kept]:
    """A run of these checkpoints; if nothing else is said, as if lr·wd had been a hundredth throughout."""
    hundredth = TrainingConfig(steps=200, lr=0.01, weight_decay=1.0, warmup=0)

    def kept(checkpoints: Iterable[Checkpoint], training: TrainingConfig | None = hundredth, **more) -> Kept:
        by_step = {checkpoint.step: checkpoint for checkpoint in checkpoints}
        first = next(iter(by_step.values()))
        return Kept(kept=by_step, task=first.task, model=first.model, training=training, path="memory", **more)

    return kept


@pytest.fixture(scope="session")
def trained_run(kept) -> Callable[[Task, ModelConfig, TrainingConfig], Kept]:
    """A run that was trained just now, with the `snapshots` that training gave."""

    def trained_run(task: Task, model: ModelConfig, training: TrainingConfig) -> Kept:
        experiment = Experiment(task, model, replace(training, log_every=training.steps))
        snapshots = [each for each in train(experiment) if each.kept]
        checkpoints = [Checkpoint(each.step, each.weights, task, model) for each in snapshots]
        return kept(checkpoints, training, snapshots=snapshots)

    return trained_run


@pytest.fixture(scope="session")
def random_weights() -> Callable[..., Weights]:
    """In float64, no bias zero."""

    def random_weights(model: ModelConfig, p: int, seed: int = 0) -> Weights:
        generator = torch.Generator().manual_seed(seed)
        return {
            name: weight.double() + torch.randn(weight.shape, generator=generator, dtype=torch.float64) / 5
            for name, weight in initial_weights(replace(model, seed=seed), p).items()
        }

    return random_weights


@pytest.fixture(scope="session")
def a_walk(kept, random_weights) -> Callable[..., Kept]:
    """Random weights that wander, at steps 0, 10, …"""

    def a_walk(task: Task, model: ModelConfig, n: int = 5, by: float = 0.005) -> Kept:
        weights, checkpoints = random_weights(model, task.p, 1), []
        for index in range(n):
            checkpoints.append(Checkpoint.from_weights(weights, task, model, 10 * index))
            way = random_weights(model, task.p, 2 + index)
            weights = {name: (1 - by) * weight + by * way[name] for name, weight in weights.items()}
        return kept(checkpoints)

    return a_walk


@pytest.fixture(scope="session")
def neighbors(random_weights) -> Callable[..., list[Checkpoint]]:
    """Two checkpoints of random weights, the second a little way off."""

    def neighbors(
        task: Task, model: ModelConfig, *, by: float = 0.02, first: int = 0, last: int = 5
    ) -> list[Checkpoint]:
        before, way = random_weights(model, task.p, 1), random_weights(model, task.p, 2)
        after = {name: (1 - by) * weight + by * way[name] for name, weight in before.items()}
        return [Checkpoint.from_weights(w, task, model, step) for w, step in ((before, first), (after, last))]

    return neighbors
