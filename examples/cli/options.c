/* Options by table: parsing, help, and messages of one line. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COMMON_OPTIONS = 4 };

static void common_options(struct cli *cli,
                           struct cli_option out[COMMON_OPTIONS + 1])
{
    const struct cli_option options[COMMON_OPTIONS + 1] = {
        { "json", "FILE", "write the figures as one JSON object", CLI_TEXT,
          &cli->json, NULL },
        { "threads", "N", "workers (default: the processors online)",
          CLI_COUNT, &cli->threads, NULL },
        { "seed", "N", "key of all randomness (default 0)", CLI_COUNT,
          &cli->seed, NULL },
        { "quiet", NULL, "print nothing but errors", CLI_FLAG, &cli->quiet,
          NULL },
        { NULL, NULL, NULL, CLI_FLAG, NULL, NULL }
    };

    memcpy(out, options, sizeof options);
}

static void print_options(FILE *stream, const struct cli_option *options)
{
    char left[48];

    for (const struct cli_option *o = options; o->name != NULL; o++) {
        snprintf(left, sizeof left, "--%s%s%s", o->name,
                 o->value ? " " : "", o->value ? o->value : "");
        fprintf(stream, "  %-22s %s\n", left, o->help);
    }
}

static void print_help(struct cli *cli, const struct cli_command *command,
                       const struct cli_option *options)
{
    struct cli_option common[COMMON_OPTIONS + 1];
    FILE *out = cli->host->out;

    common_options(cli, common);
    fprintf(out, "usage: %s%s %s [OPTIONS]\n\n%s\n\n", cli->program,
            command->name, command->arguments, command->summary);
    print_options(out, options);
    print_options(out, common);
}

static const struct cli_option *find_option(const struct cli_option *options,
                                            const char *name, size_t length)
{
    for (const struct cli_option *o = options; o->name != NULL; o++)
        if (strlen(o->name) == length && memcmp(o->name, name, length) == 0)
            return o;
    return NULL;
}

static bool set_value(const struct cli_option *option, const char *text)
{
    char *end;

    errno = 0;
    switch (option->kind) {
    case CLI_FLAG:
        return false;
    case CLI_TEXT:
        *(const char **)option->target = text;
        return *text != '\0';
    case CLI_COUNT:
        if (*text < '0' || *text > '9')
            return false;
        *(uint64_t *)option->target = strtoull(text, &end, 10);
        return *end == '\0' && errno == 0 &&
               *(uint64_t *)option->target <= INT64_MAX; /* as JSON has it */
    case CLI_REAL:
        *(double *)option->target = strtod(text, &end);
        return end != text && *end == '\0' && errno == 0 &&
               isfinite(*(double *)option->target);
    }
    return false;
}

/* One --name, --name VALUE or --name=VALUE at argv[*at]. */
static int parse_option(struct cli *cli, const struct cli_option *options,
                        const struct cli_option *common, int argc,
                        char **argv, int *at)
{
    const char *name = argv[*at] + 2;
    const char *equals = strchr(name, '=');
    const size_t length = equals ? (size_t)(equals - name) : strlen(name);
    const struct cli_option *option = find_option(options, name, length);
    const char *value;

    if (option == NULL)
        option = find_option(common, name, length);
    if (option == NULL)
        return cli_usage_error(cli, "unknown option --%.*s", (int)length,
                               name);
    if (option->given != NULL)
        *option->given = true;
    if (option->kind == CLI_FLAG) {
        if (equals != NULL)
            return cli_usage_error(cli, "--%s takes no value", option->name);
        *(bool *)option->target = true;
        return -1;
    }
    if (equals == NULL && *at + 1 >= argc)
        return cli_usage_error(cli, "--%s needs a value: %s", option->name,
                               option->value);
    value = equals ? equals + 1 : argv[++*at];
    if (!set_value(option, value))
        return cli_usage_error(cli, "--%s: found \"%s\", expected %s",
                               option->name, value,
                               option->kind == CLI_COUNT  ? "a whole number"
                               : option->kind == CLI_REAL ? "a number"
                                                          : "a text");
    return -1;
}

