"""The commands of the command line: one dataclass each, whose fields are its options and whose `run` does it."""

from collections.abc import Sequence

from interp.cli.commands.analyzing import Analyses, Analyze, Explain, Plot, Report
from interp.cli.commands.comparing import Compare
from interp.cli.commands.experiments import Experiment
from interp.cli.commands.exporting import Export
from interp.cli.commands.importing import Import
from interp.cli.commands.runs import Info, List, Thin, Verify
from interp.cli.commands.training import Presets, Resume, Train
from interp.cli.commands.watching import Watch
from interp.cli.options import parse

_COMMANDS: dict[str, type] = {
    kind.__name__.lower(): kind
    for kind in (
        Train,
        Resume,
        Import,
        Watch,
        List,
        Info,
        Verify,
        Analyze,
        Explain,
        Compare,
        Plot,
        Report,
        Export,
        Thin,
        Experiment,
        Analyses,
        Presets,
    )
}


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Parse the options of a command and do it. Raises InputError, in one line, for options that cannot be."""
    kind = _COMMANDS[name]
    default = kind.defaults(arguments) if kind in (Train, Experiment) else None
    command = parse(kind, f"interp {name}", arguments, default)
    return command.run() if command is not None else 0
