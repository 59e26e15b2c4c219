"""The command that conducts a controlled experiment."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import tyro

from interp.cli.commands.arguments import Positional
from interp.errors import InputError
from interp.studies import Design


@dataclass(frozen=True)
class Experiment:
    """Put a prediction to the test: train a grid of networks, measure, and say what was confirmed and what was not.

    NAME is circuit-efficiency, ungrokking, semi-grokking, data-fraction or weight-decay. Stopped, the same command goes
    on. The grid options change the design of the experiment; without any it is the one in docs/why-does-it-grok.md."""

    name: Annotated[Positional[str], tyro.conf.arg(metavar="NAME", help_behavior_hint="(required)")] = ""
    """Which experiment."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The folder for its runs, result and figure; by default experiments/NAME."""
    full: bool = False
    """The published setup: lr 1e-3, more seeds, longer. Days on a laptop."""
    processes: int | None = None
    """How many networks to train at a time, one thread each; by default one per core."""
    p: int = Design.p
    """The modulus."""
    sizes: tuple[int, ...] = Design.sizes
    """Training pairs D."""
    weight_decays: tuple[float, ...] = Design.weight_decays
    """Weight decays."""
    seeds: int = Design.seeds
    """Seeds 0 … N−1, each of split and initial weights."""
    duration: float = Design.duration
    """How long each network trains, in units of 1/(lr·wd) steps."""
    lr: float = Design.lr
    """The learning rate, at weight decay 1."""
    rescale_lr: bool = Design.rescale_lr
    """Whether the learning rate is lr / weight decay, so that all weight decays have one pace."""
    eps: float = Design.eps
    """AdamW's eps."""
    d_model: int = Design.d_model
    """Width of the residual stream (4 heads)."""
    d_mlp: int = Design.d_mlp
    """Number of neurons."""

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> "Experiment":
        """The values that hold for the options not given: those of the experiment that is named."""
        from interp.studies import NAMES, find

        name = next((argument for argument in arguments if argument in NAMES), None)
        if name is None:
            wrong = [argument for argument in arguments[:1] if not argument.startswith("-")]
            if wrong:
                find(wrong[0])
            return cls()
        design = find(name).FULL if "--full" in arguments else find(name).DESIGN
        return cls(name=name, **{field.name: getattr(design, field.name) for field in fields(Design)})

    def run(self) -> int:
        from interp.cli.progress import grid_progress
        from interp.machine import write_atomically
        from interp.pages import render_experiment
        from interp.studies import NAMES, conduct, find

        if not self.name:
            raise InputError(f"interp experiment needs NAME: {', '.join(NAMES)}")
        if self.processes is not None and self.processes < 1:
            raise InputError(f"processes must be at least 1, got {self.processes}")
        experiment = find(self.name)
        design = replace(Design(sizes=(1,)), **{field.name: getattr(self, field.name) for field in fields(Design)})
        out = self.out or Path("experiments") / self.name
        with grid_progress(
            f"{experiment.TITLE}: {len(experiment.grid(design, full=self.full))} runs in {out}"
        ) as report:
            outcome = conduct(self.name, out, design, full=self.full, processes=self.processes, report=report)
        for prediction in outcome.predictions:
            print(f"{prediction.name} {prediction.verdict}: {prediction.statement}; {prediction.because}")
        page = out / "report.html"
        write_atomically(page, render_experiment(out).encode())
        for path in (*outcome.files.values(), page):
            print(path)
        return 0
