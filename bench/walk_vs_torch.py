#!/usr/bin/env python3
"""Time the walk against PyTorch, in one run on one machine.

usage: walk_vs_torch.py [--shape gpt2|llama] [--n 64,128] [--repeats 5] [--threads 2] [--sample 0]
                        [--cache build/bench] [--backflow build/backflow] [--skip MODE,...] [--write]
needs: torch, transformers, safetensors; the modes captum and inseq run if those can be imported

The job: a model of random weights (gpt2: 12 layers, 768 wide, 12 heads, vocabulary 50,257; llama: 16
layers, 1,024 wide, 16 heads, 4 key/value heads, SwiGLU 2,816, vocabulary 32,000), N random tokens, all N
losses; for every loss, the norm of the gradient and its inner product with the activation, at every
position of resid_pre and resid_mid of each layer and resid_final. Float32.
Modes, each a forward and the backward passes, from tokens to scores:
  loop        torch.autograd.grad once a loss, weights frozen
  batched     is_grads_batched=True, in chunks of losses
  replicated  the text once a loss in a batch, one backward a chunk; head only where there is a loss
  prefix      what an expert may write: blocks of losses, each on the text up to the block's last
              loss; the head's part of the gradient made once a block for all its losses
  captum, inseq  the gradient's norm at the input embeddings only: less than the others compute
  backflow    the command's own forward and walk, as its record states them; and the whole process
  backflow, all nine sites   the same with attn_out, mlp_out and each head's q, k, v, z: more than
              PyTorch's modes do, which keep to the residual sites
  backflow, one site         grad_norm at resid_pre alone: what recording costs
  backflow in bf16           the residual sites with products of rounded operands
Before timing, each PyTorch mode picks the fastest of both attention implementations and several
chunk sizes at this N. Repeats are interleaved. All results are compared with those of the loop.
A section of bench/RESULTS.md for each shape and N; --write replaces it.
"""
import argparse
import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time

import torch_walks
import torch
import transformers
from safetensors import safe_open
from transformers import AutoModelForCausalLM

import common

RESIDUAL = "resid_pre,resid_mid,resid_final"
BOTH = "grad_norm,grad_x_act"
# rows of backflow's: (sites, scores, precision)
WAYS = {"backflow": (RESIDUAL, BOTH, "f32"),
        "backflow, all nine sites": (RESIDUAL + ",attn_out,mlp_out,q,k,v,z", BOTH, "f32"),
        "backflow, one site": ("resid_pre", "grad_norm", "f32"),
        "backflow in bf16": (RESIDUAL, BOTH, "bf16")}
SHAPES = {"gpt2": "GPT-2-small shape", "llama": "Llama shape of 16 layers, 1,024 wide"}


class Backflow:
    """One way of running the command; seconds of its parts are kept in parts. losses: None, or those to
    walk, and the walk's seconds are multiplied by the FLOPs of all over theirs."""

    def __init__(self, args, folder, way, ids, targets, losses=None):
        tokens = ",".join(map(str, ids.tolist() + [int(targets[-1])]))
        sites, scores, precision = WAYS[way]
        self.path = os.path.join(args.cache, "run.safetensors")
        self.command = [args.backflow, "trace", folder, "--tokens", tokens, "--sites", sites, "--scores",
                        scores, "--precision", precision, "--threads", str(args.threads)]
        self.parts = {"forward": [], "walk": [], "process": []}
        self.losses, self.scale = losses, 1
        if losses:
            some = ["--losses", ",".join(map(str, losses))]
            self.scale = self.gflops() / self.gflops(some)
            self.command += some

    def run(self):
        """(seconds of forward and walk, grad_norm of the residual sites in the order of Scores)"""
        start = time.perf_counter()
        subprocess.run(self.command + ["-o", self.path], check=True, capture_output=True)
        self.parts["process"].append(time.perf_counter() - start)
        with safe_open(self.path, "pt") as record:
            meta = record.metadata()
            norms = [record.get_tensor(f"flow.{site}.grad_norm") for site in RESIDUAL.split(",")
                     if f"flow.{site}.grad_norm" in record.keys()]
        self.parts["forward"].append(float(meta["seconds_forward"]))
        self.parts["walk"].append(self.scale * float(meta["seconds_walk"]))
        if self.losses:
            norms = [self.spread(norm) for norm in norms]
        if len(norms) == 1:
            norm = norms[0][0]
        else:
            norm = torch.cat([torch.stack(norms[:2], 1).flatten(0, 1), norms[2][None]])
        return self.parts["forward"][-1] + self.parts["walk"][-1], norm

    def spread(self, norm):
        """Rows of the chosen losses among those of all, which are 0."""
        whole = torch.zeros(*norm.shape[:-2], norm.shape[-1], norm.shape[-1])
        whole[..., self.losses, :] = norm
        return whole

    def gflops(self, some=()):
        """That the walk needs, as its plan counts them."""
        out = subprocess.run([*self.command, *some, "--dry-run", "--json"], check=True, capture_output=True,
                             text=True).stdout
        return json.loads(out)["flops"] / 1e9


