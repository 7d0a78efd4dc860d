/* Every method with parameters that matter at a few hundred tokens. */
#ifndef SPINDLE_TESTS_SUPPORT_METHODS_H
#define SPINDLE_TESTS_SUPPORT_METHODS_H

#include <stdbool.h>

#include <spindle/spindle.h>

#include "random.h"

#define TEST_NUM_RULES  (SPINDLE_ROPE_TABLE + 1)
#define TEST_NUM_REMAPS (SPINDLE_REMAP_LM_INFINITE + 1)
#define TEST_NUM_MASKS  8

/* Trained to 96 tokens, meant for 192. Lists are static and serve any rotary dim. */
spindle_position test_rule(int32_t rope, int32_t rotary_dim);
bool test_rule_has_n(int32_t rope);
/* Adds a remap. */
spindle_position test_remap(spindle_position position, int32_t remap);
/* Adds one of TEST_NUM_MASKS masks that the remap allows; 0 is plain causal. */
spindle_position test_mask(spindle_position position, int32_t mask);
/* Any rule, remap and mask that go together on raw keys. An even number of heads. */
spindle_position test_any_method(test_random *r, int32_t rotary_dim);
/* For messages. */
const char *test_method_name(const spindle_position *position);

#endif
