/* Central differences of the losses, always in double, whatever the walk was made in. */
#define BF_BITS 64
#include "tracer/job.h"
#include "tracer/num/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double root_mean_square(const double *x, size_t n)
{
    double sum = 0.0;
    for (size_t k = 0; k < n; k++)
        sum += x[k] * x[k];
    return sqrt(sum / (double)n);
}

/* out[i] = sum_s weight[s] * value_i(x + s*step*u), Abramowitz & Stegun 25.3.7: four points. */
static bf_code four_points(double *out, bf_run_state_f64 *run, size_t l, const double *u,
                           const double *x, double step, bf_error *err)
{
    static const double at[] = {-2.0, -1.0, 1.0, 2.0}, weight[] = {1.0, -8.0, 8.0, -1.0};
    const size_t N = run->job->N, n = N * run->config->D;
    bf_code rc = BF_OK;
    for (size_t i = 0; i < N; i++)
        out[i] = 0.0;
    for (size_t s = 0; s < 4 && !rc; s++) {
        double *to = run->acts->layer[l].resid_pre;
        for (size_t k = 0; k < n; k++)
            to[k] = x[k] + at[s] * step * u[k];
        rc = bf_forward_from_f64(run->acts, l, run->params, run->config, run->job->inputs,
                                 run->pool, run->arena, run->job->query->stop, err);
        for (size_t i = 0; i < N && !rc; i++)
            out[i] += weight[s] * run->acts->value[i] / (12.0 * step);
    }
    return rc;
}

/* Does some key pass no gradient? Then those keys and values stay as they are while the rest moves. */
static bool has_cut(const bf_job *job)
{
    for (size_t l = 0; l < job->config.L; l++) {
        const bf_mask mask = bf_config_mask(&job->config, l);
        if (bf_mask_cut(&mask, job->N - 1))
            return true;
    }
    return false;
}

static bf_code run_forward(bf_acts_f64 *acts, bf_run_state_f64 *run, bf_error *err)
{
    acts->targets = run->job->targets;
    return bf_forward_f64(acts, run->params, run->config, run->job->inputs, run->pool, run->arena,
                          run->job->query->stop, err);
}

bf_code bf_differences(double *out, const bf_job *job, size_t l, const double *u, bf_error *err)
{
    bf_job own = *job;
    bf_run_state_f64 run;
    const size_t n = job->N * job->config.D;
    own.fixed_bytes = bf_run_fixed_f64(job) + bf_acts_bytes_f64(&job->config, job->N, true);
    own.chunk_bytes = 0;
    bf_code rc = bf_run_new_f64(&run, &own, err);
    double *x = malloc(n * sizeof *x);
    if (!rc && !x)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold %zu positions", job->N);
    bf_acts_f64 *kept = NULL;
    if (!rc && has_cut(job))
        rc = bf_acts_new_f64(&kept, run.config, job->N, true, run.arena, err);
    if (!rc)
        rc = run_forward(kept ? kept : run.acts, &run, err);
    if (!rc && kept) {
        run.acts->kept = kept;
        rc = run_forward(run.acts, &run, err);
    }
    if (!rc) {
        memcpy(x, run.acts->layer[l].resid_pre, n * sizeof *x);
        rc = four_points(out, &run, l, u, x, 3e-4 * root_mean_square(x, n), err);
    }
    free(x);
    bf_run_end_f64(&run);
    return rc;
}
