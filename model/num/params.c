#include "model/num/params.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/blend.h"
#include "model/convert.h"

enum { MATS = 7, VECS = 4, MAT_CHECK = 1 << 16 };

/* One layer's converted values. */
typedef struct {
    R(bf_block) block;
    bf_arena *arena;
    bool full;
} slot;

struct R(bf_params) {
    const bf_model *model;
    bf_pool *pool;
    slot *slots; /* [kept ? L : 1] */
    bool kept;
    size_t held; /* the layer in the single slot */
    R(bf_mat) head;
    real *final_w, *final_b, *row; /* row [D]: scratch of bf_params_embed */
    bf_arena *arena;               /* final norm, head, row */
    bf_packing *room; /* NULL: BLAS multiplies */
    bf_packed *packed[MATS]; /* of one layer at a time: packed_of[k] - 1 (0: of none) */
    size_t packed_of[MATS];
    bf_blend *blend; /* of layer blend_of - 1 */
    size_t blend_of;
    bool half; /* VJPs in bfloat16 */
    bool *checked;   /* [L] this layer's mapped values are known to be finite */
};

/* Can the numeric parts read the file's bytes as they stand? */
static bool native(const bf_matrix *m)
{
    return m->dtype == BF_REAL_DTYPE && (uintptr_t)m->data % sizeof(real) == 0;
}

static size_t mat_need(const bf_matrix *m)
{
    return m->data && !native(m) ? bf_arena_need(m->out, m->in * sizeof(real)) : 0;
}

static size_t layer_need(const bf_config *c, const bf_layer *w)
{
    const bf_matrix *mats[MATS] = {&w->q, &w->k, &w->v, &w->o, &w->mlp_in, &w->mlp_gate,
                                   &w->mlp_out};
    size_t need = 4 * bf_arena_need(c->D, sizeof(real)) + 2 * bf_arena_need(c->F, sizeof(real)) +
                  2 * bf_arena_need(c->D, sizeof(real)) +
                  bf_arena_need((c->H + 2 * c->G) * c->K, sizeof(real)) + bf_arena_need(c->H, sizeof(real));
    for (size_t k = 0; k < MATS; k++)
        need += mat_need(mats[k]);
    return need;
}

BF_HOT bool R(bf_all_finite)(const real *x, size_t n)
{
    real sum = 0; /* 0 * x is NaN exactly where x is NaN or Inf */
#pragma omp simd reduction(+ : sum)
    for (size_t k = 0; k < n; k++)
        sum += x[k] * (real)0;
    return sum == (real)0;
}

static bf_code check_native(const bf_matrix *m, bf_error *err)
{
    const size_t rows = m->in_major ? m->in : m->out, cols = m->in_major ? m->out : m->in;
    for (size_t r = 0; r < rows; r++) {
        const real *row = (const real *)m->data + r * m->ld;
        if (!R(bf_all_finite)(row, cols))
            return bf_fail(err, BF_ENONFINITE, "%s holds NaN or Inf in row %zu", m->name, r);
    }
    return BF_OK;
}

enum { NARROW = 48 };

/* The matrix as the file has it. Products with narrow ones are BLAS's: oneDNN's take longer to begin. */
static R(bf_mat) view(const R(bf_params) *p, const bf_matrix *m)
{
    return (R(bf_mat)){.w = m->data, .out = m->out, .in = m->in, .ld = m->ld, .in_major = m->in_major,
                       .room = m->out < NARROW || m->in < NARROW ? NULL : p->room};
}

/* A view of the file, or a converted copy in the arena. */
static bf_code load_matrix(R(bf_mat) *out, const R(bf_params) *p, const bf_matrix *m, bf_arena *arena,
                           bf_error *err)
{
    *out = view(p, m);
    if (native(m))
        return check_native(m, err);
    real *dst = bf_arena_take(arena, m->out, m->in * sizeof(real));
    if (!dst)
        return bf_fail(err, BF_ENOMEM, "cannot hold %s", m->name);
    out->w = dst;
    out->ld = m->in_major ? m->out : m->in;
    return R(bf_matrix)(dst, m, m->in_major, err);
}

