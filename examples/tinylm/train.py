#!/usr/bin/env python3
"""Train the two byte-level language models of this example, and write the logits that the C engine is tested against.

    apt-get install bible-kjv                       # the text, King James Bible, and `bible`, which prints it
    pip install torch
    python3 train.py --position rope --compile      # rope.bin,  train_rope.log,  test.txt
    python3 train.py --position alibi --compile     # alibi.bin, train_alibi.log, test.txt
    python3 train.py --golden                       # golden.bin, from the two weight files and test.txt

Both models are trained on windows of 256 bytes and never see a longer one; what happens beyond is what the example
measures. They differ only in how attention sees position: RoPE, or ALiBi and no rotation. Training ends after
--minutes whatever the machine's speed, the learning rate with it; with --steps it repeats for a seed on one machine.
--compile is a third faster and needs a C++ compiler.

The model: bytes are tokens, there is no start token, position 0 is the first byte of the window.

    x = embed[byte]
    for each layer:
        h = rmsnorm(x, attn_norm)
        x = x + wo @ attention(wq @ h, wk @ h, wv @ h)             scale head_dim^-0.5, causal
        h = rmsnorm(x, ffn_norm)
        x = x + w_down @ (silu(w_gate @ h) * (w_up @ h))
    logits = embed @ rmsnorm(x, norm)

    rmsnorm(x, w) = x / sqrt(mean(x^2) + eps) * w

Query head h reads key/value head h // (heads / kv_heads). RoPE turns channels (t, t + head_dim/2) of a head by
pos * theta^(-2t/head_dim). ALiBi adds -m_h * (i - j) to the scaled score, m_h = 2^(-8(h+1)/heads).

Weight file, little-endian:

    char    magic[8]    "TINYLM\\0\\0"
    int32   version     1
    int32   position    0 RoPE, 1 ALiBi
    int32   vocab, layers, width, heads, kv_heads, head_dim, hidden, context
    int32   parameters  number of bf16 values that follow
    int32   reserved    0
    float32 rope_theta, norm_eps
    bf16    embed[vocab][width]
    bf16    per layer: attn_norm[width], wq[heads*head_dim][width], wk[kv_heads*head_dim][width],
            wv[kv_heads*head_dim][width], wo[width][heads*head_dim],
            ffn_norm[width], w_gate[hidden][width], w_up[hidden][width], w_down[width][hidden]
    bf16    norm[width]

The header is 64 bytes. A matrix is stored [out][in], rows contiguous; it multiplies a column vector of `in` values.

Golden file, little-endian:

    char    magic[8]    "TINYGOLD"
    int32   version 1, cases C, bytes N, positions P, vocab V
    int32   position[P]
    C times: char name[16], zero padded; float32 logits[P][V]

logits[p] predict the byte after test.txt[position[p]]; the model has read the first N bytes of test.txt as one
window. Cases: "rope", "rerope", "yarn", "dynamic", "logn" run rope.bin, "alibi" runs alibi.bin; `View` below holds
their formulas and parameters. Weights are the bf16 values of the file, all arithmetic is float64.
"""
import argparse
import math
import pathlib
import platform
import re
import struct
import subprocess
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

VOCAB, LAYERS, WIDTH, HEADS, KV_HEADS, HEAD_DIM = 256, 4, 256, 4, 2, 64
HIDDEN = 368           # the largest multiple of 16 that keeps a weight file under 4,000,000 bytes
CONTEXT = 256
THETA, EPS = 10000.0, 1e-5
POSITIONS = ("rope", "alibi")

# Whole books that no training window touches, one of each kind: a story, a meditation, a prophecy, a letter.
HELD_OUT = ("Ruth", "Eccl", "Dan", "Heb")
TEST_BYTES = 8192      # of each held-out book in test.txt: one window of the longest length the example measures

GOLDEN_CASES = ("rope", "rerope", "yarn", "dynamic", "logn", "alibi")
GOLDEN_BYTES = 1024
GOLDEN_POSITIONS = (0, 1, 63, 127, 128, 129, 255, 256, 257, 300, 384, 511, 512, 700, 900, 1023)


# ---- position ------------------------------------------------------------------------------------------------------

