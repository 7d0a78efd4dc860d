/* Contexts, memory, streams, events, statuses and descriptors of other versions. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/refused.h"

Test(api_objects, statuses_have_names) {
  static const spindle_status all[] = {SPINDLE_OK,
                                       SPINDLE_INVALID_ARGUMENT,
                                       SPINDLE_MISALIGNED,
                                       SPINDLE_OVERLAP,
                                       SPINDLE_WORKSPACE_TOO_SMALL,
                                       SPINDLE_LIMIT_EXCEEDED,
                                       SPINDLE_UNSUPPORTED,
                                       SPINDLE_CUDA_ERROR,
                                       SPINDLE_NO_DEVICE,
                                       SPINDLE_OUT_OF_MEMORY,
                                       SPINDLE_INTERNAL};
  for (size_t a = 0; a < sizeof all / sizeof *all; a++)
    for (size_t b = 0; b < a; b++) cr_assert_str_neq(spindle_status_name(all[a]), spindle_status_name(all[b]));
  cr_assert_str_eq(spindle_status_name(SPINDLE_MISALIGNED), "SPINDLE_MISALIGNED");
  cr_assert_str_eq(spindle_status_name(-5), "unknown status");
  cr_assert_str_eq(spindle_status_name(99), "unknown status");
  cr_assert_eq(spindle_version(), SPINDLE_VERSION);
  cr_assert_str_eq(spindle_last_error(), "");
}

Test(api_objects, context_refuses) {
  spindle_context *context = NULL;
  spindle_context_options o = {.struct_size = sizeof o};
  REFUSED(spindle_context_create(NULL, NULL), SPINDLE_INVALID_ARGUMENT, "context is NULL");
  o.backend = 7;
  REFUSED(spindle_context_create(&context, &o), SPINDLE_INVALID_ARGUMENT, "options.backend", "7");
  o.backend = -1;
  REFUSED(spindle_context_create(&context, &o), SPINDLE_INVALID_ARGUMENT, "options.backend", "-1");
  o.backend = SPINDLE_BACKEND_CPU;
  o.num_threads = -1;
  REFUSED(spindle_context_create(&context, &o), SPINDLE_INVALID_ARGUMENT, "options.num_threads", "-1");
  o.num_threads = 1 << 20;
  REFUSED(spindle_context_create(&context, &o), SPINDLE_INVALID_ARGUMENT, "options.num_threads", "1048576");
  o.num_threads = 0;
  o.device = 3;
  REFUSED(spindle_context_create(&context, &o), SPINDLE_INVALID_ARGUMENT, "options.device", "3");
  cr_assert_null(context, "a failed call wrote its output");
  spindle_context_destroy(NULL);
}

Test(api_objects, context_says_what_it_is) {
  static const int32_t asked[] = {SPINDLE_BACKEND_AUTO, SPINDLE_BACKEND_CPU, SPINDLE_BACKEND_REFERENCE};
  for (int b = 0; b < 3; b++) {
    spindle_context *context;
    spindle_context_options o = {.struct_size = sizeof o, .backend = asked[b], .num_threads = 3};
    spindle_context_info info = {.struct_size = sizeof info};
    test_ok(spindle_context_create(&context, &o));
    test_ok(spindle_context_get_info(context, &info));
    cr_assert_eq(info.backend, b == 2 ? SPINDLE_BACKEND_REFERENCE : SPINDLE_BACKEND_CPU);
    cr_assert_eq(info.num_threads, 3);
    cr_assert(strlen(info.name) > 0);
    info.struct_size = sizeof info + 8;
    REFUSED(spindle_context_get_info(context, &info), SPINDLE_INVALID_ARGUMENT, "info.struct_size");
    info.struct_size = 0;
    REFUSED(spindle_context_get_info(context, &info), SPINDLE_INVALID_ARGUMENT, "info.struct_size", "0");
    REFUSED(spindle_context_get_info(context, NULL), SPINDLE_INVALID_ARGUMENT, "info is NULL");
    REFUSED(spindle_context_get_info(NULL, &info), SPINDLE_INVALID_ARGUMENT, "context is NULL");
    spindle_context_destroy(context);
  }
}

/* A caller compiled against another version: shorter structs end early, longer ones are fine where this library need not know. */
Test(api_objects, descriptors_of_other_versions) {
  struct {
    spindle_context_options known;
    char later[24];
  } o;
  spindle_context *context;
  memset(&o, 0, sizeof o);
  o.known.struct_size = offsetof(spindle_context_options, num_threads);
  o.known.num_threads = -77; /* beyond the end of the shorter struct */
  test_ok(spindle_context_create(&context, &o.known));
  spindle_context_destroy(context);
  o.known.num_threads = 1;
  o.known.struct_size = sizeof o;
  test_ok(spindle_context_create(&context, &o.known));
  spindle_context_destroy(context);
  o.later[13] = 1;
  REFUSED(spindle_context_create(&context, &o.known), SPINDLE_INVALID_ARGUMENT, "options.struct_size", "byte");
  static const size_t wrong[] = {0, 1, 7, 1 << 20, SIZE_MAX};
  for (int w = 0; w < 5; w++) {
    o.known.struct_size = wrong[w];
    REFUSED(spindle_context_create(&context, &o.known), SPINDLE_INVALID_ARGUMENT, "options.struct_size");
  }
}

