// Device memory: a table of allocations between guard pages, and who wrote what in the running launch.
#ifndef EMULATOR_GLOBAL_H
#define EMULATOR_GLOBAL_H

#include "core.h"

namespace emulator {

struct Allocation {
  char *base;
  size_t bytes;
  int device;
  char *map;  // with its guard pages
  size_t map_bytes;
  uint64_t *cells;  // one every CELL bytes: see global.cpp
};

void *allocate(size_t bytes, int device);  // null: no memory
bool deallocate(void *pointer);
const Allocation *find_allocation(const void *pointer);  // or its guard pages; null: none
size_t allocated_bytes();

// Reports and returns false for what cannot be accessed.
bool global_valid(Fiber *fiber, const void *pointer, size_t bytes, size_t align, Site site, const char *what);
void global_read(Fiber *fiber, const void *pointer, size_t bytes, Site site, const char *what);
void global_write(Fiber *fiber, const void *pointer, size_t bytes, Site site, const char *what);
bool describe_global(char *to, size_t size, const char *address);

uint32_t new_launch_id();  // forgets what earlier launches released

}  // namespace emulator

#endif
