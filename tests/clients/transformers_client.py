"""Hugging Face transformers on Spindle's kernels: raw keys in the model's own cache, positions applied when they are read.

Registers an attention and a mask function, generates with a batch of left-padded prompts, and compares tokens and logits with eager attention.

    SPINDLE_LIBRARY=build/release/lib/libspindle.so python tests/clients/transformers_client.py

needs torch and transformers >= 5.0; runs on the cpu. transformers_layout.c asserts that the structs below are those of spindle.h.
"""
import ctypes as C
import os
import sys

import torch
import transformers
from transformers import AttentionInterface, AttentionMaskInterface

i32, i64, f32, f64, pointer, size = C.c_int32, C.c_int64, C.c_float, C.c_double, C.c_void_p, C.c_size_t
F32, CPU, ROPE_TABLE = 1, 2, 20


def struct(name, bytes, *fields):
    """A descriptor whose first field is its size. fields: pairs of a type and names."""
    cls = type(name, (C.Structure,), {"_fields_": [("struct_size", size)] + [(n, t) for t, names in fields for n in names.split()]})
    assert C.sizeof(cls) == bytes, f"{name} has {C.sizeof(cls)} bytes"

    def make(**values):
        return cls(struct_size=bytes, **values)

    return make


class Rows(C.Structure):
    _fields_ = [("data", pointer), ("batch", i64), ("row", i64), ("head", i64)]


class Cache(C.Structure):
    _fields_ = [("data", pointer), ("page", i64), ("row", i64), ("head", i64), ("scale", pointer), ("scale_head", i64)]


class Lse(C.Structure):
    _fields_ = [("data", pointer), ("batch", i64), ("row", i64), ("head", i64)]


ContextOptions = struct("spindle_context_options", 24, (i32, "backend device num_threads"))
Shape = struct("spindle_shape", 56, (i32, "q_dtype kv_dtype o_dtype num_q_heads num_kv_heads head_dim_qk head_dim_v rotary_dim rotary_offset pair_layout key_state bias"))
Position = struct(
    "spindle_position", 296,
    (i32, "rope remap row_scale num_pairs not_causal no_truncate finetuned s2_wrap"),
    (f64, "rope_theta factor original_max_position_embeddings max_position_embeddings attention_factor beta_fast beta_slow mscale mscale_all_dim"),
    (f64, "low_freq_factor high_freq_factor partial_rotary_factor alpha ntk_b scale_base remap_k row_scale_length row_scale_beta"),
    (pointer, "inv_freq short_factor long_factor"),
    (i64, "remap_window remap_group remap_chunk remap_local remap_pretrain remap_sink_tokens window_left window_right sink_tokens chunk s2_group"))
PlanOptions = struct("spindle_plan_options", 56, (i32, "max_requests max_q_rows max_q_len page_size"), (i64, "max_kv_len"), (i32, "split_keys schedule partial"),
                     (C.c_uint32, "remap_set row_scale_set"))
Batch = struct("spindle_batch", 152, (i32, "max_requests page_size num_pages dense_rows shard_size shard_count shard_rank reserved"),
               (pointer, "q_begin q_len kv_len q_index n position kv_index kv_begin kv_batch pages table_begin"), (i64, "table_stride"), (pointer, "page_index page_span"))
AttentionArgs = struct("spindle_attention_args", 272, (i64, "q_rows"), (Rows, "q o"), (Cache, "k v"), (Lse, "lse"), (f32, "scale softcap"),
                       (pointer, "bias_a bias_p sink_logits row_scale_s row_scale_b scratch"), (size, "scratch_bytes"))

library = C.CDLL(os.environ.get("SPINDLE_LIBRARY", "libspindle.so"))
library.spindle_last_error.restype = C.c_char_p
library.spindle_plan_prepare.argtypes = [pointer, pointer, pointer, pointer, size, pointer]
library.spindle_attention.argtypes = [pointer, pointer, pointer]
library.spindle_plan_destroy.argtypes = [pointer]


def check(status):
    if status:
        raise RuntimeError(library.spindle_last_error().decode())


context = pointer()
check(library.spindle_context_create(C.byref(context), C.byref(ContextOptions(backend=CPU))))


def int32(values):
    return torch.tensor(values, dtype=torch.int32)


def int64(values):
    return torch.tensor(values, dtype=torch.int64)


def workspace(bytes):
    """Memory whose address is a multiple of 256: the tensor that owns it, and the address."""
    memory = torch.empty(bytes + 256, dtype=torch.uint8)
    return memory, (memory.data_ptr() + 255) // 256 * 256


class Padding:
    """What the mask function knows and the attention function needs: how many rows of each prompt are padding, and where the rows begin."""

    def __init__(self, pads, q_offset, kv_offset):
        self.pads, self.q_offset, self.kv_offset = pads, q_offset, kv_offset


def mask(batch_size, q_length, kv_length, q_offset=0, kv_offset=0, attention_mask=None, **_):
    pads = [0] * batch_size if attention_mask is None else (attention_mask.shape[1] - attention_mask.sum(1)).tolist()
    return Padding(pads, int(q_offset), int(kv_offset))


