#include "tracer/job.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What attention takes at once, a chunk if nothing is folded, needs no more than this, however much memory
 * there is. */
static const size_t part_bytes = (size_t)512 << 20, default_memory = (size_t)4 << 30;

static const char *const site_names[BF_SITES] = {"resid_pre", "resid_mid", "resid_final",
                                                 "attn_out", "mlp_out", "q", "k", "v", "z"};

const char *bf_site_name(unsigned bit)
{
    for (unsigned k = 0; k < BF_SITES; k++)
        if (bit == 1u << k)
            return site_names[k];
    return NULL;
}

unsigned bf_site_bit(const char *name)
{
    for (unsigned k = 0; k < BF_SITES; k++)
        if (strcmp(name, site_names[k]) == 0)
            return 1u << k;
    return 0;
}

size_t bf_site_heads(const bf_config *c, unsigned site)
{
    if (site == BF_SITE_Q || site == BF_SITE_Z)
        return c->H;
    return site == BF_SITE_K || site == BF_SITE_V ? c->G : 0;
}

bool bf_site_exists(const bf_config *c, unsigned site)
{
    return site != BF_SITE_RESID_MID || !c->parallel;
}

static bf_code check_tokens(const bf_model *model, const bf_query *q, bf_error *err)
{
    const size_t V = model->config.V, P = model->config.P;
    if (!q->tokens || q->n_tokens < 2)
        return bf_fail(err, BF_EARG, "%zu tokens, at least 2 are wanted (one to read, one to predict)",
                       q->n_tokens);
    const size_t N = q->masked ? q->n_tokens : q->n_tokens - 1;
    if (P && N > P)
        return bf_fail(err, BF_EARG, "%zu input tokens, the model knows %zu positions", N, P);
    if (q->n_tokens - 1 > UINT32_MAX / 2)
        return bf_fail(err, BF_EARG, "%zu tokens are too many", q->n_tokens);
    for (size_t k = 0; k < q->n_tokens; k++)
        if (q->tokens[k] < 0 || (uint64_t)q->tokens[k] >= V)
            return bf_fail(err, BF_EARG, "token %zu is %lld, the vocabulary has ids 0 to %zu", k,
                           (long long)q->tokens[k], V - 1);
    return BF_OK;
}

/* Copy an ascending choice below limit, or all of 0..limit-1. */
static bf_code choose(size_t **out, size_t *n, const size_t *chosen, size_t n_chosen, size_t limit,
                      const char *what, bf_error *err)
{
    *n = chosen ? n_chosen : limit;
    if (chosen && n_chosen == 0)
        return bf_fail(err, BF_EARG, "no %s chosen", what);
    *out = malloc(*n * sizeof **out);
    if (!*out)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu numbers", *n);
    for (size_t k = 0; k < *n; k++) {
        const size_t value = chosen ? chosen[k] : k;
        if (value >= limit)
            return bf_fail(err, BF_EARG, "%s %zu is not there, they go from 0 to %zu", what, value,
                           limit - 1);
        if (k && value <= (*out)[k - 1])
            return bf_fail(err, BF_EARG, "%s %zu after %zu, an ascending list is wanted", what,
                           value, (*out)[k - 1]);
        (*out)[k] = value;
    }
    return BF_OK;
}

static bf_code choose_blocks(bf_job *job, bf_error *err)
{
    job->blocks = job->query->blocks;
    if (job->blocks > job->N)
        return bf_fail(err, BF_EARG, "%zu blocks of %zu losses", job->blocks, job->N);
    if (job->blocks && job->scores & BF_SCORE_GRAD_NORM)
        job->probes = job->query->probes ? job->query->probes : 8;
    if (!(job->query->tolerance >= 0.0 && job->query->tolerance < 1.0))
        return bf_fail(err, BF_EARG, "a tolerance of %g, at least 0 and below 1 is wanted",
                       job->query->tolerance);
    return BF_OK;
}

void bf_job_block(size_t *from, size_t *to, const bf_job *job, size_t b)
{
    *from = b * job->N / job->blocks;
    *to = (b + 1) * job->N / job->blocks;
}

size_t bf_job_block_walks(const bf_job *job)
{
    return job->blocks ? job->probes + (job->scores & BF_SCORE_GRAD_X_ACT ? 1 : 0) : 0;
}

bf_beam bf_job_beam(const bf_job *job, bool blocks, size_t k)
{
    size_t from, end;
    if (blocks) {
        bf_job_block(&from, &end, job, k);
    } else {
        from = job->loss[k] - job->summed;
        end = job->loss[k] + 1;
    }
    return bf_beam_make(&job->config, job->N, k, from, end - 1, job->lowest);
}

