/* Products with weight matrices. */
#ifndef TINYLM_MATRIX_H
#define TINYLM_MATRIX_H

#include <stdbool.h>

/* [out][in], kept in panels of TINYLM_PANEL outputs, [panel][in][TINYLM_PANEL]: the inner loop then runs over neighbouring
 * outputs, which vectorises without reordering any sum. */
enum { TINYLM_PANEL = 32 };

typedef struct tinylm_matrix {
  int in, out;
  float *panels; /* outputs past `out` are 0 */
} tinylm_matrix;

/* From rows [out][in]. false: out of memory. */
bool tinylm_matrix_make(tinylm_matrix *m, int in, int out, const float *rows);
void tinylm_matrix_free(tinylm_matrix *m);

/* y[r] = M x[r] for r < rows; x [rows][in], y [rows][out]. add: y += instead. */
void tinylm_matrix_apply(const tinylm_matrix *m, const float *x, int rows, float *y, bool add);

#endif