/* What one task converts. */
typedef struct {
    const bf_matrix *from[MATS];
    R(bf_mat) *to[MATS];
    bf_arena *arena[MATS]; /* carved beforehand, so that tasks do not share one */
    bf_code code[MATS];
    bf_error err[MATS];
    bool check;
} conversion;

static void convert_task(void *context, size_t k, size_t worker)
{
    (void)worker;
    conversion *c = context;
    const bf_matrix *m = c->from[k];
    if (!m->data)
        return;
    if (native(m))
        c->code[k] = c->check ? check_native(m, &c->err[k]) : BF_OK;
    else
        c->code[k] = R(bf_matrix)((real *)(uintptr_t)c->to[k]->w, m, m->in_major, &c->err[k]);
}

static bf_code load_matrices(slot *s, const R(bf_params) *p, const bf_layer *w, bool check,
                             bf_error *err)
{
    R(bf_block) *b = &s->block;
    conversion c = {
        .from = {&w->q, &w->k, &w->v, &w->o, &w->mlp_in, &w->mlp_gate, &w->mlp_out},
        .to = {&b->qkv[0], &b->qkv[1], &b->qkv[2], &b->o, &b->mlp_in, &b->mlp_gate, &b->mlp_out},
        .check = check};
    for (size_t k = 0; k < MATS; k++) {
        const bf_matrix *m = c.from[k];
        *c.to[k] = view(p, m);
        if (!m->data || native(m))
            continue;
        c.to[k]->ld = m->in_major ? m->out : m->in;
        c.to[k]->w = bf_arena_take(s->arena, m->out, m->in * sizeof(real));
        if (!c.to[k]->w)
            return bf_fail(err, BF_ENOMEM, "cannot hold %s", m->name);
    }
    bf_pool_run(p->pool, MATS, convert_task, &c);
    for (size_t k = 0; k < MATS; k++)
        if (c.code[k]) {
            if (err)
                *err = c.err[k];
            return c.code[k];
        }
    return BF_OK;
}

static bf_code take_vector(real **out, bf_arena *arena, const bf_vector *v, bf_error *err)
{
    *out = NULL;
    if (!v->data)
        return BF_OK;
    *out = bf_arena_take(arena, v->n, sizeof(real));
    if (!*out)
        return bf_fail(err, BF_ENOMEM, "cannot hold %s", v->name);
    return R(bf_vector)(*out, v, err);
}

static bf_code load_qkv_bias(real **out, bf_arena *arena, const bf_layer *w, const bf_config *c,
                             bf_error *err)
{
    *out = NULL;
    if (!w->q_b.data && !w->k_b.data && !w->v_b.data)
        return BF_OK;
    real *b = bf_arena_take(arena, (c->H + 2 * c->G) * c->K, sizeof(real));
    if (!b)
        return bf_fail(err, BF_ENOMEM, "cannot hold the attention biases");
    for (size_t k = 0; k < (c->H + 2 * c->G) * c->K; k++)
        b[k] = 0;
    bf_code rc = w->q_b.data ? R(bf_vector)(b, &w->q_b, err) : BF_OK;
    if (!rc && w->k_b.data)
        rc = R(bf_vector)(b + c->H * c->K, &w->k_b, err);
    if (!rc && w->v_b.data)
        rc = R(bf_vector)(b + (c->H + c->G) * c->K, &w->v_b, err);
    *out = b;
    return rc;
}

