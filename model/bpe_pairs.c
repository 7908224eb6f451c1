#include "model/bpe_pairs.h"

#include <stdlib.h>
#include <string.h>

/* Room for one more of n elements of a list with cap. */
static bool grow(bf_pairs *p, void **list, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return true;
    const size_t wanted = *cap ? 2 * *cap : 8;
    void *grown = p->failed || wanted > SIZE_MAX / size ? NULL : realloc(*list, wanted * size);
    if (!grown) {
        p->failed = true;
        return false;
    }
    *list = grown;
    *cap = wanted;
    return true;
}

/* ---- counts ---- */

static bf_pair_slot *slot_of(const bf_pairs *p, uint64_t pair)
{
    uint64_t h = pair * UINT64_C(0x9E3779B97F4A7C15);
    size_t k = (size_t)(h ^ h >> 32) & (p->slots - 1);
    while (p->slot[k].used && p->slot[k].pair != pair)
        k = (k + 1) & (p->slots - 1);
    return &p->slot[k];
}

static bool rehash(bf_pairs *p)
{
    const size_t slots = p->slots ? 2 * p->slots : 4096;
    bf_pairs larger = {.slots = slots, .slot = p->failed ? NULL : calloc(slots, sizeof *p->slot)};
    if (!larger.slot) {
        p->failed = true;
        return false;
    }
    for (size_t k = 0; k < p->slots; k++)
        if (p->slot[k].used)
            *slot_of(&larger, p->slot[k].pair) = p->slot[k];
    free(p->slot);
    p->slot = larger.slot;
    p->slots = slots;
    return true;
}

static int64_t count_of(const bf_pairs *p, uint64_t pair)
{
    return p->slots ? slot_of(p, pair)->count : 0;
}

void bf_pairs_add(bf_pairs *p, uint64_t pair, int64_t change, uint32_t word)
{
    if (p->failed || (2 * (p->n_used + 1) > p->slots && !rehash(p)))
        return;
    bf_pair_slot *s = slot_of(p, pair);
    p->n_used += !s->used;
    s->used = true;
    s->pair = pair;
    s->count += change;
    bf_pair_words *fresh = &s->fresh;
    if (change <= 0 || (fresh->n && fresh->word[fresh->n - 1] == word))
        return;
    if (!fresh->n) {
        if (!grow(p, (void **)&p->touched, p->n_touched, &p->cap_touched, sizeof *p->touched))
            return;
        p->touched[p->n_touched++] = pair;
    }
    if (grow(p, (void **)&fresh->word, fresh->n, &fresh->cap, sizeof *fresh->word))
        fresh->word[fresh->n++] = word;
}

/* ---- the heap ---- */

static bool before(const bf_pair_entry *a, const bf_pair_entry *b)
{
    return a->count != b->count ? a->count > b->count : a->pair < b->pair;
}

static void sink(bf_pairs *p, bf_pair_entry e)
{
    size_t k = 0;
    for (;;) {
        size_t child = 2 * k + 1;
        if (child + 1 < p->n_heap && before(&p->heap[child + 1], &p->heap[child]))
            child++;
        if (child >= p->n_heap || !before(&p->heap[child], &e))
            break;
        p->heap[k] = p->heap[child];
        k = child;
    }
    p->heap[k] = e;
}

static void push(bf_pairs *p, bf_pair_entry e)
{
    if (!grow(p, (void **)&p->heap, p->n_heap, &p->cap_heap, sizeof *p->heap)) {
        free(e.words.word);
        return;
    }
    size_t k = p->n_heap++;
    for (; k && before(&e, &p->heap[(k - 1) / 2]); k = (k - 1) / 2)
        p->heap[k] = p->heap[(k - 1) / 2];
    p->heap[k] = e;
}

void bf_pairs_settle(bf_pairs *p)
{
    for (size_t k = 0; k < p->n_touched; k++) {
        bf_pair_slot *s = slot_of(p, p->touched[k]);
        if (s->count > 0)
            push(p, (bf_pair_entry){s->pair, s->count, s->fresh});
        else
            free(s->fresh.word);
        s->fresh = (bf_pair_words){0};
    }
    p->n_touched = 0;
}

/* Counts only fall while a pair waits, so the first entry whose count is right is the commonest. */
bool bf_pairs_pop(bf_pair_entry *out, bf_pairs *p)
{
    while (p->n_heap && !p->failed) {
        bf_pair_entry top = p->heap[0];
        const int64_t now = count_of(p, top.pair);
        if (top.count != now) {
            top.count = now;
            sink(p, top);
            continue;
        }
        const bf_pair_entry last = p->heap[--p->n_heap];
        if (p->n_heap)
            sink(p, last);
        *out = top;
        return true;
    }
    return false;
}

void bf_pairs_free(bf_pairs *p)
{
    for (size_t k = 0; k < p->slots; k++)
        free(p->slot[k].fresh.word);
    for (size_t k = 0; k < p->n_heap; k++)
        free(p->heap[k].words.word);
    free(p->slot);
    free(p->touched);
    free(p->heap);
    *p = (bf_pairs){0};
}
