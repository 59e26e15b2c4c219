"""Self-contained HTML pages: of a run, of a comparison, of a study. Python here; what runs in the browser
in browser/."""

from interp.pages.comparison import explored, render_comparison
from interp.pages.curves import render_curves
from interp.pages.headline import phases
from interp.pages.page import render
from interp.pages.study import is_experiment, render_experiment

__all__ = ["explored", "is_experiment", "phases", "render", "render_comparison", "render_curves", "render_experiment"]
