/* train_folder.c -- a training's folder, seen from its CONFIG.json. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backflow/tokenizer.h"
#include "backflow/train.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/safetensors.h"
#include "model/data.h"
#include "model/files.h"

static bf_code no_memory(bf_error *err)
{
    return bf_fail(err, BF_ENOMEM, "no memory for a training's folder");
}

static bf_code is_empty(bool *empty, const char *folder, bf_error *err)
{
    DIR *dir = opendir(folder);
    *empty = true;
    if (!dir)
        return errno == ENOENT
                   ? BF_OK
                   : bf_fail(err, BF_EIO, "%.300s: cannot read: %s", folder, strerror(errno));
    for (struct dirent *d; (d = readdir(dir)) != NULL;)
        *empty = *empty && d->d_name[0] == '.'; /* what a killed run left begins with a dot, too */
    closedir(dir);
    return BF_OK;
}

/* bf_train finds the same out, but not before it has written the model's description. */
static bf_code check_identity(const char *path, const char *wanted, bf_error *err)
{
    bf_safetensors *file = NULL;
    const bf_code rc = bf_safetensors_open(&file, path, err);
    if (rc)
        return rc;
    const char *found = bf_safetensors_meta(file, "identity");
    const bool same = found && !strcmp(found, wanted);
    size_t at = 0, from = 0;
    char field[80] = "tokens";
    if (found && !same) {
        while (found[at] && found[at] == wanted[at])
            from = found[at++] == ';' ? at : from;
        snprintf(field, sizeof field, "%.*s", (int)strcspn(wanted + from, "="), wanted + from);
    }
    bf_safetensors_free(file);
    return same ? BF_OK
                : bf_fail(
                      err, BF_EARG,
                      "%.250s: found the checkpoint of another training (%s differs), wanted this "
                      "config's",
                      path, field[0] == '.' ? field + 1 : field);
}

bf_code bf_training_may_resume(const bf_training *t, const char *folder, bf_error *err)
{
    bool empty = false;
    bf_code rc = is_empty(&empty, folder, err);
    if (rc || empty)
        return rc;
    char *path = bf_path_join(folder, "checkpoint.safetensors");
    if (!path)
        return no_memory(err);
    if (bf_path_exists(path))
        rc = check_identity(path, bf_training_identity(t), err);
    else
        rc = bf_fail(err, BF_EARG,
                     "%.300s: found files but no checkpoint.safetensors, wanted a training's "
                     "folder or an empty one",
                     folder);
    free(path);
    return rc;
}

/* The text of a token, quoted, as a field. */
static bf_code put_token(bf_buf *out, const char *field, const bf_tokenizer *tokenizer, int32_t id,
                         bf_error *err)
{
    char *piece = NULL;
    if (id < 0)
        return BF_OK;
    bf_code rc = bf_tokenizer_piece(&piece, tokenizer, id, err);
    if (rc)
        return rc;
    bf_buf_printf(out, "  \"%s\": ", field);
    rc = bf_json_quote(out, piece);
    bf_buf_text(out, ",\n");
    free(piece);
    return rc ? no_memory(err) : BF_OK;
}

bf_code bf_training_describe(const bf_training *training, const char *folder, bf_error *err)
{
    const bf_data *data = bf_training_data(training);
    const char *json = bf_data_tokenizer_json(data);
    bf_tokenizer *tokenizer = NULL;
    bf_buf out = {0};
    if (!json)
        return BF_OK;
    char *path = bf_path_join(folder, "tokenizer_config.json");
    bf_code rc = path ? bf_tokenizer_parse(&tokenizer, json, strlen(json), err) : no_memory(err);
    bf_buf_text(&out, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n");
    if (!rc)
        rc = put_token(&out, "bos_token", tokenizer, bf_data_separator(data), err);
    if (!rc)
        rc = put_token(&out, "eos_token", tokenizer, bf_data_separator(data), err);
    if (!rc)
        rc = put_token(&out, "mask_token", tokenizer, bf_data_mask_token(data), err);
    bf_buf_text(&out,
                "  \"add_prefix_space\": false,\n  \"clean_up_tokenization_spaces\": false\n}\n");
    if (!rc)
        rc = out.failed ? no_memory(err) : bf_file_write(path, out.data, out.len, err);
    bf_tokenizer_free(tokenizer);
    bf_buf_free(&out);
    free(path);
    return rc;
}
