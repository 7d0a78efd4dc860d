/* The conventions of model families, as data: one row a family, in families.def. */
#ifndef SPINDLE_CONFIG_FAMILIES_H
#define SPINDLE_CONFIG_FAMILIES_H

#include <stdint.h>

/* Positions */
#define FAMILY_NO_ROPE          (1u << 0)  /* learned, sinusoidal or no positions: nothing rotates */
#define FAMILY_ROPE_KEY         (1u << 1)  /* rotates only where position_embedding_type is "rope" */
#define FAMILY_INTERLEAVED      (1u << 2)  /* pairs (2t, 2t+1) */
#define FAMILY_INTERLEAVE_KEY   (1u << 3)  /* ... unless rope_interleave is false */
#define FAMILY_PARTIAL          (1u << 4)  /* partial_rotary_factor counts under rope type "default" too */
#define FAMILY_NEGATIVE         (1u << 5)  /* rotates by minus the angle */
#define FAMILY_NOPE_FULL        (1u << 6)  /* only sliding layers rotate */
#define FAMILY_NOPE_LIST        (1u << 7)  /* no_rope_layers[i] == 0: layer i does not rotate */
#define FAMILY_SCALED_FULL      (1u << 8)  /* rope_scaling and rope_theta hold for full layers only */
#define FAMILY_NO_LEGACY        (1u << 9)  /* reads rope_parameters only */
#define FAMILY_THETA_FLAG       (1u << 10) /* layer_rope_theta says whether a layer rotates, not how */
#define FAMILY_FIXED_THETA      (1u << 11) /* 10000, whatever the file says */
#define FAMILY_LONGROPE_ALIASES (1u << 12) /* types "su" and "yarn" mean longrope */
#define FAMILY_MSCALE_LISTS     (1u << 13) /* long_mscale and short_mscale of the rope parameters are A */
#define FAMILY_ALIBI            (1u << 14)
#define FAMILY_ALIBI_KEY        (1u << 15) /* where `alibi` (or attn_config.alibi) says so */
#define FAMILY_WINDOW_BEHIND    (1u << 16) /* sliding_window_size keys behind the query's own */
#define FAMILY_BAICHUAN         (1u << 17) /* 7B (hidden size 4096) rotates, 13B has ALiBi; nothing else says it */
/* Scores */
#define FAMILY_SCALE_ONE        (1u << 18)
#define FAMILY_SCALE_MULTIPLIER (1u << 19) /* attention_multiplier */
#define FAMILY_SCALE_QUERY      (1u << 20) /* query_pre_attn_scalar^-1/2 */
#define FAMILY_SOFTCAP          (1u << 21) /* attn_logit_softcapping */
#define FAMILY_MSCALE           (1u << 22) /* times (0.1 mscale_all_dim ln factor + 1)^2 */
#define FAMILY_SINKS            (1u << 23) /* a learned sink per head */
#define FAMILY_SINKS_SLIDING    (1u << 24) /* ... on sliding layers only */
#define FAMILY_TEMPERATURE      (1u << 25) /* Llama 4's row scale on layers that do not rotate */
#define FAMILY_BETA             (1u << 26) /* llama_4_scaling_beta of the rope parameters */
/* Heads and masks */
#define FAMILY_KV_EXPANDED    (1u << 27) /* attends with as many KV heads as query heads */
#define FAMILY_FALCON         (1u << 28) /* KV heads by multi_query, new_decoder_architecture; ALiBi before the scale */
#define FAMILY_WINDOW_SWITCH  (1u << 29) /* a window counts only where use_sliding_window is true */
#define FAMILY_WINDOW_ON_FULL (1u << 30) /* every layer that attends has the window, if there is one */
#define FAMILY_SCALED_BOTH    (1u << 31) /* rope_scaling goes on top of the sets of both full and sliding layers */

/* Layer types where the file has no list of them. */
enum {
  TYPES_FULL,         /* all the same: sliding if there is a window, else full */
  TYPES_EVERY,        /* layer i is full if i % period == phase, else `other` */
  TYPES_FROM_END,     /* ... if (L - 1 - i) % period == 0 */
  TYPES_MAX_WINDOW,   /* sliding from layer max_window_layers on */
  TYPES_NOPE,         /* Llama 4: chunked where the layer rotates, else full */
  TYPES_NOPE_SLIDING, /* sliding where the layer does not rotate */
  TYPES_ALTERNATE,    /* below max_window_layers, even layers slide */
  TYPES_CROSS,        /* those of cross_attention_layers do not attend to the text */
  TYPES_LISTED        /* too irregular: the file must list them */
};

typedef struct spindle__family {
  const char *names;   /* separated by spaces */
  const char *refused; /* why Spindle cannot serve it */
  uint32_t flags;
  /* Defaults of keys that a file leaves out; 0: none. */
  int32_t layers, hidden, heads, kv_heads, head_dim, max_positions, original, window, chunk;
  int32_t nope_dim, rope_dim, v_dim; /* MLA; v_dim alone: values narrower than keys; rope_dim alone: rotary dims */
  int32_t global_head_dim;           /* head dim of full layers where it differs */
  double theta, local_theta;         /* local: of sliding layers where it differs; 0: 10000 */
  double partial, full_partial;      /* full: of full layers where it differs */
  double multiplier;                 /* of attention_multiplier or query_pre_attn_scalar */
  double softcap;
  const char *full_type;       /* rope type of full layers */
  int8_t rope_without_window;  /* NOPE_FULL, but all layers rotate where there is no window */
  int8_t needs_rope;           /* the default is scaled in a way that the file must say */
  int8_t attentions;           /* per layer counted by the file; default 1 */
  int8_t one_kv_per_head;      /* knows no num_key_value_heads */
  int8_t sliding_kv;           /* KV heads of sliding layers are so many times those of full ones; default 1 */
  int8_t types, period, phase; /* phase -1: period - 1 */
  int8_t first, last;          /* so many full layers at the start (negative: never full) and at the end */
  const char *other;           /* type of the others, default sliding_attention */
} spindle__family;

/* NULL if the name is unknown. "": the conventions of Llama and no defaults. */
const spindle__family *spindle__family_find(const char *model_type);

#endif
