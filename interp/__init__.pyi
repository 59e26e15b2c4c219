import pathlib

from .analysis import analyze as analyze
from .analysis import table as table
from .errors import InputError as InputError
from .experiment import Attention as Attention
from .experiment import Experiment as Experiment
from .experiment import Mlp as Mlp
from .experiment import ModelConfig as ModelConfig
from .experiment import Norm as Norm
from .experiment import Operations as Operations
from .experiment import Task as Task
from .experiment import TrainingConfig as TrainingConfig
from .experiment import preset as preset
from .explanation import compare as compare
from .explanation import explain as explain
from .interchange import Recorder as Recorder
from .interchange import curves as curves
from .interchange import export_run as export_run
from .interchange import import_run as import_run
from .models import Snapshot as Snapshot
from .pages import plot as plot
from .pages import report as report
from .runs import Checkpoint as Checkpoint
from .runs import Run as Run
from .runs import RunWriter as RunWriter
from .runs import open_run as open_run
from .runs import verify as verify
from .studies import best as best
from .studies import collect as collect
from .sweeps import run as run
from .sweeps import sweep as sweep
from .training import train as train

__version__: str

def reference_path() -> pathlib.Path: ...