def make_model(args):
    if args.shape == "llama":
        return common.write_llama(os.path.join(args.cache, "llama-16"), 16, 1024, 16, 4, 2816)
    return common.write_gpt2(os.path.join(args.cache, "gpt2-12"), 12)


def measure_sgemm(threads, size=4096, repeats=5):
    """Best GFLOP/s of repeats products of size x size matrices."""
    torch.set_num_threads(threads)
    a, b = torch.randn(2, size, size)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def timed(run, *job):
    start = time.perf_counter()
    found = run(*job)
    return time.perf_counter() - start, found


def run_sampled(walk, torch_model, blocks, ids, targets):
    """Seconds for all losses, from those of the blocks; what is done once is counted once."""
    took, scores = timed(walk, torch_model, ids, targets, blocks)
    some = sum(map(len, blocks))
    once = 0.0
    if some < len(ids) and walk in (torch_walks.walk_loop, torch_walks.walk_batched):
        once, _ = timed(lambda: torch_model.losses(torch_model.forward(ids[None])[1][0], targets))
    return once + (took - once) * len(ids) / some, scores.norm


def prepare_torch(args, models, ids, targets):
    """{mode: (description, function that returns (seconds, grad_norm))}."""
    jobs = {}
    for mode in torch_walks.MODES:
        if mode in args.skip:
            continue
        walk, attention, chunk = torch_walks.choose(mode, models, ids, targets)
        way = walk.__name__.removeprefix("walk_").replace("_", " and ")
        what = f"{way} ({attention}, {chunk} at a time)"
        blocks = torch_walks.spread(len(ids), max(chunk, 8 if args.sample else 1), args.sample or len(ids))
        if sum(map(len, blocks)) < len(ids):
            what += f", from {sum(map(len, blocks))} losses"
        job = (walk, models[attention], blocks, ids, targets)
        jobs[mode] = (what, lambda job=job: run_sampled(*job))
    return jobs


def prepare_others(args, folder, ids, targets):
    """The same of captum and inseq, where they are wanted and there."""
    jobs, plain = {}, None
    for mode, run in (("captum", torch_walks.walk_captum), ("inseq", torch_walks.walk_inseq)):
        if mode in args.skip:
            continue
        if not importlib.util.find_spec(mode):
            print(f"{mode} is not installed: left out", file=sys.stderr)
            continue
        if not plain:
            plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            plain.eval().requires_grad_(False)
        model = plain if mode == "captum" else torch_walks.open_inseq(plain)
        jobs[mode] = (f"{mode} {importlib.metadata.version(mode)} (embeddings only)",
                      lambda run=run, model=model: timed(run, model, ids, targets))
    return jobs


def compare(found, ref):
    """Largest difference from the loop's grad_norm, relative to the site's largest; 0 if they have
    no loss in common."""
    if found.dim() == 2:
        found, ref = found[None], ref[:1]
    both = (found[-1] != 0).any(-1) & (ref[-1] != 0).any(-1)    # losses that both have walked
    if not both.any():
        return 0.0
    found, ref = found[:, both], ref[:, both]
    scale = ref.amax((1, 2), keepdim=True)
    return float(((found - ref).abs() / scale).max())


def measure(jobs, repeats):
    """{mode: [seconds]}, {mode: difference from the first}; repeats interleaved."""
    seconds, differs, ref = {mode: [] for mode in jobs}, dict.fromkeys(jobs, 0.0), None
    for r in range(repeats):
        for mode, (_, run) in jobs.items():
            took, norm = run()
            seconds[mode].append(took)
            ref = norm if ref is None else ref
            differ = compare(norm, ref)
            if not differ < (2e-2 if "bf16" in mode else 1e-3):
                sys.exit(f"{mode} is off by {differ:g}: it does not do the same job")
            differs[mode] = max(differs[mode], differ)
            print(f"  repeat {r + 1} {mode}: {took:.2f} s", file=sys.stderr, flush=True)
    return seconds, differs


def table(N, jobs, seconds, differs):
    """Markdown: a row a mode. The ratio's base is the better of loop and batched."""
    pairs = N * (N + 1) // 2
    base = min((statistics.median(seconds[m]) for m in ("loop", "batched") if m in seconds),
               default=None)
    lines = [f"| N = {N}, {pairs} pairs (i,j) | seconds, median (least to most) | pairs a second, "
             "median (best) | against the better of loop and batched | off by |",
             "|---|---|---|---|---|"]
    for mode, times in seconds.items():
        median = statistics.median(times)
        ratio = f"{base / median:.2f}" if base else ""
        differ = f"{differs[mode]:.0e}" if mode in differs else ""
        what = jobs[mode][0] if mode in jobs else mode
        lines.append(f"| {what} | {median:.2f} ({min(times):.2f} to {max(times):.2f}) | "
                     f"{pairs / median:.0f} ({pairs / min(times):.0f}) | {ratio} | {differ} |")
    return lines + [""]


