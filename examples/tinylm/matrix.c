#include "matrix.h"

#include <stdlib.h>
#include <string.h>

/* One task: ROWS rows against one panel. The sums of a block stay in registers: 4 x 32 floats are 8 of AVX-512. */
enum { ROWS = 4, SERIAL_ROWS = 16 /* below, waking threads costs more than they save */ };

bool tinylm_matrix_make(tinylm_matrix *m, int in, int out, const float *rows) {
  int panels = (out + TINYLM_PANEL - 1) / TINYLM_PANEL;
  *m = (tinylm_matrix){.in = in, .out = out, .panels = calloc((size_t)panels * TINYLM_PANEL * (size_t)in, sizeof(float))};
  if (!m->panels) return false;
  for (int o = 0; o < out; o++)
    for (int i = 0; i < in; i++)
      m->panels[((size_t)(o / TINYLM_PANEL) * (size_t)in + (size_t)i) * TINYLM_PANEL + o % TINYLM_PANEL] =
          rows[(size_t)o * in + i];
  return true;
}

void tinylm_matrix_free(tinylm_matrix *m) {
  free(m->panels);
  m->panels = NULL;
}

static void multiply_block(const float *const x[ROWS], const float *restrict w, int in, float y[ROWS][TINYLM_PANEL]) {
  float sum[ROWS][TINYLM_PANEL] = {{0}}; /* y itself would be stored and loaded at every step */
  for (int i = 0; i < in; i++, w += TINYLM_PANEL)
    for (int r = 0; r < ROWS; r++)
      for (int c = 0; c < TINYLM_PANEL; c++) sum[r][c] += x[r][i] * w[c];
  memcpy(y, sum, sizeof sum);
}

void tinylm_matrix_apply(const tinylm_matrix *m, const float *x, int rows, float *y, bool add) {
  int panels = (m->out + TINYLM_PANEL - 1) / TINYLM_PANEL, blocks = (rows + ROWS - 1) / ROWS;
#pragma omp parallel for collapse(2) schedule(static) if (rows >= SERIAL_ROWS)
  for (int p = 0; p < panels; p++)
    for (int b = 0; b < blocks; b++) {
      int first = b * ROWS, count = rows - first < ROWS ? rows - first : ROWS;
      int column = p * TINYLM_PANEL, columns = m->out - column < TINYLM_PANEL ? m->out - column : TINYLM_PANEL;
      const float *block[ROWS];
      float sum[ROWS][TINYLM_PANEL];
      for (int r = 0; r < ROWS; r++) /* a short block computes its last row again */
        block[r] = x + (size_t)(first + (r < count ? r : count - 1)) * m->in;
      multiply_block(block, m->panels + (size_t)column * m->in, m->in, sum);
      for (int r = 0; r < count; r++) {
        float *to = y + (size_t)(first + r) * m->out + column;
        for (int c = 0; c < columns; c++) to[c] = add ? to[c] + sum[r][c] : sum[r][c];
      }
    }
}
