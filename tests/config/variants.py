"""What make_goldens.py runs: which keys of a config are kept, how defaults that do not load are completed, scaled variants."""
# The keys a golden keeps: a superset of those the reader looks at, so that dropping the others cannot change what it answers.
KEPT_KEYS = set("""
_sliding_window_pattern alibi alibi_bias_max attention_chunk_size attention_heads attention_k_eq_v attention_layers
attention_multiplier attention_types attention_window_size attn_config attn_layer_indices attn_layer_offset attn_layer_period
attn_logit_softcapping attn_scale attn_temperature_tuning block_types cross_attention_layers d_model decoder
decoder_attention_heads decoder_layers encoder_attention_heads encoder_layers floor_scale full_attention_interval full_attn_idxs
generator global_attn_every_n_layers global_head_dim global_rope_theta head_dim hidden_size hybrid_override_pattern kv_channels
kv_lora_rank kv_n_heads language_config layer_group_size layer_rope_theta layer_types layers_block_type llm_config
local_attention local_rope_theta long_mscale max_position_embeddings max_seq_len max_sequence_length max_target_positions
max_window_layers model_max_length model_type multi_query n_embd n_embed n_head n_heads n_layer n_layers n_positions
new_decoder_architecture no_rope_layer_interval no_rope_layers num_attention_heads num_attention_heads_per_layer
num_decoder_attention_heads num_decoder_layers num_global_key_value_heads num_heads num_hidden_layers num_key_value_heads
num_kv_heads num_layers original_max_position_embeddings partial_rotary_factor partial_rotary_factors per_layer_config
position_embedding_type q_lora_rank qk_head_dim qk_nope_head_dim qk_rope_head_dim query_pre_attn_scalar rope_condense_ratio
rope_interleave rope_local_base_freq rope_parameters rope_scaling rope_theta rotary_dim rotary_emb_base rotary_pct
scale_attn_by_inverse_layer_idx scale_attn_weights seq_length short_mscale sliding_window sliding_window_pattern
sliding_window_size softmax_scale text_config thinker_config use_bidirectional_attention use_dynamic_ntk use_logn_attn
use_sliding_window v_head_dim window_size
""".split())

# What default configs lack to make a model of.
GLM4V = {"text_config": {"head_dim": 128, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                                                              "partial_rotary_factor": 0.5, "mrope_section": [8, 12, 12]}}}
BASE_OVERRIDES = {
    "hunyuan_v1_dense": {"head_dim": 128}, "hunyuan_v1_moe": {"head_dim": 128}, "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8}, "glm4_moe": {"head_dim": 128},
    "deepseek_v2": {"topk_group": 1, "n_group": 1, "num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 1, "moe_intermediate_size": 512, "num_experts_per_tok": 2},
    "glm4v": GLM4V, "glm4v_moe": GLM4V, "glm46v": GLM4V, "glmga": GLM4V, "hunyuan_vl": {"text_config": {"head_dim": 128}},
    "qwen3_omni_moe_thinker": {"text_config": {"num_attention_heads": 32}},
    "step3p7": {"text_config": {"sliding_window": 512, "layer_types": (["full_attention"] + ["sliding_attention"] * 3) * 11
                                + ["full_attention"]}},
    "lfm2_moe": {"layer_types": (["conv", "conv", "full_attention"] * 11)[:32]},
    "cohere_compass_text": {"layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"] * 10,
                            "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 50000.0},
                                                "full_attention": None}},
}
# Their layer types are too irregular for a rule of ours: the file must list them.
LISTED = {"nemotron_h", "lfm2_moe", "lfm3", "cohere_compass_text", "mllama_text_model"}
# The default is a scaled rule, which the file must give.
SCALED = {"apertus", "cwm", "gpt_oss", "ministral3", "mistral4"}
# Their config classes drop a rope_scaling without a word (the reader takes it), ...
DROPS_SCALING = {"cohere2_moe"}
# ... or a type in it that is not spelled rope_type (the reader takes that, too).
DROPS_TYPE = {"gemma3_text", "gemma3n_text", "olmo3", "modernbert-decoder", "step3p5"}
# Not run: no attention at all, attention that the recorder does not see, or what the reader refuses anyway (docs/config.md).
SKIPPED = set("""
moshi mamba mamba2 falcon_mamba rwkv xlstm openai-gpt prophetnet xlm xlnet reformer cpmant big_bird roformer mvp trocr xmod git
axk2 deepseek_v32 deepseek_v4 dots3_note dots3_note_text glm_moe_dsa glm5_next hy_v4 mistral_large4 minimax_m3_vl
minimax_m3_vl_text
qwen4_exp qwen4_exp_text doge inkling_text inkling2_text inkling2 inkling_mm_model zamba zamba2 hrm_text blt dbrx
""".split())


def scaled(theta, original, pairs):
    """The scaling rules, each in a spelling found in released files, as changes to a flat config."""
    long_factor = [1 + (t % 7) * 0.25 + t * 0.125 for t in range(pairs)]
    return {
        "linear-old": {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": theta},
        "dynamic": {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": theta}},
        "yarn-old": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": original},
                     "rope_theta": theta},
        "yarn": {"rope_parameters": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": original,
                                     "rope_theta": theta, "beta_fast": 24, "beta_slow": 2, "truncate": False, "mscale": 1.0,
                                     "mscale_all_dim": 0.7}},
        "llama3": {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                       "original_max_position_embeddings": original, "rope_theta": theta}},
        "longrope": {"rope_parameters": {"rope_type": "longrope", "rope_theta": theta, "factor": 4.0,
                                         "original_max_position_embeddings": original,
                                         "short_factor": [1 + 0.0078125 * t for t in range(pairs)],
                                         "long_factor": long_factor}},
        "proportional": {"rope_parameters": {"rope_type": "proportional", "factor": 2.0, "rope_theta": theta,
                                             "partial_rotary_factor": 0.25}},
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
    out = [] if text.model_type in LISTED | SCALED else [("bare", None)]
    if "num_attention_heads" in source and "hidden_size" in source and text.model_type != "jetmoe":  # counts heads by experts
        out.append(("resized", {"num_attention_heads": 16, "num_key_value_heads": 4, "hidden_size": 1024, "head_dim": None}))
    types = {k: None for k in ("layer_types", "no_rope_layers", "per_layer_config", "layers_block_type") if k in source}
    if types and text.model_type not in LISTED:
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
            if text.model_type in DROPS_SCALING:
                continue
            if text.model_type in DROPS_TYPE:
                change["rope_scaling"] = {"rope_type" if k == "type" else k: v for k, v in change["rope_scaling"].items()}
            out.append((name, change | {"rope_parameters": None}))
        elif nested:
            first = nested[0]
            out.append((name, {"rope_parameters": {k: change["rope_parameters"] if k == first else rope[k] for k in nested}}))
        else:
            out.append((name, change))
    return [(name, change and wrap(change)) for name, change in out]
