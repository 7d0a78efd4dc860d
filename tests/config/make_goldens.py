#!/usr/bin/env python3
"""Writes goldens.jsonl: what transformers itself computes for the config of every causal family that it can load.

    python3 make_goldens.py [model_type ...] > goldens.jsonl        needs torch, transformers 5.23.0; no network, no weights

Nothing here is derived from a config by a formula of ours. A model is built on the meta device with its real dims and run on
four tokens, with our own function registered as its attention: that function sees head counts, dims, scaling, softcap, sinks;
the mask function it is given says window and chunk; which cos and sin reached which layer, and how channels pair up, is read
off the calls of the model's own apply_rotary_*. Frequencies are the angles by which the model's own rotary module, rebuilt on
the CPU, turns position 1: atan2(sin, cos), the attention factor is hypot(sin, cos); all in transformers' float32.

Lines: {"table": hex of float32 frequencies} (numbered from 0), then cases
    {"name", "base": index of an earlier case or -1, "config": {...} merged into the base's (null deletes), "layers": "aab.",
     "kinds": {"a": {hq hkv d dv scale window chunk softcap sinks layout rope: [[n, table, A], ...]}}}       "." = no attention
"""
import json
import os
import sys
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
warnings.filterwarnings("ignore")
import torch
import transformers
import transformers.masking_utils as masking_utils
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from own_matmul import MODULES, own_matmul
from variants import BASE_OVERRIDES, KEPT_KEYS, SKIPPED, variants

assert transformers.__version__ == "5.23.0", transformers.__version__
torch.set_grad_enabled(False)
torch.distributions.Distribution.set_default_validate_args(False)
AUTO = [("AutoModelForCausalLM", modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
        ("AutoModelForImageTextToText", modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
        ("AutoModelForMultimodalLM", modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES)]

# ---- Meta tensors answer questions about their values, so that shape-only runs get through routers and mask checks ------------
masking_utils.find_packed_sequence_indices = lambda position_ids: None
real_chunked = masking_utils.chunked_overlay
no_padding = lambda padding: torch.zeros(padding.shape, dtype=torch.int, device="cpu")
masking_utils.chunked_overlay = lambda size, padding: real_chunked(size, no_padding(padding))
real_item, real_bool, real_tolist = torch.Tensor.item, torch.Tensor.__bool__, torch.Tensor.tolist
torch.Tensor.item = lambda t: 1 if t.is_meta else real_item(t)
torch.Tensor.__bool__ = lambda t: False if t.is_meta else real_bool(t)
torch.Tensor.tolist = lambda t: real_tolist(torch.ones(t.shape, dtype=t.dtype, device="cpu")) if t.is_meta else real_tolist(t)


class Recorder:
    def __init__(self):
        self.calls, self.rotations, self.outputs = [], [], []


recorder = Recorder()


class Mask:
    """What the model's mask function shows: keys with dist < window (0: all), or of the query's chunk."""
    def __init__(self, window, chunk):
        self.window, self.chunk = window, chunk


def mask_interface(batch_size, q_length, kv_length, q_offset=0, kv_offset=0, mask_function=None, attention_mask=None, **kw):
    on_cpu = lambda x: torch.tensor(x, device="cpu")
    visible = lambda q, k: bool(mask_function(on_cpu(0), on_cpu(0), on_cpu(q), on_cpu(k)))
    last = (1 << 24) - 1  # the last row of a chunk of any power of two
    if visible(last, 0):
        return Mask(0, 0)
    lo, hi = 0, last
    while hi - lo > 1:
        mid = (lo + hi) // 2
        lo, hi = (mid, hi) if visible(last, last - mid) else (lo, mid)
    return Mask(0, hi) if not visible(last + 1, last) else Mask(hi, 0)


def attention_interface(module, q, k, v, attention_mask=None, dropout=0.0, scaling=None, softcap=None, s_aux=None, **kw):
    own, mask = getattr(module, "scaling", None), attention_mask if isinstance(attention_mask, Mask) else None
    if scaling is None or (scaling == 1.0 and isinstance(own, float)):  # 1: some scale q before the call
        scaling = own if isinstance(own, (int, float)) else q.shape[-1] ** -0.5
    recorder.calls.append({
        "index": getattr(module, "layer_idx", None), "hq": q.shape[1], "hkv": k.shape[1], "d": q.shape[3], "dv": v.shape[3],
        "scale": float(scaling), "window": mask.window if mask else 0, "chunk": mask.chunk if mask else 0,
        "softcap": float(softcap or 0), "sinks": int(s_aux is not None), "rotations": list(recorder.rotations)})
    recorder.rotations.clear()
    return torch.empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3], device=q.device, dtype=q.dtype), None


AttentionInterface.register("golden", attention_interface)
AttentionMaskInterface.register("golden", mask_interface)


