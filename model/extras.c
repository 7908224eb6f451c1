/* What config.json says under "backflow": parts that no family of Hugging Face's has. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/families.h"

/* One of two words; a field that is missing says `no`. */
static bf_code read_word(bool *out, const bf_json *object, const char *key, const char *yes, const char *no,
                         bf_error *err)
{
    const char *word;
    const bf_code rc = bf_json_opt_string(&word, object, key, no, err);
    if (rc)
        return rc;
    *out = strcmp(word, yes) == 0;
    if (!*out && strcmp(word, no) != 0)
        return bf_fail(err, BF_EFORMAT, "field \"%s\" is \"%.40s\", wanted \"%s\" or \"%s\"", key, word, yes,
                       no);
    return BF_OK;
}

static bf_code read_words(bf_mask *m, const bf_json *object, bf_error *err)
{
    bool detach = false;
    bf_code rc = read_word(&detach, object, "detach", "memory", "none", err);
    if (!rc)
        rc = read_word(&m->learnt, object, "gate", "learnt", "fixed", err);
    if (!rc)
        rc = read_word(&m->delta, object, "update", "delta", "linear", err);
    m->detach = detach ? BF_DETACH_MEMORY : BF_DETACH_NONE;
    return rc;
}

static bf_code only_known(const bf_json *object, bf_error *err)
{
    static const char *const known[] = {"window", "sink", "segment", "memory", "detach", "compressive",
                                        "gate", "update", "bidirectional"};
    for (const bf_json *f = bf_json_first(object); f; f = bf_json_next(f)) {
        size_t k = 0;
        while (k < sizeof known / sizeof *known && strcmp(bf_json_key(f), known[k]) != 0)
            k++;
        if (k == sizeof known / sizeof *known)
            return bf_fail(err, BF_EFORMAT, "field \"%.40s\" is unknown, wanted window, sink, segment, "
                           "memory, detach, compressive, gate, update or bidirectional", bf_json_key(f));
    }
    return BF_OK;
}

bf_code bf_mask_read(bf_mask *out, const bf_json *object, bf_error *err)
{
    bf_mask m = {0};
    char found[64];
    if (bf_json_kind(object) != BF_JSON_OBJECT)
        return bf_fail(err, BF_EFORMAT, "found %s, wanted an object",
                       bf_json_describe(object, found, sizeof found));
    const struct {
        const char *key;
        size_t *to;
    } sizes[] = {{"window", &m.window}, {"sink", &m.sink}, {"segment", &m.segment}, {"memory", &m.memory}};
    bf_code rc = only_known(object, err);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes && !rc; k++) {
        rc = bf_json_opt_size(sizes[k].to, object, sizes[k].key, 0, err);
        if (!rc && *sizes[k].to > INT32_MAX)
            rc = bf_fail(err, BF_EFORMAT, "field \"%s\" is the number %zu, wanted 0 to %d", sizes[k].key,
                         *sizes[k].to, INT32_MAX);
    }
    if (!rc)
        rc = bf_json_opt_bool(&m.bidirectional, object, "bidirectional", false, err);
    if (!rc)
        rc = bf_json_opt_number(&m.compressive, object, "compressive", 0.0, err);
    if (!rc && !(m.compressive >= 0.0 && m.compressive < 1.0))
        rc = bf_fail(err, BF_EFORMAT, "field \"compressive\" is the number %g, wanted 0 to below 1",
                     m.compressive);
    if (!rc)
        rc = read_words(&m, object, err);
    if (!rc && bf_mask_fault(&m))
        rc = bf_fail(err, BF_EFORMAT, "found %s", bf_mask_fault(&m));
    if (!rc)
        *out = m;
    return rc;
}

/* One mask for all layers, or a list with one for each. */
static void read_masks(bf_reader *r, const bf_json *field)
{
    bf_config *c = r->config;
    const bool list = bf_json_kind(field) == BF_JSON_ARRAY;
    if (c->mask) {
        bf_reader_fail(r, BF_EFORMAT, "field \"backflow.mask\" beside windows of the family's own");
        return;
    }
    if (list && bf_json_count(field) != c->L) {
        bf_reader_fail(r, BF_EFORMAT, "field \"backflow.mask\" has %zu entries, wanted %zu",
                       bf_json_count(field), c->L);
        return;
    }
    if (!(c->mask = calloc(c->L, sizeof *c->mask))) {
        bf_reader_fail(r, BF_ENOMEM, "cannot hold %zu masks", c->L);
        return;
    }
    const bf_json *one = list ? bf_json_first(field) : field;
    for (size_t l = 0; l < c->L && !r->rc; l++) {
        bf_error why;
        const bf_code rc = bf_mask_read(&c->mask[l], one, &why);
        if (rc)
            bf_reader_fail(r, rc, "field \"backflow.mask\": %s", why.msg);
        if (c->mask[l].compressive > 0.0 && c->pos == BF_POS_ROTARY) /* its keys would have to be unrotated */
            bf_reader_fail(r, BF_EUNSUPPORTED, "field \"backflow.mask\": found \"compressive\" with rotary "
                           "positions, wanted learned ones");
        one = list ? bf_json_next(one) : field;
    }
}

/* The gates of compressive memories that were learnt: b_h, the memory's part is sigmoid(b_h). */
static void take_gates(bf_reader *r)
{
    const bf_config *c = r->config;
    for (size_t l = 0; l < c->L && !r->rc; l++)
        if (bf_config_mask(c, l).learnt)
            r->weights->layer[l].gate = bf_slot_vector(r, BF_GATE_NAME, l, c->H);
}

void bf_config_extras(bf_reader *r)
{
    char found[64];
    const bf_json *extras = bf_json_get(r->json, "backflow"), *mask = bf_json_get(extras, "mask"),
                  *token = bf_json_get(extras, "mask_token");
    size_t id = 0;
    r->config->mask_token = -1;
    if (r->rc || !extras)
        return;
    if (bf_json_kind(extras) != BF_JSON_OBJECT)
        bf_reader_fail(r, BF_EFORMAT, "field \"backflow\" is %s, wanted an object",
                       bf_json_describe(extras, found, sizeof found));
    if (!r->rc && mask)
        read_masks(r, mask);
    take_gates(r);
    if (r->rc || !token)
        return;
    if (!bf_json_size(token, &id) || id >= r->config->V)
        bf_reader_fail(r, BF_EFORMAT, "field \"backflow.mask_token\" is %s, wanted an id from 0 to %zu",
                       bf_json_describe(token, found, sizeof found), r->config->V - 1);
    else
        r->config->mask_token = (int64_t)id;
}
