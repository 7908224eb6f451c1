/* CONFIG.json: the reader's table against docs/train.schema.json, what is refused, and what fields
 * come to. */
#include "tests/close.h"
#include "tests/scratch.h"

#include "backflow/train.h"
#include "base/buf.h"
#include "base/json.h"
#include "model/train_config.h"

/* ---- table and schema ---- */

static bf_json *read_schema(void)
{
    bf_json *schema = NULL;
    bf_error err;
    if (bf_json_read(&schema, "docs/train.schema.json", 1 << 20, &err))
        fail_msg("%s", err.msg);
    return schema;
}

/* The schema of an object: "data.task" is properties.data.properties.task. */
static const bf_json *section_of(const bf_json *schema, const char *section)
{
    char name[32];
    for (; schema && *section; section += strlen(name) + (section[strlen(name)] == '.')) {
        snprintf(name, sizeof name, "%.*s", (int)strcspn(section, "."), section);
        schema = bf_json_get(bf_json_get(schema, "properties"), name);
    }
    return schema;
}

static void assert_number(const bf_json *field, const char *key, double wanted, const char *name)
{
    double v;
    if (!bf_json_get(field, key) || !bf_json_number(bf_json_get(field, key), &v))
        fail_msg("%s has no %s", name, key);
    else if (v != wanted)
        fail_msg("%s: %s is %.17g, the reader has %.17g", name, key, v, wanted);
}

static void assert_text(const bf_json *field, const char *key, const char *wanted, const char *name)
{
    const char *v = bf_json_get(field, key) ? bf_json_string(bf_json_get(field, key)) : NULL;
    if (!v || strcmp(v, wanted))
        fail_msg("%s: %s is %s, the reader has %s", name, key, v ? v : "missing", wanted);
}

static void assert_choices(const bf_json *field, const bf_train_field *f)
{
    char word[32];
    size_t k = 0;
    const bf_json *list = bf_json_get(field, "enum");
    assert_non_null(list);
    for (const bf_json *c = bf_json_first(list); c; c = bf_json_next(c), k++)
        assert_string_equal(bf_json_string(c), bf_choice_text(word, f->choices, k));
    size_t n = 1;
    for (const char *p = f->choices; *p; p++)
        n += *p == '|';
    assert_int_equal(k, n);
    if (!f->needed)
        assert_text(field, "default", bf_choice_text(word, f->choices, (size_t)f->fallback),
                    f->name);
}

static void assert_agrees(const bf_json *field, const bf_train_field *f)
{
    static const char *const types[] = {"integer", "number", "boolean", "string",
                                        "array",   NULL,     "object"};
    if (types[f->kind])
        assert_text(field, "type", types[f->kind], f->name);
    assert_non_null(bf_json_get(field, "description"));
    if (f->kind == BF_FIELD_SIZE || f->kind == BF_FIELD_NUMBER) {
        assert_number(field, "minimum", f->least, f->name);
        assert_number(field, "maximum", f->most, f->name);
        if (!f->needed)
            assert_number(field, "default", f->fallback, f->name);
    }
    if (f->kind == BF_FIELD_BOOL)
        assert_true(bf_json_true(bf_json_get(field, "default")) == (f->fallback != 0));
    if (f->kind == BF_FIELD_TEXTS)
        assert_number(field, "maxItems", f->most, f->name);
    if (f->kind == BF_FIELD_CHOICE)
        assert_choices(field, f);
    if (f->kind == BF_FIELD_OBJECT)
        assert_false(bf_json_true(bf_json_get(field, "additionalProperties")));
}

static bool is_required(const bf_json *section, const char *name)
{
    const bf_json *list = bf_json_get(section, "required");
    for (const bf_json *c = list ? bf_json_first(list) : NULL; c; c = bf_json_next(c))
        if (!strcmp(bf_json_string(c), name))
            return true;
    return false;
}

