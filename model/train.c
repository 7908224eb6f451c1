#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/packed.h"
#include "base/threads.h"
#include "model/data.h"
#include "model/train.h"

enum { MOST = 1 << 24 }; /* completions a step */
static const double largest_dropout = 0.999999;

/* The caller's config with defaults in the place of zeros. */
static bf_train_config fill(const bf_train_config *from)
{
    bf_train_config c = *from;
    c.accumulate = c.accumulate ? c.accumulate : 1;
    c.rate = c.rate > 0 ? c.rate : 1e-3;
    c.beta1 = c.beta1 > 0 ? c.beta1 : 0.9;
    c.beta2 = c.beta2 > 0 ? c.beta2 : 0.95;
    c.epsilon = c.epsilon > 0 ? c.epsilon : 1e-8;
    c.checkpoint = c.checkpoint ? c.checkpoint : 100;
    c.joint.context = c.joint.context ? c.joint.context : 16;
    c.identity = c.identity ? c.identity : "";
    return c;
}

double bf_train_rate(const bf_train_config *c, uint64_t step)
{
    const double pi = 3.14159265358979323846;
    if (step < c->warmup)
        return c->rate * (double)(step + 1) / (double)c->warmup;
    const double left = step < c->steps ? (double)(c->steps - step) : 0;
    const double fall = left < (double)c->fall ? left / (double)c->fall : 1;
    if (c->constant_rate)
        return c->rate * fall;
    const double whole = (double)(c->steps - c->warmup);
    const double done = whole > 0 ? (double)(step - c->warmup) / whole : 1;
    return (c->least_rate + (c->rate - c->least_rate) * 0.5 * (1 + cos(pi * done))) * fall;
}

static bf_code check_numbers(const bf_train_config *c, bf_error *err)
{
    const struct {
        const char *name;
        double value, least, most;
    } number[] = {{"rate", c->rate, 0, 1e3},         {"least_rate", c->least_rate, 0, c->rate},
                  {"beta1", c->beta1, 0, 1},         {"beta2", c->beta2, 0, 1},
                  {"epsilon", c->epsilon, 0, 1},     {"decay", c->decay, 0, 1 / c->rate},
                  {"clip", c->clip, 0, 1e30},        {"deviation", c->deviation, 0, 1e3},
                  {"joint.weight", c->joint.weight, 0, 1e6},
                  {"dropout.embedding", c->dropout.embedding, 0, largest_dropout},
                  {"dropout.attention", c->dropout.attention, 0, largest_dropout},
                  {"dropout.residual", c->dropout.residual, 0, largest_dropout}};
    for (size_t k = 0; k < sizeof number / sizeof *number; k++)
        if (!(number[k].value >= number[k].least && number[k].value <= number[k].most))
            return bf_fail(err, BF_EARG, "field \"%s\" is the number %g, wanted %g to %g", number[k].name,
                           number[k].value, number[k].least, number[k].most);
    if (c->beta1 >= 1 || c->beta2 >= 1)
        return bf_fail(err, BF_EARG, "field \"beta%d\" is 1, wanted one below", c->beta1 >= 1 ? 1 : 2);
    if (!c->steps)
        return bf_fail(err, BF_EARG, "field \"steps\" is 0, wanted at least 1");
    if (c->accumulate > SIZE_MAX / c->steps)
        return bf_fail(err, BF_EARG, "field \"accumulate\" is the number %zu, too large", c->accumulate);
    if (c->store != BF_F32 && c->store != BF_BF16 && c->store != BF_F64)
        return bf_fail(err, BF_EARG, "field \"store\" is %s, wanted F32, BF16 or F64",
                       bf_dtype_name(c->store));
    if (c->bf16 && c->f64)
        return bf_fail(err, BF_EARG, "fields \"bf16\" and \"f64\" are both true, wanted one of them");
    if (c->bf16 && !bf_bf16_available())
        return bf_fail(err, BF_EUNSUPPORTED, "field \"precision\" is bf16, this processor has no bfloat16 "
                       "products (avx512_bf16), wanted f32 or f64");
    return BF_OK;
}

