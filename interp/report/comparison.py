"""One HTML page about a comparison: what was set differently, what differs most, and the figures side by side. It needs no network."""

import json
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from interp.comparison import Comparison
from interp.comparison_tables import HOW, tables
from interp.figures import CONFIG
from interp.report.comparison_figures import SIDE_COLORS, figures
from interp.report.page import in_script

CAPTIONS = {
    "curves": "Dashed: the checkpoints compared here.",
    "losses": "Restricted and excluded loss, with the key frequencies of the last checkpoint of each run.",
    "circuits": "The mean logit of the label, split into a generalizing and a memorizing part; and the weights split likewise.",
    "spectra": "In color the key frequencies of the checkpoint itself; a frequency has one color on all sides.",
    "neurons": "Every column is a neuron: the share of its variance that each frequency explains.",
    "norms": "Key frequencies are those of the last checkpoint of each run.",
    "ranks": "An effective rank is the exponential of an entropy of singular values.",
}


def render_comparison(comparison: Comparison) -> str:
    """The page. What comes from runs is escaped, wherever it appears."""
    environment = Environment(
        loader=PackageLoader("interp.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    story, configured, ranked, *groups = tables(comparison)
    drawn = figures(comparison)
    highest = max((row.difference or 0 for row in comparison.ranking), default=0)
    runs = list(dict.fromkeys(side.run.path.resolve().name for side in comparison.sides))
    return environment.get_template("comparison.html").render(
        title=" and ".join(runs) + ": " + " beside ".join(side.label for side in comparison.sides),
        runs=runs,
        sides=list(zip(comparison.sides, SIDE_COLORS, strict=False)),
        story=story,
        configured=configured,
        ranked=ranked,
        widths=[round(100 * (row.difference or 0) / highest, 1) for row in comparison.ranking],
        groups=groups,
        how=HOW,
        left_out=comparison.left_out,
        captions=[(name, CAPTIONS[name]) for name in drawn],
        style=Markup((files("interp.report") / "comparison.css").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        figures=in_script({name: json.loads(str(figure.to_json())) for name, figure in drawn.items()}),
        config=in_script(CONFIG),
    )