static void schema__has_every_field_of_the_reader(void **state)
{
    (void)state;
    bf_json *schema = read_schema();
    for (size_t k = 0; k < bf_train_field_count; k++) {
        const bf_train_field *f = &bf_train_fields[k];
        const bf_json *section = section_of(schema, f->section);
        const bf_json *field = section ? bf_json_get(bf_json_get(section, "properties"), f->name)
                                       : NULL;
        if (!field)
            fail_msg("the schema has no %s.%s", f->section, f->name);
        assert_agrees(field, f);
        assert_true(is_required(section, f->name) == f->needed);
        assert_ptr_equal(bf_train_field_at(f->at), f); /* no two fields in one place */
    }
    bf_json_free(schema);
}

static size_t check_names(const bf_json *section, const char *path)
{
    size_t n = 0;
    for (const bf_json *c = bf_json_first(bf_json_get(section, "properties")); c;
         c = bf_json_next(c)) {
        char inner[64];
        size_t k = 0;
        while (k < bf_train_field_count && (strcmp(bf_train_fields[k].section, path) != 0 ||
                                            strcmp(bf_train_fields[k].name, bf_json_key(c)) != 0))
            k++;
        if (k == bf_train_field_count)
            fail_msg("the reader has no %s.%s", path, bf_json_key(c));
        snprintf(inner, sizeof inner, "%s%s%s", path, *path ? "." : "", bf_json_key(c));
        n += 1 + (bf_json_get(c, "properties") ? check_names(c, inner) : 0);
    }
    return n;
}

static void reader__has_every_field_of_the_schema(void **state)
{
    (void)state;
    bf_json *schema = read_schema();
    assert_int_equal(check_names(schema, ""), bf_train_field_count);
    bf_json_free(schema);
}

/* ---- configs ---- */

#define MODEL "\"model\": {\"family\": \"llama\", \"layers\": 2, \"width\": 12, \"heads\": 3}"
#define COPY "\"data\": {\"task\": {\"kind\": \"copy\", \"symbols\": 5, \"most\": 6}}"
#define SIZES "\"context\": 32, \"batch\": 2, \"steps\": 7"

static bf_code open_text(bf_training **out, scratch *s, const char *text, bf_error *err)
{
    const char *path = scratch_path(s, "config.json");
    scratch_write(path, text, strlen(text));
    return bf_training_open(out, path, err);
}

static bf_training *open_good(scratch *s, const char *text)
{
    bf_training *t = NULL;
    bf_error err = {0};
    if (open_text(&t, s, text, &err))
        fail_msg("%s", err.msg);
    return t;
}

