"""The command that conducts a controlled experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from interp.cli.commands.arguments import Positional
from interp.cli.commands.costs import cost_in_words
from interp.cli.output import MOST_OF_A_LIST, say, say_lines
from interp.errors import InputError
from interp.studies import Design


@dataclass(frozen=True)
class Study:
    """Put a prediction to the test: train a grid of networks, measure, and say what was confirmed and what was not.

    NAME is circuit-efficiency, ungrokking, critical-size, semi-grokking, data-fraction, weight-decay, growth-ratios,
    verdicts, slingshots, grokfast, recipes, double-descent, effective-model-complexity, bias-variance, scaling,
    four-zones, learning-phases or prequential-code. Stopped, the same command goes on. Options change the design of the
    experiment (interp experiment NAME --help has them); without any it is the one in docs/why-does-it-grok.md, of
    verdicts that in docs/verdicts.md, of slingshots and grokfast that in docs/training-dynamics.md, of recipes that in
    docs/recipes.md, of double-descent that in docs/double-descent.md, of effective-model-complexity and bias-variance
    that in docs/effective-complexity.md, of scaling that in docs/scaling.md, of four-zones and learning-phases that in
    docs/one-view.md, of prequential-code that in docs/compression.md."""

    name: Annotated[Positional[str], tyro.conf.arg(metavar="NAME", help_behavior_hint="(required)")] = ""
    """Which experiment."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The folder for its runs, result and figure; by default experiments/NAME."""
    full: bool = False
    """The published setup: lr 1e-3, more seeds, longer. Days on a laptop."""
    processes: int | None = None
    """How many networks to train at a time, one thread each; by default one per core."""
    dry_run: bool = False
    """Train nothing; say how many runs, hours and gigabytes it would be."""
    design: Annotated[Design, tyro.conf.arg(name="")] = field(kw_only=True)

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> "Study | None":
        """The values that hold for the options not given: those of the experiment that is named."""
        from interp.studies import NAMES, find

        name = next((argument for argument in arguments if argument in NAMES), None)
        if name is not None:
            return cls(name, design=find(name).FULL if "--full" in arguments else find(name).DESIGN)
        if arguments and not arguments[0].startswith("-"):
            find(arguments[0])  # raises, naming the nearest
        return None if {"-h", "--help"} & {*arguments} else cls(design=Design())

    def run(self) -> int:
        from interp.cli.progress import grid_progress
        from interp.figures import as_count
        from interp.machine import write_atomically
        from interp.pages import render_experiment
        from interp.studies import NAMES, conduct, find
        from interp.sweeps import cost_of, done_runs

        if not self.name:
            raise InputError(f"interp experiment needs NAME: {', '.join(NAMES)}")
        if self.processes is not None and self.processes < 1:
            raise InputError(f"processes must be at least 1, got {self.processes}")
        experiment = find(self.name)
        out = self.out or Path("experiments") / self.name
        grid = experiment.grid(self.design, full=self.full)
        headline = f"{experiment.TITLE}: {as_count(len(grid), 'run')} in {out}"
        if self.dry_run:
            done = done_runs([run.name for run in grid], out / "runs")
            say(f"{headline}, {len(done):,} of them done")
            say_lines("\n".join(cost_in_words(cost_of(grid, done, "all", self.processes), "all")))
            return 0
        with grid_progress(headline) as report:
            outcome = conduct(self.name, out, self.design, full=self.full, processes=self.processes, report=report)
        if outcome.failed_precondition is not None:
            say(f"nothing can be shown: {outcome.failed_precondition}")
        for prediction in outcome.predictions:
            because = "" if prediction.because == outcome.failed_precondition else f"; {prediction.because}"
            say(f"{prediction.name} {prediction.verdict}: {prediction.statement}{because}")
        if hasattr(experiment, "table") and outcome.failed_precondition is None:
            say_lines(in_columns(experiment.table(outcome.result)), most=MOST_OF_A_LIST)
        page = out / "report.html"
        write_atomically(page, render_experiment(out).encode())
        for path in (*outcome.files.values(), page):
            say(path)
        return 0


def in_columns(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows below their titles, each column as wide as it needs.

    >>> print(in_columns([{"recipe": "dropout", "keys": "4"}, {"recipe": "Muon", "keys": "12"}]))
    recipe   keys
    dropout  4
    Muon     12
    """
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
