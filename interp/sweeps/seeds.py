"""Several seeds at once: one experiment, trained side by side into a run for each seed.

On a CPU every seed has a core to itself, with the factored network and its closed-form gradient
(`interp.models.factored_gradient`), and each is the same to the last bit as trained alone. On a GPU, which one small
network does not fill, and for every other model, the weights of all seeds are one batch: the general model
(`interp.models.forward`), vectorized and differentiated by torch.func; each seed is the same up to rounding.
"""

import contextlib
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from interp.errors import InputError, check_integer
from interp.experiment import Experiment, ModelConfig
from interp.machine import computed_ahead, keep_freed_memory
from interp.models import (
    DivergedError,
    Snapshot,
    Weights,
    embed,
    factored_gradient,
    initial_weights,
    is_factored,
    transform,
)
from interp.runs import Run, RunWriter, is_run_to_replace
from interp.sweeps.driver import STATE_INTERVAL_SECONDS, InterruptedTrainingError, check_room, signals_interrupt
from interp.training import (
    Batch,
    WeightUpdater,
    check_device,
    mean,
    measured,
    threads_of_torch,
    unmirrored_of_test,
    worker_threads,
)

Moment = dict[
    int, Snapshot | DivergedError
]  # by the seed's place in the batch; one that diverged is told once, and then no more
Judged = tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]  # the losses of examples, and which are answered correctly


def with_seed(experiment: Experiment, seed: int) -> Experiment:
    """The experiment with this seed of split, initial weights and batches."""
    task, model, training = experiment.task, experiment.model, experiment.training
    return Experiment(replace(task, seed=seed), replace(model, seed=seed), replace(training, seed=seed))


def run_seeds(
    experiment: Experiment,
    n_seeds: int,
    out: str | Path,
    *,
    overwrite: bool = False,
    device: str = "cpu",
    report: Callable[[Snapshot], None] = lambda snapshot: None,
) -> list[Run]:
    """Train with the seeds 0 … n_seeds − 1 into the runs out/seed0, out/seed1, …; `report` sees the mean of their
    metrics.

    Raises InputError as `interp.sweeps.driver.run_experiment` does; when a loss is no longer finite, after the others
    have come to their end. Interrupted, every run can be resumed by itself.
    """
    check_integer("seeds", n_seeds, 1, 1000)
    check_device(device)
    out = Path(out)
    if (out / "run.json").exists():
        raise InputError(f"{out} is a run itself; choose another --out for a folder of runs")
    check_room(out, experiment, n_runs=n_seeds)
    paths = [out / f"seed{seed}" for seed in range(n_seeds)]
    for path in paths:
        is_run_to_replace(path, overwrite)
    experiments = [with_seed(experiment, seed) for seed in range(n_seeds)]
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(RunWriter.create(path, one.task, one.model, one.training, overwrite=overwrite))
            for path, one in zip(paths, experiments, strict=True)
        ]
        _drive(out, writers, experiment.training.steps, train_seeds(experiments, device=device), report)
        return [writer.run for writer in writers]


def _drive(
    out: Path,
    writers: list[RunWriter],
    n_steps: int,
    moments: Generator[Moment | None],
    report: Callable[[Snapshot], None],
) -> None:
    last: dict[int, Snapshot] = {}
    diverged: list[str] = []
    saved_at = time.monotonic()

    def save() -> None:
        for index, snapshot in last.items():
            writers[index].save_state(snapshot)

    try:
        with signals_interrupt(), computed_ahead(moments) as ready:
            for moment in ready:
                for index, snapshot in moment.items():
                    if isinstance(snapshot, DivergedError):
                        diverged.append(f"seed{index}: {snapshot}")
                        writers[index].log_divergence(snapshot.step)
                        continue
                    writers[index].write(snapshot)
                    last[index] = snapshot
                now = [snapshot for snapshot in moment.values() if isinstance(snapshot, Snapshot)]
                if now and (time.monotonic() - saved_at > STATE_INTERVAL_SECONDS or now[0].step == n_steps):
                    save()
                    saved_at = time.monotonic()
                if now:
                    report(_mean(now))
    except KeyboardInterrupt:
        save()
        steps = [snapshot.step for snapshot in last.values()]
        if steps and min(steps) == n_steps:
            raise InterruptedTrainingError(f"interrupted after the last step; the runs in {out} are complete") from None
        step = max(steps, default=0)
        raise InterruptedTrainingError(
            f"interrupted at step {step}; each run in {out} goes on with: interp resume RUN"
        ) from None
    if diverged:
        raise InputError(f"{'; '.join(diverged)}; the checkpoints before that, and the other seeds, are in {out}")


def _mean(snapshots: Sequence[Snapshot]) -> Snapshot:
    """The mean of every metric, for a person to watch."""
    metrics = {
        name: math.fsum(one.metrics[name] for one in snapshots) / len(snapshots) for name in snapshots[0].metrics
    }
    return Snapshot(snapshots[0].step, {}, metrics, {}, kept=False)


