/* values.c -- what stands behind an option: numbers, lists, names. Read to the last character. */
#include "cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 0x7fffffff };

/* Bytes of the list entry at text that a message shows. */
static int shown(const char *text)
{
    const size_t n = strcspn(text, ",");
    return n < 60 ? (int)n : 60;
}

/* Digits from *text on, at most MOST; *text moves behind them. */
static bool take_number(size_t *out, const char **text)
{
    const char *c = *text;
    size_t value = 0;
    for (; *c >= '0' && *c <= '9'; c++) {
        value = value * 10 + (size_t)(*c - '0');
        if (value > MOST)
            return false;
    }
    if (c == *text)
        return false;
    *text = c;
    *out = value;
    return true;
}

static bf_code whole(size_t *out, const char *text, size_t least, bf_error *err)
{
    const char *end = text;
    size_t value;
    if (!take_number(&value, &end) || *end || value < least)
        return bf_fail(err, BF_EARG, "\"%.100s\" is not a whole number from %zu to %d", text, least,
                       (int)MOST);
    *out = value;
    return BF_OK;
}

bf_code cli_parse_any_text(void *target, const char *value, bf_error *err)
{
    (void)err;
    *(const char **)target = value;
    return BF_OK;
}

bf_code cli_parse_text(void *target, const char *value, bf_error *err)
{
    if (!*value)
        return bf_fail(err, BF_EARG, "the value is empty");
    return cli_parse_any_text(target, value, err);
}

bf_code cli_parse_index(void *target, const char *value, bf_error *err)
{
    size_t n = 0;
    const bf_code rc = whole(&n, value, 0, err);
    if (!rc)
        *(long *)target = (long)n;
    return rc;
}

bf_code cli_parse_size(void *target, const char *value, bf_error *err)
{
    return whole(target, value, 0, err);
}

bf_code cli_parse_count(void *target, const char *value, bf_error *err)
{
    return whole(target, value, 1, err);
}

bf_code cli_parse_positive(void *target, const char *value, bf_error *err)
{
    char *end = NULL;
    const size_t plain = strspn(value, "0123456789.eE+-");
    const double x = value[plain] == '\0' && *value ? strtod(value, &end) : NAN;
    if (!end || *end || !isfinite(x) || x <= 0.0)
        return bf_fail(err, BF_EARG, "\"%.100s\" is not a number above 0", value);
    *(double *)target = x;
    return BF_OK;
}

/* The factor that a unit stands for; 0: there is no such unit. */
static double unit_factor(const char *unit)
{
    static const char letters[] = "KMGT";
    double factor = 1024.0;
    if (!*unit || strcmp(unit, "B") == 0)
        return 1.0;
    for (size_t k = 0; k < 4; k++, factor *= 1024.0)
        if (unit[0] == letters[k] || unit[0] == letters[k] - 'A' + 'a')
            return unit[1] == '\0' || strcmp(unit + 1, "B") == 0 || strcmp(unit + 1, "iB") == 0
                       ? factor
                       : 0.0;
    return 0.0;
}

bf_code cli_parse_bytes(void *target, const char *value, bf_error *err)
{
    const size_t digits = strspn(value, "0123456789.");
    char *end = NULL;
    const double x = digits ? strtod(value, &end) : NAN;
    const double bytes = end == value + digits ? x * unit_factor(end) : NAN;
    if (!(bytes >= 1.0) || bytes > 0x1p62)
        return bf_fail(err, BF_EARG, "\"%.100s\" is not a number of bytes such as 512M, 1.5G or 4G",
                       value);
    *(size_t *)target = (size_t)bytes;
    return BF_OK;
}

