#!/usr/bin/env python3
"""Make the small models and references that tests/test_golden.c reads.

usage: make_goldens.py [--into tests/goldens] [NAME ...]
needs: torch, transformers, safetensors (pip); the tests themselves need no Python

Each case is a folder NAME with config.json, the weights, and ref.safetensors (tests/reference.py).
Axes are small and mostly distinct primes, so that a swapped axis cannot pass unseen; weights are
drawn large enough for uneven attention, biases and norm weights away from 0 and 1.
Printed for each case: how uneven the attention is, and how far PyTorch's own float32 is from the
reference (largest error over tensors, each relative to its largest value; the test allows 1e-4).
"""
import argparse
import json
import math
import os
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from reference import trace

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


def gpt2(L, H, D, V, **more):
    config = {"model_type": "gpt2", "n_layer": L, "n_head": H, "n_embd": D, "vocab_size": V,
              "n_positions": 16, "bos_token_id": None, "eos_token_id": None}
    return config | more


def llama(L, H, G, K, D, F, V, **more):
    config = {"model_type": "llama", "num_hidden_layers": L, "num_attention_heads": H,
              "num_key_value_heads": G, "head_dim": K, "hidden_size": D, "intermediate_size": F,
              "vocab_size": V, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
              "bos_token_id": None, "eos_token_id": None, "tie_word_embeddings": False}
    return config | more


# name: (config, N, how the weights are stored; or, of models with masks of our own: what is under
# "backflow" in config.json, and how they are traced)
CASES = {
    "gpt2_one_head": (gpt2(1, 1, 7, 23, n_positions=8), 8, {}),
    "gpt2_odd_heads": (gpt2(2, 3, 15, 29, n_inner=31), 11, {}),
    "gpt2_untied": (gpt2(2, 2, 10, 23, tie_word_embeddings=False), 9, {}),
    "gpt2_gelu_erf": (gpt2(2, 2, 14, 19, activation_function="gelu"), 9, {}),
    "gpt2_relu": (gpt2(2, 3, 9, 19, activation_function="relu", scale_attn_weights=False), 9, {}),
    "gpt2_inverse_layer": (gpt2(3, 2, 10, 19, scale_attn_by_inverse_layer_idx=True), 9, {}),
    "gpt2_f16": (gpt2(2, 3, 15, 23, n_inner=37), 9, {"dtype": F16}),
    "gpt2_old_names": (gpt2(2, 2, 14, 23), 7, {"old_gpt2": True}),
    "gpt2_two_tokens": (gpt2(2, 3, 15, 19, n_inner=17), 1, {}),
    "llama_grouped": (llama(2, 6, 2, 6, 18, 29, 23), 11, {}),
    "llama_tied": (llama(3, 3, 1, 4, 15, 19, 23, tie_word_embeddings=True), 9, {}),
    "llama_biases": (llama(2, 4, 2, 6, 20, 23, 29, attention_bias=True, mlp_bias=True), 9, {}),
    "llama_rope3": (llama(2, 2, 1, 12, 14, 19, 23, rope_parameters=LLAMA3,
                          max_position_embeddings=128), 13, {}),
    "llama_two_tokens": (llama(2, 4, 2, 2, 12, 13, 19), 1, {}),
    "llama_bf16": (llama(2, 6, 3, 2, 18, 23, 29), 9, {"dtype": BF16}),
    "llama_mixed_types": (llama(2, 2, 2, 6, 10, 17, 19), 7, {"dtype": BF16, "norms": F32}),
    "llama_shards": (llama(2, 4, 2, 4, 12, 29, 31), 8, {"shards": 3}),
    "llama_old_config": (llama(2, 2, 2, 6, 12, 17, 19, max_position_embeddings=128,
                               rope_parameters=LLAMA3 | {"rope_theta": 500.0}), 9,
                         {"old_llama": True}),
    "mistral_window": (llama(3, 4, 2, 6, 20, 29, 23, model_type="mistral", sliding_window=3), 12,
                       {}),
    "gpt2_sinks": (gpt2(3, 2, 10, 23), 13, {"extras": {"mask": {"window": 3, "sink": 2}}}),
    "gpt2_myopic": (gpt2(2, 3, 15, 19), 9, {"how": {"detach": "myopic"}}),
    "gpt2_encoder": (gpt2(2, 2, 14, 23), 11,
                     {"extras": {"mask": {"bidirectional": True}, "mask_token": 21},
                      "how": {"masked": [1, 4, 5, 9]}}),
    "llama_bidirectional": (llama(2, 4, 2, 4, 20, 19, 23), 8,
                            {"extras": {"mask": {"bidirectional": True}}}),
    "llama_segments": (llama(3, 4, 2, 4, 20, 19, 23), 14,
                       {"extras": {"mask": {"segment": 4, "memory": 3}}}),
    "llama_detached": (llama(3, 2, 1, 6, 10, 17, 19), 14,
                       {"extras": {"mask": {"segment": 4, "memory": 6, "detach": "memory"}}}),
    "gpt2_compressive": (gpt2(2, 3, 15, 19), 13,
                         {"extras": {"mask": {"segment": 4, "compressive": 0.4}}}),
    "gpt2_compressive_delta": (gpt2(2, 3, 15, 19), 15,
                               {"gates": 3, "extras": {"mask": [{"segment": 3, "compressive": 0.4, "gate": "learnt",
                                                                 "update": "delta"},
                                                                {"segment": 4, "compressive": 0.7,
                                                                 "update": "delta"}]}}),
    "llama_mixed_masks": (llama(3, 4, 2, 4, 12, 17, 19), 15,
                          {"extras": {"mask": [{"window": 4, "sink": 1}, {},
                                               {"segment": 5, "memory": 2}]}}),
    "qwen2_biases": (llama(2, 4, 2, 4, 16, 23, 19, model_type="qwen2", tie_word_embeddings=True),
                     9, {}),
}
SEED = 1


