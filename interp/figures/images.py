"""Figures as files."""

import json
import re
from html import escape, unescape
from pathlib import Path
from typing import TYPE_CHECKING

from interp.errors import InputError
from interp.figures.plain_texts import figure_json
from interp.figures.policy import sealed
from interp.figures.style import CONFIG
from interp.machine import write_atomically
from interp.printable import shortened

if TYPE_CHECKING:
    import plotly.graph_objects as go

STATIC = (".png", ".svg", ".pdf")
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>body {{ margin: 0; background: #fff }}</style>
</head>
<body>
<div id="figure"></div>
<noscript>The figure needs JavaScript; nothing is loaded from anywhere else.</noscript>
<script type="application/json" id="data">{data}</script>
<script nonce="{nonce}">{plotly}</script>
<script nonce="{nonce}">
const {{ data, layout, config }} = JSON.parse(document.getElementById("data").textContent);
Plotly.newPlot("figure", data, layout, config);
</script>
</body>
</html>
"""


def check_ending(path: Path) -> None:
    """Raises InputError for a file name whose ending names no kind of figure."""
    if path.suffix.lower() not in (".html", ".json", *STATIC):
        raise InputError(
            f"{path} ends in {path.suffix or 'nothing'!r}; a figure is written as .html, .json, .png, .svg or .pdf"
        )


def write_figure(figure: "go.Figure", path: Path, *, width: int = 1100, scale: float = 2) -> None:
    """Write a figure; the ending of `path` says what: .html (self-contained), .json, or .png, .svg, .pdf. Its texts are
    those of `figure_json`.

    The last three are drawn by kaleido with the system's Chromium; InputError says how to install what is missing.
    """
    check_ending(path)
    ending = path.suffix.lower()
    if ending == ".html":
        content = _page(figure).encode()
    elif ending == ".json":
        content = figure_json(figure).encode()
    else:
        content = _drawn(figure, ending[1:], width, scale)
    write_atomically(path, content)


def _page(figure: "go.Figure") -> str:
    """One file that loads nothing, and in which no script runs but plotly and the one that calls it."""
    from plotly.offline import get_plotlyjs

    drawn = json.loads(figure_json(figure))
    title = unescape(re.sub(r"<[^>]*>", " ", drawn["layout"].get("title", {}).get("text") or "Figure"))
    data = json.dumps({"data": drawn["data"], "layout": drawn["layout"], "config": CONFIG}).replace("<", "\\u003c")
    return sealed(
        lambda policy, nonce: _PAGE.format(
            policy=policy,
            nonce=nonce,
            title=escape(shortened(" ".join(title.split()))),
            data=data,
            plotly=get_plotlyjs(),
        ),
        kinds=[trace["type"] for trace in drawn["data"]],
    )


def _drawn(figure: "go.Figure", kind: str, width: int, scale: float) -> bytes:
    mend = "install both with: pip install 'interp[static]' and apt-get install chromium (or Chrome)"
    try:
        import kaleido
    except ImportError:
        raise InputError(f".{kind} figures need kaleido; {mend}") from None
    options = {"format": kind, "width": width, "height": figure.layout.height, "scale": scale}
    try:
        # Left to itself, and to plotly, kaleido has the browser load MathJax from the network.
        return kaleido.calc_fig_sync(json.loads(figure_json(figure)), opts=options, kopts={"mathjax": False})
    except Exception as error:  # kaleido raises many kinds; all of them mean that no picture came out
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"kaleido could not draw the figure ({reason}); it needs Chromium or Chrome: {mend}") from None
