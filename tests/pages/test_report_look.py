"""How the report looks: one color for a frequency in every figure, and room for everything on a phone."""

from itertools import pairwise

import pytest

from interp.analysis import find
from interp.figures import NEUTRAL, color_of_frequency


@pytest.fixture(scope="module")
def narrow(open_page, reference_report):
    """The page on a phone."""
    page = open_page(reference_report.path, viewport={"width": 390, "height": 800})
    yield page
    assert page.trouble == []
    page.close()


def test_a_frequency_has_one_color_everywhere(narrow, reference_report):
    run, results, _ = reference_report
    key = run.key_frequencies
    expected = {k: color_of_frequency(k, key) for k in key}
    assert narrow.evaluate("interp.explorers[0].run.colors") == {str(k): color for k, color in expected.items()}
    drawn = {
        name: find(name).module.plot(results[name])
        for name in ("representation", "attention_structure", "neuron_periodicity")
    }
    circles = drawn["representation"].data[:3]
    found = [int(title.text.split()[2].rstrip(":")) for title in drawn["representation"].layout.annotations[:3]]
    assert [trace.marker.color for trace in circles] == [expected[k] for k in found]
    heads = [trace for trace in drawn["attention_structure"].data if trace.showlegend is not False]
    assert [trace.line.color for trace in heads] == [expected[int(trace.name.rpartition(" ")[2])] for trace in heads]
    areas = {
        trace.name: trace.line.color
        for trace in drawn["neuron_periodicity"].select_traces({"type": "scatter"})
        if trace.stackgroup
    }
    assert areas == {f"k = {k}": color for k, color in expected.items()} | {"other k": NEUTRAL}


def test_fits_a_narrow_screen(narrow):
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 391
    narrow.click(".pin")
    narrow.wait_for_selector(".explorer.pinned")
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 391
    for name in ("progress_measures", "representation"):
        narrow.locator(f"#{name} .figure").scroll_into_view_if_needed()
        narrow.wait_for_selector(f"#{name} .main-svg")
        layout = f"document.querySelector('#{name} .figure')._fullLayout"
        across, upward = (
            narrow.evaluate(
                f"Object.entries({layout}).filter(([axis]) => /^{kind}axis/.test(axis)).map(([, axis]) => axis.domain)"
            )
            for kind in "xy"
        )
        assert all(domain == [0, 1] for domain in across), "one panel in a row"
        assert all(lower[1] < upper[0] for lower, upper in pairwise(sorted(upward))), "none over another"
        legends = narrow.eval_on_selector_all(
            f"#{name} .legend .traces", "all => all.map(one => one.getBoundingClientRect().right)"
        )
        assert max(legends) <= 390
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 391
