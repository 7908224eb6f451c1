/* threads.h -- a fixed set of workers that share out numbered tasks.
 *
 * Tasks are cut by the caller into pieces that do not depend on the number of threads, or whose bits do not
 * depend on the cut, and no task reads what another of the same call writes: so results are bitwise the same
 * for any number. */
#ifndef BF_BASE_THREADS_H
#define BF_BASE_THREADS_H

#include <stddef.h>

#include "backflow/error.h"

typedef struct bf_pool bf_pool;

/* task 0..n-1; worker 0..threads-1 names whose scratch to use. */
typedef void bf_task(void *context, size_t task, size_t worker);

/* threads >= 1 (0: as many as the machine has online, at most 256). The caller is worker 0.
 * BF_ENOMEM, BF_EARG beyond 256. */
bf_code bf_pool_new(bf_pool **out, size_t threads, bf_error *err);
void bf_pool_free(bf_pool *pool); /* NULL-safe */
size_t bf_pool_threads(const bf_pool *pool);
/* Run all tasks; returns when every one has ended. Not reentrant. */
void bf_pool_run(bf_pool *pool, size_t tasks, bf_task *task, void *context);

#endif
