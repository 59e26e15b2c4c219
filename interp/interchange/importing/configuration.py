"""What a configuration beside the weights, or stored with them, says in its author's words, in ours."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from interp.errors import InputError
from interp.experiment import Activation, experiment_from_toml, section_from_dict
from interp.interchange.answers import Answers, read_answers
from interp.interchange.importing.beside import configurations_beside, read_configuration
from interp.interchange.importing.source import Source
from interp.interchange.plain_files import read_toml, shortened

LARGEST = 10**9  # of a whole number that is a size of anything

Fields = dict[str, Any]

_OPERATIONS = {
    **dict.fromkeys(("add", "addition", "plus", "sum", "x+y", "a+b", "(x+y)", "+", "x_plus_y", "modadd"), "add"),
    **dict.fromkeys(("subtract", "subtraction", "minus", "sub", "x-y", "a-b", "-", "x_minus_y"), "subtract"),
    **dict.fromkeys(("multiply", "multiplication", "mul", "mult", "x*y", "a*b", "product", "*", "times"), "multiply"),
    **dict.fromkeys(("divide", "division", "div", "x/y", "a/b", "/"), "divide"),
    **dict.fromkeys(("x2+y2", "x^2+y^2", "x**2+y**2"), "x2+y2"),
    **dict.fromkeys(("x2+xy+y2", "x^2+xy+y^2", "x**2+x*y+y**2"), "x2+xy+y2"),
    **dict.fromkeys(("x3+xy", "x^3+xy", "x**3+x*y"), "x3+xy"),
}
_ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    **dict.fromkeys(
        ("gelu_new", "gelu_fast", "gelu_tanh", "gelu-tanh", "gelu_pytorch_tanh", "gelu_approx"), "gelu-tanh"
    ),
    **dict.fromkeys(("silu", "swish"), "silu"),
    "tanh": "tanh",
    **dict.fromkeys(("square", "quad", "quadratic", "x^2"), "square"),
}
# A norm by its name → its kind; None is what TransformerLens calls no norm.
_NORMS = {
    **dict.fromkeys(("ln", "lnpre", "layer", "layernorm", "layer_norm", "nn.layernorm"), "layer"),
    **dict.fromkeys(("rms", "rmspre", "rmsnorm", "rms_norm"), "rms"),
    **dict.fromkeys(("none", "no", "off", "identity", "false"), "none"),
}


def _operation(value: Any) -> str | None:
    """An operation by its name, or by a formula such as `lambda x: (x[0]+x[1])%59`, which is read and never run."""
    if not isinstance(value, str) or len(value) > 200:
        return None
    formula = re.sub(r"^lambda [\w, ]+:|%\s*\w+|\bmod\s+\w+|_mod_\w+$|\s", "", value.lower())
    formula = formula.replace("x[0]", "x").replace("x[1]", "y").strip("()")
    plain = re.sub(r"^mod(ular|ulo)?[_-]?|[_-]?mod(ular|ulo)?$", "", formula)
    return _OPERATIONS.get(formula) or _OPERATIONS.get(plain)


def _activation(value: Any) -> str | None:
    name = _ACTIVATIONS.get(value.lower().removeprefix("nn.")) if isinstance(value, str) else None
    return name if name in get_args(Activation) else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int and abs(value) <= LARGEST else None


def _share(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0 <= value <= 1 else None


def _percent(value: Any) -> float | None:
    return float(value) / 100 if type(value) in (int, float) and 1 < value <= 100 else _share(value)


def _yes_or_no(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


# Their key → where it goes, and how it is read. What cannot be read so is as if it were not there.
_KEYS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("p", "P", "C", "prime", "modulus", "mod", "modulo", "prime_modulus"), ("task", "p", _whole)),
    **dict.fromkeys(
        (
            "operation",
            "fn_name",
            "function",
            "op",
            "funcs",
            "func",
            "operator",
            "op_name",
            "task_type",
            "task_name",
            "task",
        ),
        ("task", "operation", _operation),
    ),
    **dict.fromkeys(
        ("train_fraction", "frac_train", "frac", "train_frac", "training_fraction", "train_ratio", "training_split"),
        ("task", "train_fraction", _share),
    ),
    **dict.fromkeys(("data_fraction", "train_split", "fraction"), ("task", "train_fraction", _share)),
    **dict.fromkeys(("train_pct", "train_percentage", "train_percent"), ("task", "train_fraction", _percent)),
    **dict.fromkeys(("attn_coeff", "attention_rate"), ("model", "attention_rate", _share)),
    **dict.fromkeys(
        ("act_fn", "act_type", "activation", "act", "activation_function", "hidden_act", "nonlinearity", "act_name"),
        ("model", "activation", _activation),
    ),
    **dict.fromkeys(
        ("n_heads", "num_heads", "n_head", "heads", "num_attention_heads", "nhead", "nheads", "n_attn_heads"),
        ("model", "n_heads", _whole),
    ),
    **dict.fromkeys(
        ("n_layers", "num_layers", "n_layer", "num_hidden_layers", "nlayers", "depth"), ("model", "n_layers", _whole)
    ),
    **dict.fromkeys(
        ("d_model", "dim", "n_embd", "n_embed", "embed_dim", "embedding_dim", "model_dim", "d_embed"),
        ("model", "d_model", _whole),
    ),
    **dict.fromkeys(("d_head", "head_dim", "dim_head"), ("model", "d_head", _whole)),
    **dict.fromkeys(
        ("d_mlp", "d_ff", "ffn_dim", "dim_feedforward", "intermediate_size", "n_inner", "mlp_dim", "d_hidden", "d_ffn"),
        ("model", "d_mlp", _whole),
    ),
    **dict.fromkeys(
        ("tied", "tie", "tie_weights", "tie_embeddings", "tie_word_embeddings", "weight_tying", "tied_embeddings"),
        ("model", "tied", _yes_or_no),
    ),
    **dict.fromkeys(("causal", "is_causal"), ("model", "causal", _yes_or_no)),
}
_NORM_NAMES = ("norm", "norm_type", "normalization", "normalization_type", "layer_norm", "layernorm", "norm_layer")
_NORM_SWITCHES = ("use_ln", "use_layernorm", "use_layer_norm", "use_norm", "ln", *_NORM_NAMES)
_EPSILONS = ("layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps", "norm_eps", "ln_eps", "norm_epsilon")
_PRE = ("pre_norm", "norm_first", "prenorm", "pre_ln", "preln", "pre_layer_norm")
_POST = ("post_norm", "postnorm", "post_ln", "postln")
# Parts of a configuration whose keys say the same as if they stood alone.
_SECTIONS = re.compile(
    r"(?i)(.*_)?(model|task|data|dataset|train|training|config|cfg|args|hparams|hyper_?parameters|params|transformer"
    r"|network|experiment|metadata|init_args)(_(args|config|cfg|params|kwargs))?"
)
MOST_NESTED = 4
# Under these names settings are stored with weights.
_INSIDE = ("config", "cfg", "args", "hparams", "hyperparameters", "hyper_parameters", "model_args", "metadata")


def flattened(content: Mapping[Any, Any], depth: int = 0, seen: set[int] | None = None) -> Fields:
    """The keys of a configuration with those of its sections (`model:`, `task:`, `data:`), what stands further out
    first; a value that is kept with its description (`{"value": 113, "desc": null}`) is that value.

    >>> flattened({"p": 7, "model": {"p": 5, "n_heads": 4}, "optimizer": {"eps": 1e-8}})
    {'p': 7, 'n_heads': 4}
    """
    found: Fields = {}
    sections = []
    seen = set() if seen is None else seen
    for key, value in content.items():
        if isinstance(value, Mapping):
            if "value" in value and set(value) <= {"value", "desc"}:
                found[str(key)] = value["value"]
            elif _SECTIONS.fullmatch(str(key)) and depth < MOST_NESTED:
                if id(value) not in seen:  # each once: in a pickle one can stand in another a thousand times
                    seen.add(id(value))
                    sections.append(value)
            elif key in _NORM_NAMES and depth < MOST_NESTED:
                found[str(key)] = value
        elif isinstance(key, str):
            found[key] = value
    for section in sections:
        found = {**flattened(section, depth + 1, seen), **found}
    order = [key for key in content if key in found]
    return {key: found[key] for key in dict.fromkeys([*order, *found])}


def from_keys(content: Mapping[Any, Any]) -> tuple[Fields, Fields]:
    """The fields of task and model that a dictionary of somebody's configuration tells.

    Those of a norm are `{"norm": {"kind": "layer"|"rms"|"none", "order": "pre"|"post", "epsilon": …, "learned": …}}`,
    each where it is told.

    >>> from_keys({"prime": 113, "model": {"n_heads": 4, "norm_first": False, "layer_norm_eps": 1e-6}})
    ({'p': 113}, {'n_heads': 4, 'norm': {'order': 'post', 'epsilon': 1e-06}})
    """
    content = flattened(content)
    found: dict[str, Fields] = {"task": {}, "model": {}}
    for key, value in content.items():
        if key in _KEYS:
            section, name, read = _KEYS[key]
            if (known := read(value)) is not None:
                found[section].setdefault(name, known)
    if "attn_coeff" in content:
        # Zhong et al.'s code: `attention_dir` is stored, misspelt, and never read; every position sees every other.
        found["model"].setdefault("causal", False)
    elif content.get("attention_dir") in ("causal", "bidirectional"):
        found["model"].setdefault("causal", content["attention_dir"] == "causal")
    if isinstance(content.get("diff_vocab"), bool):
        found["model"].setdefault("vocabularies", "two" if content["diff_vocab"] else "one")
    if isinstance(content.get("eqn_sign"), bool):
        found["model"].setdefault("prompt", "ab=" if content["eqn_sign"] else "ab")
    # With heads the hidden size is that of the residual stream, as at Hugging Face (another word for it may be of
    # either); without, that of the one hidden layer.
    has_heads = bool({"n_heads", "d_head"} & found["model"].keys())
    for key, name in (
        ("hidden_size", "d_model" if has_heads else "d_mlp"),
        ("hidden_dim", "d_mlp"),
        ("width", "d_mlp"),
    ):
        if (width := _whole(content.get(key))) is not None and (key == "hidden_size" or not has_heads):
            found["model"].setdefault(name, width)
    if norm := _norm(content):
        found["model"]["norm"] = norm
    return found["task"], found["model"]


def _norm(content: Mapping[str, Any]) -> Fields:
    """What keys say of a norm, in our words, as far as they do."""
    norm: Fields = {}
    for key in _NORM_NAMES:
        value = content.get(key)
        if isinstance(value, str) and (kind := _NORMS.get(value.lower())):
            norm.setdefault("kind", kind)
            if value.lower() in ("lnpre", "rmspre"):
                norm["learned"] = False  # TransformerLens' names for a norm whose weights are folded into what follows
        elif isinstance(value, str) and value.lower() in ("pre", "post"):
            norm.setdefault("order", value.lower())
    if "normalization_type" in content and content["normalization_type"] is None:
        norm.setdefault("kind", "none")
    for key in _NORM_SWITCHES:
        if isinstance(content.get(key), bool):
            norm.setdefault("kind", "layer" if content[key] else "none")
    for keys, order, other in ((_PRE, "pre", "post"), (_POST, "post", "pre")):
        for key in keys:
            if isinstance(content.get(key), bool):
                norm.setdefault("order", order if content[key] else other)
    # A bare eps is that of a norm only beside the name of one; elsewhere it is an optimizer's.
    for key in (*_EPSILONS, *(("eps",) if "normalization_type" in content else ())):
        value = content.get(key)
        if type(value) is float and 0 < value < 0.1:
            norm.setdefault("epsilon", value)
    # What is said besides of a norm that is not there is of nothing.
    return {"kind": "none"} if norm.get("kind") == "none" else norm


def seeds_in(content: Mapping[Any, Any]) -> dict[str, int]:
    """What a configuration calls a seed, and its number.

    >>> seeds_in({"data_seed": 598, "model": {"seed": 0}, "lr": 1e-3})
    {'data_seed': 598, 'seed': 0}
    """
    plain = flattened(content)
    return {key: value for key, value in plain.items() if "seed" in key.lower() and type(value) is int and value >= 0}


def configuration_of(source: Source, given: Path | None = None) -> tuple[Fields, Fields, str]:
    """Fields of task and model, and where they are from: the file that is given; or those beside the weights
    (`config.json`, `config_NAME.json` beside `model_NAME.pt`, `NAME.json` beside `NAME.pt`), and above, where the
    folder is one of checkpoints; and then what lies in the same dictionary as the weights."""
    if given is not None:
        if given.suffix == ".toml":
            return *_from_toml(given), given.name
        return *_fields_of(given, read_configuration(given)), given.name
    task: Fields = {}
    model: Fields = {}
    named: list[str] = []
    for path, content in configurations_beside(source.path):
        _add(task, model, named, _fields_of(path, content), path.name)
    inside = {key: value for key, value in source.beside.items() if not isinstance(value, Mapping)}
    for name in _INSIDE:
        if isinstance(source.beside.get(name), Mapping):
            inside = {**inside, **flattened(source.beside[name])}
    _add(task, model, named, from_keys(inside), "the file of weights")
    return task, model, " and ".join(named)


def answers_beside(source: Source, given: Path | None = None) -> Answers | None:
    """What the network answered when we exported it, where the configuration says so of this checkpoint: a file without
    a step is the last one."""
    every = [(given, read_configuration(given))] if given and given.suffix != ".toml" else []
    for _, content in every or configurations_beside(source.path, given=given is not None):
        if (answers := read_answers(content)) is not None:
            return answers if source.step in (None, answers.step) else None
    return None


# An activation in authors' words that our models do not have.
_ACTIVATIONS_WE_LACK = re.compile(
    r"(nn\.|f\.)?(sigmoid|elu|leaky_?relu|selu|celu|mish|softplus|relu_?(2|6|squared?)|squared_relu|quick_?gelu|prelu"
    r"|hard_?(swish|tanh|sigmoid)|identity|linear|sin|softsign|maxout)(\(.*\))?"
)
_PARALLEL = ("use_parallel_residual", "parallel_attn_mlp", "parallel_attn", "parallel_residual", "parallel_block")
_CAPS = ("attn_logit_softcapping", "final_logit_softcapping", "attn_scores_soft_cap", "output_logits_soft_cap")
_POSITIONS = ("position_embedding_type", "positional_embedding_type")
_PARTLY_ROTARY = ("rotary_pct", "partial_rotary_factor", "rotary_percentage")


def check_we_have(source: Source, given: Path | None = None) -> None:
    """Raises InputError for a configuration that speaks of a part which our models lack, and no tensor shows: blocks in
    parallel, an activation, scores that are capped or biased by distance."""
    every = [(given, read_configuration(given))] if given and given.suffix != ".toml" else []
    if given is None:
        every = [*configurations_beside(source.path)]
        every += [(source.path, source.beside[name]) for name in _INSIDE if name in source.beside]
    for path, content in every:
        if isinstance(content, Mapping) and content.get("model_type") != "interp" and (what := _lacking(content)):
            raise InputError(
                f"{path.name} says {what}, which our models lack; where you have its code, bring it: --module "
                "FILE.py:NAME"
            )


def _lacking(content: Mapping[Any, Any]) -> str | None:
    """What a configuration says that our models lack, as it says it.

    >>> _lacking({"model": {"activation": "sigmoid"}}), _lacking({"act_fn": "relu", "alibi": False})
    ("activation 'sigmoid'", None)
    """
    plain = flattened(content)
    for key, value in plain.items():
        section = _KEYS.get(key, ("", ""))[:2]
        if section == ("model", "activation") and isinstance(value, str):
            if _ACTIVATIONS_WE_LACK.fullmatch(value.strip().lower()):
                return f"{key} {value[:40]!r}"
        elif (key in (*_PARALLEL, "alibi", "use_alibi") and value is True) or (
            key in _CAPS and type(value) in (int, float) and value > 0
        ):
            return f"{key} {value}"
        elif key in _PARTLY_ROTARY and type(value) is float and 0 < value < 1:
            return f"{key} {value:g}"
        elif key in _POSITIONS and value in ("alibi", "relative", "relative_key", "relative_key_query", "t5"):
            return f"{key} {value!r}"
    if (kind := plain.get("model_type")) in ("gptj", "phi", "falcon", "cohere", "codegen"):
        return f"model_type {kind!r} (attention and MLP side by side)"
    return None


def raw_configuration(source: Source, given: Path | None = None) -> dict[str, Any] | None:
    """The configuration as its author wrote it, where there is one: the file that is given, or the nearest beside the
    weights, or what is stored with them."""
    if given is not None and given.suffix == ".toml":
        return _toml(given)
    if given is not None:
        content = read_configuration(given)
        return content if isinstance(content, dict) else None
    inside = (source.beside.get(name) for name in _INSIDE)
    every = [*(content for _, content in configurations_beside(source.path)), *inside]
    return next((dict(content) for content in every if isinstance(content, Mapping)), None)


def _add(task: Fields, model: Fields, named: list[str], told: tuple[Fields, Fields], name: str) -> None:
    """What one place tells besides what others told before it."""
    before = len(task) + len(model)
    for fields, more in ((task, told[0]), (model, told[1])):
        for key, value in more.items():
            fields.setdefault(key, value)
    if len(task) + len(model) > before and name not in named:
        named.append(name)


def _fields_of(path: Path, content: Any) -> tuple[Fields, Fields]:
    if not isinstance(content, dict):
        raise InputError(f"{path} is no configuration: it holds a {type(content).__name__}, expected an object")
    return _ours(content) if content.get("model_type") == "interp" else from_keys(content)


def _ours(content: Mapping[str, Any]) -> tuple[Fields, Fields]:
    """What the config.json of an exported run says; what weights were drawn from it does not."""
    task, model = (content[name] if isinstance(content.get(name), dict) else {} for name in ("task", "model"))
    section_from_dict("model", model)  # its values are checked here
    told, _ = from_keys({name: task.get(name) for name in ("p", "operation", "train_fraction")})
    return told, {name: value for name, value in model.items() if name not in ("family", "seed")}


def _from_toml(path: Path) -> tuple[Fields, Fields]:
    """The fields that a file of ours gives; the file is checked whole, as in training."""
    content = _toml(path)
    try:
        experiment_from_toml(path)
    except InputError as error:
        raise InputError(shortened(error)) from None

    def fields(section: str) -> Fields:
        return {key.replace("-", "_"): value for key, value in content.get(section, {}).items()}

    return fields("task"), fields("model")


def _toml(path: Path) -> dict[str, Any]:
    return read_toml(path, "any configuration")


def shown(fields: Mapping[str, Any]) -> str:
    """Fields in one line."""
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in fields.items())