bf_code cli_parse_precision(void *target, const char *value, bf_error *err)
{
    static const char *const names[] = {
        [BF_PRECISION_F32] = "f32", [BF_PRECISION_F64] = "f64", [BF_PRECISION_BF16] = "bf16"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (strcmp(value, names[k]) == 0) {
            *(bf_precision *)target = (bf_precision)k;
            return BF_OK;
        }
    return bf_fail(err, BF_EARG, "unknown precision \"%.100s\", wanted f32, f64 or bf16", value);
}

bf_code cli_parse_detach(void *target, const char *value, bf_error *err)
{
    static const char *const names[] = {
        [BF_DETACH_NONE] = "none", [BF_DETACH_MEMORY] = "memory", [BF_DETACH_MYOPIC] = "myopic"};
    for (size_t k = BF_DETACH_NONE; k < sizeof names / sizeof *names; k++)
        if (strcmp(value, names[k]) == 0) {
            *(bf_detach *)target = (bf_detach)k;
            return BF_OK;
        }
    return bf_fail(err, BF_EARG, "found \"%.100s\", wanted none, memory or myopic", value);
}

/* The tokens of "A" or "A,B" after the colon: n of them. */
static bf_code target_tokens(int64_t to[2], size_t n, const char *text, bf_error *err)
{
    int64_t *ids = NULL;
    size_t found = 0;
    bf_code rc = cli_parse_ids(&ids, &found, text, err);
    if (!rc && found != n)
        rc = bf_fail(err, BF_EARG, "%zu token ids after the colon, wanted %zu", found, n);
    for (size_t k = 0; k < n && !rc; k++)
        to[k] = ids[k];
    free(ids);
    return rc;
}

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bf_code target_reference(cli_target *to, const char *value, const char *path, bf_error *err)
{
    if (!*path)
        return bf_fail(err, BF_EARG, "\"%s\": a record's path is wanted after the colon", value);
    *to = (cli_target){.what = {.kind = BF_TARGET_KL, .a = -1, .b = -1,
                                .other_text = starts(value, "kl-text:")},
                       .reference = path};
    return BF_OK;
}

bf_code cli_parse_target(void *target, const char *value, bf_error *err)
{
    static const struct {
        const char *name;
        bf_target_kind kind;
        size_t least, most; /* token ids after a colon */
    } kinds[] = {{"loss", BF_TARGET_LOSS, 0, 0},           {"logit", BF_TARGET_LOGIT, 0, 1},
                 {"logprob", BF_TARGET_LOGPROB, 0, 1},     {"logit-diff", BF_TARGET_LOGIT_DIFF, 2, 2},
                 {"entropy", BF_TARGET_ENTROPY, 0, 0}};
    const char *colon = strchr(value, ':');
    const size_t length = colon ? (size_t)(colon - value) : strlen(value);
    if (starts(value, "kl:") || starts(value, "kl-text:"))
        return target_reference(target, value, colon + 1, err);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        int64_t ids[2] = {-1, -1};
        if (strlen(kinds[k].name) != length || strncmp(value, kinds[k].name, length) != 0)
            continue;
        if (colon ? kinds[k].most == 0 : kinds[k].least > 0)
            return bf_fail(err, BF_EARG, "\"%.100s\": %s takes %zu token ids after a colon", value,
                           kinds[k].name, kinds[k].most);
        const bf_code rc = colon ? target_tokens(ids, kinds[k].most, colon + 1, err) : BF_OK;
        if (!rc)
            *(cli_target *)target =
                (cli_target){.what = {.kind = kinds[k].kind, .a = ids[0], .b = ids[1]}};
        return rc;
    }
    return bf_fail(err, BF_EARG, "unknown target \"%.100s\", wanted loss, logit, logprob, logit-diff:A,B, "
                   "entropy, kl:RECORD or kl-text:RECORD", value);
}

/* ---- lists of names */

static unsigned score_bit(const char *name)
{
    static const struct {
        const char *name;
        unsigned bits;
    } scores[] = {{"grad_norm", BF_SCORE_GRAD_NORM},
                  {"grad_x_act", BF_SCORE_GRAD_X_ACT},
                  {"own", BF_SCORE_OWN},
                  {"share", BF_SCORE_SHARE},
                  {"edge", BF_SCORE_EDGE},
                  {"param", BF_SCORE_PARAM},
                  {"weight", BF_SCORE_WEIGHT},
                  {"all", BF_SCORE_ALL}};
    for (size_t k = 0; k < sizeof scores / sizeof *scores; k++)
        if (strcmp(name, scores[k].name) == 0)
            return scores[k].bits;
    return 0;
}

static unsigned site_bit(const char *name)
{
    return strcmp(name, "all") == 0 ? BF_SITE_ALL : bf_site_bit(name);
}

