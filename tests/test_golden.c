/* test_golden.c -- does the walk agree with PyTorch's float64 autograd?
 *
 * Reads every folder of tests/goldens (made by tests/make_goldens.py; ref.safetensors by
 * tests/reference.py) and, where present, ../shared/models/stories260K; run from the checkout.
 * Tolerances are relative to a tensor's largest value, those of grad_x_act to the largest over all
 * sites (under a scale-free norm it is itself near 0). f64: both sides round at 1e-16 and the
 * amplification through these models is below 1e6. f32: PyTorch's own float32 is below 2e-5 from
 * the references, which the maker asserts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backflow/backflow.h"

enum { MAX_FOLDERS = 64, MAX_PATH = 512 };

static const char goldens[] = "tests/goldens";
static const char trained[] = "../shared/models/stories260K";

typedef struct {
    char path[MAX_FOLDERS][MAX_PATH];
    size_t n;
} folder_list;

/* A reference and the record that stands against it. */
typedef struct {
    const char *folder;
    bf_record *ref, *got;
    double tolerance;
    size_t failures;
} pair;

static int ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static void add_folder(folder_list *list, const char *path)
{
    assert_true(list->n < MAX_FOLDERS);
    assert_true(strlen(path) < MAX_PATH);
    strcpy(list->path[list->n++], path);
}

static int has_trained(void)
{
    return access("../shared/models/stories260K/ref.safetensors", R_OK) == 0;
}

/* Every golden, and the trained model if it is there. */
static void find_folders(folder_list *list)
{
    list->n = 0;
    DIR *dir = opendir(goldens);
    if (!dir)
        fail_msg("cannot open %s: run this from the checkout", goldens);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        char path[MAX_PATH];
        if (entry->d_name[0] == '.')
            continue;
        int len = snprintf(path, sizeof path, "%s/%s/ref.safetensors", goldens, entry->d_name);
        assert_in_range(len, 1, MAX_PATH - 1);
        if (access(path, R_OK) != 0) /* not of a model */
            continue;
        len -= (int)strlen("/ref.safetensors");
        path[len] = '\0';
        add_folder(list, path);
    }
    closedir(dir);
    assert_true(list->n >= 28);
    if (has_trained())
        add_folder(list, trained);
}

/* Open the reference of a folder and trace its tokens with the model beside it. */
static void open_pair(pair *p, const char *folder, bf_precision precision)
{
    bf_error err = {0};
    char path[MAX_PATH + 32];
    *p = (pair){.folder = folder, .tolerance = precision == BF_PRECISION_F64 ? 1e-9 : 1e-4};
    snprintf(path, sizeof path, "%s/ref.safetensors", folder);
    if (bf_record_open(&p->ref, path, &err))
        fail_msg("%s", err.msg);
    const bf_tensor *tokens = bf_record_find(p->ref, "tokens");
    assert_non_null(tokens);
    assert_int_equal(tokens->dtype, BF_I64);
    bf_model *model = NULL;
    if (bf_model_open(&model, folder, &err))
        fail_msg("%s: %s", folder, err.msg);
    const bf_tensor *masked = bf_record_find(p->ref, "masked");
    const char *detach = bf_record_meta(p->ref, "detach");
    assert_true(!detach || strcmp(detach, "myopic") == 0);
    assert_true(sizeof(size_t) == sizeof(int64_t));
    const bf_query query = {
        .masked = masked ? masked->data : NULL,
        .n_masked = masked ? bf_tensor_count(masked) : 0,
        .detach = detach ? BF_DETACH_MYOPIC : BF_DETACH_MODEL,
        .tokens = tokens->data,
        .n_tokens = bf_tensor_count(tokens),
        .scores = BF_SCORE_ALL,
        .precision = precision,
        .threads = 2,
    };
    if (bf_trace(&p->got, model, &query, NULL, NULL, NULL, &err))
        fail_msg("%s: %s", folder, err.msg);
    bf_model_free(model);
}

static void close_pair(pair *p)
{
    bf_record_free(p->ref);
    bf_record_free(p->got);
}

static double largest_value(const bf_tensor *t)
{
    double largest = 0.0;
    for (size_t k = 0; k < bf_tensor_count(t); k++)
        largest = fmax(largest, fabs(bf_tensor_value(t, k)));
    return largest;
}

/* What an error in that tensor is measured against. */
static double scale_of(const bf_record *ref, const bf_tensor *t)
{
    if (ends_with(t->name, "cosine"))
        return 1.0;
    if (!ends_with(t->name, ".grad_x_act"))
        return largest_value(t);
    double largest = 0.0;
    for (size_t k = 0; k < bf_record_count(ref); k++) {
        const bf_tensor *other = bf_record_at(ref, k);
        if (ends_with(other->name, ".grad_x_act"))
            largest = fmax(largest, largest_value(other));
    }
    return largest;
}

/* The record's tensor of the reference's name and shape; NULL, and a failure, if there is none. */
static const bf_tensor *find_match(pair *p, const bf_tensor *want)
{
    const bf_tensor *got = bf_record_find(p->got, want->name);
    int same = got && got->rank == want->rank;
    for (size_t k = 0; same && k < want->rank; k++)
        same = got->dim[k] == want->dim[k];
    if (same)
        return got;
    p->failures++;
    print_error("%s: %s: %s\n", p->folder, want->name, got ? "other shape" : "not in the record");
    return NULL;
}

