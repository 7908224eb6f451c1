/* cli.h -- what the commands share: options, words, signals, a run from text to record, folders.
 *
 * A command is a row of the table in main.c and one file cmd_NAME.c. It reads its options with
 * cli_read, does its work through the public headers and returns an exit code. Data goes to
 * standard output, words to standard error. */
#ifndef BF_CLI_CLI_H
#define BF_CLI_CLI_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "backflow/backflow.h"
#include "base/buf.h"

/* Exit codes. CLI_GO is none: go on. */
enum { CLI_GO = -1, CLI_DONE = 0, CLI_REFUTED = 1, CLI_FAILED = 2, CLI_INTERRUPTED = 130 };

/* ---- commands and options */

typedef struct cli_command {
    const char *name;
    /* argv[0] is the first argument after the name */
    int (*run)(const struct cli_command *self, int argc, char **argv);
    const char *args;    /* "RECORD -o FILE" */
    const char *summary; /* "draw one site's flow" */
} cli_command;

int cmd_trace(const cli_command *self, int argc, char **argv);
int cmd_heatmap(const cli_command *self, int argc, char **argv);
int cmd_diff(const cli_command *self, int argc, char **argv);
int cmd_graph(const cli_command *self, int argc, char **argv);
int cmd_report(const cli_command *self, int argc, char **argv);
int cmd_find(const cli_command *self, int argc, char **argv);
int cmd_info(const cli_command *self, int argc, char **argv);
int cmd_tokenize(const cli_command *self, int argc, char **argv);
int cmd_trust(const cli_command *self, int argc, char **argv);
int cmd_train(const cli_command *self, int argc, char **argv);
int cmd_verify(const cli_command *self, int argc, char **argv);
int cmd_profile(const cli_command *self, int argc, char **argv);
int cmd_figure(const cli_command *self, int argc, char **argv);
int cmd_redo(const cli_command *self, int argc, char **argv);

/* Reads a value into target; value is borrowed and lives as long as argv. */
typedef bf_code cli_parse(void *target, const char *value, bf_error *err);

typedef struct {
    const char *name;  /* "threads"; one letter means a single dash: "o" */
    cli_parse *parse;  /* NULL: a flag, target is a bool */
    void *target;
    const char *value; /* what help calls it: "N" */
    const char *help;
} cli_option;

/* The parser of an option that may be given again: adds each value. Target: */
typedef struct {
    cli_parse *add;
    void *target;
} cli_again;
cli_parse cli_parse_again;

enum { CLI_MAX_OPTIONS = 32 };

typedef struct {
    const cli_option *options; /* [n_options], at most CLI_MAX_OPTIONS */
    size_t n_options;
    const char *positional;    /* the one positional argument: "MODEL" */
    const char **value;        /* where it goes */
    const char *notes;         /* end of the help: explanations, examples */
} cli_syntax;

/* Read argv: options and the positional in any order; --name value and --name=value; "--" ends
 * options. CLI_GO, or the exit code to return: 0 after --help, 2 after a message about misuse. */
int cli_read(const cli_command *self, const cli_syntax *syntax, int argc, char **argv);
/* The same with a second positional argument after the first. */
int cli_read_two(const cli_command *self, const cli_syntax *syntax, const char *positional,
                 const char **value, int argc, char **argv);
/* All positional arguments after the first. */
typedef struct {
    const char **item; /* [argc] the caller's */
    size_t n;
} cli_list;
/* The same with any number of positional arguments after the first. */
int cli_read_list(const cli_command *self, const cli_syntax *syntax, cli_list *list, int argc,
                  char **argv);
/* One line of misuse, "backflow: trace: ...", and the exit code 2. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
int cli_misuse(const cli_command *self, const char *format, ...);

/* Parsers; the numbers are read to the last character or refused.  BF_EARG. */
cli_parse cli_parse_text;      /* const char **, not empty */
cli_parse cli_parse_any_text;  /* const char **, may be empty */
cli_parse cli_parse_index;     /* long, 0 to 2^31 - 1 */
cli_parse cli_parse_size;      /* size_t, 0 to 2^31 - 1 */
cli_parse cli_parse_count;     /* size_t, 1 to 2^31 - 1 */
cli_parse cli_parse_positive;  /* double, finite, > 0 */
cli_parse cli_parse_bytes;     /* size_t, > 0: 4096, 512M, 1.5G, 4GiB; units are powers of 1024 */
cli_parse cli_parse_sites;     /* unsigned, bits of names with commas between */
cli_parse cli_parse_scores;    /* unsigned, the same */
cli_parse cli_parse_precision; /* bf_precision */
cli_parse cli_parse_detach;    /* bf_detach */
cli_parse cli_parse_target;    /* cli_target: loss, logit[:A], logprob[:A], logit-diff:A,B, entropy,
                                  kl[-text]:RECORD */

/* What --target says; the reference's path, whose record is not open yet, or NULL. */
typedef struct {
    bf_target what;
    const char *reference;
} cli_target;

/* "3,10:20" (10 to 19), "5:" (to the end), ":4" below limit -> ascending, each once.
 * what  "loss" or "layer", for messages.  out: free().  BF_EARG, BF_ENOMEM. */
bf_code cli_parse_ranges(size_t **out, size_t *n, const char *text, size_t limit, const char *what,
                         bf_error *err);
