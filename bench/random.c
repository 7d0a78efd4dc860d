#include "random.h"

#include <time.h>
#include <unistd.h>

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t tool_random_u64(tool_random *r) {
  uint64_t z = r->state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

/* The sum of four uniform numbers, each of variance 65536^2 / 12. */
void tool_random_fill(tool_random *r, float *out, int64_t count, double deviation) {
  float unit = (float)(deviation / 37837.23);
  for (int64_t k = 0; k < count; k++) {
    uint64_t z = tool_random_u64(r);
    int32_t sum = (int32_t)(z & 0xffff) + (int32_t)(z >> 16 & 0xffff) + (int32_t)(z >> 32 & 0xffff) + (int32_t)(z >> 48);
    out[k] = (float)(sum - 131070) * unit;
  }
}

uint64_t tool_random_seed(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tool_random r = {(uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 30 ^ (uint64_t)getpid() << 16};
  return tool_random_u64(&r) >> 32; /* short enough to type */
}
