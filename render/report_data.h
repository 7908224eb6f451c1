/* report_data.h -- what the page's script reads: a JSON head, and packed numbers (report_pack.h).
 *
 * Elements of the page, each a <script> of a type that no browser runs:
 *   #head              application/json: names, axes, small tables, and what stands in which element
 *   #m0, #m1, ...      matrices (bf_pack_matrix); the head's "matrices" says which
 *   #own, #carry_loss, #carry_source    floats (bf_pack_floats)
 *   #e0, #e1, ...      edges of loss row 0, 1, ...: words layer, path, head, from, to, floats
 * The head is written last, since it says what fitted. */
#ifndef BF_RENDER_REPORT_DATA_H
#define BF_RENDER_REPORT_DATA_H

#include <stdbool.h>

#include "backflow/report.h"
#include "base/buf.h"
#include "render/report_stats.h"

/* Axes that all parts agree on. */
typedef struct {
    const bf_record *record;
    const bf_report_stats *stats;
    const bf_report_extras *extras;
    size_t N, rows, layers; /* positions, loss rows, recorded layers of resid_pre */
    const size_t *i;        /* [rows] which loss */
    bool full;              /* the mask is bidirectional: rows reach all positions */
} bf_report_source;

/* Append the elements of a part, and to head its JSON fields, each with a comma before it.
 * BF_ESHAPE, BF_EFORMAT, BF_ENONFINITE, BF_ENOMEM. */
bf_code bf_report_put_matrices(bf_buf *out, bf_buf *head, const bf_report_source *s, bf_error *err);
bf_code bf_report_put_carry(bf_buf *out, bf_buf *head, const bf_report_source *s, bf_error *err);
bf_code bf_report_put_edges(bf_buf *out, bf_buf *head, const bf_report_source *s, bf_error *err);
bf_code bf_report_put_trust(bf_buf *head, const bf_report_source *s, bf_error *err);

/* All elements. Codes as above. */
bf_code bf_report_put_data(bf_buf *out, const bf_report_source *s, bf_error *err);

/* What an identity of the run, "check.NAME", says; "" if unknown. */
const char *bf_report_identity(const char *name);

/* Pieces that the parts share: begin and end an element; a JSON number ("null" if not finite). */
void bf_report_open(bf_buf *out, const char *id, size_t number); /* number (size_t)-1: none */
void bf_report_close(bf_buf *out);
void bf_report_number(bf_buf *out, double value);

#endif
