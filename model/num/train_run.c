/* The loop: batches, the optimizer's steps, measurements, checkpoints, the log. */
#include "model/num/train.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/gemm.h"

typedef struct {
    const bf_train_job *job;
    R(bf_train) *t;
    bf_pool *pool;
    FILE *log;
    bf_train_point point; /* steps done, last measurement */
    double recent;        /* clock, when the last step was told of */
    double took, pace;    /* seconds: of the last step; a step, of late */
} run;

/* The first tensor of an array that is not finite, or NULL. */
static const bf_train_tensor *not_finite(const R(bf_train) *t, const real *values)
{
    for (size_t k = 0; k < t->layout->n; k++)
        if (!R(bf_all_finite)(values + t->layout->tensor[k].at, t->layout->tensor[k].count))
            return &t->layout->tensor[k];
    return NULL;
}

/* Where a run went wrong, from the first cause to the last effect. */
static bf_code blame(const run *u, double loss, bf_error *err)
{
    const R(bf_train) *t = u->t;
    const unsigned long long step = u->point.step + 1;
    const bf_train_tensor *weight = not_finite(t, t->param);
    if (weight)
        return bf_fail(err, BF_ENONFINITE, "step %llu: the loss is %g, weight \"%s\" is not finite", step,
                       loss, weight->name);
    for (size_t l = 0; l < t->c->L; l++)
        if (!R(bf_all_finite)(t->acts[l].x, t->rows * t->c->D))
            return bf_fail(err, BF_ENONFINITE, "step %llu: the loss is %g, resid_pre of layer %zu is not "
                           "finite", step, loss, l);
    const bf_train_tensor *gradient = not_finite(t, t->grad);
    return bf_fail(err, BF_ENONFINITE, "step %llu: the loss is %g, the gradient of \"%s\" is not finite",
                   step, loss, gradient ? gradient->name : "the head");
}

static bool stopped(const run *u)
{
    const bf_train_job *job = u->job;
    return (job->stop && *job->stop) || (job->config->until && u->point.step >= job->config->until);
}

static bf_code save(run *u, bf_error *err)
{
    const R(bf_train) *t = u->t;
    const bf_train_tensor *bad = not_finite(t, t->param);
    if (bad)
        return bf_fail(err, BF_ENONFINITE, "step %llu: weight \"%s\" is not finite",
                       (unsigned long long)u->point.step, bad->name);
    bf_code rc = bf_train_checkpoint_write(u->job, &u->point,
                                           (const void *const[]){t->param, t->moment[0], t->moment[1]}, err);
    return rc ? rc : bf_train_model_write(u->job, t->param, err);
}

/* ---- one step ---- */

static bf_code gradients(run *u, double *loss, bf_error *err)
{
    const bf_train_config *c = u->job->config;
    bf_code rc = BF_OK;
    *loss = 0;
    for (size_t k = 0; k < c->accumulate && !rc; k++) {
        bf_batch batch;
        double part;
        u->t->add = k > 0;
        u->t->number = u->point.step * c->accumulate + k;
        rc = bf_data_batch(&batch, u->job->data, BF_SPLIT_TRAIN, u->t->number, err);
        if (!rc && (batch.B != u->t->B || batch.T != u->t->T))
            rc = bf_fail(err, BF_EARG, "a batch of %zu x %zu, wanted %zu x %zu", batch.B, batch.T, u->t->B,
                         u->t->T);
        if (rc)
            break;
        rc = R(bf_train_learn)(&part, u->t, &batch, 1 / (double)c->accumulate, err);
        *loss += part / (double)c->accumulate;
        if (!rc && !isfinite(part))
            rc = blame(u, part, err);
    }
    return rc;
}

static bf_code step(run *u, bf_error *err)
{
    const bf_train_config *c = u->job->config;
    bf_train_state *s = u->job->state;
    bf_code rc = gradients(u, &s->loss, err);
    if (!rc)
        rc = R(bf_train_failed)(u->t, err);
    if (rc)
        return rc;
    s->grad_norm = R(bf_train_grad_norm)(u->t);
    s->rate = bf_train_rate(c, u->point.step);
    if (!isfinite(s->grad_norm))
        return blame(u, s->loss, err);
    const bool clipped = c->clip > 0 && s->grad_norm > c->clip;
    R(bf_train_adamw)(u->t, s->rate, clipped ? c->clip / (s->grad_norm + 1e-6) : 1, u->point.step + 1);
    u->point.step++;
    return BF_OK;
}

/* Of the targets that can be known, how many there are, and how many the model knew. */
static void count_right(size_t *right, size_t *of, const R(bf_train) *t, const bf_batch *batch)
{
    for (size_t r = 0; r < t->rows && batch->target; r++)
        if (batch->target[r * batch->heads] >= 0 && (!batch->answer || batch->answer[r])) {
            *right += t->row_right[r];
            ++*of;
        }
}

/* Mean loss of the held-out batches, and what of them is right. */
static bf_code measure(run *u, bf_error *err)
{
    const bf_train_config *c = u->job->config;
    const size_t there = bf_data_held_out(u->job->data), n = c->held_out < there ? c->held_out : there;
    size_t right = 0, of = 0;
    double sum = 0;
    bf_code rc = BF_OK;
    for (size_t k = 0; k < n && !rc; k++) {
        bf_batch batch;
        double part;
        rc = bf_data_batch(&batch, u->job->data, BF_SPLIT_HELD_OUT, k, err);
        if (rc)
            break;
        R(bf_train_batch)(&part, u->t, &batch, false, 1);
        sum += part;
        count_right(&right, &of, u->t, &batch);
    }
    if (!rc) {
        u->point.held_out = u->job->state->held_out = sum / (double)n;
        u->job->state->right = of ? (double)right / (double)of : NAN;
    }
    return rc;
}

