/* Sorting in place: order, nothing lost, and a bound on its cost. */
#include "harness.h"

#include <stdint.h>

#include "core/sort.h"

/* An item as long as no multiple of a machine word, and longer than what a
 * swap moves at a time. */
struct item {
    unsigned char key;
    unsigned char load[100];
};

static size_t comparisons;

static int compare_items(const void *a, const void *b)
{
    const struct item *x = a;
    const struct item *y = b;

    comparisons++;
    return (x->key > y->key) - (x->key < y->key);
}

/* The next of a full-period sequence of 32 bits. */
static uint32_t step(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 16;
}

START_TEST(items_come_out_in_order_and_none_is_lost)
{
    static struct item items[300];
    uint32_t state = (uint32_t)_i;

    for (size_t count = 0; count <= 300; count += count < 10 ? 1 : 29) {
        uint32_t before[256] = { 0 };
        uint32_t after[256] = { 0 };

        for (size_t i = 0; i < count; i++) {
            items[i].key = (unsigned char)(step(&state) % 97);
            memset(items[i].load, items[i].key ^ 0x5a, sizeof items[i].load);
            before[items[i].key]++;
        }
        qrb__sort(items, count, sizeof *items, compare_items);
        for (size_t i = 0; i < count; i++) {
            ck_assert(i == 0 || items[i - 1].key <= items[i].key);
            for (size_t j = 0; j < sizeof items[i].load; j++)
                ck_assert_uint_eq(items[i].load[j], items[i].key ^ 0x5a);
            after[items[i].key]++;
        }
        ck_assert_int_eq(memcmp(before, after, sizeof before), 0);
    }
}
END_TEST

/* 2 n log2 n bounds a heapsort; what quicksort is slow for is among them. */
START_TEST(no_order_of_the_items_makes_it_slow)
{
    static struct item items[4096];

    for (size_t i = 0; i < 4096; i++)
        items[i].key =
            (unsigned char)(_i == 0   ? i / 16
                            : _i == 1 ? 255 - i / 16
                            : _i == 2 ? 7
                                      : (i < 2048 ? i : 4095 - i) / 8);
    comparisons = 0;
    qrb__sort(items, 4096, sizeof *items, compare_items);
    ck_assert_uint_le(comparisons, 2 * 4096 * 12);
}
END_TEST

static int compare_in(const void *a, const void *b, const void *arg)
{
    const size_t *x = a;
    const size_t *y = b;

    return strcmp((const char *)arg + *x, (const char *)arg + *y);
}

START_TEST(a_comparison_is_given_its_argument)
{
    static const char text[] = "pear\0apple\0fig";
    size_t offsets[] = { 0, 5, 11 };

    qrb__sort_with(offsets, 3, sizeof *offsets, compare_in, text);
    ck_assert_uint_eq(offsets[0], 5);
    ck_assert_uint_eq(offsets[1], 11);
    ck_assert_uint_eq(offsets[2], 0);
}
END_TEST

START_TEST(strings_are_compared_by_unsigned_bytes)
{
    const char *names[] = { "\xc3\xa4", "b", "", "a", "ab" };
    const char *const expected[] = { "", "a", "ab", "b", "\xc3\xa4" };

    qrb__sort(names, 5, sizeof *names, qrb__compare_strings);
    for (size_t i = 0; i < 5; i++)
        ck_assert_str_eq(names[i], expected[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sort");
    TCase *sort = tcase_create("sort");

    tcase_add_loop_test(sort, items_come_out_in_order_and_none_is_lost, 0, 5);
    tcase_add_loop_test(sort, no_order_of_the_items_makes_it_slow, 0, 4);
    tcase_add_test(sort, a_comparison_is_given_its_argument);
    tcase_add_test(sort, strings_are_compared_by_unsigned_bytes);
    suite_add_tcase(suite, sort);
    return run_suite(suite);
}
