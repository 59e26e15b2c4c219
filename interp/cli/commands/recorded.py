"""The command that reads learning curves which others recorded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from interp.cli.commands.arguments import Positional
from interp.cli.output import say, say_json, say_lines


@dataclass(frozen=True)
class Curves:
    """What learning curves alone tell: a verdict in one of six words, its steps, the falls, what was read from which
    column, and what curves cannot say.

    csv and tsv (W&B, TensorBoard, Lightning), json (trainer_state.json of Hugging Face, rows, lists by name), jsonl and
    npz; several files, where each has one curve."""

    files: Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE ...", help_behavior_hint="(required)")]
    """Files of curves."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="PAGE.html")] = None
    """Also write a page."""
    step: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """The column of steps, where it is not to be recognized."""
    train_loss: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    test_loss: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    train_accuracy: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    test_accuracy: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    weight_norm: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """The norm of all weights: with it, beside the test loss, ends of phases can be told."""
    every: int = 1
    """How many steps apart rows are, where there is no column of steps."""
    first: int = 0
    """The step of the first row, where there is no column of steps."""
    accuracies: Literal["share", "percent", "each"] | None = None
    """What accuracies are counted in, all of them or each by its own largest value; by default told from them."""
    loss: Literal["cross-entropy", "other"] | None = None
    """Whether losses are cross-entropies in nats; others stand for no accuracy. By default their names say it."""
    classes: int | None = None
    """How many answers there are, p for a modulus."""
    long: bool = False
    """Say all that there is to say."""
    json: bool = False
    """Print the numbers as one JSON object."""

    def run(self) -> int:
        from interp.interchange import curves
        from interp.machine import write_atomically
        from interp.pages import render_curves

        told = curves(
            self.files,
            step=self.step,
            train_loss=self.train_loss,
            test_loss=self.test_loss,
            train_accuracy=self.train_accuracy,
            test_accuracy=self.test_accuracy,
            weight_norm=self.weight_norm,
            every=self.every,
            first=self.first,
            accuracies=self.accuracies,
            loss=self.loss,
            classes=self.classes,
        )
        if self.out is not None:
            write_atomically(self.out, render_curves(told).encode())
        if self.json:
            say_json(told.numbers)
        else:
            say_lines(told.long if self.long else told)
        if self.out is not None and not self.json:
            say(self.out)
        return 0
