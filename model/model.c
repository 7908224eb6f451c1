/* Opening: folder -> config.json -> family -> weight files -> views into their maps. */
#define _XOPEN_SOURCE 700 /* realpath */

#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "model/families.h"

enum { CONFIG_LIMIT = 16 << 20 };

static bf_code no_memory(bf_error *err)
{
    return bf_fail(err, BF_ENOMEM, "cannot hold the model's tables");
}

/* A file where a folder was wanted: say what to give instead. */
static bf_code refuse_file(const char *path, bf_error *err)
{
    static const char *const part[] = {"config.json", ".safetensors", ".index.json",
                                       "tokenizer.json"};
    const size_t n = strlen(path);
    for (size_t k = 0; k < sizeof part / sizeof *part; k++) {
        const size_t m = strlen(part[k]);
        if (n >= m && strcmp(path + n - m, part[k]) == 0)
            return bf_fail(err, BF_EARG, "%s is a file, wanted the folder that it stands in", path);
    }
    return bf_fail(err, BF_EUNSUPPORTED,
                   "%s is a file, wanted a folder with config.json and model.safetensors", path);
}

/* The folder that path means; *out: free(). */
static bf_code find_folder(char **out, const char *path, bf_error *err)
{
    if (!path || !*path)
        return bf_fail(err, BF_EARG, "the model's path is empty, wanted a folder or bundled name");
    if (!bf_path_is_folder(path)) {
        if (bf_path_exists(path))
            return refuse_file(path, err);
        if (!strchr(path, '/'))
            return bf_bundled_find(out, path, err);
        return bf_fail(err, BF_EIO, "%s: no such folder, wanted one with config.json and "
                       "model.safetensors", path);
    }
    *out = bf_path_join(path, "");
    if (!*out)
        return no_memory(err);
    for (size_t n = strlen(*out); n > 1 && (*out)[n - 1] == '/'; n--)
        (*out)[n - 1] = '\0';
    return BF_OK;
}

/* Copy to a field of `size`, cut before a character that would not fit whole. */
static void copy_name(char *dst, size_t size, const char *src)
{
    size_t n = strlen(src);
    if (n >= size)
        for (n = size - 1; n && ((unsigned char)src[n] & 0xc0) == 0x80; n--)
            ;
    memcpy(dst, src, n);
    dst[n] = '\0';
}

/* The last part of the folder's path; "." and ".." are looked up. */
static void name_model(bf_dims *d, const char *folder)
{
    const char *slash = strrchr(folder, '/');
    const char *last = slash ? slash + 1 : folder;
    char *real = NULL;
    if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
        real = realpath(folder, NULL);
        slash = real ? strrchr(real, '/') : NULL;
        last = slash && slash[1] ? slash + 1 : folder;
    }
    copy_name(d->name, sizeof d->name, last);
    free(real);
}

static void name_dtypes(bf_dims *d, unsigned dtypes)
{
    static const bf_dtype order[] = {BF_BF16, BF_F16, BF_F32, BF_F64};
    size_t at = 0;
    for (size_t k = 0; k < sizeof order / sizeof *order; k++)
        if (dtypes & 1u << order[k])
            at += (size_t)snprintf(d->dtypes + at, sizeof d->dtypes - at, "%s%s", at ? "+" : "",
                                   bf_dtype_name(order[k]));
}

static void fill_dims(bf_model *m, const bf_reader *r)
{
    const bf_config *c = &m->config;
    bf_dims *d = &m->dims;
    name_model(d, m->folder);
    copy_name(d->family, sizeof d->family, c->family);
    d->L = c->L;
    d->D = c->D;
    d->H = c->H;
    d->G = c->G;
    d->K = c->K;
    d->F = c->F;
    d->V = c->V;
    d->P = c->P;
    d->tied = c->tied;
    d->parameters = r->parameters;
    d->weight_bytes = r->bytes;
    name_dtypes(d, r->dtypes);
}

/* Everything after the folder is known. The store's files become the model's. */
static bf_code read_model(bf_model *m, const char *config_path, bf_error *err)
{
    bf_store store = {0};
    bf_json *json = NULL;
    if (!bf_path_exists(config_path))
        return bf_fail(err, BF_EIO, "%s: no config.json, wanted a Hugging Face model folder",
                       m->folder);
    bf_code rc = bf_json_read(&json, config_path, CONFIG_LIMIT, err);
    bf_reader r = {.json = json, .path = config_path, .store = &store, .config = &m->config,
                   .weights = &m->weights, .err = err};
    if (!rc)
        rc = bf_family_find(&r);
    if (!rc)
        rc = bf_store_open(&store, m->folder, err);
    if (!rc)
        rc = bf_family_read(&r);
    if (!rc) {
        fill_dims(m, &r);
        m->file = store.file;
        m->n_files = store.n_files;
        for (size_t k = 0; k < store.n_files; k++)
            free(store.path[k]);
        store.file = NULL;
        store.n_files = 0;
    }
    bf_store_close(&store);
    bf_json_free(json);
    return rc;
}

bf_code bf_model_open(bf_model **out, const char *path, bf_error *err)
{
    bf_model *m = calloc(1, sizeof *m);
    if (!m)
        return no_memory(err);
    bf_code rc = find_folder(&m->folder, path, err);
    char *config_path = rc ? NULL : bf_path_join(m->folder, "config.json");
    if (!rc)
        rc = config_path ? read_model(m, config_path, err) : no_memory(err);
    free(config_path);
    if (rc)
        bf_model_free(m);
    else
        *out = m;
    return rc;
}

void bf_model_free(bf_model *m)
{
    if (!m)
        return;
    bf_tokenizer_free(m->tokenizer);
    for (size_t k = 0; k < m->n_files; k++)
        bf_safetensors_free(m->file[k]);
    free(m->file);
    free(m->weights.layer);
    free(m->config.inv_freq);
    free(m->config.attn_scale);
    free(m->config.mask);
    free(m->folder);
    free(m);
}

const bf_dims *bf_model_dims(const bf_model *model)
{
    return &model->dims;
}

bf_code bf_model_tokenizer(const bf_tokenizer **out, bf_model *model, bf_error *err)
{
    bf_code rc = BF_OK;
    if (!model->tokenizer) {
        char *path = bf_path_join(model->folder, "tokenizer.json");
        if (!path)
            return no_memory(err);
        if (bf_path_exists(path))
            rc = bf_tokenizer_open(&model->tokenizer, path, err);
        free(path);
    }
    if (!rc)
        *out = model->tokenizer;
    return rc;
}

bf_code bf_model_sha256(const char **out, bf_model *model, bf_error *err)
{
    bf_code rc = BF_OK;
    if (!model->sha256[0])
        rc = bf_files_sha256(model->sha256, model->file, model->n_files, err);
    if (!rc)
        *out = model->sha256;
    return rc;
}