static void config__what_is_wrong_is_named(void **state)
{
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"", "not JSON|JSON"},
        {"[]", "holds no object"},
        {"{" MODEL ", " COPY ", \"batch\": 2, \"steps\": 7}",
         "field \"context\" is missing, wanted a whole number"},
        {"{" COPY ", " SIZES "}", "field \"model\" is missing, wanted an object"},
        {"{\"model\": 3, " COPY ", " SIZES "}",
         "field \"model\" is the number 3, wanted an object"},
        {"{" MODEL ", " COPY ", " SIZES ", \"step\": 3}",
         "field \"step\" is unknown, wanted one of $schema"},
        {"{" MODEL ", " COPY ", " SIZES ", \"seed\": -1}",
         "field \"seed\" is the number -1, wanted a whole"},
        {"{" MODEL ", " COPY ", " SIZES ", \"seed\": null}",
         "field \"seed\" is null, wanted a whole"},
        {"{" MODEL ", " COPY ", " SIZES ", \"seed\": 1.5}", "field \"seed\" is the number 1.5"},
        {"{" MODEL ", " COPY ", " SIZES ", \"precision\": \"f16\"}",
         "\"f16\", wanted one of f32|f64|bf16"},
        {"{" MODEL ", " COPY ", " SIZES ", \"optimizer\": {\"rate\": \"x\"}}",
         "field \"optimizer.rate\" is the string \"x\", wanted a number"},
        {"{" MODEL ", " COPY ", " SIZES ", \"optimizer\": {\"beta1\": 1}}",
         "field \"optimizer.beta1\" is the"},
        {"{" MODEL ", " COPY ", " SIZES ", \"optimizer\": {\"lr\": 1}}",
         "field \"optimizer.lr\" is unknown"},
        {"{" MODEL ", " COPY ", " SIZES ", \"mask\": {\"bidirectional\": 1}}",
         "wanted true or false"},
        {"{" MODEL ", " COPY ", " SIZES ", \"mask\": {\"bidirectional\": true}}",
         "field \"data.masked\" is missing"},
        {"{" MODEL ", " COPY ", " SIZES ", \"dropout\": 2}",
         "field \"dropout\" is the number 2, wanted an object"},
        {"{" MODEL ", " COPY ", " SIZES ", \"dropout\": {\"residual\": 1}}",
         "field \"dropout.residual\" is the number 1, wanted a number from 0 to 0.999999"},
        {"{" MODEL ", " COPY ", " SIZES ", \"dropout\": {\"mlp\": 0.1}}",
         "field \"dropout.mlp\" is unknown, wanted one of embedding, attention, residual"},
        {"{" MODEL ", \"data\": {}, " SIZES "}", "has 0 of text, tokens and task, wanted one"},
        {"{" MODEL ", \"data\": {\"text\": [\"a\"], \"tokens\": [\"b\"]}, " SIZES "}",
         "has 2 of text"},
        {"{" MODEL ", \"data\": {\"text\": \"a\"}, " SIZES "}",
         "is the string \"a\", wanted a list"},
        {"{" MODEL ", \"data\": {\"text\": []}, " SIZES "}", "wanted a list of 1 to 64 strings"},
        {"{" MODEL ", \"data\": {\"text\": [3]}, " SIZES "}", "wanted a list of 1 to 64 strings"},
        {"{" MODEL ", \"data\": {\"text\": [\"a\"]}, " SIZES "}",
         "field \"data.vocabulary\" is missing"},
        {"{" MODEL
         ", \"data\": {\"text\": [\"a\"], \"vocabulary\": 300, \"tokenizer\": \"t\"}, " SIZES "}",
         "beside \"data.tokenizer\""},
        {"{" MODEL ", \"data\": {\"text\": [\"a\"], \"vocabulary\": 300, \"start\": 0.5}, " SIZES
         "}",
         "no data.separator"},
        {"{" MODEL ", \"data\": {\"text\": [\"no such file\"], \"vocabulary\": 300}, " SIZES "}",
         "no such file"},
        {"{" MODEL ", \"data\": {\"task\": {}}, " SIZES "}", "field \"data.task.kind\" is missing"},
        {"{" MODEL ", \"data\": {\"task\": {\"kind\": \"chess\"}}, " SIZES "}",
         "\"chess\", wanted one of sine"},
        {"{" MODEL ", \"data\": {\"task\": {\"kind\": \"copy\", \"most\": 99}}, " SIZES "}",
         "cannot hold"},
        {"{" MODEL ", \"data\": {\"task\": {\"kind\": \"copy\", \"most\": 6}, \"held_out\": "
                   "{\"share\": 0.1}}, " SIZES "}",
         "field \"data.held_out\" beside \"data.task\""},
        {"{\"model\": {\"family\": \"llama\", \"layers\": 2, \"width\": 13, \"heads\": 3}, " COPY
         ", " SIZES "}",
         "field \"model.width\" is the number 13, wanted a multiple of model.heads, 3"},
        {"{\"model\": {\"family\": \"gpt2\", \"layers\": 2, \"width\": 12, \"heads\": 3, "
         "\"kv_heads\": 1}, " COPY ", " SIZES "}",
         "field \"model.kv_heads\" is not for gpt2"},
        {"{\"model\": {\"family\": \"gpt2\", \"layers\": 2, \"width\": 12, \"heads\": 3, "
         "\"positions\": 8}, " COPY ", " SIZES "}",
         "field \"model.positions\" is the number 8, wanted at least context, 32"},
        {"{" MODEL ", " COPY ", " SIZES ", \"seed\": 1, \"seed\": 2}", "appears twice"},
    };
    scratch *s = *state;
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        bf_training *t = NULL;
        bf_error err = {0};
        assert_int_not_equal(open_text(&t, s, bad[k].text, &err), BF_OK);
        assert_null(t);
        if (!strstr(err.msg, "config.json: ") || (k && !strstr(err.msg, bad[k].words)))
            fail_msg("found \"%s\", wanted \"%s\"", err.msg, bad[k].words);
    }
}

