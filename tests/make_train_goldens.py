#!/usr/bin/env python3
"""Make tests/goldens_train/*.safetensors: gradients of every weight, and 200 losses of AdamW, from PyTorch
in float64: all of them, or those named. Needs torch, transformers, safetensors.

The model is written out here, in the obvious way, so that any gradient may be cut with detach(); on plain
cases its loss and gradients are held against transformers' own models."""
import itertools
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
B, T, BATCHES = 3, 12, 4
OUT = Path(__file__).parent / "goldens_train"

GPT2 = dict(model_type="gpt2", n_layer=2, n_embd=8, n_head=2, n_inner=20, vocab_size=13, n_positions=16,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
LLAMA = dict(model_type="llama", num_hidden_layers=2, hidden_size=8, num_attention_heads=4,
             num_key_value_heads=2, head_dim=4, intermediate_size=14, vocab_size=13,
             max_position_embeddings=16, rms_norm_eps=1e-5, tie_word_embeddings=False)
JOINT_LOSS = dict(n=4, prefixes=3, samples=6, keep=1, random=False, weight=1.5, context=5, alone=False, seed=7,
                  number=5)
DROP = dict(embedding=0.1, attention=0.3, residual=0.2, seed=7, number=5)


# ---- the random numbers of base/random.h and model/data_random.h ----------------------------------

STEP, EVEN = 0x9e3779b97f4a7c15, 2 ** 64
DROPOUT, JOINT = 0xd209, 0x1054  # what is drawn


def splitmix(z):
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9 % EVEN
    z = (z ^ z >> 27) * 0x94d049bb133111eb % EVEN
    return z ^ z >> 31


def random_of(*keys):
    h = 0
    for key in keys:
        h = splitmix((h + STEP + key) % EVEN)
    return h


def unit(state, k=0):
    """Draw k of [0, 1)."""
    return (splitmix((state + (k + 1) * STEP) % EVEN) >> 11) / 2 ** 53


def below(state, n):
    """A number below n, and the state after it."""
    while True:
        state = (state + STEP) % EVEN
        if splitmix(state) >= EVEN % n:
            return splitmix(state) % n, state


# ---- masks: which keys a query reads, and which of them pass gradient -----------------------------

def keys_of(mask, T):
    i, j = torch.arange(T)[:, None], torch.arange(T)[None, :]
    if mask.get("bidirectional"):
        return torch.ones(T, T, dtype=torch.bool)
    read = j <= i
    if "compressive" in mask:
        return read & (j >= i // mask["segment"] * mask["segment"])
    if "segment" in mask:
        start = i // mask["segment"] * mask["segment"]
        return read & (j >= start - mask.get("memory", 0))
    if "window" in mask:
        read = read & ((j > i - mask["window"]) | (j < mask.get("sink", 0)))
    return read


def flow_of(mask, cut, T):
    i, j = torch.arange(T)[:, None], torch.arange(T)[None, :]
    if cut in ("myopic", "states", "local"):
        return i == j
    if mask.get("detach") == "memory":
        return j >= i // mask["segment"] * mask["segment"]
    return torch.ones(T, T, dtype=torch.bool)


def memory_answers(q, k, v, S, delta):
    """Infini-attention's memory, segment after segment of S (arXiv:2404.07143)."""
    soft_q, soft_k = F.elu(q) + 1, F.elu(k) + 1
    M, z, out = 0, 0, [torch.zeros_like(q[:, :, :S])]
    for b in range(S, q.shape[2], S):
        before, here = slice(b - S, b), slice(b, b + S)
        new = v[:, :, before]
        if delta and b > S:
            new = new - soft_k[:, :, before] @ M / (soft_k[:, :, before] @ z)
        M = M + soft_k[:, :, before].transpose(-1, -2) @ new
        z = z + soft_k[:, :, before].sum(-2).unsqueeze(-1)
        out.append(soft_q[:, :, here] @ M / (soft_q[:, :, here] @ z))
    return torch.cat(out, 2)


# ---- the model --------------------------------------------------------------------------------------

class Model:
    """Weights by name, float64; heads: extra layers of n-token models after the last."""

    def __init__(self, config, weights, mask=None, cut=None, kept=None, dropout=None):
        self.c, self.w, self.cut, self.kept = config, weights, cut, kept
        self.dropout, self.sequence = dropout, 0  # of the first row, for what is drawn
        self.mask = {} if mask is None else mask
        self.gpt2 = config["model_type"] == "gpt2"
        self.L = config["n_layer" if self.gpt2 else "num_hidden_layers"]
        self.D = config["n_embd" if self.gpt2 else "hidden_size"]
        self.H = config["n_head" if self.gpt2 else "num_attention_heads"]
        self.G = self.H if self.gpt2 else config["num_key_value_heads"]
        self.K = self.D // self.H if self.gpt2 else config["head_dim"]
        self.stem = "transformer." if self.gpt2 else "model."

    def drop(self, x, field, place, block):
        """x [B,T,n] or, of attention's weights, [B,H,T,T]: each value has a draw of its own."""
        share = (self.dropout or {}).get(field, 0) if torch.is_grad_enabled() else 0
        if not share:
            return x
        keep = torch.empty(x.shape)
        for at in itertools.product(*map(range, x.shape[:-1])):
            sequence = random_of(self.dropout["seed"], DROPOUT, self.dropout["number"], self.sequence + at[0])
            row = random_of(sequence, block * 4 + place, at[1] if len(at) == 3 else 0, at[-1])
            keep[at] = torch.tensor([float(unit(row, k) >= share) for k in range(x.shape[-1])])
        return x * keep / (1 - share)

    def norm(self, x, name):
        w = self.w[self.stem + name + ".weight"]
        if self.gpt2:
            return F.layer_norm(x, (self.D,), w, self.w[self.stem + name + ".bias"], 1e-5)
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.c["rms_norm_eps"]) * w

    def linear(self, x, name):
        w, b = self.w[self.stem + name + ".weight"], self.w.get(self.stem + name + ".bias")
        y = x @ (w if self.gpt2 else w.T)
        return y if b is None else y + b

    def heads(self, x, n):
        return x.view(*x.shape[:2], n, self.K).transpose(1, 2)

    def rotate(self, x):
        half = self.K // 2
        angle = torch.arange(x.shape[2])[:, None] * 10000.0 ** (-torch.arange(half) / half)
        cos, sin = angle.cos(), angle.sin()
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def qkv(self, x, at):
        if self.gpt2:
            q, k, v = self.linear(x, at + "attn.c_attn").split(self.D, -1)
        else:
            q, k, v = (self.linear(x, at + "self_attn.%s_proj" % p) for p in "qkv")
        q, k, v = self.heads(q, self.H), self.heads(k, self.G), self.heads(v, self.G)
        if not self.gpt2:
            q, k = self.rotate(q), self.rotate(k)
        more = self.H // self.G
        return q, k.repeat_interleave(more, 1), v.repeat_interleave(more, 1)

    def attention(self, x, at, l, block):
        q, k, v = self.qkv(x, at)
        other_k, other_v = k.detach(), v.detach()
        if self.cut == "states":
            _, other_k, other_v = self.qkv(x.detach(), at)
        if self.cut == "local":
            other_k, other_v = self.kept.past[l]
        if self.past is not None:
            self.past.append((k.detach(), v.detach()))
        read, flow = keys_of(self.mask, x.shape[1]), flow_of(self.mask, self.cut, x.shape[1])
        s = torch.where(flow, q @ k.transpose(-1, -2), q @ other_k.transpose(-1, -2)) / math.sqrt(self.K)
        p = self.drop(s.masked_fill(~read, -torch.inf).softmax(-1), "attention", 1, block)
        z = (p * flow) @ v + (p * ~flow) @ other_v
        if "compressive" in self.mask:
            share = self.mask["compressive"]
            if self.mask.get("gate") == "learnt":
                share = torch.sigmoid(self.w["backflow.layers.%s.memory_gate" % at.split(".")[1]])[:, None, None]
            past = (other_k, other_v) if self.cut or self.mask.get("detach") == "memory" else (k, v)
            answers = memory_answers(q, *past, self.mask["segment"], self.mask.get("update") == "delta")
            z = share * answers + (1 - share) * z
        z = z.transpose(1, 2).reshape(*x.shape[:2], self.H * self.K)
        return self.linear(z, at + ("attn.c_proj" if self.gpt2 else "self_attn.o_proj"))

    def layer(self, x, l, name=None):
        block = l if name is None else name
        at = ("h.%d." if self.gpt2 else "layers.%d.") % block
        y = self.norm(x, at + ("ln_1" if self.gpt2 else "input_layernorm"))
        x = x + self.drop(self.attention(y, at, l, block), "residual", 2, block)
        return x + self.drop(self.mlp(x, at), "residual", 3, block)

    def mlp(self, x, at):
        y = self.norm(x, at + ("ln_2" if self.gpt2 else "post_attention_layernorm"))
        if self.gpt2:
            return self.linear(F.gelu(self.linear(y, at + "mlp.c_fc"), approximate="tanh"), at + "mlp.c_proj")
        gate, up = self.linear(y, at + "mlp.gate_proj"), self.linear(y, at + "mlp.up_proj")
        return self.linear(F.silu(gate) * up, at + "mlp.down_proj")

    def embed_name(self):
        return "transformer.wte.weight" if self.gpt2 else "model.embed_tokens.weight"

    def start(self, tokens):
        E = self.w[self.embed_name()]
        x = E[tokens] if tokens.dtype == torch.int64 else tokens @ E[:-1] + E[-1]
        x = x + self.w["transformer.wpe.weight"][:x.shape[1]] if self.gpt2 else x
        return self.drop(x, "embedding", 0, 0)

    def trunk(self, tokens, n):
        self.past = []
        if self.kept is not None:
            with torch.no_grad():
                self.kept.trunk(tokens, self.L)
        x = self.start(tokens)
        for l in range(n):
            x = self.layer(x, l)
        return x

    def out(self, x):
        head = self.w.get("lm_head.weight", self.w[self.embed_name()])
        return self.norm(x, "ln_f" if self.gpt2 else "norm") @ head.T

    def loss(self, tokens, target, heads=1):
        """target [B,T,heads], -1: none; float: Huber."""
        if target.dtype != torch.int64:
            y, here = self.out(self.trunk(tokens, self.L))[..., 0], ~target.isnan()
            return F.huber_loss(y[here], target[here])
        if heads == 1:
            return cross_entropy(self.out(self.trunk(tokens, self.L)), target[..., 0])
        x = self.trunk(tokens, self.L - 1)
        return sum(cross_entropy(self.out(self.layer(x, self.L - 1, self.L - 1 + k)), target[..., k])
                   for k in range(heads))


# ---- the joint loss of completions ---------------------------------------------------------------------

@torch.no_grad()
def draw_completion(model, tokens, c, s):
    """c["n"] tokens after a prefix, sample s of all, and their log-probability."""
    length, logp = len(tokens) + c["n"], 0
    for at in range(len(tokens), length):
        p = model.out(model.trunk(tokens[None], model.L))[0, -1].softmax(-1)
        u = unit(random_of(c["seed"], JOINT, c["number"] * length + at, s))
        token = int((p.cumsum(0) <= u).sum())
        logp += math.log(p[token])
        tokens = torch.cat([tokens, torch.tensor([token])])
    return tokens, logp


def joint_loss(model, tokens, c):
    """Prefixes from anywhere in the batch; of each one's completions the likeliest, or any, are learnt."""
    chosen, length = [], c["context"] + c["n"]
    for p in range(c["prefixes"]):
        b, state = below(random_of(c["seed"], JOINT, c["number"] * length, p), B)
        start, _ = below(state, T - c["context"] + 1)
        prefix = tokens[b, start:start + c["context"]]
        drawn = [draw_completion(model, prefix, c, p * c["samples"] + s) for s in range(c["samples"])]
        if not c["random"]:
            drawn.sort(key=lambda d: -d[1])
        chosen += [d[0] for d in drawn[:c["keep"]]]
    chosen, model.sequence = torch.stack(chosen), B
    logits = model.out(model.trunk(chosen, model.L))[:, c["context"] - 1:-1]
    model.sequence = 0
    return c["weight"] * cross_entropy(logits, chosen[:, c["context"]:])


def cross_entropy(logits, target):
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1)


