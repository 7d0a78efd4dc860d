/* The region algebra against the per-pair definitions: every visible (i, j) lies in exactly one group of exactly one segment, at
 * the position difference that the method defines; no tile has more segments than promised, and merging leaves little walked
 * twice. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernels/segments.h"
#include "support/pairs.h"
#include "support/random.h"

#define MAX_ROWS 256
#define MAX_KEYS 5000

static uint8_t seen[MAX_ROWS * MAX_KEYS]; /* [row of the tile][key] */

/* ---- Random methods ---- */

static void draw_remap(test_random *r, test_method *m, int32_t remap, int64_t n) {
  spindle_position *p = &m->position;
  int64_t longest = n < 2 ? 2 : n;
  p->remap = remap;
  p->remap_window = test_random_log(r, 1, longest);
  p->remap_sink_tokens = test_random_log(r, 1, 1 + longest / 4);
  p->remap_group = test_random_log(r, 1, 16);
  m->k_num = m->k_den = 1;
  if (remap == SPINDLE_REMAP_LEAKY_REROPE) {
    m->k_num = test_random_int(r, 1, 16);
    m->k_den = test_random_int(r, 1, 16);
  }
  if (remap == SPINDLE_REMAP_SELF_EXTEND) p->remap_window = p->remap_group * test_random_log(r, 1, 1 + longest / p->remap_group);
  p->remap_chunk = test_random_log(r, 2, longest);
  p->remap_local = test_random_int(r, 1, p->remap_chunk - 1);
  p->remap_pretrain = p->remap_chunk + p->remap_local;
}

static void draw_mask(test_random *r, test_method *m, int64_t n) {
  spindle_position *p = &m->position;
  p->not_causal = p->remap == SPINDLE_REMAP_NONE && test_random_once_in(r, 3);
  if (test_random_once_in(r, 2)) p->window_left = test_random_log(r, 1, n);
  if (p->window_left && test_random_once_in(r, 2)) p->sink_tokens = test_random_log(r, 1, 1 + n / 4);
  if (p->not_causal && test_random_once_in(r, 2)) p->window_right = test_random_log(r, 1, n);
  if (test_random_once_in(r, 3)) p->chunk = test_random_log(r, 1, n);
  if (test_random_once_in(r, 3)) p->s2_group = 2 * test_random_log(r, 1, 1 + n / 2);
  m->shifted = test_random_once_in(r, 2);
}

/* What the library accepts beside wrap. */
static bool may_wrap(const spindle_position *p) {
  return p->s2_group && !p->not_causal && !p->remap && !p->window_left && !p->chunk;
}

static test_method draw_method(test_random *r, int64_t n) {
  test_method m;
  memset(&m, 0, sizeof m);
  draw_remap(r, &m, (int32_t)test_random_int(r, SPINDLE_REMAP_NONE, SPINDLE_REMAP_LM_INFINITE), n);
  draw_mask(r, &m, n);
  m.n = n;
  if (may_wrap(&m.position) && test_random_once_in(r, 2)) {
    m.position.s2_wrap = 1;
    m.n = (n + m.position.s2_group - 1) / m.position.s2_group * m.position.s2_group;
  }
  return m;
}

static const char *describe(const test_method *m, int64_t i0, int64_t i1, int64_t key_lo, int64_t key_hi) {
  static char text[600];
  const spindle_position *p = &m->position;
  snprintf(text, sizeof text,
           "remap %d (window %" PRId64 ", group %" PRId64 ", chunk %" PRId64 ", local %" PRId64 ", pretrain %" PRId64
           ", sinks %" PRId64 ", k %" PRId64 "/%" PRId64 "), not_causal %d, window_left %" PRId64 ", window_right %" PRId64
           ", sink_tokens %" PRId64 ", chunk %" PRId64 ", s2_group %" PRId64 " wrap %d shifted %d; n %" PRId64 ", rows [%" PRId64
           ", %" PRId64 "), keys [%" PRId64 ", %" PRId64 ")",
           p->remap, p->remap_window, p->remap_group, p->remap_chunk, p->remap_local, p->remap_pretrain, p->remap_sink_tokens,
           m->k_num, m->k_den, p->not_causal, p->window_left, p->window_right, p->sink_tokens, p->chunk, p->s2_group, p->s2_wrap,
           m->shifted, m->n, i0, i1, key_lo, key_hi);
  return text;
}

