/* Every rule at random parameters, by the library and by the reference backend, which share no line of code: the same frequencies
 * and factors on both sides of every switch in n. Catches what no paper prints a number for: options that meet, defaults,
 * borders. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "host/reference/reference.h"
#include "support/random.h"

enum { DRAWS = 400 };

typedef struct {
  spindle_position position;
  spindle_shape shape;
  double inv_freq[SPINDLE__MAX_PAIRS], short_factor[SPINDLE__MAX_PAIRS], long_factor[SPINDLE__MAX_PAIRS];
} sample;

static double log_real(test_random *r, double lo, double hi) { return lo * pow(hi / lo, test_random_real(r, 0, 1)); }

static bool names(const char *list, const char *name) {
  size_t length = strlen(name);
  for (const char *at = list; (at = strstr(at, name)); at += length)
    if ((at == list || strchr(" |", at[-1])) && strchr(" |", at[length])) return true; /* strchr finds the end, too */
  return false;
}

static double *draw_list(test_random *r, double *list, bool frequencies) {
  for (int32_t t = 0; t < SPINDLE__MAX_PAIRS; t++)
    list[t] = frequencies ? test_random_real(r, -1, 1) * (double)test_random_int(r, 0, 1) : log_real(r, 0.5, 64);
  return list;
}

/* Any one of the fields that the method may read, by its offset in the descriptor. */
static void draw_parameter(test_random *r, const spindle_parameter *parameter, sample *s) {
  spindle_position *p = &s->position;
  switch (parameter->offset) {
    case offsetof(spindle_position, rope_theta): p->rope_theta = log_real(r, 100, 1e7); break;
    case offsetof(spindle_position, factor): p->factor = test_random_once_in(r, 8) ? 1 : log_real(r, 1, 64); break;
    case offsetof(spindle_position, original_max_position_embeddings):
      p->original_max_position_embeddings = (double)test_random_log(r, 32, 1 << 17);
      break;
    case offsetof(spindle_position, max_position_embeddings):
      p->max_position_embeddings = (double)test_random_log(r, 32, 1 << 20);
      break;
    case offsetof(spindle_position, attention_factor): p->attention_factor = test_random_real(r, 0.5, 2); break;
    case offsetof(spindle_position, beta_fast): p->beta_fast = log_real(r, 4, 64); break;
    case offsetof(spindle_position, beta_slow): p->beta_slow = log_real(r, 0.1, 3); break;
    case offsetof(spindle_position, no_truncate): p->no_truncate = 1; break;
    case offsetof(spindle_position, finetuned): p->finetuned = 1; break;
    case offsetof(spindle_position, mscale): p->mscale = test_random_real(r, 0.1, 2); break;
    case offsetof(spindle_position, mscale_all_dim): p->mscale_all_dim = test_random_real(r, 0.1, 2); break;
    case offsetof(spindle_position, low_freq_factor): p->low_freq_factor = log_real(r, 0.5, 3); break;
    case offsetof(spindle_position, high_freq_factor): p->high_freq_factor = log_real(r, 3.5, 32); break;
    case offsetof(spindle_position, partial_rotary_factor): p->partial_rotary_factor = 1 - test_random_real(r, 0, 1); break;
    case offsetof(spindle_position, alpha): p->alpha = log_real(r, 1, 64); break;
    case offsetof(spindle_position, ntk_b): p->ntk_b = 1 - test_random_real(r, 0, 1); break;
    case offsetof(spindle_position, scale_base): p->scale_base = log_real(r, 16, 4096); break;
    case offsetof(spindle_position, inv_freq): p->inv_freq = draw_list(r, s->inv_freq, true); break;
    case offsetof(spindle_position, short_factor): p->short_factor = draw_list(r, s->short_factor, false); break;
    case offsetof(spindle_position, long_factor): p->long_factor = draw_list(r, s->long_factor, false); break;
    default: cr_assert_fail("no values for parameter %s", parameter->name);
  }
}

