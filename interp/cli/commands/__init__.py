"""The commands of the command line: one dataclass each, whose fields are its options and whose `run` does it."""

from collections.abc import Sequence
from importlib import import_module

from interp.cli.options import parse


def command_class(name: str) -> type:
    """The dataclass of a command."""
    from interp.cli import COMMANDS

    module, kind = COMMANDS[name][0].split(".")
    return getattr(import_module(f"interp.cli.commands.{module}"), kind)


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Parse the options of a command and do it. Raises InputError, in one line, for options that cannot be."""
    kind = command_class(name)
    default = kind.defaults(arguments) if hasattr(kind, "defaults") else None
    command = parse(kind, f"interp {name}", arguments, default)
    return command.run() if command is not None else 0
