/* What lies between the matrices. */
#ifndef TINYLM_LAYERS_H
#define TINYLM_LAYERS_H

#include <stddef.h>

/* y = x / sqrt(mean(x^2) + eps) * weight, per row. x, y [rows][width]. */
void tinylm_rmsnorm(const float *x, const float *weight, float eps, int rows, int width, float *y);

/* gate = gate / (1 + exp(-gate)) * up */
void tinylm_swiglu(float *gate, const float *up, size_t count);

/* -log softmax(logits)[chosen], in nats. */
double tinylm_surprise(const float *logits, int vocab, int chosen);

#endif
