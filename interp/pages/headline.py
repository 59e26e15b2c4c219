"""The figure that the page begins with: what grew and what shrank, on one shared step axis, with the phases shaded.
These are its numbers; headline.js draws them, long before plotly could."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from interp.analysis import find
from interp.figures import PALETTE, TEST, TRAIN

INK = "#222"  # what the script of the page turns light on black
_ROWS = (
    ("Loss (nats)", "log"),
    ("Accuracy", "share"),
    ("L2 norm of all weights", "from zero"),
    ("Gini coefficient of W_E", "share"),
)
_CURVES = (
    ("loss", "train", "train loss", TRAIN, 0),
    ("loss", "held_out", "held-out loss", TEST, 0),
    ("loss", "restricted", "restricted loss (key frequencies alone)", PALETTE[3], 0),
    ("loss", "excluded", "excluded loss (without them, train)", PALETTE[2], 0),
    ("accuracy", "train", "train accuracy", TRAIN, 1),
    ("accuracy", "held_out", "held-out accuracy", TEST, 1),
    ("accuracy", "test", "accuracy on all test pairs, mirrors too", PALETTE[5], 1),
)


def phases(results: Mapping[str, xr.Dataset]) -> list[dict[str, Any]]:
    """`name`, `start` and `end` of every phase whose boundaries are known, and what comes after the last."""
    transitions = results["transitions"]
    known = [phase for phase in find("transitions").summary(transitions)["phases"] if phase["end"] is not None]
    known = [{name: phase[name] for name in ("name", "start", "end")} for phase in known if phase["start"] is not None]
    last = int(transitions.step.values[-1])
    complete = len(known) == 3 and known[-1]["end"] < last
    return [*known, {"name": "stable", "start": known[-1]["end"], "end": last}] if complete else known


def headline(results: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """JSON: `steps`, `phases`, and `rows` (`title`, `scale`: log, share or from zero) of `curves` (`label`, `color` and
    `values`, one per step, None where unknown). Curves of which nothing is known are left out, and so are rows without
    curves."""
    transitions = results["transitions"]
    # Where no mirrors are left out, held-out pairs are the test pairs, or, without a split, may be.
    same = np.array_equal(*(transitions.accuracy.sel(accuracy_of=of) for of in ("held_out", "test")), equal_nan=True)
    words = {"held-out loss": "test loss", "held-out accuracy": "test accuracy"} if same else {}
    curves = [
        (transitions[name].sel({f"{name}_of": of}).values, words.get(label, label), color, row)
        for name, of, label, color, row in _CURVES
        if not (same and (name, of) == ("accuracy", "test"))
    ]
    curves.append((np.sqrt(transitions.sum_of_squares.values), "weight norm", INK, 2))
    curves.append((transitions.gini.values, "Gini of W_E", PALETTE[4], 3))
    rows = [{"title": title, "scale": scale, "curves": []} for title, scale in _ROWS]
    if (axis := transitions.attrs["loss_axis"]) != "cross-entropy (nats)":
        rows[0]["title"] = f"Loss: {axis}"
    for values, label, color, row in curves:
        numbers = [float(f"{value:.7g}") if np.isfinite(value) else None for value in values]
        if any(number is not None for number in numbers):
            rows[row]["curves"].append({"label": label, "color": color, "values": numbers})
    steps = [int(step) for step in transitions.step.values]
    return {"steps": steps, "phases": phases(results), "rows": [row for row in rows if row["curves"]]}
