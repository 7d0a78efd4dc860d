"""Facts of the families that multiply q and k themselves, so that no attention interface sees them: read off their modules."""
import sys
import torch
import transformers

# model type: attention class, names of its heads, KV heads and head dim, of the scale ("/": of its inverse, "": head_dim^-1/2 is
# written out in forward, None: there is none), pair layout
MODULES = {
    "bloom": ("BloomAttention", "num_heads", "num_heads", "head_dim", "inv_norm_factor", None),
    "mpt": ("MptAttention", "n_heads", "n_heads", "head_dim", "softmax_scale", None),
    "falcon": ("FalconAttention", "num_heads", "num_kv_heads", "head_dim", "inv_norm_factor", 0),
    "gptj": ("GPTJAttention", "num_attention_heads", "num_attention_heads", "head_dim", "/scale_attn", 1),
    "codegen": ("CodeGenAttention", "num_attention_heads", "num_attention_heads", "head_dim", "/scale_attn", 1),
    "gpt_neox_japanese": ("GPTNeoXJapaneseAttention", "num_attention_heads", "num_attention_heads", "head_size", "/norm_factor",
                          0),
    "gpt_neo": ("GPTNeoSelfAttention", "num_heads", "num_heads", "head_dim", None, None),
    "rembert": ("RemBertSelfAttention", "num_attention_heads", "num_attention_heads", "attention_head_size", "", None),
    "megatron-bert": ("MegatronBertSelfAttention", "num_attention_heads", "num_attention_heads", "attention_head_size", "", None),
    "xglm": ("XGLMAttention", "num_heads", "num_heads", "head_dim", "scaling", None),
}


def alibi_slopes(model_type, config):
    module = sys.modules[f"transformers.models.{model_type}.modeling_{model_type}"]
    if model_type == "mpt":
        bias = module.build_mpt_alibi_tensor(config.n_heads, 2, config.attn_config.alibi_bias_max)
    else:
        bias = module.build_alibi_tensor(torch.ones(1, 2), config.num_attention_heads, torch.float32)
    bias = bias.float().reshape(-1, 2)
    return (bias[:, 1] - bias[:, 0]).tolist()


def has_alibi(model_type, config):
    return model_type == "bloom" or model_type == "mpt" and config.attn_config.alibi or model_type == "falcon" and config.alibi


def rope(model, attention, config, table_at, tables, lengths):
    for module in model.modules():
        if any("inv_freq" in name for name, _ in module.named_buffers(recurse=False)):
            return [[n, tables.number(inv_freq), factor] for n in lengths(config)
                    for inv_freq, factor in [table_at(module, None, None, n)]]
    create = sys.modules[type(attention).__module__].create_sinusoidal_positions  # GPT-J, CodeGen: [position][sines | cosines]
    sin, cos = create(2, attention.rotary_dim).double()[1].chunk(2)
    return [[1, tables.number(torch.atan2(sin, cos).float()), 1.0]]


def own_matmul(model_type, config, table_at, tables, lengths):
    class_name, heads, kv_heads, head_dim, scale, layout = MODULES[model_type]
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    layers = []
    for module in model.modules():
        if type(module).__name__ != class_name:
            continue
        d = getattr(module, head_dim)
        value = float(getattr(module, scale.lstrip("/"))) if scale else 1.0 if scale is None else d ** -0.5
        local = model_type == "gpt_neo" and config.attention_layers[len(layers)] == "local"
        facts = {"hq": getattr(module, heads), "hkv": getattr(module, kv_heads), "d": d, "dv": d,
                 "scale": 1 / value if scale and scale[0] == "/" else value, "window": config.window_size if local else 0,
                 "chunk": 0, "softcap": 0.0, "sinks": 0}
        if has_alibi(model_type, config):
            facts["alibi"] = [s * (facts["scale"] if model_type == "falcon" else 1) for s in alibi_slopes(model_type, config)]
        elif layout is not None:
            facts |= {"layout": layout, "rope": rope(model, module, config, table_at, tables, lengths)}
        layers.append(facts)
    return layers
