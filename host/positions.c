/* Position tables: descriptors validated, resolved and written to slots at fixed device addresses. */
#include <stdlib.h>
#include <string.h>

#include "../kernels/rope/rope.h"
#include "internal.h"

#define MAX_CAPACITY 1048576

static void copy_list(double *dst, const double **src, int32_t count) {
  if (*src) memcpy(dst, *src, (size_t)count * sizeof *dst);
  *src = NULL;
}

/* slot: zeroed. */
static void fill_slot(spindle__slot *slot, const spindle_position *checked, int32_t rotary_dim) {
  slot->position = *checked;
  copy_list(slot->inv_freq, &slot->position.inv_freq, rotary_dim / 2);
  copy_list(slot->short_factor, &slot->position.short_factor, rotary_dim / 2);
  copy_list(slot->long_factor, &slot->position.long_factor, rotary_dim / 2);
  slot->length_dependent = spindle__rope_is_length_dependent(checked->rope);
  if (!slot->length_dependent) spindle__resolve(slot, rotary_dim, 1, &slot->resolved);
}

static void count_kinds(spindle_positions *t, const spindle__slot_kinds *kinds, int32_t change) {
  t->rope_count[kinds->rope] += change;
  t->remap_count[kinds->remap] += change;
  t->row_scale_count[kinds->row_scale] += change;
}

/* Once from the host, then by doubling what is there: one slot at a time, a large table would take as many copies. */
static spindle_status fill_slots(const spindle_positions *t, const spindle__slot *slot) {
  const spindle__device *device = t->context->backend->device;
  SPINDLE__TRY(device->upload(t->context, t->slots, slot, sizeof *slot, NULL));
  for (int64_t filled = 1; filled < t->capacity; filled *= 2) {
    size_t count = (size_t)spindle__min(filled, t->capacity - filled);
    SPINDLE__TRY(device->copy(t->context, t->slots + filled, t->slots, count * sizeof *slot, NULL));
  }
  return device->stream_sync(t->context, NULL); /* a first spindle_positions_set may be on any stream */
}

static spindle_status write_empty_slots(spindle_positions *t) {
  spindle_position none = {.struct_size = sizeof none};
  spindle__slot *slot = calloc(1, sizeof *slot);
  if (!slot) return spindle__fail(SPINDLE_OUT_OF_MEMORY, "no memory for a slot (%zu bytes)", sizeof *slot);
  spindle_status status = spindle__check_position(&none, &t->shape, &none);
  if (status == SPINDLE_OK) {
    fill_slot(slot, &none, t->shape.rotary_dim);
    status = fill_slots(t, slot);
  }
  free(slot);
  count_kinds(t, &t->kinds[0], t->capacity); /* all are of kinds 0 */
  return status;
}

spindle_status spindle_positions_create(spindle_positions **positions, spindle_context *context, const spindle_shape *shape,
                                        int32_t capacity) {
  spindle_shape checked;
  if (!positions) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "positions is NULL");
  if (!context) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "context is NULL");
  SPINDLE__TRY(spindle__check_shape(shape, &checked));
  SPINDLE__TRY(spindle__check_integer("capacity", capacity, 1, MAX_CAPACITY));

  spindle_positions *t = calloc(1, sizeof *t);
  if (!t) return spindle__fail(SPINDLE_OUT_OF_MEMORY, "no memory for a position table (%zu bytes)", sizeof *t);
  pthread_mutex_init(&t->lock, NULL);
  t->context = context;
  t->shape = checked;
  t->capacity = capacity;
  t->kinds = calloc((size_t)capacity, sizeof *t->kinds);
  spindle_status status = t->kinds ? SPINDLE_OK : spindle__fail(SPINDLE_OUT_OF_MEMORY, "no memory for %d slots", capacity);
  if (status == SPINDLE_OK)
    status = context->backend->device->alloc(context, (void **)&t->slots, (size_t)capacity * sizeof *t->slots);
  if (status == SPINDLE_OK) status = write_empty_slots(t);
  if (status != SPINDLE_OK) {
    spindle_positions_destroy(t);
    return status;
  }
  *positions = t;
  return SPINDLE_OK;
}

spindle_status spindle_positions_set(spindle_positions *positions, int32_t slot, const spindle_position *position,
                                     spindle_stream stream) {
  spindle_position checked;
  if (!positions) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "positions is NULL");
  SPINDLE__TRY(spindle__check_stream(positions->context, stream));
  SPINDLE__TRY(spindle__check_integer("slot", slot, 0, positions->capacity - 1));
  SPINDLE__TRY(spindle__check_position(position, &positions->shape, &checked));

  spindle__slot *filled = calloc(1, sizeof *filled);
  if (!filled) return spindle__fail(SPINDLE_OUT_OF_MEMORY, "no memory for a slot (%zu bytes)", sizeof *filled);
  fill_slot(filled, &checked, positions->shape.rotary_dim);
  spindle_context *context = positions->context;
  spindle_status status = context->backend->device->upload(context, &positions->slots[slot], filled, sizeof *filled, stream);
  free(filled);
  if (status != SPINDLE_OK) return status;

  spindle__slot_kinds kinds = {(uint8_t)checked.rope, (uint8_t)checked.remap, (uint8_t)checked.row_scale};
  pthread_mutex_lock(&positions->lock);
  count_kinds(positions, &positions->kinds[slot], -1);
  positions->kinds[slot] = kinds;
  count_kinds(positions, &kinds, 1);
  pthread_mutex_unlock(&positions->lock);
  return SPINDLE_OK;
}

void spindle_positions_destroy(spindle_positions *positions) {
  if (!positions) return;
  if (positions->slots) positions->context->backend->device->release(positions->context, positions->slots);
  pthread_mutex_destroy(&positions->lock);
  free(positions->kinds);
  free(positions);
}