static bf_code names(unsigned *out, const char *text, unsigned (*bit)(const char *),
                     const char *what, const char *wanted, bf_error *err)
{
    unsigned bits = 0;
    for (const char *at = text;; at++) {
        char name[32];
        const size_t n = strcspn(at, ",");
        const bool fits = n < sizeof name;
        memcpy(name, at, fits ? n : 0);
        name[fits ? n : 0] = '\0';
        const unsigned found = bit(name);
        if (!found)
            return bf_fail(err, BF_EARG,
                           "unknown %s \"%.*s\", wanted some of %s with commas between", what,
                           shown(at), at, wanted);
        bits |= found;
        at += n;
        if (!*at)
            break;
    }
    *out = bits;
    return BF_OK;
}

bf_code cli_parse_sites(void *target, const char *value, bf_error *err)
{
    return names(target, value, site_bit, "site",
                 "resid_pre, resid_mid, resid_final, attn_out, mlp_out, q, k, v, z, all", err);
}

bf_code cli_parse_scores(void *target, const char *value, bf_error *err)
{
    return names(target, value, score_bit, "score", "grad_norm, grad_x_act, own, share, edge, param, weight, all", err);
}

/* ---- lists of numbers */

bf_code cli_parse_ids(int64_t **out, size_t *n, const char *text, bf_error *err)
{
    size_t most = 1, count = 0;
    for (const char *c = text; *c; c++)
        most += *c == ',';
    int64_t *ids = malloc(most * sizeof *ids);
    if (!ids)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu token ids", most);
    for (const char *at = text;; at++) {
        size_t id;
        const char *start = at;
        if (!take_number(&id, &at) || (*at && *at != ',')) {
            free(ids);
            return bf_fail(err, BF_EARG,
                           "entry %zu, \"%.*s\", is not a token id, wanted whole numbers "
                           "with commas between",
                           count, shown(start), start);
        }
        ids[count++] = (int64_t)id;
        if (!*at)
            break;
    }
    *out = ids;
    *n = count;
    return BF_OK;
}

/* One part of a list of ranges, a number or from:to; *text moves behind it. */
static bool take_range(size_t *from, size_t *to, const char **text, size_t limit)
{
    *from = 0;
    *to = limit;
    const bool open = **text == ':';
    if (!open && !take_number(from, text))
        return false;
    if (**text != ':') {
        *to = *from + 1;
        return **text == '\0' || **text == ',';
    }
    ++*text;
    if (**text && **text != ',' && !take_number(to, text))
        return false;
    return **text == '\0' || **text == ',';
}

static bf_code mark_ranges(bool *chosen, const char *text, size_t limit, const char *what,
                           bf_error *err)
{
    for (const char *at = text;; at++) {
        size_t from, to;
        const char *start = at;
        if (!take_range(&from, &to, &at, limit))
            return bf_fail(err, BF_EARG,
                           "\"%.*s\" is not a %s, wanted numbers or ranges such as 3,10:20 "
                           "(10 to 19)",
                           shown(start), start, what);
        if (from >= to)
            return bf_fail(err, BF_EARG, "the range \"%.*s\" is empty", shown(start), start);
        if (to > limit)
            return bf_fail(err, BF_EARG, "%s %zu is not there, they go from 0 to %zu", what,
                           from >= limit ? from : to - 1, limit - 1);
        for (size_t k = from; k < to; k++)
            chosen[k] = true;
        if (!*at)
            return BF_OK;
    }
}

bf_code cli_parse_ranges(size_t **out, size_t *n, const char *text, size_t limit, const char *what,
                         bf_error *err)
{
    bool *chosen = calloc(limit ? limit : 1, sizeof *chosen);
    size_t *list = calloc(limit ? limit : 1, sizeof *list), count = 0;
    bf_code rc = chosen && list ? mark_ranges(chosen, text, limit, what, err)
                                : bf_fail(err, BF_ENOMEM, "cannot hold %zu numbers", limit);
    for (size_t k = 0; k < limit && !rc; k++)
        if (chosen[k])
            list[count++] = k;
    free(chosen);
    if (rc) {
        free(list);
        return rc;
    }
    *out = list;
    *n = count;
    return BF_OK;
}
