/* What a run is compared with: the reference of a KL target. */
#include <math.h>

#include "tracer/job.h"

static bf_code check_shape(const bf_tensor *t, size_t N, size_t V, bf_error *err)
{
    if (t->dtype != BF_F32 && t->dtype != BF_F64)
        return bf_fail(err, BF_ESHAPE, "logprobs is of type %s, wanted F32 or F64",
                       bf_dtype_name(t->dtype));
    if (t->rank != 2)
        return bf_fail(err, BF_ESHAPE, "logprobs has %zu axes, wanted 2 (position, token)",
                       t->rank);
    if (t->dim[0] != N)
        return bf_fail(err, BF_ESHAPE, "logprobs has %zu positions, the text has %zu", t->dim[0],
                       N);
    if (t->dim[1] != V)
        return bf_fail(err, BF_ESHAPE,
                       "logprobs is of a vocabulary of %zu tokens, the model has %zu", t->dim[1],
                       V);
    return BF_OK;
}

static bf_code check_tokens(const bf_tensor *t, const int64_t *tokens, size_t n, bf_error *err)
{
    if (!t || t->dtype != BF_I64 || t->rank != 1 || t->dim[0] != n)
        return bf_fail(err, BF_EARG, "it does not hold %zu tokens (I64), as the text has", n);
    for (size_t k = 0; k < n; k++)
        if (bf_tensor_value(t, k) != (double)tokens[k])
            return bf_fail(err, BF_EARG,
                           "token %zu is %.0f, in the text %lld; kl-text compares other texts, too",
                           k, bf_tensor_value(t, k), (long long)tokens[k]);
    return BF_OK;
}

static bf_code check_row(const bf_tensor *t, size_t i, size_t V, bf_error *err)
{
    const double slack = 1e-3; /* half precision would do */
    double sum = 0.0;
    for (size_t v = 0; v < V; v++) {
        const double value = bf_tensor_value(t, i * V + v);
        if (!(value <= slack))
            return bf_fail(err, BF_EFORMAT,
                           "logprobs of position %zu, token %zu is %g, wanted at most 0", i, v,
                           value);
        sum += exp(value);
    }
    if (!(fabs(sum - 1.0) <= slack))
        return bf_fail(err, BF_EFORMAT,
                       "logprobs of position %zu are of probabilities that add up to %g,"
                       " wanted 1",
                       i, sum);
    return BF_OK;
}

bf_code bf_target_reference(const bf_tensor **logprobs, const bf_target *target,
                            const int64_t *tokens, size_t n_tokens, size_t N, size_t V,
                            bf_error *err)
{
    if (!target->reference)
        return bf_fail(err, BF_EARG, "a divergence needs a reference, a record with logprobs");
    const bf_tensor *t = bf_record_find(target->reference, "logprobs");
    if (!t)
        return bf_fail(err, BF_EARG,
                       "there is no tensor logprobs, wanted a record of trace --logprobs");
    bf_code rc = check_shape(t, N, V, err);
    if (!rc && !target->other_text)
        rc = check_tokens(bf_record_find(target->reference, "tokens"), tokens, n_tokens, err);
    for (size_t i = 0; i < N && !rc; i++)
        rc = check_row(t, i, V, err);
    if (!rc)
        *logprobs = t;
    return rc;
}
