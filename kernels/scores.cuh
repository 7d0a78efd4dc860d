/* Scores of a row half before the softmax, where there is more to them than a scale. */
#ifndef SPINDLE_KERNELS_SCORES_CUH
#define SPINDLE_KERNELS_SCORES_CUH

#include "keys.cuh"
#include "softmax.cuh"

namespace spindle {

/* What a kernel is compiled for. GENERAL: with softcap or bias. */
enum class Scores { PLAIN, GENERAL };

SPINDLE__SHARED Scores scores_of(const spindle__attention_params &p) {
  return p.shape.bias != SPINDLE_BIAS_NONE || p.args.softcap > 0.0f ? Scores::GENERAL : Scores::PLAIN;
}

/* Softcap and bias of row half h, which is the item's row `row`; scores are in units of log 2 then. */
template <int N, int Rows, int Keys>
SPINDLE__DEVICE void finish_scores(const spindle__attention_params &p, const Work<Rows> &work, const KeyTile<Keys> &keys,
                                   const Columns &columns, int row, int h, float (&s)[N][4]) {
  const float scale = work.scale[row];
  SPINDLE__UNROLL
  for (int n = 0; n < N; ++n) {
    s[n][2 * h] *= scale;
    s[n][2 * h + 1] *= scale;
  }
  if (p.args.softcap > 0.0f) softcap_row(s, h, p.args.softcap * (float)LOG2_E);
  if (!p.shape.bias) return;
  const Bias bias = {p.shape.bias, work.bias_a[row], work.bias_p[row]};
  const int64_t i = p.state.requests[work.request].request.q_index + work.row[row];
  const float first = (float)(i - columns.base);
  if (columns.affine)
    add_bias_row(s, h, bias, [first](int c) { return fabsf(first - (float)c); });
  else
    add_bias_row(s, h, bias, [i, &keys](int c) { return fabsf((float)(i - keys.index[c])); });
}

}  // namespace spindle

#endif