/* ---- One tile ---- */

/* k_num times the position: a scaled map yields the integer before the scaling by 1/k, and the offset window (1 - 1/k) apart. */
static int64_t position_of(const test_method *m, const spindle__map *map, int64_t x) {
  int64_t at = spindle__map_at(map, x);
  if (!map->scaled) return m->k_num * at;
  return m->k_den * at + (map->scaled == 2 ? m->position.remap_window * (m->k_num - m->k_den) : 0);
}

/* Marks in seen[row][key] what the group sees of keys [j0, j1), and checks where it puts them. Returns the pairs. */
static int64_t mark_group(const test_method *m, const spindle__segment *s, const spindle__row_group *g, int64_t j0, int64_t j1,
                          int64_t i0, int64_t key_lo, int64_t num_keys, const char *what) {
  int64_t pairs = 0;
  for (int64_t i = g->i0; i < g->i1; i++) {
    int64_t begin = spindle__max(j0, i - g->dmax), end = spindle__min(j1, i - g->dmin + 1);
    if (begin >= end) continue;
    int64_t q = position_of(m, &g->q_map, i);
    for (int64_t j = begin; j < end; j++) {
      uint8_t *mark = &seen[(i - i0) * num_keys + (j - key_lo)];
      if (*mark) cr_assert_fail("(%" PRId64 ", %" PRId64 ") covered twice: %s", i, j, what);
      *mark = 1;
      if (test_pair_visible(m, i, j) && q - position_of(m, &s->k_map, j) != test_pair_relative(m, i, j))
        cr_assert_fail("(%" PRId64 ", %" PRId64 ") at %" PRId64 " instead of %" PRId64 " / %" PRId64 ": %s", i, j,
                       q - position_of(m, &s->k_map, j), test_pair_relative(m, i, j), m->k_num, what);
    }
    pairs += end - begin;
  }
  return pairs;
}

/* Key tile by key tile, as a backend walks; a tile counts as full exactly if every row of the query tile sees every key of it. */
static void mark_segment(const test_method *m, const spindle__segment *s, int64_t i0, int64_t i1, int64_t key_lo,
                         int64_t num_keys, int64_t tile, const char *what) {
  cr_assert(s->j0 >= key_lo && s->j0 < s->j1 && s->j1 <= key_lo + num_keys, "segment over keys [%" PRId64 ", %" PRId64 "): %s",
            s->j0, s->j1, what);
  cr_assert(s->num_groups >= 1 && s->num_groups <= SPINDLE__MAX_GROUPS, "%d groups: %s", s->num_groups, what);
  for (int32_t g = 0; g < s->num_groups; g++)
    cr_assert(i0 <= s->group[g].i0 && s->group[g].i0 < s->group[g].i1 && s->group[g].i1 <= i1, "rows of group %d: %s", g, what);
  for (int64_t j0 = s->j0; j0 < s->j1; j0 += tile) {
    int64_t j1 = spindle__min(j0 + tile, s->j1), pairs = 0;
    for (int32_t g = 0; g < s->num_groups; g++) pairs += mark_group(m, s, &s->group[g], j0, j1, i0, key_lo, num_keys, what);
    cr_assert_eq(spindle__segment_is_full(s, i0, i1, j0, j1), pairs == (i1 - i0) * (j1 - j0),
                 "keys [%" PRId64 ", %" PRId64 ") full: %s", j0, j1, what);
  }
}