def position_table(module, shape, sliding_window):
    """One slot per layer: the model's own frequencies and attention factor."""
    inv_freq = module.spindle_rotary.inv_freq.double().contiguous()
    position = Position(rope=ROPE_TABLE, inv_freq=inv_freq.data_ptr(), num_pairs=len(inv_freq),
                        attention_factor=float(module.spindle_rotary.attention_scaling), window_left=sliding_window or 0)
    table = pointer()
    check(library.spindle_positions_create(C.byref(table), context, C.byref(shape), 1))
    check(library.spindle_positions_set(table, 0, C.byref(position), None))
    return table


def batch_of(padding, q_len, kv_len):
    """Prompts are padded on the left. A cache that keeps a window only holds keys from kv_offset on."""
    q_pad = [max(0, pad - padding.q_offset) for pad in padding.pads]  # padded query rows occur in the prefill alone
    kv_pad = [max(0, pad - padding.kv_offset) for pad in padding.pads]
    arrays = dict(
        q_begin=int32(q_pad), q_len=int32([q_len - p for p in q_pad]),
        q_index=int64([padding.q_offset + p - pad for p, pad in zip(q_pad, padding.pads)]),
        kv_begin=int32(kv_pad), kv_len=int32([kv_len - p for p in kv_pad]),
        kv_index=int64([max(0, padding.kv_offset - pad) for pad in padding.pads]))
    return Batch(max_requests=len(q_pad), dense_rows=kv_len, **{n: a.data_ptr() for n, a in arrays.items()}), arrays


def attention(module, query, key, value, padding, scaling=None, sliding_window=None, softcap=None, **_):
    (requests, heads, q_len, dim), (kv_heads, kv_len) = query.shape, key.shape[1:3]
    shape = Shape(q_dtype=F32, num_q_heads=heads, num_kv_heads=kv_heads, head_dim_qk=dim, head_dim_v=value.shape[3])
    if not hasattr(module, "spindle_table"):
        module.spindle_table = position_table(module, shape, sliding_window)
    plan, state_bytes, scratch_bytes = pointer(), size(), size()
    bounds = PlanOptions(max_requests=requests, max_q_rows=requests * q_len, max_q_len=q_len, max_kv_len=kv_len)
    check(library.spindle_plan_create(C.byref(plan), context, C.byref(shape), C.byref(bounds)))
    check(library.spindle_plan_workspace(plan, C.byref(state_bytes), C.byref(scratch_bytes)))
    (state, state_at), (scratch, scratch_at) = workspace(state_bytes.value), workspace(scratch_bytes.value)
    batch, arrays = batch_of(padding, q_len, kv_len)
    check(library.spindle_plan_prepare(plan, module.spindle_table, C.byref(batch), state_at, state_bytes, None))
    out = torch.zeros(requests, q_len, heads, value.shape[3])  # rows of padding stay as they are
    rows = lambda x, row, head: Rows(x.data_ptr(), x.stride(0), x.stride(row), x.stride(head))
    cache = lambda x: Cache(x.data_ptr(), x.stride(0), x.stride(2), x.stride(1), None, 0)
    args = AttentionArgs(q_rows=q_len, q=rows(query, 2, 1), o=rows(out, 1, 2), k=cache(key), v=cache(value), scale=scaling or 0, softcap=softcap or 0,
                         scratch=scratch_at, scratch_bytes=scratch_bytes)
    check(library.spindle_attention(plan, C.byref(args), None))
    library.spindle_plan_destroy(plan)
    return out, None


def compare(name, model, rotary_module):
    """Greedy decoding of three prompts of different lengths, by eager attention and by Spindle."""
    ids, attention_mask = torch.randint(3, 97, (3, 40)), torch.ones(3, 40, dtype=torch.int64)
    attention_mask[0, :13] = 0
    attention_mask[1, :2] = 0
    generate = lambda: model.generate(ids, attention_mask=attention_mask, max_new_tokens=24, do_sample=False, output_logits=True,
                                      return_dict_in_generate=True, pad_token_id=0)
    model.set_attn_implementation("eager")
    want = generate()
    rotate = rotary_module.apply_rotary_pos_emb
    rotary_module.apply_rotary_pos_emb = lambda q, k, *_, **__: (q, k)  # keys go into the cache as they are
    for layer in model.model.layers:
        layer.self_attn.__dict__["spindle_rotary"] = model.model.rotary_emb
    model.set_attn_implementation("spindle")
    got = generate()
    rotary_module.apply_rotary_pos_emb = rotate
    worst = max((a - b).abs().max().item() for a, b in zip(got.logits, want.logits))
    same = torch.equal(got.sequences, want.sequences)
    print(f"{name}: tokens {'equal' if same else 'DIFFER'}, logits within {worst:.1e}")
    return same and worst < 1e-5


def main():
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    AttentionInterface.register("spindle", attention)
    AttentionMaskInterface.register("spindle", mask)
    sizes = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, vocab_size=97, max_position_embeddings=256)
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, rope_parameters=yarn)).eval()
    mistral = transformers.MistralForCausalLM(transformers.MistralConfig(**sizes, sliding_window=16)).eval()
    results = [compare("Llama with YaRN", llama, transformers.models.llama.modeling_llama),
               compare("Mistral with a window of 16", mistral, transformers.models.mistral.modeling_mistral)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
