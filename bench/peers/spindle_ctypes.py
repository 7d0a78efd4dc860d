"""The part of Spindle's C API that the comparisons here need, through ctypes. Structs are spelled as in spindle/spindle.h."""

import ctypes as c

F32, F16, BF16 = 1, 2, 3
BACKEND_CPU = 2
I32, I64, SIZE, F, D, P = c.c_int32, c.c_int64, c.c_size_t, c.c_float, c.c_double, c.c_void_p


class Struct(c.Structure):
    def __init__(self, **fields):
        super().__init__(**fields)
        if hasattr(self, "struct_size"):
            self.struct_size = c.sizeof(self)


def fields(text):
    """ "I32 a b; D c" -> [("a", I32), ("b", I32), ("c", D)] """
    out = []
    for line in text.split(";"):
        kind, *names = line.split()
        out += [(name, globals()[kind]) for name in names]
    return out


class ContextOptions(Struct):
    _fields_ = fields("SIZE struct_size; I32 backend device num_threads")


class Position(Struct):
    _fields_ = fields(
        "SIZE struct_size; I32 rope remap row_scale num_pairs not_causal no_truncate finetuned s2_wrap;"
        "D rope_theta factor original_max_position_embeddings max_position_embeddings attention_factor beta_fast beta_slow mscale"
        " mscale_all_dim low_freq_factor high_freq_factor partial_rotary_factor alpha ntk_b scale_base remap_k row_scale_length"
        " row_scale_beta; P inv_freq short_factor long_factor;"
        "I64 remap_window remap_group remap_chunk remap_local remap_pretrain remap_sink_tokens"
        " window_left window_right sink_tokens chunk s2_group"
    )


class Shape(Struct):
    _fields_ = fields(
        "SIZE struct_size; I32 q_dtype kv_dtype o_dtype num_q_heads num_kv_heads head_dim_qk head_dim_v rotary_dim rotary_offset"
        " pair_layout key_state bias"
    )


class PlanOptions(Struct):
    _fields_ = fields(
        "SIZE struct_size; I32 max_requests max_q_rows max_q_len page_size; I64 max_kv_len; I32 split_keys schedule partial"
    ) + [("remap_set", c.c_uint32), ("row_scale_set", c.c_uint32)]


class Batch(Struct):
    _fields_ = fields(
        "SIZE struct_size; I32 max_requests page_size num_pages dense_rows shard_size shard_count shard_rank reserved;"
        "P q_begin q_len kv_len q_index n position kv_index kv_begin kv_batch pages table_begin; I64 table_stride;"
        "P page_index page_span"
    )


class Rows(Struct):
    _fields_ = fields("P data; I64 batch row head")


class Cache(Struct):
    _fields_ = fields("P data; I64 page row head; P scale; I64 scale_head")


class Lse(Struct):
    _fields_ = fields("P data; I64 batch row head")


class AttentionArgs(Struct):
    _fields_ = (
        fields("SIZE struct_size; I64 q_rows")
        + [("q", Rows), ("o", Rows), ("k", Cache), ("v", Cache), ("lse", Lse)]
        + fields("F scale softcap; P bias_a bias_p sink_logits row_scale_s row_scale_b scratch; SIZE scratch_bytes")
    )


class Attention:
    """One request of dense keys, planned and prepared once. q, k, v, o are torch tensors [heads][rows][dim]."""

    def __init__(self, library, shape, position, threads, q, k, v, o):
        self.library = library
        self.context, self.positions, self.plan = P(), P(), P()
        self.tensors = q, k, v, o
        q_len, kv_len = q.shape[1], k.shape[1]
        options = PlanOptions(max_requests=1, max_q_rows=q_len, max_kv_len=kv_len)
        self.call("spindle_context_create", c.byref(self.context), c.byref(ContextOptions(backend=BACKEND_CPU, num_threads=threads)))
        self.call("spindle_positions_create", c.byref(self.positions), self.context, c.byref(shape), 1)
        self.call("spindle_positions_set", self.positions, 0, c.byref(position), None)
        self.call("spindle_plan_create", c.byref(self.plan), self.context, c.byref(shape), c.byref(options))
        state, scratch = SIZE(), SIZE()
        self.call("spindle_plan_workspace", self.plan, c.byref(state), c.byref(scratch))
        self.state, self.state_bytes = self.allocate(state.value), state
        self.lengths = (I32 * 3)(0, q_len, kv_len)
        at = c.addressof(self.lengths)
        self.batch = Batch(max_requests=1, q_begin=at, q_len=at + 4, kv_len=at + 8)
        self.args = AttentionArgs(q_rows=q_len, scratch=self.allocate(scratch.value), scratch_bytes=scratch.value)
        for name, tensor in (("q", q), ("o", o)):
            setattr(self.args, name, Rows(data=tensor.data_ptr(), row=tensor.stride(1), head=tensor.stride(0)))
        for name, tensor in (("k", k), ("v", v)):
            extent = kv_len * tensor.stride(1) if tensor.stride(1) > tensor.stride(0) else tensor.shape[0] * tensor.stride(0)
            setattr(self.args, name, Cache(data=tensor.data_ptr(), page=extent, row=tensor.stride(1), head=tensor.stride(0)))

    def allocate(self, size):
        memory = P()
        self.call("spindle_malloc", self.context, c.byref(memory), SIZE(size))
        return memory

    def call(self, name, *arguments):
        if getattr(self.library, name)(*arguments):
            self.library.spindle_last_error.restype = c.c_char_p
            raise RuntimeError(f"{name}: {self.library.spindle_last_error().decode()}")

    def __call__(self):
        """A whole step of one layer: prepare and attention."""
        self.call("spindle_plan_prepare", self.plan, self.positions, c.byref(self.batch), self.state, self.state_bytes, None)
        self.call("spindle_attention", self.plan, c.byref(self.args), None)
