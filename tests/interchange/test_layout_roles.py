"""What names and shapes tell of tensors in public styles; how a vocabulary may be read; when a reading is better."""

import numpy as np
import pytest
import torch

from interp.errors import InputError
from interp.interchange.importing.search import Outcome, is_better, prefers
from interp.interchange.layouts.architecture import described, foreign_parts, may_be_useless
from interp.interchange.layouts.candidates import of_roles
from interp.interchange.layouts.leftovers import of_no_use
from interp.interchange.layouts.mapping import mapping_from_dict
from interp.interchange.layouts.mlp_roles import is_mlp, mlp_pieces
from interp.interchange.layouts.names import take_apart
from interp.interchange.layouts.prompts import Tokens, readings_of_tokens
from interp.interchange.layouts.roles import Roles, find_roles


def roles_of(shapes: dict[str, tuple[int, ...]]) -> Roles:
    generator = torch.Generator().manual_seed(0)
    return find_roles({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()})


def attention_of(prefix: str, names: tuple[str, ...], d: int = 32) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}{name}.weight": (d, d) for name in names}


OUTER = {"embed.weight": (12, 32), "pos_embed": (1, 3, 32), "head.weight": (11, 32)}


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ({**attention_of("layers.0.attention.", ("wq", "wk", "wv", "wo")), "layers.0.feed_forward.w1.weight": (64, 32),
          "layers.0.feed_forward.w2.weight": (32, 64), "layers.0.feed_forward.w3.weight": (64, 32)},
         {"0.q": "layers.0.attention.wq.weight", "0.o": "layers.0.attention.wo.weight",
          "0.gate": "layers.0.feed_forward.w1.weight", "0.in": "layers.0.feed_forward.w3.weight"}),
        ({"blocks.0.attn.to_qkv.weight": (96, 32), "blocks.0.attn.to_out.0.weight": (32, 32),
          "blocks.0.ff.net.0.weight": (64, 32), "blocks.0.ff.net.3.weight": (32, 64)},
         {"0.qkv": "blocks.0.attn.to_qkv.weight", "0.o": "blocks.0.attn.to_out.0.weight",
          "0.in": "blocks.0.ff.net.0.weight", "0.out": "blocks.0.ff.net.3.weight"}),
        ({**attention_of("block.attention.", ("query_projection", "key_projection", "value_projection",
                                              "output_projection")),
          "block.feed_forward.input_projection.weight": (64, 32),
          "block.feed_forward.output_projection.weight": (32, 64)},
         {"0.v": "block.attention.value_projection.weight", "0.o": "block.attention.output_projection.weight",
          "0.in": "block.feed_forward.input_projection.weight",
          "0.out": "block.feed_forward.output_projection.weight"}),
        ({"h.0.attn.kv.weight": (64, 32), "h.0.attn.q.weight": (32, 32), "h.0.attn.proj.weight": (32, 32),
          "h.0.mlp.fc1.weight": (64, 32), "h.0.mlp.fc2.weight": (32, 64)},
         {"0.q": "h.0.attn.q.weight", "0.kv": "h.0.attn.kv.weight", "0.o": "h.0.attn.proj.weight"}),
        ({"encoder.layers.0.self_attn.in_proj_weight": (96, 32), "encoder.layers.0.self_attn.out_proj.weight": (32, 32),
          "encoder.layers.0.linear1.weight": (64, 32), "encoder.layers.0.linear2.weight": (32, 64),
          "encoder.layers.0.norm1.weight": (32,), "encoder.layers.0.norm2.weight": (32,), "encoder.norm.weight": (32,)},
         {"0.qkv": "encoder.layers.0.self_attn.in_proj_weight", "0.ln1": "encoder.layers.0.norm1.weight",
          "0.ln2": "encoder.layers.0.norm2.weight", "ln_final": "encoder.norm.weight"}),
        # Names that say nothing: the last tensors for the last roles, in the order of the file.
        ({**attention_of("", ("c", "d", "e", "f")), "g.weight": (64, 32), "h.weight": (32, 64)},
         {"0.q": "c.weight", "0.k": "d.weight", "0.v": "e.weight", "0.o": "f.weight", "0.in": "g.weight",
          "0.out": "h.weight"}),
    ],
    ids=["llama", "lucidrains", "long names", "fused keys and values", "encoder", "no names"],
)  # fmt: skip
@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod."])
def test_parts_in_public_styles(layer: dict[str, tuple[int, ...]], expected: dict[str, str], wrapper: str):
    shapes = {"embed.weight": OUTER["embed.weight"], "pos_embed": OUTER["pos_embed"], **layer}
    shapes |= {"head.weight": OUTER["head.weight"]}
    found = roles_of({wrapper + name: shape for name, shape in shapes.items()})
    expected = expected | {"embed": "embed.weight", "positions": "pos_embed", "unembed": "head.weight"}
    assert {part: (wrapper + theirs,) for part, theirs in expected.items()}.items() <= found.parts.items()
    assert (found.d_model, found.n_layers, found.left, found.missing) == (32, 1, [], [])