static bf_code load_layer(R(bf_params) *p, slot *s, size_t l, bf_error *err)
{
    const bf_layer *w = &p->model->weights.layer[l];
    R(bf_block) *b = &s->block;
    bf_arena_reset(s->arena, 0);
    bf_code rc = load_matrices(s, p, w, !p->checked[l], err);
    const bf_vector *from[] = {&w->norm1_w, &w->norm1_b, &w->norm2_w, &w->norm2_b,
                               &w->o_b, &w->mlp_in_b, &w->mlp_gate_b, &w->mlp_out_b, &w->gate};
    real **to[] = {&b->norm1_w, &b->norm1_b, &b->norm2_w, &b->norm2_b,
                   &b->o_b, &b->mlp_in_b, &b->mlp_gate_b, &b->mlp_out_b, &b->gate};
    for (size_t k = 0; k < sizeof to / sizeof *to && !rc; k++)
        rc = take_vector(to[k], s->arena, from[k], err);
    if (!rc)
        rc = load_qkv_bias(&b->qkv_b, s->arena, w, &p->model->config, err);
    p->checked[l] = p->checked[l] || !rc;
    s->full = !rc;
    return rc;
}

bf_code R(bf_params_failed)(const R(bf_params) *p, bf_error *err)
{
    return p->room ? bf_room_failed(p->room, err) : BF_OK;
}

bf_code R(bf_params_layer)(const R(bf_block) **out, R(bf_params) *p, size_t l, bf_error *err)
{
    slot *s = &p->slots[p->kept ? l : 0];
    if (!s->full || (!p->kept && p->held != l)) {
        s->full = false;
        const bf_code rc = load_layer(p, s, l, err);
        if (rc)
            return rc;
        p->held = l;
    }
    *out = &s->block;
    return BF_OK;
}

#if BF_BITS == 32
static bool dense(const R(bf_mat) *m)
{
    return m->ld == (m->in_major ? m->out : m->in);
}

/* Packing pays from so many rows on. The bits are the same: what is packed for few rows, too, is what oneDNN would
 * not multiply alike as it stands. */
static bool packs(const R(bf_params) *p, const R(bf_mat) *m, size_t rows)
{
    enum { PAYS = 800 };
    return m->w && (p->half || (m->room && (rows >= PAYS || !dense(m))));
}

enum { IN = 1, GATE = 2, Q = 4, K = 5 }; /* of a packing_job's mats */

typedef struct {
    R(bf_params) *params;
    R(bf_mat) *mats[MATS];
    size_t l;
} packing_job;

/* A matrix; then a panel of one of the blend's two. */
static void pack_task(void *context, size_t task, size_t worker)
{
    const packing_job *job = context;
    R(bf_params) *p = job->params;
    const size_t k = task < MATS ? task : (task - MATS) % 2 ? GATE : IN;
    const R(bf_mat) *m = job->mats[k];
    if (task >= MATS)
        bf_blend_fill(p->blend, worker, (task - MATS) % 2, (task - MATS) / 2, m->w, m->ld, m->in_major);
    else if (m->packed && p->packed_of[k] != job->l + 1)
        bf_packed_fill(p->packed[k], worker, m->w, m->ld, m->in_major);
}

static bf_code take_packed(R(bf_params) *p, size_t k, const R(bf_mat) *m, bf_error *err)
{
    if (bf_packed_fits(p->packed[k], m->out, m->in, p->half))
        return BF_OK;
    bf_packed_free(p->packed[k]);
    p->packed[k] = NULL;
    p->packed_of[k] = 0;
    return bf_packed_new(&p->packed[k], p->room, m->out, m->in, p->half, err);
}

static bf_code take_blend(R(bf_params) *p, const R(bf_mat) *m, bf_error *err)
{
    if (bf_blend_fits(p->blend, m->out, m->in, p->half))
        return BF_OK;
    bf_blend_free(p->blend);
    p->blend = NULL;
    p->blend_of = 0;
    return bf_blend_new(&p->blend, p->room, m->out, m->in, p->half, err);
}

