"""The commands about runs as they lie on disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from interp.cli.commands.arguments import Positional, RunPath
from interp.cli.output import say


@dataclass(frozen=True)
class List:
    """The runs under a folder."""

    folder: Annotated[Positional[Path], tyro.conf.arg(metavar="[DIR]")] = Path("checkpoints")
    """Where to look, at any depth."""
    where: tuple[str, ...] = ()
    """Only runs that meet these conditions, such as "training.weight-decay>=1" or verdict=grokking: fields of task,
    model and training, axes of a sweep, last metrics (test-accuracy), state, verdict, memorized-at, generalized-at."""
    sort: str | None = None
    """What to sort by: the same names; with a minus before it, -NAME, the largest first."""
    reverse: bool = False
    """The largest first."""

    def run(self) -> int:
        from interp.runs import list_runs, run_folders
        from interp.sweeps import read_sweep, what_is_left

        sweep, left = read_sweep(self.folder), list(what_is_left(self.folder))
        known = sweep.runs if sweep is not None else None
        # Of a sweep of which nothing has begun its own line tells, with its command.
        if not left or next(run_folders(self.folder), None) is not None:
            how = {"where": self.where, "sort": self.sort, "reverse": self.reverse, "coordinates": known}
            for line in list_runs(self.folder, **how):
                say(line)
        for line in left:
            say(line)
        return 0


@dataclass(frozen=True)
class Info:
    """What a run is: task, model, training, checkpoints, versions."""

    path: RunPath
    """The folder of the run."""

    def run(self) -> int:
        from interp.runs import describe, open_run

        for line in [*describe(open_run(self.path))]:  # all of it, or none where something is damaged
            say(line)
        return 0


@dataclass(frozen=True)
class Verify:
    """Check every sum of a run, that all of it is there, and its losses, accuracies and norms against the weights; exit
    code 2 on any difference."""

    path: RunPath
    """The folder of the run."""
    deep: bool = False
    """Also compute every result anew that is kept with the run, and compare."""

    def run(self) -> int:
        from interp.cli.progress import walk
        from interp.runs import open_run, verify

        run = open_run(self.path)
        found = verify(run, walk)
        if self.deep:
            from interp.analysis import verify_results

            results = verify_results(run, walk)
            found.checked += results.checked
            found.unchecked = [line for line in found.unchecked if "--deep" not in line] + results.unchecked
            found.contradictions += results.contradictions
        for line in found.checked:
            say(f"checked      {line}")
        for line in found.unchecked:
            say(f"not checked  {line}")
        if not found.contradictions:
            say(f"{self.path}: nothing contradicts anything else")
            return 0
        for line in found.contradictions:
            say(f"interp: {line}", on_stderr=True)
        n = len(found.contradictions)
        told = "; ".join([f"{n:,} contradiction{'s' * (n > 1)}", *found.remedies])
        say(f"interp: {self.path}: {told}", on_stderr=True)
        return 2


@dataclass(frozen=True)
class Thin:
    """Remove checkpoints to save disk space; the first and the last stay, and so do all metrics."""

    path: RunPath
    """The folder of the run."""
    keep_every: int
    """Keep the checkpoints whose step is a multiple of this."""

    def run(self) -> int:
        from interp.figures import as_count
        from interp.runs import open_run, thin

        run = open_run(self.path)
        removed = as_count(thin(run, self.keep_every), "checkpoint")
        say(f"{self.path}: removed {removed}, kept {len(run):,}")
        return 0
