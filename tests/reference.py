#!/usr/bin/env python3
"""The arbiter of the numbers: gradient flow by float64 autograd, one backward pass for each loss.

usage: reference.py MODEL_DIR --tokens 1,2,3,... -o REF.safetensors [--dtype float32]
needs: torch, transformers, safetensors (pip)

Input tokens[0..N-1], targets tokens[1..N]; loss_i = -log p(tokens[i+1] | tokens[0..i]), nats.
Written as float64 (L layers, H query heads, G key/value heads, N positions):
  tokens [N+1] i64, loss [N], attn [L,H,N,N] (row = query), and for the sites a below
  flow.SITE.grad_norm = |d loss_i / d a_j| and flow.SITE.grad_x_act = <d loss_i / d a_j, a_j>:
    resid_pre, resid_mid [L,N,N]   input of layer l; after layer l's attention was added
    resid_final [N,N]              input of the final norm
    attn_out, mlp_out [L,N,N]      what layer l's attention, MLP add to the residual stream
    q, z [L,H,N,N]; k, v [L,G,N,N] as projected, bias included, before any rotation; z is each
                                   head's output before the output projection
  own.grad_norm, future.grad_norm, own_future.cosine [L+1,N], rows resid_pre[0..L-1], resid_final:
    |g_jj|, |sum over i > j of g_ij|, the cosine between the two (0 where either is 0).
  param.W.grad_norm [L,N,N], W one of q k v o mlp_in mlp_gate mlp_out: norm of the gradient of loss i
    by W through position j alone
  weight.W.own, .future, .cosine [L], .lag [L,7], .head_own, .head_future, .head_cosine [L,heads]: of
    W's whole gradient, the part with i = j, the part with i > j, their cosine, and by bands of i - j
Rows are the losses i, columns the positions j. Nothing here forces zeros for j > i: they are what
autograd found.
Models whose config.json has "backflow": {"mask": ..} attend through masked_attention below. With masked
positions the input there is the mask token, tokens [N] are the true ones, loss_i = -log p(tokens[i]) and
the rows are those of `masked`; "future" is then all losses but a position's own, lags are |i - j|.
"""
import argparse
import contextlib
import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from safetensors.torch import load_file, save_file
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.utils import logging

logging.disable_progress_bar()
logging.set_verbosity_error()

BANDS = [0, 1, 2, 4, 8, 16, 32]         # first lag i - j of each
MASKS = []                              # of each layer: keys read, those that pass gradient, the mask
GATES = {}                              # layer: [H], logits of a compressive memory's part
PATTERNS = {}                           # layer: [1,H,N,N], filled by the next forward
PER_LAYER = ("resid_pre", "resid_mid", "attn_out", "mlp_out", "q", "k", "v", "z")


@contextlib.contextmanager
def all_float64(model):
    """Hugging Face computes norms, softmax and rotary tables in float32, by that name: in here the
    name means float64, and rotary tables are made again. (Not while loading: files use it too.)"""
    saved = (torch.float32, torch.float, torch.Tensor.float, torch.get_default_dtype())
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        for part in model.modules():
            if type(part).__name__.endswith("RotaryEmbedding"):
                part.__init__(part.config)
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = saved[:3]
        torch.set_default_dtype(saved[3])


def layer_mask(mask, detach, n):
    """reads, passes [n,n], row = query, written from the definition of each kind."""
    i, j = torch.arange(n)[:, None], torch.arange(n)[None]
    reads = j <= i
    if mask.get("bidirectional"):
        reads = torch.ones(n, n, dtype=torch.bool)
    if mask.get("window"):
        reads = reads & ((i - j < mask["window"]) | (j < mask.get("sink", 0)))
    start = i - i % mask.get("segment", n)
    if mask.get("segment") and not mask.get("compressive"):
        reads = reads & (j >= start - mask.get("memory", 0))
    passes = torch.ones(n, n, dtype=torch.bool)
    if detach == "myopic":
        passes = j >= i
    if (detach or mask.get("detach")) == "memory" and mask.get("segment"):
        passes = j >= start
    return reads, passes, mask


