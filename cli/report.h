/* report.h -- the parts of `backflow report` (cmd_report.c). */
#ifndef BF_CLI_REPORT_H
#define BF_CLI_REPORT_H

#include "cli/cli.h"

/* What trust measured, as the page wants it. */
typedef struct {
    bf_trust *trust;
    bf_report_move *moves;  /* point into trust */
    double *agreement;      /* their correlations and slopes */
    bf_error why;           /* nothing was measured, if its code is not BF_OK */
} cli_report_trust;

/* Hold the record against moved vectors: fewer of them than `backflow trust` takes by default.
 * A record that it refuses is no failure, but a reason.
 * out     cli_report_trust_free, also after a failure
 * extras  borrowed: gets moves and sizes, or the reason, all of which live as long as out
 * BF_EINTERRUPTED, BF_ENOMEM. */
bf_code cli_report_trust_measure(cli_report_trust *out, bf_report_extras *extras,
                                 const bf_record *record, cli_run *run, bf_error *err);
void cli_report_trust_free(cli_report_trust *trust);

/* What to record for the page: fills run->sites and run->scores before the model is open; then,
 * with the plan at hand, adds edges if they are few, or leaves sites out if the record were of
 * gigabytes. Codes of bf_trace_plan. */
void cli_report_choose(cli_run *run);
bf_code cli_report_adjust(cli_run *run, bool sites_chosen, bool scores_chosen, bf_error *err);

#endif
