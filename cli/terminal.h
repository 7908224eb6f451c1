/* terminal.h -- a record shown in the terminal: colours where they are welcome. */
#ifndef BF_CLI_TERMINAL_H
#define BF_CLI_TERMINAL_H

#include "cli/cli.h"

typedef enum { CLI_COLOR_AUTO, CLI_COLOR_ALWAYS, CLI_COLOR_NEVER } cli_color;

cli_parse cli_parse_color; /* cli_color: auto, always, never */

/* Append --show and --color to a command's options; returns 2. */
size_t cli_show_options(cli_option *to, bool *show, cli_color *color);

/* Print the record's small heatmap and its sentence on standard output.
 * Colours with CLI_COLOR_AUTO: if standard output is a terminal (TERM not "dumb") or CLICOLOR_FORCE
 * is set and not "0", and NO_COLOR is not set or empty; 24-bit ones if COLORTERM says so, else 256.
 * The width is the terminal's, else COLUMNS, else 80. Codes of bf_render_terminal. */
bf_code cli_show(const bf_record *record, cli_color color, bf_error *err);

#endif
