#include "base/packed.h"

#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/real.h"

/* A product as it was asked for: its primitive is made once. PACKED: B is in a layout of the library's own. */
enum { TA, TB, ROWS, COLS, TERMS, LDA, LDB, ADD, LDC, HALF, PACKED, FORM };

/* A product, as one worker runs it. */
typedef struct {
    size_t form[FORM];
    dnnl_primitive_t primitive;
    dnnl_memory_t operand[3]; /* A, B, C: without values of their own */
    dnnl_memory_desc_t scratch;
} product;

/* Memory that grows. */
typedef struct {
    void *data;
    size_t size;
} space;

/* One worker's room. */
typedef struct {
    dnnl_stream_t stream;
    space rows, scratch; /* rows: of A, brought together or rounded */
    product *made; /* [n_made] of [most_made] */
    size_t n_made, most_made;
    dnnl_status_t failure; /* the first */
} desk;

struct bf_packing {
    dnnl_engine_t engine;
    size_t workers;
    desk *desks; /* [workers] */
};

struct bf_packed {
    bf_packing *room;
    size_t K, N;
    bool half;
    dnnl_memory_desc_t layout; /* which the library chose */
    void *values;
};

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS(name) __builtin_cpu_supports(name)
#else
#define HAS(name) false
#endif

bool bf_bf16_available(void)
{
    return HAS("avx512bf16");
}

bool bf_room_gemm_pays(void)
{
    return HAS("avx512f") && HAS("avx512bw") && HAS("avx512dq") && HAS("avx512vl");
}

BF_HOT void bf_bf16_round(uint16_t *dst, const float *src, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        uint32_t u;
        memcpy(&u, src + k, sizeof u);
        const uint32_t nan = (u >> 16) | 0x40;
        dst[k] = (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? nan : bf_bfloat_of_number(src[k]));
    }
}

bf_code bf_packing_new(bf_packing **out, size_t workers, bf_error *err)
{
    bf_packing *room = calloc(1, sizeof *room);
    bool ok = room;
    if (ok) {
        room->workers = workers;
        room->desks = calloc(workers, sizeof *room->desks);
        ok = room->desks && !dnnl_engine_create(&room->engine, dnnl_cpu, 0);
    }
    for (size_t k = 0; ok && k < workers; k++)
        ok = !dnnl_stream_create(&room->desks[k].stream, room->engine, dnnl_stream_default_flags);
    if (!ok) {
        bf_packing_free(room);
        return bf_fail(err, BF_ENOMEM, "cannot hold room for products");
    }
    *out = room;
    return BF_OK;
}

static void free_product(product *p)
{
    if (p->primitive)
        dnnl_primitive_destroy(p->primitive);
    for (size_t k = 0; k < 3; k++)
        if (p->operand[k])
            dnnl_memory_destroy(p->operand[k]);
}

void bf_packing_free(bf_packing *room)
{
    if (!room)
        return;
    for (size_t k = 0; room->desks && k < room->workers; k++) {
        desk *d = &room->desks[k];
        for (size_t p = 0; p < d->n_made; p++)
            free_product(&d->made[p]);
        free(d->made);
        if (d->stream)
            dnnl_stream_destroy(d->stream);
        free(d->rows.data);
        free(d->scratch.data);
    }
    if (room->engine)
        dnnl_engine_destroy(room->engine);
    free(room->desks);
    free(room);
}

/* What is in it is lost. */
static dnnl_status_t need(space *s, size_t size)
{
    if (size <= s->size)
        return dnnl_success;
    const size_t rounded = (size + 63) / 64 * 64;
    void *grown = aligned_alloc(64, rounded);
    if (!grown)
        return dnnl_out_of_memory;
    free(s->data);
    *s = (space){grown, rounded};
    return dnnl_success;
}

/* rows x cols, values of a row (transposed: of a column) one after the other, ld to the next. */
static dnnl_status_t strided(dnnl_memory_desc_t *md, size_t rows, size_t cols, size_t ld, bool transposed,
                             dnnl_data_type_t type)
{
    const dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    const dnnl_dims_t steps = {transposed ? 1 : (dnnl_dim_t)ld, transposed ? (dnnl_dim_t)ld : 1};
    return dnnl_memory_desc_init_by_strides(md, 2, dims, type, steps);
}

/* C = A B (+ C if add); md: of A, B, C. */
static dnnl_status_t describe_product(dnnl_primitive_desc_t *out, const dnnl_memory_desc_t md[3], bool add,
                                      dnnl_engine_t engine)
{
    dnnl_matmul_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_matmul_desc_init(&desc, &md[0], &md[1], NULL, &md[2]);
    if (!status)
        status = dnnl_primitive_attr_create(&attr);
    if (!status)
        status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!status && add) {
        status = dnnl_post_ops_create(&ops);
        if (!status)
            status = dnnl_post_ops_append_sum(ops, 1.0f);
        if (!status)
            status = dnnl_primitive_attr_set_post_ops(attr, ops);
    }
    if (!status)
        status = dnnl_primitive_desc_create(out, &desc, attr, engine, NULL);
    if (ops)
        dnnl_post_ops_destroy(ops);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return status;
}