static bf_code pack_layer(R(bf_params) *p, R(bf_block) *b, size_t l, size_t rows, bool blend, bool cross,
                          bf_error *err)
{
    packing_job job = {p, {&b->mlp_out, &b->mlp_in, &b->mlp_gate, &b->o, &b->qkv[0], &b->qkv[1], &b->qkv[2]}, l};
    bf_code rc = blend ? take_blend(p, &b->mlp_in, err) : BF_OK;
    if (rc == BF_EUNSUPPORTED) { /* another layout of the library's: the two apart, then */
        blend = false;
        rc = BF_OK;
    }
    for (size_t k = 0; k < MATS && !rc; k++) {
        R(bf_mat) *m = job.mats[k];
        const bool pack = packs(p, m, rows) && !(blend && (k == IN || k == GATE)) && !(cross && (k == Q || k == K));
        if (pack)
            rc = take_packed(p, k, m, err);
        m->packed = pack ? p->packed[k] : NULL;
    }
    b->blend = blend ? p->blend : NULL;
    if (rc)
        return rc;
    bf_pool_run(p->pool, MATS + (blend && p->blend_of != l + 1 ? 2 * bf_blend_panels(p->blend) : 0), pack_task, &job);
    for (size_t k = 0; k < MATS; k++)
        if (job.mats[k]->packed)
            p->packed_of[k] = l + 1;
    if (blend)
        p->blend_of = l + 1;
    return BF_OK;
}
#endif

bool R(bf_mlp_blends)(const bf_config *c)
{
    return BF_BITS == 32 && c->gated && c->D >= NARROW && c->F >= NARROW && bf_room_gemm_pays();
}

bool R(bf_attention_crosses)(const bf_config *c)
{
    return BF_BITS == 32 && c->pos != BF_POS_ROTARY && c->D >= NARROW && c->G * c->K >= NARROW && bf_room_gemm_pays();
}

bf_code R(bf_params_vjp_layer)(const R(bf_block) **out, R(bf_params) *p, size_t l, size_t rows, bool blend,
                               bool cross, bf_error *err)
{
    bf_code rc = R(bf_params_layer)(out, p, l, err);
#if BF_BITS == 32
    if (!rc && p->room)
        rc = pack_layer(p, &p->slots[p->kept ? l : 0].block, l, rows, blend, cross, err);
#else
    (void)rows;
    (void)blend;
    (void)cross;
#endif
    return rc;
}

bf_code R(bf_params_bf16)(R(bf_params) *p, bool on, bf_error *err)
{
    if (on && (BF_BITS != 32 || !p->room || !bf_bf16_available()))
        return bf_fail(err, BF_EUNSUPPORTED,
                       "this processor has no bfloat16 products (avx512_bf16), use --precision f32");
    p->half = on;
    return BF_OK;
}

bool R(bf_params_half)(const R(bf_params) *p)
{
    return p->half;
}

/* Positions and embedding rows are read as they come; they are checked here, once. */
static bf_code check_table(const bf_matrix *m, bf_error *err)
{
    if (!m->data)
        return BF_OK;
    if (native(m))
        return check_native(m, err);
    real *row = malloc(m->in * sizeof *row);
    if (!row)
        return bf_fail(err, BF_ENOMEM, "cannot hold a row of %s", m->name);
    bf_code rc = BF_OK;
    for (size_t o = 0; o < m->out && !rc; o++) {
        bf_matrix one = *m;
        one.out = 1;
        one.data = (const char *)m->data + o * m->ld * bf_dtype_size(m->dtype);
        rc = R(bf_matrix)(row, &one, false, err);
    }
    free(row);
    return rc;
}

static bf_code load_ends(R(bf_params) *p, bf_error *err)
{
    const bf_weights *w = &p->model->weights;
    const size_t bytes = mat_need(&w->head) + 3 * bf_arena_need(p->model->config.D, sizeof(real));
    bf_code rc = bf_arena_new(&p->arena, bytes, err);
    if (!rc)
        rc = load_matrix(&p->head, p, &w->head, p->arena, err);
    if (!rc && w->embed.data != w->head.data)
        rc = check_table(&w->embed, err);
    if (!rc)
        rc = check_table(&w->pos, err);
    if (!rc)
        rc = take_vector(&p->final_w, p->arena, &w->final_w, err);
    if (!rc)
        rc = take_vector(&p->final_b, p->arena, &w->final_b, err);
    if (!rc && !(p->row = bf_arena_take(p->arena, p->model->config.D, sizeof(real))))
        rc = bf_fail(err, BF_ENOMEM, "cannot hold an embedding");
    return rc;
}