def test_names_are_taken_apart():
    assert take_apart("transformer.h.1.attn.c_attn.bias")[1:] == ("1", None, "attn.c_attn", True)
    assert take_apart("decoder.blocks.0.self_attn.attn_heads.2.Wq.weight")[1:] == ("0", 2, "self_attn.wq", False)
    assert take_apart("blocks.0.attn.b_Q")[1:] == ("0", None, "attn.w_q", True)
    assert take_apart("model.3.weight")[1:] == (None, None, "model.3", False)


def test_what_none_of_our_models_has_is_named():
    shapes = {
        **OUTER,
        "blocks.0.attn.qkv.weight": (96, 32),
        "blocks.0.attn.q_norm.weight": (8,),
        "conv1.weight": (4, 1, 3),
    }
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    said = described(find_roles(tensors), tensors)
    assert "a fused q/k/v [96, 32]" in said
    assert "a norm of queries or keys ('blocks.0.attn.q_norm.weight')" in said


def test_readings_of_a_vocabulary():
    assert readings_of_tokens(114, 113, 3)[0] == Tokens("ab=", 113, constants=(113,))
    fc04 = readings_of_tokens(15, 15, 4)
    assert Tokens("a+b=", 11, constants=(11, 14)) in fc04
    power = readings_of_tokens(14, 14, 12)
    assert Tokens("^a+b=", 11, first=3, constants=(0, 2, 1), first_class=3) in power
    assert all(max(tokens.rows) < 14 for tokens in power)
    # Classes that are fewer than the tokens are the residues: no other p is tried.
    assert {tokens.p for tokens in readings_of_tokens(14, 11, 4)} == {11}
    with pytest.raises(InputError, match=r"W_pos has 3 positions, and --model.prompt 'a\+b=' has 4"):
        readings_of_tokens(12, 11, 3, prompt="a+b=")


def outcome(right: int, loss: float, n: int = 1000, p: int = 11) -> Outcome:
    noise = np.random.default_rng(0).normal(0, 0.1, n)
    return Outcome("add", np.arange(n) < right, loss * np.exp(noise), p)


def test_what_better_is():
    assert is_better(outcome(900, 1.0), outcome(880, 1e-3))
    assert not is_better(outcome(900, 1e-3), outcome(895, 1.0))  # within 0.01, and neither answers all
    assert is_better(outcome(1000, 8.6e-7), outcome(1000, 3.2e-6))
    assert not is_better(outcome(1000, 1.0e-3), outcome(1000, 1.04e-3))  # sure, and too little
    other = Outcome("add", np.arange(81) < 45, np.ones(81), 9)
    assert not is_better(other, outcome(340, 1.0))  # another p: half of the pairs, and a quarter more, or not
    assert is_better(Outcome("add", np.arange(81) < 80, np.ones(81), 9), outcome(340, 1.0))


def test_the_default_activation_stands_within_a_hundredth_whatever_rounding_says():
    relu, gelu = outcome(9946, 0.015, 10_000), outcome(9967, 0.012, 10_000)
    assert not prefers(gelu, relu, "gelu", "relu", lambda: False)
    assert prefers(outcome(1000, 1e-3), outcome(1000, 2e-3), "gelu", "relu", lambda: True)
    assert not prefers(outcome(1000, 1e-3), outcome(1000, 2e-3), "gelu", "relu", lambda: False)
    assert not prefers(outcome(1000, 1e-9), outcome(1000, 2e-3), "square", "relu", lambda: True)
    assert not prefers(outcome(1000, 1e-9), outcome(1000, 2e-3), "gelu-tanh", "gelu", lambda: True)


