/* trust.h (internal) -- the parts of bf_trust_measure: what the record says, what really happens.
 *
 * Everything here is in double, whatever the record was made in: include this first. */
#ifndef BF_TRACER_TRUST_H
#define BF_TRACER_TRUST_H

#define BF_BITS 64

#include "backflow/trust.h"
#include "base/random.h"
#include "model/model.h"
#include "tracer/num/walk.h"

/* ---- trust_record.c: what the record says */

typedef struct {
    const bf_record *record;
    bf_config config; /* the model's, with no gradient cut */
    bf_mask *mask;
    const bf_config *c; /* config */
    size_t N;
    int64_t *tokens;          /* [N+1]; owned */
    size_t losses, layers;    /* lengths of the record's axes */
    size_t *loss, *layer;     /* [losses], [layers]; owned */
    size_t summed;            /* a row is the sum of its loss and so many before it */
    const bf_tensor *dot[BF_SITES], *norm[BF_SITES], *share[BF_SHARES], *edge_index, *edge_value;
    bf_target target;
    bool rough;               /* bfloat16 products, or rows were dropped */
} bf_evidence;

/* Check the record against the model and itself. End it whatever the outcome. Codes of
 * bf_trust_measure. */
bf_code bf_evidence_open(bf_evidence *evidence, const bf_record *record, bf_model *model,
                         bf_error *err);
void bf_evidence_end(bf_evidence *evidence);
/* Value k of an i64 tensor, which may stand at any address. */
int64_t bf_evidence_integer(const bf_tensor *tensor, size_t k);
/* Value of [layers,(heads,)losses,N] at slots of layer and loss, head h (0 if there are none). */
bf_code bf_evidence_value(double *out, const bf_evidence *evidence, const bf_tensor *tensor,
                          size_t slot, size_t h, size_t loss_slot, size_t j, bf_error *err);
/* Slot of loss i on the record's axis, SIZE_MAX if it is not there. */
size_t bf_evidence_slot(const bf_evidence *evidence, size_t i);

/* ---- trust_trial.c: what really happens */

typedef struct {
    const bf_evidence *evidence;
    const bf_config *c;
    size_t N, threads;
    bf_pool *pool;
    bf_arena *arena;
    bf_params_f64 *params;
    bf_acts_f64 *base, *work; /* the text as it is; the run with moved vectors */
    bf_walk_f64 walk;
    bf_sink_f64 sink;
    size_t *no_slot;          /* [L] nothing is recorded; owned */
    double *moved, *rows;     /* [max(D,K)]; [N,K]: vectors of edits */
    double *weights;          /* [N] of one attention row */
    bf_edit_f64 *edits;       /* [N] */
    const bf_trust_query *query;
    double start;             /* of the stage, seconds */
} bf_trial;

/* Run the text once. End it whatever the outcome. BF_ENOMEM the budget does not hold it. */
bf_code bf_trial_new(bf_trial *trial, const bf_evidence *evidence, bf_model *model,
                     const bf_trust_query *query, bf_error *err);
void bf_trial_end(bf_trial *trial);

/* Site k (0..8) of layer l, head h at position j in the untouched run; width D or K. */
const double *bf_trial_vector(const bf_trial *trial, unsigned k, size_t l, size_t h, size_t j);
size_t bf_trial_width(const bf_trial *trial, unsigned k);
/* Run again with these edits from layer l on, on positions 0..n-1, into trial->work. */
bf_code bf_trial_run(bf_trial *trial, size_t l, const bf_edit_f64 *edits, size_t n_edits, size_t n,
                     bf_error *err);
/* Change of the target of the record's row for loss i. */
double bf_trial_change(const bf_trial *trial, size_t i);
/* Can the row of loss i be reached from this site and position at all? */
bool bf_trial_reaches(const bf_trial *trial, unsigned k, size_t l, size_t j, size_t i);
/* Tell how far the stage is; start a stage. */
void bf_trial_stage(bf_trial *trial);
void bf_trial_tell(const bf_trial *trial, const char *stage, double done);

