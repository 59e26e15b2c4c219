"""Small networks as strangers write them: independent of our models, in the styles of public code, trained in a second.

Every network here is an ordinary PyTorch module with names, shapes and a forward pass of its own. Which public code
each follows is said in docs/bring-your-own-checkpoints.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Tokens = Callable[[Tensor, int], Tensor]


def template(*places: str | int) -> Tokens:
    """The token of a, of b, or a constant one, p + n for n (negative: the number itself, from −1 = 0 on), in a row."""

    def tokens(pairs: Tensor, p: int) -> Tensor:
        of = {"a": pairs[:, 0], "b": pairs[:, 1]}
        return torch.stack([of[x] if isinstance(x, str) else torch.full_like(pairs[:, 0], p + x) for x in places], 1)

    return tokens


AB_EQUALS = template("a", "b", 0)


@dataclass(frozen=True)
class Stranger:
    """A network, what it reads, and what is true of it."""

    name: str
    build: Callable[[int], nn.Module]
    tokens: Tokens = AB_EQUALS
    p: int = 11
    first: int = 0  # the token, and class, of residue 0
    truth: tuple[tuple[str, Any], ...] = ()  # fields of ModelConfig
    layout: str = "inferred"

    def pairs(self) -> Tensor:
        return torch.cartesian_prod(torch.arange(self.p), torch.arange(self.p))

    def logits(self, net: nn.Module) -> Tensor:
        """Its own logits of the residues for every pair, from its own forward pass."""
        with torch.no_grad():
            said = net(self.tokens(self.pairs() + self.first, self.p))
        first = self.first if said.shape[-1] > self.p + self.first - 1 else 0
        return said[:, first : first + self.p]


class FusedAttention(nn.Module):
    """One nn.Linear for q, k and v, cut in thirds or head by head."""

    def __init__(self, d: int, heads: int, bias: bool = False, by_head: bool = False, causal: bool = True):
        super().__init__()
        self.heads, self.by_head, self.causal = heads, by_head, causal
        self.qkv, self.proj = nn.Linear(d, 3 * d, bias=bias), nn.Linear(d, d, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        if self.by_head:
            q, k, v = self.qkv(x).view(n, t, self.heads, 3 * d // self.heads).transpose(1, 2).chunk(3, -1)
        else:
            q, k, v = (y.view(n, t, self.heads, d // self.heads).transpose(1, 2) for y in self.qkv(x).chunk(3, -1))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.proj(mixed.transpose(1, 2).reshape(n, t, d))


class PreNorm(nn.Module):
    """The network of the field case: pre-norms, fused q/k/v, layers without numbers."""

    def __init__(self, p: int, *, norm: bool = True, by_head: bool = False, extra: int = 1):
        super().__init__()
        d, heads = 32, 4
        self.tok_emb, self.pos_emb = nn.Embedding(p + extra, d), nn.Embedding(3 if extra == 1 else 4, d)
        self.attn = FusedAttention(d, heads, by_head=by_head)
        make = (lambda: nn.LayerNorm(d)) if norm else nn.Identity
        self.ln1, self.ln2, self.ln_f = make(), make(), make()
        self.mlp = nn.Sequential(nn.Linear(d, 64), nn.ReLU(), nn.Linear(64, d))
        self.unembed = nn.Linear(d, p if extra == 1 else p + extra, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tok_emb(tokens) + self.pos_emb(torch.arange(tokens.shape[1]))
        x = x + self.attn(self.ln1(x))
        x = x + self.mlp(self.ln2(x))
        return self.unembed(self.ln_f(x))[:, -1]


class Encoder(nn.Module):
    """nn.TransformerEncoder, which sees everything."""

    def __init__(self, p: int, extra: int, *, norm_first: bool, layers: int, activation: str):
        super().__init__()
        d = 32
        self.embedding = nn.Embedding(p + extra, d)
        self.pos_embedding = nn.Parameter(torch.randn(1, 2 + extra, d) * 0.1)
        layer = nn.TransformerEncoderLayer(
            d, 4, 64, dropout=0.0, activation=activation, batch_first=True, norm_first=norm_first
        )
        self.transformer = nn.TransformerEncoder(
            layer, layers, norm=nn.LayerNorm(d) if norm_first else None, enable_nested_tensor=False
        )
        self.fc = nn.Linear(d, p)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(self.transformer(self.embedding(tokens) + self.pos_embedding)[:, -1])


class GPTBlock(nn.Module):
    def __init__(self, d: int, heads: int, bias: bool):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(d, bias=bias), nn.LayerNorm(d, bias=bias)
        self.attn = nn.Module()
        self.attn.c_attn, self.attn.c_proj = nn.Linear(d, 3 * d, bias=bias), nn.Linear(d, d, bias=bias)
        self.mlp = nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(d, 2 * d, bias=bias), nn.Linear(2 * d, d, bias=bias)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.attn.c_attn(self.ln_1(x)).split(d, dim=2)
        q, k, v = (y.view(n, t, self.heads, d // self.heads).transpose(1, 2) for y in (q, k, v))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn.c_proj(mixed.transpose(1, 2).reshape(n, t, d))
        return x + self.mlp.c_proj(functional.gelu(self.mlp.c_fc(self.ln_2(x))))


class NanoGPT(nn.Module):
    """Tied embedding, fused c_attn, layer norms without shift; every token is a class."""

    def __init__(self, p: int, layers: int = 1):
        super().__init__()
        d = 32
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(p + 2, d),
                "wpe": nn.Embedding(5, d),
                "h": nn.ModuleList(GPTBlock(d, 4, bias=False) for _ in range(layers)),
                "ln_f": nn.LayerNorm(d, bias=False),
            }
        )
        self.lm_head = nn.Linear(d, p + 2, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight
        nn.init.normal_(self.lm_head.weight, std=0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.transformer["wte"](tokens) + self.transformer["wpe"](torch.arange(tokens.shape[1]))
        for block in self.transformer["h"]:
            x = block(x)
        return self.lm_head(self.transformer["ln_f"](x))[:, -1]


class Conv1D(nn.Module):
    """A matrix [in, out], as GPT-2's first code has it."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.randn(n_in, n_out) / math.sqrt(n_in)),
            nn.Parameter(torch.zeros(n_out)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class GPT2(nn.Module):
    """GPT-2: Conv1D, gelu by tanh, biases everywhere, a mask among the buffers."""

    def __init__(self, p: int):
        super().__init__()
        d = 32
        self.wte, self.wpe, self.ln_f = nn.Embedding(p + 1, d), nn.Embedding(3, d), nn.LayerNorm(d)
        block = nn.Module()
        block.ln_1, block.ln_2, block.attn, block.mlp = nn.LayerNorm(d), nn.LayerNorm(d), nn.Module(), nn.Module()
        block.attn.register_buffer("bias", torch.ones(3, 3).tril().view(1, 1, 3, 3))
        block.attn.register_buffer("masked_bias", torch.tensor(-1e4))
        block.attn.c_attn, block.attn.c_proj = Conv1D(d, 3 * d), Conv1D(d, d)
        block.mlp.c_fc, block.mlp.c_proj = Conv1D(d, 4 * d), Conv1D(4 * d, d)
        self.h = nn.ModuleList([block])
        self.lm_head = nn.Linear(d, p, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(3))
        n, t, d = x.shape
        for block in self.h:
            q, k, v = (
                y.view(n, t, 2, d // 2).transpose(1, 2) for y in block.attn.c_attn(block.ln_1(x)).split(d, dim=2)
            )
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + block.attn.c_proj(mixed.transpose(1, 2).reshape(n, t, d))
            x = x + block.mlp.c_proj(functional.gelu(block.mlp.c_fc(block.ln_2(x)), approximate="tanh"))
        return self.lm_head(self.ln_f(x))[:, -1]


class Power(nn.Module):
    """The decoder of Power et al.: a module for every head, norms after, a fixed table of positions, `a op b =` after a
    token that begins, and special tokens before the residues."""

    def __init__(self, p: int, layers: int = 2):
        super().__init__()
        d, heads, special = 32, 4, 3
        self.embedding = nn.Embedding(p + special, d)
        at, i = torch.arange(12.0)[:, None], torch.arange(0, d, 2)
        table = torch.zeros(12, d)
        table[:, 0::2], table[:, 1::2] = (at / 10000 ** (i / d)).sin(), (at / 10000 ** (i / d)).cos()
        self.register_buffer("position_encoding", table)
        self.register_buffer("self_attn_mask", torch.ones(12, 12).tril())
        self.decoder = nn.Module()
        self.decoder.blocks = nn.ModuleList()
        for _ in range(layers):
            block = nn.Module()
            block.self_attn = nn.Module()
            block.self_attn.attn_heads = nn.ModuleList()
            for _ in range(heads):
                head = nn.Module()
                head.Wq, head.Wk, head.Wv = (nn.Linear(d, d // heads, bias=False) for _ in range(3))
                block.self_attn.attn_heads.append(head)
            block.self_attn.Wo = nn.Linear(d, d, bias=False)
            block.self_attn_norm, block.ffn_norm, block.ffn = nn.LayerNorm(d), nn.LayerNorm(d), nn.Module()
            block.ffn.ffn = nn.Sequential(nn.Linear(d, 64, bias=False), nn.ReLU(), nn.Linear(64, d, bias=False))
            self.decoder.blocks.append(block)
        self.linear = nn.Linear(d, p + special, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        t = tokens.shape[1]
        x = self.position_encoding[:t] + self.embedding(tokens)
        for block in self.decoder.blocks:
            read = []
            for head in block.self_attn.attn_heads:
                scores = head.Wq(x) @ head.Wk(x).transpose(-1, -2) / math.sqrt(head.Wq.out_features)
                scores = scores.masked_fill(self.self_attn_mask[:t, :t] == 0, -torch.inf)
                read.append(scores.softmax(-1) @ head.Wv(x))
            x = block.self_attn_norm(x + block.self_attn.Wo(torch.cat(read, -1)))
            x = block.ffn_norm(x + block.ffn.ffn(x))
        return self.linear(x)[:, -1]


class RMSNorm(nn.Module):
    def __init__(self, d: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt() * self.weight


class Llama(nn.Module):
    """RMS norms, a gated MLP, rotary positions, two heads of keys for four of queries."""

    def __init__(self, p: int, neighbors: bool = False):
        super().__init__()
        d, self.heads, self.kv, self.neighbors = 32, 4, 2, neighbors
        e = d // self.heads
        self.model = nn.Module()
        self.model.embed_tokens, self.model.norm = nn.Embedding(p + 1, d), RMSNorm(d)
        layer = nn.Module()
        layer.self_attn, layer.mlp = nn.Module(), nn.Module()
        layer.self_attn.q_proj, layer.self_attn.o_proj = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        layer.self_attn.k_proj = nn.Linear(d, self.kv * e, bias=False)
        layer.self_attn.v_proj = nn.Linear(d, self.kv * e, bias=False)
        layer.mlp.gate_proj, layer.mlp.up_proj = nn.Linear(d, 48, bias=False), nn.Linear(d, 48, bias=False)
        layer.mlp.down_proj = nn.Linear(48, d, bias=False)
        layer.input_layernorm, layer.post_attention_layernorm = RMSNorm(d), RMSNorm(d)
        self.model.layers = nn.ModuleList([layer])
        self.lm_head = nn.Linear(d, p, bias=False)

    def turned(self, x: Tensor) -> Tensor:
        t, e = x.shape[-2:]
        angles = torch.arange(t)[:, None] * 10000.0 ** (-torch.arange(0, e, 2) / e)
        cos, sin = angles.cos(), angles.sin()
        if self.neighbors:
            one, other = x[..., 0::2], x[..., 1::2]
            return torch.stack([one * cos - other * sin, one * sin + other * cos], -1).flatten(-2)
        one, other = x.chunk(2, -1)
        return torch.cat([one * cos - other * sin, other * cos + one * sin], -1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.model.embed_tokens(tokens)
        n, t, d = x.shape
        e = d // self.heads
        for layer in self.model.layers:
            h = layer.input_layernorm(x)
            q = self.turned(layer.self_attn.q_proj(h).view(n, t, self.heads, e).transpose(1, 2))
            k = self.turned(layer.self_attn.k_proj(h).view(n, t, self.kv, e).transpose(1, 2))
            v = layer.self_attn.v_proj(h).view(n, t, self.kv, e).transpose(1, 2)
            k, v = (y.repeat_interleave(self.heads // self.kv, 1) for y in (k, v))
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + layer.self_attn.o_proj(mixed.transpose(1, 2).reshape(n, t, d))
            h = layer.post_attention_layernorm(x)
            x = x + layer.mlp.down_proj(functional.silu(layer.mlp.gate_proj(h)) * layer.mlp.up_proj(h))
        return self.lm_head(self.model.norm(x))[:, -1]


class Separate(nn.Module):
    """Separate matrices with biases, no norm, and what is asked for besides."""

    def __init__(
        self,
        p: int,
        *,
        extra: int = 1,
        act: Callable = functional.silu,
        bias: bool = True,
        scaled: bool = False,
        output: bool = True,
    ):
        super().__init__()
        d, self.heads, self.act, self.scaled = 32, 2, act, scaled
        self.token_embedding = nn.Embedding(p + extra, d)
        nn.init.normal_(self.token_embedding.weight, std=1 / math.sqrt(d) if scaled else 1)
        if scaled:
            at, i = torch.arange(20.0)[:, None], torch.arange(0, d, 2)
            table = torch.zeros(20, d)
            table[:, 0::2], table[:, 1::2] = (at / 10000 ** (i / d)).sin(), (at / 10000 ** (i / d)).cos()
            self.pos_encoder = nn.Module()
            self.pos_encoder.register_buffer("pe", table[None])
        else:
            self.position_embedding = nn.Embedding(2 + extra, d)
        self.attention = nn.Module()
        for name in ("query", "key", "value"):
            setattr(self.attention, name, nn.Linear(d, d, bias=bias))
        if output:
            self.attention.out = nn.Linear(d, d, bias=bias)
        self.fc1, self.fc2 = nn.Linear(d, 64), nn.Linear(64, d)
        self.output = nn.Linear(d, p, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens)
        n, t, d = x.shape
        x = (
            x * math.sqrt(d) + self.pos_encoder.pe[:, :t]
            if self.scaled
            else x + self.position_embedding(torch.arange(t))
        )
        q, k, v = (
            getattr(self.attention, name)(x).view(n, t, self.heads, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, t, d)
        x = x + (self.attention.out(mixed) if hasattr(self.attention, "out") else mixed)
        x = x + self.fc2(self.act(self.fc1(x)))
        return self.output(x)[:, -1]


class Mamay(nn.Module):
    """nn.MultiheadAttention in blocks of one nn.Sequential, whose end is a norm and a linear layer; norms after."""

    def __init__(self, p: int):
        super().__init__()
        d = 32
        self.token_embeddings, self.position_embeddings = nn.Embedding(p + 2, d), nn.Embedding(4, d)
        block = nn.Module()
        block.self_attn = nn.MultiheadAttention(d, 4, batch_first=True)
        block.self_attn_norm, block.ffn_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        block.ffn = nn.Sequential(nn.Linear(d, 128), nn.GELU(), nn.Linear(128, d))
        self.model = nn.ModuleList([block, nn.LayerNorm(d), nn.Linear(d, p + 2)])

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embeddings(tokens) + self.position_embeddings(torch.arange(4))
        block, norm, linear = self.model
        mask = torch.full((4, 4), -torch.inf).triu(1)
        x = block.self_attn_norm(x + block.self_attn(x, x, x, attn_mask=mask, need_weights=False)[0])
        x = block.ffn_norm(x + block.ffn(x))
        return linear(norm(x))[:, -1]


class Lens(nn.Module):
    """TransformerLens' classic names with layer norms and every bias."""

    def __init__(self, p: int):
        super().__init__()
        d, h, e, m = 32, 4, 8, 64
        shapes = {
            "embed.W_E": (p + 1, d), "pos_embed.W_pos": (3, d), "unembed.W_U": (d, p), "unembed.b_U": (p,),
            "blocks.0.attn.W_Q": (h, d, e), "blocks.0.attn.W_K": (h, d, e), "blocks.0.attn.W_V": (h, d, e),
            "blocks.0.attn.W_O": (h, e, d), "blocks.0.attn.b_Q": (h, e), "blocks.0.attn.b_K": (h, e),
            "blocks.0.attn.b_V": (h, e), "blocks.0.attn.b_O": (d,), "blocks.0.mlp.W_in": (d, m),
            "blocks.0.mlp.b_in": (m,), "blocks.0.mlp.W_out": (m, d), "blocks.0.mlp.b_out": (d,),
            "blocks.0.ln1.w": (d,), "blocks.0.ln1.b": (d,), "blocks.0.ln2.w": (d,), "blocks.0.ln2.b": (d,),
            "ln_final.w": (d,), "ln_final.b": (d,),
        }  # fmt: skip
        self.table = nn.ParameterDict()
        for name, shape in shapes.items():
            start = torch.ones(shape) if name.endswith(".w") else torch.randn(shape) / math.sqrt(d) * (".W_" in name)
            self.table[name.replace(".", "/")] = nn.Parameter(start)

    def state_dict(self, *args, **kwargs):
        return {name.removeprefix("table.").replace("/", "."): weight for name, weight in super().state_dict().items()}

    def forward(self, tokens: Tensor) -> Tensor:
        w = {name.replace("/", "."): weight for name, weight in self.table.items()}
        x = w["embed.W_E"][tokens] + w["pos_embed.W_pos"]
        h = functional.layer_norm(x, x.shape[-1:], w["blocks.0.ln1.w"], w["blocks.0.ln1.b"])
        q, k, v = (
            torch.einsum("ntd,hde->nhte", h, w[f"blocks.0.attn.W_{s}"]) + w[f"blocks.0.attn.b_{s}"][:, None]
            for s in "QKV"
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + torch.einsum("nhte,hed->ntd", mixed, w["blocks.0.attn.W_O"]) + w["blocks.0.attn.b_O"]
        h = functional.layer_norm(x, x.shape[-1:], w["blocks.0.ln2.w"], w["blocks.0.ln2.b"])
        x = x + functional.relu(h @ w["blocks.0.mlp.W_in"] + w["blocks.0.mlp.b_in"]) @ w["blocks.0.mlp.W_out"]
        x = functional.layer_norm(x + w["blocks.0.mlp.b_out"], x.shape[-1:], w["ln_final.w"], w["ln_final.b"])
        return (x @ w["unembed.W_U"] + w["unembed.b_U"])[:, -1]


NORM, POST = ("norm.kind", "layer"), ("norm.order", "post")
STRANGERS = {
    stranger.name: stranger
    for stranger in (
        Stranger("pre-norm, fused", PreNorm, truth=(NORM, ("n_heads", 4), ("activation", "relu"))),
        Stranger("fused by head", lambda p: PreNorm(p, by_head=True), truth=(NORM, ("n_heads", 4))),
        Stranger(
            "operator token", lambda p: PreNorm(p, norm=False, extra=4), template("a", 0, "b", 3),
            truth=(("prompt", "a+b="), ("n_heads", 4), ("norm.kind", "none")),
        ),
        Stranger(
            "encoder, post-norm", lambda p: Encoder(p, 1, norm_first=False, layers=1, activation="relu"),
            truth=(NORM, POST, ("norm.at", ("attention", "mlp")), ("biases", True)),
        ),
        Stranger(
            "encoder, pre-norm, two layers",
            lambda p: Encoder(p, 0, norm_first=True, layers=2, activation="gelu"), template("a", "b"),
            truth=(NORM, ("norm.order", "pre"), ("n_layers", 2), ("causal", False), ("prompt", "ab")),
        ),
        Stranger(
            "nanoGPT", lambda p: NanoGPT(p, 2), template("a", 0, "b", 1),
            truth=(NORM, ("tied", True), ("biases", False), ("prompt", "a+b="), ("n_layers", 2)),
        ),
        Stranger("GPT-2", GPT2, truth=(NORM, ("n_heads", 2), ("biases", True))),
        Stranger(
            "Power et al.", Power, template(-11, "a", -9, "b", -10), first=3,
            truth=(NORM, POST, ("n_layers", 2), ("prompt", "^a+b="), ("n_heads", 4)),
        ),
        Stranger(
            "LLaMA", Llama,
            truth=(("norm.kind", "rms"), ("mlp.gated", True), ("attention.rotary_base", 10000.0), ("n_heads", 4)),
        ),
        Stranger("LLaMA, neighboring planes", lambda p: Llama(p, neighbors=True), truth=(("mlp.gated", True),)),
        Stranger(
            "separate, biases, silu", Separate,
            truth=(("norm.kind", "none"), ("n_heads", 2), ("biases", True)),
        ),
        Stranger(
            "sinusoids, scaled embedding", lambda p: Separate(p, scaled=True, act=functional.relu),
            truth=(("norm.kind", "none"),),
        ),
        Stranger("without W_O", lambda p: Separate(p, output=False, act=functional.relu, bias=False)),
        Stranger(
            "a token that begins",
            lambda p: Separate(p, extra=2, act=functional.gelu, bias=False), template(1, "a", "b", 0),
            truth=(("prompt", "^ab="), ("n_heads", 2)),
        ),
        Stranger("MultiheadAttention, post-norm and final", Mamay, template("a", 0, "b", 1), truth=(NORM, POST)),
        Stranger("TransformerLens, layer norms", Lens, truth=(NORM, ("n_heads", 4), ("biases", True))),
    )
}  # fmt: skip


@cache
def trained(name: str) -> nn.Module:
    """The network of that name, trained on all pairs until it answers every one of them by far."""
    stranger = STRANGERS[name]
    torch.manual_seed(0)
    net = stranger.build(stranger.p)
    pairs = stranger.pairs()
    tokens, right = stranger.tokens(pairs + stranger.first, stranger.p), pairs.sum(1) % stranger.p
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.03)
    for step in range(2500):
        optimizer.zero_grad()
        said = net(tokens)
        offset = stranger.first if said.shape[-1] > stranger.p + stranger.first - 1 else 0
        loss = functional.cross_entropy(said, right + offset)
        loss.backward()
        optimizer.step()
        if step >= 300 and loss < 1e-3:
            break
    return net.eval()
