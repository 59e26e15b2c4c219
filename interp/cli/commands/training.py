"""The commands that train."""

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from interp.cli.commands.arguments import RunPath
from interp.cli.options import value_of
from interp.cli.output import say
from interp.errors import InputError
from interp.experiment import (
    PRESETS,
    Examples,
    Experiment,
    ModelConfig,
    Operations,
    Samples,
    Task,
    TrainingConfig,
    experiment_from_toml,
    preset,
)

if TYPE_CHECKING:
    from interp.models import Snapshot


MOST_RESUMED = 4  # that are named


@dataclass(frozen=True)
class Train:
    """Train a network and keep dense checkpoints of it.

    The preset comes first, then the TOML file (tables [task], [model], [training]), then the options given here."""

    preset: str = "quick"
    """An experiment with a name: see `interp presets`."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE.toml")] = None
    """A TOML file with fields to change."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """The folder of the run; by default a fresh name under checkpoints/."""
    overwrite: bool = False
    """Replace the run that is in the folder."""
    log: Literal["wandb"] | None = None
    """Also show the metrics in Weights & Biases (offline with WANDB_MODE=offline)."""
    device: str = "cpu"
    """Where to train: cpu, or cuda."""
    tf32: bool = False
    """On a GPU, multiply with inputs rounded to 11 bits: faster, and small losses are off by percents."""
    observe: Literal["gradients"] | None = None
    """Also keep a sketch of the gradient of every step, for `interp analyze RUN gradient_spectrum`."""
    seeds: int | None = None
    """Train with the seeds 0 … N−1 of split, initial weights and batches, side by side, into RUN/seed0, RUN/seed1, …"""
    at_once: int | None = None
    """Of the seeds, so many side by side, the rest after (default: as many as the memory holds)."""
    task: tyro.conf.AvoidSubcommands[Examples] = field(default_factory=Task)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> "Train":
        """The values that hold for the options not given: those of the preset and the file. Who names several
        operations on the command line has a task and a prompt with these in place of a table of one; who names a source
        of vectors has these, and an MLP that reads them."""
        name, config = value_of("--preset", arguments), value_of("--config", arguments)
        experiment = preset(name or "quick")
        if config is not None:
            experiment = experiment_from_toml(Path(config), experiment)
        task, model = experiment.task, experiment.model
        if isinstance(task, Task) and _is_given("task.source", arguments):
            task = Samples(seed=task.seed)
            if model.family == "transformer":
                model = ModelConfig(family="mlp", d_mlp=model.d_mlp, seed=model.seed)
        elif isinstance(task, Task) and _is_given("task.operations", arguments):
            task = Operations(task.p, train_fraction=(task.train_fraction,), seed=task.seed)
            is_transformer = (value_of("--model.family", arguments) or model.family) == "transformer"
            if is_transformer and model.prompt == ModelConfig.prompt:
                model = replace(model, prompt="aob=")
        return cls(task=task, model=model, training=experiment.training)

    def run(self) -> int:
        from interp.cli.progress import training_progress
        from interp.cli.wandb_log import wandb_log
        from interp.figures import as_count, as_size
        from interp.sweeps import check_room, observers_of, run_experiment, run_seeds, size_on_disk
        from interp.training import check_device, check_observable, networks_at_once

        if self.seeds is not None and self.log is not None:
            raise InputError("--log wandb shows one run; with --seeds there are several: leave out one of the two")
        if self.seeds is not None and self.observe is not None:
            raise InputError(
                f"--observe {self.observe} watches one network, and with --seeds there are several side by side: leave "
                "out one of the two, or train the seeds one by one (--task.seed, --model.seed, --training.seed)"
            )
        if self.at_once is not None and self.seeds is None:
            raise InputError("--at-once says how many of several seeds train side by side; give --seeds too")
        experiment, n_runs = Experiment(self.task, self.model, self.training), self.seeds or 1
        out = self.out or _fresh_folder(experiment)
        check_device(self.device, tf32=self.tf32)
        check_observable(n_runs, self.device, observers_of(experiment, self.observe))
        at_once = min(n_runs, self.at_once or networks_at_once(experiment, self.device))
        # Before the steps to keep are listed, which can be too many.
        check_room(out, experiment, n_runs, at_once, observe=self.observe)
        n_kept, size = len(experiment.training.kept_steps()), as_size(n_runs * size_on_disk(experiment, self.observe))
        several = f"{as_count(self.seeds, 'seed')}, " if self.seeds is not None else ""
        work = f"{as_count(experiment.training.steps, 'step')}, {as_count(n_kept, 'checkpoint')}"
        headline = f"training {out}: {several}{work}, about {size}"
        with contextlib.ExitStack() as stack:
            reports = [stack.enter_context(wandb_log(experiment, out))] if self.log == "wandb" else []
            reports.append(stack.enter_context(training_progress(experiment, headline, self.seeds, at_once)))

            def report(snapshot: "Snapshot") -> None:
                for each in reports:
                    each(snapshot)

            how = {"overwrite": self.overwrite, "device": self.device, "tf32": self.tf32, "report": report}
            if self.seeds is None:
                run_experiment(experiment, out, observe=self.observe, **how)
            else:
                run_seeds(experiment, self.seeds, out, at_once=self.at_once, **how)
        say(f"done: interp report {out}" if self.seeds is None else f"done: interp list {out}")
        return 0


@dataclass(frozen=True)
class Resume:
    """Go on with an interrupted run; on a CPU the result is the same, to the last bit, as without the interruption."""

    path: RunPath
    """The folder of the run."""
    device: str = "cpu"
    """Where to train: cpu, or cuda."""
    force: bool = False
    """Train a run that diverged again, from its last state; on the same device to the same end."""

    def run(self) -> int:
        from interp.cli.progress import training_progress
        from interp.runs import open_run
        from interp.sweeps import resume_run

        _check_is_one_run(self.path)
        run = open_run(self.path)
        anew = " from its beginning: no state was saved" if run.state_step is None and not run.is_complete else ""
        with training_progress(run.experiment or Experiment(), f"resuming {self.path}{anew}") as report:
            resume_run(self.path, device=self.device, force=self.force, report=report)
        say(f"done: interp report {self.path}")
        return 0


@dataclass(frozen=True)
class Presets:
    """The experiments with a name."""

    def run(self) -> int:
        for name, (summary, _) in PRESETS.items():
            say(f"{name:<12}{summary}")
        return 0


def _is_given(option: str, arguments: Sequence[str]) -> bool:
    return any(word == f"--{option}" or word.startswith(f"--{option}=") for word in arguments)


def _check_is_one_run(path: Path) -> None:
    """Raises InputError for a folder of runs, with what goes on with those that are unfinished."""
    from interp.figures import as_count
    from interp.runs import ending_of, open_run, run_folders
    from interp.sweeps import what_is_left

    folders = list(run_folders(path))
    if path in folders:
        return
    if left := next(what_is_left(path), None):
        raise InputError(f"{path} is no run but the folder of a sweep: {left}")
    if folders:
        unfinished = [one for one in folders if ending_of(open_run(one)).state == "unfinished"]
        commands = " && ".join(f"interp resume {shlex.quote(str(one))}" for one in unfinished[:MOST_RESUMED])
        more = len(unfinished) - MOST_RESUMED
        rest = f", and so on with {as_count(more, 'other')} of `interp list {path} --where state=unfinished`"
        told = f"{len(unfinished):,} of them unfinished, and resume takes one: {commands}{rest if more > 0 else ''}"
        raise InputError(
            f"{path} is no run but a folder of {as_count(len(folders), 'run')}, "
            f"{told if unfinished else f'none of them unfinished: interp list {path}'}"
        )


def _fresh_folder(experiment: Experiment) -> Path:
    """A folder under checkpoints/ that does not exist yet, named after the task."""
    task = experiment.task
    if isinstance(task, Samples):
        what = f"{task.source}-{task.n_train}"
    else:
        what = f"{'-'.join([task.operation] if isinstance(task, Task) else task.operations)}-p{task.p}"
    name = f"{what}-{experiment.hash[:6]}"
    folder = Path("checkpoints") / name
    number = 2
    while folder.exists():
        folder = Path("checkpoints") / f"{name}-{number}"
        number += 1
    return folder