/* Neighbouring losses to one row. */
static bf_code sum_losses(bf_job *job, bf_error *err)
{
    for (size_t k = 1; k < job->losses; k++)
        if (job->loss[k] != job->loss[k - 1] + 1)
            return bf_fail(err, BF_EARG, "loss %zu after %zu, only neighbours can be summed",
                           job->loss[k], job->loss[k - 1]);
    if (!job->losses || job->scores & (BF_SCORE_OWN | BF_SCORE_WEIGHT | BF_SCORE_EDGE))
        return bf_fail(err, BF_EARG, "a sum of losses has no own and future part, and no edges");
    job->summed = job->losses - 1;
    job->loss[0] = job->loss[job->losses - 1];
    job->losses = 1;
    return BF_OK;
}

static bf_code check_target(bf_job *job, bf_error *err)
{
    const bf_target *t = &job->query->target;
    if (t->kind == BF_TARGET_KL) {
        const bf_code rc = bf_target_reference(&job->reference, t, job->query->tokens,
                                               job->query->n_tokens, job->N, job->config.V, err);
        return rc ? bf_error_prefix(err, rc, "the target's reference") : BF_OK;
    }
    const int64_t V = (int64_t)job->config.V;
    const int64_t ids[] = {t->a, t->kind == BF_TARGET_LOGIT_DIFF ? t->b : -1};
    for (size_t k = 0; k < 2 && t->kind != BF_TARGET_LOSS; k++)
        if (ids[k] >= V)
            return bf_fail(err, BF_EARG, "target token %lld, the vocabulary has ids 0 to %lld",
                           (long long)ids[k], (long long)V - 1);
    return BF_OK;
}

static bf_code choose_layers(bf_job *job, bf_error *err)
{
    const size_t L = job->config.L;
    const bf_code rc = choose(&job->layer, &job->layers, job->query->layers, job->query->n_layers, L,
                              "layer", err);
    if (rc)
        return rc;
    job->layer_slot = malloc(L * sizeof *job->layer_slot);
    if (!job->layer_slot)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu layers", L);
    for (size_t l = 0; l < L; l++)
        job->layer_slot[l] = SIZE_MAX;
    for (size_t k = 0; k < job->layers; k++)
        job->layer_slot[job->layer[k]] = k;
    /* own and future have a row for every layer */
    job->lowest = job->scores & BF_SCORE_OWN ? 0 : job->layer[0];
    return BF_OK;
}

static size_t walk_bytes(const bf_job *job, size_t rows, size_t part)
{
    const bf_config *c = &job->config;
    const bool paths = job->scores & (BF_SCORE_SHARE | BF_SCORE_EDGE), fold = job->fold_below > 0;
    return job->query->precision == BF_PRECISION_F64
               ? bf_walk_bytes_f64(c, job->N, rows, part, job->threads, fold, job->cross, job->top, paths)
               : bf_walk_bytes_f32(c, job->N, rows, part, job->threads, fold, job->cross, job->top, paths);
}

static size_t fixed_bytes(const bf_job *job)
{
    return job->query->precision == BF_PRECISION_F64 ? bf_run_fixed_f64(job) : bf_run_fixed_f32(job);
}

/* Rows of a part of part_bytes. */
static size_t usual_part(const bf_job *job)
{
    const size_t none = walk_bytes(job, 0, 0);
    return part_bytes / ((walk_bytes(job, 1024, 1024) - none) / 1024);
}

/* Rows of a chunk that the fold may count on: what the default memory holds beside such a part, with one thread.
 * Not what the memory at hand holds, nor with how many: whether a position is folded decides bits. */
static size_t most_rows(const bf_job *job, size_t part)
{
    bf_job usual = *job;
    usual.threads = 1;
    usual.shared = fixed_bytes(&usual) > default_memory / 2;
    const size_t fixed = fixed_bytes(&usual), beside = walk_bytes(&usual, 0, part),
                 row = (walk_bytes(&usual, 1024, 0) - walk_bytes(&usual, 0, 0)) / 1024;
    if (fixed > default_memory || beside > default_memory - fixed)
        return part;
    const size_t rows = (default_memory - fixed - beside) / row;
    return rows > part ? rows : part;
}

/* Paths and band sums keep or read what attention does of all rows; parallel blocks hold back the MLP. */
static bool one_part(const bf_job *job)
{
    return job->config.parallel || job->scores & (BF_SCORE_SHARE | BF_SCORE_EDGE | BF_SCORE_WEIGHT);
}

