/* A progress bar on a terminal, the clock, and SIGINT. */
#include <math.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "cli.h"

enum { BAR = 24 };

static volatile sig_atomic_t interrupted;

double cli_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int cli_progress_update(const char *what, uint64_t done, uint64_t total,
                        void *progress)
{
    struct cli_progress *p = progress;
    const double now = cli_seconds();
    char bar[BAR + 1];
    size_t filled;
    int width;

    if (p->stream == NULL || total == 0 || (now < p->next && done < total))
        return 0;
    p->next = now + 0.1;
    filled = (size_t)((double)done / (double)total * BAR);
    if (filled > BAR)
        filled = BAR;
    memset(bar, '.', BAR);
    memset(bar, '#', filled);
    bar[BAR] = '\0';
    width = fprintf(p->stream, "\r[%s] %3.0f %%  %s", bar,
                    100.0 * (double)done / (double)total, what);
    if (width > 0) {
        for (size_t i = (size_t)width; i < p->width; i++)
            fputc(' ', p->stream);
        p->width = (size_t)width;
    }
    fflush(p->stream);
    return 0;
}

void cli_progress_clear(struct cli_progress *progress)
{
    if (progress->stream == NULL || progress->width == 0)
        return;
    fprintf(progress->stream, "\r%*s\r", (int)progress->width, "");
    fflush(progress->stream);
    progress->width = 0;
}

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

void cli_catch_interrupt(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    action.sa_flags = (int)SA_RESETHAND; /* a second one ends the process */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

int cli_interrupted(void *unused)
{
    (void)unused;
    return interrupted;
}