static dnnl_status_t make_product(product *p, dnnl_engine_t engine, const size_t form[FORM],
                                  const dnnl_memory_desc_t *layout)
{
    const dnnl_data_type_t type = form[HALF] ? dnnl_bf16 : dnnl_f32;
    dnnl_memory_desc_t md[3];
    dnnl_primitive_desc_t pd = NULL;
    *p = (product){0};
    memcpy(p->form, form, sizeof p->form);
    dnnl_status_t status = strided(&md[0], form[ROWS], form[TERMS], form[LDA], form[TA], type);
    if (form[PACKED])
        md[1] = *layout;
    else if (!status)
        status = strided(&md[1], form[TERMS], form[COLS], form[LDB], form[TB], type);
    if (!status)
        status = strided(&md[2], form[ROWS], form[COLS], form[LDC], false, dnnl_f32);
    if (!status)
        status = describe_product(&pd, md, form[ADD], engine);
    if (!status) {
        p->scratch = *dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
        status = dnnl_primitive_create(&p->primitive, pd);
        dnnl_primitive_desc_destroy(pd);
    }
    for (size_t k = 0; k < 3 && !status; k++)
        status = dnnl_memory_create(&p->operand[k], &md[k], engine, DNNL_MEMORY_NONE);
    if (status)
        free_product(p);
    return status;
}

/* The worker's product of this form, made when it is first asked for. */
static dnnl_status_t find_product(product **out, desk *d, dnnl_engine_t engine, const size_t form[FORM],
                                  const dnnl_memory_desc_t *layout)
{
    for (size_t k = 0; k < d->n_made; k++)
        if (!memcmp(d->made[k].form, form, sizeof d->made[k].form)) {
            *out = &d->made[k];
            return dnnl_success;
        }
    if (d->n_made == d->most_made) {
        const size_t most = 2 * d->most_made + 16;
        product *grown = realloc(d->made, most * sizeof *grown);
        if (!grown)
            return dnnl_out_of_memory;
        d->made = grown;
        d->most_made = most;
    }
    const dnnl_status_t status = make_product(&d->made[d->n_made], engine, form, layout);
    if (!status)
        *out = &d->made[d->n_made++];
    return status;
}

/* Run one primitive in the worker's room; the library's own scratchpad is not for two threads. */
static dnnl_status_t execute(dnnl_engine_t engine, desk *d, dnnl_primitive_t primitive,
                             const dnnl_memory_desc_t *scratch_md, dnnl_exec_arg_t *args, int n)
{
    dnnl_memory_t scratch = NULL;
    dnnl_status_t status = need(&d->scratch, dnnl_memory_desc_get_size(scratch_md));
    if (!status)
        status = dnnl_memory_create(&scratch, scratch_md, engine, d->scratch.data);
    args[n] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, scratch};
    if (!status)
        status = dnnl_primitive_execute(primitive, d->stream, n + 1, args);
    if (!status)
        status = dnnl_stream_wait(d->stream);
    if (scratch)
        dnnl_memory_destroy(scratch);
    return status;
}

/* Before a primitive is made on this thread: it keeps the number of threads that it found, and the pool is ours. */
static void stay_serial(void)
{
    omp_set_num_threads(1);
}

/* values: A, B, C. layout: of B, if it is packed. */
static void multiply(bf_packing *room, size_t worker, void *const values[3], const size_t form[FORM],
                     const dnnl_memory_desc_t *layout)
{
    static const int names[3] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    desk *d = &room->desks[worker];
    dnnl_exec_arg_t args[4];
    product *p = NULL;
    if (!form[ROWS] || !form[COLS] || !form[TERMS] || d->failure)
        return;
    stay_serial();
    dnnl_status_t status = find_product(&p, d, room->engine, form, layout);
    for (size_t k = 0; k < 3 && !status; k++) {
        args[k] = (dnnl_exec_arg_t){names[k], p->operand[k]};
        status = dnnl_memory_set_data_handle(p->operand[k], values[k]);
    }
    if (!status)
        status = execute(room->engine, d, p->primitive, &p->scratch, args, 3);
    d->failure = status;
}

void bf_room_gemm_bf16(bf_packing *room, size_t worker, bool ta, bool tb, size_t M, size_t N, size_t K,
                       const uint16_t *A, size_t lda, const uint16_t *B, size_t ldb, bool add, float *C,
                       size_t ldc)
{
    multiply(room, worker, (void *const[]){(void *)(uintptr_t)A, (void *)(uintptr_t)B, C},
             (const size_t[FORM]){ta, tb, M, N, K, lda, ldb, add, ldc, true}, NULL);
}

