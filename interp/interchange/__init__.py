"""Other people's formats, in and out."""

from interp.interchange.exporting import export_run, push
from interp.interchange.importing import describe_sources, import_run
from interp.interchange.recorded import curves
from interp.interchange.recorder import LoopState, Recorder

__all__ = ["LoopState", "Recorder", "curves", "describe_sources", "export_run", "import_run", "push"]
