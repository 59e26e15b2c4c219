"""One HTML page about a run: what happened, a slider over its checkpoints, its circuit, all figures, methods and
provenance. It needs no network and no server. Data, panels and template are apart from each other: a page can have
several runs, each with data of its own."""

import json
import re
from collections.abc import Mapping
from typing import Any

import xarray as xr

from interp.analysis import find
from interp.experiment import Operations, Task
from interp.explanation import Explanation, evidence_of, explanation_of, requested_sentence
from interp.figures import as_count, as_percent, of_last_layer, shade_phases
from interp.pages.encoding import LARGEST_ERROR
from interp.pages.fitting import say_what_is_unknown, without_title
from interp.pages.frame import in_script, rendered
from interp.pages.frames import NEEDS, Progress, frames
from interp.pages.headline import headline, phases
from interp.pages.story import controls, linked, method, unbroken
from interp.printable import one_line
from interp.runs import Run, describe


def render(run: Run, results: Mapping[str, xr.Dataset], *, progress: Progress = lambda steps: steps) -> str:
    """The page, from the run and the results of its analyses. What comes from the run is escaped, wherever it appears.
    `progress` wraps the steps whose checkpoints are walked over.

    What the results do not have is left out: the story without its evidence, the slider with its panels and the circuit
    without what `frames` needs. Every result has its section."""
    has_story = isinstance(run.task, Task | Operations) and results.keys() >= {*evidence_of(run)}
    story = explanation_of(run, results) if has_story else None
    explorer = _explorer(run, results, progress) if results.keys() >= NEEDS else None
    of_run = phases(results) if "transitions" in results else []
    in_order = sorted(results, key=lambda name: find(name).reading_place)
    sections = [_section(name, results[name], of_run) for name in in_order]
    return rendered(
        "page.html",
        {section["name"]: section.pop("figure") for section in sections},
        title=f"{run.task.title}: {story.headline.lower()}" if story else run.task.title,
        run=run,
        story=story,
        heading=unbroken(story.headline) if story else None,
        lead=None if story else _lead(run),
        phases=of_run,
        headline=in_script(headline(results)) if story and "transitions" in results else None,
        paragraphs=[linked(paragraph, results) for paragraph in _paragraphs(run, story)] if story else [],
        against=[linked(sentence, results) for sentence in story.against] if story else [],
        diverged=_diverged(run, results),
        controls=list(controls(results, of_last_layer(run.model))) if story and isinstance(run.task, Task) else [],
        explorer=explorer,
        error=f"{LARGEST_ERROR[8]:.1%}",
        sections=sections,
        provenance=[re.split(r"\s{2,}", line, maxsplit=1) for line in map(one_line, describe(run))],
    )


def _paragraphs(run: Run, story: Explanation) -> list[str]:
    """Those of the story, and of a recorded module why the page has no slider."""
    without = "The slider over checkpoints and the drawing of the circuit need the module itself, and are left out."
    return [*story.paragraphs, *([without] if run.model.is_recorded else [])]


def _lead(run: Run) -> str:
    """What a run without a story comes to: the accuracies of its last logged step."""
    last = next((row for row in reversed(run.rows) if row.get("train_accuracy") is not None), None)
    if last is None:
        return "Nothing was logged."
    test = last.get("test_accuracy")
    of_test = f" examples and {as_percent(test)} of the test examples" if test is not None else ""
    of_train = f"{as_percent(last['train_accuracy'])} of the training"
    return f"After {as_count(last['step'], 'step')} the network knows {of_train}{of_test or ' examples'}."


def _diverged(run: Run, results: Mapping[str, xr.Dataset]) -> int | None:
    """The first checkpoint that no analysis has, because its weights are not finite."""
    measured = [result for name, result in results.items() if not find(name).of_run]
    known = {int(step) for result in measured for step in result.step.values}
    return min(set(run.steps) - known, default=None) if measured else None


def _explorer(run: Run, results: Mapping[str, xr.Dataset], progress: Progress) -> dict[str, Any]:
    """What the slider, its panels and the circuit are made of."""
    data = explorer_data(run, results, progress)
    return {
        "label": None,
        "data": in_script(data),
        "shown": len(data["steps"]),
        "of": data["all_steps"],
        "has_key": bool(data["key"]),
    }


def explorer_data(
    run: Run, results: Mapping[str, xr.Dataset], progress: Progress = lambda steps: steps
) -> dict[str, Any]:
    """The data block of one run: what its slider moves (`frames`), and its phases."""
    return frames(run, results, progress) | {"phases": phases(results)}


def _section(name: str, result: xr.Dataset, of_run: list[dict[str, Any]]) -> dict[str, Any]:
    analysis = find(name)
    figure = analysis.module.plot(result)
    shade_phases(figure, of_run)
    say_what_is_unknown(figure)
    short, _, question = analysis.title.partition(". ")
    heading = without_title(figure) or short
    return {
        "name": name,
        "title": short,
        "heading": heading,
        "question": question,
        "sentence": requested_sentence(name, result),
        "method": method((analysis.module.__doc__ or "").partition("\n\n")[2]),
        "reference": analysis.module.REFERENCE,
        "parameters": ", ".join(f"{key} = {value}" for key, value in json.loads(result.attrs["parameters"]).items())
        or "none",
        "version": f"interp {result.attrs['interp']}, analysis {result.attrs['version']}",
        "figure": figure,
        "height": int(figure.layout.height or 450),
    }
