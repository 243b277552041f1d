/* Another implementation, in a process of its own: it reads a line that names
 * a job (subject.h has the words) and answers `ready` or `none`, then lines
 * `go SECONDS`, which it answers with the best and the median seconds of a run
 * in a turn of that length. */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "rounds.h"

struct peer {
    pid_t child;
    FILE *to;
    FILE *from;
    char name[80]; /* what it calls itself in its first line */
};

/* Start argv (ended by NULL); exits the bench if it does not answer. */
void peer_start(char *const argv[], struct peer *out);
/* False: it does not do this. */
bool peer_prepare(struct peer *peer, const char *job);
struct figure peer_turn(struct peer *peer, double seconds);
void peer_stop(struct peer *peer);

#endif
