/* spindle info, and help that shows how: the examples of --help run. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "support/cli.h"

Test(cli_help, every_command_has_an_example) {
  static const char *const commands[] = {"", "info", "rope", "map", "attend", "validate", "bench"};
  for (size_t k = 0; k < sizeof commands / sizeof *commands; k++) {
    const test_cli *r = test_cli_run("%s --help", commands[k]);
    cr_expect_eq(r->status, 0, "%s", commands[k]);
    cr_expect(strstr(r->out, "Example: spindle "), "%s", commands[k]);
    cr_expect_str_empty(r->err);
  }
}

Test(cli_help, the_quick_examples_run) {
  static const char *const commands[] = {"", "info", "rope", "map"};
  for (size_t k = 0; k < sizeof commands / sizeof *commands; k++) {
    char example[256] = "";
    const test_cli *r = test_cli_run("%s --help", commands[k]);
    sscanf(strstr(r->out, "Example: "), "Example: spindle %255[^\n]", example);
    r = test_cli_run("%s", example);
    cr_expect_eq(r->status, 0, "%s: %s", example, r->err);
    cr_expect(r->out[0]);
  }
}

Test(cli_help, info) {
  cJSON *json = test_cli_json("info --json"), *method;
  int families = 0;
  cr_expect(cJSON_GetStringValue(cJSON_GetObjectItem(json, "version")));
  cr_expect_geq(cJSON_GetArraySize(cJSON_GetObjectItem(json, "backends")), 2);
  cJSON_ArrayForEach(method, cJSON_GetObjectItem(json, "methods")) {
    cr_expect(cJSON_GetStringValue(cJSON_GetObjectItem(method, "source"))[0]);
    families += !strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(method, "family")), "remap");
  }
  cr_expect_eq(families, 8);
  cJSON_Delete(json);
  cr_expect(strstr(test_cli_run("info")->out, "Methods of --remap"));
}
