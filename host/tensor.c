/* Validation of tensors: base, strides, and what they touch. */
#include "internal.h"

#define ALIGNMENT  16
#define MAX_STRIDE ((int64_t)1 << 48)

static spindle_status check_base(const char *name, const void *data, size_t alignment) {
  if (!data) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s.data is NULL", name);
  if ((uintptr_t)data % alignment)
    return spindle__fail(SPINDLE_MISALIGNED, "%s.data is at %p, must be a multiple of %zu bytes", name, data, alignment);
  return SPINDLE_OK;
}

/* The stride of a dimension of `count` entries that are `least` elements apart at the least. A dimension of one entry is never
 * stepped. */
static spindle_status check_stride(const char *name, const char *field, int64_t stride, int64_t count, int64_t least,
                                   size_t element) {
  if (stride < 0 || stride > MAX_STRIDE)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s.%s is %lld, must be in [0, %lld] elements", name, field, (long long)stride,
                         (long long)MAX_STRIDE);
  if (count <= 1) return SPINDLE_OK;
  if (stride < least)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s.%s is %lld, must be at least %lld elements", name, field,
                         (long long)stride, (long long)least);
  if (element && (size_t)stride * element % ALIGNMENT)
    return spindle__fail(SPINDLE_MISALIGNED, "%s.%s is %lld elements (%zu bytes), must be a multiple of %d bytes", name, field,
                         (long long)stride, (size_t)stride * element, ALIGNMENT);
  return SPINDLE_OK;
}

/* count stride, at most FAR, and -1 for a negative stride: strides are the caller's, so a plain product could overflow. */
#define FAR ((int64_t)1 << 58)
static int64_t times(int64_t count, int64_t stride) {
  if (stride <= 0) return stride < 0 ? -1 : 0;
  return count > FAR / stride ? FAR : count * stride;
}

/* Whole elements between the first and one past the last of a strided box. */
static int64_t span(int64_t outer, int64_t outer_stride, int64_t rows, int64_t row_stride, int64_t heads, int64_t head_stride,
                    int64_t dim) {
  if (outer <= 0 || rows <= 0) return 0;
  return times(outer - 1, outer_stride) + times(rows - 1, row_stride) + times(heads - 1, head_stride) + dim;
}

static spindle__extent extent_of(const char *name, const void *data, int64_t elements, size_t element) {
  spindle__extent e = {name, (uintptr_t)data, (uintptr_t)data + (uintptr_t)elements * element};
  return e;
}

spindle_status spindle__check_rows(const char *name, spindle_rows *t, int32_t dtype, int64_t batches, int64_t rows, int32_t heads,
                                   int32_t dim, spindle__extent *extent) {
  size_t element = spindle__dtype_bytes(dtype);
  if (rows <= 0) { /* nothing to read or write: any base will do */
    *extent = extent_of(name, t->data, 0, element);
    return SPINDLE_OK;
  }
  SPINDLE__TRY(check_base(name, t->data, ALIGNMENT));
  if (!t->head) t->head = dim;
  if (!t->row) t->row = times(heads, t->head);
  /* Heads may lie outside rows ([heads][rows][dim]) or inside them. */
  SPINDLE__TRY(check_stride(name, "head", t->head, heads, dim, element));
  SPINDLE__TRY(check_stride(name, "row", t->row, rows, dim, element));
  SPINDLE__TRY(check_stride(name, "batch", t->batch, t->batch ? batches : 1, dim, element));
  *extent = extent_of(name, t->data, span(t->batch ? batches : 1, t->batch, rows, t->row, heads, t->head, dim), element);
  return SPINDLE_OK;
}

spindle_status spindle__check_cache(const char *name, spindle_cache *t, int32_t dtype, int64_t pages, int64_t page_rows,
                                    int32_t heads, int32_t dim, spindle__extent *extent) {
  size_t element = spindle__dtype_bytes(dtype);
  SPINDLE__TRY(check_base(name, t->data, ALIGNMENT));
  if (!t->head) t->head = dim;
  if (!t->row) t->row = times(heads, t->head);
  if (!t->page) t->page = times(page_rows, t->row);
  SPINDLE__TRY(check_stride(name, "head", t->head, heads, dim, element));
  SPINDLE__TRY(check_stride(name, "row", t->row, page_rows, dim, element));
  SPINDLE__TRY(check_stride(name, "page", t->page, pages, dim, element));
  if (t->scale && dtype != SPINDLE_F8E4M3)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s.scale is given, but kv_dtype is %s, not f8e4m3", name,
                         spindle__dtype_name(dtype));
  if ((uintptr_t)t->scale % sizeof *t->scale)
    return spindle__fail(SPINDLE_MISALIGNED, "%s.scale is at %p, must be a multiple of 4 bytes", name, (const void *)t->scale);
  if (t->scale_head < 0 || t->scale_head > 1)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s.scale_head is %lld, must be 0 or 1", name, (long long)t->scale_head);
  *extent = extent_of(name, t->data, span(pages, t->page, page_rows, t->row, heads, t->head, dim), element);
  return SPINDLE_OK;
}

spindle_status spindle__check_lse(const char *name, spindle_lse *t, int64_t batches, int64_t rows, int32_t heads,
                                  spindle__extent *extent) {
  if (!t->data || rows <= 0) {
    *extent = extent_of(name, t->data, 0, sizeof *t->data);
    return SPINDLE_OK;
  }
  SPINDLE__TRY(check_base(name, t->data, sizeof *t->data));
  if (!t->row && !t->head) t->row = heads;
  if (!t->head) t->head = 1;
  if (!t->row) t->row = 1;
  SPINDLE__TRY(check_stride(name, "head", t->head, heads, 1, 0));
  SPINDLE__TRY(check_stride(name, "row", t->row, rows, 1, 0));
  SPINDLE__TRY(check_stride(name, "batch", t->batch, t->batch ? batches : 1, 1, 0));
  *extent = extent_of(name, t->data, span(t->batch ? batches : 1, t->batch, rows, t->row, heads, t->head, 1), sizeof *t->data);
  return SPINDLE_OK;
}

spindle_status spindle__check_no_overlap(const spindle__extent *output, const spindle__extent *others, int32_t count) {
  for (int32_t i = 0; i < count; i++)
    if (output->begin < others[i].end && others[i].begin < output->end && output->begin < output->end &&
        others[i].begin < others[i].end)
      return spindle__fail(SPINDLE_OVERLAP, "%s [%p, %p) overlaps %s [%p, %p)", output->name, (void *)output->begin,
                           (void *)output->end, others[i].name, (void *)others[i].begin, (void *)others[i].end);
  return SPINDLE_OK;
}
