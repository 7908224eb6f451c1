/* trace_model.h -- trace small random models, and compare the records.
 *
 * Whatever goes wrong on the way fails the test. */
#ifndef BF_TESTS_TRACE_MODEL_H
#define BF_TESTS_TRACE_MODEL_H

#include "backflow/tracer.h"
#include "tests/close.h"
#include "tests/make_model.h"
#include "tracer/job.h"

enum { MAX_TOKENS = 320 };

typedef struct {
    const char *what;
    made_model made;
    size_t window[3]; /* of layers 0, 1, 2; 0: reads all */
} walk_shape;

/* Odd sizes everywhere: heads as wide as no register, D unlike H*K, one of each kind of model. */
static const walk_shape SHAPES[] = {
    {"gpt2", {.family = "gpt2", .L = 3, .D = 20, .H = 5, .F = 37, .V = 29, .P = 310,
              .dtype = BF_F32, .tied = true, .seed = 1}, {0, 0, 0}},
    {"gpt2 of one layer and one head", {.family = "gpt2", .L = 1, .D = 7, .H = 1, .F = 5, .V = 11,
              .P = 310, .dtype = BF_F16, .tied = true, .odd = true, .seed = 2}, {0, 0, 0}},
    {"llama", {.family = "llama", .L = 3, .D = 23, .H = 6, .G = 2, .K = 6, .F = 31, .V = 37,
               .P = 310, .dtype = BF_F32, .biases = true, .seed = 3}, {0, 0, 0}},
    {"llama in bf16", {.family = "llama", .L = 2, .D = 18, .H = 3, .G = 3, .K = 10, .F = 17,
                       .V = 13, .P = 310, .dtype = BF_BF16, .tied = true, .shards = 2, .seed = 4},
     {0, 0, 0}},
    {"mistral with windows", {.family = "mistral", .L = 3, .D = 16, .H = 4, .G = 2, .K = 4, .F = 21,
               .V = 19, .P = 310, .dtype = BF_F32, .seed = 5, .extra = "\"sliding_window\": 5, "},
     {5, 5, 5}},
    {"qwen2 with a window in the middle", {.family = "qwen2", .L = 3, .D = 15, .H = 4, .G = 1,
               .K = 6, .F = 22, .V = 17, .P = 310, .dtype = BF_F32, .seed = 6,
               .extra = "\"sliding_window\": 9, \"use_sliding_window\": true, \"layer_types\": "
                        "[\"full_attention\", \"sliding_attention\", \"full_attention\"], "},
     {0, 9, 0}},
};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

/* Narrow, and with an MLP that pays to fold from 11 (Llama 12) losses on. */
static const made_model FOLDING[] = {
    {.family = "gpt2", .L = 3, .D = 12, .H = 3, .F = 40, .V = 23, .P = 310, .dtype = BF_F32,
     .tied = true, .seed = 7},
    {.family = "llama", .L = 2, .D = 10, .H = 4, .G = 2, .K = 6, .F = 35, .V = 23, .P = 310,
     .dtype = BF_BF16, .seed = 8},
};

/* The model of these weights. Its files are gone when this returns; what is mapped stays. */
static inline bf_model *open_made(const made_model *made)
{
    char path[256];
    bf_model *model = NULL;
    bf_error err = {0};
    make_folder(path);
    make_model(path, made);
    const bf_code rc = bf_model_open(&model, path, &err);
    remove_folder(path);
    if (rc)
        fail_msg("%s", err.msg);
    return model;
}

/* The same tokens for every model with that vocabulary; MAX_TOKENS of them. */
static inline const int64_t *some_tokens(const bf_model *model)
{
    static int64_t tokens[MAX_TOKENS];
    const size_t V = bf_model_dims(model)->V;
    uint64_t state = V;
    for (size_t k = 0; k < MAX_TOKENS; k++)
        tokens[k] = (int64_t)((made_random(&state) + 1.0) / 2.0 * (double)(V - 1) + 0.5);
    return tokens;
}

static inline bf_query query_of(const bf_model *model, size_t N, bf_precision precision)
{
    assert_true(N < MAX_TOKENS);
    return (bf_query){.tokens = some_tokens(model), .n_tokens = N + 1, .precision = precision,
                      .threads = 2};
}