def record_rotations(model):
    """Wraps apply_rotary_* of the model's modules, and hooks its rotary modules to know their outputs again."""
    for name in {type(m).__module__ for m in model.modules() if ".models." in type(m).__module__}:
        module = sys.modules[name]
        for key, function in list(vars(module).items()):
            if key.startswith("apply_rotary") and callable(function) and not hasattr(function, "wrapped"):
                def wrapper(*args, _f=function, **kwargs):
                    recorder.rotations.append((_f, args, kwargs))
                    return _f(*args, **kwargs)
                wrapper.wrapped = function
                setattr(module, key, wrapper)
    def hook(module, args, kwargs, output):
        position_ids = kwargs.get("position_ids", args[1] if len(args) > 1 else None)
        layer_type = kwargs.get("layer_type", args[2] if len(args) > 2 else None)
        recorder.outputs.append((output, module, position_ids, layer_type))
    for module in model.modules():
        if any("inv_freq" in name for name, _ in module.named_buffers(recurse=False)):
            module.register_forward_hook(hook, with_kwargs=True)


def source_of(tensor):
    for output, *rest in reversed(recorder.outputs):
        if any(t is tensor for t in (output if isinstance(output, tuple) else (output,))):
            return rest
    return None


def pair_layout(function, args, kwargs, tables):
    """Turns every pair by 90 degrees: the channel that lands in channel 0 is its partner. Layout (1: interleaved) and sense."""
    def stand_in(x):
        if not torch.is_tensor(x):
            return x
        if any(x is t for t in tables):
            if x.is_complex():
                return torch.full(x.shape, 1j, dtype=x.dtype, device="cpu")
            return (torch.zeros if x is tables[0] else torch.ones)(x.shape, dtype=x.dtype, device="cpu")
        if x.dtype.is_floating_point:
            return torch.arange(1.0, x.numel() + 1, device="cpu").reshape(x.shape)
        return torch.zeros(x.shape, dtype=x.dtype, device="cpu")
    args, kwargs = [stand_in(a) for a in args], {k: stand_in(v) for k, v in kwargs.items()}
    turned = function(*args, **kwargs)
    turned = turned[0] if isinstance(turned, tuple) else turned
    q = (list(args) + list(kwargs.values()))[0]
    landed = turned.reshape(-1, turned.shape[-1])[0][0]
    partner = int((q.reshape(-1, q.shape[-1])[0] == landed.abs()).nonzero()[0])
    return int(partner == 1), 1 if landed < 0 else -1


def table_at(module, position_ids, layer_type, n):
    """Frequencies and factor of the module at length n: what it makes of position 1 in a call whose last position is n - 1."""
    try:
        rotary = type(module)(config=module.config)
    except TypeError:
        rotary = type(module)(module.config)
    shape = position_ids.shape[:-1] if torch.is_tensor(position_ids) and position_ids.dim() > 1 else (1,)
    positions = torch.tensor([1, max(n - 1, 1)]).expand(*shape, 2)
    kwargs = {} if layer_type is None else {"layer_type": layer_type}
    out = rotary(torch.zeros(1, 2, 1), positions, **kwargs)
    if isinstance(out, tuple):
        cos, sin = (t.double().reshape(-1, 2, t.shape[-1])[0, 0] for t in out)
    else:
        cos, sin = out.real.double().reshape(2, -1)[0], out.imag.double().reshape(2, -1)[0]
    prefix = layer_type or ""
    pairs = next(len(b) for name, b in rotary.named_buffers() if name.endswith("inv_freq") and name.startswith(prefix))
    if len(cos) == 2 * pairs:
        halves = torch.equal(cos[:pairs], cos[pairs:])
        cos, sin = (cos[:pairs], sin[:pairs]) if halves else (cos[::2], sin[::2])
    return torch.atan2(sin, cos).float(), float(torch.hypot(sin, cos).mean())


class Tables:
    def __init__(self):
        self.numbers, self.pairs = {}, []

    def number(self, inv_freq):
        text = inv_freq.numpy().astype("<f4").tobytes().hex()
        if text not in self.numbers:
            self.numbers[text] = len(self.numbers)
            self.pairs.append(len(inv_freq))
            print(json.dumps({"table": text}))
        return self.numbers[text]


tables = Tables()


def lengths(text_config):
    """Lengths on both sides of every switch that a length-dependent rule of this config may have."""
    rope = getattr(text_config, "rope_parameters", None) or {}
    dicts = [d for d in rope.values() if isinstance(d, dict)] or [rope]
    longest = getattr(text_config, "max_position_embeddings", None) or 2048
    out = set()
    for d in dicts:
        if d.get("rope_type") == "dynamic":
            out |= {longest, 3 * longest}
        if d.get("rope_type") == "longrope":
            original = d.get("original_max_position_embeddings") or longest
            out |= {original, original + 1}
    return sorted(out) or [1]


