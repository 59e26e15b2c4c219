"""The command line: `interp COMMAND …`. Thin, and quick to start: nothing heavy is imported before a command needs
it."""

import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# Where each command is, in interp.cli.commands, and what it does: help must not wait for any of them to be loaded.
COMMANDS = {
    "train": ("training.Train", "train a network and keep dense checkpoints of it"),
    "sweep": ("sweeping.SweepAxes", "train a network at every combination of values of some of its fields"),
    "resume": ("training.Resume", "go on with an interrupted run, to the same last bit"),
    "import": (
        "importing.Import",
        "turn checkpoints that others wrote into a run, and prove that they were read right",
    ),
    "curves": ("recorded.Curves", "what learning curves alone tell, from a csv, json or npz of anybody's training"),
    "watch": ("watching.Watch", "curves and spectrum in the terminal while training writes"),
    "list": ("runs.List", "the runs under a folder"),
    "collect": ("sweeping.Collect", "one table over the runs of a sweep, or of any folder, as csv or netcdf"),
    "best": ("choosing.Best", "the best of many runs, chosen on validation pairs and reported on test pairs"),
    "info": ("runs.Info", "what a run is: task, model, training, checkpoints, versions"),
    "verify": ("runs.Verify", "check every sum of a run, that all of it is there, and its numbers against the weights"),
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
    try:
        from interp.cli import output

        output.prepare()
        with _notices_as_lines():
            code = _run(list(sys.argv[1:] if arguments is None else arguments))
        if (reason := output.finish()) is not None:
            raise reason
        return code
    except (Exception, KeyboardInterrupt) as error:
        if arguments is None:
            _end_at_once_from_now_on()
        from interp.cli import door

        code = door.leave(error)
        if code is None:
            raise
        return code
    finally:
        if arguments is None:
            _end_at_once_from_now_on()


def _end_at_once_from_now_on() -> None:
    """Ctrl-C pressed once more, while the process goes down, ends it without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run(arguments: list[str]) -> int:
    from interp.cli.output import say, say_lines

    if not arguments or arguments[0] in ("-h", "--help", "help"):
        say_lines(help_text())
        return 0
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        say(f"interp {version('interp')}")
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


@contextmanager
def _notices_as_lines() -> Iterator[None]:
    """A Notice is a line on stderr, whatever is done with other warnings; it changes no exit code."""
    from interp.cli.output import say
    from interp.errors import Notice

    with warnings.catch_warnings():
        warnings.simplefilter("always", Notice)
        show = warnings.showwarning

        def told(message: Warning | str, category: type[Warning], *rest, **more) -> None:
            if issubclass(category, Notice):
                say(f"interp: {message}", on_stderr=True)
            else:
                show(message, category, *rest, **more)

        warnings.showwarning = told
        yield
