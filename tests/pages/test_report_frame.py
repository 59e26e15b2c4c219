"""Which plotly.js a page carries."""

import re
from collections.abc import Sequence
from importlib.resources import files

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs, get_plotlyjs_version

from interp.pages.frame import CARTESIAN, _packed_plotly

BUNDLE = (files("interp.pages") / "browser" / "plotly-cartesian.min.js").read_text(encoding="utf-8")


def carried(figures: Sequence[go.Figure], monkeypatch: pytest.MonkeyPatch) -> str:
    """The plotly.js of a page with these figures."""
    monkeypatch.setattr("interp.pages.frame.packed_text", lambda text: text)
    _packed_plotly.cache_clear()
    try:
        from interp.pages.frame import rendered

        page = rendered("frame.html", {str(place): figure for place, figure in enumerate(figures)}, title="")
    finally:
        _packed_plotly.cache_clear()
    found = re.search(r'id="plotly">(.*?)</script>', page, re.DOTALL)
    assert found
    return found[1]


def test_the_bundle_draws_what_is_said_of_it():
    assert frozenset(re.findall(r'moduleType:"trace",name:"(\w+)"', BUNDLE)) == CARTESIAN


def test_the_bundle_is_of_the_version_that_plotly_ships():
    """Otherwise: npm pack plotly.js-cartesian-dist-min@VERSION, and put its plotly-cartesian.min.js into
    interp/pages/browser."""
    version = re.search(r"\* plotly\.js \(cartesian - minified\) v([\d.]+)", BUNDLE)
    assert version
    assert version[1] == get_plotlyjs_version()


def test_a_page_carries_what_its_figures_need(monkeypatch):
    flat = go.Figure([go.Scatter(y=[1]), go.Heatmap(z=[[1]])])
    assert carried([flat], monkeypatch) == BUNDLE
    assert carried([flat, go.Figure(go.Surface(z=[[1]]))], monkeypatch) == get_plotlyjs()