/* "1,2,3" -> ids. out: free().  BF_EARG, BF_ENOMEM. */
bf_code cli_parse_ids(int64_t **out, size_t *n, const char *text, bf_error *err);

/* ---- words */

/* Text as one printable line: controls, direction marks and broken UTF-8 come as \n, \x1b,
 * \u{202e}. */
void cli_print_visible(FILE *to, const char *text);
/* Columns that this takes, a character counted as one. */
size_t cli_visible_width(const char *text);
/* "backflow: message" on standard error and the exit code for the error: 130 or 2. */
int cli_fail(const bf_error *err);
/* "1.5 GiB". Written to buf. */
const char *cli_size_words(char buf[32], size_t bytes);
/* "2 min 5 s", "0.35 s". Written to buf. */
const char *cli_time_words(char buf[32], double seconds);
/* The command line, quoted for a shell; arguments longer than 4000 bytes are cut, with "..." . */
void cli_command_line(bf_buf *out, const cli_command *self, int argc, char **argv);
/* Print a string as JSON, a number as JSON (null if not finite). */
bf_code cli_print_json_string(const char *text, bf_error *err);
void cli_print_json_number(double value);
double cli_now(void); /* seconds of a clock that only goes forward */

/* ---- progress */

/* A line on standard error that says how far a run is. */
typedef struct {
    bool tty;
    double start, last; /* of the run; of the last thing said */
    size_t width;       /* columns of the live line */
} cli_meter;

void cli_meter_start(cli_meter *meter);
bf_progress cli_meter_say; /* context: the meter */
void cli_meter_clear(cli_meter *meter);

/* ---- signals */

/* SIGINT, SIGTERM and SIGHUP remove temporaries and end the program with 130; within
 * cli_patient(true) the first one only raises the flag. SIGPIPE is ignored: a failed write is an
 * error like others. */
void cli_signals_start(void);
void cli_patient(bool on);
const volatile sig_atomic_t *cli_stop(void);
/* Hold signals back over a few system calls that belong together. */
void cli_signals_hold(bool on);

/* ---- folders that appear whole or not at all */

/* A folder being written. */
typedef struct {
    char *path;  /* where it will stand */
    char *tmp;   /* where it is written */
    bool exists; /* a folder to replace stands at path */
} cli_folder;

/* Make a temporary folder beside path. What stands at path may be nothing, an empty folder, or a
 * folder with run.safetensors and index.html that holds nothing but files of these names.
 * files  NULL-terminated, borrowed to the end of the program
 * BF_EIO, BF_EARG, BF_ENOMEM. */
bf_code cli_folder_begin(cli_folder *folder, const char *path, const char *const *files,
                         bf_error *err);
/* Rename it to its place, replacing what stood there. BF_EIO. */
bf_code cli_folder_commit(cli_folder *folder, bf_error *err);
/* Remove it if it was not committed; frees. Zeroed ones are fine. */
void cli_folder_end(cli_folder *folder);

/* ---- a run */

/* What trace and report have in common. Zero-initialise. */
typedef struct {
    const char *text, *file, *tokens; /* one of them */
    const char *losses, *layers, *masked;
    bf_detach detach;
    unsigned sites, scores;
    bf_precision precision;
    cli_target target;
    size_t memory, threads, blocks, probes;
    double tolerance;
    bool sum, no_fold, check, no_attn, logprobs, dry_run, quiet, json;
    bool base_layer; /* record layer 0 whatever layers says */
    /* from here on: made by cli_run_open */
    bf_model *model;
    bf_record *reference; /* of the target, or NULL */
    bf_query query;
    bf_plan plan;
    int64_t *ids;
    size_t *loss, *layer, *hidden;
} cli_run;

/* The bytes of --text or of --file. out: bf_buf_free, also after a failure.  BF_EIO, BF_EARG empty,
 * BF_EFORMAT too large, BF_ENOMEM. */
bf_code cli_read_text(bf_buf *out, const char *text, const char *file, bf_error *err);
/* Append the options for input and query; returns how many. */
size_t cli_run_options(cli_option *to, cli_run *run);
/* Check that one input was given: CLI_GO, or 2 after a message. */
int cli_run_misused(const cli_command *self, const cli_run *run);
/* Open the model, make the tokens, the query and the plan. End it whatever the outcome.
 * BF_EARG, BF_EIO, BF_EFORMAT, ...: the codes of what it calls. */
bf_code cli_run_open(cli_run *run, const char *model, bf_error *err);
void cli_run_end(cli_run *run);
/* The plan, on standard output. */
void cli_print_plan(const cli_run *run);
/* Trace with plan, progress and stop flag.
 * out  new record, not yet committed (bf_record_free); untouched on failure.  Codes of bf_trace. */
bf_code cli_run_trace(bf_record **out, cli_run *run, const char *path, bf_check checks[8],
                      size_t *n_checks, bf_error *err);
/* Do all hold? If not, says so loudly on standard error. */
bool cli_checks_hold(const bf_check *checks, size_t n);
/* The table of checks on standard output, or as JSON: [{"name": ..}, ..]. */
void cli_print_checks(FILE *to, const bf_check *checks, size_t n);
bf_code cli_print_checks_json(const bf_check *checks, size_t n, bf_error *err);
/* Mean of the record's chosen losses. */
double cli_mean_loss(const bf_record *record);

#endif
