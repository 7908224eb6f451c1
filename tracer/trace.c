#include "tracer/job.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/gemm.h"

/* Floating-point operations a second of one thread here, from one product that takes milliseconds. */
static double product_rate(void)
{
    enum { n = 256 };
    float *m = calloc(3 * n * n, sizeof *m);
    double best = 0.0;
    if (!m)
        return 0.0;
    bf_gemm_init();
    for (int k = 0; k < 4; k++) {
        const double start = bf_seconds();
        bf_gemm_f32(false, false, n, n, n, 1, m, n, m + n * n, n, false, m + 2 * n * n, n);
        const double rate = 2.0 * n * n * n / (bf_seconds() - start);
        best = rate > best ? rate : best;
    }
    free(m);
    return best;
}

static size_t record_bytes(const bf_tensor *specs, size_t n)
{
    size_t bytes = 0;
    for (size_t k = 0; k < n; k++) {
        size_t one = bf_dtype_size(specs[k].dtype);
        for (size_t r = 0; r < specs[k].rank; r++)
            one = one > SIZE_MAX / 2 / (specs[k].dim[r] + 1) ? SIZE_MAX / 2 : one * specs[k].dim[r];
        bytes = bytes > SIZE_MAX / 2 - one ? SIZE_MAX / 2 : bytes + one;
    }
    return bytes;
}

/* Add walks of all losses, or of all blocks, to the plan. */
static void count_walks(bf_plan *plan, const bf_job *job, bool blocks, size_t walks)
{
    const size_t beams = blocks ? job->blocks : job->losses;
    size_t rows = 0;
    plan->chunks += beams ? walks : 0;
    for (size_t k = 0; k < beams; k++) {
        const bf_beam beam = bf_job_beam(job, blocks, k);
        const size_t n = bf_beam_rows(&beam);
        plan->rows += walks * n;
        if (rows && rows + n > job->chunk_rows) {
            plan->chunks += walks;
            rows = 0;
        }
        rows += n;
    }
}

bf_code bf_trace_plan(bf_plan *plan, const bf_model *model, const bf_query *query, bf_error *err)
{
    bf_job job;
    bf_tensor *specs = NULL;
    size_t n = 0;
    bf_code rc = bf_job_make(&job, (bf_model *)(uintptr_t)model, query, err);
    if (!rc)
        rc = bf_job_specs(&specs, &n, &job, err);
    if (!rc) {
        *plan = (bf_plan){.N = job.N, .losses = job.losses, .chunk_rows = job.chunk_rows,
                          .bytes = job.fixed_bytes + job.chunk_bytes, .flops = bf_job_flops(&job), .folded = job.fold_below,
                          .blended = job.blend || job.blend_blocks, .crossed = job.cross || job.top,
                          .record_bytes = record_bytes(specs, n)};
        count_walks(plan, &job, false, 1);
        count_walks(plan, &job, true, bf_job_block_walks(&job));
        const double rate = product_rate() * (double)job.threads *
                            (query->precision == BF_PRECISION_F64 ? 0.4 : 0.8);
        plan->seconds = rate > 0.0 ? (plan->flops - job.saved) / rate : 0.0;
    }
    free(specs);
    bf_job_free(&job);
    return rc;
}

bf_code bf_trace(bf_record **out, bf_model *model, const bf_query *query, const char *path,
                 bf_check checks[8], size_t *n_checks, bf_error *err)
{
    bf_job job;
    if (query->check && (!checks || !n_checks))
        return bf_fail(err, BF_EARG, "checks were asked for, but nowhere to put them was given");
    bf_gemm_init();
    bf_code rc = bf_job_make(&job, model, query, err);
    if (!rc)
        rc = query->precision == BF_PRECISION_F64
                 ? bf_run_f64(out, &job, path, checks, n_checks, err)
                 : bf_run_f32(out, &job, path, checks, n_checks, err);
    bf_job_free(&job);
    return rc;
}
