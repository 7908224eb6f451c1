#include "base/packed.h"

#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/gemm.h"
#include "base/real.h"

enum { GRANULE = BF_GRANULE, MAX_STEPS = 8 }; /* tiles of 1, 2, ... granules have a primitive each */

enum { FORM = 10 };

/* A product of operands as they stand, as one worker runs it. */
typedef struct {
    size_t form[FORM]; /* what multiply was asked */
    dnnl_primitive_t primitive;
    dnnl_memory_t operand[3]; /* A, B, C: without values of their own */
    dnnl_memory_desc_t scratch;
} raw;

/* One worker's room. */
typedef struct {
    dnnl_stream_t stream;
    uint16_t *a; /* [tile, widest] */
    char *scratch;
    size_t scratch_size;
    raw *made; /* [n_made] of [most_made] */
    size_t n_made, most_made;
    dnnl_status_t failure; /* the first of a raw product */
} desk;

struct bf_packing {
    dnnl_engine_t engine;
    size_t workers, steps, widest;
    desk *desks; /* [workers] */
};

struct bf_packed {
    bf_packing *room;
    size_t K, N;
    dnnl_memory_t weight;
    dnnl_primitive_t product[MAX_STEPS][2]; /* by granules - 1; plain, adding */
    dnnl_memory_desc_t src[MAX_STEPS], dst[MAX_STEPS], scratch[MAX_STEPS][2];
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
        const uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16, nan = (u >> 16) | 0x40;
        dst[k] = (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? nan : rounded);
    }
}

bf_code bf_packing_new(bf_packing **out, size_t workers, size_t tile, size_t widest_k, bf_error *err)
{
    if (tile && !bf_bf16_available())
        return bf_fail(err, BF_EUNSUPPORTED,
                       "this processor has no bfloat16 products (avx512_bf16), use --precision f32");
    if (tile % GRANULE || tile / GRANULE > MAX_STEPS)
        return bf_fail(err, BF_EARG, "tiles of %zu rows, a multiple of %d up to %d is wanted", tile, GRANULE,
                       GRANULE * MAX_STEPS);
    bf_packing *room = calloc(1, sizeof *room);
    bool ok = room && (!tile || widest_k < SIZE_MAX / 4 / tile);
    if (ok) {
        room->workers = workers;
        room->steps = tile / GRANULE;
        room->widest = widest_k;
        room->desks = calloc(workers, sizeof *room->desks);
        ok = room->desks && !dnnl_engine_create(&room->engine, dnnl_cpu, 0);
    }
    for (size_t k = 0; ok && k < workers; k++) {
        desk *d = &room->desks[k];
        d->a = tile ? aligned_alloc(64, (tile * widest_k * sizeof *d->a + 63) / 64 * 64) : NULL;
        ok = (d->a || !tile) && !dnnl_stream_create(&d->stream, room->engine, dnnl_stream_default_flags);
    }
    if (!ok) {
        bf_packing_free(room);
        return bf_fail(err, BF_ENOMEM, "cannot hold bfloat16 tiles of %zu x %zu", tile, widest_k);
    }
    *out = room;
    return BF_OK;
}

static void free_raw(raw *p)
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
        for (size_t p = 0; p < room->desks[k].n_made; p++)
            free_raw(&room->desks[k].made[p]);
        free(room->desks[k].made);
        if (room->desks[k].stream)
            dnnl_stream_destroy(room->desks[k].stream);
        free(room->desks[k].a);
        free(room->desks[k].scratch);
    }
    if (room->engine)
        dnnl_engine_destroy(room->engine);
    free(room->desks);
    free(room);
}

static dnnl_status_t matrix(dnnl_memory_desc_t *md, size_t rows, size_t cols, dnnl_data_type_t type,
                            bool any)
{
    const dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    return dnnl_memory_desc_init_by_tag(md, 2, dims, type, any ? dnnl_format_tag_any : dnnl_ab);
}

static dnnl_status_t need_scratch(desk *d, size_t size)
{
    if (size <= d->scratch_size)
        return dnnl_success;
    const size_t rounded = (size + 63) / 64 * 64;
    char *grown = aligned_alloc(64, rounded);
    if (!grown)
        return dnnl_out_of_memory;
    free(d->scratch);
    d->scratch = grown;
    d->scratch_size = rounded;
    return dnnl_success;
}

/* dst = src weight (+ dst if add). *chosen: the weight's layout, which the library may choose where
 * weight says any. */
static dnnl_status_t make_matmul(dnnl_primitive_t *out, dnnl_memory_desc_t *chosen,
                                 dnnl_memory_desc_t *scratch, const dnnl_memory_desc_t *src,
                                 const dnnl_memory_desc_t *weight, const dnnl_memory_desc_t *dst, bool add,
                                 dnnl_engine_t engine)
{
    dnnl_matmul_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = dnnl_matmul_desc_init(&desc, src, weight, NULL, dst);
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
        status = dnnl_primitive_desc_create(&pd, &desc, attr, engine, NULL);
    if (!status) {
        *chosen = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        *scratch = *dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
        status = dnnl_primitive_create(out, pd);
    }
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (ops)
        dnnl_post_ops_destroy(ops);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return status;
}