void bf_room_gemm_f32(bf_packing *room, size_t worker, bool ta, bool tb, size_t M, size_t N, size_t K,
                      const float *A, size_t lda, const float *B, size_t ldb, bool add, float *C, size_t ldc)
{
    multiply(room, worker, (void *const[]){(void *)(uintptr_t)A, (void *)(uintptr_t)B, C},
             (const size_t[FORM]){ta, tb, M, N, K, lda, ldb, add, ldc}, NULL);
}

/* C [M,N] = T^T (+ C if add), T [N,M]. */
BF_HOT static void turn(float *C, size_t ldc, const float *T, size_t M, size_t N, bool add)
{
    enum { STEP = 16 }; /* a line of the cache */
    for (size_t m0 = 0; m0 < M; m0 += STEP)
        for (size_t n0 = 0; n0 < N; n0 += STEP) {
            const size_t ms = M - m0 < STEP ? M - m0 : STEP, ns = N - n0 < STEP ? N - n0 : STEP;
            for (size_t m = m0; m < m0 + ms; m++)
                for (size_t n = n0; n < n0 + ns; n++)
                    C[m * ldc + n] = T[n * M + m] + (add ? C[m * ldc + n] : 0.0f);
        }
}

void bf_room_turned_f32(bf_packing *room, size_t worker, size_t M, size_t N, size_t K, const float *A, size_t lda,
                        const float *B, size_t ldb, bool add, float *C, size_t ldc)
{
    desk *d = &room->desks[worker];
    if (!d->failure)
        d->failure = need(&d->rows, M * N * sizeof(float));
    if (d->failure)
        return;
    bf_room_gemm_f32(room, worker, false, true, N, M, K, B, ldb, A, lda, false, d->rows.data, M);
    if (!d->failure)
        turn(C, ldc, d->rows.data, M, N, add);
}

size_t bf_packing_workers(const bf_packing *room)
{
    return room->workers;
}

void bf_room_start(bf_packing *room, size_t worker)
{
    enum { M = 64, N = 384, K = 768 }; /* C's rows apart, as where columns of a product are shared out */
    float *m = calloc(M * K + K * N + M * 2 * N, sizeof *m);
    if (m)
        bf_room_gemm_f32(room, worker, false, false, M, N, K, m, K, m + M * K, N, false, m + M * K + K * N, 2 * N);
    free(m);
}

bf_code bf_room_failed(const bf_packing *room, bf_error *err)
{
    for (size_t k = 0; k < room->workers; k++)
        if (room->desks[k].failure == dnnl_out_of_memory)
            return bf_fail(err, BF_ENOMEM, "cannot hold a product's operands in oneDNN's layout");
        else if (room->desks[k].failure)
            return bf_fail(err, BF_EUNSUPPORTED, "oneDNN refused a product (status %d)",
                           (int)room->desks[k].failure);
    return BF_OK;
}

/* ---- tiles of rows ---- */

/* Rows of A one after the other: where they stand if they do, else in the worker's room. NULL: no memory. */
static const void *tile_rows(desk *d, const float *A, size_t lda, size_t M, size_t K, bool half)
{
    if (!half && lda == K)
        return A;
    d->failure = need(&d->rows, M * K * (half ? sizeof(uint16_t) : sizeof(float)));
    for (size_t m = 0; m < M && !d->failure; m++)
        if (half)
            bf_bf16_round((uint16_t *)d->rows.data + m * K, A + m * lda, K);
        else
            memcpy((float *)d->rows.data + m * K, A + m * lda, K * sizeof *A);
    return d->failure ? NULL : d->rows.data;
}

void bf_room_tile_f32(bf_packing *room, size_t worker, bool tb, size_t M, size_t N, size_t K, const float *A,
                      size_t lda, const float *B, bool add, float *C)
{
    desk *d = &room->desks[worker];
    const float *rows = d->failure ? NULL : tile_rows(d, A, lda, M, K, false);
    if (rows)
        bf_room_gemm_f32(room, worker, false, tb, M, N, K, rows, K, B, tb ? K : N, add, C, N);
}

/* The layout that the library wants for tiles, whatever their number of rows. */
static dnnl_status_t choose_layout(bf_packed *p)
{
    enum { TILE = 240 };
    const dnnl_dims_t dims = {(dnnl_dim_t)p->K, (dnnl_dim_t)p->N};
    const dnnl_data_type_t type = p->half ? dnnl_bf16 : dnnl_f32;
    dnnl_memory_desc_t md[3];
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = strided(&md[0], TILE, p->K, p->K, false, type);
    if (!status)
        status = dnnl_memory_desc_init_by_tag(&md[1], 2, dims, type, dnnl_format_tag_any);
    if (!status)
        status = strided(&md[2], TILE, p->N, p->N, false, dnnl_f32);
    if (!status)
        status = describe_product(&pd, md, false, p->room->engine);
    if (!status) {
        p->layout = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        dnnl_primitive_desc_destroy(pd);
    }
    return status;
}