static void config__absent_fields_have_the_defaults_of_the_table(void **state)
{
    bf_training *t = open_good(*state, "{" MODEL ", " COPY ", " SIZES "}");
    const bf_train_config *c = bf_training_config(t);
    assert_int_equal(c->steps, 7);
    assert_int_equal(c->seed, 1);
    assert_int_equal(c->objective, BF_OBJECTIVE_TOKENS);
    assert_int_equal(c->cut, BF_CUT_NONE);
    assert_int_equal(c->accumulate, 1);
    assert_close(c->rate, 1e-3, 0);
    assert_close(c->beta2, 0.95, 0);
    assert_close(c->clip, 1, 0);
    assert_int_equal(c->held_out, 8);
    assert_int_equal(c->store, BF_F32);
    assert_false(c->f64);
    assert_null(c->start);
    assert_true(c->dropout.embedding == 0 && c->dropout.attention == 0 && c->dropout.residual == 0);
    assert_null(strstr(c->model, "dropout"));
    bf_json *model = NULL;
    assert_int_equal(bf_json_parse(&model, c->model, strlen(c->model), NULL), BF_OK);
    size_t n = 0;
    assert_int_equal(bf_json_need_size(&n, model, "vocab_size", NULL), BF_OK);
    assert_int_equal(n, 7);
    assert_int_equal(bf_json_need_size(&n, model, "num_key_value_heads", NULL), BF_OK);
    assert_int_equal(n, 3);
    assert_int_equal(bf_json_need_size(&n, model, "max_position_embeddings", NULL), BF_OK);
    assert_int_equal(n, 32);
    assert_int_equal(bf_json_need_size(&n, model, "intermediate_size", NULL), BF_OK);
    assert_int_equal(n, 32); /* 8/3 of 12, rounded up */
    assert_true(bf_json_true(bf_json_get(model, "tie_word_embeddings")));
    assert_null(bf_json_get(model, "backflow"));
    bf_json_free(model);
    bf_train_plan plan;
    bf_error err;
    if (bf_train_check(&plan, c, bf_training_data(t), &err))
        fail_msg("%s", err.msg);
    assert_int_equal(plan.tokens, 64);
    bf_training_free(t);
}

