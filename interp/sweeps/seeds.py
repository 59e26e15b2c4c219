"""Several seeds at once: one experiment, trained side by side into a run for each seed."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from interp.errors import InputError, check_integer
from interp.experiment import Experiment
from interp.models import Snapshot
from interp.runs import Run, RunWriter, is_run_to_replace
from interp.sweeps.driver import check_room, drive
from interp.training import check_device


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
        diverged = drive(
            experiments,
            writers,
            report,
            device,
            at_the_end=f"the last step; the runs in {out} are complete",
            before=f"each run in {out} goes on with: interp resume RUN",
        )
        if diverged:
            each = "; ".join(f"seed{seed}: {error}" for seed, error in diverged.items())
            raise InputError(f"{each}; the checkpoints before that, and the other seeds, are in {out}")
        return [writer.run for writer in writers]
