"""PyTorch's ways to the walk's scores, and what captum and inseq do: for walk_vs_torch.py."""
import math
import os
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from transformers import AutoModelForCausalLM


class Torch:
    """A GPT-2 or Llama with its residual sites hooked: one instance for each attention
    implementation."""

    def __init__(self, folder, attention):
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation=attention, dtype=torch.float32).eval().requires_grad_(False)
        self.body, self.head = self.model.base_model, self.model.lm_head
        self.acts = []
        if self.model.config.model_type == "gpt2":
            start, layers, second, last = self.body.drop, self.body.h, "ln_2", self.body.ln_f
        else:
            start, layers = self.body.embed_tokens, self.body.layers
            second, last = "post_attention_layernorm", self.body.norm

        def keep(module, args):
            self.acts.append(args[0])

        start.register_forward_hook(lambda mod, args, out: out.requires_grad_())
        for layer in layers:
            layer.register_forward_pre_hook(keep)
            getattr(layer, second).register_forward_pre_hook(keep)
        last.register_forward_pre_hook(keep)

    def forward(self, ids):
        """Sites in forward order, 2 L + 1 of [B,N,D], and the final norm's output."""
        self.acts = []
        final = self.body(ids, use_cache=False).last_hidden_state
        return self.acts, final

    def losses(self, rows, targets):
        return torch.nn.functional.cross_entropy(self.head(rows), targets, reduction="none")


class Scores:
    """grad_norm and grad_x_act of all sites, [2 L + 1, losses, N]."""

    def __init__(self, sites, N):
        self.norm = torch.zeros(sites, N, N)
        self.dot = torch.zeros(sites, N, N)

    def put(self, losses, acts, grads):
        """acts and grads: for each site [losses or 1, n, D], n <= N."""
        n = acts[0].shape[-2]
        for s, (x, g) in enumerate(zip(acts, grads)):
            self.norm[s, losses, :n] = torch.linalg.vector_norm(g, dim=-1)
            self.dot[s, losses, :n] = torch.linalg.vecdot(g, x.detach())


def walk_loop(torch_model, ids, targets, blocks):
    N = len(ids)
    acts, final = torch_model.forward(ids[None])
    loss = torch_model.losses(final[0], targets)
    scores = Scores(len(acts), N)
    for i in (i for block in blocks for i in block):
        grads = torch.autograd.grad(loss[i], acts, retain_graph=True)
        scores.put(slice(i, i + 1), acts, grads)
    return scores


def walk_batched(torch_model, ids, targets, blocks):
    N = len(ids)
    acts, final = torch_model.forward(ids[None])
    loss = torch_model.losses(final[0], targets)
    scores, seeds = Scores(len(acts), N), torch.eye(N)
    for block in (slice(b[0], b[-1] + 1) for b in blocks):
        grads = torch.autograd.grad(loss, acts, seeds[block], is_grads_batched=True,
                                    retain_graph=True)
        scores.put(block, acts, [g[:, 0] for g in grads])
    return scores


def walk_replicated(torch_model, ids, targets, blocks, prefix=False):
    N = len(ids)
    scores = None
    for block in blocks:
        rows = torch.tensor(block)
        text = ids[: rows[-1] + 1] if prefix else ids
        acts, final = torch_model.forward(text.expand(len(rows), -1))
        loss = torch_model.losses(final[torch.arange(len(rows)), rows], targets[rows])
        scores = scores or Scores(len(acts), N)
        grads = torch.autograd.grad(loss.sum(), acts)
        scores.put(slice(block[0], block[-1] + 1), acts, grads)
    return scores


def walk_prefix(torch_model, ids, targets, blocks):
    N = len(ids)
    scores = None
    for block in blocks:
        c0, end = block[0], block[-1] + 1
        acts, final = torch_model.forward(ids[None, :end])
        rows = final[0, c0:end].detach().requires_grad_()
        top, = torch.autograd.grad(torch_model.losses(rows, targets[c0:end]).sum(), rows)
        scores = scores or Scores(len(acts), N)
        for i in range(c0, end):
            seed = torch.zeros_like(final)
            seed[0, i] = top[i - c0]
            grads = torch.autograd.grad(final, acts, seed, retain_graph=i + 1 < end)
            scores.put(slice(i, i + 1), acts, grads)
    return scores


