/* Forward runs without a walk: losses of a text, and what the model thinks comes next. */
#include "tracer/measure.h"

#include <math.h>
#include <stdlib.h>

#include "base/gemm.h"

bf_code bf_forwards_new(bf_forwards *f, const bf_subject *s, size_t N, bf_error *err)
{
    bf_model *model = s->model;
    const bf_config *c = &model->config;
    const size_t bytes = bf_acts_bytes_f64(c, N, true) + bf_forward_scratch_f64(c, N) +
                         bf_arena_need(c->D, sizeof(double)) +
                         bf_arena_need(N + 1, sizeof(int64_t));
    *f = (bf_forwards){.model = model, .N = N, .stop = s->query->stop};
    if (c->P && N > c->P)
        return bf_fail(err, BF_EARG, "%zu tokens, the model knows %zu positions", N, c->P);
    const double work = (double)(c->L * N) * (double)(c->D * (4 * c->D + 3 * c->F));
    bf_gemm_init();
    /* sharing out a small run takes longer than running it */
    bf_code rc = bf_pool_new(&f->pool, work < 2e6 ? 1 : s->query->threads, err);
    if (!rc)
        rc = bf_arena_new(&f->arena, bytes + 65536, err);
    if (!rc)
        rc = bf_params_new_f64(&f->params, model, SIZE_MAX, f->pool, err);
    if (!rc)
        rc = bf_acts_new_f64(&f->acts, c, N, true, f->arena, err);
    f->normed = rc ? NULL : bf_arena_take(f->arena, c->D, sizeof(double));
    return rc || f->normed ? rc : bf_fail(err, BF_ENOMEM, "cannot hold %zu positions", N);
}

void bf_forwards_end(bf_forwards *f)
{
    bf_params_free_f64(f->params);
    bf_arena_free(f->arena);
    bf_pool_free(f->pool);
}

/* Token n of the n+1 only says whose loss is wanted. */
static bf_code run(bf_forwards *f, const int64_t *tokens, size_t n, bf_error *err)
{
    f->acts->N = n;
    return bf_forward_f64(f->acts, f->params, &f->model->config, tokens, f->pool, f->arena, f->stop,
                          err);
}

bf_code bf_forwards_losses(const double **loss, bf_forwards *f, const int64_t *tokens, size_t n,
                           bf_error *err)
{
    const bf_code rc = run(f, tokens, n - 1, err);
    *loss = f->acts->loss;
    return rc;
}

bf_code bf_forwards_next(double *logprob, bf_forwards *f, const int64_t *tokens, size_t n,
                         bf_error *err)
{
    const bf_config *c = &f->model->config;
    const size_t mark = bf_arena_mark(f->arena), V = c->V, D = c->D;
    int64_t *with_target = bf_arena_take(f->arena, n + 1, sizeof *with_target);
    bf_code rc = with_target ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu tokens", n);
    for (size_t k = 0; k <= n && !rc; k++)
        with_target[k] = k < n ? tokens[k] : 0;
    if (!rc)
        rc = run(f, with_target, n, err);
    if (!rc) {
        double mean, rstd, most = -INFINITY, sum = 0.0;
        const bf_mat_f64 *W = bf_params_head_f64(f->params);
        bf_norm_f64(f->normed, &mean, &rstd, f->acts->resid_final + (n - 1) * D,
                    bf_params_final_w_f64(f->params), bf_params_final_b_f64(f->params), c->norm,
                    c->norm_eps, D);
        bf_gemm_f64(false, !W->in_major, 1, V, D, 1.0, f->normed, D, W->w, W->ld, false, logprob,
                    V);
        for (size_t v = 0; v < V; v++)
            most = fmax(most, logprob[v]);
        for (size_t v = 0; v < V; v++)
            sum += exp(logprob[v] - most);
        for (size_t v = 0; v < V; v++)
            logprob[v] -= most + log(sum);
    }
    bf_arena_reset(f->arena, mark);
    return rc;
}