static void check_tile(const test_method *m, int64_t i0, int64_t i1, int64_t key_lo, int64_t key_hi) {
  static spindle__segment segments[SPINDLE__MAX_SEGMENTS];
  int64_t num_keys = key_hi - key_lo;
  const char *what = describe(m, i0, i1, key_lo, key_hi);
  int32_t count = spindle__segments(&m->position, m->n, m->shifted, i0, i1, key_lo, key_hi, segments);
  cr_assert_leq(count, spindle__segment_bound(&m->position), "%d segments: %s", count, what);
  cr_assert_leq(count, SPINDLE__MAX_SEGMENTS);
  memset(seen, 0, (size_t)((i1 - i0) * num_keys));
  for (int32_t s = 0; s < count; s++) mark_segment(m, &segments[s], i0, i1, key_lo, num_keys, 64, what);
  for (int64_t i = i0; i < i1; i++)
    for (int64_t j = key_lo; j < key_hi; j++)
      if (seen[(i - i0) * num_keys + (j - key_lo)] != test_pair_visible(m, i, j))
        cr_assert_fail("(%" PRId64 ", %" PRId64 ") is %s: %s", i, j, test_pair_visible(m, i, j) ? "missed" : "masked, yet seen",
                       what);
}

/* ---- Tests ---- */

/* All tiles of one text, or a few of a long one, over its keys from key_lo. */
static void check_text(test_random *r, int64_t n) {
  test_method m = draw_method(r, n);
  int64_t max_rows = test_random_log(r, 1, MAX_ROWS), keys = m.n;
  int64_t key_lo = test_random_once_in(r, 3) ? test_random_int(r, 0, keys - 1) : 0;
  if (keys - key_lo > MAX_KEYS) key_lo = keys - MAX_KEYS;
  int64_t i0 = test_random_once_in(r, 2) ? 0 : test_random_int(r, 0, keys - 1);
  for (int tiles = 0; tiles < 6 && i0 < keys; tiles++) {
    int64_t i1 = spindle__min(spindle__tile_end(&m.position, i0, max_rows), keys);
    cr_assert(i0 < i1 && i1 <= i0 + max_rows, "tile [%" PRId64 ", %" PRId64 ")", i0, i1);
    check_tile(&m, i0, i1, key_lo, keys);
    i0 = i1;
  }
}

Test(segments, cover_each_visible_pair_once) {
  test_random r = test_random_start();
  for (int round = 0; round < 12000; round++) check_text(&r, test_random_log(&r, 1, 400));
  for (int round = 0; round < 60; round++) check_text(&r, test_random_int(&r, 2000, MAX_KEYS - 1));
}

/* The last keys of texts near the largest index: nothing overflows. */
Test(segments, hold_at_the_largest_indices) {
  test_random r = test_random_start();
  for (int round = 0; round < 2000; round++) {
    int64_t end = SPINDLE__MAX_INDEX - test_random_log(&r, 1, 1000000), keys = test_random_log(&r, 1, 300);
    test_method m = draw_method(&r, test_random_log(&r, 1, 1 << 20));
    if (m.position.s2_wrap) continue;
    int64_t i0 = end - test_random_int(&r, 1, keys);
    int64_t i1 = spindle__min(spindle__tile_end(&m.position, i0, 64), end);
    m.n = end;
    check_tile(&m, i0, i1, end - keys, end);
  }
}

/* A request may be shorter than an S2 group: its rolled keys must then not be counted a second time. */
Test(segments, wrap_in_a_text_shorter_than_the_group) {
  spindle__segment segments[SPINDLE__MAX_SEGMENTS];
  for (int64_t n = 1; n <= 64; n++)
    for (int64_t group = 2; group <= 80; group += 2) {
      spindle_position p = {.s2_group = group, .s2_wrap = 1};
      memset(seen, 0, 64 * 64);
      for (int64_t i0 = 0, i1; i0 < n; i0 = i1) {
        i1 = spindle__min(spindle__tile_end(&p, i0, 16), n);
        int32_t count = spindle__segments(&p, n, 1, i0, i1, 0, n, segments);
        for (int32_t s = 0; s < count; s++)
          for (int32_t g = 0; g < segments[s].num_groups; g++)
            for (int64_t i = segments[s].group[g].i0; i < segments[s].group[g].i1; i++)
              for (int64_t j = segments[s].j0; j < segments[s].j1; j++)
                if (i - j >= segments[s].group[g].dmin && i - j <= segments[s].group[g].dmax) seen[i * 64 + j]++;
      }
      for (int64_t x = 0; x < 64 * 64; x++)
        cr_assert(seen[x] <= 1, "n %" PRId64 ", group %" PRId64 ": (%" PRId64 ", %" PRId64 ") %d times", n, group, x / 64, x % 64,
                  seen[x]);
    }
}

