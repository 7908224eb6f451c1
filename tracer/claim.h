/* claim.h -- what the parts of claims share: the file as read, models made on the spot, what a
 * measure gets and fills in (internal to tracer). */
#ifndef BF_TRACER_CLAIM_H
#define BF_TRACER_CLAIM_H

#include "backflow/claims.h"
#include "base/buf.h"
#include "base/json.h"

/* ---- the file's shape (claim_shape.c), which docs/claims.schema.json says, too */

enum {
    BF_KIND_NUMBER = 1,
    BF_KIND_TEXT = 2,
    BF_KIND_LIST = 4,
    BF_KIND_OBJECT = 8,
    BF_KIND_BOOL = 16
};

typedef struct {
    const char *name;
    unsigned kinds; /* BF_KIND_* */
    bool needed;
} bf_claim_field;

typedef struct {
    const char *name;             /* of the definition in the schema */
    const bf_claim_field *fields; /* ends with name NULL */
} bf_claim_shape;

enum {
    BF_SHAPE_CLAIM,
    BF_SHAPE_ENTRY,
    BF_SHAPE_MODEL,
    BF_SHAPE_RANDOM,
    BF_SHAPE_VERDICT,
    BF_SHAPE_COMPARE,
    BF_SHAPE_FIGURE,
    BF_SHAPE_TABLE,
    BF_SHAPES
};
extern const bf_claim_shape bf_claim_shapes[BF_SHAPES];

/* Where in a file we are, for messages. */
typedef struct {
    const char *path;
    char pointer[240]; /* "/measures/0/with" */
} bf_place;

/* A place inside: key, or the k-th of a list (key NULL). */
bf_place bf_place_in(const bf_place *place, const char *key, size_t k);
/* "path: /pointer: ..." as BF_EFORMAT. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
bf_code
bf_place_fail(bf_error *err, const bf_place *place, const char *format, ...);
/* Are all fields of this shape, of the right kind, and the needed ones there? */
bf_code bf_shape_check(const bf_json *object, const bf_claim_shape *shape, const bf_place *place,
                       bf_error *err);
/* The whole number object[key], from least to most; fallback if it is not there.  BF_EFORMAT. */
bf_code bf_size_read(size_t *out, const bf_json *object, const char *key, size_t fallback,
                     size_t least, size_t most, const bf_place *place, bf_error *err);

/* ---- a claim as read (claim_read.c) */

typedef struct {
    const char *name;
    const bf_measure_info *measure;
    size_t index;             /* of the measure */
    const bf_json *models;    /* list, or NULL */
    const bf_json *with;      /* object, or NULL */
    double *number;           /* [n_params] of the measure */
    const char **word;        /* [n_params] NULL unless the parameter is a text */
    size_t tokens, documents; /* of a text; texts */
    bool any_model;           /* it may be asked of the user's model */
} bf_claim_entry;

struct bf_claim {
    bf_json *json;
    char *path, *folder; /* the file's; the folder it stands in */
    bf_claim_entry *entry;
    size_t n_entries;
    const bf_json *verdicts, *figures; /* lists; figures may be NULL */
    bool expects;
    bf_verdict expected, expected_any; /* of the claim's models; of a user's */
};

/* Which entry and result does "entry.result" name? False if none. *series: the k-th series instead;
 * NULL: results only. */
bool bf_claim_lookup(size_t *entry, size_t *result, bool *series, const bf_claim *claim,
                     const char *name);

/* The claim's figures and tables, against its measures (claim_figures.c).  BF_EFORMAT. */
bf_code bf_claim_check_figures(bf_claim *claim, const bf_place *top, bf_error *err);
bf_code bf_claim_check_tables(const bf_claim *claim, const bf_place *top, bf_error *err);

/* "AMD EPYC ..., 2 processors": what the system says of itself (claim_find.c). */
void bf_machine_words(char buf[200]);