class View:
    """How attention sees the positions of a window of n bytes under one method: all that the methods differ in."""

    def __init__(self, method, n, dtype=torch.float32):
        t = torch.arange(HEAD_DIM // 2, dtype=torch.float64)
        i = torch.arange(n, dtype=torch.float64)
        distance = i[:, None] - i[None, :]
        freq = THETA ** (-2 * t / HEAD_DIM)
        factor = 1.0                                         # multiplies cos and sin, of queries and of keys
        row_scale = torch.ones_like(i)                       # multiplies the queries
        bias = torch.zeros_like(distance)                    # added to the scaled scores
        self.window = None                                   # distances are clipped to this

        if method == "rerope":
            self.window = 128
        elif method == "logn":                               # log n scaling, applied after training
            row_scale = (torch.log(i + 1) / math.log(CONTEXT)).clamp(min=1)
        elif method == "dynamic":                            # dynamic NTK, factor 2: one base for the whole window
            stretch = 2 * max(n, CONTEXT) / CONTEXT - 1
            freq = (THETA * stretch ** (HEAD_DIM / (HEAD_DIM - 2))) ** (-2 * t / HEAD_DIM)
        elif method == "yarn":                               # factor 4, beta_fast 32, beta_slow 1, truncated
            low, high = (HEAD_DIM * math.log(CONTEXT / (2 * math.pi * beta)) / (2 * math.log(THETA))
                         for beta in (32, 1))
            low, high = max(math.floor(low), 0), min(math.ceil(high), HEAD_DIM - 1)
            keep = 1 - ((t - low) / (high - low)).clamp(0, 1)
            freq = freq / 4 * (1 - keep) + freq * keep
            factor = 0.1 * math.log(4) + 1
        elif method == "alibi":
            freq = torch.zeros_like(freq)                    # a turn by nothing
            slope = 2.0 ** (-8 * torch.arange(1, HEADS + 1, dtype=torch.float64) / HEADS)
            bias = -slope[:, None, None] * distance
        elif method != "rope":
            raise ValueError(method)

        angle = i[:, None] * freq
        self.cos, self.sin = (angle.cos() * factor).to(dtype), (angle.sin() * factor).to(dtype)
        self.row_scale = row_scale[:, None].to(dtype)
        self.bias = bias.masked_fill(distance < 0, -math.inf).to(dtype)
        if self.window is not None:
            angle = self.window * freq
            self.far_cos, self.far_sin = angle.cos().to(dtype), angle.sin().to(dtype)
            self.near = distance < self.window


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def attention(q, k, v, view):
    """q [B, heads, n, head_dim], k and v [B, kv_heads, n, head_dim], none of them rotated. Written to be read."""
    k = k.repeat_interleave(HEADS // KV_HEADS, 1)
    v = v.repeat_interleave(HEADS // KV_HEADS, 1)
    q = q * view.row_scale
    scores = rotate(q, view.cos, view.sin) @ rotate(k, view.cos, view.sin).mT
    if view.window is not None:                              # beyond the window every key is seen at distance `window`
        scores = torch.where(view.near, scores, rotate(q, view.far_cos, view.far_sin) @ k.mT)
    return (scores * HEAD_DIM ** -0.5 + view.bias).softmax(-1) @ v


# ---- model ---------------------------------------------------------------------------------------------------------

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn_norm = nn.RMSNorm(WIDTH, EPS)
        self.wq = nn.Linear(WIDTH, HEADS * HEAD_DIM, bias=False)
        self.wk = nn.Linear(WIDTH, KV_HEADS * HEAD_DIM, bias=False)
        self.wv = nn.Linear(WIDTH, KV_HEADS * HEAD_DIM, bias=False)
        self.wo = nn.Linear(HEADS * HEAD_DIM, WIDTH, bias=False)
        self.ffn_norm = nn.RMSNorm(WIDTH, EPS)
        self.w_gate = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.w_up = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.w_down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x, view):
        batch, n, _ = x.shape
        h = self.attn_norm(x)
        q, k, v = (w(h).view(batch, n, -1, HEAD_DIM).transpose(1, 2) for w in (self.wq, self.wk, self.wv))
        x = x + self.wo(attention(q, k, v, view).transpose(1, 2).reshape(batch, n, -1))
        h = self.ffn_norm(x)
        return x + self.w_down(F.silu(self.w_gate(h)) * self.w_up(h))


class Model(nn.Module):
    """The parameters are declared in the order of the weight file."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH, EPS)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                into_residual = "wo" in name or "w_down" in name
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS) if into_residual else 0.02)

    def forward(self, tokens, view):
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, view)
        return F.linear(self.norm(x), self.embed.weight)


MAGIC, HEADER = b"TINYLM\0\0", struct.Struct("<8s12i2f")


def save(model, position, path):
    values = torch.cat([p.detach().flatten() for p in model.parameters()]).bfloat16()
    header = HEADER.pack(MAGIC, 1, POSITIONS.index(position), VOCAB, LAYERS, WIDTH, HEADS, KV_HEADS, HEAD_DIM, HIDDEN,
                         CONTEXT, values.numel(), 0, THETA, EPS)
    path.write_bytes(header + values.view(torch.int16).numpy().astype("<i2").tobytes())


def load(path):
    data = path.read_bytes()
    magic, version, position, *_, count, _, _, _ = HEADER.unpack_from(data)
    assert magic == MAGIC and version == 1 and len(data) == HEADER.size + 2 * count
    values = torch.frombuffer(bytearray(data[HEADER.size:]), dtype=torch.bfloat16)
    model = Model()
    for p in model.parameters():
        p.data, values = values[:p.numel()].view_as(p).float(), values[p.numel():]
    assert values.numel() == 0
    return model, POSITIONS[position]


# ---- text ----------------------------------------------------------------------------------------------------------

def books():
    """The text by book: a verse is a line, an empty line ends a chapter, references such as "Ge1:1" are left out."""
    lines = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], check=True, capture_output=True, text=True).stdout
    text, last = {}, None
    for line in lines.splitlines():
        book, chapter, verse = re.fullmatch(r"(\d?[A-Za-z]+)(\d+):\d+ (.*)", line).groups()
        if last not in (None, (book, chapter)):
            text[last[0]] += "\n"
        text[book] = text.get(book, "") + verse + "\n"
        last = book, chapter
    return {book: s.encode("ascii") for book, s in text.items()}


def tensor(data):
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).long()


# ---- training ------------------------------------------------------------------------------------------------------

@torch.no_grad()
def losses(model, method, texts, n, limit=None):
    """Loss in nats of every byte, [windows, n], over disjoint windows of n bytes."""
    view = View(method, n)
    windows = torch.stack([t[s:s + n + 1] for t in texts for s in range(0, len(t) - n, n)])[:limit]
    out = []
    for w in windows.split(max(1, 4096 // n)):
        logits = model(w[:, :-1], view).float()
        out.append(F.cross_entropy(logits.transpose(1, 2), w[:, 1:], reduction="none"))
    return torch.cat(out)


def train(args, say):
    torch.manual_seed(args.seed)
    text = books()
    train_text = tensor(b"\n".join(s for book, s in text.items() if book not in HELD_OUT))
    held_out = [tensor(text[book]) for book in HELD_OUT]
    (args.out / "test.txt").write_bytes(b"".join(text[book][:TEST_BYTES] for book in HELD_OUT))

    model = Model()
    run = torch.compile(model) if args.compile else model
    decay = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([dict(params=decay, weight_decay=0.1), dict(params=rest, weight_decay=0.0)],
                                  betas=(0.9, 0.95), fused=True)
    view = View(args.position, CONTEXT)
    sample = torch.arange(CONTEXT + 1)
    few = [t[:16 * CONTEXT + 1] for t in held_out]

    say(f"position {args.position}  seed {args.seed}  python {platform.python_version()}  torch {torch.__version__}")
    say(f"layers {LAYERS}  width {WIDTH}  heads {HEADS}  kv_heads {KV_HEADS}  head_dim {HEAD_DIM}  hidden {HIDDEN}  "
        f"context {CONTEXT}  parameters {sum(p.numel() for p in model.parameters())}")
    say(f"AdamW betas 0.9 0.95  weight decay 0.1 (matrices)  gradient clip 1  lr {args.lr}, warm-up {args.warmup} "
        f"steps, cosine to 0  batch {args.batch} x {CONTEXT}  bf16 autocast")
    say(f"train {len(train_text)} bytes  held out {sum(map(len, held_out))} bytes: {' '.join(HELD_OUT)}")
    say(f"budget {f'{args.steps} steps' if args.steps else f'{args.minutes} minutes'}, threads {args.threads}")
    say("\nminutes    step     lr      train    held out    nats per byte; train: mean since the last line")

    step, done, mean, seen, start, shown, saved = 0, 0.0, 0.0, 0, time.time(), 0.0, 0.0
    while done < 1:
        lr = args.lr * min(1, (step + 1) / args.warmup) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = lr
        at = torch.randint(len(train_text) - CONTEXT, (args.batch, 1))
        batch = train_text[at + sample]
        with torch.autocast("cpu", torch.bfloat16):
            logits = run(batch[:, :-1], view)
        loss = F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

        if step == 0:
            start = time.time()                              # the first step compiles, outside the budget
        step, mean, seen = step + 1, mean + loss.item(), seen + 1
        minutes = (time.time() - start) / 60
        done = step / args.steps if args.steps else minutes / args.minutes
        if done >= shown or done >= 1:
            nats = losses(model, args.position, few, CONTEXT).mean()
            say(f"{minutes:7.1f} {step:7d}   {lr:.2e}  {mean / seen:.4f}  {nats:.4f}")
            mean, seen, shown = 0.0, 0, shown + 1 / 40
        if minutes > saved + 4:
            save(model, args.position, args.out / f"{args.position}.bin")
            saved = minutes

    path = args.out / f"{args.position}.bin"
    save(model, args.position, path)
    model, _ = load(path)                                    # from here on: the rounded weights, in float32
    say(f"\nwrote {path.name}: {path.stat().st_size} bytes, {step * args.batch * CONTEXT} bytes seen, "
        f"{step * args.batch * CONTEXT / len(train_text):.1f} epochs")
    say("from the file, windows of 256:")
    for name, texts, limit in ("train", [train_text], 512), ("held out", held_out, None):
        nats = losses(model, args.position, texts, CONTEXT, limit).mean().item()
        say(f"  {name:8}  {nats:.4f} nats  {nats / math.log(2):.4f} bits per byte  perplexity {math.exp(nats):.4f}")

    say("\nheld-out perplexity by window length: of the whole window, and of its last 128 bytes")
    say(f"  {'':8}" + "".join(f"{n:18}" for n in (256, 512, 1024)))
    for method in ("rope", "rerope") if args.position == "rope" else ("alibi",):
        row = [losses(model, method, held_out, n) for n in (256, 512, 1024)]
        say(f"  {method:8}" + "".join(f"{l.mean().exp():9.3f}{l[:, -128:].mean().exp():9.3f}" for l in row))


@torch.no_grad()
def golden(out):
    tokens = tensor((out / "test.txt").read_bytes()[:GOLDEN_BYTES])[None]
    models = {p: load(out / f"{p}.bin")[0].double() for p in POSITIONS}
    with open(out / "golden.bin", "wb") as f:
        f.write(struct.pack("<8s5i", b"TINYGOLD", 1, len(GOLDEN_CASES), GOLDEN_BYTES, len(GOLDEN_POSITIONS), VOCAB))
        f.write(struct.pack(f"<{len(GOLDEN_POSITIONS)}i", *GOLDEN_POSITIONS))
        for case in GOLDEN_CASES:
            model = models["alibi" if case == "alibi" else "rope"]
            logits = model(tokens, View(case, GOLDEN_BYTES, torch.float64))[0, list(GOLDEN_POSITIONS)]
            f.write(struct.pack("<16s", case.encode()) + logits.float().numpy().astype("<f4").tobytes())
    print(f"wrote {f.name}: {(out / 'golden.bin').stat().st_size} bytes")


def main():
    p = argparse.ArgumentParser(description="train the example's byte-level language models")
    p.add_argument("--position", choices=POSITIONS, default="rope")
    p.add_argument("--minutes", type=float, default=48, help="training time; evaluation comes on top")
    p.add_argument("--steps", type=int, help="train this many steps instead")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--warmup", type=int, default=200)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--compile", action="store_true", help="run the model through torch.compile")
    p.add_argument("--golden", action="store_true", help="write golden.bin from the weight files; train nothing")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    if args.golden:
        golden(args.out)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / f"train_{args.position}.log", "w") as log:
        def say(line):
            print(line, flush=True)
            print(line, file=log, flush=True)
        train(args, say)


if __name__ == "__main__":
    main()