/* ---- What merging saves ---- */

typedef struct walk {
  int64_t walked, least; /* key tiles, over all query tiles */
} walk;

/* Key tiles of 128 that the segments walk, and how few would do if each key were walked once under each key map it is seen with.
 */
static void add_walk(const test_method *m, int64_t i0, int64_t i1, int64_t n, walk *w) {
  spindle__segment s[SPINDLE__MAX_SEGMENTS];
  int32_t count = spindle__segments(&m->position, n, 0, i0, i1, 0, n, s);
  for (int32_t a = 0; a < count; a++) {
    int64_t keys = 0, end = -1;
    bool first = true;
    w->walked += spindle__ceil_div(s[a].j1 - s[a].j0, 128);
    for (int32_t b = 0; b < a; b++) first &= !spindle__map_equal(&s[a].k_map, &s[b].k_map);
    if (!first) continue;
    for (bool more = true; more;) { /* the union of the intervals that share this key map, in ascending order */
      int64_t next = INT64_MAX, stop = 0;
      more = false;
      for (int32_t b = a; b < count; b++)
        if (spindle__map_equal(&s[a].k_map, &s[b].k_map) && s[b].j1 > end && spindle__max(s[b].j0, end) < next) {
          next = spindle__max(s[b].j0, end);
          stop = s[b].j1;
          more = true;
        }
      if (more) keys += stop - next;
      if (more) end = stop;
    }
    w->least += spindle__ceil_div(keys, 128);
  }
}

static double excess(spindle_position p, int64_t n) {
  test_method m = {.position = p, .k_num = 1, .k_den = 1, .n = n};
  walk w = {0, 0};
  for (int64_t i0 = 0, i1; i0 < n; i0 = i1) {
    i1 = spindle__min(spindle__tile_end(&p, i0, 128), n);
    add_walk(&m, i0, i1, n, &w);
  }
  return (double)w.walked / (double)w.least - 1.0;
}

Test(segments, walk_few_key_tiles_twice) {
  const int64_t n = 32768;
  struct {
    const char *name;
    spindle_position p;
    double most;
  } cases[] = {
      {"none", {.remap = SPINDLE_REMAP_NONE}, 0.0},
      {"window with sinks", {.window_left = 4096, .sink_tokens = 4}, 0.04},
      {"chunk mask", {.chunk = 8192}, 0.0},
      {"rerope", {.remap = SPINDLE_REMAP_REROPE, .remap_window = 2048}, 0.0},
      {"leaky rerope", {.remap = SPINDLE_REMAP_LEAKY_REROPE, .remap_window = 2048}, 0.0},
      {"self-extend", {.remap = SPINDLE_REMAP_SELF_EXTEND, .remap_window = 1024, .remap_group = 8}, 0.0},
      {"dca", {.remap = SPINDLE_REMAP_DCA, .remap_chunk = 3072, .remap_local = 512}, 0.02},
      {"dca, chunks off the tiles", {.remap = SPINDLE_REMAP_DCA, .remap_chunk = 3001, .remap_local = 413}, 0.02},
      {"dca as in the paper",
       {.remap = SPINDLE_REMAP_DCA_PAPER, .remap_pretrain = 4096, .remap_chunk = 3072, .remap_local = 1024},
       0.02},
      {"streaming", {.remap = SPINDLE_REMAP_STREAMING, .remap_window = 2000, .remap_sink_tokens = 4}, 0.07},
      {"lm-infinite", {.remap = SPINDLE_REMAP_LM_INFINITE, .remap_window = 2048, .remap_sink_tokens = 100}, 0.0},
  };
  for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
    double got = excess(cases[c].p, n);
    fprintf(stderr, "%-28s %.2f %% more key tiles than the least\n", cases[c].name, 100.0 * got);
    cr_expect_leq(got, cases[c].most, "%s: %.2f %%", cases[c].name, 100.0 * got);
  }
}

