/* verify.h -- what the files of backflow verify share. */
#ifndef BF_CLI_VERIFY_H
#define BF_CLI_VERIFY_H

#include "cli/cli.h"

/* One claim, and what became of it. */
typedef struct {
    bf_claim *claim;
    bf_decided *decided; /* NULL: not yet */
} verify_one;

typedef struct {
    const char **claims; /* [n_claims] ids and files as given */
    size_t n_claims;
    const char *model; /* the user's, or NULL */
    const char *text, *file, *results;
    const char *junit, *write;
    const char *work, *only; /* of --full */
    size_t seed, memory, threads, seeds;
    bool full, json, measures, quiet;
    verify_one *one; /* [n] */
    size_t n;
} verify_run;

/* ---- verify_words.c: tables */
void verify_print_table(const verify_run *run);
bf_code verify_print_json(const verify_run *run, bf_error *err);
bf_code verify_write_junit(const verify_run *run, bf_error *err);
bf_code verify_print_measures(bool json, bf_error *err);

/* ---- verify_write.c: the write-up, path run->write, and its figures in the folder claims/ beside
 * it. BF_EIO, BF_ENOMEM, ... */
bf_code verify_write_page(const verify_run *run, bf_error *err);

#endif
