/* The registry is complete and consistent: every kind has a method, every name is found, every parameter is a field. */
#include <criterion/criterion.h>
#include <stdbool.h>
#include <string.h>

#include <spindle/spindle.h>

/* Names that methods take beside parameters: run arguments, and helpers of the ALiBi slopes. */
static const char *const run_arguments[] = {"max",   "slopes",  "factor", "alpha", "p", "a",
                                            "scale", "softcap", "ssmax",  "sinks", NULL};

static bool is_among(const char *const *names, const char *name) {
  for (; *names; names++)
    if (!strcmp(*names, name)) return true;
  return false;
}

static const spindle_parameter *find_parameter(int32_t family, const char *name) {
  int32_t count;
  const spindle_parameter *all = spindle_parameters(&count);
  for (int32_t p = 0; p < count; p++)
    if (all[p].family == family && !strcmp(all[p].name, name)) return &all[p];
  return NULL;
}

Test(api_registry, every_kind_has_one_method) {
  static const int32_t kinds[] = {[SPINDLE_FAMILY_ROPE] = SPINDLE_ROPE_TABLE + 1,
                                  [SPINDLE_FAMILY_REMAP] = SPINDLE_REMAP_LM_INFINITE + 1,
                                  [SPINDLE_FAMILY_BIAS] = SPINDLE_BIAS_KERPLE_POWER + 1,
                                  [SPINDLE_FAMILY_LOGITS] = SPINDLE_ROWSCALE_SSMAX + 1};
  int32_t count;
  const spindle_method *all = spindle_methods(&count);
  cr_assert(count > 40);
  cr_assert_eq(spindle_methods(NULL), all);
  for (int32_t family = SPINDLE_FAMILY_ROPE; family <= SPINDLE_FAMILY_LOGITS; family++)
    for (int32_t kind = family == SPINDLE_FAMILY_LOGITS ? 1 : 0; kind < kinds[family]; kind++) {
      int32_t found = 0;
      for (int32_t m = 0; m < count; m++) found += all[m].family == family && all[m].kind == kind;
      bool alibi =
          family == SPINDLE_FAMILY_BIAS && kind == SPINDLE_BIAS_ALIBI; /* and its scaled forms: other slopes, the same bias */
      cr_assert(alibi ? found == 3 : found == 1, "family %d, kind %d: %d methods", family, kind, found);
    }
}

Test(api_registry, methods_are_found_by_name_and_come_by_family) {
  int32_t count, family = 0;
  const spindle_method *all = spindle_methods(&count);
  for (int32_t m = 0; m < count; m++) {
    cr_assert(all[m].family == family || all[m].family == family + 1, "%s is out of order", all[m].name);
    family = all[m].family;
    cr_assert_eq(spindle_method_find(family, all[m].name), &all[m], "%s: two methods of one name", all[m].name);
    cr_assert(strlen(all[m].source) > 5, "%s has no source", all[m].name);
    cr_assert(!(all[m].flags & ~7));
  }
  cr_assert_eq(family, SPINDLE_FAMILY_MASK);
  cr_assert_null(spindle_method_find(SPINDLE_FAMILY_ROPE, "no-such"));
  cr_assert_null(spindle_method_find(SPINDLE_FAMILY_ROPE, "rerope"));
  cr_assert_null(spindle_method_find(SPINDLE_FAMILY_ROPE, ""));
  cr_assert_null(spindle_method_find(SPINDLE_FAMILY_ROPE, NULL));
  cr_assert_null(spindle_method_find(99, "yarn"));
}

static void check_names(const spindle_method *method, const char *names) {
  char copy[400], *rest = copy;
  cr_assert(strlen(names) < sizeof copy);
  strcpy(copy, names);
  for (char *name = strtok_r(rest, " |", &rest); name; name = strtok_r(NULL, " |", &rest))
    cr_assert(find_parameter(method->family, name) || is_among(run_arguments, name), "'%s' takes '%s', which nothing reads",
              method->name, name);
}

Test(api_registry, required_and_optional_names_exist) {
  int32_t count;
  const spindle_method *all = spindle_methods(&count);
  for (int32_t m = 0; m < count; m++) {
    check_names(&all[m], all[m].required);
    check_names(&all[m], all[m].optional);
  }
}

static size_t size_of_type(int32_t type) {
  return type == SPINDLE_PARAMETER_FLAG || type == SPINDLE_PARAMETER_FLAG_NOT ? sizeof(int32_t) : sizeof(int64_t);
}

Test(api_registry, parameters_are_fields_that_some_method_reads) {
  int32_t count, methods;
  const spindle_parameter *all = spindle_parameters(&count);
  const spindle_method *method = spindle_methods(&methods);
  cr_assert_eq(spindle_parameters(NULL), all);
  for (int32_t p = 0; p < count; p++) {
    bool read = false;
    cr_assert(all[p].offset >= sizeof(size_t) && all[p].offset + size_of_type(all[p].type) <= sizeof(spindle_position), "%s",
              all[p].name);
    cr_assert_eq(all[p].offset % size_of_type(all[p].type), 0, "%s", all[p].name);
    cr_assert(strlen(all[p].field) > 0);
    for (int32_t q = 0; q < p; q++)
      cr_assert(all[p].family != all[q].family || strcmp(all[p].name, all[q].name), "two of %s", all[p].name);
    for (int32_t m = 0; m < methods; m++)
      read |= method[m].family == all[p].family &&
              (strstr(method[m].required, all[p].name) || strstr(method[m].optional, all[p].name));
    cr_assert(read || all[p].family == SPINDLE_FAMILY_MASK, "no method reads %s", all[p].name);
  }
}
