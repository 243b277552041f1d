/* Whole files of a host's making. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <qrobust/qrobust.h>

START_TEST(a_file_is_replaced_whole_or_left_alone)
{
    char directory[] = "/tmp/qrobust-test-XXXXXX";
    char path[64];
    char found[8] = "";
    qrb_context *ctx = NULL;
    FILE *file;

    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(qrb_context_create(NULL, &ctx), QRB_OK);
    snprintf(path, sizeof path, "%s/file", directory);
    ck_assert_int_eq(qrb_file_write(ctx, path, "first", 5), QRB_OK);
    ck_assert_int_eq(qrb_file_write(ctx, path, "next", 4), QRB_OK);
    file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fread(found, 1, sizeof found, file), 4);
    fclose(file);
    ck_assert_str_eq(found, "next");
    ck_assert_int_eq(qrb_file_write(ctx, NULL, "x", 1), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_file_write(ctx, path, NULL, 1), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_file_write(NULL, path, "x", 1), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_file_write(ctx, directory, "x", 1), QRB_E_IO);
    unlink(path);
    rmdir(directory); /* fails, and leaks a directory, if one was left */
    ck_assert_int_ne(access(directory, F_OK), 0);
    qrb_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file");
    TCase *cases = tcase_create("write");
    SRunner *runner;
    int failed;

    tcase_add_test(cases, a_file_is_replaced_whole_or_left_alone);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
