"""A run in the terminal while training writes it: curves and spectrum as they come. It reads only, and ends with the
run."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from interp.cli.output import drawn
from interp.errors import InputError
from interp.figures import PALETTE, TEST, TRAIN
from interp.machine import Folder
from interp.runs import Run

BARS = " ▁▂▃▄▅▆▇█"
QUIET_SECONDS = 10.0  # without news for so long, it is asked whether somebody is still writing
LINE_INTERVAL_SECONDS = 5.0
Curve = tuple[Sequence[float], Sequence[float], str]  # x, y (NaN where unknown), color


def watch(
    run: Run, *, interval: float = 1.0, console: Console | None = None, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Show a run every `interval` seconds until it is complete or nobody writes it any more; returns a last line that
    says which.

    On a terminal the display is drawn anew in its place; elsewhere there is a line from time to time.
    """
    console = console or Console()
    with _display(run, console) as update:
        changed, seen = time.monotonic(), -1
        while True:
            rows = run.rows
            if len(rows) != seen:
                changed, seen = time.monotonic(), len(rows)
            update(rows)
            if run.training is None and not is_being_written(run.path):
                return f"{run.path} is not being written; `interp report {run.path}` explains it"
            if run.training is not None and run.is_complete:
                return f"{run.path} is complete; `interp report {run.path}` explains it"
            if run.diverged_at is not None and not is_being_written(run.path):
                return f"{run.path} diverged at step {run.diverged_at:,}; `interp report {run.path}` tells of before"
            if time.monotonic() - changed > QUIET_SECONDS and not is_being_written(run.path):
                step = rows[-1]["step"] if rows else 0
                goes_on = "its own loop" if "recorder" in run.info else f"`interp resume {run.path}`"
                return f"nobody is writing {run.path}: it stands at step {step:,}; {goes_on} goes on"
            sleep(interval)


def is_being_written(path: Path) -> bool:
    """Whether a process holds the lock of a run."""
    try:
        with Folder(path) as folder:
            return folder.is_locked()
    except InputError:
        return False


@contextmanager
def _display(run: Run, console: Console) -> Iterator[Callable[[list[dict]], None]]:
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda rows: live.update(picture(run, rows, console.width), refresh=True)
        return
    said = [-math.inf, -1]

    def line(rows: list[dict]) -> None:
        now = time.monotonic()
        if rows and len(rows) != said[1] and (now - said[0] > LINE_INTERVAL_SECONDS or run.is_complete):
            said[:] = now, len(rows)
            console.print(drawn(_state(run, rows)), soft_wrap=True)

    yield line