# ---- weights and batches ------------------------------------------------------------------------------

def make_weights(config, heads, seed, learnt=False):
    """transformers' names and shapes, with values that leave no gradient small."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    w = {name: p.detach().clone() for name, p in model.named_parameters()}
    layers = config.get("n_layer", config.get("num_hidden_layers"))
    if learnt:
        w |= {"backflow.layers.%d.memory_gate" % l: torch.zeros(config["n_head"]) for l in range(layers)}
    for k in range(heads - 1):
        for name in [n for n in w if ".%d." % (layers - 1) in n]:
            w[name.replace(".%d." % (layers - 1), ".%d." % (layers + k))] = w[name].clone()
    for name in w:
        middle = 1.0 if ("norm" in name or "ln_" in name) and name.endswith("weight") else 0.0
        w[name] = middle + torch.randn_like(w[name]) * (0.2 if middle else 0.35)
    return w


def make_batches(config, heads, channels):
    V = config["vocab_size"]
    if channels:
        x, y = torch.randn(BATCHES, B, T, channels), torch.randn(BATCHES, B, T) * 2
        y[:, 0, 3] = torch.nan
        return x, y
    tokens = torch.randint(V, (BATCHES, B, T))
    target = torch.randint(V, (BATCHES, B, T, heads))
    target[:, 1, 4] = -1
    return tokens, target


def check_plain(config, model, tokens, target):
    """Against transformers, whose RMSNorm and rotary angles are float32 whatever the model is."""
    close = dict(rtol=1e-10, atol=1e-12) if model.gpt2 else dict(rtol=1e-4, atol=1e-6)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="eager")
    theirs.load_state_dict(model.w, strict=False)
    loss = cross_entropy(theirs(input_ids=tokens, use_cache=False).logits, target[..., 0])
    loss.backward()
    for name, p in theirs.named_parameters():
        assert torch.allclose(p.grad, model.w[name].grad, **close), name


def learning_rate(step, c):
    if step < c["warmup"]:
        return c["rate"] * (step + 1) / c["warmup"]
    done = (step - c["warmup"]) / (c["steps"] - c["warmup"])
    return c["least_rate"] + (c["rate"] - c["least_rate"]) * 0.5 * (1 + math.cos(math.pi * done))


def train(model, tokens, target, heads, c):
    """The losses of c["steps"] steps."""
    w = model.w = {name: p.detach().clone().requires_grad_() for name, p in model.w.items()}
    groups = [dict(params=[p for p in w.values() if p.ndim > 1], weight_decay=c["decay"]),
              dict(params=[p for p in w.values() if p.ndim == 1], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=c["rate"], betas=(c["beta1"], c["beta2"]), eps=c["epsilon"])
    losses = []
    for step in range(c["steps"]):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, c)
        loss = model.loss(tokens[step % BATCHES], target[step % BATCHES], heads)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(w.values(), c["clip"])
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses)


def make(name, config, mask=None, cut=None, heads=1, channels=0, steps=0, plain=False, dropout=None,
         joint=None):
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    config = dict(config)
    if channels:
        config.update(vocab_size=channels + 1, tie_word_embeddings=False)
    w = make_weights(config, heads, sum(map(ord, name)), (mask or {}).get("gate") == "learnt")
    kept = Model(config, make_weights(config, 1, 1), mask) if cut == "local" else None
    tokens, target = make_batches(config, heads, channels)
    model = Model(config, {k: v.clone().requires_grad_() for k, v in w.items()}, mask, cut, kept, dropout)
    loss = 0 if joint and joint["alone"] else model.loss(tokens[0], target[0], heads)
    if joint:
        loss = loss + joint_loss(model, tokens[0], joint)
    loss.backward()
    if plain:
        check_plain(config, model, tokens[0], target[0])
    out = {"weight." + k: v for k, v in w.items()}
    out |= {"grad." + k: v.grad for k, v in model.w.items()}
    if kept:
        out |= {"kept." + k: v for k, v in kept.w.items()}
    out |= {"input": tokens if channels else tokens.int(), "target": target if channels else target.int(),
            "loss": loss.detach().reshape(1)}
    if mask:
        config["backflow"] = {"mask": mask}
    meta = {"config": json.dumps(config), "cut": cut or "none", "heads": str(heads)}
    if dropout:
        meta["dropout"] = json.dumps(dropout)
    if joint:
        meta["joint"] = json.dumps(joint)
    if steps:
        c = dict(steps=steps, warmup=20, rate=3e-3, least_rate=3e-4, decay=0.1, beta1=0.9, beta2=0.95,
                 epsilon=1e-8, clip=1.0)
        out["losses"] = train(model, tokens, target, heads, c)
        meta["train"] = json.dumps(c)
    save_file({k: v.contiguous() for k, v in out.items()}, OUT / (name + ".safetensors"), meta)
    print("%-18s loss %.6f%s" % (name, loss.item(), ", in the end %.6f" % out["losses"][-1] if steps else ""))


def main():
    make("gpt2", GPT2, steps=200, plain=True)
    make("llama", LLAMA, steps=200, plain=True)
    make("mistral", LLAMA | dict(model_type="mistral", sliding_window=5), mask_of_family(5), plain=True)
    make("qwen2", LLAMA | dict(model_type="qwen2", tie_word_embeddings=True), plain=True)
    make("myopic", LLAMA, cut="myopic")
    make("states", GPT2, cut="states")
    make("local", LLAMA, cut="local")
    make("heads", GPT2, heads=3)
    make("sink", LLAMA, dict(window=4, sink=2))
    make("segment", GPT2, dict(segment=5, memory=3))
    make("segment_cut", LLAMA, dict(segment=5, memory=3, detach="memory"))
    make("compressive", GPT2, dict(segment=5, compressive=0.4))
    make("compressive_learnt", GPT2, dict(segment=5, compressive=0.4, gate="learnt"), heads=2)
    make("compressive_delta", GPT2, dict(segment=3, compressive=0.4, gate="learnt", update="delta"), steps=200)
    make("compressive_cut", GPT2, dict(segment=3, compressive=0.4, gate="learnt", update="delta",
                                       detach="memory"))
    make("compressive_states", GPT2, dict(segment=3, compressive=0.4, gate="learnt", update="delta"), cut="states")
    make("encoder", GPT2, dict(bidirectional=True))
    make("real", GPT2, channels=2)
    make("real_myopic", GPT2, channels=2, cut="myopic")
    make("dropout", GPT2, dropout=DROP)
    make("dropout_sink", LLAMA, dict(window=4, sink=2), dropout=DROP)
    make("dropout_states", LLAMA, cut="states", dropout=DROP)
    make("dropout_local", LLAMA, cut="local", dropout=DROP)
    make("dropout_heads", GPT2, heads=3, dropout=DROP)
    make("dropout_real", GPT2, dict(bidirectional=True), channels=2, dropout=DROP)
    make("joint", GPT2, joint=JOINT_LOSS)
    make("joint_alone", LLAMA, dict(window=4, sink=2), joint=JOINT_LOSS | dict(alone=True, keep=3, weight=0.7))
    make("joint_segment", GPT2, dict(segment=5, memory=3), joint=JOINT_LOSS | dict(random=True, keep=2))
    make("joint_compressive", GPT2, dict(segment=4, compressive=0.4), joint=JOINT_LOSS)
    make("joint_states", LLAMA, cut="states", joint=JOINT_LOSS | dict(keep=2), dropout=DROP)
    make("joint_local", LLAMA, cut="local", joint=JOINT_LOSS | dict(alone=True))


class mask_of_family(dict):
    """A window that the family's own config says: not written under "backflow"."""

    def __init__(self, window):
        super().__init__(window=window)

    def __bool__(self):
        return False


if __name__ == "__main__":
    main()
