"""Figures as files; the static ones are really drawn, by kaleido with the system's browser, also as root."""

import json
import re
import struct
import sys

import pytest

from interp.errors import InputError
from interp.figures import CONFIG, new_figure
from interp.figures.images import check_ending, write_figure


@pytest.fixture
def figure():
    figure = new_figure("A parabola", x="a", y="a²", height=300)
    figure.add_scatter(x=[1, 2, 3], y=[1, 4, 9])
    return figure


def test_a_png_is_drawn_at_its_size(figure, tmp_path):
    write_figure(figure, tmp_path / "figure.png", width=400, scale=1.5)
    content = (tmp_path / "figure.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (600, 450)
    assert len(content) > 4000  # an empty canvas of this size is half of that


def test_an_svg_has_the_words_of_the_figure(figure, tmp_path):
    write_figure(figure, tmp_path / "figure.SVG", width=400)
    content = (tmp_path / "figure.SVG").read_text(encoding="utf-8")
    assert content.startswith("<svg")
    assert "A parabola" in content
    assert not re.findall(r'(?:href|src)="https?:', content)


def test_an_html_file_is_whole_and_sends_nothing(figure, tmp_path):
    write_figure(figure, tmp_path / "figure.html")
    content = (tmp_path / "figure.html").read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link)[^>]*(?:src|href)=", content)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', content)[1])
    assert data["config"] == CONFIG
    assert CONFIG["showSendToCloud"] is False
    assert CONFIG["plotlyServerURL"] == ""
    assert "A parabola" in content


def test_a_json_file_is_the_figure(figure, tmp_path):
    write_figure(figure, tmp_path / "figure.json")
    assert json.loads((tmp_path / "figure.json").read_text()) == json.loads(figure.to_json())


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_browser_is_told_to_stay_off_the_network(figure, tmp_path, monkeypatch, kind):
    asked = {}
    monkeypatch.setattr("kaleido.calc_fig_sync", lambda drawn, **given: asked.update(given) or b"drawn")
    write_figure(figure, tmp_path / f"figure.{kind}")
    assert asked["kopts"] == {"mathjax": False}
    assert asked["opts"] == {"format": kind, "width": 1100, "height": 300, "scale": 2}
    assert (tmp_path / f"figure.{kind}").read_bytes() == b"drawn"


def test_without_kaleido_one_line_says_how_to_get_it(figure, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(InputError, match=r"^\.pdf figures need kaleido; .*pip install 'interp\[static\]'.*chromium.*$"):
        write_figure(figure, tmp_path / "figure.pdf")
    assert list(tmp_path.iterdir()) == []


def test_without_a_browser_one_line_says_how_to_get_it(figure, tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    with pytest.raises(
        InputError,
        match=r"^kaleido could not draw the figure \(.*\); it needs Chromium or Chrome: .*apt-get install chromium.*$",
    ):
        write_figure(figure, tmp_path / "figure.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["figure", "figure.gif", "figure.png.gz", "figure."])
def test_an_ending_that_names_no_figure_is_refused(name, tmp_path):
    with pytest.raises(InputError, match=r"a figure is written as \.html, \.json, \.png, \.svg or \.pdf"):
        check_ending(tmp_path / name)


def test_a_folder_that_is_not_there_is_named(figure, tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*nowhere.*figure\.json: No such file"):
        write_figure(figure, tmp_path / "nowhere" / "figure.json")
