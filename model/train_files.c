/* The folder of a training. Files appear whole (base/buf.h), and the checkpoint is one file, so that
 * whatever ends a run finds weights, optimizer and step of one moment. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/packed.h"
#include "base/safetensors.h"
#include "model/convert.h"
#include "model/data.h"
#include "model/files.h"
#include "model/train.h"

enum { PIECE = 1 << 15 };

static const char CHECKPOINT[] = "checkpoint.safetensors", LOG[] = "log.jsonl";

static bf_code no_memory(bf_error *err)
{
    return bf_fail(err, BF_ENOMEM, "cannot hold the training's files");
}

static bf_code failed(bf_error *err, const char *path, const char *what, int why)
{
    return bf_fail(err, BF_EIO, "%.300s: cannot %s: %s", path, what, strerror(why));
}

/* ---- writing tensors ---- */

/* One value as it stands in memory to one as it is stored, n of them. */
static void convert(void *dst, bf_dtype to, const void *src, bf_dtype from, size_t n)
{
    float single[PIECE];
    if (to == from) {
        memcpy(dst, src, n * bf_dtype_size(to));
        return;
    }
    if (to == BF_F64) {
        for (size_t k = 0; k < n; k++)
            ((double *)dst)[k] = (double)((const float *)src)[k];
        return;
    }
    for (size_t k = 0; k < n; k++)
        single[k] = from == BF_F64 ? (float)((const double *)src)[k] : ((const float *)src)[k];
    if (to == BF_BF16)
        bf_bf16_round(dst, single, n);
    else
        memcpy(dst, single, n * sizeof *single);
}

/* The values of one tensor, piece by piece. 0 or an errno. */
static int write_values(FILE *file, bf_dtype to, const void *src, bf_dtype from, size_t n)
{
    double piece[PIECE];
    for (size_t k = 0; k < n; k += PIECE) {
        const size_t m = n - k < PIECE ? n - k : PIECE;
        convert(piece, to, (const char *)src + k * bf_dtype_size(from), from, m);
        if (fwrite(piece, bf_dtype_size(to), m, file) != m)
            return errno ? errno : EIO;
    }
    return 0;
}

/* Size and header, padded to 8; *data: bytes of the tensors. */
static bf_code make_header(bf_buf *out, size_t *data, const bf_tensor *tensor, size_t n,
                           const bf_st_meta *meta, size_t n_meta, bf_error *err)
{
    size_t *offset = calloc(n, sizeof *offset);
    bf_buf json = {0};
    *data = 0;
    for (size_t k = 0; k < n && offset; k++) {
        offset[k] = *data;
        size_t bytes = bf_dtype_size(tensor[k].dtype);
        for (size_t d = 0; d < tensor[k].rank; d++)
            bytes *= tensor[k].dim[d];
        *data += bytes;
    }
    if (offset)
        bf_safetensors_header(&json, tensor, offset, n, meta, n_meta);
    while (json.len % 8 && !json.failed)
        bf_buf_text(&json, " ");
    unsigned char size[8];
    for (size_t k = 0; k < 8; k++)
        size[k] = (unsigned char)((uint64_t)json.len >> 8 * k);
    bf_buf_bytes(out, size, sizeof size);
    bf_buf_bytes(out, json.data, json.len);
    const bool bad = !offset || json.failed || out->failed;
    free(offset);
    bf_buf_free(&json);
    return bad ? no_memory(err) : BF_OK;
}

/* tensor[k].data: its values in memory, of type `from`. */
static bf_code write_tensors(const char *folder, const char *name, const bf_tensor *tensor, size_t n,
                             bf_dtype from, const bf_st_meta *meta, size_t n_meta, bf_error *err)
{
    char *path = bf_path_join(folder, name), *tmp = NULL;
    FILE *file = NULL;
    bf_buf head = {0};
    size_t data = 0;
    int why = 0;
    bf_code rc = path ? make_header(&head, &data, tensor, n, meta, n_meta, err) : no_memory(err);
    if (!rc)
        rc = bf_tmp_open(&tmp, path, err);
    if (!rc && !(file = fopen(tmp, "r+b")))
        rc = failed(err, path, "write", errno);
    if (!rc && (why = bf_file_reserve(fileno(file), head.len + data)) != 0)
        rc = failed(err, path, "write", why);
    errno = 0;
    if (!rc && fwrite(head.data, 1, head.len, file) != head.len)
        why = errno ? errno : EIO;
    for (size_t k = 0; k < n && !rc && !why; k++) {
        size_t count = 1;
        for (size_t d = 0; d < tensor[k].rank; d++)
            count *= tensor[k].dim[d];
        why = write_values(file, tensor[k].dtype, tensor[k].data, from, count);
    }
    if (file && fclose(file) != 0 && !why)
        why = errno;
    if (!rc && why)
        rc = failed(err, path, "write", why);
    if (!rc) {
        rc = bf_tmp_commit(tmp, path, err);
        tmp = NULL;
    }
    bf_tmp_discard(tmp);
    bf_buf_free(&head);
    free(path);
    return rc;
}

