"""What is run: the task, the model, the training, their hash, the presets. Light: numpy, no torch."""

from interp.experiment.examples import Examples
from interp.experiment.experiment import Experiment, experiment_from_dict, experiment_from_toml
from interp.experiment.gradient_filter import GradientFilter
from interp.experiment.model import (
    FIELDS_OF_OTHERS,
    Activation,
    Attention,
    Embedding,
    Family,
    Inputs,
    Mlp,
    ModelConfig,
    Norm,
    Vocabularies,
)
from interp.experiment.module_record import ModuleRecord
from interp.experiment.operations import MIXTURES, Operation
from interp.experiment.presets import PRESETS, preset
from interp.experiment.recorded import (
    KINDS,
    SECTIONS,
    choices_of,
    hash_of,
    json_values,
    recorded_section,
    section_from_dict,
    section_to_dict,
)
from interp.experiment.regularizers import DecayFactors, Regularizers
from interp.experiment.samples import Samples
from interp.experiment.schedule import Schedule
from interp.experiment.task import Task
from interp.experiment.toml_files import parse_toml, read_toml
from interp.experiment.training import TrainingConfig

__all__ = [
    "FIELDS_OF_OTHERS",
    "KINDS",
    "MIXTURES",
    "PRESETS",
    "SECTIONS",
    "Activation",
    "Attention",
    "DecayFactors",
    "Embedding",
    "Examples",
    "Experiment",
    "Family",
    "GradientFilter",
    "Inputs",
    "Mlp",
    "ModelConfig",
    "ModuleRecord",
    "Norm",
    "Operation",
    "Regularizers",
    "Samples",
    "Schedule",
    "Task",
    "TrainingConfig",
    "Vocabularies",
    "choices_of",
    "experiment_from_dict",
    "experiment_from_toml",
    "hash_of",
    "json_values",
    "parse_toml",
    "preset",
    "read_toml",
    "recorded_section",
    "section_from_dict",
    "section_to_dict",
]
