/* data_tokens.c -- files that hold token ids: .bin, or .safetensors with one tensor of whole
 * numbers. */
#include <stdlib.h>
#include <string.h>

#include "backflow/tokenizer.h"
#include "base/safetensors.h"
#include "model/data_parts.h"

/* Ids as they stand in a file: `bytes` each, little-endian, signed if they are 4 or 8 of
 * safetensors. */
typedef struct {
    const unsigned char *data;
    size_t n, bytes;
} raw_ids;

static uint64_t id_at(const raw_ids *raw, size_t k)
{
    uint64_t v = 0;
    for (size_t b = raw->bytes; b-- > 0;)
        v = v << 8 | raw->data[k * raw->bytes + b];
    return v;
}

static bf_code put_ids(bf_data *d, const raw_ids *raw, const char *path, bf_error *err)
{
    const bf_code rc = bf_ids_reserve(&d->train, raw->n, err);
    for (size_t k = 0; k < raw->n && !rc; k++) {
        const uint64_t id = id_at(raw, k); /* negative ones are huge */
        if (id >= d->vocabulary)
            return bf_fail(err, BF_EFORMAT,
                           "%.300s: token %zu is %llu, the vocabulary has ids 0 to %zu", path, k,
                           (unsigned long long)id, d->vocabulary - 1);
        d->train.id[d->train.n++] = (int32_t)id;
    }
    return rc;
}

static bf_code read_bin(bf_data *d, const char *path, size_t bytes, bf_error *err)
{
    bf_buf file = {0};
    bf_code rc = bf_file_read(&file, path, (size_t)1 << 33, err);
    if (rc)
        return rc;
    if (file.len % bytes)
        rc = bf_fail(err, BF_EFORMAT, "%.300s: %zu bytes, wanted a multiple of %zu", path, file.len,
                     bytes);
    const raw_ids raw = {(const unsigned char *)file.data, file.len / bytes, bytes};
    if (!rc)
        rc = put_ids(d, &raw, path, err);
    bf_buf_free(&file);
    return rc;
}

static size_t bytes_of_type(const bf_st_tensor *t)
{
    static const struct {
        const char *name;
        size_t bytes;
    } types[] = {{"U8", 1}, {"U16", 2}, {"I32", 4}, {"U32", 4}, {"I64", 8}, {"U64", 8}};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        if (!strcmp(t->dtype_name, types[k].name))
            return types[k].bytes;
    return 0;
}

static bf_code read_safetensors(bf_data *d, const char *path, bf_error *err)
{
    bf_safetensors *file = NULL;
    bf_code rc = bf_safetensors_open(&file, path, err);
    if (rc)
        return rc;
    const size_t n = bf_safetensors_count(file);
    const bf_st_tensor *t = n == 1 ? bf_safetensors_at(file, 0)
                                   : bf_safetensors_find(file, "tokens");
    const size_t bytes = t ? bytes_of_type(t) : 0;
    if (!t)
        rc = bf_fail(err, BF_EFORMAT, "%.300s: %zu tensors, wanted one, or one named \"tokens\"",
                     path, n);
    else if (!bytes)
        rc = bf_fail(err, BF_EFORMAT, "%.300s: tensor \"%.80s\" is %.20s, wanted whole numbers",
                     path, t->name, t->dtype_name);
    if (!rc) {
        const raw_ids raw = {t->data, t->bytes / bytes, bytes};
        rc = put_ids(d, &raw, path, err);
    }
    bf_safetensors_free(file);
    return rc;
}

/* The tokenizer is not used, only kept: its size is the vocabulary. */
static bf_code read_vocabulary(bf_data *d, const bf_data_config *c, bf_error *err)
{
    bf_tokenizer *t = NULL;
    if (!c->tokenizer) {
        d->vocabulary = c->vocabulary;
        return BF_OK;
    }
    bf_code rc = bf_file_read(&d->tokenizer, c->tokenizer, (size_t)1 << 28, err);
    if (rc)
        return rc;
    rc = bf_tokenizer_parse(&t, d->tokenizer.data, d->tokenizer.len, err);
    if (rc)
        return bf_error_prefix(err, rc, c->tokenizer);
    d->vocabulary = bf_tokenizer_size(t);
    bf_tokenizer_free(t);
    if (c->vocabulary && c->vocabulary != d->vocabulary)
        rc = bf_fail(err, BF_EARG, "field \"vocabulary\" is %zu, the tokenizer has %zu ids",
                     c->vocabulary, d->vocabulary);
    return rc;
}

/* The last part of the tokens is held out, as one document. */
static bf_code hold_out(bf_data *d, double share, bf_error *err)
{
    const size_t held = (size_t)((double)d->train.n * share);
    const bf_code rc = bf_ids_reserve(&d->held, held, err);
    if (rc || !held)
        return rc;
    d->train.n -= held;
    memcpy(d->held.id, d->train.id + d->train.n, held * sizeof *d->held.id);
    d->held.n = held;
    return bf_data_cut(d, 0, err);
}

static bf_code read_file(bf_data *d, const char *path, size_t bytes, bf_error *err)
{
    static const char ending[] = ".safetensors";
    const size_t len = strlen(path), n = sizeof ending - 1;
    return len > n && !strcmp(path + len - n, ending) ? read_safetensors(d, path, err)
                                                      : read_bin(d, path, bytes, err);
}

bf_code bf_data_read_tokens(bf_data *d, const bf_data_config *c, bf_error *err)
{
    bf_code rc = read_vocabulary(d, c, err);
    if (!rc && (!d->vocabulary || d->vocabulary > INT32_MAX))
        rc = bf_fail(err, BF_EARG, "a vocabulary of %zu, wanted 1 to %d", d->vocabulary, INT32_MAX);
    if (!rc && c->mask_rate > 0.0 && c->mask_id >= d->vocabulary)
        rc = bf_fail(err, BF_EARG, "mask token %zu, the vocabulary has ids 0 to %zu", c->mask_id,
                     d->vocabulary - 1);
    if (!rc && c->mask_rate > 0.0)
        d->mask = (int32_t)c->mask_id;
    for (size_t k = 0; k < c->n_files && !rc; k++)
        rc = read_file(d, c->files[k], c->token_bytes ? c->token_bytes : 2, err);
    return rc ? rc : hold_out(d, c->held_out_share, err);
}