static inline bf_record *trace_of(bf_model *model, const bf_query *query)
{
    bf_record *record = NULL;
    bf_error err = {0};
    bf_check checks[8];
    size_t n = 0;
    if (bf_trace(&record, model, query, NULL, checks, &n, &err))
        fail_msg("%s", err.msg);
    return record;
}

/* Does this machine walk in bf16? Says so if not. */
static inline bool has_bf16(bf_model *model)
{
    bf_query query = query_of(model, 2, BF_PRECISION_BF16);
    bf_record *record = NULL;
    bf_error err = {0};
    const bf_code rc = bf_trace(&record, model, &query, NULL, NULL, NULL, &err);
    bf_record_free(record);
    if (rc == BF_EUNSUPPORTED)
        print_message("skipped: bf16: %s\n", err.msg);
    else if (rc)
        fail_msg("%s", err.msg);
    return !rc;
}

static inline const bf_tensor *tensor_of(const bf_record *record, const char *name)
{
    const bf_tensor *t = bf_record_find(record, name);
    if (!t)
        fail_msg("there is no %s", name);
    return t;
}

static inline bool starts_with(const char *name, const char *start)
{
    return strncmp(name, start, strlen(start)) == 0;
}

static inline bool ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* The name of the first tensor that is not the same to the bit; NULL: they all are. */
static inline const char *first_difference(const bf_record *a, const bf_record *b)
{
    if (bf_record_count(a) != bf_record_count(b))
        return "(another number of tensors)";
    for (size_t k = 0; k < bf_record_count(a); k++) {
        const bf_tensor *x = bf_record_at(a, k), *y = bf_record_find(b, x->name);
        if (!y || y->dtype != x->dtype || bf_tensor_count(x) != bf_tensor_count(y) ||
            memcmp(x->data, y->data, bf_tensor_count(x) * bf_dtype_size(x->dtype)) != 0)
            return x->name;
    }
    return NULL;
}

/* Largest value of a tensor; NaN if there is one. */
static inline double largest_of(const bf_tensor *t)
{
    double largest = 0.0;
    for (size_t k = 0; k < bf_tensor_count(t); k++) {
        const double value = fabs(bf_tensor_value(t, k));
        if (!(value <= largest))
            largest = value;
        if (isnan(largest))
            break;
    }
    return largest;
}

/* What an error is measured against: the tensor's largest value, of grad_x_act the largest of all
 * sites (under a scale-free norm it is itself near 0). */
static inline double scale_of(const bf_record *record, const char *name)
{
    double largest = 0.0;
    if (!ends_with(name, "grad_x_act"))
        return largest_of(tensor_of(record, name));
    for (size_t k = 0; k < bf_record_count(record); k++)
        if (ends_with(bf_record_at(record, k)->name, "grad_x_act"))
            largest = fmax(largest, largest_of(bf_record_at(record, k)));
    return largest;
}

/* Largest relative difference of two records' tensors, all of which must be in both; NaN stays. */
static inline double furthest(const bf_record *a, const bf_record *b)
{
    const double dots = scale_of(a, "grad_x_act");
    double worst = 0.0;
    assert_int_equal(bf_record_count(a), bf_record_count(b));
    for (size_t k = 0; k < bf_record_count(a); k++) {
        const bf_tensor *x = bf_record_at(a, k), *y = tensor_of(b, x->name);
        const double scale = ends_with(x->name, "grad_x_act") ? dots : scale_of(a, x->name);
        assert_int_equal(bf_tensor_count(x), bf_tensor_count(y));
        for (size_t n = 0; n < bf_tensor_count(x); n++) {
            const double off = fabs(bf_tensor_value(x, n) - bf_tensor_value(y, n));
            if (!(off <= worst * scale))
                worst = off / scale;
        }
    }
    return worst;
}

/* A [.., layers, heads or 1, losses, N] tensor of flow, whatever its rank. */
typedef struct {
    const bf_tensor *t;
    size_t layers, heads, losses, N;
} flow_axes;

