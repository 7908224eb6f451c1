/* change_tensor.h -- overwrite a tensor of a made model's model.safetensors (F32). */
#ifndef BF_TESTS_CHANGE_TENSOR_H
#define BF_TESTS_CHANGE_TENSOR_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "tests/make_model.h"

typedef struct {
    char path[512];
    bf_buf bytes;
} weights_file;

static inline weights_file open_weights(const char *folder)
{
    weights_file file = {.bytes = {0}};
    join(file.path, folder, "model.safetensors");
    assert_int_equal(bf_file_read(&file.bytes, file.path, 1 << 26, NULL), BF_OK);
    return file;
}

static inline void close_weights(weights_file *file, const char *folder)
{
    write_file(folder, "model.safetensors", file->bytes.data, file->bytes.len);
    bf_buf_free(&file->bytes);
}

/* Where a tensor's values stand, and how many there are. */
static inline char *find_weights(size_t *n, const weights_file *file, const char *name)
{
    char key[160];
    uint64_t size;
    size_t at = 0, end = 0;
    memcpy(&size, file->bytes.data, 8);
    char *head = malloc(size + 1);
    assert_non_null(head);
    snprintf(head, size + 1, "%s", file->bytes.data + 8);
    snprintf(key, sizeof key, "\"%s\"", name);
    const char *entry = strstr(head, key);
    assert_non_null(entry);
    assert_int_equal(
        sscanf(strstr(entry, "data_offsets"), "data_offsets\": [%zu, %zu]", &at, &end), 2);
    free(head);
    *n = (end - at) / 4;
    return file->bytes.data + 8 + size + at;
}

/* Values of a tensor: times factor, taken from another one if `from` names it. */
static inline void change_tensor(const char *folder, const char *name, const char *from, float factor)
{
    weights_file file = open_weights(folder);
    size_t n, m;
    char *to = find_weights(&n, &file, name), *source = find_weights(&m, &file, from ? from : name);
    assert_int_equal(n, m);
    for (size_t k = 0; k < n; k++) {
        float v;
        memcpy(&v, source + 4 * k, 4);
        v *= factor;
        memcpy(to + 4 * k, &v, 4);
    }
    close_weights(&file, folder);
}

/* Row r of [rows,columns] gets `value` in column (r + shift) modulo rows, and 0 elsewhere. */
static inline void turn_tensor(const char *folder, const char *name, size_t columns, size_t shift,
                        float value)
{
    weights_file file = open_weights(folder);
    size_t n;
    char *to = find_weights(&n, &file, name);
    for (size_t k = 0; k < n; k++) {
        const float v = k % columns == (k / columns + shift) % (n / columns) ? value : 0.0f;
        memcpy(to + 4 * k, &v, 4);
    }
    close_weights(&file, folder);
}

#endif