bf_code bf_packed_new(bf_packed **out, bf_packing *room, size_t K, size_t N, bool half, bf_error *err)
{
    stay_serial();
    bf_packed *p = K > SIZE_MAX / 8 / (N + 1) ? NULL : calloc(1, sizeof *p);
    dnnl_status_t status = dnnl_out_of_memory;
    if (p) {
        p->room = room;
        p->K = K;
        p->N = N;
        p->half = half;
        status = choose_layout(p);
    }
    if (!status) {
        const size_t size = dnnl_memory_desc_get_size(&p->layout);
        p->values = aligned_alloc(64, (size + 63) / 64 * 64);
        status = p->values ? dnnl_success : dnnl_out_of_memory;
    }
    if (status) {
        bf_packed_free(p);
        return status == dnnl_out_of_memory
                   ? bf_fail(err, BF_ENOMEM, "cannot hold a packed weight of %zu x %zu", K, N)
                   : bf_fail(err, BF_EUNSUPPORTED, "oneDNN refused a product of %zu x %zu "
                             "(status %d)", K, N, (int)status);
    }
    *out = p;
    return BF_OK;
}

void bf_packed_free(bf_packed *p)
{
    if (p)
        free(p->values);
    free(p);
}

bool bf_packed_fits(const bf_packed *p, size_t K, size_t N, bool half)
{
    return p && p->K == K && p->N == N && p->half == half;
}

bool bf_packed_grid(bf_grid *grid, const bf_packed *p)
{
    const dnnl_memory_desc_t *md = &p->layout;
    const dnnl_blocking_desc_t *b = &md->format_desc.blocking;
    const dnnl_dim_t pair = p->half ? 2 : 1, deep = b->inner_blks[0] * pair, wide = b->inner_blks[1];
    if (md->format_kind != dnnl_blocked || b->inner_nblks != 1 + pair || b->inner_idxs[0] != 0 ||
        b->inner_idxs[1] != 1 || (p->half && (b->inner_idxs[2] != 0 || b->inner_blks[2] != 2)) ||
        b->strides[0] != deep * wide || b->strides[1] != md->padded_dims[0] * wide)
        return false;
    *grid = (bf_grid){p->values, (size_t)(md->padded_dims[1] / wide), (size_t)wide, (size_t)md->padded_dims[0]};
    return true;
}

static dnnl_status_t describe_reorder(dnnl_primitive_desc_t *out, const dnnl_memory_desc_t *from,
                                      const dnnl_memory_desc_t *to, dnnl_engine_t engine)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(&attr);
    if (!status)
        status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!status)
        status = dnnl_reorder_primitive_desc_create(out, from, engine, to, engine, attr);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return status;
}

void bf_packed_fill(bf_packed *p, size_t worker, const float *B, size_t ldb, bool tb)
{
    const dnnl_engine_t engine = p->room->engine;
    desk *d = &p->room->desks[worker];
    dnnl_memory_desc_t from;
    dnnl_memory_t source = NULL, target = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t reorder = NULL;
    if (d->failure)
        return;
    stay_serial();
    dnnl_status_t status = strided(&from, p->K, p->N, ldb, tb, dnnl_f32);
    if (!status)
        status = dnnl_memory_create(&source, &from, engine, (void *)(uintptr_t)B);
    if (!status)
        status = dnnl_memory_create(&target, &p->layout, engine, p->values);
    if (!status)
        status = describe_reorder(&pd, &from, &p->layout, engine);
    if (!status)
        status = dnnl_primitive_create(&reorder, pd);
    if (!status) {
        dnnl_exec_arg_t args[3] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, target}};
        status = execute(engine, d, reorder, dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0),
                         args, 2);
    }
    if (reorder)
        dnnl_primitive_destroy(reorder);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (target)
        dnnl_memory_destroy(target);
    if (source)
        dnnl_memory_destroy(source);
    d->failure = status;
}

void bf_packed_apply(const bf_packed *p, size_t worker, size_t M, const float *A, size_t lda, bool add, float *C)
{
    desk *d = &p->room->desks[worker];
    const void *rows = d->failure ? NULL : tile_rows(d, A, lda, M, p->K, p->half);
    if (rows)
        multiply(p->room, worker, (void *const[]){(void *)(uintptr_t)rows, p->values, C},
                 (const size_t[FORM]){false, false, M, p->N, p->K, p->K, 0, add, p->N, p->half, true}, &p->layout);
}
