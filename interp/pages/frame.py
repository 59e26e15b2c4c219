"""The frame of every page: one self-contained file in one style, with its figures packed, and a policy that lets no
other script run. What is put into a template is escaped; what stands in a script element as JSON holds no `<`."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from interp.figures import CONFIG, figure_json, sealed
from interp.pages.encoding import packed_text
from interp.printable import MOST_OF_A_TEXT, MOST_OF_A_WORD, one_line

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
    packed = {name: packed_text(figure_json(figure)) for name, figure in figures.items()}
    environment = Environment(
        loader=PackageLoader("interp.pages", "browser"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters |= {"coded": _coded, "formula": _formula}
    page = environment.get_template(template)
    values |= {
        "title": one_line(values["title"], MOST_OF_A_WORD),
        "style": Markup("\n".join(_own(f"{name}.css") for name in ("style", *styles, "small"))),
        "script": Markup("\n".join(_own(f"{name}.js") for name in SCRIPTS)),
        "plotly": Markup(_packed_plotly(CARTESIAN.issuperset(kinds))),
        "figures": {name: Markup(text) for name, text in packed.items()},
        "config": in_script(CONFIG),
    }
    return sealed(lambda policy, nonce: page.render(**values, policy=Markup(policy), nonce=nonce), kinds)


def in_script(value: Any) -> Markup:
    """JSON that can stand inside a script element whatever strings it holds: no `<` is left in it, and its strings are
    such as can be shown."""
    return Markup(json.dumps(_shown(value), allow_nan=False).replace("<", "\\u003c"))


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: inner if key in _NUMBERS else _shown(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(inner) for inner in value]
    return as_text(value) if isinstance(value, str) else value


_NUMBERS = ("data", "low", "high")  # in base64, as interp.pages.encoding packs them


def as_text(text: str) -> str:
    """What stands on a page in one place: no codes, no forged lines, not the million letters of a name."""
    return one_line(text, MOST_OF_A_TEXT)


def _finalized(value: Any) -> Any:
    """Everything that a template puts out; what is HTML already was made of `as_text`."""
    return value if hasattr(value, "__html__") or isinstance(value, int | float) else as_text(str(value))


def _coded(text: str) -> Markup:
    """Escaped, with what stands between backticks as code, and words between asterisks emphasized."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(as_text(text))))
    return Markup(re.sub(r"(?<!\S)\*([a-z][a-z ]*)\*(?=[\s.,;:)]|$)", r"<em>\1</em>", text))


def _formula(text: str) -> Markup:
    """Escaped, with its line ends."""
    return Markup("\n").join(map(as_text, text.split("\n")))


@cache
def _packed_plotly(cartesian: bool) -> str:
    """The part of plotly.js that is enough for axes at right angles, or, for a plug-in's other figures, all of it."""
    return packed_text(_own("plotly-cartesian.min.js") if cartesian else get_plotlyjs())


def _own(name: str) -> str:
    return (files("interp.pages") / "browser" / name).read_text(encoding="utf-8")
