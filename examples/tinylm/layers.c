#include "layers.h"

#include <math.h>

enum { SERIAL_ROWS = 16, SERIAL_VALUES = 1 << 13 }; /* below, waking threads costs more than they save */

void tinylm_rmsnorm(const float *x, const float *weight, float eps, int rows, int width, float *y) {
#pragma omp parallel for schedule(static) if (rows >= SERIAL_ROWS)
  for (int r = 0; r < rows; r++) {
    const float *in = x + (size_t)r * (size_t)width;
    float *out = y + (size_t)r * (size_t)width, squares = 0;
    for (int c = 0; c < width; c++) squares += in[c] * in[c];
    float scale = 1 / sqrtf(squares / (float)width + eps);
    for (int c = 0; c < width; c++) out[c] = in[c] * scale * weight[c];
  }
}

void tinylm_swiglu(float *gate, const float *up, size_t count) {
#pragma omp parallel for schedule(static) if (count >= SERIAL_VALUES)
  for (size_t i = 0; i < count; i++) gate[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

double tinylm_surprise(const float *logits, int vocab, int chosen) {
  float most = logits[0];
  double sum = 0;
  for (int c = 1; c < vocab; c++) most = logits[c] > most ? logits[c] : most;
  for (int c = 0; c < vocab; c++) sum += exp((double)(logits[c] - most));
  return log(sum) + (double)(most - logits[chosen]);
}
