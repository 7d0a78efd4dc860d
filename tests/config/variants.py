"""What make_goldens.py runs: which keys of a config are kept, how defaults that do not load are completed, scaled variants."""
import math

# The keys a golden keeps: a superset of those the reader looks at, so that dropping the others cannot change what it answers.
KEPT_KEYS = set("""
model_type text_config decoder generator attn_config rope_parameters rope_scaling rope_theta rope_local_base_freq global_rope_theta
local_rope_theta swa_rope_theta compress_rope_theta layer_rope_theta rotary_pct rotary_emb_base rotary_dim partial_rotary_factor
partial_rotary_factors rope_scaling_layers rope_interleave xdrope_section head_dim global_head_dim num_global_key_value_heads
attention_k_eq_v qk_nope_head_dim qk_rope_head_dim qk_head_dim v_head_dim kv_lora_rank q_lora_rank kv_channels dim_head hidden_size n_embd d_model
num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads num_decoder_attention_heads encoder_attention_heads
num_key_value_heads num_kv_heads kv_n_heads multi_query new_decoder_architecture num_hidden_layers n_layer n_layers num_layers
decoder_layers num_decoder_layers encoder_layers max_position_embeddings n_positions max_seq_len max_sequence_length seq_length
model_max_length original_max_position_embeddings max_target_positions sliding_window use_sliding_window max_window_layers
sliding_window_pattern _sliding_window_pattern sliding_window_size layer_types attention_chunk_size no_rope_layers no_rope_layer_interval
global_attn_every_n_layers per_layer_config num_attention_heads_per_layer attention_other_setting attention_multiplier
query_pre_attn_scalar attn_logit_softcapping scale_attn_weights scale_attn_by_inverse_layer_idx attn_temperature_tuning floor_scale
attn_scale alibi alibi_bias_max softmax_scale use_logn_attn use_dynamic_ntk position_embedding_type use_mem_rope key_multiplier
qk_scale_factor attention_layers attention_types window_size block_types attention_window_size layers_block_type attn_layer_indices
attn_layer_offset attn_layer_period attn_layer_period full_attn_idxs global_attn_every_n_layers local_attention hybrid_layer_ids
layer_group_size is_encoder_decoder use_bidirectional_attention swa_head_dim swa_num_key_value_heads swa_num_attention_heads
swa_v_head_dim hybrid_override_pattern hybrid_layer_pattern add_swa_attention_sink_bias add_full_attention_sink_bias attention_hidden_size
cross_attention_layers num_layers_per_stack learnable_sink_init prefix_dense_sliding_window_pattern first_k_dense_replace
num_dense_layers attention_head_dim expand v_head_dim attn_type num_sliding_attention_heads swa_layers linear_attn_config
is_causal prefix_lm long_mscale short_mscale parallel_attn global_attention_every_n_layers
""".split())

BASE_OVERRIDES = {
    "hunyuan_v1_dense": {"head_dim": 128}, "hunyuan_v1_moe": {"head_dim": 128}, "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8}, "deepseek_v2": {"topk_group": 1, "n_group": 1}, "dots1": {"n_routed_experts": 8, "n_shared_experts": 1, "moe_intermediate_size": 512},
    "glm4_moe": {"head_dim": 128}, "dbrx": {"attn_config": {"kv_n_heads": 8, "rope_theta": 500000.0, "clip_qkv": 8.0}},
    "lfm2_moe": {"layer_types": (["conv", "conv", "full_attention"] * 11)[:32]},
    "cohere_compass_text": {"layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"] * 10,
                            "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 50000.0}, "full_attention": None}},
}
SKIPPED = set()



def scaled(theta, original, pairs):
    """The scaling rules, each in a spelling found in released files, as changes to a flat config."""
    long_factor = [1 + (t % 7) * 0.25 + t * 0.125 for t in range(pairs)]
    return {
        "linear-old": {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": theta},
        "dynamic": {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": theta}},
        "yarn-old": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": original}, "rope_theta": theta},
        "yarn": {"rope_parameters": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": original, "rope_theta": theta,
                                     "beta_fast": 24, "beta_slow": 2, "truncate": False, "mscale": 1.0, "mscale_all_dim": 0.7}},
        "llama3": {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                       "original_max_position_embeddings": original, "rope_theta": theta}},
        "longrope": {"rope_parameters": {"rope_type": "longrope", "rope_theta": theta, "original_max_position_embeddings": original,
                                         "factor": 4.0, "short_factor": [1 + 0.0078125 * t for t in range(pairs)],
                                         "long_factor": long_factor}},
        "partial": {"rope_parameters": {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": 0.5}},
    }


def variants(full, text, pairs):
    """Changes to the config `full`, whose text part is `text` and whose widest rotary table has `pairs` pairs: (name, change)."""
    source = full if "text_config" not in full else full["text_config"]
    if source.get("model_type") != text.model_type:
        return []
    wrap = (lambda c: c) if source is full else (lambda c: {"text_config": c})
    rope = source.get("rope_parameters") or {}
    nested = [k for k, d in rope.items() if isinstance(d, dict)]
    out = [("bare", None)]
    types = {k: None for k in ("layer_types", "no_rope_layers", "per_layer_config", "layers_block_type") if k in source}
    if types:
        out.append(("no-types", types))
    if source.get("sliding_window", 0) is None or "use_sliding_window" in source:
        window = {"sliding_window": 77, "layer_types": None}
        if "use_sliding_window" in source:
            window |= {"use_sliding_window": True, "max_window_layers": 3}
        out.append(("window", window))
    if not rope or not pairs:
        return [(name, change and wrap(change)) for name, change in out]
    original = max(1024, (source.get("max_position_embeddings") or 4096) // 4)
    theta = (rope[nested[-1]] if nested else rope).get("rope_theta") or 10000.0
    for name, change in scaled(theta, original, pairs).items():
        if "rope_scaling" in change:
            out.append((name, change | {"rope_parameters": None}))
        elif nested:
            out.append((name, {"rope_parameters": {k: change["rope_parameters"] if i == 0 else rope[k] for i, k in enumerate(nested)}}))
        else:
            out.append((name, change))
    return [(name, change and wrap(change)) for name, change in out]