/* ---- telling ---- */

static bf_code write_log(run *u, bool measured, bf_error *err)
{
    const bf_train_state *s = u->job->state;
    errno = 0;
    int bad = fprintf(u->log, "{\"step\": %" PRIu64 ", \"loss\": %.17g, \"rate\": %.6g, \"grad_norm\": %.6g, "
                      "\"tokens_per_second\": %.6g, \"seconds\": %.6g", u->point.step, s->loss, s->rate,
                      s->grad_norm, s->tokens_per_second, u->took) < 0;
    if (measured)
        bad |= fprintf(u->log, ", \"held_out\": %.17g", s->held_out) < 0;
    if (measured && isfinite(s->right))
        bad |= fprintf(u->log, ", \"right\": %.6g", s->right) < 0;
    bad |= fprintf(u->log, "}\n") < 0;
    bad |= fflush(u->log) != 0;
    return bad ? bf_fail(err, BF_EIO, "%.300s/log.jsonl: cannot write: %s", u->job->folder,
                         strerror(errno ? errno : EIO)) : BF_OK;
}

static void tell(run *u)
{
    bf_train_state *s = u->job->state;
    const double now = bf_seconds();
    u->took = now - u->recent;
    u->recent = now;
    u->pace = u->pace > 0 ? 0.9 * u->pace + 0.1 * u->took : u->took;
    s->step = u->point.step;
    s->tokens_per_second = (double)(u->t->rows * u->job->config->accumulate) / u->pace;
    s->seconds_left = u->pace * (double)(s->steps - s->step);
}

static bf_code go_on(run *u, bf_error *err)
{
    const bf_train_config *c = u->job->config;
    bf_code rc = BF_OK;
    u->recent = bf_seconds();
    while (u->point.step < c->steps && !rc) {
        if (stopped(u)) {
            rc = save(u, err);
            return rc ? rc : bf_fail(err, BF_EINTERRUPTED, "interrupted after step %llu",
                                     (unsigned long long)u->point.step);
        }
        rc = step(u, err);
        if (rc)
            break;
        tell(u);
        const bool end = u->point.step == c->steps;
        const bool measured = c->held_out && (end || (c->measure && u->point.step % c->measure == 0));
        if (measured)
            rc = measure(u, err);
        if (!rc)
            rc = write_log(u, measured, err);
        if (!rc && (end || u->point.step % c->checkpoint == 0))
            rc = save(u, err);
        if (!rc && u->job->progress)
            u->job->progress(u->job->context, u->job->state);
        u->recent = bf_seconds(); /* measuring and saving are no part of a step */
    }
    return rc;
}

/* What is told of a training whose steps are all done, also if they were done before. */
static bf_code conclude(run *u, bool went_on, bf_error *err)
{
    bf_code rc = BF_OK;
    if (!went_on && u->job->config->held_out)
        rc = measure(u, err);
    if (!rc && bf_data_task(u->job->data) && bf_data_task(u->job->data)->kind == BF_TASK_SINE)
        rc = R(bf_train_probe)(u->job->state->probe, u->t, u->job->data, err);
    return rc;
}

/* ---- beginning ---- */

/* First values, or those of a checkpoint if there is one and it may be used. */
static bf_code begin(run *u, bf_error *err)
{
    const bf_train_job *job = u->job;
    R(bf_train) *t = u->t;
    void *const parts[] = {t->param, t->moment[0], t->moment[1]};
    bool found = false;
    bf_code rc = job->resume ? bf_train_checkpoint_read(&found, &u->point, parts, job, err) : BF_OK;
    if (rc)
        return rc;
    if (!found) {
        u->point = (bf_train_point){0, NAN};
        bf_train_first(t->param, BF_REAL_DTYPE, job->layout, t->c->L, job->config->seed);
        rc = job->config->start ? bf_train_start_read(t->param, job, err) : BF_OK;
    }
    if (!rc)
        rc = bf_train_folder_open(job, err); /* nothing is written before all that can be refused was */
    return rc || found ? rc : save(u, err);
}

/* BF_CUT_LOCAL: the model that stays. */
static bf_code begin_kept(run *u, bf_error *err)
{
    if (!u->t->kept_param)
        return BF_OK;
    return bf_train_start_read(u->t->kept_param, u->job, err);
}

bf_code R(bf_train_run)(const bf_train_job *job, bf_error *err)
{
    run u = {.job = job};
    bf_batch first;
    bf_gemm_init();
    bf_code rc = bf_pool_new(&u.pool, job->config->threads, err);
    if (!rc)
        rc = bf_data_batch(&first, job->data, BF_SPLIT_TRAIN, 0, err);
    if (!rc)
        rc = R(bf_train_new)(&u.t, job->config, job->layout, u.pool, first.B, first.T, err);
    if (!rc)
        rc = begin_kept(&u, err);
    if (!rc)
        rc = begin(&u, err);
    if (!rc) {
        R(bf_train_round_weights)(u.t);
        *job->state = (bf_train_state){.step = u.point.step, .steps = job->config->steps, .loss = NAN,
                                       .held_out = u.point.held_out, .right = NAN,
                                       .probe = {NAN, NAN}};
        rc = bf_train_log_open(&u.log, job, u.point.step, err);
    }
    const bool to_do = !rc && u.point.step < job->config->steps;
    if (!rc)
        rc = go_on(&u, err);
    if (!rc)
        rc = conclude(&u, to_do, err);
    if (!rc)
        rc = R(bf_train_failed)(u.t, err);
    if (u.log)
        fclose(u.log);
    R(bf_train_free)(u.t);
    bf_pool_free(u.pool);
    return rc;
}