static void config__fields_arrive(void **state)
{
    bf_training *t = open_good(
        *state,
        "{\"model\": {\"family\": \"gpt2\", \"layers\": 2, \"width\": 12, \"heads\": 3, "
        "\"activation\": \"relu\","
        " \"tied\": \"no\", \"norm_epsilon\": 1e-6, \"deviation\": 0.5, \"mlp\": 20, "
        "\"positions\": 40},"
        " \"data\": {\"task\": {\"kind\": \"sine\", \"p\": 1}}, \"objective\": {\"cut\": "
        "\"myopic\"},"
        " \"optimizer\": {\"rate\": 0.5, \"least_rate\": 0.1, \"warmup\": 3, \"accumulate\": 2, "
        "\"decay\": 0.25, \"fall\": 7,"
        " \"clip\": 0, \"constant\": true, \"beta1\": 0.5, \"beta2\": 0.6, \"epsilon\": 1e-3},"
        " \"mask\": {\"window\": 5, \"sink\": 2}, \"precision\": \"f64\", \"store\": \"bf16\", "
        "\"measure\": 3,"
        " \"measure_batches\": 2, \"checkpoint\": 4, \"threads\": 2, \"seed\": 9, " SIZES "}");
    const bf_train_config *c = bf_training_config(t);
    assert_true(c->f64 && c->constant_rate && c->store == BF_BF16 && c->cut == BF_CUT_MYOPIC);
    assert_int_equal(c->objective, BF_OBJECTIVE_REAL);
    assert_true(c->warmup == 3 && c->fall == 7 && c->accumulate == 2 && c->seed == 9 && c->threads == 2);
    assert_true(c->measure == 3 && c->held_out == 2 && c->checkpoint == 4);
    assert_true(c->rate == 0.5 && c->least_rate == 0.1 && c->decay == 0.25 && c->clip == 0);
    assert_true(c->beta1 == 0.5 && c->beta2 == 0.6 && c->epsilon == 1e-3 && c->deviation == 0.5);
    static const char *const wanted[] = {
        "\"vocab_size\": 3,", "\"tie_word_embeddings\": false", "\"activation_function\": \"relu\"",
        "\"n_inner\": 20,", "\"n_positions\": 40,", "\"mask\": {\"window\": 5, \"sink\": 2, "};
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
        if (!strstr(c->model, wanted[k]))
            fail_msg("no %s in %s", wanted[k], c->model);
    bf_training_free(t);
}

/* The model's config.json says it in Hugging Face's names, in digits that read back to the same number. */
static void config__dropout_arrives_where_the_family_has_it(void **state)
{
    static const char *const wanted[] = {"\"embd_pdrop\": 0.1,", "\"attn_pdrop\": 0.0,",
                                         "\"resid_pdrop\": 0.12345678901234568,"};
    bf_train_plan with, without;
    bf_training *t = open_good(*state, "{\"model\": {\"family\": \"gpt2\", \"layers\": 2, \"width\": 12, "
                                       "\"heads\": 3}, \"dropout\": {\"embedding\": 0.1, \"residual\": "
                                       "0.12345678901234568}, " COPY ", " SIZES "}");
    const bf_dropout *d = &bf_training_config(t)->dropout;
    assert_true(d->embedding == 0.1 && d->attention == 0 && d->residual == 0.12345678901234568);
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
        if (!strstr(bf_training_config(t)->model, wanted[k]))
            fail_msg("no %s in %s", wanted[k], bf_training_config(t)->model);
    assert_int_equal(bf_train_check(&with, bf_training_config(t), bf_training_data(t), NULL), BF_OK);
    bf_training_free(t);
    t = open_good(*state, "{" MODEL ", \"dropout\": {\"attention\": 0.25}, " COPY ", " SIZES "}");
    assert_non_null(strstr(bf_training_config(t)->model, "\"attention_dropout\": 0.25,"));
    assert_int_equal(bf_train_check(&with, bf_training_config(t), bf_training_data(t), NULL), BF_OK);
    bf_training_free(t);
    t = open_good(*state, "{" MODEL ", " COPY ", " SIZES "}");
    assert_int_equal(bf_train_check(&without, bf_training_config(t), bf_training_data(t), NULL), BF_OK);
    assert_true(with.bytes >= without.bytes + 32 * 32 * sizeof(float)); /* one head's factors */
    bf_training_free(t);
}

static void config__paths_count_from_its_folder(void **state)
{
    scratch *s = *state;
    char text[2000];
    memset(text, 'a', sizeof text);
    scratch_write(scratch_path(s, "words.txt"), text, sizeof text);
    bf_training *t = open_good(
        s, "{" MODEL ", \"data\": {\"text\": [\"words.txt\"], \"vocabulary\": 258,"
           " \"special\": [\"<end>\", \"<mask>\"], \"masked\": {\"token\": \"<mask>\"}},"
           " \"mask\": {\"bidirectional\": true}, \"start\": \"first\", " SIZES "}");
    const bf_train_config *c = bf_training_config(t);
    char start[600];
    snprintf(start, sizeof start, "%s/first", s->folder);
    assert_string_equal(c->start, start);
    assert_non_null(strstr(c->model, "\"bidirectional\": true}, \"mask_token\": 1}"));
    assert_int_equal(c->held_out, 0); /* nothing is held out */
    assert_int_equal(bf_training_facts(t).tokens, sizeof text);
    bf_training_free(t);
}

