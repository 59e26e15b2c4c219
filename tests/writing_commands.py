"""Every command that writes, with what it needs, and what ends it after a kill: for tests/kill_commands.py."""

import contextlib
import io
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from interp.cli import main as interp
from interp.errors import InputError
from interp.interchange import export_run
from interp.runs import open_run
from tests.small_runs import finished, module, recorder, trained

Command = tuple[str, ...] | Callable[[], int]
RUN = Path("run")
SIZES = ("--task.p=7", "--task.train-fraction=0.5", "--model.d-model=8", "--model.n-heads=2", "--model.d-mlp=8")
SCHEDULE = ("--training.steps=20", "--training.checkpoint-every=5", "--training.log-every=2")
TRAIN = ("train", *SIZES, *SCHEDULE, "--out", "run")
IMPORT = ("import", "arrays", "--out", "run", "--accept-unverified")
EXPERIMENT = (
    *(
        "experiment",
        "ungrokking",
        "--p=7",
        "--sizes",
        "10",
        "20",
        "--weight-decays",
        "1",
        "--seeds=1",
        "--duration=0.1",
    ),
    *("--lr=0.01", "--d-model=8", "--d-mlp=8", "--processes=1", "--out", "here"),
)


@dataclass
class Case:
    """A command, and what goes with it."""

    name: str
    command: Command
    prepare: Callable[[], object] = lambda: None
    again: Callable[[], Command] | None = None  # what ends what was killed; by default the same
    whole: tuple[str, ...] = ()  # folders that come at once


def in_peace(command: Command) -> None:
    """Run a command in this process; it must succeed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = command() if callable(command) else interp(command)
    assert code == 0, f"{command}: exit code {code}: {said.getvalue()}"


# ---- the commands ----------------------------------------------------------------------------------------------------


def a_run() -> None:
    finished(RUN)


def another_run() -> None:
    """One that is to be overwritten: of other weights, so that a mixture of both would not verify."""
    in_peace(("train", *SIZES, *SCHEDULE, "--model.seed=3", "--out", "run"))


def arrays_and_another_run() -> None:
    arrays()
    another_run()


def half_a_run() -> None:
    trained(RUN, stop_at=10)


def arrays() -> None:
    trained(Path("source"))
    export_run(open_run("source"), "numpy", "arrays")


def with_an_old(name: str) -> Callable[[], None]:
    def prepare() -> None:
        finished(RUN)
        Path(name).write_text("an older page")

    return prepare


def curves() -> None:
    lines = [f"{step},{2 / (1 + step / 10):.4f},{min(1, step / 300):.4f}" for step in range(0, 400, 10)]
    Path("log.csv").write_text("\n".join(["step,train_loss,test_accuracy", *lines, ""]))


def loop(steps: Iterable[int] = range(21)) -> int:
    """Somebody's own training loop, which goes on where it was."""
    torch.manual_seed(1)
    net = module()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    pairs = torch.cartesian_prod(torch.arange(7), torch.arange(7))
    try:
        with recorder(RUN, net, resume=True) as kept:
            begin, state = 0, kept.load_state()
            if state is not None:
                net.load_state_dict(state.weights)
                optimizer.load_state_dict(state.optimizer["adam"])
                begin = state.step + 1
                _update(net, optimizer, pairs)
            for step in steps:
                if step < begin:
                    continue
                if step % 5 == 0:
                    kept.save(step, optimizer={"adam": optimizer.state_dict()}, learning_rate=0.01)
                _update(net, optimizer, pairs)
    except KeyboardInterrupt:
        return 130
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _update(net: torch.nn.Module, optimizer: torch.optim.Optimizer, pairs: torch.Tensor) -> None:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(pairs), pairs.sum(1) % 7).backward()
    optimizer.step()


def model_card() -> int:
    """`export --to huggingface` without its figures, which a browser draws."""
    try:
        export_run(open_run(RUN), "huggingface", "card", figures=())
    except KeyboardInterrupt:
        return 130
    return 0


def train_again() -> Command:
    """What ends a training: its resumption, or, where it had ended, a new one in its place."""
    if not RUN.exists():
        return TRAIN
    return (*TRAIN, "--overwrite") if open_run(RUN).is_complete else ("resume", "run")


def overwrite_again() -> Command:
    return (*TRAIN, "--overwrite")


def without(folder: str, command: Command) -> Callable[[], Command]:
    """The same command, after what it made was taken away."""

    def again() -> Command:
        shutil.rmtree(folder, ignore_errors=True)
        return command

    return again


def resume_again() -> Command:
    return ("verify", "run") if open_run(RUN).is_complete else ("resume", "run")


CASES = [
    Case("train", TRAIN, again=train_again, whole=("run",)),
    Case("train --overwrite", (*TRAIN, "--overwrite"), another_run, overwrite_again),
    Case("train --seeds 2", (*TRAIN, "--seeds=2"), again=without("run", (*TRAIN, "--seeds=2"))),
    Case("resume", ("resume", "run"), half_a_run, resume_again),
    Case("import", IMPORT, arrays, without("run", IMPORT), whole=("run",)),
    Case("import --overwrite", (*IMPORT, "--overwrite"), arrays_and_another_run),
    Case("Recorder", loop, again=lambda: loop, whole=("run",)),
    Case("analyze", ("analyze", "run", "weight_norms", "transitions", "neuron_periodicity", "--csv", "tables"), a_run),
    Case("report", ("report", "run"), with_an_old("run/report.html")),
    Case("plot", ("plot", "run", "weight_norms", "-o", "norms.html"), with_an_old("norms.html")),
    Case("compare", ("compare", "run@5", "run", "-o", "both.html"), with_an_old("both.html")),
    Case("thin", ("thin", "run", "--keep-every", "10"), a_run),
    Case("verify", ("verify", "run"), a_run),
    *(
        Case(
            f"export {to}",
            one := ("export", "run", "--to", to, "--out", "theirs"),
            a_run,
            without("theirs", one),
            whole=("theirs",),
        )
        for to in ("numpy", "transformer-lens")
    ),
    Case("export huggingface", model_card, a_run, without("card", model_card), whole=("card",)),
    Case("curves", ("curves", "log.csv", "--out", "curves.html"), curves),
    Case("experiment", EXPERIMENT),
]
