/* claim_unit.h -- a unit of `backflow verify --full`: a training, and what is measured of its model
 * (internal to tracer). */
#ifndef BF_TRACER_CLAIM_UNIT_H
#define BF_TRACER_CLAIM_UNIT_H

#include "backflow/train.h"
#include "tracer/claim.h"

typedef struct {
    const bf_full_query *query;
    const bf_json *row; /* of units.json */
    bf_place place;
    const char *group;
    size_t seed;
    char folder[900], result[900]; /* work; the file that says it is done */
    bf_training *training;
    bf_buf values;  /* "name": number or list, with commas */
    bf_buf *curves; /* [measures] numbers at steps so far */
    bf_error *err;
} bf_unit;

/* Tell the caller what the unit is at; done from 0 to 1. */
void bf_unit_tell(const bf_unit *unit, const char *words, double done);
/* How many values the row wants. */
size_t bf_unit_wants(const bf_unit *unit);
/* Append all of them, of the model in the unit's folder as it is now, each on a line of its own: a
 * number, or the first row of a series as a list. Held-out sequences of the training's data are the
 * texts.  BF_EFORMAT (file, field, found, wanted), what measures return. */
bf_code bf_unit_measure(bf_buf *lines, const bf_unit *unit);

/* Append a number as JSON has it; null if it is not finite. */
void bf_unit_number(bf_buf *to, double value);

#endif