/* ---- models of a claim (claim_models.c) */

/* A random model as a claim asks for it. */
typedef struct {
    const char *family;
    size_t layers, width, heads, kv_heads, mlp, vocabulary, positions, window, seed;
    double scale;        /* of the weights, times 1.7/sqrt(width); norms stay near 1 */
    bool no_positions;   /* learned positions are all 0 */
    const bf_json *mask; /* config.json's "backflow": {"mask": ..}, or NULL */
} bf_random_spec;

/* Read and check {"family": .., "layers": ..}; seed is the number of the first of "seeds".
 * BF_EFORMAT with the field. */
bf_code bf_random_read(bf_random_spec *spec, const bf_json *object, const bf_place *place,
                       bf_error *err);
/* Make it: a folder that is written, opened and removed.  BF_EIO, BF_ENOMEM, and bf_model_open's.
 */
bf_code bf_random_open(bf_model **out, const bf_random_spec *spec, bf_error *err);
/* "gpt2, 3 layers, seed 1": to buf. */
void bf_random_words(char *buf, size_t size, const bf_random_spec *spec);

/* ---- what a measure gets */

typedef struct {
    bf_model *model; /* NULL: the measure takes none */
    const int64_t *const
        *text; /* [n_texts] of length[] tokens, all of them within the model's positions */
    const size_t *length;
    size_t n_texts;
    const double *number; /* its parameters */
    const char *const *word;
    const char *results; /* folder of kept results */
    uint64_t seed;
    const bf_claim_query *query;
} bf_subject;

/* Fill in reading->result [n_results], all NaN before, and series, all zero before (malloc'd). A
 * measure that cannot say anything of this model writes why to reading->missing. */
typedef bf_code bf_measure_run(bf_reading *reading, const bf_subject *subject, bf_error *err);

typedef struct {
    bf_measure_info info;
    bf_measure_run *run;
} bf_measure;

extern const bf_measure bf_measure_support, bf_measure_replace, bf_measure_weights_reached,
    bf_measure_staircase, bf_measure_attends, bf_measure_chain_rule, bf_measure_permute,
    bf_measure_lag_profile, bf_measure_spread, bf_measure_own_future, bf_measure_low_entropy,
    bf_measure_teacher, bf_measure_prediction, bf_measure_interference, bf_measure_kept,
    bf_measure_kept_gap;
const bf_measure *bf_measure_of(size_t k);

/* For measures: trace text t with these sites and scores in double, all losses.  BF_*: bf_trace's.
 */
bf_code bf_subject_trace(bf_record **out, const bf_subject *s, size_t t, unsigned sites,
                         unsigned scores, bool attn, bf_error *err);
void bf_subject_tell(const bf_subject *s, double done);
/* Make a series of rows x columns with x = 0, 1, ...; with intervals or not.  BF_ENOMEM. */
bf_code bf_series_new(bf_series *series, size_t rows, size_t columns, bool intervals,
                      bf_error *err);
void bf_series_free(bf_series *series);

static inline bf_measured bf_plain(double value)
{
    return (bf_measured){value, 0.0 / 0.0, 0.0 / 0.0, 0.0 / 0.0};
}

/* ---- deciding (claim_decide.c, claim_predicate.c) */

typedef enum { BF_NO, BF_YES, BF_UNKNOWN, BF_NEUTRAL } bf_truth;

/* Is the predicate true of what was found? Neutral if all it asks about was left out. */
bf_truth bf_predicate_holds(const bf_json *predicate, const bf_claim *claim,
                            const bf_decided *decided);
/* Is it well-formed, and does all that it names exist? */
bf_code bf_predicate_check(const bf_json *predicate, const bf_claim *claim, const bf_place *place,
                           bf_error *err);
/* The same for a template. */
bf_code bf_template_check(const char *text, const bf_claim *claim, const bf_place *place,
                          bf_error *err);

#endif
