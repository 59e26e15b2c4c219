"""One HTML page about a run: what happened, the figures of all analyses, methods and provenance. It needs no network and no server."""

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
from interp.figures import CONFIG
from interp.listing import describe
from interp.store import Run


def render(run: Run, results: Mapping[str, xr.Dataset]) -> str:
    """The page, from the run and the results of its analyses. What comes from the run is escaped, wherever it appears."""
    environment = Environment(
        loader=PackageLoader("interp.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    story = explanation_of(results)
    sections = [_section(name, result) for name, result in _in_reading_order(results)]
    return environment.get_template("page.html").render(
        title=f"{run.task.operation} modulo {run.task.p}: {story.headline.lower()}",
        run=run,
        story=story,
        sections=sections,
        provenance=[line.split(maxsplit=1) for line in describe(run)],
        style=Markup(_own("style.css")),
        script=Markup(_own("script.js")),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        figures=in_script({section["name"]: section["figure"] for section in sections}),
        config=in_script(CONFIG),
    )


def in_script(value: Any) -> Markup:
    """JSON that can stand inside a script element whatever strings it holds: no `<` is left in it."""
    return Markup(json.dumps(value).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _section(name: str, result: xr.Dataset) -> dict[str, Any]:
    analysis = find(name)
    title, _, text = (analysis.module.__doc__ or "").strip().partition("\n")
    return {
        "name": name,
        "title": title,
        "short_title": title.split(". ")[0],
        "method": text.strip(),
        "reference": analysis.module.REFERENCE,
        "parameters": ", ".join(f"{key} = {value}" for key, value in json.loads(result.attrs["parameters"]).items()) or "none",
        "version": f"interp {result.attrs['interp']}, analysis {result.attrs['version']}",
        "figure": json.loads(analysis.module.plot(result).to_json()),
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
    "weight_norms",
    "circuit_split",
    "circuit_efficiency",
    "calibration",
)


def _in_reading_order(results: Mapping[str, xr.Dataset]) -> list[tuple[str, xr.Dataset]]:
    """The story first, then the circuit, then its controls; analyses of plug-ins last, by name."""
    place = {name: index for index, name in enumerate(READING_ORDER)}
    return sorted(results.items(), key=lambda item: (place.get(item[0], len(place)), item[0]))


def _own(name: str) -> str:
    return (files("interp.report") / name).read_text(encoding="utf-8")
