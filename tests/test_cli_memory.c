/* Every allocation of every command fails once: status 1, one line, nothing
 * leaked, no output made.  Beyond 500 allocations a spread of them is taken,
 * which is printed. */
#include "cli_frame.h"

enum { EVERY_INDEX = 500 };

static const char *const jobs[] = {
    "info @/model",
    "convert @/model @/out",
    "train @/out --text @/text.txt --dim 2 --heads 1 --layers 1 --hidden 2 "
    "--vocab 258 --context 8 --batch 1 --steps 2",
    "train @/out --text @/text.txt --from @/model --steps 2 --context 8",
    "generate @/model --prompt th --tokens 5 --top-p 0.9 --kv-bits 8 "
    "--json @/generate.json",
    "eval @/model --text @/test.txt --base @/model "
    "--precision fp32,fp16,int8,nf4,rtn4g2",
    "attack @/model @/out --text @/test.txt --ratio 1.2",
    "attack @/model @/out --text @/test.txt --sigma 0.1",
    "repair @/model @/out --text @/text.txt --anchor @/model --test "
    "@/test.txt --steps 2 --precision fp32,nf4",
    "quantize @/model @/out --method rtn --bits 8",
    "quantize @/model @/out --method smoothquant+rtn --bits 8 --options "
    "alpha=0.4 --calibration @/text.txt --samples 2 --context 8",
};

static void fail_at(const char *words, size_t index)
{
    counting.fail_at = index;
    ck_assert_msg(frame_run(words) == 1, "allocation %zu of %s: %s", index,
                  words, frame_err);
    counting.fail_at = 0;
    ck_assert_msg(strchr(frame_err, '\n') != NULL &&
                      strcmp(strchr(frame_err, '\n'), "\n") == 0,
                  "allocation %zu of %s: not one line: \"%s\"", index, words,
                  frame_err);
    ck_assert_msg(counting.live == 0, "allocation %zu of %s leaks %zu", index,
                  words, counting.live);
    ck_assert_msg(!frame_exists("out") && !frame_exists(".out.qrb-part"),
                  "allocation %zu of %s left a model", index, words);
}

START_TEST(a_failed_allocation_ends_the_command_without_a_trace)
{
    size_t total;
    size_t step;

    counting.live = 0;
    ck_assert_msg(frame_run(jobs[_i]) == 0, "%s: %s", jobs[_i], frame_err);
    total = counting.calls;
    step = total <= EVERY_INDEX ? 1 : total / EVERY_INDEX + 1;
    printf("%zu allocations, every %zu: %s\n", total, step, jobs[_i]);
    frame_remove("out");
    for (size_t index = 1; index <= total; index += step)
        fail_at(jobs[_i], index);
    fail_at(jobs[_i], total);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli memory");
    TCase *cases = tcase_create("allocation");

    tcase_add_checked_fixture(cases, frame_open, frame_close);
    tcase_set_timeout(cases, 300);
    tcase_add_loop_test(cases,
                        a_failed_allocation_ends_the_command_without_a_trace,
                        0, (int)(sizeof jobs / sizeof *jobs));
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
