#!/usr/bin/env python3
"""Time backflow's own choices against each other, in one run on one machine.

usage: modes.py [--only SECTION,...] [--repeats 5] [--n 128] [--write] [--out bench] ... (--help lists all)
needs: numpy; no PyTorch

Sections, each a part of RESULTS.md of its own. Seconds are the walk's (seconds_walk), as records state
them; medians of interleaved repeats, those of N from --once-from on taken once.
  scores     what each score costs on top of grad_norm at resid_pre (GPT-2-small shape)
  precision  f32 and bf16; both's error against f64 on small trained and random models
  threads    one thread against two
  fold       with and without, and time against N (kjv-1m, its rotary positions extended; GPT-2 width)
  growth     time against N (GPT-2 width, 4 layers)
  long       N = 1,024 on 12 layers; up to 4,096 on 4: time, memory, attention's share
  zoom       an overview of 64 blocks against all losses (GPT-2 width, 4 layers)
  big        seconds and resident size of a 1.1-billion-parameter Llama shape
  prune      speed and true error against tolerance (kjv-1m; stories260K where it is found)
fold, growth, long and prune also write times.json, which bench/plot.c draws.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np

import common

ALL_SITES = ("--sites", "resid_pre,resid_mid,resid_final,attn_out,mlp_out,q,k,v,z",
             "--scores", "grad_norm,grad_x_act")
KJV = "examples/models/kjv-1m"
GPT2_4 = "GPT-2 width, 4 layers"


def sgemm_peak(size=4096, repeats=5):
    """Best GFLOP/s of a product of size x size matrices on all cores."""
    a, b = np.random.default_rng(1).standard_normal((2, size, size), np.float32)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def row_error(found, exact):
    """Largest over layers and losses of sum_j |found - exact| / sum_j exact."""
    return float((np.abs(found - exact).sum(-1) / np.maximum(exact.sum(-1), 1e-300)).max())


def exponent(seconds):
    """b of seconds = a N^b, by least squares of logarithms; seconds {N: s}."""
    N = np.array([float(n) for n in seconds])
    return float(np.polyfit(np.log(N), np.log(list(seconds.values())), 1)[0]) if len(N) > 1 else 0.0


class Bench:
    def __init__(self, args):
        self.args = args
        self.record = os.path.join(args.cache, "modes.safetensors")
        self.peak = None

    # --- models and texts

    def gpt2(self, layers):
        return common.write_gpt2(os.path.join(self.args.cache, f"gpt2-{layers}"), layers,
                                 positions=4096 if layers < 12 else 1024)

    def trained(self):
        """[(name, folder, a text of its kind or None)]"""
        kjv = os.path.join(self.args.cache, "kjv.txt")
        if not os.path.exists(kjv) and shutil.which("bible"):
            with open(kjv, "w") as f:
                subprocess.run(["sh", "tools/kjv.sh"], stdout=f, check=True)
        found = [("kjv-1m", KJV, kjv)]
        if os.path.isdir("../shared/models/stories260K"):
            found.append(("stories260K", "../shared/models/stories260K",
                          "../shared/text/tinystories_sample.txt"))
        return [(name, folder, text if os.path.exists(text) else None) for name, folder, text in found]

    def tokens(self, model, n, text=None):
        """n + 1 tokens: the text's first, else random ones."""
        if not text:
            vocabulary = json.load(open(os.path.join(model, "config.json")))["vocab_size"]
            return np.random.default_rng(n).integers(0, vocabulary, n + 1).tolist()
        with open(text) as f:
            start = f.read(20 * n + 1000)
        part = os.path.join(self.args.cache, "modes.txt")
        with open(part, "w") as f:
            f.write(start)
        out = subprocess.run([self.args.backflow, "tokenize", model, "--file", part, "--json"],
                             check=True, capture_output=True, text=True).stdout
        os.remove(part)
        return json.loads(out)["ids"][:n + 1]

    # --- runs

    def command(self, model, n, options, text=None):
        base = ["--threads", str(self.args.threads), "--sites", "resid_pre", "--scores", "grad_norm"]
        command = [self.args.backflow, "trace", model, "--no-attn", "--tokens",
                   ",".join(map(str, self.tokens(model, n, text)))]
        for k in range(0, len(base), 2):
            if base[k] not in options:
                command += base[k:k + 2]
        return command + list(options)

    def trace(self, model, n, *options, text=None):
        """(metadata, arrays) of one run; also sets resident, cpu and wall. Options win over defaults."""
        command = self.command(model, n, options, text) + ["-o", self.record]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        complaint = process.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        self.wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{model}, N = {n}, {' '.join(options)}: exit {process.returncode}: "
                             f"{complaint.strip()}")
        self.resident, self.cpu = usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime
        return common.read_record(self.record)

    def seconds(self, model, n, *options, text=None):
        return float(self.trace(model, n, *options, text=text)[0]["seconds_walk"])

    def plan(self, model, n, *options):
        return json.loads(subprocess.run(self.command(model, n, options) + ["--dry-run", "--json"], check=True,
                                         capture_output=True, text=True).stdout)

    def flops(self, model, n, *options):
        """Of the walk's products, as the plan counts them: without the fold."""
        return self.plan(model, n, *options)["flops"]

    def every(self, n):
        return self.args.every if n >= self.args.once_from else 1

    def words(self, n):
        return f"every {self.every(n)}th" if self.every(n) > 1 else "all"

    def whole(self, model, n, *options):
        """(seconds of the walk of all losses, metadata). Of long texts every so-manieth loss is walked, and
        its time multiplied by the whole's FLOPs over theirs."""
        k = self.every(n)
        part = ("--losses", ",".join(map(str, range(k - 1, n, k)))) if k > 1 else ()
        meta, _ = self.trace(model, n, *part, *options)
        scale = self.flops(model, n, *options) / self.flops(model, n, *part, *options) if part else 1
        return float(meta["seconds_walk"]) * scale, meta

    def of_peak(self, seconds, model, n, *options):
        """'87 %': FLOPs that the plan counts, a second, over SGEMM of this run."""
        self.peak = self.peak or sgemm_peak()
        return f"{100 * self.flops(model, n, *options) / seconds / 1e9 / self.peak:.0f} %"

    def race(self, jobs, once=()):
        """jobs {name: function giving seconds}: {name: (median, least, most)}, interleaved; those in
        once are taken once."""
        took = {name: [] for name in jobs}
        for r in range(self.args.repeats):
            for name, run in jobs.items():
                if r and name in once:
                    continue
                took[name].append(run())
                print(f"  {name}: {took[name][-1]:.3f} s", file=sys.stderr, flush=True)
        return {name: (statistics.median(t), min(t), max(t)) for name, t in took.items()}

    def table(self, title, base, found):
        """Ratios to the job named base."""
        lines = [f"| {title} | seconds, median (least to most) | time over {base} |", "|---|---|---|"]
        for name, (median, least, most) in found.items():
            lines.append(f"| {name} | {median:.3f} ({least:.3f} to {most:.3f}) | "
                         f"{median / found[base][0]:.2f} |")
        return lines + [""]

    def compare(self, title, base, jobs, once=()):
        return self.table(title, base, self.race(jobs, once))

    def put_seconds(self, series, seconds):
        seconds = dict(sorted(seconds.items()))
        self.put_times("time", series, {"seconds": seconds, "exponent": exponent(seconds)})

    def put_times(self, kind, name, values):
        if self.args.write:
            common.put_times(self.args.out, kind, name, values)

    def known_seconds(self, series):
        times = common.read_times(self.args.out).get("time", {}).get(series, {})
        return {int(n): seconds for n, seconds in times.get("seconds", {}).items()}

    # --- sections

    def scores(self):
        model, n = self.gpt2(12), self.args.n
        one = str(n - 1)
        jobs = {name: lambda o=options: self.seconds(model, n, *o) for name, options in {
            "grad_norm": (), "all sites, both scores": ALL_SITES,
            "share": ("--scores", "grad_norm,share"), "own": ("--scores", "grad_norm,own"),
            "param": ("--scores", "grad_norm,param"), "weight": ("--scores", "grad_norm,weight"),
        }.items()}
        lines = self.compare(f"GPT-2 shape, N = {n}: scores", "grad_norm", jobs)
        jobs = {name: lambda o=options: self.seconds(model, n, "--losses", one, *o) for name, options in {
            "grad_norm": (), "share, edge": ("--scores", "grad_norm,share,edge")}.items()}
        return lines + self.compare(f"GPT-2 shape, loss {one} alone", "grad_norm", jobs)

    def precision(self):
        model, n = self.gpt2(12), self.args.n
        noted = {}

        def run(p):
            noted[p] = self.trace(model, n, "--precision", p, *ALL_SITES)[0]
            return float(noted[p]["seconds_walk"])

        found = self.race({p: lambda p=p: run(p) for p in ("f32", "bf16")})
        lines = self.table(f"GPT-2 shape, N = {n}, all sites, both scores", "f32", found)
        lines += [f"Of f32's SGEMM peak: f32 {self.of_peak(found['f32'][0], model, n, *ALL_SITES)}, bf16 "
                  f"{self.of_peak(found['bf16'][0], model, n, *ALL_SITES)}. bf16's error took "
                  f"{100 * float(noted['bf16'].get('seconds_bf16_error', 0)) / found['bf16'][0]:.1f} % of its "
                  f"walk on top and is in the record as: {noted['bf16']['bf16_error']}.", "",
                  "| error against f64, largest over rows of sum abs(a - b) / sum b, resid_pre grad_norm "
                  "| f32 | bf16 |", "|---|---|---|"]
        small = [(name, folder, min(300, 8 * n), text) for name, folder, text in self.trained()]
        for name, folder, m, text in small + [("GPT-2 shape", model, 32, None)]:
            norms = {p: self.trace(folder, m, "--precision", p, text=text)[1]["flow.resid_pre.grad_norm"].copy()
                     for p in ("f64", "f32", "bf16")}
            lines.append(f"| {name}, N = {m}{', random tokens' * (not text)} | "
                         f"{row_error(norms['f32'], norms['f64']):.1e} | "
                         f"{row_error(norms['bf16'], norms['f64']):.1e} |")
        return lines

    def threads(self):
        model, n = self.gpt2(12), self.args.n
        return self.compare(f"GPT-2 shape, N = {n}: threads", "1 thread", {
            f"{t} thread{'s' * (t > 1)}": lambda t=t: self.seconds(model, n, "--threads", str(t))
            for t in (1, 2)})

    def fold(self):
        """A narrow model, then GPT-2's width; what is taken once is compared in that run."""
        models = {"kjv-1m": (common.stretch(os.path.join(self.args.cache, "kjv-1m-long"), KJV, 8192), self.args.sizes),
                  GPT2_4: (self.gpt2(4), self.args.fold_wide)}
        ways, norms = {"with fold": (), "without fold": ("--no-fold",)}, {}

        def run(name, n, way):
            meta, arrays = self.trace(models[name][0], n, *ways[way])
            if (name, n, way) not in norms:
                norms[name, n, way] = arrays["flow.resid_pre.grad_norm"].copy()
            return float(meta["seconds_walk"])

        jobs = {(name, n, way): lambda key=(name, n, way): run(*key)
                for name, (_, sizes) in models.items() for n in sizes for way in ways}
        found = self.race(jobs, [key for key in jobs if key[1] >= self.args.once_from])
        lines = ["| random tokens | with fold, seconds | without | without over with | largest row difference |",
                 "|---|---|---|---|---|"]
        for name, n in dict.fromkeys(key[:2] for key in jobs):
            a, b = (found[name, n, way] for way in ways)
            lines.append(f"| {name}, N = {n} | {a[0]:.3f} ({a[1]:.3f} to {a[2]:.3f}) | {b[0]:.3f} ({b[1]:.3f} to "
                         f"{b[2]:.3f}) | {b[0] / a[0]:.2f} | "
                         f"{row_error(*(norms[name, n, way] for way in ways)):.0e} |")
        for way in ways:
            times = {n: found["kjv-1m", n, way][0] for n in self.args.sizes}
            self.put_seconds(f"kjv-1m, {way}", times)
            lines.append(f"\nTime of kjv-1m {way} goes as N^{exponent(times):.2f}.")
        model, known = models[GPT2_4][0], self.known_seconds(GPT2_4)
        without = {n: seconds for n, seconds in known.items() if not self.plan(model, n)["folded"]}
        without.update({n: found[GPT2_4, n, "without fold"][0] for n in self.args.fold_wide})
        known.update({n: found[GPT2_4, n, "with fold"][0] for n in self.args.fold_wide})
        self.put_seconds(f"{GPT2_4}, without fold", without)
        self.put_seconds(GPT2_4, known)
        return lines

    def growth(self):
        """The shape's longer texts are those of section long, if that has been run."""
        model, sizes = self.gpt2(4), [n for n in self.args.sizes if n < self.args.once_from]
        found = self.race({n: lambda n=n: self.seconds(model, n) for n in sizes})
        times = self.known_seconds(GPT2_4)
        times.update({n: found[n][0] for n in sizes})
        self.put_seconds(GPT2_4, times)
        lines = [f"| {GPT2_4} | seconds, median (least to most) | of SGEMM peak |", "|---|---|---|"]
        for n in sizes:
            lines.append(f"| N = {n} | {found[n][0]:.3f} ({found[n][1]:.3f} to {found[n][2]:.3f}) | "
                         f"{self.of_peak(found[n][0], model, n)} |")
        return lines + ["", f"Time goes as N^{exponent(times):.2f} over N = {min(times)} to {max(times)} (from "
                        f"{self.args.once_from} on: section long)."]

    def long(self):
        """Each pair is measured by itself; the table has all that times.json knows."""
        known = common.read_times(self.args.out).get("long", {})
        for layers, n in (map(int, pair.split(":")) for pair in self.args.long.split(",")):
            model, self.peak, commit = self.gpt2(layers), sgemm_peak(), common.commit()
            walk, meta = self.whole(model, n, "--memory", "4G")
            held = self.resident - sum(map(os.path.getsize, (
                os.path.join(model, "model.safetensors"), self.record)))
            if layers == 4 and n >= self.args.once_from:
                self.put_seconds(GPT2_4, {**self.known_seconds(GPT2_4), n: walk})
            row = {"losses": self.words(n), "forward": float(meta["seconds_forward"]), "walk": walk,
                   "attention": float(meta["seconds_attention"]) / float(meta["seconds_walk"]),
                   "of_peak": self.of_peak(walk, model, n, "--memory", "4G"), "resident": self.resident,
                   "above": held, "commit": commit, "sgemm": self.peak}
            known[f"{layers}, {n}"] = row
            self.put_times("long", f"{layers}, {n}", row)
            print(f"  {layers}, {n}: {row}", file=sys.stderr, flush=True)
        lines = ["Once each, grad_norm at resid_pre, --memory 4G. Where only some losses are walked, their time is "
                 "multiplied by the FLOPs of all over theirs. Resident is the peak of the whole process; pages of "
                 "the mapped weights and of the record's file count in it, so both are taken off (of the weights: "
                 "as large as they are). The share of the peak counts what the walk needs without its fold.", "",
                 "| layers, N | losses walked | forward, s | walk of all losses, s | attention's part | of its run's "
                 "SGEMM peak | resident, GB | above weights and record, GB | backflow |",
                 "|---|---|---|---|---|---|---|---|---|"]
        for name, row in sorted(known.items(), key=lambda item: [-int(item[0].split(",")[0]), int(item[0].split(",")[1])]):
            lines.append(f"| {name} | {row['losses']} | {row['forward']:.2f} | {row['walk']:.1f} | "
                         f"{100 * row['attention']:.0f} % | {row['of_peak']} of {row['sgemm']:.0f} GFLOP/s | "
                         f"{row['resident'] / 1e9:.2f} | {row['above'] / 1e9:.2f} | {row['commit']} |")
        self.peak = None
        return lines

    def zoom(self):
        n, blocks = self.args.zoom_n, min(64, self.args.zoom_n // 4)
        model, known = self.gpt2(4), self.known_seconds(GPT2_4).get(n)
        base = "all losses (of section long)" if known else f"all losses (walked: {self.words(n)})"
        jobs = {base: lambda: known or self.whole(model, n)[0],
                "grad_x_act": lambda: self.seconds(model, n, "--blocks", str(blocks), "--scores", "grad_x_act")}
        for k in self.args.probes.split(","):
            jobs[f"grad_norm, {k} probes"] = lambda k=k: self.seconds(model, n, "--blocks", str(blocks),
                                                                      "--probes", k)
        found = self.race(jobs, [base] if n >= self.args.once_from else [])
        return self.table(f"{GPT2_4}, N = {n}: overview of {blocks} blocks", base, found) + [
            "; ".join(f"{name}: {found[base][0] / found[name][0]:.1f} times faster" for name in list(jobs)[1:]) + "."]

    def big(self):
        layers = self.args.big_layers
        model = common.write_llama(os.path.join(self.args.cache, f"llama-1b-{layers}"), layers, 2048, 32, 4,
                                   5632, bf16=True)
        weights = os.path.getsize(os.path.join(model, "model.safetensors"))
        lines = [f"| Llama shape, {layers} layers, {weights / 1e9:.2f} GB of bf16 | forward, s | walk, s | of "
                 "f32's SGEMM peak | resident, GB | above the weights, GB |", "|---|---|---|---|---|---|"]
        for what, n, way in (("one loss, N = 256", 256, ("--losses", "255")),
                             ("one loss, N = 256, bf16", 256, ("--losses", "255", "--precision", "bf16")),
                             ("all losses, N = 64", 64, ()),
                             ("all losses, N = 64, bf16", 64, ("--precision", "bf16"))):
            meta, _ = self.trace(model, n, *way)
            walk = float(meta["seconds_walk"])
            lines.append(f"| {what} | {float(meta['seconds_forward']):.1f} | {walk:.1f} | "
                         f"{self.of_peak(walk, model, n, *way)} | {self.resident / 1e9:.2f} | "
                         f"{(self.resident - weights) / 1e9:.2f} |")
        info = self.race({"info": lambda: self.clock("info", model)})["info"]
        return lines + ["", f"`backflow info`: {1e3 * info[0]:.1f} ms."]

    def clock(self, *command):
        start = time.perf_counter()
        subprocess.run([self.args.backflow, *command], check=True, capture_output=True)
        return time.perf_counter() - start

    def prune(self):
        lines = ["| pruning | tolerance | time over exact, median (least to most) | largest row error, "
                 "resid_pre | reported |", "|---|---|---|---|---|"]
        notes = []
        for name, folder, text in self.trained():
            n = min(512, 16 * self.args.n)
            exact = self.trace(folder, n, text=text)[1]["flow.resid_pre.grad_norm"].copy()
            ways = {e: ("--tolerance", e) for e in self.args.tolerances.split(",")}
            seen = {e: self.trace(folder, n, *way, text=text) for e, way in ways.items()}
            seen = {e: (meta["pruned"], row_error(arrays["flow.resid_pre.grad_norm"], exact))
                    for e, (meta, arrays) in seen.items()}
            jobs = {"exact": lambda: self.seconds(folder, n, text=text)}
            jobs.update({e: lambda way=way: self.seconds(folder, n, *way, text=text)
                         for e, way in ways.items()})
            found, curve = self.race(jobs), []
            for e, (told, error) in seen.items():
                ratio = [t / found["exact"][0] for t in found[e]]
                curve.append({"tolerance": float(e), "speed": 1 / ratio[0], "error": error})
                lines.append(f"| {name}, N = {n}{', random tokens' * (not text)} | {e} | {ratio[0]:.2f} "
                             f"({ratio[1]:.2f} to {ratio[2]:.2f}) | {error:.1e} | {told} |")
            self.put_times("prune", name, curve)
            good = max((c for c in curve if c["error"] <= 0.01), key=lambda c: c["speed"], default=None)
            notes.append(f"{name}: at most 1 % of error in every row " + (
                f"at tolerance {good['tolerance']:g}, {good['speed']:.2f} times the exact walk's speed."
                if good else "at none of these tolerances."))
        return lines + [""] + notes


SECTIONS = ["scores", "precision", "threads", "fold", "growth", "long", "zoom", "big", "prune"]


def parse_arguments():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas (default: all)")
    ap.add_argument("--repeats", type=int, default=5, help="interleaved (default: 5)")
    ap.add_argument("--n", type=int, default=128, help="positions of scores, precision, threads")
    ap.add_argument("--sizes", default="128,256,512,1024,2048", help="positions of fold and growth")
    ap.add_argument("--fold-wide", default="768,1024", help="positions of fold at GPT-2's width")
    ap.add_argument("--once-from", type=int, default=1024, help="texts of so many positions are walked once only")
    ap.add_argument("--every", type=int, default=8, help="of these the walk takes every so-manieth loss only, "
                    "and its time stands for all by their FLOPs; 1: all")
    ap.add_argument("--probes", default="2,8", help="of section zoom")
    ap.add_argument("--long", default="12:1024,4:1024,4:2048,4:4096", help="LAYERS:N of section long")
    ap.add_argument("--zoom-n", type=int, default=2048)
    ap.add_argument("--big-layers", type=int, default=22)
    ap.add_argument("--tolerances", default="1e-4,3e-4,1e-3,2e-3,3e-3,5e-3,1e-2,3e-2")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--cache", default="build/bench", help="where models of random weights are kept")
    ap.add_argument("--backflow", default="build/backflow")
    ap.add_argument("--write", action="store_true", help="into RESULTS.md, in place of these sections, and "
                    "times.json")
    ap.add_argument("--out", default="bench", help="the folder of these two")
    args = ap.parse_args()
    args.sizes, args.fold_wide = ([int(n) for n in text.split(",")] for text in (args.sizes, args.fold_wide))
    unknown = set(args.only.split(",")) - set(SECTIONS)
    if unknown:
        ap.error(f"no section {', '.join(sorted(unknown))}, wanted some of {', '.join(SECTIONS)}")
    return args


def main():
    args = parse_arguments()
    args.cache, args.backflow, args.out = map(os.path.abspath, (args.cache, args.backflow, args.out))
    os.chdir(common.ROOT)
    os.makedirs(args.cache, exist_ok=True)
    bench = Bench(args)
    for section in args.only.split(","):
        machine = common.describe_machine(np)
        lines = [machine, "", *getattr(bench, section)()]
        if bench.peak:
            lines += ["", f"SGEMM 4096 x 4096 x 4096 by numpy on all cores: {bench.peak:.0f} GFLOP/s."]
        bench.peak = None
        title = f"Backflow's own choices: {section}"
        print(f"## {title}\n\n" + "\n".join(lines) + "\n", flush=True)
        if args.write:
            common.put_section(args.out, title, lines)
    if os.path.exists(bench.record):
        os.remove(bench.record)


if __name__ == "__main__":
    main()
