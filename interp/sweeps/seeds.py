"""Several seeds at once: one experiment, trained side by side into a run for each seed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from interp.errors import InputError, check_integer
from interp.experiment import Experiment
from interp.models import DivergedError, Snapshot
from interp.runs import Run
from interp.sweeps.together import run_together


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
    tf32: bool = False,
    at_once: int | None = None,
    report: Callable[[Snapshot], None] = lambda snapshot: None,
) -> list[Run]:
    """Train with the seeds 0 … n_seeds − 1 into the runs out/seed0, out/seed1, … (`run_together`).

    Raises InputError as `interp.sweeps.driver.run_experiment` does; when a loss is no longer finite, after the others
    have come to their end. Interrupted, every run can be resumed by itself.
    """
    check_integer("seeds", n_seeds, 1, 10_000)
    out = Path(out)
    if (out / "run.json").exists():
        raise InputError(f"{out} is a run itself; choose another --out for a folder of runs")
    ended = run_together(
        [with_seed(experiment, seed) for seed in range(n_seeds)],
        [out / f"seed{seed}" for seed in range(n_seeds)],
        overwrite=overwrite,
        device=device,
        tf32=tf32,
        at_once=at_once,
        report=report,
    )
    diverged = [f"seed{seed}: {end}" for seed, end in enumerate(ended) if isinstance(end, DivergedError)]
    if diverged:
        raise InputError(f"{'; '.join(diverged)}; the checkpoints before that, and the other seeds, are in {out}")
    return [run for run in ended if isinstance(run, Run)]
