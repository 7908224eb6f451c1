/* data_parts.h -- what the files of the data source share:
 *
 *   files -> documents -> ids (data_text.c, data_tokens.c) -> windows, batches (data.c,
 * data_rows.c) */
#ifndef BF_MODEL_DATA_PARTS_H
#define BF_MODEL_DATA_PARTS_H

#include "base/buf.h"
#include "model/data.h"

typedef struct {
    int32_t *id;
    size_t n, cap;
} bf_id_list;

/* What a held-out sequence reads: ids [at, at + n), with targets before end. */
typedef struct {
    size_t at, n, end;
} bf_window;

struct bf_data {
    bf_data_config set;  /* its texts are gone */
    size_t B, T, heads;
    uint64_t seed;
    size_t vocabulary;
    int32_t separator, mask; /* -1: none */
    bf_buf tokenizer;    /* tokenizer.json, or empty */
    bf_id_list train, held;
    bf_window *window;   /* [n_windows] into held */
    size_t n_windows, cap_windows;
    int32_t *row;        /* [T + heads] ids of a sequence; -1: none */
    uint8_t *told;       /* [T + heads] answers of a task */
    int32_t *input, *target; /* of the batch, as are those below */
    uint8_t *answer;
    double *x, *y;
};

bf_code bf_ids_reserve(bf_id_list *list, size_t more, bf_error *err);

/* Fill train, held, windows, vocabulary, separator, mask, tokenizer. Codes of bf_data_open. */
bf_code bf_data_read_text(bf_data *data, const bf_data_config *config, bf_error *err);
bf_code bf_data_read_tokens(bf_data *data, const bf_data_config *config, bf_error *err);
/* Cut held[from..n), a document, into windows of next tokens. BF_ENOMEM. */
bf_code bf_data_cut(bf_data *data, size_t from, bf_error *err);

/* One sequence into row r of the batch. */
void bf_data_row_train(bf_data *data, uint64_t step, size_t r);
void bf_data_row_held(bf_data *data, uint64_t step, size_t r);
void bf_data_row_task(bf_data *data, bf_split split, uint64_t step, size_t r);

#endif
