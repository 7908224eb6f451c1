#include "model/num/train.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/packed.h"

enum { CHUNK_VALUES = 1 << 23 }; /* logits held at once, about */

typedef struct {
    R(bf_train) train;
    bf_config config;
    bf_weights weights;
} whole; /* train first: what callers hold points at it */

static size_t tiles_of(size_t rows)
{
    return (rows + BF_TRAIN_TILE - 1) / BF_TRAIN_TILE;
}

void R(bf_train_shape)(R(bf_train) *t, size_t B, size_t T)
{
    t->B = B;
    t->T = T;
    t->rows = B * T;
    t->tiles = tiles_of(t->rows);
    t->single = false;
}

void R(bf_train_single)(R(bf_train) *t, size_t position)
{
    t->single = true;
    t->position = position;
    t->tiles = tiles_of(t->B);
}

/* ---- views of one array ---- */

static R(bf_mat) view(const bf_matrix *m, size_t out)
{
    return (R(bf_mat)){.w = m->data, .out = out, .in = m->in, .ld = m->ld, .in_major = m->in_major};
}

static real *vector(const bf_vector *v)
{
    return (real *)(uintptr_t)v->data;
}

static R(bf_train_block) bind_block(const bf_config *c, const bf_layer *w)
{
    const bf_vector *up_b = c->gated ? &w->mlp_gate_b : &w->mlp_in_b;
    return (R(bf_train_block)){.norm1_w = vector(&w->norm1_w),
                               .norm1_b = vector(&w->norm1_b),
                               .norm2_w = vector(&w->norm2_w),
                               .norm2_b = vector(&w->norm2_b),
                               .qkv_b = vector(&w->q_b),
                               .o_b = vector(&w->o_b),
                               .up_b = vector(up_b),
                               .out_b = vector(&w->mlp_out_b),
                               .gate = vector(&w->gate),
                               .qkv = view(&w->q, (c->H + 2 * c->G) * c->K),
                               .o = view(&w->o, c->D),
                               .up = view(c->gated ? &w->mlp_gate : &w->mlp_in, (c->gated ? 2 : 1) * c->F),
                               .out = view(&w->mlp_out, c->D)};
}

static real *move(real *p, size_t by)
{
    return p ? p + by : NULL;
}

/* The block of the same layout `by` values further on. */
static R(bf_train_block) move_block(R(bf_train_block) b, size_t by)
{
    real **const p[] = {&b.norm1_w, &b.norm1_b, &b.norm2_w, &b.norm2_b,
                        &b.qkv_b,   &b.o_b,     &b.up_b,    &b.out_b, &b.gate};
    R(bf_mat) *const m[] = {&b.qkv, &b.o, &b.up, &b.out};
    for (size_t k = 0; k < sizeof p / sizeof *p; k++)
        *p[k] = move(*p[k], by);
    for (size_t k = 0; k < sizeof m / sizeof *m; k++)
        m[k]->w += by;
    return b;
}

static size_t extra_heads(const bf_train_config *config)
{
    return config->objective == BF_OBJECTIVE_HEADS ? config->heads - 1 : 0;
}

static void bind(R(bf_train) *t, const bf_config *c, const bf_weights *w)
{
    const size_t extra = extra_heads(t->config);
    for (size_t l = 0; l < c->L; l++)
        t->block[l] = bind_block(c, &w->layer[l]);
    for (size_t k = 0; k < extra; k++)
        t->block[c->L + k] = move_block(t->block[c->L - 1], (k + 1) * t->layout->layer_values);
    t->embed = view(&w->embed, c->V);
    t->head = view(&w->head, c->V);
    t->pos = w->pos.data ? view(&w->pos, c->pos_rows) : (R(bf_mat)){0};
    t->final_w = vector(&w->final_w);
    t->final_b = vector(&w->final_b);
}

/* ---- room ---- */

static real *rows(bf_room *to, size_t n, size_t width)
{
    return bf_room_rows(to, n, width, sizeof(real));
}

/* Of what mixed precision rounds; nothing without. */
static uint16_t *halves(bf_room *to, const R(bf_train) *t, size_t n, size_t width)
{
    return t->config->bf16 ? bf_room_rows(to, n, width, sizeof(uint16_t)) : NULL;
}

