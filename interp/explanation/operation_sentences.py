"""What is said of a network of several operations: when it memorized and when it generalized each of them. By which
circuits, is told of each alone (`interp.runs.extract`)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import xarray as xr

from interp.experiment import Operations, json_values
from interp.explanation.run_sentences import NEARLY
from interp.explanation.states import is_above_chance
from interp.figures import as_accuracy, as_count, as_norm, as_step
from interp.mathematics import grokking
from interp.mathematics.held_out import FEWEST_HELD_OUT
from interp.runs import Run

EVIDENCE = ("learning_curves", "operations", "weight_norms")
Told = Mapping[str, Any]  # of one operation what the summary of `operations` has


def headline(told: Mapping[str, Told], last_step: int) -> str:
    """What became of each operation.

    >>> of = {"held_out_accuracy": 0.05, "generalized_at": None, "independent_held_out_pairs": 90, "memorized_at": 50}
    >>> of |= {"guessing_accuracy": 0.1}
    >>> headline({"random": of | {"verdict": "memorization", "has_a_rule": False}}, 300)
    'It memorized random, which has no rule, in 300 steps'
    """
    by_words: dict[tuple[str, str], list[str]] = {}
    for operation, of in told.items():
        by_words.setdefault(_verdict(of), []).append(operation)
    unknown = " and ".join(by_words.pop(_UNKNOWN, []))
    parts = [f"{before} {' and '.join(names)}{after}" for (before, after), names in by_words.items()]
    steps, clauses = as_count(last_step, "step"), []
    if parts:
        clauses.append(f"it {', and '.join(parts)}, in {steps}")
    if unknown:
        clauses.append(f"what happened to {unknown} cannot be told")
    text = "; ".join(clauses)
    return text[0].upper() + text[1:]


_UNKNOWN = ("", "")


def _verdict(of: Told) -> tuple[str, str]:
    """The verdict of an operation, before and after its name."""
    kind, since = of["verdict"], f" from step {as_step(of['generalized_at'])} on"
    if not of["has_a_rule"]:
        return ("memorized", ", which has no rule") if of["memorized_at"] is not None else ("did not learn", "")
    if kind == "memorization":
        if of["held_out_accuracy"] is not None and of["held_out_accuracy"] >= NEARLY:
            return "nearly generalized", ""
        return ("generalized", " in part") if _knows_in_part(of) else ("memorized", " and did not generalize")
    return {
        "grokking": ("grokked", since),
        "comprehension": ("generalized", f" while it learned,{since}"),
        "confusion": ("did not learn", ""),
        "collapse": ("generalized", " and lost it again"),
    }.get(kind, _UNKNOWN)


def _knows_in_part(of: Told) -> bool:
    return is_above_chance(of["held_out_accuracy"] or 0.0, of["guessing_accuracy"], of["independent_held_out_pairs"])


def of_one(operation: str, of: Told, pairs: xr.DataArray) -> str:
    """What happened to one operation, in sentences."""
    n_train, n_test, n_held_out = (int(pairs.sel(split=split)) for split in ("train", "test", "held_out"))
    text = f"{operation}: "
    if of["memorized_at"] is None:
        text += f"{_level(n_train)} of its {n_train:,} training pairs were never held. "
    else:
        text += f"{_level(n_train)} of its {n_train:,} training pairs were known {_from(of, 'memorized')}. "
    held = f"{n_held_out:,} held-out pairs" if n_held_out != n_test else f"{n_test:,} test pairs"
    if not of["has_a_rule"]:
        text += (
            f"Its table is random, so that there is nothing to generalize: of its {held} never more than "
            f"{as_accuracy(of['held_out_accuracy'])} were held, and the most frequent answer has "
            f"{as_accuracy(of['guessing_accuracy'])}."
        )
    elif of["independent_held_out_pairs"] < FEWEST_HELD_OUT:
        n = of["independent_held_out_pairs"]
        few = f"of its {held} {n} are independent, and {FEWEST_HELD_OUT} are needed"
        text += f"Whether it generalized cannot be told: {few}."
    elif of["generalized_at"] is None:
        text += (
            f"Of its {held} it never held more than {as_accuracy(of['held_out_accuracy'])} (step "
            f"{as_step(of['held_out_accuracy_at'])}); the most frequent answer has "
            f"{as_accuracy(of['guessing_accuracy'])}."
        )
    else:
        text += f"{_level(n_held_out)} of its {held} were known {_from(of, 'generalized')}."
    last = [as_accuracy(of[f"final_{split}_accuracy"]) for split in ("train", "held_out")]
    return f"{text} At the end it knows {last[0]} of the training pairs and {last[1]} of the held-out pairs."


def _from(of: Told, event: str) -> str:
    at, after, seen_for = (of[f"{event}_{what}"] for what in ("at", "after", "seen_for"))
    notes = [f"not at {after:,}"] if after is not None and after < at else []
    notes += ["the last that is logged"] if seen_for == 0 else []
    return f"from step {at:,} on" + (f" ({'; '.join(notes)})" if notes else "")


def _level(pairs: int) -> str:
    return "99 %" if pairs >= grokking.SMALL_SPLIT else "all but two" if pairs >= FEWEST_HELD_OUT else "90 %"


def what_it_is(run: Run, task: Operations) -> str:
    """The network, how it is told which operation is asked, and what held out means."""
    names, held_out = " and ".join(task.operations), int(task.mask("held_out").sum())
    shared = [line for line in task.symmetries if line.partition(" ")[0] != line.partition("= ")[2].partition(" ")[0]]
    text = (
        f"One network of {len(task.operations)} operations, {names} modulo {task.p}, which a token of the prompt tells "
        f"apart: each example is asked of one of them alone. Held out are {held_out:,} of "
        f"{int(task.mask('test').sum()):,} test examples: those that exchanging a and b, changing their signs or "
        "taking inverses makes of no training example of any operation with the same answer"
    )
    also = f" ({'; '.join(shared[:2])}{' …' if shared[2:] else ''})" if shared else ""
    alone = "" if shared else "; no two of these operations give each other away so"
    return f"{text}{also}{alone}."


def facts(told: Mapping[str, Told]) -> Iterator[tuple[str, str]]:
    """Label and value, for the table."""
    for operation, of in told.items():
        yield f"{operation}: training pairs known from step", as_step(of["memorized_at"])
        generalized = as_step(of["generalized_at"]) if of["has_a_rule"] else "has no rule"
        yield f"{operation}: held-out pairs known from step", generalized
        reached = as_accuracy(of["held_out_accuracy"])
        yield (
            f"{operation}: highest held-out accuracy that held",
            f"{reached} (a guess: {as_accuracy(of['guessing_accuracy'])})",
        )


def against(told: Mapping[str, Told], run: Run, last_step: int) -> Iterator[str]:
    """What speaks against it."""
    for operation, of in told.items():
        for event, what in (("memorized", "training pairs"), ("generalized", "held-out pairs")):
            if of[f"{event}_seen_for"] == 0 and of[f"{event}_at"] is not None:
                yield f"That it knew the {what} of {operation} was seen at one logged step alone, the last."
        if of["falls"]:
            lowest = min(
                (fall["lowest_accuracy"] for fall in of["falls"] if fall["lowest_accuracy"] is not None), default=None
            )
            yield (
                f"After it had first known the held-out pairs of {operation} it lost them "
                f"{as_count(len(of['falls']), 'time')}; the lowest accuracy was {as_accuracy(lowest)}."
            )
    if run.diverged_at is not None:
        yield f"Training diverged by step {run.diverged_at:,}."
    elif run.training is not None and last_step < run.training.steps:
        yield f"Of {as_count(run.training.steps, 'step')} only those up to step {last_step:,} are logged."


def unsaid(told: Mapping[str, Told], run: Run) -> Sequence[str]:
    """What cannot be said."""
    first = next(iter(told))
    more = [one for one, of in told.items() if of["has_a_rule"] and of["verdict"] in ("memorization", "confusion")]
    return (
        f"By which circuit it answers, and whether operations share it: `interp extract {run.path} {first}` makes of "
        "one operation a run of its own, about which everything can be asked.",
        "Whether it knows a rule or a part of it: what could be inferred without all of it, such as that b − a = "
        "−(a − b), is not excluded from what is held out.",
        *([f"What more steps would have brought to {' and '.join(more)}."] if more else []),
        "One run shows what happened in it, not how often it happens: repeat it over seeds.",
    )


def numbers(run: Run, told: Mapping[str, Told], norms: xr.Dataset) -> dict[str, Any]:
    """The numbers of the explanation, at the step of the weight norms; null where unknown."""
    checkpoint, of_each = run[int(norms.step)], {}
    for operation in told:
        names = {split: f"{operation}.{split}" for split in ("train", "test", "held_out")}
        of_each[operation] = {
            "loss": {split: checkpoint.trained_loss(name) for split, name in names.items()},
            "accuracy": {split: checkpoint.accuracy(name) for split, name in names.items()},
        }
    at = {"step": checkpoint.step, "operations": of_each, "l2_norm": float(norms.total_l2)}
    return json_values({"run": {"operations": told}, "checkpoint": at})


def the_checkpoint(checkpoint: Mapping[str, Any]) -> str:
    """How much of each operation one checkpoint knows."""
    parts = [
        f"{as_accuracy(of['accuracy']['train'])} of the training pairs and "
        f"{as_accuracy(of['accuracy']['held_out'])} of the held-out pairs of {operation}"
        for operation, of in checkpoint["operations"].items()
    ]
    return f"At step {checkpoint['step']:,} it knows {'; '.join(parts)}."


def the_norm(norms: Mapping[str, Any]) -> str:
    """How the norm of all weights went, which all operations share."""
    first, highest, last = (as_norm(norms[f"{which}_l2"]) for which in ("first", "highest", "last"))
    return (
        f"The norm of all weights, which the operations share, began at {first}, was highest, {highest}, at step "
        f"{norms['highest_l2_at']:,}, and is {last} at step {norms['last_step']:,}."
    )
