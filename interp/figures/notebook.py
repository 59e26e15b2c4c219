"""What a run, a checkpoint or an explanation shows in a notebook, when a cell ends with it. Texts are escaped,
and printable."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from interp.experiment import Task
from interp.figures.style import FONT, TEST, TRAIN
from interp.printable import MOST_OF_A_TEXT, one_line

_CARD = Markup(
    "<div style=\"font:14px/1.5 {}; max-width:760px\"><div style='font-weight:650; font-size:16px'>{}</div>{}</div>"
)
_ROW = Markup(
    "<tr><th style='text-align:left; font-weight:400; opacity:.65; padding-right:18px'>{}</th><td "
    "style='text-align:left'>{}</td></tr>"
)
WIDTH, HEIGHT = 420, 70


def of_run(run: Any) -> str:
    """A `Run`: what it is, and its accuracies over the logged steps."""
    steps, metrics = run.steps, run.metrics
    rows = {"folder": run.path, "hash": run.hash, "checkpoints": f"{len(steps):,}"}
    if steps:
        rows["checkpoints"] += f", from step {steps[0]:,} to {steps[-1]:,}"
    rows["complete"] = "yes" if run.is_complete else "no"
    curves = [(metrics.get(f"{split}_accuracy"), color) for split, color in (("train", TRAIN), ("test", TEST))]
    drawn = _curves(metrics.step.values, [(values.values, color) for values, color in curves if values is not None])
    return _card(f"{run.task.title}, {run.model.family}", [_table(rows), drawn])


def of_checkpoint(checkpoint: Any) -> str:
    """A `Checkpoint`: its step, losses, accuracies and key frequencies."""
    rows = {}
    of_choice = ["validation"] if checkpoint.task.mask("validation").any() else []
    for split in ("train", *of_choice, "test", "held_out", "all"):
        loss, accuracy = checkpoint.loss(split), checkpoint.accuracy(split)
        told = "unknown" if math.isnan(loss) else f"loss {loss:.3g}, accuracy {accuracy:.1%}"
        rows[f"{split.replace('_', '-')} pairs"] = told
    if isinstance(checkpoint.task, Task):
        key = ", ".join(map(str, checkpoint.key_frequencies))
        rows["key frequencies"] = f"k = {key}" if key else "none"
    step = f"step {checkpoint.step:,}" if checkpoint.step >= 0 else "step unknown"
    return _card(f"{checkpoint.task.title}, {step}", [_table(rows)])


def of_explanation(explanation: Any) -> str:
    """An `Explanation`: verdict, facts, what is said first, and what speaks against it; the rest behind a click."""

    def paragraphs(texts: Iterable[str]) -> list[Markup]:
        return [Markup("<p style='margin:6px 0'>{}</p>").format(_plain(text)) for text in texts]

    def titled(title: str, items: Iterable[str]) -> Markup:
        return Markup("<div style='font-weight:600'>{}</div>{}").format(title, _list(items))

    facts = _table({fact.label: fact.value for fact in explanation.facts})
    against = titled("What speaks against it", explanation.against or ("Nothing was found.",))
    rest = Markup("").join([*paragraphs(explanation.paragraphs), titled("What this cannot say", explanation.unsaid)])
    more = Markup("<details><summary>All of it</summary>{}</details>").format(rest)
    return _card(
        explanation.headline, [facts, *paragraphs(wordings[0] for wordings in explanation.brief), against, more]
    )


def _plain(text: object) -> str:
    return one_line(str(text), MOST_OF_A_TEXT)


def _card(title: str, parts: Iterable[Markup]) -> str:
    return str(_CARD.format(FONT, _plain(title), Markup("").join(parts)))


def _table(rows: Mapping[str, object]) -> Markup:
    return Markup("<table>{}</table>").format(
        Markup("").join(_ROW.format(_plain(name), _plain(value)) for name, value in rows.items())
    )


def _list(items: Iterable[str]) -> Markup:
    return Markup("<ul style='margin:0 0 6px'>{}</ul>").format(
        Markup("").join(Markup("<li>{}</li>").format(_plain(item)) for item in items)
    )


def _curves(steps: np.ndarray, curves: Sequence[tuple[np.ndarray, str]]) -> Markup:
    """Values from 0 to 1 over steps as small lines; nothing for fewer than two steps."""
    if len(steps) < 2:
        return Markup("")
    span = steps[-1] - steps[0]
    lines = []
    for values, color in curves:
        points = [
            f"{(step - steps[0]) / span * WIDTH:.1f},{3 + (1 - value) * (HEIGHT - 6):.1f}"
            for step, value in zip(steps, values, strict=True)
            if math.isfinite(value)
        ]
        line = Markup("<polyline points='{}' fill='none' stroke='{}' stroke-width='1.6'/>")
        lines.append(line.format(" ".join(points), color))
    svg = Markup(
        "<svg width='{}' height='{}' role='img' aria-label='accuracy on train and test pairs over training'>{}</svg>"
    )
    return svg.format(WIDTH, HEIGHT, Markup("").join(lines))