def table_peak(runs, peak):
    """What backflow's walk reaches of the peak, and what recording costs."""
    least = statistics.median(runs["backflow, one site"].parts["walk"])
    lines = ["| the walk alone | seconds, median | GFLOP/s, of what it needs | of SGEMM peak | on top of one "
             "site |", "|---|---|---|---|---|"]
    for way, run in runs.items():
        walk = statistics.median(run.parts["walk"])
        rate = run.gflops() * run.scale / walk
        lines.append(f"| {way} | {walk:.2f} | {rate:.0f} | {100 * rate / peak:.0f} % | "
                     f"{100 * (walk / least - 1):+.1f} % |")
    return lines + [""]


def table_forward(args, models, run, ids, targets):
    """PyTorch's forward, interleaved with the command (whose seconds_forward are read)."""
    took = {}
    for _ in range(args.repeats):
        run.run()
        took.setdefault("backflow: losses and their gradient at the final norm's output", []).append(
            run.parts["forward"][-1])
        for attention, model in models.items():
            for what, forward in (("losses, under no_grad", torch_walks.forward_losses),
                                  ("losses and their gradient at the head's input",
                                   torch_walks.forward_and_head)):
                took.setdefault(f"PyTorch ({attention}): {what}", []).append(
                    timed(forward, model, ids, targets)[0])
    lines = ["| forward alone | seconds, median (least to most) |", "|---|---|"]
    for what, times in took.items():
        lines.append(f"| {what} | {statistics.median(times):.3f} ({min(times):.3f} to {max(times):.3f}) |")
    return lines + [""]


def run_size(args, folder, models, N):
    """The section of one N."""
    machine = common.describe_machine(torch, transformers)
    peaks = {t: measure_sgemm(t) for t in sorted({1, args.threads})}
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(N)
    vocabulary = json.load(open(os.path.join(folder, "config.json")))["vocab_size"]
    tokens = torch.randint(vocabulary, (N + 1,), generator=generator)
    ids, targets = tokens[:-1], tokens[1:]
    jobs = prepare_torch(args, models, ids, targets)
    jobs.update(prepare_others(args, folder, ids, targets))
    losses = None
    if args.sample and N >= args.sample_from:
        losses = sorted({i for some in (args.sample, max(args.sample, args.walked))
                         for block in torch_walks.spread(N, 8, some) for i in block})
    from_some = f", from {len(losses)} losses" if losses else ""
    runs = {way: Backflow(args, folder, way, ids, targets, losses) for way in WAYS
            if "backflow" not in args.skip}
    jobs.update({way: (f"{way}, forward and walk{from_some}", run.run) for way, run in runs.items()})
    seconds, differs = measure(jobs, args.repeats)
    if runs and not losses:
        seconds["backflow, whole process"] = runs["backflow"].parts["process"].copy()
    lines = [machine, "", f"{SHAPES[args.shape]}; {args.repeats} interleaved repeats, {args.threads} threads. "
             "Residual sites, both scores, unless a row says otherwise.", "",
             *table(N, jobs, seconds, differs)]
    again = measure_sgemm(args.threads)
    if runs:
        lines += table_peak(runs, max(peaks[args.threads], again))
        lines += table_forward(args, models, Backflow(args, folder, "backflow, one site", ids, targets, [0]),
                               ids, targets)
    return lines + ["SGEMM 4096 x 4096 x 4096 by torch.matmul, GFLOP/s: "
                    + ", ".join(f"{rate:.0f} on {t} thread{'s' * (t > 1)}" for t, rate in peaks.items())
                    + f"; {again:.0f} on {args.threads} after the runs (the peak is the larger)."]


def parse_arguments():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--shape", choices=list(SHAPES), default="gpt2")
    ap.add_argument("--n", default="64,128")
    ap.add_argument("--repeats", type=int, default=5)
    ap.add_argument("--sample", type=int, default=0, help="PyTorch walks about so many losses of "
                    "long texts, evenly spread; 0: all")
    ap.add_argument("--sample-from", type=int, default=512, help="texts of so many positions: backflow, too, "
                    "walks some losses only, and its time stands for all by their FLOPs")
    ap.add_argument("--walked", type=int, default=64, help="about so many of them: for few it packs weights "
                    "as often as for all")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--cache", default="build/bench")
    ap.add_argument("--backflow", default="build/backflow")
    ap.add_argument("--skip", default="", help="modes to leave out, with commas")
    ap.add_argument("--write", action="store_true", help="into RESULTS.md")
    ap.add_argument("--out", default=common.HERE, help="the folder of RESULTS.md")
    args = ap.parse_args()
    args.skip = args.skip.split(",")
    if "backflow" not in args.skip and not os.access(args.backflow, os.X_OK):
        ap.error(f"{args.backflow} is not there: make it, or --skip backflow")
    return args


def main():
    args = parse_arguments()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    os.makedirs(args.cache, exist_ok=True)
    folder = make_model(args)
    models = {attention: torch_walks.Torch(folder, attention) for attention in ("eager", "sdpa")}
    for N in map(int, args.n.split(",")):
        lines = run_size(args, folder, models, N)
        title = f"The walk against PyTorch: {SHAPES[args.shape]}, N = {N}"
        print(f"## {title}\n\n" + "\n".join(lines) + "\n", flush=True)
        if args.write:
            common.put_section(args.out, title, lines)


if __name__ == "__main__":
    main()