static void lay_acts(bf_room *to, R(bf_train_acts) *a, const bf_config *c, const R(bf_train) *t)
{
    const size_t R = t->rows, D = c->D;
    const bool delta = bf_config_delta(c);
    *a = (R(bf_train_acts)){.x = rows(to, R, D),
                            .mid = rows(to, R, D),
                            .normed1 = rows(to, R, D),
                            .normed2 = rows(to, R, D),
                            .mean1 = rows(to, R, 1),
                            .rstd1 = rows(to, R, 1),
                            .mean2 = rows(to, R, 1),
                            .rstd2 = rows(to, R, 1),
                            .qkv = rows(to, R, (c->H + 2 * c->G) * c->K),
                            .pattern = rows(to, R, c->H * t->T),
                            .u = delta ? rows(to, R, c->G * c->K) : NULL,
                            .links = delta ? rows(to, R, c->G * t->T) : NULL,
                            .z = rows(to, R, c->H * c->K),
                            .slope = rows(to, R, (c->gated ? 2 : 1) * c->F),
                            .hidden = rows(to, R, c->F),
                            .half_normed1 = halves(to, t, R, D),
                            .half_normed2 = halves(to, t, R, D),
                            .half_z = halves(to, t, R, c->H * c->K),
                            .half_hidden = halves(to, t, R, c->F)};
}

static void lay_back(bf_room *to, R(bf_train) *t, const bf_config *c)
{
    const size_t R = t->rows, D = c->D;
    t->dx[0] = rows(to, R, D);
    t->dx[1] = rows(to, R, D);
    t->dmid = rows(to, R, D);
    t->dqkv = rows(to, R, (c->H + 2 * c->G) * c->K);
    t->dz = rows(to, R, c->H * c->K);
    t->dup = rows(to, R, (c->gated ? 2 : 1) * c->F);
    t->dqkv_whole = t->config->cut == BF_CUT_STATES ? rows(to, R, (c->H + 2 * c->G) * c->K) : NULL;
    t->dtrunk = extra_heads(t->config) ? rows(to, R, D) : NULL;
    if (t->config->dropout.residual > 0) {
        t->dattn_out = rows(to, R, D);
        t->dmlp_out = rows(to, R, D);
    }
    t->partial = rows(to, 4 * t->tiles, D);
}

static void lay_halves(bf_room *to, R(bf_train) *t, const bf_config *c)
{
    const size_t R = t->rows, D = c->D;
    t->half_param = halves(to, t, t->layout->values, 1);
    t->half_kept = t->config->cut == BF_CUT_LOCAL ? halves(to, t, t->layout->values, 1) : NULL;
    t->half_dy = halves(to, t, R, D);
    t->half_dmid = halves(to, t, R, D);
    t->half_dqkv = halves(to, t, R, (c->H + 2 * c->G) * c->K);
    t->half_dup = halves(to, t, R, (c->gated ? 2 : 1) * c->F);
    t->half_normed = halves(to, t, R, D);
    t->half_logits = halves(to, t, t->chunk, c->V);
}

static void lay_kept(bf_room *to, R(bf_train) *t, const bf_config *c)
{
    t->kept_block = bf_room_take(to, c->L, sizeof *t->kept_block);
    t->kept_param = rows(to, t->layout->values, 1);
    t->kept = rows(to, t->rows, c->L * (c->H + 2 * c->G) * c->K);
}

static void lay(bf_room *to, R(bf_train) *t, const bf_config *c, size_t threads)
{
    const size_t R = t->rows, D = c->D, half = c->pos == BF_POS_ROTARY ? c->rotary_dim / 2 : 0;
    real **const all[] = {&t->param, &t->grad, &t->moment[0], &t->moment[1]};
    for (size_t k = 0; k < 4; k++)
        *all[k] = rows(to, t->layout->values, 1);
    t->block = bf_room_take(to, c->L + extra_heads(t->config), sizeof *t->block);
    R(bf_train_acts) spare, *acts = t->acts = bf_room_take(to, c->L, sizeof *t->acts);
    for (size_t l = 0; l < c->L; l++)
        lay_acts(to, acts ? &acts[l] : &spare, c, t);
    t->cosines = rows(to, t->T, half);
    t->sines = rows(to, t->T, half);
    t->last = rows(to, R, D);
    t->normed = rows(to, R, D);
    t->mean = rows(to, R, 1);
    t->rstd = rows(to, R, 1);
    t->logits = rows(to, t->chunk, c->V);
    lay_back(to, t, c);
    lay_halves(to, t, c);
    if (t->config->cut == BF_CUT_LOCAL)
        lay_kept(to, t, c);
    t->dgate = bf_room_take(to, t->B * c->H, sizeof(double));
    t->row_loss = bf_room_take(to, R, sizeof(double));
    t->row_right = bf_room_take(to, R, sizeof(uint8_t));
    t->squares = bf_room_take(to, t->layout->values / BF_TRAIN_PIECE + t->layout->n, sizeof(double));
    t->positions = bf_room_take(to, t->T, sizeof(unsigned));
    R(bf_train_desk) none, *desk = t->desk = bf_room_take(to, threads, sizeof *t->desk);
    for (size_t k = 0; k < threads; k++) {
        R(bf_train_desk) *d = desk ? &desk[k] : &none;
        d->wide = rows(to, BF_TRAIN_TILE, c->F);
        d->rows = rows(to, BF_TRAIN_TILE, D);
        d->attention = bf_room_take(to, bf_attention_vjp_scratch(t->T, c->K, bf_config_delta(c)),
                                    sizeof(real));
        d->factor = t->config->dropout.attention > 0 ? rows(to, t->T, t->T) : NULL;
    }
}