static bf_dtype dtype_of(const bf_train_job *job)
{
    return job->config->f64 ? BF_F64 : BF_F32;
}

/* Tensors first to first + n - 1 of the layout, to a file. */
static bf_code write_part(const bf_train_job *job, const char *name, size_t first, size_t n,
                          const void *values, bf_error *err)
{
    bf_tensor *tensor = calloc(n, sizeof *tensor);
    bf_st_meta meta = {(char[]){"format"}, (char[]){"pt"}};
    if (!tensor)
        return no_memory(err);
    for (size_t k = 0; k < n; k++) {
        const bf_train_tensor *t = &job->layout->tensor[first + k];
        tensor[k] = (bf_tensor){.dtype = job->config->store, .rank = t->rank,
                                .dim = {t->dim[0], t->dim[1]},
                                .data = (char *)(uintptr_t)values + t->at * bf_dtype_size(dtype_of(job))};
        memcpy(tensor[k].name, t->name, sizeof t->name);
    }
    const bf_code rc = write_tensors(job->folder, name, tensor, n, dtype_of(job), &meta, 1, err);
    free(tensor);
    return rc;
}

bf_code bf_train_model_write(const bf_train_job *job, const void *values, bf_error *err)
{
    const size_t extra = job->layout->n_extra, n = job->layout->n - extra;
    bf_code rc = write_part(job, "model.safetensors", 0, n, values, err);
    if (!rc && extra)
        rc = write_part(job, "heads.safetensors", n, extra, values, err);
    return rc;
}

/* ---- the checkpoint ---- */

static const char *const PART[] = {"weights", "moment1", "moment2"};

bf_code bf_train_checkpoint_write(const bf_train_job *job, const bf_train_point *point,
                                  const void *const parts[3], bf_error *err)
{
    char step[24], held_out[40];
    bf_tensor tensor[3];
    bf_st_meta meta[] = {{(char[]){"step"}, step},
                         {(char[]){"held_out"}, held_out},
                         {(char[]){"identity"}, (char *)(uintptr_t)job->config->identity}};
    snprintf(step, sizeof step, "%" PRIu64, point->step);
    snprintf(held_out, sizeof held_out, "%a", point->held_out);
    for (size_t k = 0; k < 3; k++) {
        tensor[k] = (bf_tensor){.dtype = dtype_of(job), .rank = 1, .dim = {job->layout->values},
                                .data = (void *)(uintptr_t)parts[k]};
        snprintf(tensor[k].name, sizeof tensor[k].name, "%s", PART[k]);
    }
    return write_tensors(job->folder, CHECKPOINT, tensor, 3, dtype_of(job), meta, 3, err);
}

static bf_code read_point(bf_train_point *point, const bf_safetensors *file, const bf_train_job *job,
                          const char *path, bf_error *err)
{
    const char *step = bf_safetensors_meta(file, "step"), *held_out = bf_safetensors_meta(file, "held_out"),
               *identity = bf_safetensors_meta(file, "identity");
    char *end = NULL;
    if (!step || !held_out || !identity || step[strspn(step, "0123456789")] || !*step)
        return bf_fail(err, BF_EFORMAT, "%.300s: found no step, wanted a checkpoint of a training", path);
    if (strcmp(identity, job->config->identity) != 0)
        return bf_fail(err, BF_EARG, "%.300s: found the checkpoint of another config, wanted the one that "
                       "this training began with", path);
    errno = 0;
    point->step = strtoull(step, NULL, 10);
    point->held_out = strtod(held_out, &end);
    if (errno || *end || point->step > job->config->steps)
        return bf_fail(err, BF_EFORMAT, "%.300s: found step \"%.30s\", wanted 0 to %zu", path, step,
                       job->config->steps);
    return BF_OK;
}

bf_code bf_train_checkpoint_read(bool *found, bf_train_point *point, void *const parts[3],
                                 const bf_train_job *job, bf_error *err)
{
    const size_t n = job->layout->values;
    char *path = bf_path_join(job->folder, CHECKPOINT);
    bf_safetensors *file = NULL;
    bf_code rc = path ? BF_OK : no_memory(err);
    *found = path && bf_path_exists(path);
    if (!rc && !*found) {
        free(path);
        return BF_OK;
    }
    if (!rc)
        rc = bf_safetensors_open(&file, path, err);
    if (!rc)
        rc = read_point(point, file, job, path, err);
    for (size_t k = 0; k < 3 && !rc; k++) {
        const bf_st_tensor *t = bf_safetensors_find(file, PART[k]);
        if (!t || !t->usable || t->dtype != dtype_of(job) || t->count != n)
            rc = bf_fail(err, BF_ESHAPE, "%.300s: tensor \"%s\" has %zu values of type %s, wanted %zu of %s",
                         path, PART[k], t ? t->count : 0, t ? t->dtype_name : "none", n,
                         bf_dtype_name(dtype_of(job)));
        else
            memcpy(parts[k], t->data, t->bytes);
    }
    bf_safetensors_free(file);
    free(path);
    return rc;
}

