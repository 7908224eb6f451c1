/* claims.h -- is it true, and how do we know?
 *
 * A claim is a JSON file (docs/claims.schema.json): a sentence, what would refute it, measures by
 * name with parameters and the models they are run on, predicates over the measures' results, the
 * verdict that each calls for, and prose. Those that come with backflow are such files, too.
 *
 * A number below its stated floor is called underflow, one that the model's mask rules out
 * structural; neither is called zero. */
#ifndef BACKFLOW_CLAIMS_H
#define BACKFLOW_CLAIMS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backflow/error.h"
#include "backflow/model.h"
#include "backflow/tracer.h"

/* ---- what can be measured */

typedef struct {
    const char *name;
    double value, least, most; /* default and range */
    const char *words;         /* a text is wanted: what it is; NULL: a number */
    const char *help;
} bf_measure_param;

typedef struct {
    const char *name, *unit, *help;
} bf_measure_result;

typedef struct {
    const char *name, *help;
    const bf_measure_param *params; /* [n_params] */
    size_t n_params;
    const bf_measure_result *results; /* [n_results] numbers */
    size_t n_results;
    const bf_measure_result *series; /* [n_series] lists and tables, for figures */
    size_t n_series;
    bool kept; /* reads results of training and takes no model */
} bf_measure_info;

/* The k-th measure; NULL beyond the last. */
const bf_measure_info *bf_measure_at(size_t k);

/* ---- claims */

typedef enum {
    BF_VERDICT_HOLDS,
    BF_VERDICT_REFUTED,
    BF_VERDICT_DEPENDS,
    BF_VERDICT_MEASURED,
    BF_VERDICT_OPEN
} bf_verdict; /* open: what would decide is not there */
enum { BF_VERDICTS = 5 };
const char *bf_verdict_name(bf_verdict verdict); /* "holds", ... */

typedef struct bf_claim bf_claim;

/* Read a claim: a path, or the id of one that comes with backflow ("C3", "C03").
 * out  owned by the caller (bf_claim_free); untouched on failure
 * BF_EIO, BF_EFORMAT, BF_EARG, BF_ENOMEM; messages name file, field (a JSON pointer), found,
 * wanted. */
bf_code bf_claim_open(bf_claim **out, const char *path, bf_error *err);
void bf_claim_free(bf_claim *claim); /* NULL-safe */
/* The folder of the claims that come with backflow. out: free().  BF_EIO, BF_ENOMEM. */
bf_code bf_claim_folder(char **out, bf_error *err);

/* Words of the file, borrowed; NULL where it has none. */
const char *bf_claim_id(const bf_claim *claim);
const char *bf_claim_word(const bf_claim *claim, const char *field); /* "claim", "plain", ... */
const char *bf_claim_path(const bf_claim *claim);
/* Does it say what to measure on a model of the user's? */
bool bf_claim_for_any_model(const bf_claim *claim);

/* The claim's figures: number, and of the k-th a field ("kind", "title", "x", "y", "x_name", ...)
 * or the n-th of a list of them. NULL where there is none. */
size_t bf_claim_figures(const bf_claim *claim);
const char *bf_claim_figure_word(const bf_claim *claim, size_t k, const char *field, size_t n);
/* Its tables: number, title of the k-th, and a cell as a template (bf_claim_fill). Row 0 holds the
 * columns' names. NULL where there is none. */
size_t bf_claim_tables(const bf_claim *claim);
const char *bf_claim_table_title(const bf_claim *claim, size_t k);
const char *bf_claim_table_cell(const bf_claim *claim, size_t k, size_t row, size_t column);

/* ---- deciding */

/* Zero-initialise, then set what differs. */
typedef struct {
    const char *model;        /* NULL: those that the claim names; else the user's instead */
    const char *const *texts; /* [n_texts] for the user's model; borrowed */
    size_t n_texts;
    const char *results; /* folder of kept results; NULL: results/ beside the claim */
    uint64_t seed;
    size_t memory, threads; /* as in bf_query */
    bf_progress *progress;  /* may be NULL */
    void *progress_context;
    const volatile sig_atomic_t *stop;
} bf_claim_query;

/* A number with the ends of its 95 % interval and the p-value of its test, NaN where there is none.
 * p is corrected (Holm) over all tests of the claim. */
typedef struct {
    double value, low, high, p;
} bf_measured;

/* A list or table of numbers. */
typedef struct {
    size_t rows, columns;       /* rows 1: a list */
    double *x;                  /* [columns] */
    double *value, *low, *high; /* [rows,columns]; low and high may be NULL */
} bf_series;

/* One measure on one model. */
typedef struct {
    char *model;         /* its name, or the words of a random one; owned */
    bf_measured *result; /* [n_results] */
    bf_series *series;   /* [n_series]; value NULL where the measure had none */
    char missing[240];   /* why there are no results; "" if there are */
} bf_reading;

typedef struct {
    const char *name;
    const bf_measure_info *measure;
    bool absent; /* left out, as it says nothing of the user's model */
    size_t n_readings;
    bf_reading *readings;
} bf_entry_found;

typedef struct {
    bf_verdict verdict, expected;
    bool surprising; /* the claim says what to expect, and this is not it */
    bool judged;     /* the claim says what to expect; else `refuted` surprises */
    char *condition; /* "" if none */
    char *answer;    /* prose with numbers */
    size_t n_entries, n_tests;
    bf_entry_found *entries;
    double seconds;
} bf_decided;

/* Run the measures and decide.
 * out  owned by the caller (bf_decided_free); it borrows from claim; untouched on failure
 * The codes of what it calls; messages begin with the claim's file. */
bf_code bf_claim_decide(bf_decided **out, const bf_claim *claim, const bf_claim_query *query,
                        bf_error *err);
void bf_decided_free(bf_decided *decided); /* NULL-safe */

/* Fill in a template: {entry.result} a number with its interval, over several models a range;
 * {entry.result:%} in per cent. out: free().  BF_EFORMAT, BF_ENOMEM. */
bf_code bf_claim_fill(char **out, const bf_decided *decided, const char *text, bf_error *err);
/* A series "entry.series" of reading r, or NULL. */
const bf_series *bf_claim_series(const bf_decided *decided, const char *name, size_t reading);
/* A result "entry.result" and how many readings it has; NULL: none such. values: stride apart by
 * reading; use bf_claim_value. */
bool bf_claim_value(bf_measured *out, const bf_decided *decided, const char *name, size_t reading);
size_t bf_claim_readings(const bf_decided *decided, const char *name);

/* ---- training what verdicts rest on (backflow verify --full) */

/* Zero-initialise, then set what differs. */
typedef struct {
    const char *folder;  /* of units.json and the trainings' CONFIG.json files */
    const char *results; /* where a unit's result goes: GROUP-SEED.json; made if it is not there */
    const char *work; /* where models are trained; a unit's folder goes when its result is there */
    const char *only; /* NULL: all groups; else those whose name begins so */
    size_t seeds;     /* 0: all; else at most so many of each group */
    const char *command; /* kept with the result; NULL: none */
    size_t memory, threads;
    /* words of one line; done: part of the unit, 1 when its result was written. May be NULL */
    void (*tell)(void *context, const char *words, double done);
    void *tell_context;
    const volatile sig_atomic_t *stop;
} bf_full_query;

/* Train and measure every unit whose result is not there yet, the most telling first. Ends at any
 * moment and goes on from there when called again. BF_EIO, BF_EFORMAT (file, field),
 * BF_EINTERRUPTED, bf_train's. */
bf_code bf_claims_train(const bf_full_query *query, bf_error *err);

#endif