static bf_code check_objective(const bf_train_config *c, const bf_config *m, bf_error *err)
{
    const bf_joint *j = &c->joint;
    const bool bidirectional = bf_config_mask(m, 0).bidirectional;
    if (c->objective == BF_OBJECTIVE_HEADS && (c->heads < 2 || m->L < 2))
        return bf_fail(err, BF_EARG, "%zu heads on %zu layers, wanted 2 heads and 2 layers at least",
                       c->heads, m->L);
    if (c->objective == BF_OBJECTIVE_JOINT &&
        (!j->n || !j->prefixes || !j->keep || j->keep > j->samples || !(j->weight > 0) || j->n > MOST ||
         j->prefixes > MOST / j->samples))
        return bf_fail(err, BF_EARG, "joint loss of %zu tokens, %zu prefixes, %zu of %zu samples, wanted 1 "
                       "at least, no more kept than drawn, %d drawn in all at most", j->n, j->prefixes,
                       j->keep, j->samples, MOST);
    if (c->objective == BF_OBJECTIVE_JOINT && bidirectional)
        return bf_fail(err, BF_EUNSUPPORTED, "a bidirectional model cannot draw completions");
    if (c->cut == BF_CUT_LOCAL && !c->start)
        return bf_fail(err, BF_EARG, "the local cut needs a model in \"start\"");
    if (c->cut == BF_CUT_LOCAL && c->objective == BF_OBJECTIVE_HEADS)
        return bf_fail(err, BF_EUNSUPPORTED, "the local cut has no n-token heads");
    for (size_t l = 0; l < m->L; l++) {
        const bool compressive = bf_config_mask(m, l).compressive > 0;
        if (c->cut == BF_CUT_LOCAL && compressive)
            return bf_fail(err, BF_EUNSUPPORTED, "the local cut has no compressive memory");
        if (c->dropout.attention > 0 && compressive)
            return bf_fail(err, BF_EUNSUPPORTED, "field \"dropout.attention\" is the number %g, wanted 0: a "
                           "compressive memory answers out of sums, with no weights to drop",
                           c->dropout.attention);
    }
    if (c->cut != BF_CUT_NONE && bidirectional)
        return bf_fail(err, BF_EARG, "a bidirectional model has no earlier positions to cut off");
    return BF_OK;
}

/* What the model's config tells other software of dropout must be what happens here. */
static bf_code check_dropout(const bf_json *json, const bf_dropout *d, bf_error *err)
{
    const struct {
        const char *key, *name;
        double value;
    } field[] = {{"embd_pdrop", "embedding", d->embedding},
                 {"attn_pdrop", "attention", d->attention},
                 {"attention_dropout", "attention", d->attention},
                 {"resid_pdrop", "residual", d->residual}};
    for (size_t k = 0; k < sizeof field / sizeof *field; k++) {
        double value = 0;
        bf_code rc = bf_json_opt_number(&value, json, field[k].key, field[k].value, err);
        if (!rc && value != field[k].value)
            rc = bf_fail(err, BF_EARG, "field \"%s\" is the number %g, wanted dropout.%s, %g", field[k].key,
                         value, field[k].name, field[k].value);
        if (rc)
            return bf_error_prefix(err, rc, "model");
    }
    return BF_OK;
}

/* The first batch against the model: what the data is. */
static bf_code check_batch(const bf_train_config *c, const bf_config *m, const bf_batch *b, bf_data *data,
                           bf_error *err)
{
    const size_t wanted = b->x ? b->channels + 1 : bf_data_vocabulary(data);
    if ((b->x != NULL) != (c->objective == BF_OBJECTIVE_REAL))
        return bf_fail(err, BF_EARG, "field \"objective\": the data has %s",
                       b->x ? "real numbers" : "tokens");
    if (m->V != wanted)
        return bf_fail(err, BF_EARG, "model: field \"vocab_size\" is %zu, the data's is %zu", m->V, wanted);
    if (b->x && m->tied)
        return bf_fail(err, BF_EARG, "model: field \"tie_word_embeddings\" is true, wanted false for real "
                       "numbers");
    if (c->objective == BF_OBJECTIVE_HEADS && b->heads != c->heads)
        return bf_fail(err, BF_EARG, "the data has targets for %zu heads, the model has %zu", b->heads,
                       c->heads);
    if (m->P && b->T > m->P)
        return bf_fail(err, BF_EARG, "sequences of %zu positions, the model knows %zu", b->T, m->P);
    if (c->objective == BF_OBJECTIVE_JOINT && (c->joint.n >= b->T || c->joint.context > b->T - c->joint.n))
        return bf_fail(err, BF_EARG, "joint loss of %zu tokens after %zu, wanted no more than the %zu "
                       "positions of a sequence", c->joint.n, c->joint.context, b->T);
    return BF_OK;
}

