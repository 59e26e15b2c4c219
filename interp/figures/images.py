"""Figures as files."""

from pathlib import Path
from typing import TYPE_CHECKING

from interp.errors import InputError
from interp.figures.style import CONFIG
from interp.machine import write_atomically

if TYPE_CHECKING:
    import plotly.graph_objects as go

STATIC = (".png", ".svg", ".pdf")


def check_ending(path: Path) -> None:
    """Raises InputError for a file name whose ending names no kind of figure."""
    if path.suffix.lower() not in (".html", ".json", *STATIC):
        raise InputError(
            f"{path} ends in {path.suffix or 'nothing'!r}; a figure is written as .html, .json, .png, .svg or .pdf"
        )


def write_figure(figure: "go.Figure", path: Path, *, width: int = 1100, scale: float = 2) -> None:
    """Write a figure; the ending of `path` says what: .html (self-contained), .json, or .png, .svg, .pdf.

    The last three are drawn by kaleido with the system's Chromium; InputError says how to install what is missing.
    """
    check_ending(path)
    ending = path.suffix.lower()
    if ending == ".html":
        # Plotly takes an entry out of what it is given.
        content = figure.to_html(include_plotlyjs=True, config=dict(CONFIG)).encode()
    elif ending == ".json":
        content = str(figure.to_json()).encode()
    else:
        content = _drawn(figure, ending[1:], width, scale)
    write_atomically(path, content)


def _drawn(figure: "go.Figure", kind: str, width: int, scale: float) -> bytes:
    mend = "install both with: pip install 'interp[static]' and apt-get install chromium (or Chrome)"
    try:
        import kaleido
    except ImportError:
        raise InputError(f".{kind} figures need kaleido; {mend}") from None
    options = {"format": kind, "width": width, "height": figure.layout.height, "scale": scale}
    try:
        # Left to itself, and to plotly, kaleido has the browser load MathJax from the network.
        return kaleido.calc_fig_sync(figure, opts=options, kopts={"mathjax": False})
    except Exception as error:  # kaleido raises many kinds; all of them mean that no picture came out
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"kaleido could not draw the figure ({reason}); it needs Chromium or Chrome: {mend}") from None
