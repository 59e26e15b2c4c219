"""Texts of figures. plotly takes tags in them for markup, and names of runs, columns and tensors stand in them: they
leave as letters, beside the few tags that our own figures are made with."""

import json
import re
from typing import TYPE_CHECKING, Any

from interp.printable import printable, shortened

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_OF_A_TEXT, MOST_OF_A_NAME = 500, 100  # more than in any figure of ours; a longer legend would leave no room
# Bold, lines, indices, size and color of words, the second box of a hover; no links, no other attributes.
_OURS = re.compile(r"</?(?:b|i|sub|sup|extra)>|<br>|</span>|<span style='(?:(?:color|font-size): ?[#\w.]+;?)+'>")
_NO_TEXTS = ("bdata", "path")  # numbers in base64, outlines of shapes


def figure_json(figure: "go.Figure") -> str:
    """A figure as JSON, in which every text is `printable`, of a bounded length, and without markup that is not ours.

    >>> from interp.figures import new_figure
    >>> figure = new_figure("<b>Loss</b> of <img src=x>", x="step", y="loss")
    >>> json.loads(figure_json(figure))["layout"]["title"]["text"]
    '<b><b>Loss</b> of &lt;img src=x></b>'
    """
    return json.dumps(_plain(json.loads(str(figure.to_json()))), allow_nan=False, separators=(",", ":"))


def _plain(value: Any, of: str = "") -> Any:
    if isinstance(value, dict):
        return {key: inner if key in _NO_TEXTS else _plain(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return _text(value, MOST_OF_A_NAME if of == "name" else MOST_OF_A_TEXT) if isinstance(value, str) else value


def _text(text: str, most: int) -> str:
    if text.isascii() and text.isprintable() and "<" not in text and len(text) <= most:
        return text
    text, shown, place = shortened(printable(text), most), "", 0
    for tag in _OURS.finditer(text):
        shown += text[place : tag.start()].replace("<", "&lt;") + tag[0]
        place = tag.end()
    return shown + text[place:].replace("<", "&lt;")
