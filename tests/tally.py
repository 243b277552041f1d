#!/usr/bin/env python3
"""What came of the tests of a build.

usage: tally.py BUILD_DIR

Reads the log of meson test and prints a line for each failure, each skip and
each program; the last line is "<passed> passed, <failed> failed, <skipped>
skipped".  A test on Check counts each of its tests; another program is one
test.  A line "SKIP: why" in the output is one skip.
"""

import glob
import json
import os
import re
import sys

SUMMARY = re.compile(r"(\d+)%: Checks: (\d+), Failures: (\d+), Errors: (\d+)")
# file.c:12:F:case:test:0: message
FAILURE = re.compile(r"^\S+\.c:\d+:[FE]:.*$", re.MULTILINE)
SKIP = re.compile(r"^SKIP: .*$", re.MULTILINE)
KEPT = 40


def outcome(run):
    """Passed and failed tests of one program, skips, and lines to print."""
    output = run.get("stdout", "") + "\n" + run.get("stderr", "")
    result = run["result"]
    summaries = SUMMARY.findall(output)
    skips = SKIP.findall(output)
    if result == "SKIP":
        return 0, 0, skips or ["SKIP: " + run["name"]], []
    checks = sum(int(s[1]) for s in summaries)
    failed = sum(int(s[2]) + int(s[3]) for s in summaries)
    lines = FAILURE.findall(output)
    if result not in ("OK", "EXPECTEDFAIL") and failed == 0:
        # Ended by a signal, a sanitizer, the clock, or not on Check.
        failed = 1
        checks = max(checks, 1)
        lines = output.strip().splitlines()[-KEPT:]
    checks = max(checks, 1)
    return checks - failed, failed, skips, lines


def main():
    passed = failed = skipped = 0
    # With a wrapper the name of the log ends in the wrapper's.
    logs = glob.glob(sys.argv[1] + "/meson-logs/testlog*.json")
    if not logs:
        sys.exit("tally.py: no log of tests in " + sys.argv[1])
    with open(max(logs, key=os.path.getmtime)) as file:
        runs = [json.loads(line) for line in file]
    for run in sorted(runs, key=lambda run: run["name"]):
        p, f, skips, lines = outcome(run)
        for line in lines + skips:
            print("  " + line)
        print("%-4s %s: %d passed, %d failed, %d skipped, %.1f s" %
              ("FAIL" if f else "ok", run["name"], p, f, len(skips),
               run.get("duration", 0)))
        passed += p
        failed += f
        skipped += len(skips)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))


if __name__ == "__main__":
    main()
