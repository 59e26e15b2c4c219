"""One HTML page about a run: what happened, a slider over its checkpoints, its circuit, all figures, methods and
provenance. It needs no network and no server. Data, panels and template are apart from each other: a page can have
several runs, each with data of its own."""

import json
from collections.abc import Mapping
from typing import Any

import xarray as xr

from interp.analysis import find
from interp.explanation import explanation_of
from interp.figures import shade_phases
from interp.pages.encoding import LARGEST_ERROR
from interp.pages.fitting import say_what_is_unknown, without_title
from interp.pages.frame import in_script, rendered
from interp.pages.frames import Progress, frames
from interp.pages.headline import headline, phases
from interp.pages.story import controls, linked, method
from interp.runs import Run, describe


def render(run: Run, results: Mapping[str, xr.Dataset], *, progress: Progress = lambda steps: steps) -> str:
    """The page, from the run and the results of its analyses. What comes from the run is escaped, wherever it appears.
    `progress` wraps the steps whose checkpoints are walked over."""
    story = explanation_of(run, results)
    of_run = phases(results)
    sections = [_section(name, result, of_run) for name, result in _in_reading_order(results)]
    data = explorer_data(run, results, progress)
    return rendered(
        "page.html",
        {section["name"]: section.pop("figure") for section in sections},
        title=f"{run.task.operation} modulo {run.task.p}: {story.headline.lower()}",
        run=run,
        story=story,
        headline=in_script(headline(results)),
        paragraphs=[linked(paragraph, results) for paragraph in story.paragraphs],
        against=[linked(sentence, results) for sentence in story.against],
        diverged=_diverged(run, results),
        controls=list(controls(results)),
        explorer={
            "label": None,
            "data": in_script(data),
            "shown": len(data["steps"]),
            "of": data["all_steps"],
            "has_key": bool(data["key"]),
        },
        error=f"{LARGEST_ERROR[8]:.1%}",
        sections=sections,
        provenance=[line.split(maxsplit=1) for line in describe(run)],
    )


def _diverged(run: Run, results: Mapping[str, xr.Dataset]) -> int | None:
    """The first checkpoint that no analysis has, because its weights are not finite."""
    left_out = set(run.steps) - {int(step) for step in results["neuron_periodicity"].step.values}
    return min(left_out, default=None)


def explorer_data(
    run: Run, results: Mapping[str, xr.Dataset], progress: Progress = lambda steps: steps
) -> dict[str, Any]:
    """The data block of one run: what its slider moves (`frames`), and its phases."""
    return frames(run, results, progress) | {"phases": phases(results)}


def _section(name: str, result: xr.Dataset, of_run: list[dict[str, Any]]) -> dict[str, Any]:
    analysis = find(name)
    title, _, text = (analysis.module.__doc__ or "").strip().partition("\n")
    figure = analysis.module.plot(result)
    shade_phases(figure, of_run)
    say_what_is_unknown(figure)
    short, _, question = title.partition(". ")
    heading = without_title(figure) or short.rstrip(".")
    return {
        "name": name,
        "title": short.rstrip("."),
        "heading": heading,
        "question": question,
        "method": method(text),
        "reference": analysis.module.REFERENCE,
        "parameters": ", ".join(f"{key} = {value}" for key, value in json.loads(result.attrs["parameters"]).items())
        or "none",
        "version": f"interp {result.attrs['interp']}, analysis {result.attrs['version']}",
        "figure": figure,
        "height": int(figure.layout.height or 450),
    }


READING_ORDER = (
    "transitions",
    "learning_curves",
    "neuron_periodicity",
    "embedding_spectrum",
    "progress_measures",
    "frequency_ablation",
    "logit_structure",
    "clock_pizza",
    "attention_structure",
    "mlp_structure",
    "representation",
    "circuit_split",
    "circuit_efficiency",
    "weight_norms",
    "norm_account",
    "norm_landscape",
    "calibration",
)


def _in_reading_order(results: Mapping[str, xr.Dataset]) -> list[tuple[str, xr.Dataset]]:
    """The story first, then the circuit, then its controls; analyses of plug-ins last, by name."""
    place = {name: index for index, name in enumerate(READING_ORDER)}
    return sorted(results.items(), key=lambda item: (place.get(item[0], len(place)), item[0]))
