/* The weight file that train.py writes (format: its head), in the form that the engine computes with. */
#ifndef TINYLM_WEIGHTS_H
#define TINYLM_WEIGHTS_H

#include <stdbool.h>

#include "matrix.h"

enum { TINYLM_ROPE = 0, TINYLM_ALIBI = 1 };

typedef struct tinylm_layer {
  float *attn_norm, *ffn_norm; /* [width] */
  tinylm_matrix wq, wk, wv, wo, w_gate, w_up, w_down;
} tinylm_layer;

typedef struct tinylm_weights {
  int position; /* TINYLM_ROPE or TINYLM_ALIBI */
  int vocab, num_layers, width, heads, kv_heads, head_dim, hidden;
  int context; /* bytes of a training window */
  float rope_theta, norm_eps;
  float *embed;          /* [vocab][width] */
  tinylm_matrix unembed; /* the same numbers, from width to vocab */
  tinylm_layer *layers;
  float *norm; /* [width] */
} tinylm_weights;

/* Nothing in the file is trusted. On failure: false, and `message` says in one line what is wrong; nothing is left to free. */
bool tinylm_weights_open(tinylm_weights *w, const char *path, char message[256]);
void tinylm_weights_close(tinylm_weights *w);

#endif