static int make_context(struct cli *cli)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_status status;

    options.threads = (size_t)cli->threads;
    options.seed = cli->seed;
    options.alloc = cli->host->alloc;
    options.release = cli->host->release;
    options.alloc_user = cli->host->alloc_user;
    options.cancel = cli_interrupted;
    if (!cli->quiet && isatty(fileno(cli->host->err))) {
        cli->progress.stream = cli->host->err;
        options.progress = cli_progress_update;
        options.progress_user = &cli->progress;
    }
    status = qrb_context_create(&options, &cli->ctx);
    if (status == QRB_E_INVALID_ARG)
        return cli_usage_error(cli, "--threads is 1 to 1024, and QRB_ISA one "
                                    "of ref, avx2, avx512 where it is set");
    if (status != QRB_OK)
        return cli_error(cli, "no context: %s", qrb_status_name(status));
    return -1;
}

/* "out/" names the directory "out", and "out.checkpoint" stands beside it. */
static void strip_slashes(char *path)
{
    size_t length = strlen(path);

    while (length > 1 && path[length - 1] == '/')
        path[--length] = '\0';
}

int cli_parse(struct cli *cli, const struct cli_command *command,
              const struct cli_option *options, int argc, char **argv,
              const char **positional, int least, int most)
{
    struct cli_option common[COMMON_OPTIONS + 1];
    bool only_positional = false;
    int found = 0;
    int status;

    cli->options = options;
    common_options(cli, common);
    for (int i = 0; i < argc; i++) {
        if (only_positional || strncmp(argv[i], "--", 2) != 0) {
            if (found == most)
                return cli_usage_error(cli, "\"%s\" is one argument too many",
                                       argv[i]);
            strip_slashes(argv[i]);
            positional[found++] = argv[i];
        } else if (argv[i][2] == '\0') {
            only_positional = true;
        } else if (strcmp(argv[i], "--help") == 0) {
            print_help(cli, command, options);
            return CLI_OK;
        } else {
            status = parse_option(cli, options, common, argc, argv, &i);
            if (status >= 0)
                return status;
        }
    }
    if (found < least)
        return cli_usage_error(cli, "expected %s", command->arguments);
    return make_context(cli);
}

QRB_PRINTF(4, 0)
static void print_line(struct cli *cli, FILE *stream, const char *kind,
                       const char *format, va_list arguments)
{
    cli_progress_clear(&cli->progress);
    fprintf(stream, "%s%s: %s", cli->program, cli->command, kind);
    vfprintf(stream, format, arguments);
}

int cli_usage_error(struct cli *cli, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    print_line(cli, cli->host->err, "", format, arguments);
    va_end(arguments);
    fprintf(cli->host->err, "; see %s%s --help\n", cli->program,
            cli->command);
    return CLI_USAGE;
}

int cli_error(struct cli *cli, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    print_line(cli, cli->host->err, "", format, arguments);
    va_end(arguments);
    fputc('\n', cli->host->err);
    return CLI_FAILED;
}

int cli_library_error(struct cli *cli, const char *what)
{
    return cli_error(cli, "%s: %s", what, qrb_context_message(cli->ctx));
}

void cli_warning(struct cli *cli, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    print_line(cli, cli->host->err, "warning: ", format, arguments);
    va_end(arguments);
    fputc('\n', cli->host->err);
}

void cli_say(struct cli *cli, const char *format, ...)
{
    va_list arguments;

    if (cli->quiet)
        return;
    cli_progress_clear(&cli->progress);
    va_start(arguments, format);
    vfprintf(cli->host->out, format, arguments);
    va_end(arguments);
    fputc('\n', cli->host->out);
    fflush(cli->host->out);
}

void *cli_alloc(struct cli *cli, size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size)
        return NULL;
    if (cli->host->alloc != NULL)
        return cli->host->alloc(count, size, cli->host->alloc_user);
    return malloc(count * size);
}

void cli_free(struct cli *cli, void *memory)
{
    if (memory == NULL)
        return;
    if (cli->host->release != NULL)
        cli->host->release(memory, cli->host->alloc_user);
    else
        free(memory);
}