def test_one_hidden_layer_is_a_chain_of_matrices():
    tensors = {"emb.weight": torch.ones(7, 5), "fc1.weight": torch.ones(9, 10), "fc1.bias": torch.ones(9)}
    tensors |= {"fc2.weight": torch.ones(7, 9)}
    assert is_mlp(tensors)
    assert {ours: piece.theirs[0] for ours, piece in mlp_pieces(tensors).items()} == {
        "embed.W_E": "emb.weight", "mlp.W_in": "fc1.weight", "mlp.b_in": "fc1.bias", "mlp.W_out": "fc2.weight",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"is no network with one hidden layer"):
        mlp_pieces(tensors | {"fc3.weight": torch.ones(7, 4)})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": {"heads": 4}}, r"unknown field of \[model\] 'heads'; did you mean 'n_heads'"),
        ({"model": {"n_heads": 0}}, r"n_heads of \[model\] must be a number from 1 on, got 0"),
        ({"model": {"norm_order": "before"}}, r"norm_order of \[model\]"),
        ({"tokens": {"prompt": "a+b="}}, r"\[tokens\] must have prompt and p at least"),
        ({"tokens": {"prompt": "a+b=", "p": 11, "constants": [11]}}, r"in constants a number for each of '\+='"),
        ({"tensors": {"w": {"to": "blocks.0.attn.W_Q", "part": [3, 3]}}}, r"part|pattern"),
        ({"tensors": {"w": {"to": "embed.W_E", "rows": [4, 2]}}}, r"rows of 'w' must be two numbers, the first below"),
        (
            {"tensors": {"w": [{"to": "embed.W_Q"}]}},
            r"unknown name to map 'w' to 'embed.W_Q'; did you mean 'embed.W_E'",
        ),
        ({"tensors": {"w": [1]}}, r"an entry of 'w' must be"),
    ],
)
def test_a_mapping_file_that_cuts_and_cannot_be(change: dict, expected: str):
    whole = {"model": {"n_heads": 4}, "tensors": {"embed": {"to": "embed.W_E"}}}
    with pytest.raises(InputError, match=expected):
        mapping_from_dict(whole | change, "m.toml")


ATTENTION = attention_of("block.attn.", ("q_proj", "k_proj", "v_proj", "o_proj"))
NORMS = {"block.ln1.weight": (32,), "block.ln2.weight": (32,), "ln_f.weight": (32,)}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *[(f"block.mlp.{stem}0", f"block.mlp.{stem}1") for stem in ("fc", "dense_", "linear_", "Dense_")],
        *[("block.pos_ffn.w_1", "block.pos_ffn.w_2"), ("block.mlp.out", "block.mlp.inner")],
        ("block.positionwise_feed_forward.fc_1", "block.positionwise_feed_forward.fc_2"),
    ],
)
def test_which_matrix_of_an_mlp_reads(first: str, second: str):
    """By numbers from 0 or from 1, also where a module is called after positions; and biases say what names get
    wrong."""
    mlp = {f"{first}.weight": (64, 32), f"{first}.bias": (64,), f"{second}.weight": (32, 64), f"{second}.bias": (32,)}
    found = roles_of({**OUTER, **ATTENTION, **mlp, **NORMS})
    parts = {"0.in": first, "0.out": second}
    assert {part: (f"{name}.weight",) for part, name in parts.items()}.items() <= found.parts.items()
    assert {f"{part}.b": (f"{name}.bias",) for part, name in parts.items()}.items() <= found.parts.items()
    assert (found.left, found.missing) == ([], [])


@pytest.mark.parametrize(
    ("outer", "expected"),
    [
        ({"embed_out.weight": (11, 32), "gpt_neox.embed_in.weight": (12, 32)},
         {"embed": "gpt_neox.embed_in.weight", "unembed": "embed_out.weight"}),
        ({"lm_head.weight": (11, 32), "model.decoder.embed_positions.weight": (3, 32),
          "model.decoder.embed_tokens.weight": (12, 32)},
         {"embed": "model.decoder.embed_tokens.weight", "unembed": "lm_head.weight",
          "positions": "model.decoder.embed_positions.weight"}),
        ({"emb.position_embeddings.weight": (3, 32), "emb.token_type_embeddings.weight": (2, 32),
          "emb.word_embeddings.weight": (12, 32), "decoder.weight": (11, 32)},
         {"embed": "emb.word_embeddings.weight", "unembed": "decoder.weight"}),
        ({"p_emb": (3, 32), "emb.weight": (12, 32), "lin7.weight": (11, 32)},
         {"embed": "emb.weight", "positions": "p_emb"}),
        ({"P": (3, 32), "E.weight": (12, 32), "U.weight": (11, 32)},
         {"embed": "E.weight", "unembed": "U.weight", "positions": "P"}),
    ],
    ids=["NeoX", "OPT", "BERT", "parameters first", "one letter"],
)  # fmt: skip
def test_tables_in_any_order(outer: dict[str, tuple[int, ...]], expected: dict[str, str]):
    """safetensors files are sorted by name, and nn.Parameter comes before modules."""
    layer = {**ATTENTION, "block.mlp.fc1.weight": (64, 32), "block.mlp.fc2.weight": (32, 64)}
    first, *others = outer
    found = roles_of({first: outer[first], **layer, **{name: outer[name] for name in others}})
    if "E.weight" in outer:
        found = roles_of({"P": (3, 32), "E.weight": (12, 32), **layer, "U.weight": (11, 32)})
    assert {part: (name,) for part, name in expected.items()}.items() <= found.parts.items()