/* Multiply-adds of the matrix products of a step, times two: forward one, back two. */
static double flops(const bf_train_config *c, const bf_train_layout *y, const bf_config *m, const bf_batch *b)
{
    const double rows = (double)b->B * (double)b->T * (double)c->accumulate;
    const size_t table = m->V * m->D * (m->tied ? 0 : 1) + m->pos_rows * m->D;
    const double attention = 2.0 * (double)m->L * (double)b->T * (double)(m->H * m->K) / 2;
    const double more = c->objective == BF_OBJECTIVE_HEADS ? (double)(c->heads - 1) : 0;
    const double head = more * (double)(m->V * m->D);
    return 6 * rows * ((double)(y->values - table) + head + attention);
}

static bf_code check(bf_train_plan *plan, const bf_train_config *c, const bf_train_layout *y, bf_data *data,
                     bf_error *err)
{
    bf_config m = {0};
    bf_weights none = {0};
    bf_batch b;
    bf_code rc = bf_train_bind(&m, &none, y, NULL, c->f64 ? BF_F64 : BF_F32, err);
    if (!rc)
        rc = check_dropout(y->json, &c->dropout, err);
    if (!rc)
        rc = check_objective(c, &m, err);
    if (!rc)
        rc = bf_data_batch(&b, data, BF_SPLIT_TRAIN, 0, err);
    if (!rc)
        rc = check_batch(c, &m, &b, data, err);
    if (!rc && c->held_out && !bf_data_held_out(data))
        rc = bf_fail(err, BF_EARG, "field \"held_out\" is %zu, the data holds nothing out", c->held_out);
    if (!rc) {
        *plan = (bf_train_plan){.parameters = y->values - y->extra_values,
                                .extra_parameters = y->extra_values,
                                .tokens = b.B * b.T * c->accumulate,
                                .flops = flops(c, y, &m, &b)};
        plan->bytes = (c->f64 ? bf_train_bytes_f64 : bf_train_bytes_f32)(c, y, &m, b.B, b.T);
        if (plan->bytes == SIZE_MAX)
            rc = bf_fail(err, BF_ENOMEM, "%zu sequences of %zu positions overflow", b.B, b.T);
    }
    bf_train_unbind(&m, &none);
    return rc;
}

bf_code bf_train_check(bf_train_plan *plan, const bf_train_config *config, bf_data *data, bf_error *err)
{
    const bf_train_config c = fill(config);
    bf_train_layout y = {0};
    bf_code rc = check_numbers(&c, err);
    if (!rc)
        rc = bf_train_layout_new(&y, &c, err);
    if (!rc)
        rc = check(plan, &c, &y, data, err);
    bf_train_layout_free(&y);
    return rc;
}

bf_code bf_train(const char *folder, const bf_train_config *config, bf_data *data, bool resume,
                 bf_train_state *state, bf_train_progress *progress, void *progress_context,
                 const volatile sig_atomic_t *stop, bf_error *err)
{
    const bf_train_config c = fill(config);
    bf_train_layout y = {0};
    bf_train_plan plan;
    bf_train_state spare;
    bf_code rc = check_numbers(&c, err);
    if (!rc)
        rc = bf_train_layout_new(&y, &c, err);
    if (!rc)
        rc = check(&plan, &c, &y, data, err);
    const bf_train_job job = {folder, &c, &y, data, resume, state ? state : &spare, progress,
                              progress_context, stop};
    if (!rc)
        rc = c.f64 ? bf_train_run_f64(&job, err) : bf_train_run_f32(&job, err);
    bf_train_layout_free(&y);
    return rc;
}
