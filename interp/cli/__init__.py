"""The command line: `interp COMMAND …`. Thin, and quick to start: nothing heavy is imported before a command needs
it."""

import os
import sys
from collections.abc import Sequence

# Where each command is, in interp.cli.commands, and what it does: help must not wait for any of them to be loaded.
COMMANDS = {
    "train": ("training.Train", "train a network and keep dense checkpoints of it"),
    "resume": ("training.Resume", "go on with an interrupted run, to the same last bit"),
    "import": (
        "importing.Import",
        "turn checkpoints that others wrote into a run, and prove that they were read right",
    ),
    "curves": ("recorded.Curves", "what learning curves alone tell, from a csv, json or npz of anybody's training"),
    "watch": ("watching.Watch", "curves and spectrum in the terminal while training writes"),
    "list": ("runs.List", "the runs under a folder"),
    "info": ("runs.Info", "what a run is: task, model, training, checkpoints, versions"),
    "verify": ("runs.Verify", "recompute digests, shapes and stored losses of a run"),
    "analyze": ("analyzing.Analyze", "run analyses over all checkpoints; print, JSON or CSV"),
    "explain": ("analyzing.Explain", "what happened in a run, and by which circuit, with the evidence for and against"),
    "compare": (
        "comparing.Compare",
        "checkpoints side by side, of one run or of several: what was set differently, and what came of it",
    ),
    "plot": ("analyzing.Plot", "the figure of one analysis, as html, png, svg, pdf or json"),
    "report": ("analyzing.Report", "one self-contained HTML page about a run"),
    "export": ("exporting.Export", "write a run for TransformerLens, for the Hugging Face Hub, or as numpy arrays"),
    "thin": ("runs.Thin", "remove checkpoints to save disk space"),
    "experiment": ("experiments.Study", "put a prediction to the test: a grid of runs, figures, and a verdict"),
    "analyses": ("analyzing.Analyses", "the analyses there are"),
    "presets": ("training.Presets", "the experiments with a name"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0; 2 for bad input or a difference found; 130 after an interruption, 141
    when the reader of the output went away, as shells have it."""
    from interp.errors import InputError

    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        print(end="", flush=True)
        return code
    except InputError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt as error:
        return _fail(str(error) or "interrupted", 130)
    except OSError as error:
        code = 141
        if not isinstance(error, BrokenPipeError):
            code = _fail(": ".join(map(str, filter(None, (error.filename, error.strerror or error)))), 2)
        _drop_output()
        return code


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"interp {version('interp')}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        from interp.errors import unknown_name

        raise unknown_name("command", name, COMMANDS)
    from interp.machine import wait_without_spinning

    wait_without_spinning()
    from interp.cli.commands import run_command

    return run_command(name, rest)


def help_text() -> str:
    """What `interp --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: interp COMMAND [OPTIONS]",
            "",
            "Watch a neural network grok: train, checkpoint, analyze and explain.",
            "",
            *lines,
            "",
            "`interp COMMAND --help` shows the options of a command. To begin: interp train, then interp report "
            "on the run it names.",
        ]
    )


def _fail(message: str, code: int) -> int:
    print(f"interp: {' '.join(message.split())}", file=sys.stderr)
    return code


def _drop_output() -> None:
    """What still waits to be written has nowhere to go; the interpreter would try again at its end, and complain."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