def test_experts_are_no_mlp():
    moe = {"moe.gate.weight": (2, 32)} | {
        f"moe.experts.{expert}.{at}.weight": shape
        for expert in range(2)
        for at, shape in ((0, (64, 32)), (2, (32, 64)))
    }
    attention = {"attn.in_proj_weight": (96, 32), "attn.out_proj.weight": (32, 32)}
    tensors = {name: torch.randn(shape) for name, shape in {**OUTER, **attention, **moe}.items()}
    found = find_roles(tensors)
    assert found.missing, found.parts
    assert "experts ('moe.experts.0.0.weight')" in described(found, tensors)


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        *[(name, (32,), "a norm of the embedding") for name in ("ln_emb.weight", "embeddings.LayerNorm.weight")],
        ("word_embeddings_layernorm.weight", (32,), "a norm of the embedding"),
        ("lstm.weight_ih_l0", (128, 32), "a recurrent layer"),
        ("gru.weight_hh_l0", (96, 32), "a recurrent layer"),
        ("block.attn.q_proj.lora_A.default.weight", (4, 32), "a low-rank adapter"),
        ("block.attn.q_proj.parametrizations.weight.original0", (32, 1), "a weight norm"),
        ("block.mlp.fc1.weight_g", (64, 1), "a weight norm"),
        ("emb.token_type_embeddings.weight", (2, 32), "an embedding of segments"),
    ],
)
def test_what_our_models_lack_is_told_by_its_name_and_no_one_is_told_to_drop_it(
    name: str, shape: tuple[int, ...], kind: str
):
    layer = {**ATTENTION, "block.mlp.fc1.weight": (64, 32), "block.mlp.fc2.weight": (32, 64), **NORMS}
    tensors = {one: torch.randn(of) for one, of in {**OUTER, **layer, name: shape}.items()}
    roles = find_roles(tensors)
    assert foreign_parts(roles, tensors) == {kind: name}
    assert not may_be_useless(name)
    assert may_be_useless("loss_weights")


def test_the_parts_of_a_norm_are_no_foreign_ones():
    layer = {**ATTENTION, "block.mlp.fc1.weight": (64, 32), "block.mlp.fc2.weight": (32, 64), **NORMS}
    tensors = {one: torch.randn(of) for one, of in {**OUTER, **layer}.items()}
    assert foreign_parts(find_roles(tensors), tensors) == {}


