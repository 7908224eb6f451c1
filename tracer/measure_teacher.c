/* teacher_forcing: does a later loss send anything into the prediction made at an earlier position?
 * If it did, gradient would have passed through the token that was chosen there. */
#include "tracer/measure.h"

#include <math.h>

enum { THROUGH, OWN, PAIRS, EARLIER, RESULTS };
static const bf_measure_result results[RESULTS] = {
    [THROUGH] = {"through_prediction", "nats per unit",
                 "the largest flow from a loss into the final vector, and so the prediction, of "
                 "another position; "
                 "0 is structural: nothing is written there"},
    [OWN] = {"own_prediction", "nats per unit",
             "the smallest flow from a loss into the final vector of its own "
             "position"},
    [PAIRS] = {"pairs", "", "of a loss and another position"},
    [EARLIER] = {"embedding", "part",
                 "of the pairs (loss i, token j <= i as input), those with flow into the "
                 "token's embedding: the token was read, though not differentiated through"},
};

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    double through = 0.0, own = INFINITY, pairs = 0.0, read = 0.0, all = 0.0;
    bf_code rc = BF_OK;
    for (size_t t = 0; t < s->n_texts && !rc; t++) {
        bf_record *record = NULL;
        const size_t N = s->length[t] - 1;
        rc = bf_subject_trace(&record, s, t, BF_SITE_RESID_FINAL | BF_SITE_RESID_PRE,
                              BF_SCORE_GRAD_NORM, false, err);
        const bf_tensor *last = rc ? NULL : bf_record_find(record, "flow.resid_final.grad_norm"),
                        *first = rc ? NULL : bf_record_find(record, "flow.resid_pre.grad_norm");
        for (size_t i = 0; i < N && !rc; i++)
            for (size_t j = 0; j < N; j++) {
                const double g = bf_tensor_value(last, i * N + j);
                if (j == i)
                    own = fmin(own, g);
                else
                    through = fmax(through, g);
                pairs += j != i;
                all += j <= i;
                read += j <= i && bf_tensor_value(first, i * N + j) > 0.0;
            }
        bf_record_free(record);
    }
    if (!rc) {
        out->result[THROUGH] = bf_plain(through);
        out->result[OWN] = bf_plain(own);
        out->result[PAIRS] = bf_plain(pairs);
        out->result[EARLIER] = bf_plain(read / all);
    }
    return rc;
}

const bf_measure bf_measure_teacher = {
    {"teacher_forcing",
     "whether later losses send gradient into the prediction made at an earlier position", NULL, 0,
     results, RESULTS, NULL, 0, false},
    run};