def train_seeds(experiments: Sequence[Experiment], *, device: str = "cpu") -> Generator[Moment | None]:
    """What `interp.training.loop.train_stepwise` gives for each of several experiments that differ in seeds alone, at
    once: the snapshots of one step, or None after an update. One whose loss is no longer finite leaves with its
    DivergedError."""
    keep_freed_memory()
    model, config = experiments[0].model, experiments[0].training
    starts = [initial_weights(one.model, one.task.sizes) for one in experiments]
    stacked = {name: torch.stack([start[name] for start in starts]).to(device, torch.float32) for name in starts[0]}
    weights = [{name: values[index] for name, values in stacked.items()} for index in range(len(experiments))]
    updater = WeightUpdater(
        {f"{index}/{name}": values for index, own in enumerate(weights) for name, values in own.items()}, config
    )
    train_sets, test_sets = ([Batch.of(one.task, split, device) for one in experiments] for split in ("train", "test"))
    unmirrored = [unmirrored_of_test(one.task).to(device) for one in experiments]
    kept, living, last = set(config.kept_steps()), set(range(len(experiments))), dict[int, Snapshot]()
    with worker_threads() as each:
        for step in range(config.steps + 1):
            with threads_of_torch(model):
                batches = train_sets
                if config.batch_size is not None:
                    pairs = zip(train_sets, experiments, strict=True)
                    batches = [one.minibatch(config.batch_size, step, of.training.seed) for one, of in pairs]
                is_shown = step in kept or step % config.log_every == 0
                judged, gradients = _losses_and_gradients(stacked, model, batches, each)
                of_train = (
                    judged if batches is train_sets or not is_shown else _evaluate(stacked, model, train_sets, each)
                )
                losses = [mean(torch.cat([judged[index][0], of_train[index][0]])) for index in range(len(experiments))]
            lost = {index for index in living if not math.isfinite(losses[index])}
            if lost:
                yield {index: DivergedError(step, last.get(index)) for index in sorted(lost)}
                living -= lost
            if not living:
                return
            if is_shown:
                with threads_of_torch(model):
                    of_test = _evaluate(stacked, model, test_sets, each)
                    state = updater.state()
                    for index in living:
                        train = mean(of_train[index][0]), of_train[index][1]
                        metrics = measured(
                            train, (*of_test[index], unmirrored[index]), gradients[index], weights[index]
                        )
                        copies = {name: weight.to("cpu", copy=True) for name, weight in weights[index].items()}
                        own = {
                            name.removeprefix(f"{index}/"): value
                            for name, value in state.items()
                            if name.startswith(f"{index}/")
                        }
                        last[index] = Snapshot(step, copies, metrics, own, step in kept)
                yield {index: last[index] for index in sorted(living)}
            if step < config.steps:
                with threads_of_torch(model):
                    updater.update(
                        step, {f"{index}/{name}": d for index, own in enumerate(gradients) for name, d in own.items()}
                    )
                yield None


def _losses_and_gradients(
    stacked: Weights, model: ModelConfig, batches: Sequence[Batch], each: factored_gradient.Each
) -> tuple[list[Judged], list[Weights]]:
    """What is judged of every seed's batch, and the gradients of their mean losses."""
    if _has_cores(stacked, model):
        found = list(
            each(
                lambda one, batch: factored_gradient.loss_and_gradient(one, model, batch.examples),
                _unstacked(stacked),
                batches,
            )
        )
        return [(losses, correct) for losses, correct, _ in found], [gradient for *_, gradient in found]
    gradients, judged = torch.func.vmap(torch.func.grad(_loss(model), has_aux=True))(stacked, *_of_all(batches))
    return list(zip(*judged, strict=True)), _unstacked(gradients)


@torch.no_grad()
def _evaluate(
    stacked: Weights, model: ModelConfig, batches: Sequence[Batch], each: factored_gradient.Each
) -> list[Judged]:
    if _has_cores(stacked, model):
        return list(
            each(
                lambda one, batch: factored_gradient.evaluate(one, model, batch.examples), _unstacked(stacked), batches
            )
        )
    if not len(batches[0]):
        return [
            (
                next(iter(stacked.values())).new_empty(0),
                torch.empty(0, dtype=torch.bool, device=batches[0].labels.device),
            )
            for _ in batches
        ]
    _, judged = torch.func.vmap(_loss(model))(stacked, *_of_all(batches))
    return list(zip(*judged, strict=True))


def _has_cores(stacked: Weights, model: ModelConfig) -> bool:
    """Whether every seed is worked on by a thread of its own."""
    return is_factored(model) and next(iter(stacked.values())).device.type == "cpu"


def _loss(model: ModelConfig) -> Callable[[Weights, Tensor, Tensor], tuple[Tensor, Judged]]:
    """The mean loss of one seed, with what it is the mean of, as a function that torch.func can take the gradient of:
    that of `interp.mathematics.cross_entropy`, log(1 + exp x) in float64 with x = log Σ_{c ≠ label} exp(logit_c) −
    logit_label."""

    def loss(weights: Weights, pairs: Int[Tensor, "n 2"], labels: Int[Tensor, " n"]) -> tuple[Tensor, Judged]:
        logits = transform(weights, model, embed(weights, model, pairs)).logits.double()
        right = logits.gather(1, labels[:, None])[:, 0]
        others = logits.scatter(1, labels[:, None], -torch.inf)
        losses = functional.softplus(others.logsumexp(1) - right, threshold=40)
        return losses.mean(), (losses, right > others.amax(1))

    return loss


def _of_all(batches: Sequence[Batch]) -> tuple[Int[Tensor, "seeds n 2"], Int[Tensor, "seeds n"]]:
    return torch.stack([batch.inputs for batch in batches]), torch.stack([batch.labels for batch in batches])


def _unstacked(stacked: Weights) -> list[Weights]:
    return [
        dict(zip(stacked, own, strict=True))
        for own in zip(*(values.unbind() for values in stacked.values()), strict=True)
    ]