def walk_prefix_replicated(*job):
    return walk_replicated(*job, prefix=True)


# mode: (walks to choose from, chunk sizes to choose from)
MODES = {
    "loop": ([walk_loop], [1]),
    "batched": ([walk_batched], [8, 16, 32]),
    "replicated": ([walk_replicated], [8, 16, 32]),
    "prefix": ([walk_prefix, walk_prefix_replicated], [4, 8, 16]),
}


def spread(N, chunk, sample):
    """Blocks of `chunk` neighbouring losses, spread evenly: about `sample` losses, or all N."""
    starts = range(0, N, chunk)
    wanted = max(min(len(starts), round(sample / chunk)), 1)
    return [range(starts[(2 * k + 1) * len(starts) // (2 * wanted)],
                  min(starts[(2 * k + 1) * len(starts) // (2 * wanted)] + chunk, N))
            for k in range(wanted)]


def choose(mode, models, ids, targets):
    """(walk, attention, chunk): the fastest of a mode's on 32 losses, or 8 to 16 of long texts."""
    N = len(ids)
    chunks = MODES[mode][1] if N < 512 else MODES[mode][1][:1]
    ways = [(walk, attention, chunk) for walk in MODES[mode][0] for attention in models
            for chunk in chunks]
    best = dict.fromkeys(ways, math.inf)
    for walk, attention, chunk in ways * (2 if N < 128 else 1):
        blocks = spread(N, chunk, 32 if N < 128 else 16 if N < 512 else 8)
        try:
            start = time.perf_counter()
            walk(models[attention], ids, targets, blocks)
            took = (time.perf_counter() - start) / sum(map(len, blocks))
            best[walk, attention, chunk] = min(took, best[walk, attention, chunk])
        except (RuntimeError, NotImplementedError) as e:
            print(f"{mode} with {attention} cannot run: {str(e).splitlines()[0]}", file=sys.stderr)
    for (walk, attention, chunk), took in best.items():
        print(f"  {walk.__name__} {attention}, chunk {chunk}: {took:.3f} s a loss",
              file=sys.stderr, flush=True)
    return min(best, key=best.get)


def walk_captum(model, ids, targets):
    """As captum's LLMGradientAttribution does: for each target, its prefix; one site only."""
    from captum.attr import Saliency
    N = len(ids)
    embedded = model.get_input_embeddings()(ids)[None].detach()
    saliency = Saliency(lambda e: model(inputs_embeds=e).logits[:, -1].log_softmax(-1))
    norm = torch.zeros(N, N)
    for i in range(N):
        x = embedded[:, : i + 1].clone().requires_grad_()
        grad = saliency.attribute(x, target=int(targets[i]), abs=False)
        norm[i, : i + 1] = torch.linalg.vector_norm(grad[0], dim=-1)
    return norm


def open_inseq(model):
    """inseq wants a tokenizer: one word for each id."""
    import inseq
    from tokenizers import Tokenizer, models, pre_tokenizers
    vocabulary = {f"w{t}": t for t in range(model.config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    last = f"w{model.config.vocab_size - 1}"
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="w0", bos_token=last, eos_token=last, pad_token=last)
    return inseq.load_model(model, "saliency", tokenizer=fast)


def walk_inseq(attributor, ids, targets):
    N = len(ids)
    words = [f"w{t}" for t in ids.tolist() + [int(targets[-1])]]
    out = attributor.attribute(words[0], " ".join(words), attributed_fn="probability",
                               logprob=True, show_progress=False, pretty_progress=False)
    grads = out.sequence_attributions[0].target_attributions        # [positions, losses, D]
    return torch.linalg.vector_norm(grads, dim=-1).nan_to_num().T[:N, :N]


# --- the forward run alone

@torch.no_grad()
def forward_losses(torch_model, ids, targets):
    return torch_model.losses(torch_model.forward(ids[None])[1][0], targets)


def forward_and_head(torch_model, ids, targets):
    """The losses, and their gradient at the head's input: what backflow calls forward."""
    with torch.no_grad():
        rows = torch_model.forward(ids[None])[1][0]
    rows.requires_grad_()
    loss = torch_model.losses(rows, targets)
    return torch.autograd.grad(loss.sum(), rows)[0]