/* Required parameters always, optional ones and both sides of an "a|b" every other time. */
static void draw(test_random *r, const spindle_method *method, sample *s) {
  int32_t count, d = 2 * (int32_t)test_random_int(r, 2, 128);
  const spindle_parameter *all = spindle_parameters(&count);
  memset(s, 0, sizeof *s);
  s->shape = (spindle_shape){.struct_size = sizeof s->shape, .q_dtype = SPINDLE_F32, .num_q_heads = 1, .head_dim_qk = d};
  s->position.struct_size = sizeof s->position;
  s->position.rope = method->kind;
  for (int32_t k = 0; k < count; k++) {
    if (all[k].family != SPINDLE_FAMILY_ROPE) continue;
    if (all[k].offset == offsetof(spindle_position, partial_rotary_factor) && method->kind != SPINDLE_ROPE_PROPORTIONAL) continue;
    bool required = names(method->required, all[k].name) && !strchr(method->required, '|');
    bool optional = names(method->optional, all[k].name) || names(method->required, all[k].name);
    if (all[k].type == SPINDLE_PARAMETER_LIST && names(method->required, all[k].name)) required = true;
    if (required || (optional && test_random_once_in(r, 2))) draw_parameter(r, &all[k], s);
  }
  if (s->position.inv_freq || s->position.short_factor || s->position.long_factor) s->position.num_pairs = d / 2;
}

/* Lengths at which some rule changes, and one on either side. */
static int64_t draw_n(test_random *r, const spindle_position *p) {
  double length = p->original_max_position_embeddings, most = p->max_position_embeddings;
  double switches[] = {length, most, length * p->factor, length * (double)(1 << test_random_int(r, 0, 6)), 0};
  double around = switches[test_random_int(r, 0, 4)];
  int64_t n = around >= 1 && around < 0x1p39 ? (int64_t)around + test_random_int(r, -1, 1) : test_random_log(r, 1, 1 << 22);
  return n > 0 ? n : 1;
}

static bool same(double a, double b) { return fabs(a - b) <= 1e-12 * fabs(b); }

static bool agree(const sample *s, int64_t n) {
  double w[SPINDLE__MAX_PAIRS], a, scale;
  cr_assert_eq(spindle_position_resolve(&s->position, &s->shape, n, w, &a, &scale), SPINDLE_OK, "%s", spindle_last_error());
  spindle__ref_rope rope;
  spindle__ref_rope_at(&s->position, s->shape.head_dim_qk, n, &rope);
  bool agreed = same(a, rope.attention_factor) && same(scale, rope.softmax_scale_factor);
  if (!agreed)
    cr_log_error("A %.17g and %.17g, scale %.17g and %.17g", a, rope.attention_factor, scale, rope.softmax_scale_factor);
  for (int32_t t = 0; t < s->shape.head_dim_qk / 2; t++) {
    if (same(w[t], rope.w[t])) continue;
    if (agreed) cr_log_error("pair %d of %d: %.17g and %.17g", t, rope.num_pairs, w[t], rope.w[t]);
    agreed = false;
  }
  return agreed;
}

Test(rules_random, library_and_reference_agree) {
  test_random r = test_random_start();
  int32_t count, rules = 0;
  const spindle_method *methods = spindle_methods(&count);
  for (int32_t m = 0; m < count; m++) {
    if (methods[m].family != SPINDLE_FAMILY_ROPE) continue;
    rules++;
    int32_t accepted = 0;
    for (int32_t k = 0; k < DRAWS; k++) {
      sample s;
      draw(&r, &methods[m], &s);
      if (spindle_position_resolve(&s.position, &s.shape, 1, NULL, NULL, NULL) != SPINDLE_OK) continue;
      accepted++;
      const spindle_position *p = &s.position;
      int64_t n = draw_n(&r, p);
      cr_expect(
          agree(&s, n),
          "%s, d = %d, n = %lld: theta %g factor %g L %g max %g A %g beta %g %g mscale %g %g freq %g %g partial %g alpha %g "
          "no_truncate %d finetuned %d",
          methods[m].name, s.shape.head_dim_qk, (long long)n, p->rope_theta, p->factor, p->original_max_position_embeddings,
          p->max_position_embeddings, p->attention_factor, p->beta_fast, p->beta_slow, p->mscale, p->mscale_all_dim,
          p->low_freq_factor, p->high_freq_factor, p->partial_rotary_factor, p->alpha, p->no_truncate, p->finetuned);
    }
    cr_expect(accepted >= DRAWS / 4, "%s: only %d of %d descriptors were valid: %s", methods[m].name, accepted, DRAWS,
              spindle_last_error());
  }
  cr_expect_eq(rules, SPINDLE_ROPE_TABLE + 1);
}