/* ---- trust_rows.c: moves and what they did */

/* A vector to move, and along what. */
typedef struct {
    unsigned site;            /* 0..8 */
    size_t layer, head, position;
    const double *direction;  /* [width]; x(t) = a + t * direction */
    unsigned path;            /* of BF_SHARE_*, trust_paths.c only */
    size_t query;             /* edges: the position whose attention sees it; SIZE_MAX: all */
} bf_move;

/* Leaves the run with move at t in trial->work. */
typedef bf_code bf_apply(bf_trial *trial, const bf_move *move, double t, bf_error *err);
bf_apply bf_apply_vector;

/* A new, empty row; valid until the next. BF_ENOMEM. */
bf_code bf_row_new(bf_trust_row **out, bf_trust *trust, const char *what, const char *move,
                   bf_error *err);
bf_code bf_row_add(bf_trust_row *row, size_t n_sizes, size_t loss, size_t position,
                   double predicted, bf_error *err);
/* Measure the pairs first..row->n-1, which were added for this move. */
bf_code bf_row_measure(bf_trust_row *row, const bf_trust *trust, size_t first, bf_trial *trial,
                       bf_apply *apply, const bf_move *move, bf_error *err);

/* One row a site: vectors scaled. losses: slots on the record's axis whose pairs are wanted. */
bf_code bf_rows_scaled(bf_trust *trust, bf_trial *trial, unsigned sites, const size_t *slots,
                       size_t n, uint64_t *seed, bf_error *err);

/* 0..n-1 in random order. */
void bf_draw_order(size_t *out, size_t n, uint64_t *seed);

/* ---- trust_vectors.c: moves that need the gradient itself, at resid_pre */

/* A gradient to fetch: of loss i (slot in the record) at resid_pre[layer], position j. */
typedef struct {
    size_t slot, layer, position;
    double *g; /* [D] */
} bf_wanted;

/* Walk each loss that is wanted once. Fills g. */
bf_code bf_wanted_fetch(bf_wanted *wanted, size_t n, bf_trial *trial, bf_error *err);
/* A place of resid_pre drawn from what is recorded: slot of the layer, position. */
typedef struct {
    size_t slot, position;
} bf_place;
/* At most `most` places that one of the losses reaches. out [most]; returns how many; BF_ENOMEM. */
bf_code bf_places_draw(bf_place *out, size_t *n, size_t most, const bf_trial *trial,
                       const size_t *slots, size_t n_slots, uint64_t *seed, bf_error *err);
/* Of the losses, one at random that the place can reach. */
size_t bf_place_loss(const bf_trial *trial, bf_place place, const size_t *slots, size_t n_slots,
                     uint64_t *seed);
bf_code bf_rows_vectors(bf_trust *trust, bf_trial *trial, const size_t *slots, size_t n,
                        size_t places, uint64_t *seed, bf_error *err);

/* ---- trust_paths.c: shares and edges, each moved by its own path only */

bf_code bf_rows_shares(bf_trust *trust, bf_trial *trial, const size_t *slots, size_t n,
                       size_t places, uint64_t *seed, bf_error *err);
bf_code bf_rows_edges(bf_trust *trust, bf_trial *trial, const size_t *slots, size_t n, size_t most,
                      uint64_t *seed, bf_error *err);

/* ---- trust_curves.c */

bf_code bf_curves_measure(bf_trust *trust, bf_trial *trial, const size_t *slots, size_t n,
                          uint64_t *seed, bf_error *err);

/* ---- trust_stats.c */

/* Statistics, residuals, ranges and whether rows hold, from what was measured. */
bf_code bf_trust_judge(bf_trust *trust, bool rough, bf_error *err);
typedef struct {
    double value;
    size_t k;
} bf_ranked;
/* Agreement of n pairs; ranked [n] and ranks [2n] are scratch. */
void bf_agree(bf_agreement *out, const double *predicted, const double *actual, size_t n,
              bf_ranked *ranked, double *ranks);

#endif
