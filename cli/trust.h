/* trust.h -- what trust prints and draws (internal to cli). */
#ifndef BF_CLI_TRUST_H
#define BF_CLI_TRUST_H

#include "cli/cli.h"

/* "1/64", "0.3"; 0 is the derivative: "->0". Written to buf. */
const char *cli_size_of_move(char buf[24], double t, const char *zero);
/* The tables and the verdict on standard output. */
void cli_print_trust(const bf_trust *trust, const bf_record *record);
/* All of it as JSON; with points every pair, too. */
bf_code cli_print_trust_json(const bf_trust *trust, const bf_record *record, bool points,
                             bf_error *err);
/* The figure. Codes of bf_render_scatter; BF_ENOMEM. */
bf_code cli_draw_trust(const bf_trust *trust, const bf_record *record, const bf_look *look,
                       const char *path, bf_error *err);

#endif
