/* Arrays whose last element lies right before a page that may not be touched,
 * so that one access past the end ends the test. */
#ifndef TESTS_GUARDED_H
#define TESTS_GUARDED_H

#include <check.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct guarded {
    unsigned char *pages;
    size_t length; /* of the mapping, guard page included */
    size_t bytes;
};

static inline struct guarded guarded_create(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct guarded g = { NULL, (bytes / page + 2) * page, bytes };

    g.pages = mmap(NULL, g.length, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(g.pages, MAP_FAILED);
    ck_assert_int_eq(mprotect(g.pages + g.length - page, page, PROT_NONE), 0);
    return g;
}

/* The array itself. */
static inline void *guarded_memory(const struct guarded *g)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return g->pages + g->length - page - g->bytes;
}

static inline void guarded_destroy(struct guarded *g)
{
    munmap(g->pages, g->length);
}

#endif
