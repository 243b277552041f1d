/* Heapsort: O(n log n) comparisons also where an adversary chose the order,
 * no memory but 64 bytes. */
#include "core/sort.h"

#include <stdbool.h>
#include <string.h>

enum { PIECE = 64 };

struct sorting {
    unsigned char *items;
    size_t size; /* bytes of an item */
    qrb__compare_with_fn compare;
    const void *arg;
};

static void swap(const struct sorting *sorting, size_t a, size_t b)
{
    unsigned char *x = sorting->items + a * sorting->size;
    unsigned char *y = sorting->items + b * sorting->size;

    for (size_t done = 0; done < sorting->size; done += PIECE) {
        const size_t left = sorting->size - done;
        const size_t size = left < PIECE ? left : PIECE;
        unsigned char held[PIECE];

        memcpy(held, x + done, size);
        memcpy(x + done, y + done, size);
        memcpy(y + done, held, size);
    }
}

static bool goes_before(const struct sorting *sorting, size_t a, size_t b)
{
    return sorting->compare(sorting->items + a * sorting->size,
                            sorting->items + b * sorting->size,
                            sorting->arg) < 0;
}

/* The largest of the tree below `root` comes up; of `count` items in all. */
static void sift_down(const struct sorting *sorting, size_t root, size_t count)
{
    while (root < count / 2) {
        size_t child = 2 * root + 1;

        if (child + 1 < count && goes_before(sorting, child, child + 1))
            child++;
        if (!goes_before(sorting, root, child))
            return;
        swap(sorting, root, child);
        root = child;
    }
}

void qrb__sort_with(void *items, size_t count, size_t size,
                    qrb__compare_with_fn compare, const void *arg)
{
    const struct sorting sorting = { items, size, compare, arg };

    for (size_t root = count / 2; root-- > 0;)
        sift_down(&sorting, root, count);
    for (size_t last = count; last-- > 1;) {
        swap(&sorting, 0, last);
        sift_down(&sorting, 0, last);
    }
}

static int compare_alone(const void *a, const void *b, const void *arg)
{
    const qrb__compare_fn *compare = arg;

    return (*compare)(a, b);
}

void qrb__sort(void *items, size_t count, size_t size, qrb__compare_fn compare)
{
    qrb__sort_with(items, count, size, compare_alone, &compare);
}

int qrb__compare_strings(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;

    return strcmp(*x, *y);
}