typedef struct {
    R(bf_params) *params;
    bf_error *err;
    bf_code code;
} start;

static void start_task(void *context, size_t task, size_t worker)
{
    start *s = context;
    if (task == 0)
        s->code = load_ends(s->params, s->err);
    else
        bf_room_start(s->params->room, worker);
}

bf_code R(bf_params_new)(R(bf_params) **out, const bf_model *model, size_t keep, bf_pool *pool,
                         bf_error *err)
{
    const size_t L = model->config.L;
    size_t all = 0, largest = 0;
    for (size_t l = 0; l < L; l++) {
        const size_t need = layer_need(&model->config, &model->weights.layer[l]);
        all += need;
        largest = need > largest ? need : largest;
    }
    R(bf_params) *p = calloc(1, sizeof *p);
    if (!p)
        return bf_fail(err, BF_ENOMEM, "cannot hold the weights");
    p->model = model;
    p->pool = pool;
    p->kept = all <= keep;
    p->held = L;
    p->slots = calloc(p->kept ? L : 1, sizeof *p->slots);
    p->checked = calloc(L, sizeof *p->checked);
    bf_code rc = p->slots && p->checked ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold the weights");
    for (size_t l = 0; l < (p->kept ? L : 1) && !rc; l++)
        rc = bf_arena_new(&p->slots[l].arena,
                          p->kept ? layer_need(&model->config, &model->weights.layer[l]) : largest, err);
#if BF_BITS == 32
    if (!rc && bf_room_gemm_pays())
        rc = bf_packing_new(&p->room, bf_pool_threads(pool), err);
#endif
    if (!rc) {
        start s = {.params = p, .err = err};
        bf_pool_run(pool, p->room ? 2 : 1, start_task, &s);
        rc = s.code;
    }
    if (rc) {
        R(bf_params_free)(p);
        return rc;
    }
    *out = p;
    return BF_OK;
}

void R(bf_params_free)(R(bf_params) *p)
{
    if (!p)
        return;
    for (size_t l = 0; p->slots && l < (p->kept ? p->model->config.L : 1); l++)
        bf_arena_free(p->slots[l].arena);
    for (size_t k = 0; k < MATS; k++)
        bf_packed_free(p->packed[k]);
    bf_blend_free(p->blend);
    bf_packing_free(p->room);
    bf_arena_free(p->arena);
    free(p->slots);
    free(p->checked);
    free(p);
}

/* Row o of m, to x [m->in]; the values were checked before. */
static void read_row(real *x, const bf_matrix *m, size_t o)
{
    bf_matrix one = *m;
    one.out = 1;
    one.data = (const char *)m->data + o * m->ld * bf_dtype_size(m->dtype);
    R(bf_matrix)(x, &one, false, NULL);
}

void R(bf_params_embed)(real *x, const R(bf_params) *p, size_t token, size_t j)
{
    const bf_config *c = &p->model->config;
    read_row(x, &p->model->weights.embed, token);
    if (c->pos != BF_POS_LEARNED)
        return;
    read_row(p->row, &p->model->weights.pos, j);
    for (size_t d = 0; d < c->D; d++)
        x[d] += p->row[d];
}

const R(bf_mat) *R(bf_params_head)(const R(bf_params) *p)
{
    return &p->head;
}

const real *R(bf_params_final_w)(const R(bf_params) *p)
{
    return p->final_w;
}

const real *R(bf_params_final_b)(const R(bf_params) *p)
{
    return p->final_b;
}
