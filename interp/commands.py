"""The commands of the command line: one dataclass each, whose fields are its options and whose `run` does it."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from interp.experiment import PRESETS, Experiment, ModelConfig, TrainingConfig, experiment_from_toml, preset
from interp.options import parse, value_of
from interp.task import Task

Positional = tyro.conf.Positional
RunPath = Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]
Output = Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")]


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
    task: Task = field(default_factory=Task)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> "Train":
        """The values that hold for the options not given: those of the preset and the file."""
        name, config = value_of("--preset", arguments), value_of("--config", arguments)
        experiment = preset(name or "quick")
        if config is not None:
            experiment = experiment_from_toml(Path(config), experiment)
        return cls(task=experiment.task, model=experiment.model, training=experiment.training)

    def run(self) -> int:
        from interp.progress import training_progress
        from interp.running import check_room, megabytes, run_experiment, size_on_disk

        experiment = Experiment(self.task, self.model, self.training)
        out = self.out or _fresh_folder(experiment)
        check_room(out, experiment)  # before the steps to keep are listed, which can be too many
        n_kept, size = len(experiment.training.kept_steps()), megabytes(size_on_disk(experiment))
        headline = f"training {out}: {experiment.training.steps:,} steps, {n_kept:,} checkpoints, about {size}"
        with training_progress(experiment, headline) as report:
            run_experiment(experiment, out, overwrite=self.overwrite, report=report)
        print(f"done: interp report {out}")
        return 0


@dataclass(frozen=True)
class Resume:
    """Go on with an interrupted run; the result is the same, to the last bit, as without the interruption."""

    path: RunPath
    """The folder of the run."""

    def run(self) -> int:
        from interp.progress import training_progress
        from interp.running import resume_run
        from interp.store import open_run

        experiment = open_run(self.path).experiment
        with training_progress(experiment or Experiment(), f"resuming {self.path}") as report:
            resume_run(self.path, report=report)
        print(f"done: interp report {self.path}")
        return 0


@dataclass(frozen=True)
class List:
    """The runs under a folder."""

    folder: Annotated[Positional[Path], tyro.conf.arg(metavar="[DIR]")] = Path("checkpoints")
    """Where to look, at any depth."""

    def run(self) -> int:
        from interp.listing import list_runs

        for line in list_runs(self.folder):
            print(line)
        return 0


@dataclass(frozen=True)
class Info:
    """What a run is: task, model, training, checkpoints, versions."""

    path: RunPath
    """The folder of the run."""

    def run(self) -> int:
        from interp.listing import describe
        from interp.store import open_run

        print("\n".join(describe(open_run(self.path))))
        return 0


@dataclass(frozen=True)
class Verify:
    """Recompute digests, shapes and stored losses of a run; exit code 2 on any difference."""

    path: RunPath
    """The folder of the run."""

    def run(self) -> int:
        from interp.progress import walk
        from interp.store import open_run
        from interp.verification import differences

        run = open_run(self.path)
        found = list(differences(run, walk))
        for line in found:
            print(f"interp: {line}", file=sys.stderr)
        if not found:
            print(f"{self.path}: {len(run)} checkpoints agree with their digests, shapes and recorded losses")
        return 2 if found else 0


@dataclass(frozen=True)
class Analyze:
    """Run analyses over all checkpoints of a run and print their summaries."""

    path: RunPath
    """The folder of the run."""
    names: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="[NAME ...]")] = ()
    """Analyses, by name (`interp analyses`); without any, all of them."""
    json: bool = False
    """Print one JSON object: analysis name → its summary."""
    csv: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Also write the results as tables into this folder."""

    def run(self) -> int:
        from interp.analysis import analyze, find
        from interp.listing import readable
        from interp.progress import walk
        from interp.store import open_run
        from interp.tables import write_tables

        results = analyze(open_run(self.path), self.names or None, progress=walk)
        summaries = {name: find(name).module.summary(result) for name, result in results.items()}
        if self.csv is not None:
            write_tables(results, self.csv)
        if self.json:
            print(json.dumps(summaries, indent=2, allow_nan=False))
            return 0
        for name, summary in summaries.items():
            print(f"{name}: {find(name).title}")
            for key, value in summary.items():
                print(f"  {key.replace('_', ' ')}: {readable(value)}")
        return 0


