"""What is run: the task, the model, the training, their hash, the presets. Light: numpy, no torch."""

from interp.experiment.examples import Examples
from interp.experiment.experiment import Experiment, experiment_from_dict, experiment_from_toml
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
from interp.experiment.presets import PRESETS, preset
from interp.experiment.recorded import (
    KINDS,
    SECTIONS,
    hash_of,
    json_values,
    recorded_section,
    section_from_dict,
    section_to_dict,
)
from interp.experiment.samples import Samples
from interp.experiment.task import Operation, Task
from interp.experiment.training import TrainingConfig

__all__ = [
    "FIELDS_OF_OTHERS",
    "KINDS",
    "PRESETS",
    "SECTIONS",
    "Activation",
    "Attention",
    "Embedding",
    "Examples",
    "Experiment",
    "Family",
    "Inputs",
    "Mlp",
    "ModelConfig",
    "ModuleRecord",
    "Norm",
    "Operation",
    "Samples",
    "Task",
    "TrainingConfig",
    "Vocabularies",
    "experiment_from_dict",
    "experiment_from_toml",
    "hash_of",
    "json_values",
    "preset",
    "recorded_section",
    "section_from_dict",
    "section_to_dict",
]
