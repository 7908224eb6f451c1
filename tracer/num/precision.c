/* What bfloat16 cost: a few of a trace's losses are walked once more in float, and compared. */
#include "tracer/num/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* One loss in 64, 1 to 8 of them; where fewer than 16 are walked it would take longer than it saves. */
enum { ONE_IN = 64, MOST = 8, FEWEST = 16 };

typedef struct {
    size_t n, loss[MOST], place[MOST]; /* the losses, and their rows in the record */
} sample;

/* Evenly spread over the losses recorded, or, of an overview alone, over all. */
static sample choose(const bf_job *job)
{
    const size_t n = job->losses ? job->losses : job->N;
    sample s = {.n = n / ONE_IN < 1 ? 1 : n / ONE_IN > MOST ? MOST : n / ONE_IN};
    for (size_t k = 0; k < s.n; k++) {
        s.place[k] = (2 * k + 1) * n / (2 * s.n);
        s.loss[k] = job->losses ? job->loss[s.place[k]] : s.place[k];
    }
    return s;
}

/* grad_norm at resid_pre of the sampled losses: norm [layers,n,N], zeroed before. */
static bf_code walk_sample(real *norm, const R(bf_walk) *walk, const bf_job *job, const sample *s,
                           bf_error *err)
{
    const R(bf_sink) sink = {.norm = {norm}, .layer_slot = job->layer_slot, .losses = s->n, .N = job->N};
    const R(bf_walk) again = {.c = walk->c, .params = walk->params, .acts = walk->acts,
                              .pool = walk->pool, .arena = walk->arena, .sink = &sink,
                              .lowest = job->lowest, .part_rows = job->part_rows,
                              .stop = walk->stop};
    bf_beam beams[MOST];
    for (size_t k = 0; k < s->n; k++)
        beams[k] = bf_beam_make(walk->c, job->N, k, s->loss[k] - job->summed, s->loss[k], job->lowest);
    return R(bf_walk_all)(&again, job->query, beams, s->n, job->chunk_rows, err);
}

/* The same from the record, if it holds them as they were walked. */
static bool read_sample(real *norm, const bf_record *record, const bf_job *job, const sample *s)
{
    const bf_tensor *t = bf_record_find(record, "flow.resid_pre.grad_norm");
    const size_t N = job->N;
    if (!t || job->query->tolerance > 0.0)
        return false;
    for (size_t l = 0; l < job->layers; l++)
        for (size_t k = 0; k < s->n; k++)
            memcpy(norm + (l * s->n + k) * N, (const real *)t->data + (l * job->losses + s->place[k]) * N,
                   N * sizeof *norm);
    return true;
}

/* Largest over rows of sum |a - b| / sum b. */
static double largest_error(const real *a, const real *b, size_t rows, size_t N)
{
    double worst = 0.0;
    for (size_t r = 0; r < rows; r++) {
        double off = 0.0, sum = 0.0;
        for (size_t j = r * N; j < (r + 1) * N; j++) {
            off += fabs((double)a[j] - (double)b[j]);
            sum += (double)b[j];
        }
        if (off > worst * sum)
            worst = off / sum;
    }
    return worst;
}

static bf_code note_error(bf_record *record, double error, const sample *s, bf_error *err)
{
    bf_buf text = {0};
    bf_buf_printf(&text, "%.3g: largest sum |a - b| / sum b of a row of resid_pre's grad_norm against "
                  "f32, of %zu loss%s (", error, s->n, s->n > 1 ? "es" : "");
    for (size_t k = 0; k < s->n; k++)
        bf_buf_printf(&text, "%s%zu", k ? "," : "", s->loss[k]);
    bf_buf_text(&text, ")");
    const bf_code rc = text.failed ? bf_fail(err, BF_ENOMEM, "cannot hold bfloat16's error")
                                   : bf_record_set_meta(record, "bf16_error", text.data, err);
    bf_buf_free(&text);
    return rc;
}

bf_code R(bf_run_precision)(bf_record *record, const R(bf_walk) *walk, const bf_job *job, bf_error *err)
{
    const size_t walks = job->losses + job->blocks * bf_job_block_walks(job);
    if (walks < FEWEST && !job->query->check)
        return bf_record_set_meta(record, "bf16_error", "not measured: with so few losses one more in f32 "
                                  "takes longer than bf16 saves (--check measures it)", err);
    const double start = bf_seconds();
    const sample s = choose(job);
    const size_t rows = job->layers * s.n;
    real *coarse = calloc(rows * job->N, sizeof *coarse), *exact = calloc(rows * job->N, sizeof *exact);
    bf_code rc = coarse && exact ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu rows", rows);
    if (!rc && !read_sample(coarse, record, job, &s))
        rc = walk_sample(coarse, walk, job, &s, err);
    if (!rc)
        rc = R(bf_params_bf16)(walk->params, false, err);
    if (!rc)
        rc = walk_sample(exact, walk, job, &s, err);
    if (!rc)
        rc = note_error(record, largest_error(coarse, exact, rows, job->N), &s, err);
    if (!rc)
        rc = R(bf_note_seconds)(record, "seconds_bf16_error", bf_seconds() - start, err);
    free(coarse);
    free(exact);
    return rc;
}
