#!/usr/bin/env python3
"""Spindle's cpu backend against PyTorch's scaled_dot_product_attention with RoPE, in one process and in turn.

    python torch_sdpa.py --library build/lib/libspindle.so [--threads 2] [--seconds 4] [--json FILE]

Both read the same float tensors. PyTorch's side is what a transformer does: cos and sin from a table that is not timed, q and (prefill) k rotated,
then SDPA; in decode its keys are cached rotated and only q is rotated. Spindle's side is prepare and attention on raw keys, so it rotates
every key in every call. Runs alternate, and which of the two goes first alternates too; the median of the ratios of neighbours is what counts on a
machine that is not quiet.
"""

import argparse
import ctypes
import json
import os
import statistics
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # two OpenMP runtimes: a pool must not spin while the other works

import torch

from spindle_ctypes import F32, Attention, Position, Shape

HEADS, DIM, THETA = 8, 128, 10000.0
DEFAULT, LINEAR, YARN, LLAMA3, XPOS = 1, 2, 12, 15, 19
METHODS = {
    "rope": dict(rope=DEFAULT),
    "none": dict(rope=0),
    "linear": dict(rope=LINEAR, factor=4),
    "ntk": dict(rope=3, alpha=4),
    "ntk-by-parts": dict(rope=7, factor=4, original_max_position_embeddings=2048),
    "dynamic-ntk": dict(rope=10, factor=2, max_position_embeddings=2048),
    "yarn": dict(rope=YARN, factor=4, original_max_position_embeddings=4096),
    "llama3": dict(rope=LLAMA3, factor=8, original_max_position_embeddings=8192),
    "xpos": dict(rope=XPOS),
    "rerope": dict(rope=DEFAULT, remap=1, remap_window=512),
    "leaky-rerope": dict(rope=DEFAULT, remap=2, remap_window=512, remap_k=16),
    "self-extend": dict(rope=DEFAULT, remap=3, remap_group=8, remap_window=1024),
    "dca": dict(rope=DEFAULT, remap=4, remap_chunk=3072, remap_local=512),
}


def tables(n):
    angle = torch.arange(n, dtype=torch.float64)[:, None] * THETA ** (-torch.arange(0, DIM, 2, dtype=torch.float64) / DIM)
    angle = torch.cat([angle, angle], dim=1)
    return angle.cos().float(), angle.sin().float()


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin


class Torch:
    def __init__(self, q, k, v):
        self.q, self.k, self.v = q[None], k[None], v[None]
        self.cos, self.sin = tables(k.shape[1])
        self.decode = q.shape[1] < k.shape[1]
        if self.decode:
            self.k = rotate(self.k, self.cos, self.sin)

    def __call__(self):
        rows = self.q.shape[2]
        q = rotate(self.q, self.cos[-rows:], self.sin[-rows:])
        k = self.k if self.decode else rotate(self.k, self.cos, self.sin)
        return torch.nn.functional.scaled_dot_product_attention(q, k, self.v, is_causal=not self.decode)


def alternate(a, b, seconds):
    """Times of both in turn, after a warm-up of each."""
    times = [], []
    a(), b()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        order = (0, 1) if len(times[0]) % 2 else (1, 0)
        for which in order:
            begin = time.perf_counter()
            (a, b)[which]()
            times[which].append(time.perf_counter() - begin)
    return times


def spread(times):
    s = sorted(times)
    return s[len(s) // 2], s[0], s[len(s) // 4], s[3 * len(s) // 4]


def report(case, names, times, out):
    ratio = statistics.median(b / a for a, b in zip(*times))
    row = {"case": case, "pairs": len(times[0]), "ratio": ratio}
    for name, t in zip(names, times):
        median, least, q1, q3 = spread(t)
        row[name] = {"median_ms": median * 1e3, "min_ms": least * 1e3, "quartiles_ms": [q1 * 1e3, q3 * 1e3]}
    a, b = (row[name] for name in names)
    print(f"{case:34} {a['median_ms']:10.3f} ({a['min_ms']:9.3f}) {b['median_ms']:10.3f} ({b['min_ms']:9.3f}) {ratio:8.3f}", flush=True)
    if out:
        out.write(json.dumps(row) + "\n")


def tensors(rows, keys, packed):
    """[heads][rows][dim]; packed: laid out as [rows][heads][dim], as projections make them."""
    make = lambda n: torch.randn(n, HEADS, DIM).transpose(0, 1) if packed else torch.randn(HEADS, n, DIM)
    return make(rows), make(keys), make(keys), torch.zeros(HEADS, rows, DIM)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--cases", default="1k,4k,16k,decode,methods")
    parser.add_argument("--method-length", type=int, default=8192)
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    library = ctypes.CDLL(args.library)
    shape = Shape(q_dtype=F32, num_q_heads=HEADS, head_dim_qk=DIM)
    out = open(args.json, "a") if args.json else None
    cases = args.cases.split(",")
    make = lambda method, t: Attention(library, shape, Position(**METHODS[method]), args.threads, *t)

    print(f"float32, {HEADS} heads, dim {DIM}, {args.threads} threads; ms median (min)")
    print(f"{'':34} {'spindle':>22} {'torch':>22}  torch/spindle")
    sizes = {"1k": (1024, 1024), "4k": (4096, 4096), "16k": (16384, 16384), "decode": (1, 65536)}
    for name in (n for n in sizes if n in cases):
        for packed in (False, True):
            t = tensors(*sizes[name], packed)
            ours, theirs = make("rope", t), Torch(*t[:3])
            ours()
            error = (t[3] - theirs()[0]).abs().max().item()
            assert error < 1e-4, f"results differ by {error}"
            report(f"{name} {'[row][head]' if packed else '[head][row]'}", ("spindle", "torch"), alternate(ours, theirs, args.seconds), out)
    if "methods" in cases:
        print(f"\nmethods, {args.method_length} causal rows {'rope':>17} {'method':>22}  method/rope")
        t = tensors(args.method_length, args.method_length, False)
        rope = make("rope", t)
        for name in (m for m in METHODS if m != "rope"):
            report(name, ("rope", "method"), alternate(rope, make(name, t), args.seconds), out)


if __name__ == "__main__":
    main()
