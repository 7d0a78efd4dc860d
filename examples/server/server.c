/* spindle-server: requests come and go, each with a rule of its own for positions, and share steps, pages and a document.
 *
 *     spindle-server --backend auto --dtype bf16 --steps 60 --seed 1
 *
 * Each step gives every request that generates one row, and what is left of the rows to those whose prompt is not read yet
 * (chunked prefill). Keys lie in the cache un-rotated, so three things touch none of them:
 *
 *   rules      plain RoPE, YaRN by 4, ReRoPE and dynamic NTK read one pool in one batch (kinds, admit)
 *   sharing    all prompts hold the same document, at different places; it is cached once (share_document)
 *   shifting   a request that fills the context loses the older half behind its first page, and goes on (shift)
 *
 * Every step, or every k-th with --check k, is recomputed from the texts by the float64 reference. Exit 1 if one differs. */
#include "server.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { TRAINED = 64, CHUNK = 32, VOCABULARY = 50000 };

typedef struct kind {
  const char *name;
  int32_t document;       /* its index in the prompt */
  int32_t prompt, wanted; /* tokens of the prompt, tokens to generate: at least; up to 7 more come by chance */
  spindle_position position;
} kind;

static const kind kinds[] = {
    {"rope", 0, 44, 16, {.rope = SPINDLE_ROPE_DEFAULT}},
    {"yarn", 24, 96, 60, {.rope = SPINDLE_ROPE_YARN, .factor = 4, .original_max_position_embeddings = TRAINED}},
    {"rerope", 8, 120, 30, {.rope = SPINDLE_ROPE_DEFAULT, .remap = SPINDLE_REMAP_REROPE, .remap_window = 40}},
    {"dynamic-ntk", 16, 56, 40, {.rope = SPINDLE_ROPE_DYNAMIC_NTK, .factor = 2, .max_position_embeddings = TRAINED}},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

typedef struct server {
  request seats[SEATS];
  int32_t users[POOL]; /* of each page: requests, and the server for the document */
  int32_t document[DOCUMENT_PAGES];
  bool document_cached;
  uint64_t random;
  int32_t admitted, finished, shifts, shared; /* so far */
  char events[160];                           /* of the step */
} server;

static void note(server *s, const char *format, ...) {
  size_t at = strlen(s->events);
  va_list args;
  va_start(args, format);
  vsnprintf(s->events + at, sizeof s->events - at, format, args);
  va_end(args);
}

/* ---- Pages ---- */

static int32_t take_page(server *s) {
  for (int32_t p = 0; p < POOL; p++)
    if (!s->users[p]) return s->users[p]++, p;
  abort(); /* POOL is the worst case */
}

static void leave_pages(server *s, const entry *table, int32_t count) {
  for (int32_t e = 0; e < count; e++) s->users[table[e].page]--;
}

/* The slot of the token at `index`, the next of r. The document begins on a fresh page, so that others can share its pages. */
static int64_t next_slot(server *s, request *r, int32_t index) {
  entry *last = r->entries ? &r->table[r->entries - 1] : NULL;
  if (!last || last->end == PAGE || index == r->document) {
    last = &r->table[r->entries++];
    *last = (entry){.index = index, .page = take_page(s)};
  }
  return (int64_t)last->page * PAGE + last->end++;
}

/* A request that has come to the document reads the pages that there are. Raw keys have no position: the table says where in
 * this text they stand. (The layers' inputs are the tokens here. In a model a key also depends on the text before it, and a
 * document that is read behind another beginning is an approximation, as all chunk reuse is.) */
static void share_document(server *s, request *r) {
  if (!s->document_cached || r->cached != r->document) return;
  for (int32_t p = 0; p < DOCUMENT_PAGES; p++) {
    r->table[r->entries++] = (entry){.index = r->cached, .page = s->document[p], .end = PAGE};
    s->users[s->document[p]]++;
    r->cached += PAGE;
  }
  s->shared++;
  note(s, " %d reads the document at %d;", r->id, r->document);
}

/* The first request that has computed the document leaves it to all. */
static void keep_document(server *s, const request *r) {
  if (s->document_cached || r->document < 0 || r->cached < r->document + DOCUMENT) return;
  int32_t e = 0, p = 0;
  while (r->table[e].index != r->document) e++;
  for (; p < DOCUMENT_PAGES; p++) s->users[s->document[p] = r->table[e + p].page]++;
  s->document_cached = true;
}

/* Context shift: of a full context the older half behind the first page is forgotten, and the rest moves down. */
static void shift(server *s, request *r) {
  int32_t count = r->entries / 2, kept = (int32_t)r->table[0].end, dropped = 0;
  for (int32_t e = 1; e <= count; e++) dropped += (int32_t)r->table[e].end;
  leave_pages(s, r->table + 1, count);
  r->entries -= count;
  memmove(r->table + 1, r->table + 1 + count, (size_t)(r->entries - 1) * sizeof *r->table);
  for (int32_t e = 1; e < r->entries; e++) r->table[e].index -= dropped;

  r->length -= dropped;
  r->cached -= dropped;
  memmove(r->text + kept, r->text + kept + dropped, (size_t)(r->length - kept) * sizeof *r->text);
  s->shifts++;
  note(s, " %d shifts by %d;", r->id, dropped);
}

/* ---- Requests ---- */

static int32_t random_below(server *s, uint64_t end) { return (int32_t)(scramble(s->random++) % end); }

/* One request a step, as long as seats are free. Its rule goes to the seat's position slot, also of the oracle. */
static void admit(server *s, engine *e, engine *oracle) {
  int32_t seat = 0;
  while (seat < SEATS && s->seats[seat].kind >= 0) seat++;
  if (seat == SEATS) return;
  request *r = &s->seats[seat];
  int32_t number = s->admitted++;
  const kind *k = &kinds[number % KINDS];
  spindle_position position = k->position;
  position.struct_size = sizeof position;
  engine_admit(e, seat, &position);
  engine_admit(oracle, seat, &position);
  int32_t prompt = k->prompt + random_below(s, 8), wanted = k->wanted + random_below(s, 8);
  *r = (request){.id = number, .kind = number % KINDS, .document = k->document, .wanted = wanted};
  for (; r->length < prompt; r->length++) {
    int32_t in_document = r->length - r->document;
    r->text[r->length] = 0 <= in_document && in_document < DOCUMENT ? VOCABULARY + in_document : random_below(s, VOCABULARY);
  }
  note(s, " %d comes, %s;", number, k->name);
}

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

/* Rows for everyone: who generates first, one each; then prompts, a chunk each. */
static void share_rows(server *s, step *step) {
  int32_t left = MAX_ROWS;
  for (int32_t seat = 0; seat < SEATS; seat++)
    if (s->seats[seat].generates) step->q_len[seat] = 1, left--;
  for (int32_t seat = 0; seat < SEATS; seat++) {
    request *r = &s->seats[seat];
    if (r->kind < 0 || r->generates) continue;
    share_document(s, r);
    int32_t until = r->cached < r->document ? r->document : r->length;
    step->q_len[seat] = least(least(until - r->cached, CHUNK), left);
    left -= step->q_len[seat];
  }
}

/* Tells Spindle about one request: its rows, where their keys go, and the page table. */
static void describe(server *s, int32_t seat, step *step) {
  request *r = &s->seats[seat];
  int32_t rows = step->q_len[seat];
  for (int32_t i = 0; i < rows; i++) {
    step->token[step->rows + i] = r->text[r->cached + i];
    step->slot[step->rows + i] = next_slot(s, r, r->cached + i);
  }
  for (int32_t e = 0; e < r->entries; e++) {
    step->pages[seat][e] = r->table[e].page;
    step->page_index[seat][e] = r->table[e].index;
    step->page_span[seat][e] = r->table[e].end << 16; /* from slot 0 */
  }
  step->position[seat] = seat;
  step->q_begin[seat] = step->rows;
  step->q_index[seat] = r->cached;
  step->kv_len[seat] = r->cached + rows;
  step->n[seat] = r->length; /* chunks of a prompt see the length that its last chunk will: dynamic NTK is one rule for all */
  step->rows += rows;
}

static void plan_step(server *s, step *step) {
  memset(step, 0, sizeof *step); /* a seat with q_len 0 takes no part */
  share_rows(s, step);
  for (int32_t seat = 0; seat < SEATS; seat++)
    if (step->q_len[seat]) describe(s, seat, step);
}

/* The rows are done. A request whose text is in the cache to the end gets its next token (a model would sample it from the last
 * row of o), or leaves. */
static void finish_step(server *s, const step *step) {
  for (int32_t seat = 0; seat < SEATS; seat++) {
    request *r = &s->seats[seat];
    r->cached += step->q_len[seat];
    if (r->kind < 0) continue;
    keep_document(s, r);
    if (r->cached < r->length) continue;
    r->generates = true;
    r->document = -1;
    if (r->wanted--) {
      if (r->length == MAX_KEYS) shift(s, r);
      r->text[r->length++] = random_below(s, VOCABULARY);
    } else {
      leave_pages(s, r->table, r->entries);
      *r = (request){.id = r->id, .kind = -1};
      s->finished++;
      note(s, " %d is done;", r->id);
    }
  }
}

/* ---- The program ---- */

typedef struct options {
  int32_t backend, dtype;
  int64_t steps, seed, check;
} options;

static void usage(const char *flag, const char *value) {
  fprintf(stderr,
          "spindle-server: %s %s: not understood\n"
          "spindle-server [--backend auto|cpu|cuda] [--dtype f32|f16|bf16] [--steps N] [--seed N] [--check K]\n",
          flag, value ? value : "");
  exit(2);
}

static bool choose(const char *value, const char *const *names, int32_t *choice) {
  for (int32_t c = 0; names[c]; c++)
    if (!strcmp(value, names[c])) return *choice = c, true;
  return false;
}

static bool whole(const char *value, int64_t *number) {
  char *end;
  *number = strtoll(value, &end, 10);
  return end != value && !*end && *number >= 0 && *number <= INT32_MAX;
}

static const char *const backends[] = {"auto", "cuda", "cpu", NULL}, *const dtypes[] = {"", "f32", "f16", "bf16", NULL};

static options read_options(int argc, char **argv) {
  options o = {.backend = SPINDLE_BACKEND_AUTO, .dtype = SPINDLE_BF16, .steps = 60, .seed = 1, .check = 1};
  for (int a = 1; a < argc; a += 2) {
    const char *flag = argv[a], *value = argv[a + 1];
    bool good =
        value && ((!strcmp(flag, "--backend") && choose(value, backends, &o.backend)) ||
                  (!strcmp(flag, "--dtype") && choose(value, dtypes, &o.dtype) && o.dtype) ||
                  (!strcmp(flag, "--steps") && whole(value, &o.steps)) || (!strcmp(flag, "--seed") && whole(value, &o.seed)) ||
                  (!strcmp(flag, "--check") && whole(value, &o.check) && o.check));
    if (!good) usage(flag, value);
  }
  return o;
}

static void print_head(const engine *e, const options *o) {
  spindle_context_info info = {.struct_size = sizeof info};
  TRY(spindle_context_get_info(e->context, &info));
  printf("%s, %s, seed %d; %d layers, %d pages of %d keys\n\n", info.name, dtypes[o->dtype], (int)o->seed, LAYERS, POOL, PAGE);
  printf("step  requests  prefilled  decoded  pages  worst error\n");
}

static void print_step(const server *s, const step *step, int number, double error) {
  int requests = 0, decoded = 0, pages = 0;
  for (int32_t seat = 0; seat < SEATS; seat++) {
    requests += s->seats[seat].kind >= 0;
    decoded += s->seats[seat].generates;
  }
  for (int32_t p = 0; p < POOL; p++) pages += s->users[p] > 0;
  printf("%4d  %8d  %9d  %7d  %5d  ", number, requests, step->rows - decoded, decoded, pages);
  if (error < 0)
    printf("%11s", "");
  else
    printf("%11.1e", error);
}

int main(int argc, char **argv) {
  static float o[LAYERS][MAX_ROWS * HEADS * DIM];
  options options = read_options(argc, argv);
  double worst = 0, allowed = tolerance(options.dtype);
  int64_t rows = 0, wrong = 0;
  server s = {.random = scramble((uint64_t)options.seed)};
  engine e, oracle;
  step step;
  for (int32_t seat = 0; seat < SEATS; seat++) s.seats[seat].kind = -1;
  engine_create(&e, options.backend, options.dtype, options.dtype, PAGE);
  engine_create(&oracle, SPINDLE_BACKEND_REFERENCE, options.dtype, SPINDLE_F32, 0);
  print_head(&e, &options);
  for (int number = 0; number < options.steps; number++) {
    double error = -1;
    admit(&s, &e, &oracle);
    plan_step(&s, &step);
    engine_prepare(&e, &step);
    for (int32_t layer = 0; layer < LAYERS; layer++) {
      engine_append(&e, layer, &step);
      engine_attend(&e, layer, &step, o[layer]);
    }
    if (number % options.check == 0) error = worst_error(&oracle, &step, s.seats, o);
    print_step(&s, &step, number, error);
    finish_step(&s, &step);
    printf(" %s\n", s.events);
    s.events[0] = 0;
    rows += step.rows;
    if (isnan(error) || error > worst) worst = error;
    wrong += isnan(error) || error > allowed;
  }
  printf("\n%d requests came, %d are done; %lld rows; %d context shifts; the document was shared %d times\n", s.admitted,
         s.finished, (long long)rows, s.shifts, s.shared);
  printf("worst error %.1e, allowed %.1e: %s\n", worst, allowed, wrong ? "MISMATCH" : "all steps agree with the reference");
  engine_destroy(&oracle);
  engine_destroy(&e);
  return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