def tensors_of_a_network(rows: int = 32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mlp = {"block.mlp.fc1.weight": (64, rows), "block.mlp.fc2.weight": (rows, 64)}
    shapes = {**OUTER, **ATTENTION, **mlp}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_a_number_of_heads_that_cannot_be_is_refused():
    with pytest.raises(
        InputError, match=r"3 heads do not divide the 32 rows of the queries; possible are 1, 2, 4, 8, 16"
    ):
        of_roles(tensors_of_a_network(), {"n_heads": 3}, None)


def test_where_a_position_before_b_may_answer_a_network_may_see_everything():
    asked = of_roles(tensors_of_a_network(), {}, None)
    assert asked.options["causal"] == (True, False)
    assert asked.options["answer_at"] == (-1, 0, 1)
    first = of_roles(tensors_of_a_network(), {"answer_at": 0}, None)
    assert first.fitted(tensors_of_a_network(), first.default, {"answer_at": 0}, None).model.answer_at == 0


@pytest.mark.parametrize(
    ("layer", "tables", "expected"),
    [
        ({f"encoder.layers.0.self_attn.linears.{at}.weight": (32, 32) for at in range(4)}
         | {"encoder.layers.0.sublayer.0.norm.weight": (32,), "encoder.layers.0.sublayer.1.norm.weight": (32,),
            "encoder.layers.0.feed_forward.w_1.weight": (64, 32), "encoder.layers.0.feed_forward.w_2.weight": (32, 64)},
         ("src_embed.0.lut.weight", "src_embed.1.pos.weight"),
         {"0.q": "encoder.layers.0.self_attn.linears.0.weight", "0.o": "encoder.layers.0.self_attn.linears.3.weight",
          "0.ln1": "encoder.layers.0.sublayer.0.norm.weight", "0.ln2": "encoder.layers.0.sublayer.1.norm.weight",
          "0.out": "encoder.layers.0.feed_forward.w_2.weight"}),
        (attention_of("net.layers.0.1.", ("to_q", "to_k", "to_v", "to_out"))
         | {"net.layers.0.0.0.weight": (32,), "net.layers.1.0.0.weight": (32,),
            "net.layers.1.1.ff.0.0.weight": (64, 32), "net.layers.1.1.ff.2.weight": (32, 64)},
         ("net.token_emb.emb.weight", "net.pos_emb.emb.weight"),
         {"0.q": "net.layers.0.1.to_q.weight", "0.ln1": "net.layers.0.0.0.weight",
          "0.in": "net.layers.1.1.ff.0.0.weight",
          "0.ln2": "net.layers.1.0.0.weight", "0.out": "net.layers.1.1.ff.2.weight"}),
        (attention_of("DecoderBlock_0.attn.", ("query", "key", "value", "out"))
         | {"DecoderBlock_0.LayerNorm_0.weight": (32,), "DecoderBlock_0.LayerNorm_1.weight": (32,),
            "DecoderBlock_0.Dense_0.weight": (64, 32), "DecoderBlock_0.Dense_1.weight": (32, 64)},
         ("Embed_0.weight", "Embed_1.weight"),
         {"0.ln2": "DecoderBlock_0.LayerNorm_1.weight", "0.in": "DecoderBlock_0.Dense_0.weight",
          "0.o": "DecoderBlock_0.attn.out.weight", "0.out": "DecoderBlock_0.Dense_1.weight"}),
        ({"layers.0.0.fn.to_qkv.weight": (144, 32), "layers.0.0.fn.to_out.0.weight": (32, 48),
          "layers.0.0.norm.weight": (32,), "layers.0.1.norm.weight": (32,), "layers.0.1.fn.net.0.weight": (64, 32),
          "layers.0.1.fn.net.3.weight": (32, 64)},
         ("token_emb.weight", "pos_embedding"),
         {"0.qkv": "layers.0.0.fn.to_qkv.weight", "0.o": "layers.0.0.fn.to_out.0.weight",
          "0.in": "layers.0.1.fn.net.0.weight", "0.ln2": "layers.0.1.norm.weight"}),
        ({"net.0.fn.to_qkv.weight": (96, 32), "net.0.fn.to_out.weight": (32, 32), "net.0.norm.weight": (32,),
          "net.1.norm.weight": (32,), "net.1.fn.0.weight": (64, 32), "net.1.fn.2.weight": (32, 64)},
         ("embed.weight", "pos.weight"),
         {"0.o": "net.0.fn.to_out.weight", "0.ln1": "net.0.norm.weight", "0.ln2": "net.1.norm.weight",
          "0.in": "net.1.fn.0.weight", "0.out": "net.1.fn.2.weight"}),
    ],
    ids=["annotated", "x-transformers", "flax", "vit", "PreNorm"],
)  # fmt: skip
def test_layers_that_are_numbered_in_their_own_way(
    layer: dict[str, tuple[int, ...]], tables: tuple[str, str], expected: dict[str, str]
):
    found = roles_of({tables[0]: (12, 32), tables[1]: (3, 32), **layer, "final.weight": (32,), "head.weight": (11, 32)})
    expected |= {"embed": tables[0], "positions": tables[1], "unembed": "head.weight"}
    assert {part: (name,) for part, name in expected.items()}.items() <= found.parts.items()
    assert (found.n_layers, found.left, found.missing) == (1, [], [])


def test_a_number_about_the_training_is_no_part():
    assert of_no_use("loss_scale", torch.tensor(3.0), {}) == "a number about the training, by its name"
    assert of_no_use("logit_scale", torch.tensor(3.0), {}) is None


def test_a_vocabulary_without_residues_is_said_to_be_too_small():
    with pytest.raises(InputError, match="W_E has 1 tokens, too few for two residues and the prompt 'ab='"):
        readings_of_tokens(1, 1, 3)


def test_the_commonest_reading_of_every_modulus_comes_first():
    """GPT-2 with 1024 positions and five tokens beside p = 11: no size tells the prompt or p."""
    assert Tokens("a+b=", 11, constants=(11, 12)) in readings_of_tokens(16, 16, None)[:64]
