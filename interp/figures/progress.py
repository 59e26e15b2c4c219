"""Progress of training in Python: a bar in a notebook or a terminal, and nothing where nobody looks."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from importlib import import_module
from math import isnan
from typing import Any

Update = Callable[[int, str], None]  # how many are done, and what to say beside the bar


def in_words(metrics: Mapping[str, float]) -> str:
    """The metrics of a step, beside its bar.

    >>> in_words({"train_loss": 2e-7, "test_loss": 4.5, "test_accuracy": 0.02})
    'loss train 2.0e-07 test 4.5e+00  test accuracy   2.0%'
    """
    if isnan(metrics["test_accuracy"]):
        return f"loss {metrics['train_loss']:.1e}  accuracy {metrics['train_accuracy']:6.1%}  no test pairs"
    losses = f"train {metrics['train_loss']:.1e} test {metrics['test_loss']:.1e}"
    return f"loss {losses}  test accuracy {metrics['test_accuracy']:6.1%}"


@contextmanager
def training_bar(total: int, headline: str) -> Iterator[Update]:
    """Something to call with every step: it moves a bar of so many steps, in a notebook or on the terminal that stderr
    is; elsewhere it does nothing.

    >>> with training_bar(100, "training") as update:
    ...     update(50, "halfway")
    """
    if _is_notebook():
        yield _of_notebook(total, headline)
    elif sys.stderr.isatty():
        from rich.console import Console

        with terminal_bar(total, Console(stderr=True)) as update:
            yield update
    else:
        yield lambda done, told: None


@contextmanager
def terminal_bar(total: int, console: Any = None) -> Iterator[Update]:
    """The bar of a terminal, by rich."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    described = TextColumn("{task.description}", markup=False)
    columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), described, TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, refresh_per_second=4) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, told: bar.update(task, completed=done, description=told)


def _is_notebook() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")


def _of_notebook(total: int, headline: str) -> Update:
    """The bar of a notebook: one element, drawn anew. That of rich needs ipywidgets."""
    shown = import_module("IPython.display")  # it is there, for we are in it, and nobody else needs it

    def drawn(done: int, told: str) -> Any:
        bar = f'<progress value="{done}" max="{total}" style="width:240px"></progress>'
        return shown.HTML(f"{bar} step {done:,} of {total:,}&ensp;<code>{escape(told) or escape(headline)}</code>")

    handle = shown.display(drawn(0, ""), display_id=True)
    return lambda done, told: handle.update(drawn(done, told))
