#!/usr/bin/env python3
"""Time training against PyTorch, in one run on one machine.

usage: train_vs_torch.py [--shapes 4x128,4x256,6x384] [--batch 8] [--steps 6] [--rounds 3] [--threads 2]
                         [--backflow build/backflow] [--write]
needs: torch, transformers

The job: GPT-2's architecture (layers x width, heads 32 or 64 wide, vocabulary 1,024, tied), sequences of
256 random tokens, AdamW, gradients clipped to 1. PyTorch: eager, fused AdamW, fused attention (sdpa), in
float32 and, where the processor multiplies bfloat16, under autocast to it; backflow beside both with
"precision": "f32" and "bf16". Ratios are to PyTorch in float32, and in the same precision. Rounds are interleaved; a round's first step is left out; figures are medians of the steps, and the
best. backflow's steps are as its log states them.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel

import common

HERE = Path(__file__).resolve().parent
CONTEXT, VOCABULARY = 256, 1024
WORDS = {("PyTorch", "f32"): "PyTorch", ("PyTorch", "bf16"): "PyTorch bf16 (autocast)",
         ("backflow", "f32"): "backflow", ("backflow", "bf16"): "backflow bf16"}


def has_bf16():
    return " avx512_bf16" in Path("/proc/cpuinfo").read_text()


class Torch:
    def __init__(self, layers, width, heads, batch, precision):
        config = GPT2Config(n_layer=layers, n_embd=width, n_head=heads, vocab_size=VOCABULARY,
                            n_positions=CONTEXT, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
                            bos_token_id=0, eos_token_id=0)
        torch.manual_seed(1)
        self.model = GPT2LMHeadModel._from_config(config, attn_implementation="sdpa")
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        self.batch, self.half = batch, precision == "bf16"

    def step(self):
        tokens = torch.randint(VOCABULARY, (self.batch, CONTEXT + 1))
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            logits = self.model(input_ids=tokens[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return time.perf_counter() - began

    def round(self, steps):
        return [self.step() for _ in range(steps + 1)][1:]


class Backflow:
    def __init__(self, layers, width, heads, args, precision, folder):
        folder.mkdir()
        tokens = torch.randint(VOCABULARY, (100000,)).to(torch.int16)
        (folder / "tokens.bin").write_bytes(tokens.numpy().tobytes())
        self.config = folder / "config.json"
        self.config.write_text(json.dumps(dict(
            model=dict(family="gpt2", layers=layers, width=width, heads=heads, positions=CONTEXT),
            data=dict(tokens=["tokens.bin"], vocabulary=VOCABULARY),
            optimizer=dict(rate=1e-3, decay=0.01, clip=1), context=CONTEXT, batch=args.batch,
            steps=args.steps + 1, seed=1, precision=precision)))
        self.folder, self.args, self.n = folder, args, 0

    def round(self, steps):
        self.n += 1
        out = self.folder / ("run%d" % self.n)
        subprocess.run([self.args.backflow, "train", self.config, "-o", out,
                        "--threads", str(self.args.threads)], check=True, capture_output=True)
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        return [line["seconds"] for line in lines][1:]


def flops_a_token(layers, width):
    """Of matrix products: forward and twice that back; attention as if it were half full."""
    return 6 * (12 * layers * width * width + VOCABULARY * width) + 6 * layers * CONTEXT * width


def gemm_rate(threads):
    torch.set_num_threads(threads)
    a = torch.randn(3072, 3072)
    best = 1e9
    for _ in range(3):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2 * 3072 ** 3 / best / 1e9


def compare(layers, width, args):
    heads = 4 if width <= 256 else width // 64
    with tempfile.TemporaryDirectory() as folder:
        sides = {}
        for p in ("f32", "bf16") if has_bf16() else ("f32",):
            sides["PyTorch", p] = Torch(layers, width, heads, args.batch, p)
            sides["backflow", p] = Backflow(layers, width, heads, args, p, Path(folder) / p)
        seconds = {key: [] for key in sides}
        for _ in range(args.rounds):
            for key, side in sides.items():
                seconds[key] += side.round(args.steps)
    tokens, work = args.batch * CONTEXT, flops_a_token(layers, width)
    median = {key: tokens / statistics.median(s) for key, s in seconds.items()}
    return ["| %d x %d | %s | %.0f (%.0f) | %.0f | %.2f | %.2f |"
            % (layers, width, WORDS[key], median[key], tokens / min(s), median[key] * work / 1e9,
               median[key] / median["PyTorch", "f32"], median[key] / median["PyTorch", key[1]])
            for key, s in seconds.items()]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--shapes", default="4x128,4x256,6x384")
    for name, value in (("batch", 8), ("steps", 6), ("rounds", 3), ("threads", 2)):
        p.add_argument("--" + name, type=int, default=value, help="default %(default)s")
    p.add_argument("--backflow", default=str(HERE.parent / "build/backflow"))
    p.add_argument("--write", action="store_true", help="into bench/RESULTS.md")
    args = p.parse_args()
    machine = common.describe_machine(torch, transformers)
    gemm = gemm_rate(args.threads)
    out = [machine, "",
           "%d threads, SGEMM %.0f GFLOP/s. Batches of %d sequences of %d tokens; %d interleaved rounds of %d steps."
           % (args.threads, gemm, args.batch, CONTEXT, args.rounds, args.steps), "",
           "| layers x width | | tokens a second, median (best) | GFLOP/s | against PyTorch | in its precision |",
           "|---|---|---|---|---|---|"]
    for shape in args.shapes.split(","):
        rows = compare(*map(int, shape.split("x")), args)
        print("\n".join(rows), flush=True)
        out += rows
    text = "\n".join(out) + "\n"
    print("\n" + text)
    if args.write:
        common.put_section(HERE, "Training against PyTorch", out)


if __name__ == "__main__":
    sys.exit(main())
