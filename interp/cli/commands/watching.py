"""The command that watches a run grow."""

from dataclasses import dataclass

from interp.cli.commands.arguments import RunPath
from interp.cli.output import say
from interp.errors import check_number


@dataclass(frozen=True)
class Watch:
    """Curves and spectrum of a run in the terminal, while training writes it; ends with the run."""

    path: RunPath
    """The folder of the run."""
    interval: float = 1.0
    """Seconds between two looks."""

    def run(self) -> int:
        from interp.cli.watching import watch
        from interp.runs import open_run

        check_number("interval", self.interval, 0.05, 3600)
        say(watch(open_run(self.path), interval=self.interval))
        return 0
