"""The command that compares."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from interp.cli.commands.arguments import Output, Positional
from interp.cli.output import drawn, say, say_json, say_lines

if TYPE_CHECKING:
    from interp.explanation import Comparison


@dataclass(frozen=True)
class Compare:
    """Checkpoints side by side, of one run or of several: what was set differently, and what came of it.

    Each side is RUN, for its last checkpoint, or RUN@STEP."""

    sides: Annotated[
        Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN[@STEP] ...", help_behavior_hint="(required)")
    ]
    """Two sides or more, as in `checkpoints/first@100 checkpoints/first@2000`."""
    output: Output = None
    """Write one self-contained HTML page to this file: figures, and a slider over the checkpoints of every side."""
    sliders: bool = True
    """Whether the page has sliders; they need the core of the analyses of all checkpoints, which are kept with
    the runs."""
    json: bool = False
    """Print the numbers as one JSON object (docs/guide.md says what they are)."""

    def run(self) -> int:
        from interp.analysis import analyze
        from interp.cli.progress import walk
        from interp.errors import InputError
        from interp.explanation import compare

        if self.output is not None and self.output.suffix != ".html":
            raise InputError(f"the page of a comparison is a .html file, not {self.output}")
        comparison = compare(*self.sides, progress=walk)
        if self.output is not None:
            from interp.machine import write_atomically
            from interp.pages import explored, render_comparison

            results = None
            if self.sliders:
                runs = {side.run.path.resolve(): side.run for side in explored(comparison)}
                results = {path: analyze(run, progress=walk, parallel=True) for path, run in runs.items()}
            write_atomically(self.output, render_comparison(comparison, results, progress=walk).encode())
        if self.json:
            say_json(comparison.numbers)
        elif self.output is not None:
            say(self.output)
        else:
            _print(comparison)
        return 0


def _print(comparison: "Comparison") -> None:
    """Tables of rich on a terminal, plain lines otherwise."""
    from interp.explanation import closing, plain, tables

    if not sys.stdout.isatty():
        say_lines(plain(comparison))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for table in tables(comparison):
        console.print(drawn(table.title, "bold"))
        if not table.rows:
            console.print(drawn(f"  {table.otherwise}"))
            console.print()
            continue
        grid = Table(box=SIMPLE_HEAD)
        for index, name in enumerate(table.head):
            grid.add_column(drawn(name), justify="right" if index else "left")
        for row in table.rows:
            grid.add_row(*map(drawn, row))
        console.print(grid)
    for paragraph in closing(comparison):
        console.print(drawn(paragraph))
