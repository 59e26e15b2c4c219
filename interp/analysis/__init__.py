"""What an analysis is, finding them, running them over a run, and their results on disk."""

from interp.analysis.axes import axes
from interp.analysis.contract import Analysis, Scale, discover, find
from interp.analysis.results import load_result, result_path, save_result
from interp.analysis.series import measure_series
from interp.analysis.steps import steps_to_show
from interp.analysis.tables import write_tables
from interp.analysis.walk import analyze, measure_checkpoint, results_at, stored_result

__all__ = [
    "Analysis",
    "Scale",
    "analyze",
    "axes",
    "discover",
    "find",
    "load_result",
    "measure_checkpoint",
    "measure_series",
    "result_path",
    "results_at",
    "save_result",
    "steps_to_show",
    "stored_result",
    "write_tables",
]
