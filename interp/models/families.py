"""The families of models, by name. Each module has `shapes`, `inverse_variance`, `neuron_axes`, `matrices`,
`unembedding`, `embed`, `transform`, `residual_post` and `answer_scale`; to add one, write such a module and name it
here and in `experiment.Family`."""

from types import ModuleType

from interp.models import mlp, recorded_module, transformer

FAMILIES: dict[str, ModuleType] = {"transformer": transformer, "mlp": mlp, "module": recorded_module}
