"""The forward pass of any model, whatever its family.

A transformer with one layer is computed by tables over its tokens (`interp.models.one_layer`); the plain one
(`ModelConfig.is_plain`) on the prompt `ab=`, on many pairs, by larger ones (`interp.models.token_tables`), and where
its logits alone are asked for by its exact factored form (`interp.models.factored_gradient`); autograd goes through
none. Everything else, and what is differentiated, is computed as its family writes it (`interp.models.transformer`,
`interp.models.mlp`).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.experiment import Examples, ModelConfig
from interp.models import factored_gradient, mlp, one_layer, recorded_module, token_tables
from interp.models.families import FAMILIES
from interp.models.values import Activations, Drop, Matrices, Weights, keep
from interp.models.ways import is_factored

Inputs = Int[Tensor, "n tokens"] | Float[Tensor, "n features"]


def matrices(weights: Weights, model: ModelConfig) -> Matrices:
    """W_E, and the last layer's W_in, W_out and W_U, whatever they are called.

    >>> from interp.models import initial_weights
    >>> model = ModelConfig(d_model=8, d_mlp=4)
    >>> matrices(initial_weights(model, 7), model).W_L.shape  # 4 neurons, 7 classes
    torch.Size([4, 7])
    """
    return FAMILIES[model.family].matrices(weights, model)


def unembedding(weights: Weights, model: ModelConfig) -> Float[Tensor, "features classes"]:
    """The last matrix before the logits as it stands among the weights, with no norm folded in; where it is tied, W_Eᵀ
    of the residues.

    >>> W_E = torch.arange(8.0).view(4, 2)  # 0, 1, 2, and `=`
    >>> unembedding({"embed.W_E": W_E}, ModelConfig(tied=True)).tolist()
    [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
    """
    return FAMILIES[model.family].unembedding(weights, model)


def neuron_axes(model: ModelConfig) -> dict[str, int]:
    """The names of the tensors that have an axis of the last layer's neurons (of what these read by, and of W_out), and
    which axis it is; a name may be of a bias that the model is without.

    >>> neuron_axes(ModelConfig(n_layers=2))
    {'blocks.1.mlp.W_in': 1, 'blocks.1.mlp.b_in': 0, 'blocks.1.mlp.W_out': 0}
    >>> neuron_axes(ModelConfig(family="mlp", n_layers=3))
    {'mlp.W_2': 1, 'mlp.b_2': 0, 'mlp.W_out': 0}
    """
    return FAMILIES[model.family].neuron_axes(model)


def embed(
    weights: Weights, model: ModelConfig, inputs: Inputs, vectors: Float[Tensor, "residues features"] | None = None
) -> Float[Tensor, "n positions features"]:
    """What enters the layers: the residual stream before the first; of an MLP, the vectors of a and b, or the example.

    With `vectors`, the residues enter by these in place of their own; where b has a vocabulary of its own, those of a
    come first. `=` keeps its vector.

    >>> from interp.models import initial_weights
    >>> model = ModelConfig(d_model=8, d_mlp=4)
    >>> embed(initial_weights(model, 7), model, torch.tensor([[2, 3], [0, 6]])).shape  # pairs, `ab=`, d_model
    torch.Size([2, 3, 8])
    """
    return FAMILIES[model.family].embed(weights, model, inputs, vectors)


def transform(
    weights: Weights, model: ModelConfig, x: Float[Tensor, "n positions features"], drop: Drop = keep
) -> Activations:
    """The layers and the unembedding, from any `embed`; use it for gradients and patching at single positions. The
    neurons of each layer in turn go through `drop`.

    >>> from interp.models import initial_weights
    >>> weights, pairs = initial_weights(model := ModelConfig(d_model=8, d_mlp=4), 7), torch.tensor([[2, 3]])
    >>> by_hand = transform(weights, model, embed(weights, model, pairs)).logits
    >>> bool(torch.allclose(by_hand, logits(weights, model, pairs), atol=1e-5))
    True
    """
    return FAMILIES[model.family].transform(weights, model, x, drop)


def residual_post(
    weights: Weights, model: ModelConfig, mid: Float[Tensor, "... inputs"], neurons: Float[Tensor, "... d_mlp"]
) -> Float[Tensor, "... features"]:
    """What the last matrix before the logits reads, given what W_in reads and the neurons: the residual stream after
    the MLP; of an MLP, act(h) W_out, or without embedding act(h) itself.

    >>> from interp.models import initial_weights
    >>> weights = initial_weights(model := ModelConfig(d_model=8, d_mlp=4), 7)
    >>> found = forward(weights, model, torch.tensor([[2, 3]]))
    >>> post = residual_post(weights, model, found.residual_mid, found.neurons)
    >>> bool(torch.allclose(post, found.residual_post, atol=1e-5))
    True
    """
    return FAMILIES[model.family].residual_post(weights, model, mid, neurons)


def answer_scale(
    weights: Weights, model: ModelConfig, mid: Float[Tensor, "... inputs"], neurons: Float[Tensor, "... d_mlp"]
) -> Float[Tensor, "..."]:
    """By how much W_L is multiplied in what the neurons say of an example: one over the length that a norm before the
    unembedding divides by, and 1 where there is none. With that length held, neurons that are Δ larger move the logits
    by scale·Δ W_L.

    >>> from interp.models import initial_weights
    >>> weights = initial_weights(model := ModelConfig(d_model=8, d_mlp=4), 7)
    >>> found = forward(weights, model, torch.tensor([[2, 3], [0, 6]]))
    >>> answer_scale(weights, model, found.residual_mid, found.neurons).tolist()
    [1.0, 1.0]
    """
    return FAMILIES[model.family].answer_scale(weights, model, mid, neurons)


def forward(weights: Weights, model: ModelConfig, inputs: Inputs) -> Activations:
    """The forward pass over any batch of examples; of a module that is not ours, what was recorded."""
    if model.is_recorded:
        return recorded_module.answers(weights, inputs)
    if _by_tables(weights, model):
        if is_factored(model) and token_tables.is_faster(model, weights["unembed.W_U"].shape[1], len(inputs)):
            return token_tables.forward(weights, model, inputs)
        return one_layer.forward(weights, model, inputs)
    return transform(weights, model, embed(weights, model, inputs))


def forward_all(weights: Weights, model: ModelConfig, examples: Examples) -> Activations:
    """The forward pass over all examples; every value has the leading axes of their table, [p, p] for pairs (a, b).

    >>> import interp
    >>> from interp.models import initial_weights
    >>> weights = initial_weights(model := ModelConfig(d_model=8, d_mlp=4), 7)
    >>> found = forward_all(weights, model, interp.Task(7))
    >>> found.logits.shape, found.neurons.shape
    (torch.Size([7, 7, 7]), torch.Size([7, 7, 4]))
    """
    inputs = torch.from_numpy(examples.inputs)
    if inputs.is_floating_point():
        inputs = inputs.to(next(iter(weights.values())))
    activations = forward(weights, model, inputs)
    return Activations(*(value.unflatten(0, examples.shape) for value in activations))


def logits(
    weights: Weights, model: ModelConfig, inputs: Inputs, drop: Drop | None = None
) -> Float[Tensor, "n classes"]:
    """The logits alone, with no more work than they need; autograd can differentiate them. With `drop` the neurons of
    each layer in turn go through it, and there is no faster way.

    >>> import interp
    >>> checkpoint = interp.open_run(interp.reference_path()).last
    >>> pairs = torch.tensor([[20, 30], [1, 1]])
    >>> logits(checkpoint.weights, checkpoint.model, pairs).argmax(1).tolist()  # the sums modulo 43
    [7, 2]
    """
    if model.is_recorded:
        return recorded_module.answers(weights, inputs).logits
    if drop is None and is_factored(model) and not _is_differentiated(weights):
        return factored_gradient.logits(weights, model, inputs)[0]
    if drop is None and _by_tables(weights, model):
        return one_layer.forward(weights, model, inputs).logits
    if model.family == "mlp" and mlp.picks_rows(model, inputs):
        return mlp.logits_by_rows(weights, model, inputs, drop or keep)
    return transform(weights, model, embed(weights, model, inputs), drop or keep).logits


def logits_with_vectors(
    weights: Weights, model: ModelConfig, vectors: Float[Tensor, "sets residues features"], pairs: Int[Tensor, "n 2"]
) -> Float[Tensor, "sets n classes"]:
    """The logits for each of several sets of `vectors` (`embed`). A tied W_E keeps its own at the end.

    >>> import interp
    >>> checkpoint = interp.open_run(interp.reference_path()).last
    >>> shifted = checkpoint.W_E.roll(1, 0)  # every residue enters as the one below it
    >>> found = logits_with_vectors(checkpoint.weights, checkpoint.model, shifted[None], torch.tensor([[20, 30]]))
    >>> found.argmax(2).tolist()  # 19 + 29 modulo 43
    [[5]]
    """
    if is_factored(model):
        return factored_gradient.logits(weights, model, pairs, vectors)
    if _by_tables(weights, model):
        return torch.stack([one_layer.forward(weights, model, pairs, rows).logits for rows in vectors])
    return torch.stack([transform(weights, model, embed(weights, model, pairs, rows)).logits for rows in vectors])


def _by_tables(weights: Weights, model: ModelConfig) -> bool:
    return model.family == "transformer" and model.n_layers == 1 and not _is_differentiated(weights)


def _is_differentiated(weights: Weights) -> bool:
    """Whether autograd watches: the fast ways write where they read."""
    return torch.is_grad_enabled() and any(weight.requires_grad for weight in weights.values())