@torch.no_grad()
def draw_weights(model, generator):
    """Activations near 1, scores spread enough for uneven attention, nothing at its default."""
    def normal(like, std):
        return torch.randn(like.shape, generator=generator, dtype=torch.float32) * std

    for name, module in model.named_modules():
        kind, weight = type(module).__name__, getattr(module, "weight", None)
        if weight is None or (name == "lm_head" and model.config.tie_word_embeddings):
            continue
        if "Norm" in kind:
            weight.copy_(1 + normal(weight, 0.3))
        elif kind == "Embedding":
            weight.copy_(normal(weight, 0.5))
        else:                           # Conv1D stores [in,out], Linear [out,in]
            fan_in = weight.shape[0] if kind == "Conv1D" else weight.shape[1]
            gain = 1.8 if name.endswith(("q_proj", "k_proj")) else 1.2
            weight.copy_(normal(weight, gain / math.sqrt(fan_in)))
            if name.endswith("c_attn"):
                weight[:, : 2 * weight.shape[0]] *= 1.5
        if getattr(module, "bias", None) is not None:
            module.bias.copy_(normal(module.bias, 0.3))


def make_model(config, seed):
    config = dict(config)
    config = AutoConfig.for_model(config.pop("model_type"), **config)
    model = AutoModelForCausalLM.from_config(config)
    draw_weights(model, torch.Generator().manual_seed(seed))
    return model


def edit_json(path, edit):
    with open(path) as f:
        value = json.load(f)
    edit(value)
    with open(path, "w") as f:
        json.dump(value, f, indent=1, sort_keys=True)
        f.write("\n")


def edit_tensors(folder, edit):
    path = os.path.join(folder, "model.safetensors")
    tensors = load_file(path)
    edit(tensors)
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata={"format": "pt"})


def name_like_old_gpt2(tensors):
    """As in OpenAI's upload: no prefix, and the causal mask of every layer among the weights."""
    for name in list(tensors):
        tensors[name.removeprefix("transformer.")] = tensors.pop(name)
    for name in [n for n in tensors if n.endswith("attn.c_attn.weight")]:
        layer = name.removesuffix("c_attn.weight")
        tensors[layer + "bias"] = torch.ones(16, 16).tril()[None, None]
        tensors[layer + "masked_bias"] = torch.tensor(-10000.0)


def write_like_old_llama(folder):
    """As configs were before rope_parameters, and rotary tables among the weights."""
    def old_config(config):
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope
        config["torch_dtype"] = config.pop("dtype")
        for name in ("head_dim", "num_key_value_heads", "attention_bias", "mlp_bias"):
            del config[name]

    def old_tensors(tensors):
        for l in range(2):
            tensors[f"model.layers.{l}.self_attn.rotary_emb.inv_freq"] = torch.ones(3)

    edit_json(os.path.join(folder, "config.json"), old_config)
    edit_tensors(folder, old_tensors)


