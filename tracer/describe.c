#include "tracer/job.h"

#include <stdio.h>
#include <stdlib.h>

#include "backflow/backflow.h"
#include "base/json.h"

static bf_code token_strings(bf_record *record, const bf_job *job, const bf_tokenizer *tokenizer,
                             bf_error *err)
{
    bf_buf list = {0};
    bf_code rc = BF_OK;
    bf_buf_text(&list, "[");
    for (size_t k = 0; k < job->query->n_tokens && !rc; k++) {
        char *piece;
        rc = bf_tokenizer_piece(&piece, tokenizer, job->query->tokens[k], err);
        if (rc)
            break;
        bf_buf_text(&list, k ? "," : "");
        rc = bf_json_quote(&list, piece);
        free(piece);
    }
    bf_buf_text(&list, "]");
    if (!rc && list.failed)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold the token strings");
    if (!rc)
        rc = bf_record_set_meta(record, "token_strings", list.data, err);
    bf_buf_free(&list);
    return rc;
}

/* Who predicted what this run is compared with, as far as the reference says. */
static bf_code describe_reference(bf_record *record, const bf_record *reference, bf_error *err)
{
    static const char *const keys[][2] = {{"reference_model", "model"},
                                          {"reference_model_sha256", "model_sha256"},
                                          {"reference_precision", "precision"}};
    bf_code rc = bf_record_set_meta(record, "target", "kl", err);
    for (size_t k = 0; k < sizeof keys / sizeof *keys && !rc; k++) {
        const char *value = bf_record_meta(reference, keys[k][1]);
        if (value)
            rc = bf_record_set_meta(record, keys[k][0], value, err);
    }
    return rc;
}

static bf_code describe_target(bf_record *record, const bf_target *t, bf_error *err)
{
    static const char *const names[] = {"loss", "logit", "logprob", "logit-diff", "entropy", "kl"};
    char text[96];
    if (t->kind == BF_TARGET_KL)
        return describe_reference(record, t->reference, err);
    if (t->kind == BF_TARGET_ENTROPY)
        snprintf(text, sizeof text, "%s", names[t->kind]);
    else if (t->kind == BF_TARGET_LOGIT_DIFF)
        snprintf(text, sizeof text, "%s %lld,%lld", names[t->kind], (long long)t->a, (long long)t->b);
    else
        snprintf(text, sizeof text, "%s %lld", names[t->kind], (long long)t->a);
    return bf_record_set_meta(record, "target", text, err);
}

bf_code bf_job_describe(bf_record *record, const bf_job *job, bf_error *err)
{
    const bf_tokenizer *tokenizer = NULL;
    const char *sha;
    static const char *const precisions[] = {"f32", "f64", "bf16"};
    char threads[24], summed[24];
    snprintf(threads, sizeof threads, "%zu", job->threads);
    snprintf(summed, sizeof summed, "%zu", job->summed);
    bf_code rc = bf_model_tokenizer(&tokenizer, job->model, err);
    if (!rc)
        rc = bf_model_sha256(&sha, job->model, err);
    if (rc)
        return rc;
    const char *meta[][2] = {
        {"backflow_record", "1"},
        {"version", BF_VERSION},
        {"model", job->model->dims.name},
        {"model_family", job->model->dims.family},
        {"model_sha256", sha},
        {"precision", precisions[job->query->precision]},
        {"threads", threads},
    };
    if (!rc && job->query->target.kind != BF_TARGET_LOSS)
        rc = describe_target(record, &job->query->target, err);
    if (!rc)
        rc = bf_job_describe_masks(record, job, err);
    if (!rc && job->summed) /* so many losses before the one recorded were added to it */
        rc = bf_record_set_meta(record, "summed", summed, err);
    for (size_t k = 0; k < sizeof meta / sizeof *meta && !rc; k++)
        rc = bf_record_set_meta(record, meta[k][0], meta[k][1], err);
    if (!rc && tokenizer)
        rc = token_strings(record, job, tokenizer, err);
    return rc;
}
