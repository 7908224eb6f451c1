/* arena.h -- memory that ends all at once: mark, take, reset. */
#ifndef BF_BASE_ARENA_H
#define BF_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "backflow/error.h"

typedef struct bf_arena bf_arena;

/* Reserve bytes of address space; pages become resident when they are first written.
 * BF_ENOMEM. */
bf_code bf_arena_new(bf_arena **out, size_t bytes, bf_error *err);
void bf_arena_free(bf_arena *arena); /* NULL-safe */
/* count values of size bytes, aligned to 64, zero the first time the memory is used and undefined
 * after a reset. NULL if full or if count*size overflows. */
void *bf_arena_take(bf_arena *arena, size_t count, size_t size);
size_t bf_arena_mark(const bf_arena *arena);
void bf_arena_reset(bf_arena *arena, size_t mark);
/* Bytes that count values take, rounding included; SIZE_MAX on overflow. */
size_t bf_arena_need(size_t count, size_t size);
/* Take from an arena, or only count what taking would need: one layout for both, so that they agree. */
typedef struct {
    bf_arena *arena; /* NULL: only count */
    size_t bytes;    /* so far */
    bool failed;     /* too large, or the arena was full */
} bf_room;

/* count values of size bytes; NULL where it only counts, or failed. */
void *bf_room_take(bf_room *room, size_t count, size_t size);
/* The same for n rows of width values. */
void *bf_room_rows(bf_room *room, size_t n, size_t width, size_t size);

#endif
