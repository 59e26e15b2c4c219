"""In which way a model is computed: told by its configuration alone, without torch."""

from interp.experiment import ModelConfig


def is_factored(model: ModelConfig) -> bool:
    """Whether the model is computed by its factored form.

    >>> is_factored(ModelConfig()), is_factored(ModelConfig(n_layers=2)), is_factored(ModelConfig(family="mlp"))
    (True, False, False)
    """
    return model.is_plain and model.n_layers == 1 and model.prompt == "ab="


def method(model: ModelConfig) -> str:
    """How the gradient of a model is computed: the first way is several times as fast.

    >>> method(ModelConfig()), method(ModelConfig(family="mlp"))
    ('factored, closed-form gradient', 'general, autograd')
    """
    if model.is_recorded:
        return "its own module, once; here its answers are read"
    return "factored, closed-form gradient" if is_factored(model) else "general, autograd"