/* Sizes alone, as bf_train_new and bf_train_bytes need them. */
static bool set_sizes(R(bf_train) *t, const bf_config *c, size_t B, size_t T)
{
    if (!B || !T || B > INT32_MAX / T || T > INT32_MAX / 64)
        return false;
    R(bf_train_shape)(t, B, T);
    const size_t fit = CHUNK_VALUES / c->V / BF_TRAIN_TILE, tiles = fit ? fit : 1;
    t->chunk = (tiles < t->tiles ? tiles : t->tiles) * BF_TRAIN_TILE;
    return true;
}

size_t R(bf_train_bytes)(const bf_train_config *config, const bf_train_layout *layout,
                         const bf_config *model, size_t B, size_t T)
{
    R(bf_train) t = {.config = config, .layout = layout};
    bf_room count = {0};
    if (!set_sizes(&t, model, B, T))
        return SIZE_MAX;
    lay(&count, &t, model, 1);
    return count.failed ? SIZE_MAX : count.bytes;
}

static bf_code make_room(R(bf_train) *t, const bf_config *c, bf_error *err)
{
    const size_t threads = bf_pool_threads(t->pool);
    bf_room count = {0};
    lay(&count, t, c, threads);
    bf_code rc = BF_OK;
    if (count.failed)
        rc = bf_fail(err, BF_ENOMEM, "%zu sequences of %zu positions overflow", t->B, t->T);
    if (!rc)
        rc = bf_arena_new(&t->arena, count.bytes, err);
    bf_room to = {.arena = t->arena};
    if (!rc) {
        lay(&to, t, c, threads);
        if (to.failed)
            rc = bf_fail(err, BF_ENOMEM, "cannot hold %zu bytes of weights and activations", count.bytes);
    }
    return rc;
}

bf_code R(bf_train_new)(R(bf_train) **out, const bf_train_config *config, const bf_train_layout *layout,
                        bf_pool *pool, size_t B, size_t T, bf_error *err)
{
    whole *w = calloc(1, sizeof *w);
    bf_config sizes = {0};
    bf_weights none = {0};
    if (!w)
        return bf_fail(err, BF_ENOMEM, "cannot hold a training");
    R(bf_train) *t = &w->train;
    t->config = config;
    t->layout = layout;
    t->pool = pool;
    bf_code rc = bf_train_bind(&sizes, &none, layout, NULL, BF_REAL_DTYPE, err);
    if (!rc && !set_sizes(t, &sizes, B, T))
        rc = bf_fail(err, BF_EARG, "batches of %zu sequences of %zu positions, wanted 1 to %d in all", B, T,
                     INT32_MAX);
    if (!rc)
        rc = make_room(t, &sizes, err);
    if (!rc && (config->bf16 || (BF_REAL_DTYPE == BF_F32 && bf_room_gemm_pays())))
        rc = bf_packing_new(&t->packing, bf_pool_threads(pool), err);
    bf_train_unbind(&sizes, &none);
    if (!rc)
        rc = bf_train_bind(&w->config, &w->weights, layout, t->param, BF_REAL_DTYPE, err);
    if (rc) {
        R(bf_train_free)(t);
        return rc;
    }
    t->c = &w->config;
    bind(t, t->c, &w->weights);
    for (size_t l = 0; l < t->c->L && t->kept_block; l++)
        t->kept_block[l] = move_block(t->block[l], (size_t)(t->kept_param - t->param));
    for (size_t j = 0; j < T; j++)
        t->positions[j] = (unsigned)j;
    if (t->c->pos == BF_POS_ROTARY)
        R(bf_rotary_tables)(t->cosines, t->sines, t->c, T);
    *out = t;
    return BF_OK;
}

void R(bf_train_free)(R(bf_train) *t)
{
    whole *w = (whole *)t;
    if (!t)
        return;
    bf_train_unbind(&w->config, &w->weights);
    bf_packing_free(t->packing);
    bf_arena_free(t->arena);
    free(w);
}