def write_memory(key, value, segment, delta):
    """The matrix and the sum of keys after whole segments (arXiv:2404.07143, equations 4 and 5)."""
    matrix, total = 0, 0
    for b in range(0, key.shape[-2], segment):
        k, v = soft(key[..., b:b + segment, :]), value[..., b:b + segment, :]
        if delta and b:
            v = v - (k @ matrix) / (k @ total)
        matrix, total = matrix + k.mT @ v, total + k.sum(-2, keepdim=True).mT
    return matrix, total


def soft(x):
    return torch.nn.functional.elu(x) + 1


def read_memory(query, key, value, passes, segment, delta):
    """What a memory of all earlier segments answers, [..,N,K]; and the weights it gave."""
    answers, weights = torch.zeros_like(query), query.new_zeros(*query.shape[:-1], query.shape[-2])
    for b in range(segment, query.shape[-2], segment):
        for r in range(b, min(b + segment, query.shape[-2])):
            cut = ~passes[r, :b, None]
            k = torch.where(cut, key[..., :b, :].detach(), key[..., :b, :])
            v = torch.where(cut, value[..., :b, :].detach(), value[..., :b, :])
            q = soft(query[..., r, None, :])
            matrix, total = write_memory(k, v, segment, delta)
            answers[..., r, :] = ((q @ matrix) / (q @ total))[..., 0, :]
            weights[..., r, :b] = ((q @ soft(k).mT) / (q @ total))[..., 0, :].detach()
    return answers, weights


def masked_attention(module, query, key, value, attention_mask, scaling=None, **unused):
    reads, passes, mask = MASKS[module.layer_idx]
    share = mask.get("compressive", 0.0)
    if share:
        n = torch.arange(len(reads)) // mask["segment"]
        reads = reads & (n[:, None] == n[None])
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.where(passes, query @ key.mT, query @ key.detach().mT) * scaling
    weights = torch.softmax(scores.masked_fill(~reads, -torch.inf), -1)
    z = (weights * passes) @ value + (weights * ~passes) @ value.detach()
    if share:
        if mask.get("gate") == "learnt":
            share = torch.sigmoid(GATES[module.layer_idx].to(query.dtype))[:, None, None]
        answers, given = read_memory(query, key, value, passes, mask["segment"], mask.get("update") == "delta")
        z, weights = share * answers + (1 - share) * z, share * given + (1 - share) * weights
    PATTERNS[module.layer_idx] = weights
    return z.transpose(1, 2).contiguous(), weights


AttentionInterface.register("masked", masked_attention)
AttentionMaskInterface.register("masked", ALL_MASK_ATTENTION_FUNCTIONS["eager"])


def first_of(module, *names):
    return next(getattr(module, n) for n in names if getattr(module, n, None) is not None)


