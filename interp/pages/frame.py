"""The frame of every page: one self-contained file in one style, with its figures packed, and a policy that lets no
other script run. What is put into a template is escaped; what stands in a script element as JSON holds no `<`."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from interp.figures import CONFIG
from interp.pages.encoding import packed_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

# The scripts in the order in which they need each other; each is one idea.
SCRIPTS = (
    *("decode", "colors", "drawing", "state", "slider", "panel", "headline"),
    *(
        "panel_forces",
        "panel_neurons",
        "panel_progress",
        "panel_circuits",
        "panel_embedding",
        "panel_logits",
        "panel_attention",
    ),
    *("circuit", "readouts", "stacking", "figures", "explorer", "linking", "main"),
)
# What plotly-cartesian.min.js draws: all that our own analyses ask for. It is a third of plotly.js and starts in a
# quarter of its time. It is the npm package plotly.js-cartesian-dist-min, unchanged, of the version of plotly.js that
# plotly itself ships.
CARTESIAN = frozenset(
    (
        *("bar", "box", "contour", "heatmap", "histogram", "histogram2d"),
        *("histogram2dcontour", "image", "pie", "scatter", "scatterternary", "violin"),
    )
)


def rendered(template: str, figures: Mapping[str, "go.Figure"], *, styles: Sequence[str] = (), **values: Any) -> str:
    """A page from a template that extends frame.html, its figures by the name of the element that shows them, and what
    it says."""
    traces: Any = [trace for figure in figures.values() for trace in figure.select_traces()]
    kinds = {trace.type for trace in traces}
    packed = {name: packed_text(str(figure.to_json())) for name, figure in figures.items()}
    environment = Environment(
        loader=PackageLoader("interp.pages", "browser"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["coded"] = _coded
    return environment.get_template(template).render(
        **values,
        style=Markup("\n".join(_own(f"{name}.css") for name in ("style", *styles, "small"))),
        script=Markup("\n".join(_own(f"{name}.js") for name in SCRIPTS)),
        # A script that somebody smuggles into a text does not know this, and so does not run.
        nonce=hashlib.sha256(json.dumps([repr(values), packed]).encode()).hexdigest()[:32],
        plotly=Markup(_packed_plotly(CARTESIAN.issuperset(kinds))),
        figures={name: Markup(text) for name, text in packed.items()},
        config=in_script(CONFIG),
    )


def in_script(value: Any) -> Markup:
    """JSON that can stand inside a script element whatever strings it holds: no `<` is left in it."""
    text = json.dumps(value, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _coded(text: str) -> Markup:
    """Escaped, with what stands between backticks as code, and words between asterisks emphasized."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"(?<!\S)\*([a-z][a-z ]*)\*(?=[\s.,;:)]|$)", r"<em>\1</em>", text))


@cache
def _packed_plotly(cartesian: bool) -> str:
    """The part of plotly.js that is enough for axes at right angles, or, for a plug-in's other figures, all of it."""
    return packed_text(_own("plotly-cartesian.min.js") if cartesian else get_plotlyjs())


def _own(name: str) -> str:
    return (files("interp.pages") / "browser" / name).read_text(encoding="utf-8")
