"""Figures as pages: opened in a browser they draw, answer to the mouse and save themselves, and nothing that a name
holds runs or is loaded."""

import json
import re
from pathlib import Path

import plotly.graph_objects as go
import pytest

from interp.figures import figure_json, new_figure, sealed, write_figure

ELSEWHERE = "http://127.0.0.1:9/"
EVIL = (
    f"</script><img src='{ELSEWHERE}x.png' onerror=alert(1)><script>alert(2);fetch('{ELSEWHERE}f')</script>"
    "<a href='javascript:alert(3)'>k</a><svg onload=alert(4)></svg>{{ 7 * 7 }}"
)
CODES = "\x1b[2J\n\u202e\u200b\udcff"


@pytest.fixture
def evil() -> go.Figure:
    """A figure all of whose texts are EVIL, with a picture from elsewhere."""
    figure = new_figure(EVIL, x=EVIL, y=EVIL, reference=EVIL, height=400)
    figure.add_scatter(x=[1, 2, 3], y=[1, 4, 9], name=EVIL, text=[EVIL] * 3, hovertemplate="%{y} " + EVIL)
    figure.add_bar(x=[EVIL, CODES], y=[3, 4], name=CODES, xaxis="x2", yaxis="y2")
    figure.add_annotation(text=EVIL, x=1, y=2)
    figure.add_layout_image(source=f"{ELSEWHERE}image.png", x=0, y=1, sizex=0.3, sizey=0.3)
    return figure


class Opened:
    """A page in the browser: what went wrong in it, and what it asked for that is not itself."""

    def __init__(self, browser, path: Path) -> None:
        self.page, self.said, self.asked = browser.new_page(), [], []
        self.page.set_default_timeout(120_000)  # as `open_page` has it
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("response", lambda response: self.asked.append(response.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".main-svg")

    def loaded(self) -> list[str]:
        return [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))]


@pytest.fixture
def opened(browser, tmp_path):
    pages = []

    def opened(figure: go.Figure) -> Opened:
        write_figure(figure, tmp_path / "figure.html")
        pages.append(Opened(browser, tmp_path / "figure.html"))
        return pages[-1]

    yield opened
    for one in pages:
        one.page.close()


def test_a_figure_draws_hovers_and_saves_itself(opened):
    figure = new_figure("A parabola", x="a", y="a²", height=400)
    figure.add_scatter(x=[1, 2, 3], y=[1, 4, 9], mode="lines+markers", name="curve", hovertemplate="here %{y}")
    one = opened(figure)
    assert one.page.title() == "A parabola"
    assert one.page.locator(".scatterlayer .point").count() == 3
    box = one.page.locator(".scatterlayer .point").nth(1).bounding_box()
    for turn in range(300):  # plotly may not listen yet
        one.page.mouse.move(box["x"] + box["width"] / 2 + turn % 2, box["y"] + box["height"] / 2)
        one.page.wait_for_timeout(100)
        if one.page.locator(".hoverlayer .hovertext").count():
            break
    assert "here 4" in one.page.locator(".hoverlayer").text_content()
    with one.page.expect_download() as saved:
        one.page.locator(".modebar-btn").first.click()
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")
    assert one.said == []
    assert one.loaded() == []


def test_nothing_that_a_name_holds_runs_or_is_loaded(opened, evil):
    one = opened(evil)
    one.page.mouse.move(400, 200)
    one.page.wait_for_timeout(300)
    # What the policy kept out is told in the console; nothing else may be.
    assert [text for text in one.said if "violates the following Content Security Policy" not in text] == []
    assert one.loaded() == []
    assert one.page.locator("img, svg a, a[href^=javascript], svg[onload]").count() == 0
    assert one.page.title().startswith("</script><img")
    assert "<img src=" in one.page.locator(".gtitle").text_content()


def test_a_script_that_got_in_all_the_same_does_not_run(browser, tmp_path):
    write_figure(new_figure("A", x="a", y="b"), tmp_path / "figure.html")
    page = (tmp_path / "figure.html").read_text("utf-8")
    nonce = re.search(r"'nonce-(\w+)'", page)[1]
    smuggled = f"<script>alert(1)</script><img src={ELSEWHERE}x onerror=alert(2)><script src={ELSEWHERE}s></script>"
    (tmp_path / "other.html").write_text(page.replace("<body>", f"<body>{smuggled}"), "utf-8")
    one = Opened(browser, tmp_path / "other.html")
    one.page.wait_for_timeout(300)
    assert not [text for text in one.said if text.startswith("dialog")]
    assert one.loaded() == []
    one.page.close()
    assert page.count(nonce) == 3  # in the policy, and on the two scripts of ours


def test_what_writes_code_to_draw_is_let_and_nothing_else_is(tmp_path):
    """plotly draws these by functions that it writes as it goes."""
    for kind, lets in ((go.Scattergl, True), (go.Scatter, False)):
        write_figure(go.Figure(kind(x=[1, 2], y=[3, 4])), tmp_path / "figure.html")
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', (tmp_path / "figure.html").read_text("utf-8"))
        assert ("'unsafe-eval'" in policy[1]) == lets
        assert policy[1].startswith("default-src 'none'; script-src 'nonce-")


def test_a_seal_is_of_all_that_the_page_holds():
    def nonce(text: str) -> str:
        return re.search(r"nonce-(\w+)", sealed(lambda policy, nonce: f"{policy}{text}{nonce}"))[1]

    assert nonce("a") == nonce("a")
    assert nonce("a") != nonce("b")
    assert re.fullmatch(r"[0-9a-f]{32}", nonce("a"))


def test_texts_lose_markup_and_codes_and_numbers_lose_nothing(evil):
    evil.add_scatter(x=list(range(1000)), y=[value / 7 for value in range(1000)], name="a" * 10**6)
    text = figure_json(evil)
    told, whole = json.loads(text), json.loads(evil.to_json())
    assert told["data"][-1]["y"] == whole["data"][-1]["y"]
    assert not re.search(r"<(?!/?(b|i|br|sub|sup|extra|span)\b)", text)
    assert len(told["data"][-1]["name"]) < 110
    assert told["data"][1]["name"] == r"\x1b[2J\n\u202e\u200b\xff"
    assert told["layout"]["title"]["text"].startswith("<b>&lt;/script>&lt;img src=")


def test_the_texts_of_our_own_figures_stay(evil):
    figure = new_figure("Loss <b>and</b> W<sub>E</sub><br>‖F_k‖²", x="step (updates)", y="λ", reference="Power et al.")
    figure.add_scatter(x=[1], y=[2], hovertemplate="%{y:.3g}<extra>a</extra>", name="train")
    assert json.loads(figure_json(figure)) == json.loads(figure.to_json())