/* Fewer rows until they fit: of a part first, if it may be less than the chunk, for the more rows a chunk has
 * the more its folds save; then of the chunk. */
static void shrink(bf_job *job, size_t longest)
{
    const bool parts = job->fold_below && !one_part(job);
    for (;;) {
        job->part_rows = job->part_rows < job->chunk_rows ? job->part_rows : job->chunk_rows;
        job->chunk_bytes = walk_bytes(job, job->chunk_rows, job->part_rows);
        if (job->chunk_rows == longest || job->fixed_bytes + job->chunk_bytes <= job->memory)
            return;
        const size_t floor = parts && job->chunk_rows / 8 > longest ? job->chunk_rows / 8 : longest;
        size_t *rows = parts && job->part_rows > floor ? &job->part_rows : &job->chunk_rows;
        *rows = *rows * 7 / 8 > floor ? *rows * 7 / 8 : floor;
    }
}

/* As many rows as the budget holds, at most the usual number, at least the longest loss. */
static bf_code fit(bf_job *job, bf_error *err)
{
    size_t rows = 0, longest = 0, blocks = 0;
    for (size_t k = 0; k < job->losses; k++) {
        const bf_beam beam = bf_job_beam(job, false, k);
        const size_t n = bf_beam_rows(&beam);
        rows += n;
        longest = n > longest ? n : longest;
    }
    for (size_t b = 0; b < job->blocks; b++) {
        const bf_beam beam = bf_job_beam(job, true, b);
        blocks += bf_beam_rows(&beam);
    }
    rows = rows > blocks ? rows : blocks;
    if (job->query->check || job->blocks) /* sums of losses make long beams */
        longest = job->N;
    const size_t part = usual_part(job), most = one_part(job) ? part : most_rows(job, part);
    const bf_code rc = bf_job_shortcuts(job, most, err);
    if (rc)
        return rc;
    job->chunk_rows = job->fold_below ? most : part;
    job->chunk_rows = rows < job->chunk_rows ? rows : job->chunk_rows;
    job->chunk_rows = job->chunk_rows < longest ? longest : job->chunk_rows;
    job->part_rows = part < longest ? longest : part;
    const size_t least = walk_bytes(job, longest, longest);
    job->fixed_bytes = fixed_bytes(job);
    if (job->fixed_bytes > job->memory / 2 || least > job->memory - job->fixed_bytes) {
        job->shared = true;
        job->fixed_bytes = fixed_bytes(job);
    }
    if (job->fixed_bytes > SIZE_MAX - least || job->fixed_bytes + least > job->memory)
        return bf_fail(err, BF_ENOMEM,
                       "%zu positions need at least %.1f MiB for activations and one loss, the budget "
                       "is %.1f MiB (--memory)", job->N,
                       ceil(((double)job->fixed_bytes + (double)least) / 104857.6) / 10.0,
                       (double)job->memory / 1048576.0);
    shrink(job, longest);
    return BF_OK;
}

static size_t online_threads(size_t asked)
{
    bf_pool *pool;
    if (asked || bf_pool_new(&pool, 0, NULL))
        return asked ? asked : 1;
    const size_t n = bf_pool_threads(pool);
    bf_pool_free(pool);
    return n;
}

/* Every edge is recorded, so their number is known before the walk. */
static bf_code count_edges(bf_job *job, bf_error *err)
{
    const size_t limit = (size_t)1 << 27; /* 7 GB of record */
    if (!job->query->losses && !job->query->masked)
        return bf_fail(err, BF_EARG, "edges of all losses were asked for; choose some (--losses)");
    if (job->query->tolerance > 0.0)
        return bf_fail(err, BF_EARG, "edges are exact, they cannot be had with a tolerance");
    job->edge_start = malloc(job->losses * sizeof *job->edge_start);
    if (!job->edge_start)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu losses", job->losses);
    for (size_t k = 0; k < job->losses; k++) {
        job->edge_start[k] = job->edges;
        for (size_t n = 0; n < job->layers; n++)
            job->edges += bf_edge_count(&job->config, job->N, job->loss[k], job->layer[n]);
        if (job->edges > limit)
            return bf_fail(err, BF_EARG, "losses up to %zu have %zu edges, at most %zu are recorded: "
                           "choose fewer losses or layers", job->loss[k], job->edges, limit);
    }
    return BF_OK;
}

