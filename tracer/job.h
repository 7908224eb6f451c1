/* job.h -- a checked query with its defaults filled in, and how its losses are cut into chunks
 * (internal to tracer). */
#ifndef BF_TRACER_JOB_H
#define BF_TRACER_JOB_H

#include "backflow/tracer.h"
#include "base/buf.h"
#include "model/model.h"
#include "tracer/num/walk.h"

typedef struct {
    bf_model *model;
    const bf_query *query;
    bf_config config;         /* the model's, with the masks of this job */
    bf_mask *mask;            /* these masks, where they differ from the model's; owned */
    int64_t *hidden;          /* [N] tokens with the masked ones hidden, or NULL; owned */
    const int64_t *inputs, *targets; /* [N]; targets NULL: what follows each input */
    size_t N, losses, layers, threads, memory;
    size_t *loss, *layer;     /* [losses], [layers], owned */
    size_t *layer_slot;       /* [L], SIZE_MAX: not recorded; owned */
    size_t summed;            /* with query.sum: so many losses before the one in loss[0] are added to it */
    size_t lowest;            /* lowest layer recorded */
    unsigned sites, scores;
    size_t blocks, probes;    /* of the overview; 0: none */
    size_t fold_below;        /* positions that are folded */
    bool blend, blend_blocks; /* losses, and blocks, pass a gated MLP's two input weights as one */
    bool cross, top;          /* losses pass q's and k's weights as sums over keys and queries, the top layer's k's and
                               * v's as sums over heads */
    double saved;             /* floating-point operations that these save, less what they cost */
    bool shared;              /* attention patterns are kept for one layer only */
    size_t *edge_start, edges; /* [losses] first edge of each loss, and their number; owned */
    const bf_tensor *reference; /* logprobs of the target's reference, or NULL; borrowed */
    size_t keep;              /* bytes of converted weights that may be kept */
    size_t fixed_bytes, chunk_bytes, chunk_rows; /* activations and sums; the rest, per chunk */
    size_t part_rows;         /* of a chunk, that attention takes at once */
} bf_job;

/* Fill in and check. job is zeroed first; bf_job_free whatever the outcome. */
bf_code bf_job_make(bf_job *job, bf_model *model, const bf_query *query, bf_error *err);
void bf_job_free(bf_job *job); /* owned arrays; NULL-safe */

/* Parts of it: masks with the query's cut; inputs with the query's masked tokens hidden, and targets. */
bf_code bf_job_masks(bf_job *job, bf_error *err);
bf_code bf_job_hide(bf_job *job, bf_error *err);

/* What to fold, to blend and to cross, in chunks of at most so many rows: fold_below, blend, blend_blocks, cross, top,
 * saved. */
bf_code bf_job_shortcuts(bf_job *job, size_t chunk_rows, bf_error *err);

/* The record's tensors for this job: *specs is malloc'd, *n of them. */
bf_code bf_job_specs(bf_tensor **specs, size_t *n, const bf_job *job, bf_error *err);
extern const char *const bf_share_names[BF_SHARES], *const bf_param_names[BF_PARAMS],
    *const bf_weight_names[BF_PARAMS]; /* in the order of BF_PARAM_* */
/* Heads on a site's axis: 0 none, else H or G. Parallel blocks have no resid_mid. */
size_t bf_site_heads(const bf_config *c, unsigned site);
bool bf_site_exists(const bf_config *c, unsigned site);

/* Losses from..to-1 of block b. */
void bf_job_block(size_t *from, size_t *to, const bf_job *job, size_t b);
/* How often the overview walks all blocks. */
size_t bf_job_block_walks(const bf_job *job);
/* The beam of the k-th loss, or of block k. */
bf_beam bf_job_beam(const bf_job *job, bool blocks, size_t k);

/* Floating-point operations of the products in all walks of losses and blocks. */
double bf_job_flops(const bf_job *job);

/* The runs themselves, in float and double. */
bf_code bf_run_f32(bf_record **out, const bf_job *job, const char *path, bf_check *checks,
                   size_t *n_checks, bf_error *err);
bf_code bf_run_f64(bf_record **out, const bf_job *job, const char *path, bf_check *checks,
                   size_t *n_checks, bf_error *err);
/* Bytes that a run holds besides chunks: activations, scratch of the forward pass, sums. */
size_t bf_run_fixed_f32(const bf_job *job);
size_t bf_run_fixed_f64(const bf_job *job);

/* Fill in what every record says of itself: tokens, strings, model, precision, threads. */
bf_code bf_job_describe(bf_record *record, const bf_job *job, bf_error *err);
bf_code bf_job_describe_masks(bf_record *record, const bf_job *job, bf_error *err);

/* Derivative of each loss along a direction u [N,D] at resid_pre of layer l, by central differences of
 * the forward pass in double (error term of fourth order).  out [N]. */
bf_code bf_differences(double *out, const bf_job *job, size_t l, const double *u, bf_error *err);

#endif