def watch_sites(model):
    """Hook every site; the returned {site: [tensor of layer l]} is filled by the next forward."""
    base = getattr(model, model.base_model_prefix)
    layers = first_of(base, "layers", "h")
    site = {name: [None] * len(layers) for name in PER_LAYER}
    site["resid_final"] = [None]

    def watch_input(module, name, l):
        def hook(mod, args, kwargs):
            site[name][l] = args[0] if args else kwargs["hidden_states"]
        module.register_forward_pre_hook(hook, with_kwargs=True)

    def watch_output(module, name, l):
        def hook(mod, args, out):
            site[name][l] = out[0] if isinstance(out, tuple) else out
        module.register_forward_hook(hook)

    def watch_fused(module, l):         # GPT-2: one projection, q|k|v side by side
        def hook(mod, args, out):
            parts = out.split(out.shape[-1] // 3, -1)
            for name, part in zip("qkv", parts):
                site[name][l] = part
            return torch.cat(parts, -1)
        module.register_forward_hook(hook)

    model.get_input_embeddings().register_forward_hook(lambda mod, args, out: out.requires_grad_())
    for l, layer in enumerate(layers):
        attn = first_of(layer, "attn", "self_attn")
        watch_input(layer, "resid_pre", l)
        watch_input(first_of(layer, "ln_2", "post_attention_layernorm"), "resid_mid", l)
        watch_output(attn, "attn_out", l)
        watch_output(layer.mlp, "mlp_out", l)
        watch_input(first_of(attn, "c_proj", "o_proj"), "z", l)
        if hasattr(attn, "c_attn"):
            watch_fused(attn.c_attn, l)
        else:
            for name in "qkv":
                watch_output(getattr(attn, name + "_proj"), name, l)
    watch_input(first_of(base, "ln_f", "norm"), "resid_final", 0)
    return site


def watch_weights(model):
    """{weight: [[input, output] of layer l]}, filled by the next forward; q, k, v, o and mlp_out have
    their outputs among the sites."""
    layers = first_of(getattr(model, model.base_model_prefix), "layers", "h")
    seen = {}

    def watch(module, name, l):
        def hook(mod, args, out):
            seen[name][l] = [args[0], out]
        seen.setdefault(name, [None] * len(layers))
        module.register_forward_hook(hook)

    for l, layer in enumerate(layers):
        attn, mlp = first_of(layer, "attn", "self_attn"), layer.mlp
        for name in "qkv":
            watch(getattr(attn, "c_attn", None) or getattr(attn, name + "_proj"), name, l)
        watch(first_of(attn, "c_proj", "o_proj"), "o", l)
        watch(first_of(mlp, "c_fc", "up_proj"), "mlp_in", l)
        if hasattr(mlp, "gate_proj"):
            watch(mlp.gate_proj, "mlp_gate", l)
        watch(first_of(mlp, "c_proj", "down_proj"), "mlp_out", l)
    return seen


def part_of(gradients, n):
    """own, future, cosine and the norm of each band of lag of {lag: gradient}."""
    zero = torch.zeros_like(gradients[0])
    own, future = gradients[0], sum((gradients[lag] for lag in range(1, n)), zero)
    product = own.norm() * future.norm()
    bands = [sum((gradients[lag] for lag in range(a, min(b, n))), zero).norm()
             for a, b in zip(BANDS, BANDS[1:] + [n])]
    return own.norm(), future.norm(), (own * future).sum() / product if product > 0 else 0.0, bands


def weight_gradients(loss, chosen, site, seen, heads):
    """param.* and weight.*: every gradient formed in full, position by position and loss by loss."""
    N, ref = site["resid_pre"][0].shape[1], {}
    for name, layers in seen.items():
        outputs = [site[name][l] if name in "qkv" else layers[l][1] for l in range(len(layers))]
        deltas = [torch.autograd.grad(x, outputs, retain_graph=True, allow_unused=True) for x in loss]
        for l, (x, _) in enumerate(layers):
            x = x.detach().reshape(N, -1)
            delta = torch.stack([torch.zeros(N, outputs[l].shape[-1]) if d[l] is None
                                 else d[l].reshape(N, -1) for d in deltas])
            outer = torch.einsum("ja,ijb->ijab", x, delta)
            by_lag = {lag: torch.zeros_like(outer[0, 0]) for lag in range(N)}
            for n, i in enumerate(chosen):
                for j in range(N):
                    by_lag[abs(i - j)] += outer[n, j]
            found = {"own": [], "future": [], "cosine": [], "lag": []}
            for key, value in zip(found, part_of(by_lag, N)):
                found[key] = torch.as_tensor(value)
            for h in range(heads.get(name, 0)):
                cut = {lag: g.chunk(heads[name], 0 if name == "o" else 1)[h] for lag, g in by_lag.items()}
                for key, value in zip(("own", "future", "cosine"), part_of(cut, N)):
                    found.setdefault("head_" + key, []).append(value)
            ref.setdefault(f"param.{name}.grad_norm", []).append(outer.flatten(2).norm(dim=-1))
            for key, value in found.items():
                ref.setdefault(f"weight.{name}.{key}", []).append(torch.as_tensor(value))
    return {name: torch.stack(values) for name, values in ref.items()}


def open_model(folder, dtype=torch.float64, attention="eager"):
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention, dtype=dtype)
    return model.eval().requires_grad_(False)


