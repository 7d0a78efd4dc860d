#include "methods.h"

#include <math.h>
#include <string.h>

enum {
  PLAIN,
  LINEAR,
  NTK,
  NTK_CRITICAL,
  NTK_MIXED,
  DYNAMIC_NTK,
  DYNAMIC_NTK_CRITICAL,
  YARN,
  DYNAMIC_YARN,
  LOGN,
  REROPE,
  REROPE_LOGN,
  LEAKY_REROPE,
  SELF_EXTEND,
  DCA,
  STREAMING,
  WINDOW,
  ALIBI
};

const tinylm_method tinylm_methods[] = {
    [PLAIN] = {"rope", "RoPE", 0},
    [LINEAR] = {"linear", "linear (PI)", TINYLM_SIZED},
    [NTK] = {"ntk", "NTK", TINYLM_SIZED},
    [NTK_CRITICAL] = {"ntk-critical", "NTK, critical base", TINYLM_SIZED},
    [NTK_MIXED] = {"ntk-mixed", "NTK-mixed", TINYLM_SIZED},
    [DYNAMIC_NTK] = {"dynamic-ntk", "dynamic NTK", 0},
    [DYNAMIC_NTK_CRITICAL] = {"dynamic-ntk-critical", "dynamic NTK, critical", TINYLM_SIZED},
    [YARN] = {"yarn", "YaRN", TINYLM_SIZED},
    [DYNAMIC_YARN] = {"dynamic-yarn", "dynamic YaRN", 0},
    [LOGN] = {"logn", "log-n", 0},
    [REROPE] = {"rerope", "ReRoPE", 0},
    [REROPE_LOGN] = {"rerope-logn", "ReRoPE + log-n", 0},
    [LEAKY_REROPE] = {"leaky-rerope", "Leaky ReRoPE", TINYLM_SIZED},
    [SELF_EXTEND] = {"self-extend", "Self-Extend", TINYLM_SIZED},
    [DCA] = {"dca", "DCA", 0},
    [STREAMING] = {"streaming", "StreamingLLM", 0},
    [WINDOW] = {"window", "window", 0},
    [ALIBI] = {"alibi", "ALiBi", TINYLM_MODEL_ALIBI},
};
const int tinylm_num_methods = sizeof tinylm_methods / sizeof *tinylm_methods;

const tinylm_method *tinylm_method_find(const char *name) {
  for (int m = 0; m < tinylm_num_methods; m++)
    if (!strcmp(tinylm_methods[m].name, name)) return tinylm_methods + m;
  return NULL;
}

/* The alpha at which the fastest pair that completes no turn within the context completes none within `factor` contexts either
 * (Liu et al. 2023, arXiv:2310.05209: the critical base). With heads of 128 and a context of 2048, where the usual advice comes
 * from, that is factor^1.6, which 2 factor - 1 follows up to 4; with heads of 64 and a context of 256 it is factor^2.4. */
static double critical_alpha(const tinylm_weights *w, double factor) {
  spindle_rope_extension law = {.struct_size = sizeof law};
  spindle_rope_max_extension(w->head_dim, w->rope_theta, w->context, w->rope_theta, w->context * factor, &law);
  return pow(law.critical_base / w->rope_theta, (w->head_dim - 2.0) / w->head_dim);
}

static void set_rule(spindle_position *p, int method, const tinylm_weights *w, double factor) {
  switch (method) {
    case LINEAR:
      p->rope = SPINDLE_ROPE_LINEAR;
      p->factor = factor;
      break;
    case NTK: /* alpha must exceed the factor; by how much, dynamic NTK with its usual 2 says */
      p->rope = SPINDLE_ROPE_NTK;
      p->alpha = 2 * factor - 1;
      break;
    case NTK_CRITICAL:
      p->rope = SPINDLE_ROPE_NTK;
      p->alpha = critical_alpha(w, factor);
      break;
    case NTK_MIXED:
      p->rope = SPINDLE_ROPE_NTK_MIXED;
      p->factor = factor;
      break;
    case DYNAMIC_NTK:
      p->rope = SPINDLE_ROPE_DYNAMIC_NTK;
      p->max_position_embeddings = w->context;
      p->factor = 2;
      break;
    case DYNAMIC_NTK_CRITICAL: /* alpha = 1 + (n / context - 1) * this: critical at the longest text, and at the trained length 1
                                */
      p->rope = SPINDLE_ROPE_DYNAMIC_NTK;
      p->max_position_embeddings = w->context;
      p->factor = (critical_alpha(w, factor) - 1) / (factor - 1);
      break;
    case YARN:
      p->rope = SPINDLE_ROPE_YARN;
      p->original_max_position_embeddings = w->context;
      p->factor = factor;
      break;
    case DYNAMIC_YARN:
      p->rope = SPINDLE_ROPE_DYNAMIC_YARN;
      p->original_max_position_embeddings = w->context;
      break;
    default: break;
  }
}

static void set_remap(spindle_position *p, int method, int context, double factor) {
  switch (method) {
    case REROPE: /* Su: a window of a quarter to half of the context */
    case REROPE_LOGN:
      p->remap = SPINDLE_REMAP_REROPE;
      p->remap_window = context / 2;
      break;
    case SELF_EXTEND: /* w + (longest - w) / group: 3/4 of the context; beyond, distances are rare in training. group | window */
      p->remap = SPINDLE_REMAP_SELF_EXTEND;
      p->remap_group = (int64_t)(4 * factor);
      p->remap_window = context / 2;
      break;
    case LEAKY_REROPE: /* the same for w + (longest - w) / k */
      p->remap = SPINDLE_REMAP_LEAKY_REROPE;
      p->remap_window = context / 2;
      p->remap_k = 4 * factor;
      break;
    case DCA: /* as released: 3/4 and 1/8 of the context */
      p->remap = SPINDLE_REMAP_DCA;
      p->remap_chunk = context * 3 / 4;
      p->remap_local = context / 8;
      break;
    case STREAMING: /* 4 sinks; as many keys as the context in all */
      p->remap = SPINDLE_REMAP_STREAMING;
      p->remap_sink_tokens = 4;
      p->remap_window = context - 5;
      break;
    case WINDOW: p->window_left = context; break;
    default: break;
  }
}

spindle_position tinylm_method_position(const tinylm_method *method, const tinylm_weights *w, int longest) {
  int which = (int)(method - tinylm_methods);
  double factor = (double)longest / w->context;
  spindle_position p = {.struct_size = sizeof p};
  if (w->position == TINYLM_ALIBI) return p; /* no rotation; the shape says ALiBi */
  p.rope = SPINDLE_ROPE_DEFAULT;
  p.rope_theta = w->rope_theta;
  if (method->flags & TINYLM_SIZED && factor <= 1) return p; /* nothing to extend */
  set_rule(&p, which, w, factor);
  set_remap(&p, which, w->context, factor);
  if (which == LOGN || which == REROPE_LOGN) {
    p.row_scale = SPINDLE_ROWSCALE_LOGN;
    p.row_scale_length = w->context;
  }
  return p;
}