/* ---- The definitions themselves ---- */

/* Rows written out in the papers, posts and issues that define the methods. -1: masked; all times k_num. */
Test(segments, definitions_give_the_worked_rows) {
  struct {
    spindle_position p;
    int64_t k_num, k_den, row;
    int64_t relative[13];
  } cases[] = {
      {{.remap = SPINDLE_REMAP_REROPE, .remap_window = 3}, 1, 1, 7, {3, 3, 3, 3, 3, 2, 1, 0}},
      {{.remap = SPINDLE_REMAP_LEAKY_REROPE, .remap_window = 3}, 2, 1, 7, {10, 9, 8, 7, 6, 4, 2, 0}},
      {{.remap = SPINDLE_REMAP_LEAKY_REROPE, .remap_window = 3}, 1, 4, 7, {19, 15, 11, 7, 3, 2, 1, 0}},
      {{.remap = SPINDLE_REMAP_SELF_EXTEND, .remap_window = 4, .remap_group = 2}, 1, 1, 11, {7, 7, 6, 6, 5, 5, 4, 4, 3, 2, 1, 0}},
      {{.remap = SPINDLE_REMAP_STREAMING, .remap_window = 3, .remap_sink_tokens = 2},
       1,
       1,
       9,
       {5, 4, -1, -1, -1, -1, 3, 2, 1, 0}},
      {{.remap = SPINDLE_REMAP_LM_INFINITE, .remap_window = 3, .remap_sink_tokens = 2}, 1, 1, 7, {3, 3, -1, -1, -1, 2, 1, 0}},
      {{.remap = SPINDLE_REMAP_DCA_PAPER, .remap_pretrain = 10, .remap_chunk = 6, .remap_local = 4},
       1,
       1,
       12,
       {9, 8, 7, 6, 5, 4, 6, 5, 4, 3, 2, 1, 0}},
      {{.remap = SPINDLE_REMAP_DCA_PAPER, .remap_pretrain = 10, .remap_chunk = 6, .remap_local = 4},
       1,
       1,
       10,
       {9, 8, 7, 6, 5, 4, 4, 3, 2, 1, 0}},
      {{.remap = SPINDLE_REMAP_DCA, .remap_chunk = 8, .remap_local = 2}, 1, 1, 12, {8, 7, 6, 5, 4, 3, 6, 5, 4, 3, 2, 1, 0}},
      {{.remap = SPINDLE_REMAP_DCA, .remap_chunk = 8, .remap_local = 2}, 1, 1, 9, {8, 7, 6, 5, 4, 3, 3, 2, 1, 0}},
  };
  for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
    test_method m = {.position = cases[c].p, .k_num = cases[c].k_num, .k_den = cases[c].k_den, .n = cases[c].row + 1};
    for (int64_t j = 0; j <= cases[c].row; j++) {
      bool visible = test_pair_visible(&m, cases[c].row, j);
      cr_assert_eq(visible, cases[c].relative[j] >= 0, "case %zu, key %" PRId64, c, j);
      if (visible) cr_assert_eq(test_pair_relative(&m, cases[c].row, j), cases[c].relative[j], "case %zu, key %" PRId64, c, j);
    }
  }
}

/* LongLoRA's 16 tokens in groups of 4: 3300001111222233 rolled (which leaks to rows 0 and 1), 0011112222333344 as released. */
Test(segments, definitions_give_the_worked_groups) {
  const char *rolled = "3300001111222233", *released = "0011112222333344";
  for (int wrap = 0; wrap < 2; wrap++) {
    test_method m = {.position = {.s2_group = 4, .s2_wrap = wrap}, .n = 16, .shifted = true};
    const char *group = wrap ? rolled : released;
    for (int64_t i = 0; i < 16; i++)
      for (int64_t j = 0; j < 16; j++) {
        bool leaks = wrap && i < 2 && j >= 14;
        cr_assert_eq(test_pair_visible(&m, i, j), group[i] == group[j] && (leaks || (j <= i && !(wrap && j < 2 && i >= 14))),
                     "(%d, %d)", (int)i, (int)j);
      }
  }
}
