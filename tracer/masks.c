/* What a query asks of attention: a cut of the gradient, and tokens hidden behind the mask token. */
#include "tracer/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bf_code bf_job_masks(bf_job *job, bf_error *err)
{
    const bf_detach detach = job->query->detach;
    const size_t L = job->config.L;
    bool memory = detach != BF_DETACH_MEMORY;
    if (detach == BF_DETACH_MODEL)
        return BF_OK;
    if (detach > BF_DETACH_MYOPIC)
        return bf_fail(err, BF_EARG, "unknown detach %d", (int)detach);
    if (!(job->mask = malloc(L * sizeof *job->mask)))
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu masks", L);
    for (size_t l = 0; l < L; l++) {
        bf_mask m = bf_config_mask(&job->config, l);
        const bool has = m.memory || m.compressive > 0.0;
        m.detach = detach == BF_DETACH_MEMORY && !has ? BF_DETACH_NONE : detach;
        memory = memory || has;
        if (bf_mask_fault(&m))
            return bf_fail(err, BF_EARG, "layer %zu: found %s", l, bf_mask_fault(&m));
        job->mask[l] = m;
    }
    if (!memory)
        return bf_fail(err, BF_EARG, "no memory to detach: no layer of the model has segments with one");
    job->config.mask = job->mask;
    return BF_OK;
}

bf_code bf_job_hide(bf_job *job, bf_error *err)
{
    const bf_query *q = job->query;
    job->inputs = q->tokens;
    if (!q->masked)
        return BF_OK;
    if (job->config.mask_token < 0 || !bf_config_bidirectional(&job->config))
        return bf_fail(err, BF_EARG, "masked tokens were asked for, but the model %s",
                       job->config.mask_token < 0 ? "names no mask token (\"backflow\": "
                       "{\"mask_token\": ..} in config.json)" : "is not bidirectional");
    if (q->blocks)
        return bf_fail(err, BF_EARG, "an overview is of all losses, masked tokens are a choice of them");
    if (!(job->hidden = malloc(job->N * sizeof *job->hidden)))
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu tokens", job->N);
    memcpy(job->hidden, q->tokens, job->N * sizeof *job->hidden);
    job->inputs = job->hidden;
    job->targets = q->tokens;
    for (size_t k = 0; k < q->n_masked; k++) {
        if (q->masked[k] >= job->N)
            return bf_fail(err, BF_EARG, "masked position %zu is not there, they go from 0 to %zu",
                           q->masked[k], job->N - 1);
        if (k && q->masked[k] <= q->masked[k - 1])
            return bf_fail(err, BF_EARG, "masked position %zu after %zu, an ascending list is wanted",
                           q->masked[k], q->masked[k - 1]);
        job->hidden[q->masked[k]] = job->config.mask_token;
    }
    for (size_t n = 0, k = 0; q->losses && n < q->n_losses; n++) {
        while (k < q->n_masked && q->masked[k] < q->losses[n])
            k++;
        if (k == q->n_masked || q->masked[k] != q->losses[n])
            return bf_fail(err, BF_EARG, "loss %zu is of a token that is not masked", q->losses[n]);
    }
    return BF_OK;
}

/* "window 4, sink 2". */
static void mask_words(char *to, size_t size, const bf_mask *m)
{
    if (m->bidirectional)
        snprintf(to, size, "bidirectional");
    else if (m->compressive > 0.0)
        snprintf(to, size, "segment %zu, compressive %g%s%s", m->segment, m->compressive,
                 m->learnt ? " at first" : "", m->delta ? ", delta" : "");
    else if (m->segment)
        snprintf(to, size, "segment %zu, memory %zu", m->segment, m->memory);
    else if (m->sink)
        snprintf(to, size, "window %zu, sink %zu", m->window, m->sink);
    else if (m->window)
        snprintf(to, size, "window %zu", m->window);
    else
        snprintf(to, size, "causal");
}

bf_code bf_job_describe_masks(bf_record *record, const bf_job *job, bf_error *err)
{
    static const char *const cuts[] = {"none", "none", "memory", "myopic"};
    const bf_config *c = &job->config;
    bf_buf text = {0};
    char one[96], before[96] = "";
    bool plain = true, cut = false, same = true;
    for (size_t l = 0; l < c->L; l++) {
        const bf_mask m = bf_config_mask(c, l);
        mask_words(one, sizeof one, &m);
        same = same && (!l || strcmp(one, before) == 0);
        plain = plain && strcmp(one, "causal") == 0;
        bf_buf_printf(&text, "%s%s", l ? "; " : "", one);
        snprintf(before, sizeof before, "%s", one);
        cut = cut || m.detach > BF_DETACH_NONE;
    }
    bf_code rc = text.failed ? bf_fail(err, BF_ENOMEM, "cannot hold the masks' names") : BF_OK;
    if (!rc && !plain)
        rc = bf_record_set_meta(record, "mask", same ? one : text.data, err);
    for (size_t l = 0; l < c->L && cut && !rc; l++)
        if (bf_config_mask(c, l).detach > BF_DETACH_NONE) {
            rc = bf_record_set_meta(record, "detach", cuts[bf_config_mask(c, l).detach], err);
            break;
        }
    bf_buf_free(&text);
    return rc;
}
