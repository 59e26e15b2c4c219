"""One HTML page about a run: what happened, a slider over its checkpoints, its circuit, all figures, methods and provenance. It needs
no network and no server. Data, panels and template are apart from each other: a page can have several runs, each with data of its own."""

import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import xarray as xr
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from interp.analysis import find
from interp.explain import explanation_of
from interp.figures import CONFIG, shade_phases
from interp.listing import describe
from interp.report.encoding import LARGEST_ERROR, packed_text
from interp.report.frames import Progress, frames
from interp.report.headline import headline, phases
from interp.report.story import controls, linked, method
from interp.store import Run

# The scripts in the order in which they need each other; each is one idea.
SCRIPTS = (
    *("decode", "colors", "drawing", "state", "slider", "panel", "headline"),
    *("panel_neurons", "panel_progress", "panel_circuits", "panel_embedding", "panel_logits", "panel_attention"),
    *("circuit", "readouts", "figures", "explorer", "main"),
)


def render(run: Run, results: Mapping[str, xr.Dataset], *, progress: Progress = lambda steps: steps) -> str:
    """The page, from the run and the results of its analyses. What comes from the run is escaped, wherever it appears. `progress`
    wraps the steps whose checkpoints are walked over."""
    story = explanation_of(results)
    of_run = phases(results)
    sections = [_section(name, result, of_run) for name, result in _in_reading_order(results)]
    figures = {section["name"]: section.pop("figure") for section in sections}
    script = "\n".join(_own(f"{name}.js") for name in SCRIPTS)
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=f"{run.task.operation} modulo {run.task.p}: {story.headline.lower()}",
            run=run,
            story=story,
            headline=in_script(headline(results)),
            paragraphs=[linked(paragraph, results) for paragraph in story.paragraphs],
            against=[linked(sentence, results) for sentence in story.against],
            diverged=_diverged(run, results),
            controls=list(controls(results)),
            explorers=[_explorer("run", explorer_data(run, results, progress))],
            error=f"{LARGEST_ERROR[8]:.1%}",
            sections=sections,
            provenance=[line.split(maxsplit=1) for line in describe(run)],
            style=Markup(_own("style.css") + _own("small.css")),
            script=Markup(script),
            # A script that somebody smuggles into a text does not know this, and so does not run.
            nonce=hashlib.sha256(f"{run.hash}{json.dumps(figures)}".encode()).hexdigest()[:32],
            plotly=Markup(packed_text(get_plotlyjs())),
            figures={name: Markup(text) for name, text in figures.items()},
            config=in_script(CONFIG),
        )
    )


def _diverged(run: Run, results: Mapping[str, xr.Dataset]) -> int | None:
    """The first checkpoint that no analysis has, because its weights are not finite."""
    left_out = set(run.steps) - {int(step) for step in results["neuron_periodicity"].step.values}
    return min(left_out, default=None)


def explorer_data(run: Run, results: Mapping[str, xr.Dataset], progress: Progress = lambda steps: steps) -> dict[str, Any]:
    """The data block of one run: what its slider moves (`frames`), and its phases."""
    return frames(run, results, progress) | {"phases": phases(results)}


def _explorer(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """What the template needs of one run: a name for its element, its data block, and how many checkpoints of all it shows."""
    return {"name": name, "data": in_script(data), "shown": len(data["steps"]), "of": data["all_steps"]}


def in_script(value: Any) -> Markup:
    """JSON that can stand inside a script element whatever strings it holds: no `<` is left in it."""
    text = json.dumps(value, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("interp.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _section(name: str, result: xr.Dataset, of_run: list[dict[str, Any]]) -> dict[str, Any]:
    analysis = find(name)
    title, _, text = (analysis.module.__doc__ or "").strip().partition("\n")
    figure = analysis.module.plot(result)
    if name != "transitions":  # it draws its boundaries itself, with their intervals
        shade_phases(figure, of_run)
    short, _, question = title.partition(". ")
    return {
        "name": name,
        "title": short.rstrip("."),
        "question": question,
        "method": method(text),
        "reference": analysis.module.REFERENCE,
        "parameters": ", ".join(f"{key} = {value}" for key, value in json.loads(result.attrs["parameters"]).items()) or "none",
        "version": f"interp {result.attrs['interp']}, analysis {result.attrs['version']}",
        "figure": packed_text(str(figure.to_json())),
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


def _own(name: str) -> str:
    return (files("interp.report") / name).read_text(encoding="utf-8")
