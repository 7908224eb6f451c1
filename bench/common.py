"""What the benchmarks share: models of random weights, records, the machine, sections of RESULTS.md."""
import datetime
import json
import math
import os
import platform
import struct
import subprocess
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
TYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64}


def read_record(path):
    """(metadata, {name: array}); arrays are views of the mapped file."""
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
    data = np.memmap(path, np.uint8, "r", 8 + size)
    meta = header.pop("__metadata__", {})
    arrays = {}
    for name, t in header.items():
        a, b = t["data_offsets"]
        arrays[name] = data[a:b].view(TYPES[t["dtype"]]).reshape(t["shape"])
    return meta, arrays


# --- models

def write_tensors(path, tensors, bf16):
    """Random weights; norms are 1, biases 0; tensors {name: shape}."""
    noise = np.random.default_rng(1).normal(0, 0.02, 1 << 22).astype(np.float32)
    header, at, size = {}, 0, 2 if bf16 else 4
    for name, shape in tensors.items():
        n = size * math.prod(shape)
        header[name] = {"dtype": "BF16" if bf16 else "F32", "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for k, (name, shape) in enumerate(tensors.items()):
            n = math.prod(shape)
            if len(shape) == 1:
                values = np.full(n, 0.0 if name.endswith("bias") else 1.0, np.float32)
            else:
                values = np.resize(np.roll(noise, 977 * k), n)
            f.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes() if bf16
                    else values.tobytes())


def write_model(folder, config, tensors, bf16=False):
    """A Hugging Face folder; what stands there already is taken as it is if the config is the same."""
    path = os.path.join(folder, "model.safetensors")
    known = os.path.join(folder, "config.json")
    if os.path.exists(path) and os.path.exists(known) and json.load(open(known)) == config:
        return folder
    os.makedirs(folder, exist_ok=True)
    print(f"  writing {folder}", file=sys.stderr, flush=True)
    write_tensors(path + ".tmp", tensors, bf16)
    os.rename(path + ".tmp", path)
    with open(known, "w") as f:
        json.dump(config, f)
    return folder


def write_gpt2(folder, layers, positions=1024, width=768, vocabulary=50257):
    tensors = {"wte.weight": (vocabulary, width), "wpe.weight": (positions, width),
               "ln_f.weight": (width,), "ln_f.bias": (width,)}
    for l in range(layers):
        for name, shape in (("ln_1", None), ("ln_2", None), ("attn.c_attn", (width, 3 * width)),
                            ("attn.c_proj", (width, width)), ("mlp.c_fc", (width, 4 * width)),
                            ("mlp.c_proj", (4 * width, width))):
            tensors[f"h.{l}.{name}.weight"] = shape or (width,)
            tensors[f"h.{l}.{name}.bias"] = (shape[1] if shape else width,)
    return write_model(folder, {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"],
                                "n_layer": layers, "n_head": width // 64, "n_embd": width,
                                "n_positions": positions, "vocab_size": vocabulary},
                       {"transformer." + name: shape for name, shape in tensors.items()})


def write_llama(folder, layers, width, heads, groups, hidden, vocabulary=32000, bf16=False):
    kv = width // heads * groups
    tensors = {"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,),
               "lm_head.weight": (vocabulary, width)}
    for l in range(layers):
        for name, shape in (("input_layernorm", (width,)), ("post_attention_layernorm", (width,)),
                            ("self_attn.q_proj", (width, width)), ("self_attn.k_proj", (kv, width)),
                            ("self_attn.v_proj", (kv, width)), ("self_attn.o_proj", (width, width)),
                            ("mlp.gate_proj", (hidden, width)), ("mlp.up_proj", (hidden, width)),
                            ("mlp.down_proj", (width, hidden))):
            tensors[f"model.layers.{l}.{name}.weight"] = shape
    return write_model(folder, {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": layers,
        "hidden_size": width, "num_attention_heads": heads, "num_key_value_heads": groups,
        "intermediate_size": hidden, "hidden_act": "silu", "vocab_size": vocabulary,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": False}, tensors, bf16)


def stretch(folder, source, positions):
    """source, which has rotary positions, with more of them: its files beside another config."""
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(source):
        there = os.path.join(folder, name)
        if name != "config.json" and not os.path.lexists(there):
            os.symlink(os.path.abspath(os.path.join(source, name)), there)
    config = json.load(open(os.path.join(source, "config.json")))
    config["max_position_embeddings"] = positions
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    return folder


# --- the machine, and what was found on it

def commit():
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True,
                         text=True)
    return git.stdout.strip() or "?"


def describe_machine(*packages):
    """One paragraph: processor, load, versions, date, commit and command."""
    with open("/proc/cpuinfo") as f:
        cpu = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "?")
    versions = [f"{p.__name__} {p.__version__}" for p in packages]
    command = " ".join(["python3", os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]])
    return (f"{datetime.date.today()}, {cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the "
            f"start; backflow {commit()}, Python {platform.python_version()}, "
            f"{', '.join(versions)}; `{command}`")


def replace_file(path, text):
    with open(path + ".tmp", "w") as f:
        f.write(text)
    os.rename(path + ".tmp", path)


def put_section(folder, title, lines):
    """Write a section of folder/RESULTS.md in place of the one of this title, or behind all others."""
    path = os.path.join(folder, "RESULTS.md")
    text = open(path).read() if os.path.exists(path) else "# Measured\n"
    parts = text.rstrip("\n").split("\n## ")
    at = next((k for k, part in enumerate(parts) if k and part.split("\n")[0] == title), len(parts))
    parts[at:at + 1] = ["\n".join([title, "", *lines])]
    replace_file(path, "\n\n## ".join(part.strip("\n") for part in parts) + "\n")


def read_times(folder):
    """What bench/plot.c reads: see there."""
    path = os.path.join(folder, "times.json")
    return json.load(open(path)) if os.path.exists(path) else {}


def put_times(folder, kind, name, values):
    """Write values under kind and name in folder/times.json, which bench/plot.c draws."""
    times = read_times(folder)
    times.setdefault(kind, {})[name] = values
    replace_file(os.path.join(folder, "times.json"), json.dumps(times, indent=1) + "\n")
