/* Sorting in place: the C library's qsort() may allocate behind the context's
 * back, and falls back to other code where it cannot. */
#ifndef QRB_CORE_SORT_H
#define QRB_CORE_SORT_H

#include <stddef.h>

/* Below 0, 0 or above 0 where a goes before b, with it, or after it. */
typedef int (*qrb__compare_fn)(const void *a, const void *b);
typedef int (*qrb__compare_with_fn)(const void *a, const void *b,
                                    const void *arg);

/* Sort `count` items of `size` bytes each.  Items that compare equal end up in
 * an order that depends on nothing but the items and where they stood, but it
 * is not the one they came in. */
void qrb__sort(void *items, size_t count, size_t size, qrb__compare_fn compare);
void qrb__sort_with(void *items, size_t count, size_t size,
                    qrb__compare_with_fn compare, const void *arg);

/* Items whose first member is a pointer to a string, by the string's bytes. */
int qrb__compare_strings(const void *a, const void *b);

#endif