/* ---- the weights to start from ---- */

bf_code bf_train_start_read(void *values, const bf_train_job *job, bf_error *err)
{
    const bf_dtype dtype = dtype_of(job);
    bf_store store = {0};
    bf_code rc = bf_store_open(&store, job->config->start, err);
    for (size_t k = 0; k < job->layout->n - job->layout->n_extra && !rc; k++) {
        const bf_train_tensor *t = &job->layout->tensor[k];
        const bf_entry *e = bf_store_find(&store, t->name);
        const size_t size = bf_dtype_size(dtype);
        const bool fits = e && e->tensor->usable && e->tensor->rank == t->rank &&
                          memcmp(e->tensor->dim, t->dim, t->rank * sizeof *t->dim) == 0;
        if (!fits) {
            rc = bf_fail(err, BF_ESHAPE, "%.200s: tensor \"%.120s\" is %s, wanted %zu x %zu values",
                         job->config->start, t->name, e ? "of another shape" : "missing", t->dim[0],
                         t->rank > 1 ? t->dim[1] : 1);
            break;
        }
        const bf_vector v = {e->tensor->data, e->tensor->dtype, t->count, t->name};
        void *to = (char *)values + t->at * size;
        rc = dtype == BF_F64 ? bf_vector_f64(to, &v, err) : bf_vector_f32(to, &v, err);
    }
    bf_store_close(&store);
    return rc;
}

/* ---- the folder ---- */

static bool is_leftover(const char *name)
{
    return strncmp(name, ".backflow-", 10) == 0;
}

/* What a run that was killed left half written is removed; *entries: how many others there are. */
static bf_code sweep(size_t *entries, const char *folder, bf_error *err)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return failed(err, folder, "read the folder", errno);
    *entries = 0;
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        if (is_leftover(d->d_name))
            unlinkat(dirfd(dir), d->d_name, 0);
        else
            ++*entries;
    }
    closedir(dir);
    return BF_OK;
}

static bf_code write_text(const char *folder, const char *name, const char *text, bf_error *err)
{
    char *path = bf_path_join(folder, name);
    const bf_code rc = path ? bf_file_write(path, text, strlen(text), err) : no_memory(err);
    free(path);
    return rc;
}

bf_code bf_train_folder_open(const bf_train_job *job, bf_error *err)
{
    size_t entries = 0;
    const char *tokenizer = bf_data_tokenizer_json(job->data);
    if (mkdir(job->folder, 0777) < 0 && errno != EEXIST)
        return failed(err, job->folder, "make the folder", errno);
    bf_code rc = sweep(&entries, job->folder, err);
    if (!rc && entries && !job->resume)
        rc = bf_fail(err, BF_EARG, "%.300s: found %zu files, wanted an empty folder or a new one, or to "
                     "resume", job->folder, entries);
    if (!rc)
        rc = write_text(job->folder, "config.json", job->config->model, err);
    if (!rc && tokenizer)
        rc = write_text(job->folder, "tokenizer.json", tokenizer, err);
    return rc;
}

/* ---- the log ---- */

/* Bytes of the lines {"step": k, ... with k <= step, all from the start. */
static size_t kept_lines(const char *text, size_t len, uint64_t step)
{
    size_t keep = 0;
    while (keep < len) {
        const char *line = text + keep, *end = memchr(line, '\n', len - keep);
        uint64_t k;
        if (!end || sscanf(line, "{\"step\": %" SCNu64, &k) != 1 || k > step)
            break;
        keep = (size_t)(end + 1 - text);
    }
    return keep;
}

/* Two trainings in one folder would spoil each other. Where files cannot be locked, none is. */
static bf_code lock_log(FILE *file, const char *path, bf_error *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fileno(file), F_SETLK, &lock) < 0 && (errno == EACCES || errno == EAGAIN))
        return bf_fail(err, BF_EARG, "%.300s: another training writes here", path);
    return BF_OK;
}

bf_code bf_train_log_open(FILE **out, const bf_train_job *job, uint64_t step, bf_error *err)
{
    char *path = bf_path_join(job->folder, LOG);
    bf_buf old = {0};
    FILE *file = path ? fopen(path, "a") : NULL;
    bf_code rc = !path ? no_memory(err) : !file ? failed(err, path, "write", errno) : BF_OK;
    if (!rc)
        rc = lock_log(file, path, err);
    if (!rc)
        rc = bf_file_read(&old, path, SIZE_MAX / 2, err);
    if (!rc)
        rc = lock_log(file, path, err); /* reading let it go */
    if (!rc && ftruncate(fileno(file), (off_t)kept_lines(old.data, old.len, step)) < 0)
        rc = failed(err, path, "write", errno);
    if (rc && file)
        fclose(file);
    else if (!rc)
        *out = file;
    bf_buf_free(&old);
    free(path);
    return rc;
}
