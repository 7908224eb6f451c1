/* train_run.h -- small trainings of a Markov chain's 6,000 tokens, in folders of a test's own.
 *
 * Set-up: scratch_open; tear-down: remove_all. What should run and does not fails the test. */
#ifndef BF_TESTS_TRAIN_RUN_H
#define BF_TESTS_TRAIN_RUN_H

#include "tests/scratch.h"

#include <math.h>

#include "backflow/backflow.h"
#include "base/buf.h"
#include "model/data.h"

enum { V = 17, T = 40, B = 3, STEPS = 12 };

static const char model_text[] =
    "{\"model_type\": \"gpt2\", \"n_layer\": 2, \"n_embd\": 12, \"n_head\": 3, \"n_inner\": 20, "
    "\"vocab_size\": 17, \"n_positions\": 256}";

/* ---- data and folders ---- */

static inline void write_tokens(scratch *s, char path[600])
{
    unsigned char bytes[12000];
    uint64_t state = 7;
    unsigned token = 0;
    for (size_t k = 0; k < sizeof bytes; k += 2) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        token = state >> 62 ? (3 * token + 1) % V : (unsigned)(state >> 33) % V;
        bytes[k] = (unsigned char)token;
        bytes[k + 1] = 0;
    }
    snprintf(path, 600, "%s/tokens.bin", s->folder);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, sizeof bytes, f), sizeof bytes);
    assert_int_equal(fclose(f), 0);
}

static inline bf_data *open_data(scratch *s, size_t b, size_t t, size_t heads)
{
    char path[600];
    const char *files[] = {path};
    bf_data *data = NULL;
    bf_error err = {0};
    write_tokens(s, path);
    const bf_data_config c = {.kind = BF_DATA_TOKENS, .files = files, .n_files = 1, .token_bytes = 2,
                              .vocabulary = V, .held_out_share = 0.1};
    if (bf_data_open(&data, &c, b, t, heads, 1, &err))
        fail_msg("%s", err.msg);
    return data;
}

static inline bf_train_config plain(void)
{
    return (bf_train_config){.model = model_text, .identity = "one", .seed = 3, .steps = STEPS, .warmup = 3,
                             .rate = 1e-2, .decay = 0.1, .clip = 1, .held_out = 2, .measure = 5,
                             .checkpoint = 4, .threads = 2, .accumulate = 2};
}

/* A folder of the scratch folder. */
static inline const char *folder(scratch *s, const char *name)
{
    static char path[4][600];
    static size_t next;
    char *p = path[next++ % 4];
    snprintf(p, 600, "%s/%s", s->folder, name);
    return p;
}

static inline int remove_all(void **state)
{
    scratch *s = *state;
    char command[700];
    snprintf(command, sizeof command, "rm -rf '%s'", s->folder);
    const int rc = system(command);
    free(s);
    return rc;
}

static inline void run(const char *path, const bf_train_config *c, bf_data *data, bool resume)
{
    bf_error err = {0};
    if (bf_train(path, c, data, resume, NULL, NULL, NULL, NULL, &err))
        fail_msg("%s", err.msg);
}

static inline bf_code fails(const char *path, const bf_train_config *c, bf_data *data, bool resume, bf_error *err)
{
    return bf_train(path, c, data, resume, NULL, NULL, NULL, NULL, err);
}

static inline bf_buf read_part(const char *path, const char *name)
{
    char full[800];
    bf_buf buf = {0};
    bf_error err = {0};
    snprintf(full, sizeof full, "%s/%s", path, name);
    if (bf_file_read(&buf, full, 1 << 26, &err))
        fail_msg("%s", err.msg);
    return buf;
}

static inline void assert_same_file(const char *a, const char *b, const char *name)
{
    bf_buf x = read_part(a, name), y = read_part(b, name);
    if (x.len != y.len || memcmp(x.data, y.data, x.len) != 0)
        fail_msg("%s differs between %s and %s", name, a, b);
    bf_buf_free(&x);
    bf_buf_free(&y);
}

static inline void assert_same(const char *a, const char *b)
{
    assert_same_file(a, b, "checkpoint.safetensors");
    assert_same_file(a, b, "model.safetensors");
}

/* The number after "key: " on this line, else NaN. */
static inline double field(const char *line, const char *key)
{
    const char *at = strstr(line, key), *end = strchr(line, '\n');
    at = at && at < end ? at : NULL;
    return at ? strtod(at + strlen(key) + 3, NULL) : NAN;
}

#endif
