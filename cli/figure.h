/* figure.h -- what all commands that draw have in common: looks, and where a figure comes from. */
#ifndef BF_CLI_FIGURE_H
#define BF_CLI_FIGURE_H

#include "cli/cli.h"

/* Options of a figure. Zero-initialise. */
typedef struct {
    const char *path;
    double width_mm;
    size_t columns, dpi;
    const char *font, *palette, *title;
    bool caption;
    bf_buf provenance; /* made by cli_figure_look */
} cli_figure;

enum { CLI_FIGURE_OPTIONS = 8 };

/* Append them to a command's options. */
size_t cli_figure_options(cli_option *to, cli_figure *figure);
/* Is there a path, and only one width? CLI_GO, or 2 after a message. */
int cli_figure_misused(const cli_command *self, const cli_figure *figure);

/* Does the path end in .json: a Vega-Lite specification, or a graph's JSON, in place of a picture? */
bool cli_wants_json(const char *path);

/* What a figure is made of. */
typedef struct {
    const char *kind;         /* "record", "model" or "file" */
    const char *path;
    const char *sha256;       /* NULL: of the file at path */
    const bf_record *record;  /* of a record: its model is named, too; or NULL */
} cli_input;

/* Append a figure's provenance: a JSON object in ASCII (docs/figures.md). BF_EIO, BF_ENOMEM. */
bf_code cli_provenance(bf_buf *out, const cli_command *self, int argc, char **argv,
                       const cli_input *inputs, size_t n, bf_error *err);

/* The look, with provenance. It borrows from figure; cli_figure_end frees. Codes as above. */
bf_code cli_figure_look(bf_look *look, cli_figure *figure, const cli_command *self, int argc,
                        char **argv, const cli_input *inputs, size_t n, bf_error *err);
void cli_figure_end(cli_figure *figure);

/* Does the file begin as a PNG, PDF or SVG does? */
bool cli_is_figure(const char *path);
/* What a figure says about itself, on standard output. Codes of bf_figure_provenance. */
bf_code cli_info_figure(const char *path, bool json, bf_error *err);

cli_parse cli_parse_length; /* double, millimetres: 89, 89mm, 8.9cm, 3.5in, 252pt */
cli_parse cli_parse_scale;  /* bf_scale: linear, log, rank */

#endif
