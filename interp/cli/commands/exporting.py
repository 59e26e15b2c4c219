"""The commands that write a run anew: one operation of it, or in other people's formats."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from interp.cli.commands.arguments import Positional, RunPath
from interp.cli.output import say


@dataclass(frozen=True)
class Extract:
    """Of a network of several operations make a run of one: the same answers and neurons, as the network of one task,
    about which everything can be asked, and which can be exported."""

    path: RunPath
    """The folder of the run."""
    operation: Positional[str]
    """The operation, by its name."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="NEW")] = None
    """The folder of the new run; by default RUN-OPERATION beside the run."""

    def run(self) -> int:
        from interp.runs import extract, open_run

        run = open_run(self.path)
        out = self.out or self.path.parent / f"{self.path.resolve().name}-{self.operation}"
        extract(run, self.operation, out)
        say(f"done: interp report {out}")
        return 0


@dataclass(frozen=True)
class Export:
    """Write a run for TransformerLens, for the Hugging Face Hub, or as numpy arrays, into a new folder."""

    path: RunPath
    """The folder of the run."""
    to: Literal["transformer-lens", "huggingface", "numpy"]
    """The format."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The folder to write; by default RUN-FORMAT beside the run."""
    push: Annotated[str | None, tyro.conf.arg(metavar="OWNER/NAME")] = None
    """Also upload the folder to this repository of the Hugging Face Hub; with --to huggingface."""

    def run(self) -> int:
        from interp.errors import InputError
        from interp.interchange import export_run, push
        from interp.runs import open_run

        if self.push is not None and self.to != "huggingface":
            raise InputError("--push goes with --to huggingface")
        run = open_run(self.path)
        out = export_run(run, self.to, self.out or self.path.parent / f"{self.path.resolve().name}-{self.to}")
        say(out)
        if self.push is not None:
            say(push(out, self.push))
        return 0
