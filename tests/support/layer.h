/* Random layers on a device: shape, weights, storage, schedule and splits, and random requests to them. */
#ifndef SPINDLE_TESTS_SUPPORT_LAYER_H
#define SPINDLE_TESTS_SUPPORT_LAYER_H

#include "attend.h"

enum { TEST_LAYER_HEADS = 10 /* at most */ };

typedef struct test_layer {
  test_setup setup; /* on cuda; points to the weights */
  float a[TEST_LAYER_HEADS], p[TEST_LAYER_HEADS], sinks[TEST_LAYER_HEADS], s[TEST_LAYER_HEADS], b[TEST_LAYER_HEADS];
  char text[500]; /* for messages */
} test_layer;

/* An even number of heads, so that every mask goes. */
void test_layer_draw(test_random *r, test_layer *layer);
/* A request of few rows and up to 320 keys, with a row scale or none, at any place of a text. */
test_request test_layer_request(test_random *r, const test_layer *layer, spindle_position position);
/* Writes the text: the layer, and the request. */
const char *test_layer_describe(test_layer *layer, const test_request *request);

#endif
