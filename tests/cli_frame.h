/* The program inside a test's process: its commands on a tiny model, with an
 * allocator that counts and can be made to fail. */
#ifndef QRB_TESTS_CLI_FRAME_H
#define QRB_TESTS_CLI_FRAME_H

#include <jansson.h>
#include <stdbool.h>

#include "harness.h"

/* Allocations of the program and the library together. */
extern struct failing_allocator counting;

/* A new directory with text.txt, test.txt and model/, a model of 548
 * parameters; frame_path() names what is in it. */
void frame_open(void);
void frame_close(void);
const char *frame_path(const char *name);

/* Run "eval MODEL --text F": words split at blanks, "@" stands for the
 * directory.  Returns the exit status; what it printed is in frame_out and
 * frame_err. */
int frame_run(const char *words);
extern char frame_out[16384];
extern char frame_err[4096];

bool frame_exists(const char *name);
void frame_remove(const char *name);
bool frame_same(const char *one, const char *other);

/* The object of a JSON file, which the caller releases; a number in it, which
 * must be one. */
json_t *frame_figures(const char *name);
double frame_number(const json_t *object, const char *key);

#endif