/* Every descriptor of every call has its size checked before anything in it is read. */
Test(api_objects, every_descriptor_needs_its_size) {
  spindle_context *c;
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = 1, .head_dim_qk = 8},
                no_shape = shape;
  spindle_plan_options bounds = {.struct_size = sizeof bounds, .max_requests = 1, .max_q_rows = 1, .max_kv_len = 1},
                       no_bounds = bounds;
  spindle_position position = {0};
  spindle_batch batch = {0};
  spindle_append_args append = {0};
  spindle_rotate_args rotate = {0};
  spindle_combine_args combine = {0};
  spindle_attention_args args = {0};
  spindle_positions *table;
  spindle_plan *plan;
  no_shape.struct_size = 0;
  no_bounds.struct_size = 4;
  test_ok(spindle_context_create(&c, NULL));
  test_ok(spindle_positions_create(&table, c, &shape, 1));
  test_ok(spindle_plan_create(&plan, c, &shape, &bounds));
  REFUSED(spindle_positions_create(&table, c, &no_shape, 1), SPINDLE_INVALID_ARGUMENT, "shape.struct_size");
  REFUSED(spindle_plan_create(&plan, c, &shape, &no_bounds), SPINDLE_INVALID_ARGUMENT, "options.struct_size");
  REFUSED(spindle_positions_set(table, 0, &position, NULL), SPINDLE_INVALID_ARGUMENT, "position.struct_size");
  REFUSED(spindle_position_resolve(&position, &shape, 1, NULL, NULL, NULL), SPINDLE_INVALID_ARGUMENT, "position.struct_size");
  double relative;
  REFUSED(spindle_position_relative(&position, 0, 0, 1, &relative), SPINDLE_INVALID_ARGUMENT, "position.struct_size");
  REFUSED(spindle_plan_prepare(plan, table, &batch, NULL, 0, NULL), SPINDLE_INVALID_ARGUMENT, "batch.struct_size");
  REFUSED(spindle_batch_check(plan, table, &batch, NULL), SPINDLE_INVALID_ARGUMENT, "batch.struct_size");
  REFUSED(spindle_attention(plan, &args, NULL), SPINDLE_INVALID_ARGUMENT, "args.struct_size");
  REFUSED(spindle_append(c, &shape, NULL, &append, NULL), SPINDLE_INVALID_ARGUMENT, "args.struct_size");
  REFUSED(spindle_append(c, &no_shape, NULL, &append, NULL), SPINDLE_INVALID_ARGUMENT, "shape.struct_size");
  REFUSED(spindle_rotate(c, &shape, table, &rotate, NULL), SPINDLE_INVALID_ARGUMENT, "args.struct_size");
  REFUSED(spindle_combine(c, &combine, NULL), SPINDLE_INVALID_ARGUMENT, "args.struct_size");
  REFUSED(spindle_combine_scale(c, &combine, NULL), SPINDLE_INVALID_ARGUMENT, "args.struct_size");
  REFUSED(spindle_positions_set(table, 0, NULL, NULL), SPINDLE_INVALID_ARGUMENT, "position is NULL");
  REFUSED(spindle_plan_prepare(plan, table, NULL, NULL, 0, NULL), SPINDLE_INVALID_ARGUMENT, "batch is NULL");
  REFUSED(spindle_attention(plan, NULL, NULL), SPINDLE_INVALID_ARGUMENT, "args is NULL");
  REFUSED(spindle_append(c, &shape, NULL, NULL, NULL), SPINDLE_INVALID_ARGUMENT, "args is NULL");
  REFUSED(spindle_rotate(c, &shape, table, NULL, NULL), SPINDLE_INVALID_ARGUMENT, "args is NULL");
  REFUSED(spindle_combine(c, NULL, NULL), SPINDLE_INVALID_ARGUMENT, "args is NULL");
  spindle_plan_destroy(plan);
  spindle_positions_destroy(table);
  spindle_context_destroy(c);
  spindle_plan_destroy(NULL);
  spindle_positions_destroy(NULL);
}

