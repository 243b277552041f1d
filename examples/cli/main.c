/* The program `qrobust`: the library for people who do not write C. */
#include <stddef.h>

#include "cli.h"

int main(int argc, char **argv)
{
    const struct cli_host host = { stdout, stderr, NULL, NULL, NULL };

    cli_catch_interrupt();
    return cli_main(argc, argv, &host);
}
