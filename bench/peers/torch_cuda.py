#!/usr/bin/env python3
"""PyTorch's scaled_dot_product_attention on the GPU that bench/gpu measures: its time, and its error beside Spindle's.

    python torch_cuda.py --spindle build/gpu/bin/spindle [--seq-len 1024,4096] [--heads 32] [--kv-heads 8] [--head-dim 128] [--device cuda]

JSON lines on standard output. Time: SDPA alone, causal, on q and k rotated beforehand, with each backend that runs, cold L2, medians of CUDA events; keys as
`spindle bench` names them. Error: both attend to the same bfloat16 tensors, PyTorch after RoPE as transformers does it (cos and sin rounded to
bfloat16), Spindle through `spindle attend`, and both are compared with float64.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile

import numpy
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

THETA = 10000.0
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def rotate(x, dtype):
    """RoPE on [1, heads, rows, dim], half-split pairs, tables and arithmetic in dtype."""
    rows, dim = x.shape[-2:]
    # Angles in float64, so that what differs is what transformers rounds: the table and the products.
    angle = torch.arange(rows, dtype=torch.float64)[:, None] * THETA ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angle = torch.cat([angle, angle], dim=1).to(x.device)
    cos, sin, x = angle.cos().to(dtype), angle.sin().to(dtype), x.to(dtype)
    return x * cos + torch.cat([-x[..., dim // 2 :], x[..., : dim // 2]], dim=-1) * sin


def exact(q, k, v):
    """Float64, one head at a time."""
    q, k, group = rotate(q, torch.float64), rotate(k, torch.float64), q.shape[1] // k.shape[1]
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    out = []
    for head in range(q.shape[1]):
        score = q[0, head] @ k[0, head // group].T / math.sqrt(q.shape[-1])
        out.append(score.masked_fill(~mask, -math.inf).softmax(dim=-1) @ v[0, head // group].double())
    return torch.stack(out)[None]


def spindle(args, q, k, v):
    """The tool reads and writes float32 [1, rows, heads, dim]."""
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name + ".npy")
        for name, x in (("q", q), ("k", k), ("v", v)):
            numpy.save(path(name), x.transpose(1, 2).float().cpu().contiguous().numpy())
        command = [args.spindle, "attend", "--rope", "default", "--dtype", "bf16", "--backend", "cuda", "--out", path("o")]
        for name in ("q", "k", "v"):
            command += ["--" + name, path(name)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        return torch.from_numpy(numpy.load(path("o"))).to(q.device).transpose(1, 2)


def tensors(args, rows, dtype=torch.bfloat16):
    shape = lambda heads: (1, heads, rows, args.head_dim)
    return [torch.randn(shape(h), device=args.device, dtype=dtype) for h in (args.heads, args.kv_heads, args.kv_heads)]


def compare(args, rows):
    q, k, v = tensors(args, rows)
    expected = exact(q, k, v)
    peer = scaled_dot_product_attention(rotate(q, torch.bfloat16), rotate(k, torch.bfloat16), v, is_causal=True, enable_gqa=True)
    row = {"family": "accuracy", "method": "default", "seq_len": rows, "dtype": "bf16", "heads": args.heads, "kv_heads": args.kv_heads,
           "head_dim": args.head_dim, "backend": "torch"}  # fmt: skip
    for name, got in (("spindle", spindle(args, q, k, v)), ("torch", peer)):
        error = got.double() - expected
        row[name + "_error_max"] = error.abs().max().item()
        row[name + "_error_rms"] = error.square().mean().sqrt().item()
    print(json.dumps(row), flush=True)
    return row["spindle_error_rms"] <= row["torch_error_rms"]


def measure(run, flush):
    times = []
    for _ in range(31):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flush.zero_()
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 1e-3)
    return sorted(times[10:])  # the first ones warm up


def time_lengths(args):
    flush = torch.empty(256 << 20, dtype=torch.uint8, device=args.device)
    for rows in args.seq_len:
        q, k, v = tensors(args, rows)
        pairs = rows * (rows + 1) / 2
        for name, backend in BACKENDS.items():
            run = lambda: scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            try:
                with sdpa_kernel(backend):
                    times = measure(run, flush)
            except RuntimeError as error:
                print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            median = statistics.median(times)
            row = {"family": "peer", "method": "torch-sdpa-" + name, "phase": "prefill", "seq_len": rows, "q_len": rows, "median_s": median,
                   "min_s": times[0], "max_s": times[-1], "rounds": len(times), "tokens_per_s": rows / median,
                   "flops_per_s": 4 * args.head_dim * pairs * args.heads / median, "visible_pairs": pairs, "backend": "torch",
                   "device": torch.cuda.get_device_name(), "dtype": "bf16", "heads": args.heads, "kv_heads": args.kv_heads,
                   "head_dim": args.head_dim, "batch": 1, "flush_mib": 256, "version": torch.__version__}  # fmt: skip
            print(json.dumps(row), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spindle", required=True)
    parser.add_argument("--seq-len", type=lambda text: [int(x) for x in text.split(",")], default=[1024, 4096, 16384])
    parser.add_argument("--accuracy-len", type=int, default=2048)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    torch.manual_seed(1)
    good = compare(args, args.accuracy_len)
    if args.device == "cuda":
        time_lengths(args)
    if not good:
        sys.exit("Spindle's error against float64 is larger than PyTorch's")


if __name__ == "__main__":
    main()