static dnnl_status_t make_products(bf_packed *p, dnnl_memory_desc_t *layout)
{
    dnnl_memory_desc_t any, chosen;
    dnnl_status_t status = matrix(&any, p->K, p->N, dnnl_bf16, true);
    for (size_t s = p->room->steps; s-- > 0 && !status;) {
        status = matrix(&p->src[s], (s + 1) * GRANULE, p->K, dnnl_bf16, false);
        if (!status)
            status = matrix(&p->dst[s], (s + 1) * GRANULE, p->N, dnnl_f32, false);
        for (int add = 0; add < 2 && !status; add++) {
            const bool first = s + 1 == p->room->steps && !add;
            status = make_matmul(&p->product[s][add], &chosen, &p->scratch[s][add], &p->src[s],
                                 first ? &any : layout, &p->dst[s], add, p->room->engine);
            if (!status && first)
                *layout = chosen;
        }
    }
    return status;
}

/* Run one primitive in the worker's room; the library's own scratchpad is not for two threads. */
static dnnl_status_t execute(dnnl_engine_t engine, desk *d, dnnl_primitive_t primitive,
                             const dnnl_memory_desc_t *scratch_md, dnnl_exec_arg_t *args, int n)
{
    dnnl_memory_t scratch = NULL;
    omp_set_num_threads(1); /* of this thread: the pool is ours */
    dnnl_status_t status = need_scratch(d, dnnl_memory_desc_get_size(scratch_md));
    if (!status)
        status = dnnl_memory_create(&scratch, scratch_md, engine, d->scratch);
    args[n] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, scratch};
    if (!status)
        status = dnnl_primitive_execute(primitive, d->stream, n + 1, args);
    if (!status)
        status = dnnl_stream_wait(d->stream);
    if (scratch)
        dnnl_memory_destroy(scratch);
    return status;
}

static dnnl_status_t reorder_desc(dnnl_primitive_desc_t *pd, const bf_packed *p,
                                  const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(&attr);
    if (!status)
        status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!status)
        status = dnnl_reorder_primitive_desc_create(pd, from, p->room->engine, to, p->room->engine, attr);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return status;
}

/* Round B, and let the library bring it into its layout. */
static dnnl_status_t pack(bf_packed *p, desk *d, const dnnl_memory_desc_t *layout, uint16_t *plain,
                          const float *B, size_t ldb, bool tb)
{
    const size_t rows = tb ? p->N : p->K, cols = tb ? p->K : p->N;
    const dnnl_dims_t dims = {(dnnl_dim_t)p->K, (dnnl_dim_t)p->N};
    dnnl_memory_desc_t from;
    dnnl_memory_t source = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t reorder = NULL;
    for (size_t r = 0; r < rows; r++)
        bf_bf16_round(plain + r * cols, B + r * ldb, cols);
    dnnl_status_t status = dnnl_memory_desc_init_by_tag(&from, 2, dims, dnnl_bf16, tb ? dnnl_ba : dnnl_ab);
    if (!status)
        status = dnnl_memory_create(&source, &from, p->room->engine, plain);
    if (!status)
        status = dnnl_memory_create(&p->weight, layout, p->room->engine, DNNL_MEMORY_ALLOCATE);
    if (!status)
        status = reorder_desc(&pd, p, &from, layout);
    if (!status)
        status = dnnl_primitive_create(&reorder, pd);
    if (!status) {
        dnnl_exec_arg_t args[3] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, p->weight}};
        status = execute(p->room->engine, d, reorder,
                         dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0), args, 2);
    }
    if (reorder)
        dnnl_primitive_destroy(reorder);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (source)
        dnnl_memory_destroy(source);
    return status;
}

bf_code bf_packed_new(bf_packed **out, bf_packing *room, size_t worker, size_t K, size_t N,
                      const float *B, size_t ldb, bool tb, bf_error *err)
{
    bf_packed *p = calloc(1, sizeof *p);
    uint16_t *plain = K > SIZE_MAX / 2 / (N + 1) ? NULL : malloc(K * N * sizeof *plain);
    dnnl_memory_desc_t layout;
    dnnl_status_t status = dnnl_out_of_memory;
    if (p && plain) {
        p->room = room;
        p->K = K;
        p->N = N;
        status = make_products(p, &layout);
        if (!status)
            status = pack(p, &room->desks[worker], &layout, plain, B, ldb, tb);
    }
    free(plain);
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
    if (!p)
        return;
    for (size_t s = 0; s < MAX_STEPS; s++)
        for (int add = 0; add < 2; add++)
            if (p->product[s][add])
                dnnl_primitive_destroy(p->product[s][add]);
    if (p->weight)
        dnnl_memory_destroy(p->weight);
    free(p);
}