def layer_facts(call, text_config):
    facts = {k: call[k] for k in ("hq", "hkv", "d", "dv", "scale", "window", "chunk", "softcap", "sinks")}
    for function, args, kwargs in call["rotations"]:
        tensors = [t for t in list(args) + list(kwargs.values()) if torch.is_tensor(t)]
        found = [(t, source_of(t)) for t in tensors if source_of(t)]
        if not found:
            continue
        module, position_ids, layer_type = found[0][1]
        facts["layout"], sense = pair_layout(function, args, kwargs, [t for t, _ in found])
        facts["rope"] = []
        for n in lengths(text_config):
            inv_freq, factor = table_at(module, position_ids, layer_type, n)
            facts["rope"].append([n, tables.number(sense * inv_freq), factor])
        break
    return facts


def build(model_type, config):
    for auto, names in AUTO:
        if model_type in names:
            with torch.device("meta"):
                return getattr(transformers, auto).from_config(config, attn_implementation="golden").eval()
    raise KeyError(model_type)


def probe(model_type, config):
    text_config = config.get_text_config(decoder=True)
    if model_type in MODULES:
        return own_matmul(model_type, config, table_at, tables, lengths)
    model = build(model_type, config)
    for module in model.modules():  # experts route by value
        if type(module).__name__.endswith(("Experts", "NaiveMoe")):
            module.forward = lambda x, *args, **kwargs: x
    recorder.__init__()
    record_rotations(model)
    with torch.device("meta"):
        model(input_ids=torch.zeros(1, 4, dtype=torch.long), use_cache=False)
    count = getattr(text_config, "num_hidden_layers", None)
    layers = {}
    for number, call in enumerate(recorder.calls):
        layers.setdefault(number if call["index"] is None else call["index"], call)
    if not count or (layers and max(layers) >= count):
        count = max(layers) + 1
    return [layer_facts(layers[i], text_config) if i in layers else None for i in range(count)]


def kept(config):
    return {k: kept(v) if isinstance(v, dict) and k not in ("rope_parameters", "rope_scaling", "per_layer_config") else v
            for k, v in config.items() if k in KEPT_KEYS}


def merged(base, change):
    out = dict(base)
    for key, value in change.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merged(out.get(key, {}), value) if key == "text_config" else value
    return out


def bare(full, text_type):
    """Nothing but the names: every number is then the family's own default."""
    nested = {k: {"model_type": text_type} for k in ("text_config",) if k in full and full["model_type"] != text_type}
    return {"model_type": full["model_type"]} | nested


def encode(layers):
    kinds, text = {}, ""
    for facts in layers:
        if facts is None:
            text += "."
            continue
        found = next((c for c, k in kinds.items() if k == facts), None)
        if found is None:
            found = chr(ord("a") + len(kinds)) if len(kinds) < 26 else chr(ord("A") + len(kinds) - 26)
            kinds[found] = facts
        text += found
    return text, kinds


def main(wanted):
    done, count = set(), 0
    for model_type in dict.fromkeys(name for _, names in AUTO for name in names):
        if wanted and model_type not in wanted or model_type in SKIPPED:
            continue
        try:
            config_class = CONFIG_MAPPING[model_type]
            config = config_class(**BASE_OVERRIDES.get(model_type, {}))
        except Exception as e:
            print(f"{model_type}: default config: {e!r:.200}", file=sys.stderr)
            continue
        full = json.loads(config_class(**BASE_OVERRIDES.get(model_type, {})).to_json_string())
        for part in (full, full.get("text_config", {})):
            part.pop("time_step_limit", None)  # an infinity that from_dict does not take back
        text = config.get_text_config(decoder=True)
        known = text.model_type in done
        done.add(text.model_type)
        base = -1
        queue = [("default", {})]
        while queue:
            name, change = queue.pop(0)
            try:
                source = merged(full, change) if change is not None else bare(full, text.model_type)
                config = config_class.from_dict(json.loads(json.dumps(source)))
                layer_string, kinds = encode(probe(model_type, config))
            except Exception as e:
                print(f"{model_type}/{name}: {e!r:.200}", file=sys.stderr)
                continue
            whole = name in ("default", "bare")
            stored = kept(source) if whole else change
            case = {"name": f"{model_type}/{name}", "base": -1 if whole else base, "config": stored, "layers": layer_string,
                    "kinds": kinds}
            print(json.dumps(case, separators=(",", ":")), flush=True)
            if name == "default":
                base = count
                pairs = max((tables.pairs[r[1]] for k in kinds.values() for r in k.get("rope", [])), default=0)
                queue = [] if known else variants(full, text, pairs)
            count += 1


if __name__ == "__main__":
    main(sys.argv[1:])