/* What does not depend on model and text. */
static bf_code check_kind(const bf_job *job, bf_error *err)
{
    const bf_query *query = job->query;
    if (query->precision > BF_PRECISION_BF16)
        return bf_fail(err, BF_EARG, "unknown precision %d", (int)query->precision);
    if (job->sites & ~(unsigned)BF_SITE_ALL)
        return bf_fail(err, BF_EARG, "unknown site bits %#x", job->sites);
    if (job->scores & ~(unsigned)(BF_SCORE_ALL | BF_SCORE_EDGE))
        return bf_fail(err, BF_EARG, "unknown score bits %#x", job->scores);
    if (job->threads > 256)
        return bf_fail(err, BF_EARG, "%zu threads, at most 256 can be had", job->threads);
    if (query->check && query->blocks && !query->losses)
        return bf_fail(err, BF_EARG, "checks are made on losses, an overview alone has none");
    if (query->check && query->tolerance > 0.0)
        return bf_fail(err, BF_EARG, "checks are of exact walks, they cannot be had with a tolerance");
    return BF_OK;
}

bf_code bf_job_make(bf_job *job, bf_model *model, const bf_query *query, bf_error *err)
{
    *job = (bf_job){.model = model, .query = query, .config = model->config};
    job->sites = query->sites ? query->sites : BF_SITE_ALL;
    job->scores = query->scores ? query->scores : BF_SCORE_GRAD_NORM | BF_SCORE_GRAD_X_ACT;
    if (query->check)
        job->scores |= BF_SCORE_GRAD_X_ACT;
    job->memory = query->memory ? query->memory : default_memory;
    job->threads = online_threads(query->threads);
    job->keep = job->memory / 2;
    bf_code rc = check_kind(job, err);
    if (!rc)
        rc = check_tokens(model, query, err);
    if (rc)
        return rc;
    job->N = query->masked ? query->n_tokens : query->n_tokens - 1;
    rc = bf_job_masks(job, err);
    if (!rc)
        rc = bf_job_hide(job, err);
    if (!rc)
        rc = choose_blocks(job, err);
    if (!rc && (query->losses || !job->blocks))
        rc = choose(&job->loss, &job->losses, query->losses ? query->losses : query->masked,
                    query->losses ? query->n_losses : query->n_masked, job->N, "loss", err);
    if (!rc && query->sum)
        rc = sum_losses(job, err);
    if (!rc)
        rc = check_target(job, err);
    if (!rc)
        rc = choose_layers(job, err);
    if (!rc && job->scores & BF_SCORE_EDGE)
        rc = count_edges(job, err);
    if (!rc)
        rc = fit(job, err);
    return rc;
}

void bf_job_free(bf_job *job)
{
    if (!job)
        return;
    free(job->loss);
    free(job->layer);
    free(job->layer_slot);
    free(job->edge_start);
    free(job->mask);
    free(job->hidden);
}

/* Every row above attention passes MLP and output projection, every row below q, k, v: in the top layer
 * only a loss's own row is above. Attention takes four products a head. */
static double beam_flops(const bf_job *job, size_t from, size_t end)
{
    const bf_config *c = &job->config;
    const double D = (double)c->D, F = (double)c->F, HK = (double)(c->H * c->K),
                 GK = (double)(c->G * c->K);
    const double above = 2.0 * (D * F * (c->gated ? 3.0 : 2.0) + 2.0 * D * HK),
                 below = 4.0 * D * GK;
    double flops = 0.0;
    bf_span at = {0, from, end - 1};
    for (size_t l = c->L; l-- > job->lowest;) {
        const bf_mask mask = bf_config_mask(c, l);
        const double n = (double)bf_span_size(at);
        at = bf_mask_reach(&mask, at, job->N);
        const double m = (double)bf_span_size(at);
        const double w = (double)bf_span_size(bf_mask_keys(&mask, end - 1, job->N));
        const double keys = w < m || mask.bidirectional ? w : m / 2.0;
        flops += n * above + m * below + 8.0 * HK * n * (n > 1.0 ? keys : m);
    }
    return flops;
}

double bf_job_flops(const bf_job *job)
{
    double flops = 0.0, once = 0.0;
    for (size_t k = 0; k < job->losses; k++)
        flops += beam_flops(job, job->loss[k] - job->summed, job->loss[k] + 1);
    for (size_t b = 0; b < job->blocks; b++) {
        size_t from, end;
        bf_job_block(&from, &end, job, b);
        once += beam_flops(job, from, end);
    }
    return flops + once * (double)bf_job_block_walks(job);
}
