"""The page about recorded curves, in a browser: drawn without a word of trouble, with its stages, its units and its
falls, and bounded however long the log is."""

import base64
import re
import zlib

import numpy as np
import pytest

from interp.interchange import curves
from interp.pages import curves as page_of_curves
from interp.pages import render_curves

EPOCHS = np.arange(0, 4000, 20)


@pytest.fixture(scope="module")
def page(open_page, tmp_path_factory):
    test = np.where(EPOCHS >= 2000, 1.0, 0.01)
    test[150] = 0.6
    told = curves({"epoch": EPOCHS, "train_acc": (EPOCHS >= 100) * 1.0, "test_acc": test, "loss": 4.0 / (1 + EPOCHS)})
    path = tmp_path_factory.mktemp("curves") / "page.html"
    path.write_text(render_curves(told))
    page = open_page(path)
    yield page
    assert page.trouble == []
    page.close()


def test_the_curves_are_drawn_in_their_units(page):
    canvas = page.locator("[data-headline] canvas")
    assert canvas.bounding_box()["height"] > 200
    said = canvas.get_attribute("aria-label")
    assert "memorizing until epoch 100, memorized until epoch 2,000, generalized until epoch 3,980" in said
    assert page.inner_text("h1") == "It grokked: 100 % of the test examples, from epoch 2,000 on".replace(" %", "\xa0%")


def test_every_fall_has_its_row(page):
    assert page.locator("#episodes tbody tr, #episodes table > tr").count() == 1
    assert re.search(r"test\s+3,000\s+60.0 %\s+3,020", page.inner_text("#episodes"))


def test_facts_lead_to_sections_that_are_there(page):
    for link in page.locator(".facts a").all():
        assert page.locator(link.get_attribute("href")).count() == 1


def test_a_long_log_is_thinned_and_keeps_its_spikes(monkeypatch):
    monkeypatch.setattr(page_of_curves, "MOST_DRAWN", 400)
    steps = np.arange(20_000)
    test = np.where(steps >= 9000, 1.0, 0.01)
    test[12_345] = 0.25
    told = curves({"step": steps, "train_acc": (steps >= 100) * 1.0, "test_acc": test})
    shown = page_of_curves._drawn(told)
    assert len(shown) <= 400
    assert 12_345 in shown
    assert {0, 19_999} <= set(shown.tolist())
    assert "of 20,000 logged steps" in render_curves(told)


def test_a_panel_without_curves_says_so_and_the_method_is_set_in_type():
    told = curves({"epoch": EPOCHS, "train_acc": (EPOCHS >= 100) * 1.0, "test_acc": (EPOCHS >= 2000) * 1.0})
    page = render_curves(told)
    packed = page.partition('id="figure-transitions">')[2].partition("<")[0]
    assert "not recorded" in zlib.decompress(base64.b64decode(packed)).decode()
    assert "<em>reached</em>" in page
    assert "*reached*" not in page
    assert "98.6" not in page.split('id="method"')[1]


def test_the_page_of_a_collapse_does_not_say_that_it_was_known_for_good():
    lost = np.where((EPOCHS >= 1000) & (EPOCHS < 3000), 1.0, 0.02)
    told = curves({"epoch": EPOCHS, "train_acc": (EPOCHS >= 100) * 1.0, "test_acc": lost})
    assert told.numbers["run"]["verdict"] == "collapse"
    assert "for good" not in render_curves(told)