def walk_losses(loss, chosen, site, heads):
    """Every score of every site, and the sums for own and future: one backward pass a loss."""
    N, L = site["resid_pre"][0].shape[1], len(site["resid_pre"])
    names = [(name, l) for name in site for l in range(len(site[name]))]
    acts = [site[name][l] for name, l in names]

    def split(name, x):                 # [1,N,heads*width] -> [heads,N,width]
        return x.reshape(N, heads.get(name, 1), -1).transpose(0, 1)

    flow = {}
    for name, tensors in site.items():
        shape = [len(tensors), heads.get(name, 1), len(chosen), N]
        for score in ("grad_norm", "grad_x_act"):
            flow[f"flow.{name}.{score}"] = torch.zeros(shape, dtype=torch.float64)
    own, future = torch.zeros(2, L + 1, N, acts[0].shape[-1], dtype=loss.dtype)
    for n, i in enumerate(chosen):
        grads = torch.autograd.grad(loss[n], acts, retain_graph=True, allow_unused=True)
        for (name, l), x, g in zip(names, acts, grads):
            if g is None:
                continue
            g_heads = split(name, g)
            flow[f"flow.{name}.grad_norm"][l, :, n] = g_heads.norm(dim=-1)
            flow[f"flow.{name}.grad_x_act"][l, :, n] = (g_heads * split(name, x)).sum(-1)
            if name in ("resid_pre", "resid_final"):
                row = L if name == "resid_final" else l
                own[row, i] = g[0, i]
                future[row, :i] += g[0, :i]
                future[row, i + 1:] += g[0, i + 1:]
    for key, value in flow.items():
        if key.split(".")[1] not in heads:
            flow[key] = value[0, 0] if "resid_final" in key else value[:, 0]
    return flow, own, future


def trace(folder, tokens, dtype=torch.float64, masked=None, detach=None):
    """Everything the file's head lists, as {name: tensor}. detach: "myopic", or None: as the model says."""
    with open(os.path.join(folder, "config.json")) as f:
        extras = json.load(f).get("backflow", {})
    special = "mask" in extras or detach
    model = open_model(folder, dtype, "masked" if special else "eager")
    config, ids, N = model.config, torch.tensor([tokens]), len(tokens) - (masked is None)
    L = config.num_hidden_layers
    masks = extras.get("mask", {})
    MASKS[:] = [layer_mask(m, detach, N) for m in (masks if isinstance(masks, list) else [masks] * L)]
    GATES.clear()
    if "learnt" in str(masks):
        weights = load_file(os.path.join(folder, "model.safetensors"))
        GATES.update({l: weights[f"backflow.layers.{l}.memory_gate"] for l in range(L)
                      if f"backflow.layers.{l}.memory_gate" in weights})
    inputs, targets, chosen = ids[:, :N].clone(), ids[0, -N:], list(range(N))
    if masked is not None:
        inputs[0, masked], chosen = extras["mask_token"], masked
    H = config.num_attention_heads
    G = getattr(config, "num_key_value_heads", None) or H
    site, seen = watch_sites(model), watch_weights(model)
    with all_float64(model) if dtype == torch.float64 else contextlib.nullcontext():
        out = model(inputs, output_attentions=not special, use_cache=False)
        loss = -torch.log_softmax(out.logits[0], -1)[torch.arange(N), targets]
        ref, own, future = walk_losses(loss[chosen], chosen, site, {"q": H, "k": G, "v": G, "z": H})
        ref |= weight_gradients(loss[chosen], chosen, site, seen, {"q": H, "k": G, "v": G, "o": H})
    ref["own.grad_norm"], ref["future.grad_norm"] = own.norm(dim=-1), future.norm(dim=-1)
    product = ref["own.grad_norm"] * ref["future.grad_norm"]
    ref["own_future.cosine"] = torch.where(product > 0, (own * future).sum(-1) / product, 0.0)
    ref["loss"] = loss
    attentions = [PATTERNS[l] for l in range(L)] if special else out.attentions
    ref["attn"] = torch.stack([a[0] for a in attentions])
    ref = {name: t.detach().double().contiguous() for name, t in ref.items()}
    ref["tokens"] = ids[0].clone()
    if masked is not None:
        ref["masked"] = torch.tensor(masked)
    return ref


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("model")
    ap.add_argument("--tokens", required=True)
    ap.add_argument("--dtype", default="float64")
    ap.add_argument("-o", "--out", required=True)
    args = ap.parse_args()
    torch.set_num_threads(1)
    tokens = [int(t) for t in args.tokens.split(",")]
    ref = trace(args.model, tokens, getattr(torch, args.dtype))
    save_file(ref, args.out, metadata={"maker": "tests/reference.py"})
    above = max(float(t.triu(1).abs().max()) for n, t in ref.items() if n.startswith("flow."))
    print(f"{args.model}: N={len(tokens) - 1} mean loss {float(ref['loss'].mean()):.6f} nats, "
          f"largest flow above the diagonal {above:g}")


if __name__ == "__main__":
    main()
