/* Two pipes to a child. */
#include "peer.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

static void read_line(struct peer *peer, char *line, size_t size)
{
    if (fgets(line, (int)size, peer->from) == NULL) {
        fprintf(stderr, "the peer has stopped\n");
        exit(EXIT_FAILURE);
    }
    line[strcspn(line, "\n")] = '\0';
}

void peer_start(char *const argv[], struct peer *out)
{
    int to[2];
    int from[2];

    if (pipe(to) != 0 || pipe(from) != 0)
        fail("pipe");
    signal(SIGPIPE, SIG_IGN);
    out->child = fork();
    if (out->child < 0)
        fail("fork");
    if (out->child == 0) {
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        for (int i = 0; i < 2; i++) {
            close(to[i]);
            close(from[i]);
        }
        execvp(argv[0], argv);
        perror(argv[0]);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    out->to = fdopen(to[1], "w");
    out->from = fdopen(from[0], "r");
    if (out->to == NULL || out->from == NULL)
        fail("fdopen");
    read_line(out, out->name, sizeof out->name);
}

bool peer_prepare(struct peer *peer, const char *job)
{
    char answer[80];

    fprintf(peer->to, "%s\n", job);
    fflush(peer->to);
    read_line(peer, answer, sizeof answer);
    return strcmp(answer, "ready") == 0;
}

struct figure peer_turn(struct peer *peer, double seconds)
{
    struct figure figure;
    char answer[80];

    fprintf(peer->to, "go %g\n", seconds);
    fflush(peer->to);
    read_line(peer, answer, sizeof answer);
    if (sscanf(answer, "%lf %lf", &figure.best, &figure.median) != 2) {
        fprintf(stderr, "the peer says: %s\n", answer);
        exit(EXIT_FAILURE);
    }
    return figure;
}

void peer_stop(struct peer *peer)
{
    fclose(peer->to);
    fclose(peer->from);
    waitpid(peer->child, NULL, 0);
}
