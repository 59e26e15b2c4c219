"""The commands about runs as they lie on disk."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from interp.cli.commands.arguments import Positional, RunPath


@dataclass(frozen=True)
class List:
    """The runs under a folder."""

    folder: Annotated[Positional[Path], tyro.conf.arg(metavar="[DIR]")] = Path("checkpoints")
    """Where to look, at any depth."""

    def run(self) -> int:
        from interp.runs import list_runs

        for line in list_runs(self.folder):
            print(line)
        return 0


@dataclass(frozen=True)
class Info:
    """What a run is: task, model, training, checkpoints, versions."""

    path: RunPath
    """The folder of the run."""

    def run(self) -> int:
        from interp.runs import describe, open_run

        print("\n".join(describe(open_run(self.path))))
        return 0


@dataclass(frozen=True)
class Verify:
    """Recompute digests, shapes and stored losses of a run; exit code 2 on any difference."""

    path: RunPath
    """The folder of the run."""

    def run(self) -> int:
        from interp.cli.progress import walk
        from interp.runs import differences, open_run

        run = open_run(self.path)
        found = list(differences(run, walk))
        for line in found:
            print(f"interp: {line}", file=sys.stderr)
        if not found:
            print(f"{self.path}: {len(run)} checkpoints agree with their digests, shapes and recorded losses")
        return 2 if found else 0


@dataclass(frozen=True)
class Thin:
    """Remove checkpoints to save disk space; the first and the last stay, and so do all metrics."""

    path: RunPath
    """The folder of the run."""
    keep_every: int
    """Keep the checkpoints whose step is a multiple of this."""

    def run(self) -> int:
        from interp.runs import open_run, thin

        run = open_run(self.path)
        print(f"{self.path}: removed {thin(run, self.keep_every)} checkpoints, kept {len(run)}")
        return 0
