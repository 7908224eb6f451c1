#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { ALIGN = 64 };

struct bf_arena {
    unsigned char *base;
    size_t size, used;
};

bf_code bf_arena_new(bf_arena **out, size_t bytes, bf_error *err)
{
    bf_arena *arena = calloc(1, sizeof *arena);
    if (!arena)
        return bf_fail(err, BF_ENOMEM, "cannot hold an arena");
    arena->size = bytes ? bytes : ALIGN;
    void *base = mmap(NULL, arena->size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        free(arena);
        return bf_fail(err, BF_ENOMEM, "cannot reserve %zu bytes", bytes);
    }
    arena->base = base;
    *out = arena;
    return BF_OK;
}

void bf_arena_free(bf_arena *arena)
{
    if (!arena)
        return;
    munmap(arena->base, arena->size);
    free(arena);
}

size_t bf_arena_need(size_t count, size_t size)
{
    if (size && count > (SIZE_MAX - ALIGN) / size)
        return SIZE_MAX;
    return (count * size + ALIGN - 1) / ALIGN * ALIGN;
}

void *bf_arena_take(bf_arena *arena, size_t count, size_t size)
{
    const size_t need = bf_arena_need(count, size);
    if (need > arena->size - arena->used)
        return NULL;
    void *p = arena->base + arena->used;
    arena->used += need;
    return p;
}

size_t bf_arena_mark(const bf_arena *arena)
{
    return arena->used;
}

void bf_arena_reset(bf_arena *arena, size_t mark)
{
    arena->used = mark;
}

void *bf_room_take(bf_room *room, size_t count, size_t size)
{
    const size_t need = bf_arena_need(count, size);
    if (need > SIZE_MAX / 2 - room->bytes) {
        room->failed = true;
        return NULL;
    }
    room->bytes += need;
    if (!room->arena)
        return NULL;
    void *p = bf_arena_take(room->arena, count, size);
    room->failed = room->failed || !p;
    return p;
}

void *bf_room_rows(bf_room *room, size_t n, size_t width, size_t size)
{
    if (size && width > SIZE_MAX / size) {
        room->failed = true;
        return NULL;
    }
    return bf_room_take(room, n, width * size);
}
