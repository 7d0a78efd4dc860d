/* tinylm: reads long texts with a model that was trained on short ones, under every method that promises that this works. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tinylm.h"

static const char usage[] =
    "tinylm table    [--longest 8192] [--windows 4] [--out FILE.tsv] TEXT...   perplexity against length, per method\n"
    "tinylm position [--method M] [--longest 8192] [--windows 4] TEXT...       perplexity by position within long windows\n"
    "tinylm switch   [--from M] [--from-longest 2048] [--to M] [--length 2048] [--bytes 256] [--windows 4] TEXT...\n"
    "                                                     the rule changes in mid-text; the cached keys stay as they are\n"
    "tinylm generate [--method M] [--prompt TEXT] [--bytes 400] [--temperature 0.7] [--seed 1]\n"
    "\n"
    "--weights DIR holds rope.bin and alibi.bin (default: the working directory); --backend cpu|reference.\n"
    "A TEXT is one book. Methods that are sized for a length are sized for --longest.\n"
    "Methods:";

double tinylm_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool tinylm_complain(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("tinylm: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  return false;
}

bool tinylm_failed(void) { return tinylm_complain("%s", tinylm_engine_error()); }

tinylm_engine *tinylm_start(const tinylm_models *models, const tinylm_method *method, const tinylm_options *o, int max_bytes,
                            int key_state) {
  const tinylm_weights *w = tinylm_model_of(models, method);
  spindle_position position = tinylm_method_position(method, w, o->longest);
  tinylm_engine *e = tinylm_engine_create(w, max_bytes, TINYLM_CHUNK, o->backend, key_state);
  if (e && tinylm_engine_set_position(e, &position)) return e;
  tinylm_engine_destroy(e);
  tinylm_failed();
  return NULL;
}

static bool parse_number(const char *name, const char *text, int least, int most, int *value) {
  char *end;
  long number = strtol(text, &end, 10);
  if (end == text || *end || number < least || number > most)
    return tinylm_complain("%s is '%s'; expected %d to %d", name, text, least, most);
  *value = (int)number;
  return true;
}

static bool parse_method(const char *name, const char *text) {
  return tinylm_method_find(text) || tinylm_complain("%s is '%s'; expected a method, see tinylm help", name, text);
}

static bool parse_backend(const char *text, int *backend) {
  if (!strcmp(text, "cpu")) return *backend = SPINDLE_BACKEND_CPU, true;
  if (!strcmp(text, "reference")) return *backend = SPINDLE_BACKEND_REFERENCE, true;
  return tinylm_complain("--backend is '%s'; expected cpu or reference", text);
}

static bool parse_temperature(const char *text, double *temperature) {
  char *end;
  *temperature = strtod(text, &end);
  if (end != text && !*end && *temperature >= 0 && *temperature <= 100) return true;
  return tinylm_complain("--temperature is '%s'; expected 0 to 100", text);
}

static bool parse_option(tinylm_options *o, const char *name, const char *value) {
  const struct {
    const char *name;
    const char **text;
    bool method;
  } texts[] = {{"--weights", &o->weights, false}, {"--out", &o->out, false},  {"--prompt", &o->prompt, false},
               {"--method", &o->method, true},    {"--from", &o->from, true}, {"--to", &o->to, true}};
  const struct {
    const char *name;
    int *number, least, most;
  } numbers[] = {{"--longest", &o->longest, 256, 1 << 20}, {"--from-longest", &o->from_longest, 256, 1 << 20},
                 {"--windows", &o->windows, 1, 1 << 20},   {"--length", &o->length, 256, 1 << 20},
                 {"--bytes", &o->bytes, 1, 1 << 20},       {"--seed", &o->seed, 1, 1 << 30}};
  if (!value) return tinylm_complain("%s needs a value", name);
  for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
    if (!strcmp(name, texts[t].name)) return *texts[t].text = value, !texts[t].method || parse_method(name, value);
  for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++)
    if (!strcmp(name, numbers[n].name)) return parse_number(name, value, numbers[n].least, numbers[n].most, numbers[n].number);
  if (!strcmp(name, "--backend")) return parse_backend(value, &o->backend);
  if (!strcmp(name, "--temperature")) return parse_temperature(value, &o->temperature);
  return tinylm_complain("there is no %s", name);
}

static bool parse(tinylm_options *o, int argc, char **argv) {
  for (int a = 2; a < argc; a++) {
    if (!strncmp(argv[a], "--", 2)) {
      if (!parse_option(o, argv[a], a + 1 < argc ? argv[a + 1] : NULL)) return false;
      a++;
    } else if (o->num_books == TINYLM_MAX_BOOKS || !tinylm_book_open(o->books + o->num_books, argv[a])) {
      return tinylm_complain("'%s' cannot be read as a text, or is one too many", argv[a]);
    } else {
      o->num_books++;
    }
  }
  return true;
}

static bool open_model(tinylm_weights *w, const char *folder, const char *name, int position) {
  char path[4096], message[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  if (!tinylm_weights_open(w, path, message)) return tinylm_complain("%s: %s", path, message);
  return w->position == position || tinylm_complain("%s: the other kind of model", path);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    bool (*run)(const tinylm_models *, const tinylm_options *);
    bool needs_text;
  } commands[] = {{"table", tinylm_command_table, true},
                  {"position", tinylm_command_position, true},
                  {"switch", tinylm_command_switch, true},
                  {"generate", tinylm_command_generate, false}};
  static tinylm_options o = {.weights = ".",
                             .method = "rerope",
                             .from = "yarn",
                             .to = "rerope",
                             .longest = 8192,
                             .windows = 4,
                             .from_longest = 2048,
                             .length = 2048,
                             .bytes = 256,
                             .seed = 1,
                             .temperature = 0.7,
                             .prompt = "In the beginning ",
                             .backend = SPINDLE_BACKEND_CPU};
  tinylm_models models = {0};
  bool ok = false;
  int command = -1;
  for (int c = 0; argc > 1 && c < (int)(sizeof commands / sizeof *commands); c++)
    if (!strcmp(argv[1], commands[c].name)) command = c;
  if (command < 0) {
    fputs(usage, stdout);
    for (int m = 0; m < tinylm_num_methods; m++) printf(" %s", tinylm_methods[m].name);
    putchar('\n');
    return argc > 1 && strcmp(argv[1], "help") ? 2 : 0;
  }
  if (!parse(&o, argc, argv)) return 2;
  if (commands[command].needs_text && !o.num_books)
    tinylm_complain("%s needs at least one text", argv[1]);
  else
    ok = open_model(&models.rope, o.weights, "rope.bin", TINYLM_ROPE) &&
         open_model(&models.alibi, o.weights, "alibi.bin", TINYLM_ALIBI) && commands[command].run(&models, &o);
  tinylm_weights_close(&models.rope);
  tinylm_weights_close(&models.alibi);
  for (int b = 0; b < o.num_books; b++) tinylm_book_close(o.books + b);
  return ok ? 0 : 2;
}