bool bf_packed_apply(const bf_packed *p, size_t worker, size_t M, const float *A, size_t lda, bool add,
                     float *C)
{
    desk *d = &p->room->desks[worker];
    const size_t step = M / GRANULE - 1;
    dnnl_memory_t src = NULL, dst = NULL;
    for (size_t m = 0; m < M; m++)
        bf_bf16_round(d->a + m * p->K, A + m * lda, p->K);
    dnnl_status_t status = dnnl_memory_create(&src, &p->src[step], p->room->engine, d->a);
    if (!status)
        status = dnnl_memory_create(&dst, &p->dst[step], p->room->engine, C);
    if (!status) {
        dnnl_exec_arg_t args[4] = {
            {DNNL_ARG_SRC, src}, {DNNL_ARG_WEIGHTS, p->weight}, {DNNL_ARG_DST, dst}};
        status = execute(p->room->engine, d, p->product[step][add], &p->scratch[step][add], args, 3);
    }
    if (dst)
        dnnl_memory_destroy(dst);
    if (src)
        dnnl_memory_destroy(src);
    return !status;
}

/* ---- operands as they stand ---- */

/* rows x cols, values of a row (transposed: of a column) one after the other, ld to the next. */
static dnnl_status_t strided(dnnl_memory_desc_t *md, size_t rows, size_t cols, size_t ld, bool transposed,
                             dnnl_data_type_t type)
{
    const dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    const dnnl_dims_t steps = {transposed ? 1 : (dnnl_dim_t)ld, transposed ? (dnnl_dim_t)ld : 1};
    return dnnl_memory_desc_init_by_strides(md, 2, dims, type, steps);
}

static dnnl_status_t make_raw(raw *p, dnnl_engine_t engine, const size_t form[FORM])
{
    const size_t M = form[2], N = form[3], K = form[4];
    const dnnl_data_type_t type = form[9] ? dnnl_bf16 : dnnl_f32;
    dnnl_memory_desc_t md[3], chosen;
    *p = (raw){0};
    memcpy(p->form, form, sizeof p->form);
    dnnl_status_t status = strided(&md[0], M, K, form[5], form[0], type);
    if (!status)
        status = strided(&md[1], K, N, form[6], form[1], type);
    if (!status)
        status = strided(&md[2], M, N, form[8], false, dnnl_f32);
    if (!status)
        status = make_matmul(&p->primitive, &chosen, &p->scratch, &md[0], &md[1], &md[2], form[7], engine);
    for (size_t k = 0; k < 3 && !status; k++)
        status = dnnl_memory_create(&p->operand[k], &md[k], engine, DNNL_MEMORY_NONE);
    if (status)
        free_raw(p);
    return status;
}

/* The worker's product of this form, made when it is first asked for. */
static dnnl_status_t find_raw(raw **out, desk *d, dnnl_engine_t engine, const size_t form[FORM])
{
    for (size_t k = 0; k < d->n_made; k++)
        if (!memcmp(d->made[k].form, form, sizeof d->made[k].form)) {
            *out = &d->made[k];
            return dnnl_success;
        }
    if (d->n_made == d->most_made) {
        const size_t most = 2 * d->most_made + 16;
        raw *grown = realloc(d->made, most * sizeof *grown);
        if (!grown)
            return dnnl_out_of_memory;
        d->made = grown;
        d->most_made = most;
    }
    const dnnl_status_t status = make_raw(&d->made[d->n_made], engine, form);
    if (!status)
        *out = &d->made[d->n_made++];
    return status;
}

/* values: A, B, C; form: ta, tb, M, N, K, lda, ldb, add, ldc, and whether A and B are bfloat16. */
static void multiply(bf_packing *room, size_t worker, void *const values[3], const size_t form[FORM])
{
    static const int names[3] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    desk *d = &room->desks[worker];
    dnnl_exec_arg_t args[4];
    raw *p = NULL;
    if (!form[2] || !form[3] || !form[4] || d->failure)
        return;
    dnnl_status_t status = find_raw(&p, d, room->engine, form);
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
             (const size_t[]){ta, tb, M, N, K, lda, ldb, add, ldc, true});
}

void bf_room_gemm_f32(bf_packing *room, size_t worker, bool ta, bool tb, size_t M, size_t N, size_t K,
                      const float *A, size_t lda, const float *B, size_t ldb, bool add, float *C, size_t ldc)
{
    multiply(room, worker, (void *const[]){(void *)(uintptr_t)A, (void *)(uintptr_t)B, C},
             (const size_t[]){ta, tb, M, N, K, lda, ldb, add, ldc, false});
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