@dataclass(frozen=True)
class Explain:
    """What happened in a run, and by which circuit, with the evidence for and against."""

    path: RunPath
    """The folder of the run."""
    step: int | None = None
    """The checkpoint to explain; by default the last."""
    json: bool = False
    """Print the numbers as one JSON object (docs/guide.md says what they are)."""

    def run(self) -> int:
        from interp.explain import explain
        from interp.progress import walk
        from interp.store import open_run

        explanation = explain(open_run(self.path), self.step, progress=walk)
        print(json.dumps(explanation.numbers, indent=2, allow_nan=False) if self.json else explanation)
        return 0


@dataclass(frozen=True)
class Plot:
    """The figure of one analysis."""

    path: RunPath
    """The folder of the run."""
    name: Annotated[Positional[str], tyro.conf.arg(metavar="NAME")]
    """The analysis (`interp analyses`)."""
    output: Output = None
    """The file to write; its ending says what: .html, .png, .svg, .pdf or .json. By default NAME.html."""

    def run(self) -> int:
        from interp.analysis import analyze, find
        from interp.images import check_ending, write_figure
        from interp.progress import walk
        from interp.store import open_run

        analysis = find(self.name)
        output = self.output or Path(f"{self.name}.html")
        check_ending(output)
        result = analyze(open_run(self.path), [self.name], progress=walk)[self.name]
        write_figure(analysis.module.plot(result), output)
        print(output)
        return 0


@dataclass(frozen=True)
class Report:
    """One self-contained HTML page about a run; it opens without network or server."""

    path: RunPath
    """The folder of the run."""
    output: Output = None
    """The file to write; by default report.html in the folder of the run."""

    def run(self) -> int:
        from interp.analysis import analyze
        from interp.files import write_atomically
        from interp.progress import walk
        from interp.report.page import render
        from interp.store import open_run

        run = open_run(self.path)
        output = self.output or self.path / "report.html"
        page = render(run, analyze(run, progress=walk))
        write_atomically(output, page.encode())
        print(output)
        return 0


@dataclass(frozen=True)
class Thin:
    """Remove checkpoints to save disk space; the first and the last stay, and so do all metrics."""

    path: RunPath
    """The folder of the run."""
    keep_every: int
    """Keep the checkpoints whose step is a multiple of this."""

    def run(self) -> int:
        from interp.store import open_run
        from interp.writer import thin

        run = open_run(self.path)
        print(f"{self.path}: removed {thin(run, self.keep_every)} checkpoints, kept {len(run)}")
        return 0


@dataclass(frozen=True)
class Analyses:
    """The analyses there are."""

    def run(self) -> int:
        from interp.analysis import discover

        for name, analysis in discover().items():
            print(f"{name:<22}{analysis.title}")
        return 0


@dataclass(frozen=True)
class Presets:
    """The experiments with a name."""

    def run(self) -> int:
        for name, (summary, _) in PRESETS.items():
            print(f"{name:<12}{summary}")
        return 0


_COMMANDS: dict[str, type] = {
    kind.__name__.lower(): kind for kind in (Train, Resume, List, Info, Verify, Analyze, Explain, Plot, Report, Thin, Analyses, Presets)
}


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Parse the options of a command and do it. Raises InputError, in one line, for options that cannot be."""
    kind = _COMMANDS[name]
    default = Train.defaults(arguments) if kind is Train else None
    command = parse(kind, f"interp {name}", arguments, default)
    return command.run() if command is not None else 0


def _fresh_folder(experiment: Experiment) -> Path:
    """A folder under checkpoints/ that does not exist yet, named after the task."""
    name = f"{experiment.task.operation}-p{experiment.task.p}-{experiment.hash[:6]}"
    folder = Path("checkpoints") / name
    number = 2
    while folder.exists():
        folder = Path("checkpoints") / f"{name}-{number}"
        number += 1
    return folder