def save_shards(model, folder, shards):
    """Split by size as Hugging Face does, with the size searched that gives so many files."""
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    for percent in range(100 // shards, 101):
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder, max_shard_size=total * percent // 100)
        if len([f for f in os.listdir(folder) if f.endswith(".safetensors")]) == shards:
            return
    raise SystemExit(f"{folder}: no shard size gives {shards} files")


def save_model(model, folder, dtype=F32, norms=None, shards=1, old_gpt2=False, old_llama=False):
    shutil.rmtree(folder, ignore_errors=True)
    model = model.to(dtype)
    if shards > 1:
        save_shards(model, folder, shards)
    else:
        model.save_pretrained(folder)
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)
    if norms is not None:
        edit_tensors(folder, lambda t: t.update(
            {n: w.to(norms) for n, w in t.items() if w.dim() == 1}))
    if old_gpt2:
        edit_tensors(folder, name_like_old_gpt2)
    if old_llama:
        write_like_old_llama(folder)


def draw_tokens(vocabulary, n, seed):
    """N + 1 tokens of the whole vocabulary, first and last id and one repeated pair among them."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocabulary, (n + 1,), generator=generator).tolist()
    tokens[0], tokens[-1] = vocabulary - 1, 0
    if n >= 6:
        tokens[4:6] = tokens[1:3]
    return tokens


def largest_errors(found, ref):
    """{tensor: largest error relative to its largest value; grad_x_act to the largest of all}."""
    flow = max(float(t.abs().max()) for n, t in ref.items() if n.endswith("grad_x_act"))
    errors = {}
    for name in ref:
        scale = flow if name.endswith("grad_x_act") else float(ref[name].abs().max())
        scale = 1.0 if name.endswith("cosine") else scale
        error = float((found[name].double() - ref[name].double()).abs().max())
        errors[name] = error / scale if scale else (math.inf if error else 0.0)
    return errors


def check_reference(name, ref, config):
    """What must hold whatever the weights: refuse to write a reference that breaks it."""
    for key, t in ref.items():
        assert torch.isfinite(t).all(), f"{name}: {key} is not finite"
        if key.startswith("flow.") and "bidirectional" not in str(config):
            assert t.triu(1).abs().max() == 0, f"{name}: {key} flows to later tokens"
    assert torch.equal(ref["flow.attn_out.grad_norm"], ref["flow.resid_mid.grad_norm"]), name
    assert torch.equal(ref["flow.mlp_out.grad_norm"][-1], ref["flow.resid_final.grad_norm"]), name
    window = config.get("sliding_window")
    if window:
        lag = torch.arange(len(ref["loss"]))
        lag = lag[:, None] - lag[None]
        seen = ref["attn"].amin((0, 1)) > 0
        assert torch.equal(seen, (lag >= 0) & (lag < window)), f"{name}: window is not {window}"


def make_case(into, name, seed):
    config, n, storage = CASES[name]
    storage = dict(storage)
    extras, how, gates = storage.pop("extras", {}), storage.pop("how", {}), storage.pop("gates", 0)
    folder = os.path.join(into, name)
    save_model(make_model(config, seed), folder, **storage)
    if extras:
        edit_json(os.path.join(folder, "config.json"), lambda c: c.update(backflow=extras))
    if gates:                           # of layer 0, one a head
        edit_tensors(folder, lambda t: t.update({"backflow.layers.0.memory_gate": torch.linspace(-1, 2, gates)}))
    config = config | extras
    tokens = draw_tokens(config["vocab_size"], n, seed)[: n if "masked" in how else n + 1]
    ref = trace(folder, tokens, **how)
    check_reference(name, ref, config)
    save_file(ref, os.path.join(folder, "ref.safetensors"),
              metadata={"maker": "tests/make_goldens.py"} |
                       ({"detach": how["detach"]} if "detach" in how else {}))
    single = largest_errors(trace(folder, tokens, F32, **how), ref)
    worst = max(single, key=single.get)
    assert single[worst] < 2e-5, f"{name}: {worst} leaves float32 no margin, draw it again"
    size = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
    entropy = -(ref["attn"] * ref["attn"].clamp_min(1e-300).log()).sum(-1)[..., -1].mean()
    print(f"{name:20} N {n:2} {size:7} bytes, mean loss {float(ref['loss'].mean()):5.2f}, "
          f"attention {math.exp(entropy):4.1f} of {n:2} keys, "
          f"float32 {single[worst]:.1e} ({worst})")
    return size


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = os.path.dirname(os.path.abspath(__file__))
    ap.add_argument("--into", default=os.path.join(here, "goldens"))
    ap.add_argument("names", nargs="*", help="cases to make (default: all)")
    args = ap.parse_args()
    torch.set_num_threads(1)
    names = args.names or list(CASES)
    total = sum(make_case(args.into, name, SEED) for name in names)
    print(f"{len(names)} cases, {total} bytes")


if __name__ == "__main__":
    main()
