/* spindle info: version, backends, methods. */
#include <stdio.h>
#include <string.h>

#include "call.h"
#include "output.h"
#include "tool.h"

const char tool_info_help[] =
    "spindle info [--json]\n"
    "\n"
    "Prints the version, the backends of this build, and every method: its name, its keys and where it comes from.\n"
    "Example: spindle info --json\n";

static const char *const families[] = {"rope", "remap", "bias", "logits", "mask"};

static bool get_backend(int32_t backend, spindle_context_info *info) {
  spindle_context_options options = {.struct_size = sizeof options, .backend = backend};
  spindle_context *context = NULL;
  *info = (spindle_context_info){.struct_size = sizeof *info};
  bool there = spindle_context_create(&context, &options) == SPINDLE_OK && spindle_context_get_info(context, info) == SPINDLE_OK;
  spindle_context_destroy(context);
  return there;
}

static void write_words(tool_json *json, const char *key, const char *words) {
  tool_json_open(json, key, '[');
  for (const char *word = words + strspn(words, " "); *word;) {
    char text[128];
    size_t length = strcspn(word, " ");
    snprintf(text, sizeof text, "%.*s", (int)length, word);
    tool_json_string(json, NULL, text);
    word += length;
    word += strspn(word, " ");
  }
  tool_json_close(json, ']');
}

static void write_method(tool_json *json, const spindle_method *method) {
  tool_json_open(json, NULL, '{');
  tool_json_string(json, "family", families[method->family]);
  tool_json_string(json, "name", method->name);
  write_words(json, "required", method->required);
  write_words(json, "optional", method->optional);
  tool_json_bool(json, "length_dependent", method->flags & SPINDLE_METHOD_LENGTH_DEPENDENT);
  tool_json_bool(json, "causal_only", method->flags & SPINDLE_METHOD_CAUSAL_ONLY);
  tool_json_bool(json, "raw_keys_only", method->flags & SPINDLE_METHOD_RAW_KEYS_ONLY);
  tool_json_string(json, "source", method->source);
  tool_json_close(json, '}');
}

static void print_json(const char *version) {
  tool_json json = {.file = stdout};
  spindle_context_info info;
  int32_t count;
  const spindle_method *all = spindle_methods(&count);
  tool_json_open(&json, NULL, '{');
  tool_json_string(&json, "version", version);
  tool_json_open(&json, "backends", '[');
  for (int32_t b = SPINDLE_BACKEND_CUDA; b <= SPINDLE_BACKEND_REFERENCE; b++) {
    if (!get_backend(b, &info)) continue;
    tool_json_open(&json, NULL, '{');
    tool_json_string(&json, "name", tool_backend_names[b]);
    tool_json_string(&json, "device", info.name);
    tool_json_integer(&json, "threads", info.num_threads);
    tool_json_integer(&json, "arch", info.arch);
    tool_json_close(&json, '}');
  }
  tool_json_close(&json, ']');
  tool_json_open(&json, "methods", '[');
  for (int32_t m = 0; m < count; m++) write_method(&json, &all[m]);
  tool_json_close(&json, ']');
  tool_json_close(&json, '}');
  tool_json_end(&json);
}

static void print_text(const char *version) {
  spindle_context_info info;
  int32_t count;
  const spindle_method *all = spindle_methods(&count);
  printf("spindle %s\n\nBackends of this build\n", version);
  for (int32_t b = SPINDLE_BACKEND_CUDA; b <= SPINDLE_BACKEND_REFERENCE; b++) {
    if (!get_backend(b, &info))
      printf("  %-10s not in this build, or no device\n", tool_backend_names[b]);
    else if (b == SPINDLE_BACKEND_CUDA)
      printf("  %-10s %s, sm_%d\n", tool_backend_names[b], info.name, info.arch);
    else
      printf("  %-10s %s, %d threads\n", tool_backend_names[b], info.name, info.num_threads);
  }
  for (int32_t m = 0; m < count; m++) {
    if (m == 0 || all[m].family != all[m - 1].family)
      printf("\nMethods of %s (n: depends on the length)\n", tool_family_flag(all[m].family));
    printf("  %-20s %c %s\n", all[m].name, all[m].flags & SPINDLE_METHOD_LENGTH_DEPENDENT ? 'n' : ' ', all[m].source);
    if (*all[m].required) printf("  %24sneeds %s\n", "", all[m].required);
    if (*all[m].optional) printf("  %24stakes %s\n", "", all[m].optional + strspn(all[m].optional, " "));
  }
}

int tool_info(int argc, char **argv) {
  bool json = false;
  const tool_flag flags[] = {{"--json", NULL, &json}};
  char version[32];
  if (!tool_read_flags(argc, argv, flags, 1)) return TOOL_BAD_INPUT;
  int32_t v = spindle_version();
  snprintf(version, sizeof version, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
  if (json)
    print_json(version);
  else
    print_text(version);
  return TOOL_OK;
}