static inline flow_axes axes_of(const bf_tensor *t)
{
    flow_axes a = {t, 1, 1, t->dim[t->rank - 2], t->dim[t->rank - 1]};
    a.layers = t->rank > 2 ? t->dim[0] : 1;
    a.heads = t->rank > 3 ? t->dim[1] : 1;
    return a;
}

static inline double flow_at(const flow_axes *a, size_t l, size_t h, size_t i, size_t j)
{
    return bf_tensor_value(a->t, ((l * a->heads + h) * a->losses + i) * a->N + j);
}

/* Would bf_trace_plan take it? (Without the plan, which takes time to measure the machine.) */
static inline bool fits(const bf_model *model, const bf_query *query)
{
    bf_job job;
    const bf_code rc = bf_job_make(&job, (bf_model *)(uintptr_t)model, query, NULL);
    bf_job_free(&job);
    assert_true(rc == BF_OK || rc == BF_ENOMEM);
    return rc == BF_OK;
}

/* The least memory, to a byte, that a trace takes: halve until it is refused, then close in. */
static inline size_t least_memory(const bf_model *model, bf_query query)
{
    size_t yes = (size_t)1 << 30, no = yes;
    for (query.memory = yes; fits(model, &query); query.memory = no) {
        yes = query.memory;
        no = yes / 2;
    }
    while (yes - no > 1) {
        query.memory = no + (yes - no) / 2;
        if (fits(model, &query))
            yes = query.memory;
        else
            no = query.memory;
    }
    return yes;
}

/* Traced again it is the same to the bit. */
static inline void assert_same_trace(const bf_record *want, bf_model *model, const bf_query *query)
{
    bf_record *got = trace_of(model, query);
    const char *name = first_difference(want, got);
    if (name)
        fail_msg("%s differs with %zu threads, %zu bytes", name, query->threads, query->memory);
    bf_record_free(got);
}

/* The numbers of a trace's plan; its arrays are gone. */
static inline bf_job job_of(bf_model *model, const bf_query *query)
{
    bf_job job;
    bf_error err = {0};
    if (bf_job_make(&job, model, query, &err))
        fail_msg("%s", err.msg);
    bf_job_free(&job);
    return job;
}

/* Memory for the query: as much as is usual (way 0), the least (1), half way between (2). */
static inline size_t memory_of_way(bf_model *model, bf_query query, size_t way)
{
    if (way == 0)
        return 0;
    query.memory = 0;
    const bf_job usual = job_of(model, &query);
    const size_t least = least_memory(model, query);
    return way == 1 ? least : (least + usual.fixed_bytes + usual.chunk_bytes) / 2;
}

/* With one thread to three, and the usual memory to the least, it is the same to the bit, by the same short cuts. */
static inline void assert_same_any_way(bf_model *model, bf_query query)
{
    query.threads = 1;
    bf_record *want = trace_of(model, &query);
    const bf_job usual = job_of(model, &query);
    for (size_t n = 0; n < 3; n++) {
        query.threads = 3 - n;
        query.memory = memory_of_way(model, query, n);
        const bf_job job = job_of(model, &query);
        assert_true(job.blend == usual.blend && job.cross == usual.cross && job.top == usual.top);
        assert_true(n == 0 || job.chunk_rows < usual.chunk_rows);
        assert_same_trace(want, model, &query);
    }
    bf_record_free(want);
}

/* With its short cuts the query's trace is as one without and as the exact one, but for rounding. */
static inline void assert_rounding_alone(bf_model *model, bf_query query, const bf_record *exact, double tolerance)
{
    bf_record *with = trace_of(model, &query);
    query.no_fold = true;
    bf_record *without = trace_of(model, &query);
    const double off = furthest(without, with), from_exact = furthest(exact, with);
    print_message("precision %d: with and without short cuts differ by %.3g, with and double by %.3g\n",
                  (int)query.precision, off, from_exact);
    assert_true(off <= tolerance && from_exact <= tolerance);
    assert_non_null(first_difference(without, with)); /* it did take another way */
    bf_record_free(with);
    bf_record_free(without);
}

/* Positions that it folds. */
static inline size_t folded(bf_model *model, const bf_query *query)
{
    return job_of(model, query).fold_below;
}

#endif
