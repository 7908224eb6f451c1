/* run.h -- what one trace holds while it runs (internal to tracer). */
#ifndef BF_TRACER_NUM_RUN_H
#define BF_TRACER_NUM_RUN_H

#include "tracer/job.h"

typedef struct {
    const bf_job *job;
    const bf_config *config;
    bf_pool *pool;
    bf_arena *arena;
    R(bf_params) *params;
    R(bf_acts) *acts;
} R(bf_run_state);

/* Threads, memory, weights, room for activations. End it whatever the outcome. */
bf_code R(bf_run_new)(R(bf_run_state) *run, const bf_job *job, bf_error *err);
void R(bf_run_end)(R(bf_run_state) *run);

/* Walk beams chunk by chunk, with progress. */
bf_code R(bf_walk_all)(const R(bf_walk) *walk, const bf_query *query, bf_beam *beams, size_t n,
                       size_t chunk_rows, bf_error *err);
/* The record's overview.* tensors: sums over blocks of losses, and their norms by random signs. */
bf_code R(bf_run_overview)(bf_record *record, const R(bf_walk) *walk, const bf_job *job, bf_error *err);
/* The record's weight.* tensors: room for the sums, and what is measured of them after the walk. */
size_t R(bf_weights_bytes)(const bf_config *c, size_t N);
bf_code R(bf_weights_take)(R(bf_band_sums) *sums, const bf_config *c, size_t N, bf_arena *arena,
                           bf_error *err);
bf_code R(bf_weights_measure)(bf_record *record, R(bf_run_state) *run, const R(bf_band_sums) *sums,
                              bf_error *err);
/* The record's bf16_error: a few of its losses in float beside what bfloat16 made of them
 * (docs/record-format.md). Last of all: the weights are no longer packed afterwards. */
bf_code R(bf_run_precision)(bf_record *record, const R(bf_walk) *walk, const bf_job *job, bf_error *err);
bf_code R(bf_note_seconds)(bf_record *record, const char *key, double seconds, bf_error *err);
/* Point a sink at the record's flow tensors. */
void R(bf_sink_open)(R(bf_sink) *sink, const bf_job *job, const bf_record *record);

#endif
