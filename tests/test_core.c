/* The core room: contexts, options, memory, parallel loops, random numbers. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/random.h"

/* Methods G0.1. */
START_TEST(philox_gives_the_golden_numbers)
{
    const uint32_t zero[4] = { 0 };
    const uint32_t ones[4] = { ~0u, ~0u, ~0u, ~0u };
    const uint32_t first[4] = { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c,
                                0x9b00dbd8 };
    const uint32_t last[4] = { 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
                               0x6d5451fd };
    uint32_t out[4];

    qrb__philox(zero, zero, out);
    ck_assert_mem_eq(out, first, sizeof out);
    qrb__philox(ones, ones, out);
    ck_assert_mem_eq(out, last, sizeof out);
}
END_TEST

START_TEST(numbers_made_from_philox_are_the_golden_ones)
{
    const struct qrb__random random = { { 0, 0 }, 0, 0 };
    const double uniform[4] = { 0.3990464210510254, 0.8805201649665833,
                                0.7357127666473389, 0.6054818034172058 };
    const double normal[4] = { 0.9911376886, -0.9246626323, -0.6176090055,
                               -0.4820684947 };
    const double sign[4] = { 1, -1, -1, -1 };

    for (unsigned i = 0; i < 4; i++) {
        ck_assert_double_eq(qrb__random_uniform(&random, i), uniform[i]);
        ck_assert_double_eq_tol(qrb__random_normal(&random, i), normal[i],
                                0.5e-10);
        ck_assert_double_eq(qrb__random_sign(&random, i), sign[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core");
    TCase *random = tcase_create("random");
    SRunner *runner;
    int failed;

    tcase_add_test(random, philox_gives_the_golden_numbers);
    tcase_add_test(random, numbers_made_from_philox_are_the_golden_ones);
    suite_add_tcase(suite, random);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
