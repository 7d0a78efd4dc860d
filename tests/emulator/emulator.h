/* What tests and programs say to the emulator, and what it answers. docs/emulator.md explains; the CUDA side is include/. */
#ifndef EMULATOR_H
#define EMULATOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* When asynchronous copies land: at issue, at the wait that guarantees them, or at either (seeded). A missing wait shows only
 * when late, data overwritten too soon only when eager. Streams: when enqueued, or when somebody waits. */
enum emulator_when { EMULATOR_LATE, EMULATOR_EAGER, EMULATOR_RANDOM };
/* In which order threads and blocks run. */
enum emulator_order { EMULATOR_ASCENDING, EMULATOR_DESCENDING, EMULATOR_SHUFFLED };

/* All zeros are the defaults. */
typedef struct emulator_options {
  int copies;         /* emulator_when */
  int streams;        /* emulator_when, not random */
  int order;          /* emulator_order */
  uint64_t seed;      /* of random and shuffled */
  int os_threads;     /* that run blocks; 0: as many as the machine has */
  int no_shadow;      /* 1: no checks of races, pending data and missing barriers: faster */
  int count_accesses; /* 1: bank conflicts of ld_shared, st_shared and cp_async too, in the check build of plain accesses */
  int quiet;          /* 1: findings are not printed to stderr */
} emulator_options;

/* NULL: from the environment, SPINDLE_EMULATOR="copies=eager,order=shuffled,seed=7,...", which is also how a program starts. */
void emulator_configure(const emulator_options *options);

enum emulator_kind {
  EMULATOR_DEADLOCK,         /* no thread can go on; lists where each waits */
  EMULATOR_DIVERGENCE,       /* lanes of one collective at different places, or wrong masks */
  EMULATOR_BAD_BARRIER,      /* barrier id or thread count */
  EMULATOR_SHARED_BOUNDS,    /* outside the block's shared memory */
  EMULATOR_GLOBAL_BOUNDS,    /* outside every allocation */
  EMULATOR_ALIGNMENT,        /* address not a multiple of the access */
  EMULATOR_FAULT,            /* a guard page, a stack overflow, any other invalid address */
  EMULATOR_PENDING,          /* touches shared memory that a copy not waited for still writes */
  EMULATOR_UNINITIALISED,    /* reads shared memory that nobody has written (check build) */
  EMULATOR_READ_AFTER_WRITE, /* the three races of shared memory: no barrier in between */
  EMULATOR_WRITE_AFTER_READ,
  EMULATOR_WRITE_AFTER_WRITE,
  EMULATOR_GLOBAL_RACE,   /* global memory, between threads or blocks of a launch */
  EMULATOR_UNFINISHED,    /* a thread ends with copies or products it has not waited for */
  EMULATOR_BAD_LAUNCH,    /* grid, block, shared memory or an instruction that the device has not */
  EMULATOR_BAD_MBARRIER,  /* not initialised, too many arrivals or bytes, its words touched */
  EMULATOR_PROXY,         /* the async proxy meets what threads wrote, and nobody called fence_proxy_async */
  EMULATOR_IN_FLIGHT,     /* changes shared memory or registers that a wgmma not waited for still uses */
  EMULATOR_BAD_COPY,      /* bulk copies: tensor map, rank */
  EMULATOR_BAD_WGMMA,     /* descriptors, a missing wgmma_fence, warps that disagree */
  EMULATOR_BAD_REGISTERS, /* setmaxnreg */
  EMULATOR_KINDS
};
const char *emulator_kind_name(int kind);

typedef struct emulator_finding {
  int kind;
  uint64_t times;  /* same kind at the same place */
  char where[256]; /* file:line */
  char message[768];
} emulator_finding;

/* Findings since the start or the last emulator_forget, one a kind and place. With any, CUDA calls return cudaErrorLaunchFailure
 * from then on, as after a fault on a device. */
size_t emulator_findings(const emulator_finding **list);
int emulator_found(int kind);
void emulator_forget(void); /* findings and counters */

/* Traffic of one source line with shared memory, or of all. A wavefront is one pass over the 32 banks. */
typedef struct emulator_counters {
  uint64_t instructions; /* of a warp; of a warpgroup for wgmma, of a thread for bulk copies */
  uint64_t bytes;
  uint64_t wavefronts;
  uint64_t ideal; /* wavefronts without bank conflicts */
} emulator_counters;
emulator_counters emulator_counters_of(const char *file, int line); /* file: the end of its path; NULL: all lines */

/* Work since the last emulator_forget. */
typedef struct emulator_work {
  uint64_t launches, blocks, switches, collectives, mma, wgmma, bulk_bytes, plain_accesses;
  double seconds;
} emulator_work;
emulator_work emulator_work_done(void);

/* The kernels that have run since the last emulator_forget, each once: their number and their addresses. */
size_t emulator_kernels(const void *const **list);

/* 1 in a program whose kernels are compiled to show every plain access (the check build). */
int emulator_sees_plain_accesses(void);

/* 0 where another sanitizer takes faults: they end the program then. */
int emulator_catches_faults(void);

#ifdef __cplusplus
}
#endif

#endif