static void compare_tensor(pair *p, const bf_tensor *want)
{
    const bf_tensor *got = find_match(p, want);
    if (!got)
        return;
    const int whole = want->dtype == BF_I64;
    const double allowed = whole ? 0.0 : p->tolerance * scale_of(p->ref, want);
    double worst = 0.0;
    size_t at = 0;
    for (size_t k = 0; k < bf_tensor_count(want); k++) {
        const double error = fabs(bf_tensor_value(got, k) - bf_tensor_value(want, k));
        if (!(error <= worst)) { /* NaN, too, and it stays */
            worst = error;
            at = k;
        }
        if (isnan(worst))
            break;
    }
    if (worst <= allowed)
        return;
    p->failures++;
    print_error("%s: %s: value %zu is %.17g, the reference %.17g; off by %.3g, allowed %.3g\n",
                p->folder, want->name, at, bf_tensor_value(got, at), bf_tensor_value(want, at),
                worst, allowed);
}

/* The reference must know every tensor of the record that is not made of others, so that none goes uncompared. */
static void compare_names(pair *p)
{
    for (size_t k = 0; k < bf_record_count(p->got); k++) {
        const char *name = bf_record_at(p->got, k)->name;
        const bool known = strncmp(name, "flow.", 5) == 0 || strncmp(name, "param.", 6) == 0 ||
                           strncmp(name, "weight.", 7) == 0;
        if (known && !bf_record_find(p->ref, name)) {
            p->failures++;
            print_error("%s: %s is in the record and not in the reference\n", p->folder, name);
        }
    }
}

static void compare_folders(bf_precision precision)
{
    folder_list list;
    size_t failures = 0;
    find_folders(&list);
    for (size_t f = 0; f < list.n; f++) {
        pair p;
        open_pair(&p, list.path[f], precision);
        for (size_t k = 0; k < bf_record_count(p.ref); k++)
            compare_tensor(&p, bf_record_at(p.ref, k));
        if (strcmp(p.folder, trained) != 0) /* its reference lacks attn_out and mlp_out */
            compare_names(&p);
        failures += p.failures;
        close_pair(&p);
    }
    assert_int_equal(failures, 0);
}

static void trace__f64_agrees_with_float64_autograd(void **state)
{
    (void)state;
    compare_folders(BF_PRECISION_F64);
}

static void trace__f32_agrees_with_float64_autograd(void **state)
{
    (void)state;
    compare_folders(BF_PRECISION_F32);
}

/* Count values right of the diagonal of the last two axes that are anything but 0.0. */
static size_t count_above_diagonal(const bf_tensor *t)
{
    const size_t N = t->dim[t->rank - 1];
    size_t found = 0;
    for (size_t k = 0; k < bf_tensor_count(t); k++)
        if (k % N > k / N % N && bf_tensor_value(t, k) != 0.0)
            found++;
    return found;
}

/* Count values that are not 0.0 where autograd found exactly 0: above the diagonal, out of a
 * sliding window's reach, and in the last layer left of the diagonal except at k, v, resid_pre. */
static size_t count_unreachable(const bf_tensor *got, const bf_tensor *want)
{
    size_t found = 0;
    if (bf_tensor_count(got) != bf_tensor_count(want))
        return bf_tensor_count(want);
    for (size_t k = 0; k < bf_tensor_count(want); k++)
        if (bf_tensor_value(want, k) == 0.0 && bf_tensor_value(got, k) != 0.0)
            found++;
    return found;
}

static void count_zeros(pair *p)
{
    for (size_t k = 0; k < bf_record_count(p->got); k++) {
        const bf_tensor *got = bf_record_at(p->got, k);
        const int attn = strcmp(got->name, "attn") == 0;
        if (!attn && strncmp(got->name, "flow.", 5) != 0)
            continue;
        const bf_tensor *want = bf_record_find(p->ref, got->name);
        const char *mask = bf_record_meta(p->got, "mask");
        const int both_ways = mask && strcmp(mask, "bidirectional") == 0;
        const size_t above = both_ways ? 0 : count_above_diagonal(got);
        const size_t beyond = want && (attn || ends_with(got->name, ".grad_norm"))
                                  ? count_unreachable(got, want) : 0;
        if (above == 0 && beyond == 0)
            continue;
        p->failures++;
        print_error("%s: %s: not 0: %zu values above the diagonal, %zu that are unreachable\n",
                    p->folder, got->name, above, beyond);
    }
}

static void flow__is_exactly_zero_where_nothing_can_arrive(void **state)
{
    (void)state;
    const bf_precision precisions[] = {BF_PRECISION_F64, BF_PRECISION_F32};
    folder_list list;
    size_t failures = 0;
    find_folders(&list);
    for (size_t f = 0; f < 2 * list.n; f++) {
        pair p;
        open_pair(&p, list.path[f / 2], precisions[f % 2]);
        count_zeros(&p);
        failures += p.failures;
        close_pair(&p);
    }
    assert_int_equal(failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trace__f64_agrees_with_float64_autograd),
        cmocka_unit_test(trace__f32_agrees_with_float64_autograd),
        cmocka_unit_test(flow__is_exactly_zero_where_nothing_can_arrive),
    };
    if (!has_trained())
        print_message("skipped: %s is not here\n", trained);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
