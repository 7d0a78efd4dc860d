/* Row scales: a factor on all scores of a query row.
 *
 * log-n: Su 2021 (kexue.fm/8823), as Qwen applies it; Llama 4 and Ministral: Hugging Face modeling_llama4, modeling_ministral3;
 * SSMax: Nakanishi 2025 (arXiv:2501.19399). */
#ifndef SPINDLE_KERNELS_ROPE_ROW_SCALE_H
#define SPINDLE_KERNELS_ROPE_ROW_SCALE_H

#include <math.h>

#include "../common.h"

/* Of row i; for SSMax the ln m that each head scales in its own way. */
SPINDLE__SHARED double spindle__row_scale(const spindle_position *p, int64_t i, int64_t n) {
  double x = (double)spindle__max(i, 0), length = p->row_scale_length;
  switch (p->row_scale) {
    case SPINDLE_ROWSCALE_LOGN: return fmax(1.0, log(x + 1) / log(length));
    case SPINDLE_ROWSCALE_LLAMA4: return 1.0 + p->row_scale_beta * log(1.0 + floor((x + 1) / length));
    case SPINDLE_ROWSCALE_MINISTRAL: return 1.0 + p->row_scale_beta * log(1.0 + floor(x / length));
    case SPINDLE_ROWSCALE_SSMAX: return log(p->not_causal ? (double)n : x + 1);
    default: return 1.0;
  }
}

#endif