def picture(run: Run, rows: list[dict], width: int = 100) -> Group:
    """State, learning curves, and the spectrum of the last checkpoint."""
    columns = max(20, min((width - 14) // 2, 60))
    steps = [row["step"] for row in rows]

    def curve(name: str, color: str, *, logarithmic: bool = False) -> Curve:
        values = [math.nan if row.get(name) is None else row[name] for row in rows]
        return steps, [math.log10(max(value, 1e-16)) if logarithmic else value for value in values], color

    table = Table.grid(padding=(0, 2))
    losses = [curve("train_loss", TRAIN, logarithmic=True), curve("test_loss", TEST, logarithmic=True)]
    accuracies = [curve("train_accuracy", TRAIN), curve("test_accuracy", TEST)]
    legend = [("━ train  ", TRAIN), ("━ test", TEST)]
    if run.task.mask("validation").any():
        losses.append(curve("validation_loss", PALETTE[2], logarithmic=True))
        accuracies.append(curve("validation_accuracy", PALETTE[2]))
        legend.append(("  ━ validation", PALETTE[2]))
    table.add_row(
        Group(Text("loss, power of ten", style="dim"), *chart(losses, columns, 9)),
        Group(Text("accuracy", style="dim"), *chart(accuracies, columns, 9, (0, 1))),
    )
    return Group(drawn(_state(run, rows), "bold"), Text.assemble(*legend), table, *_spectrum(run, width))


def chart(curves: Sequence[Curve], columns: int, lines: int, limits: tuple[float, float] | None = None) -> list[Text]:
    """Curves in braille, two by four dots to a character, with the limits of the vertical axis at its left."""
    known = [(np.asarray(x, float), np.asarray(y, float), color) for x, y, color in curves]
    xs = np.concatenate([x[np.isfinite(y)] for x, y, _ in known] or [[]])
    ys = np.concatenate([y[np.isfinite(y)] for _, y, _ in known] or [[]])
    low, high = limits or ((math.floor(ys.min()), math.ceil(ys.max())) if len(ys) else (0, 1))
    span_x, span_y = max(float(np.ptp(xs)) if len(xs) else 1, 1e-12), max(high - low, 1e-12)
    cells: dict[tuple[int, int], tuple[int, str]] = {}
    dots = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
    for x, y, color in known:
        finite = np.isfinite(y)
        if not finite.any():
            continue
        across = np.arange(2 * columns)
        place = (x[finite] - xs.min()) / span_x * (2 * columns - 1)
        reached = across[(across >= place.min() - 0.5) & (across <= place.max() + 0.5)]
        up = np.clip((np.interp(reached, place, y[finite]) - low) / span_y, 0, 1)
        for column, height in zip(reached, np.round((1 - up) * (4 * lines - 1)).astype(int), strict=True):
            cell = (int(height) // 4, int(column) // 2)
            cells[cell] = cells.get(cell, (0, color))[0] | dots[int(column) % 2][int(height) % 4], color
    drawn = []
    for line in range(lines):
        text = Text(f"{high if line == 0 else low if line == lines - 1 else '':>5} ", style="dim")
        for column in range(columns):
            mask, color = cells.get((line, column), (0, ""))
            text.append(chr(0x2800 + mask) if mask else " ", style=color)
        drawn.append(text)
    return drawn


def _spectrum(run: Run, width: int) -> Iterator[Text]:
    """‖F_k W_E‖ and ‖F_k W_L‖ of the last checkpoint, one bar for each frequency k."""
    import torch

    from interp.mathematics import fourier

    try:
        checkpoint = run.at(-1)
    except InputError:  # none yet
        return
    if not all(bool(weight.isfinite().all()) for weight in checkpoint.weights.values()):
        yield Text(f"the weights of step {checkpoint.step:,} are not finite: training diverged", style="bold red")
        return
    is_recorded = checkpoint.model.is_recorded
    norms = {}
    if not is_recorded or "embedding" in checkpoint.model.module.holds:
        embedding = checkpoint.W_E.double()[torch.from_numpy(checkpoint.task.coordinates.rows)]
        norms["W_E"] = fourier.power(embedding).sum(1).sqrt().numpy()
    if is_recorded:
        norms["logits"] = checkpoint.spectrum.logit_shares.sqrt().numpy()
    else:
        norms["W_L"] = checkpoint.spectrum.output_norms.numpy()
    yield Text(f"norm by frequency, step {checkpoint.step:,}", style="dim")
    for name, values in norms.items():
        most = max(float(values.max()), 1e-12)
        bars = "".join(BARS[round(8 * float(value) / most)] for value in values[: width - 6])
        loud = ", ".join(str(k + 1) for k in np.argsort(-values)[:6] if values[k] >= most / 2)
        yield Text.assemble(
            (f"{name} ", "dim"), bars, ("" if len(values) > width - 30 else f"  loudest: {loud}", "dim")
        )


def _state(run: Run, rows: list[dict]) -> str:
    end = f"/{run.training.steps}" if run.training is not None else ""
    if not rows:
        return f"{run.task.title}: nothing is logged yet"
    row = rows[-1]

    def said(name: str, form: str) -> str:
        return format(row[name], form) if row.get(name) is not None else "unknown"

    losses = f"loss train {said('train_loss', '.1e')} test {said('test_loss', '.1e')}"
    return (
        f"step {row['step']}{end}  {losses}  accuracy train {said('train_accuracy', '.1%')} test "
        f"{said('test_accuracy', '.1%')}"
    )