static void identity__changes_with_what_is_learnt_and_with_nothing_else(void **state)
{
    static const char *const same[] = {"\"threads\": 7", "\"checkpoint\": 3", "\"about\": \"x\"",
                                       "\"measure\": 5", "\"seed\": 1"};
    static const char *const other[] = {"\"seed\": 2",
                                        "\"precision\": \"f64\"",
                                        "\"precision\": \"bf16\"",
                                        "\"start\": \"x\"",
                                        "\"optimizer\": {\"rate\": 0.002}",
                                        "\"mask\": {\"window\": 3}",
                                        "\"objective\": {\"cut\": \"myopic\"}",
                                        "\"dropout\": {\"attention\": 0.1}",
                                        "\"store\": \"bf16\""};
    char text[600];
    bf_training *first = open_good(*state, "{" MODEL ", " COPY ", " SIZES "}");
    for (size_t k = 0; k < 13; k++) {
        snprintf(text, sizeof text, "{" MODEL ", " COPY ", " SIZES ", %s}",
                 k < 5 ? same[k] : other[k - 5]);
        bf_training *t = open_good(*state, text);
        assert_true(!strcmp(bf_training_identity(first), bf_training_identity(t)) == (k < 5));
        bf_training_free(t);
    }
    char kept[4000];
    snprintf(kept, sizeof kept, "%s", bf_training_identity(first));
    assert_int_equal(bf_training_seed(first, 5, NULL), BF_OK);
    assert_string_not_equal(bf_training_identity(first), kept);
    assert_int_equal(bf_training_seed(first, 1, NULL), BF_OK);
    assert_int_equal(bf_training_steps(first, 8, NULL), BF_OK);
    assert_string_not_equal(bf_training_identity(first), kept);
    assert_int_equal(bf_training_steps(first, 7, NULL), BF_OK);
    assert_string_equal(bf_training_identity(first), kept);
    assert_string_equal(bf_training_config(first)->identity, kept);
    bf_training_free(first);
}

static void mutants__are_read_or_refused_in_words(void **state)
{
    static const char good[] = "{" MODEL ", " COPY ", " SIZES
                               ", \"optimizer\": {\"rate\": 1e-3, \"warmup\": 5},"
                               " \"mask\": {\"window\": 9}, \"objective\": {\"heads\": 2}}";
    uint64_t seed = 11;
    for (int round = 0; round < 1500; round++) {
        char text[sizeof good];
        memcpy(text, good, sizeof good);
        scratch_mutate((unsigned char *)text, sizeof good - 1, &seed);
        bf_json *json = NULL;
        bf_train_file file;
        bf_error err = {0};
        if (!bf_json_parse(&json, text, sizeof good - 1, NULL) &&
            bf_train_file_read(&file, json, &err))
            assert_true(err.code == BF_EFORMAT && strlen(err.msg) > 10);
        bf_json_free(json);
    }
    (void)state;
}

#define ON_FILES(test) cmocka_unit_test_setup_teardown(test, scratch_open, scratch_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schema__has_every_field_of_the_reader),
        cmocka_unit_test(reader__has_every_field_of_the_schema),
        ON_FILES(config__what_is_wrong_is_named),
        ON_FILES(config__absent_fields_have_the_defaults_of_the_table),
        ON_FILES(config__fields_arrive),
        ON_FILES(config__dropout_arrives_where_the_family_has_it),
        ON_FILES(config__paths_count_from_its_folder),
        ON_FILES(identity__changes_with_what_is_learnt_and_with_nothing_else),
        cmocka_unit_test(mutants__are_read_or_refused_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