Test(api_objects, memory_streams_and_events) {
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
    spindle_context_options o = {.struct_size = sizeof o, .backend = backend};
    spindle_context *c;
    spindle_stream stream = (spindle_stream)&c, other = (spindle_stream)&c;
    spindle_event *begin, *end;
    void *memory, *none = &c;
    char text[] = "copied", back[sizeof text];
    double milliseconds = -1;
    test_ok(spindle_context_create(&c, &o));
    test_ok(spindle_malloc(c, &memory, 1000));
    cr_assert_eq((uintptr_t)memory % 256, 0);
    test_ok(spindle_malloc(c, &none, 0));
    cr_assert_null(none);
    test_ok(spindle_stream_create(c, &stream));
    cr_assert_null(stream);
    test_ok(spindle_copy(c, memory, text, sizeof text, stream));
    test_ok(spindle_copy(c, back, memory, sizeof text, stream));
    cr_assert_str_eq(back, text);
    test_ok(spindle_event_create(c, &begin));
    test_ok(spindle_event_create(c, &end));
    test_ok(spindle_event_record(c, begin, stream));
    test_ok(spindle_event_record(c, end, stream));
    test_ok(spindle_event_elapsed(c, begin, end, &milliseconds));
    cr_assert(milliseconds >= 0 && milliseconds < 1000);
    test_ok(spindle_stream_sync(c, stream));
    REFUSED(spindle_malloc(c, NULL, 1), SPINDLE_INVALID_ARGUMENT, "memory is NULL");
    REFUSED(spindle_malloc(NULL, &none, 1), SPINDLE_INVALID_ARGUMENT, "context is NULL");
    REFUSED(spindle_malloc(c, &none, SIZE_MAX / 2), SPINDLE_OUT_OF_MEMORY, "bytes");
    cr_assert_null(none);
    REFUSED(spindle_copy(c, NULL, text, 1, NULL), SPINDLE_INVALID_ARGUMENT, "dst is NULL");
    REFUSED(spindle_copy(c, back, NULL, 1, NULL), SPINDLE_INVALID_ARGUMENT, "src is NULL");
    REFUSED(spindle_copy(c, back, text, 1, other), SPINDLE_INVALID_ARGUMENT, "stream");
    REFUSED(spindle_stream_sync(c, other), SPINDLE_INVALID_ARGUMENT, "stream");
    REFUSED(spindle_stream_create(c, NULL), SPINDLE_INVALID_ARGUMENT, "stream is NULL");
    REFUSED(spindle_event_create(c, NULL), SPINDLE_INVALID_ARGUMENT, "event is NULL");
    REFUSED(spindle_event_record(c, NULL, NULL), SPINDLE_INVALID_ARGUMENT, "event is NULL");
    REFUSED(spindle_event_elapsed(c, begin, end, NULL), SPINDLE_INVALID_ARGUMENT, "milliseconds is NULL");
    REFUSED(spindle_event_elapsed(c, begin, NULL, &milliseconds), SPINDLE_INVALID_ARGUMENT, "end is NULL");
    spindle_event_destroy(c, begin);
    spindle_event_destroy(c, end);
    spindle_event_destroy(c, NULL);
    spindle_free(c, memory);
    spindle_free(c, NULL);
    spindle_stream_destroy(c, stream);
    spindle_context_destroy(c);
  }
}
