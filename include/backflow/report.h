/* report.h -- a record as a page to explore: one HTML file, and the figures beside it.
 *
 * The page holds its data, style and script itself, asks nothing of a network under a strict
 * Content-Security-Policy, and is a readable picture with scripts off. Nothing of the model is
 * read: a saved record is enough; what trust measured can be handed in. docs/report.md. */
#ifndef BACKFLOW_REPORT_H
#define BACKFLOW_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "backflow/record.h"

/* One kind of move that trust measured (trust.h says what each field is). Borrowed. */
typedef struct {
    const char *what, *move;
    size_t n;                      /* pairs */
    const size_t *loss, *position; /* [n] */
    const double *predicted;       /* [n] */
    const double *real;            /* [n, n_sizes + 1]: the derivative; the change at each size */
    const double *pearson, *slope; /* [n_sizes + 1] */
    double residual, range;
    bool holds;
} bf_report_move;

/* Zero-initialise, then set what there is. Borrowed. */
typedef struct {
    const char *stem;         /* files are called STEM.html, STEM.safetensors, STEM_graph.svg, ...;
                                 NULL: index.html, run.safetensors, graph.svg, ... */
    const char *text_name;    /* what the text is called, among several: "story.txt"; may be NULL */
    const char *model;        /* how commands name the model; NULL: the record's "model" */
    size_t n_moves, n_sizes;  /* 0 moves: trust was not measured */
    const bf_report_move *moves;
    const double *sizes;      /* [n_sizes] */
    const char *no_trust;     /* why it was not measured; may be NULL */
} bf_report_extras;

/* What an index says of one text. Strings are borrowed. */
typedef struct {
    const char *stem, *name;
    const bf_record *record;
} bf_report_entry;

enum { BF_REPORT_TEXTS = 99 };

/* Every name of a file that a report's folder may hold, also one of several texts, whose stems are
 * "text-01" to "text-99"; NULL-terminated. Made by the first call. NULL: no memory. */
const char *const *bf_report_files(void);

/* Write the figures and the page into a folder that exists. The page links the record, which the
 * caller puts there.
 * record  borrowed; needs tokens, loss and flow.resid_pre.grad_norm with layer 0; of the
 *         other tensors and metadata ("command", "check.NAME") what is there is shown
 * extras  borrowed; NULL: none
 * Other files in the folder are left alone.  BF_EARG the record lacks what is needed, BF_EIO,
 * BF_ENOMEM. */
bf_code bf_render_report(const bf_record *record, const bf_report_extras *extras,
                         const char *folder, bf_error *err);

/* Write index.html over the pages of n texts, each with its numbers. BF_EARG, BF_EIO, BF_ENOMEM. */
bf_code bf_render_report_index(const bf_report_entry *entry, size_t n, const char *folder,
                               bf_error *err);

#endif
