/* A method of quantization as it is typed: names joined by "+", bits, a group
 * size, and options of the methods, "alpha=0.5,mse_clip=1". */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli.h"

enum { MAX_LINKS = 4, WORD = 32 };

/* Options of all methods; each looks at its own. */
struct settings {
    qrb_quantizer_options common;
    qrb_smoothquant_options smoothquant;
    qrb_squeezellm_options squeezellm;
    qrb_awq_options awq;
    qrb_gptq_options gptq;
    double threshold;
};

enum needs { NEEDS_INPUTS = 1, NEEDS_FISHER = 2 };

static const struct method {
    const char *name;
    uint32_t kind;
    uint32_t bits; /* that it always has; 0: any */
    unsigned needs;
} methods[] = {
    { "rtn", QRB_QUANTIZER_RTN, 0, 0 },
    { "int8", QRB_QUANTIZER_INT8, 8, 0 },
    { "nf4", QRB_QUANTIZER_NF4, 4, 0 },
    { "smoothquant", QRB_QUANTIZER_SMOOTHQUANT, 0, NEEDS_INPUTS },
    { "squeezellm", QRB_QUANTIZER_SQUEEZELLM, 0, NEEDS_FISHER },
    { "awq", QRB_QUANTIZER_AWQ, 0, NEEDS_INPUTS },
    { "gptq", QRB_QUANTIZER_GPTQ, 0, NEEDS_INPUTS },
};
enum { METHODS = sizeof methods / sizeof *methods };

enum type { SWITCH, COUNT, SIZE, REAL, GRID, SOLVER, STATS };

static const struct key {
    const char *name;
    uint32_t kind; /* of the method that it belongs to */
    enum type type;
    size_t at; /* in struct settings */
} keys[] = {
    { "grid", QRB_QUANTIZER_RTN, GRID, offsetof(struct settings, common.grid) },
    { "mse_clip", QRB_QUANTIZER_RTN, SWITCH,
      offsetof(struct settings, common.mse_clip) },
    { "compat", QRB_QUANTIZER_RTN, SWITCH,
      offsetof(struct settings, common.compat) },
    { "threshold", QRB_QUANTIZER_INT8, REAL,
      offsetof(struct settings, threshold) },
    { "block_size", QRB_QUANTIZER_NF4, SIZE,
      offsetof(struct settings, common.group_size) },
    { "double_quant", QRB_QUANTIZER_NF4, SWITCH,
      offsetof(struct settings, common.double_quant) },
    { "alpha", QRB_QUANTIZER_SMOOTHQUANT, REAL,
      offsetof(struct settings, smoothquant.alpha) },
    { "outliers", QRB_QUANTIZER_SQUEEZELLM, REAL,
      offsetof(struct settings, squeezellm.outliers) },
    { "sensitive", QRB_QUANTIZER_SQUEEZELLM, REAL,
      offsetof(struct settings, squeezellm.sensitive) },
    { "range", QRB_QUANTIZER_SQUEEZELLM, REAL,
      offsetof(struct settings, squeezellm.range) },
    { "solver", QRB_QUANTIZER_SQUEEZELLM, SOLVER,
      offsetof(struct settings, squeezellm.solver) },
    { "ratios", QRB_QUANTIZER_AWQ, COUNT,
      offsetof(struct settings, awq.ratios) },
    { "clip", QRB_QUANTIZER_AWQ, SWITCH, offsetof(struct settings, awq.clip) },
    { "duo_scaling", QRB_QUANTIZER_AWQ, SWITCH,
      offsetof(struct settings, awq.duo_scaling) },
    { "grid", QRB_QUANTIZER_GPTQ, GRID,
      offsetof(struct settings, common.grid) },
    { "mse_clip", QRB_QUANTIZER_GPTQ, SWITCH,
      offsetof(struct settings, common.mse_clip) },
    { "damping", QRB_QUANTIZER_GPTQ, REAL,
      offsetof(struct settings, gptq.damping) },
    { "block_size", QRB_QUANTIZER_GPTQ, SIZE,
      offsetof(struct settings, gptq.block_size) },
    { "group_stats", QRB_QUANTIZER_GPTQ, STATS,
      offsetof(struct settings, gptq.group_stats) },
    { "act_order", QRB_QUANTIZER_GPTQ, SWITCH,
      offsetof(struct settings, gptq.act_order) },
    { "static_groups", QRB_QUANTIZER_GPTQ, SWITCH,
      offsetof(struct settings, gptq.static_groups) },
};
enum { KEYS = sizeof keys / sizeof *keys };

static const char *const grids[] = { "a_paper", "a_gptq", "a_awq",    "a_omni",
                                     "a_max",   "a_spqr", "a_grp",    "s_abs",
                                     "s_gptq",  "s_omni", "s_smooth", "s_act" };
enum { GRIDS = sizeof grids / sizeof *grids };

/* The word up to `end` or the end of the text; false if it is empty or too
 * long.  Moves behind it and the separator. */
static bool next_word(const char **at, char end, char out[WORD])
{
    const char *stop = strchr(*at, end);
    const size_t length = stop ? (size_t)(stop - *at) : strlen(*at);

    if (length == 0 || length >= WORD)
        return false;
    memcpy(out, *at, length);
    out[length] = '\0';
    *at += length + (stop != NULL);
    return stop == NULL || **at != '\0';
}

static const struct method *method_by_name(const char *name)
{
    for (size_t i = 0; i < METHODS; i++)
        if (strcmp(methods[i].name, name) == 0)
            return &methods[i];
    return NULL;
}

static int parse_links(struct cli *cli, const char *text,
                       const struct method *links[MAX_LINKS], size_t *count)
{
    const char *at = text;
    char name[WORD];

    for (*count = 0; *at != '\0'; (*count)++) {
        if (!next_word(&at, '+', name) || *count == MAX_LINKS ||
            method_by_name(name) == NULL)
            return cli_usage_error(cli,
                                   "--method: found \"%s\", expected rtn, int8, "
                                   "nf4, gptq, awq, squeezellm, smoothquant, "
                                   "or awq+gptq and the like",
                                   text);
        links[*count] = method_by_name(name);
    }
    return CLI_OK;
}

static bool set_key(const struct key *key, const char *value,
                    struct settings *settings)
{
    unsigned char *target = (unsigned char *)settings + key->at;
    char *end = NULL;
    const double number = strtod(value, &end);
    const bool whole = *end == '\0' && end != value && number >= 0 &&
                       number <= 1e9 && (double)(uint64_t)number == number;
    uint32_t choice = 0;
    size_t size = 0;

    switch (key->type) {
    case SWITCH:
        choice = (uint32_t)(whole ? number : 2);
        memcpy(target, &choice, sizeof choice);
        return choice <= 1;
    case COUNT:
        choice = (uint32_t)(whole ? number : 0);
        memcpy(target, &choice, sizeof choice);
        return choice > 0;
    case SIZE:
        size = (size_t)(whole ? number : 0);
        memcpy(target, &size, sizeof size);
        return size > 0;
    case REAL:
        memcpy(target, &number, sizeof number);
        return *end == '\0' && end != value && isfinite(number);
    case GRID:
        while (choice < GRIDS && strcasecmp(grids[choice], value) != 0)
            choice++;
        if (choice == GRIDS)
            return false;
        choice++; /* grids are counted from 1 */
        memcpy(target, &choice, sizeof choice);
        return true;
    case STATS:
        choice = strcmp(value, "fresh") == 0 ? QRB_GROUP_STATS_FRESH
                                             : QRB_GROUP_STATS_LAZY;
        memcpy(target, &choice, sizeof choice);
        return strcmp(value, "fresh") == 0 || strcmp(value, "lazy") == 0;
    case SOLVER:
        choice = strcmp(value, "lloyd") == 0 ? QRB_SQUEEZELLM_LLOYD
                                             : QRB_SQUEEZELLM_EXACT;
        memcpy(target, &choice, sizeof choice);
        return strcmp(value, "lloyd") == 0 || strcmp(value, "exact") == 0;
    }
    return false;
}

/* A key that one of the methods has. */
static const struct key *key_by_name(const char *name,
                                     const struct method *const *links,
                                     size_t count)
{
    for (size_t i = 0; i < KEYS; i++)
        for (size_t j = 0; j < count; j++)
            if (strcmp(keys[i].name, name) == 0 &&
                keys[i].kind == links[j]->kind)
                return &keys[i];
    return NULL;
}

static int parse_keys(struct cli *cli, const char *text,
                      const struct method *const *links, size_t count,
                      struct settings *settings)
{
    const char *at = text;

    while (*at != '\0') {
        const struct key *key;
        char name[WORD];
        char value[WORD] = "";

        if (strchr(at, '=') == NULL || !next_word(&at, '=', name) ||
            (!next_word(&at, ',', value) && *at != '\0') || value[0] == '\0')
            return cli_usage_error(cli,
                                   "--options: found \"%s\", expected "
                                   "KEY=VALUE with commas between them",
                                   text);
        key = key_by_name(name, links, count);
        if (key == NULL)
            return cli_usage_error(cli,
                                   "--options: the method has no option "
                                   "\"%s\"",
                                   name);
        if (!set_key(key, value, settings))
            return cli_usage_error(cli, "--options: %s=%s is out of range",
                                   name, value);
    }
    return CLI_OK;
}

/* One link, made of what is its own. */
static qrb_status make_link(struct cli *cli, const struct method *method,
                            const struct cli_method *asked,
                            const struct settings *settings,
                            qrb_quantizer **out)
{
    qrb_quantizer_options options = settings->common;

    options.kind = method->kind;
    if (method->bits == 0) {
        options.bits = (uint32_t)asked->bits;
        options.group_size = (size_t)asked->group_size;
    }
    if (method->kind != QRB_QUANTIZER_RTN &&
        method->kind != QRB_QUANTIZER_GPTQ) { /* of another link, then */
        options.grid = QRB_GRID_A_GPTQ;
        options.mse_clip = 0;
        options.compat = 0;
    }
    if (method->kind != QRB_QUANTIZER_NF4)
        options.double_quant = 0;
    if (method->kind == QRB_QUANTIZER_SMOOTHQUANT)
        options.smoothquant = &settings->smoothquant;
    if (method->kind == QRB_QUANTIZER_GPTQ)
        options.gptq = &settings->gptq;
    if (method->kind == QRB_QUANTIZER_AWQ)
        options.awq = &settings->awq;
    if (method->kind == QRB_QUANTIZER_SQUEEZELLM)
        options.squeezellm = &settings->squeezellm;
    return qrb_quantizer_create(cli->ctx, &options, out);
}

static qrb_status make_chain(struct cli *cli,
                             const struct method *const *links, size_t count,
                             const struct cli_method *asked,
                             const struct settings *settings,
                             qrb_quantizer **out)
{
    qrb_quantizer *made[MAX_LINKS] = { NULL };
    const qrb_quantizer *chain[MAX_LINKS];
    qrb_status status = QRB_OK;

    for (size_t i = 0; i < count && status == QRB_OK; i++) {
        status = make_link(cli, links[i], asked, settings, &made[i]);
        chain[i] = made[i];
    }
    if (status == QRB_OK)
        status = qrb_quantizer_create_chain(cli->ctx, chain, count, out);
    for (size_t i = 0; i < count; i++)
        qrb_quantizer_destroy(made[i]);
    return status;
}

bool cli_method_trains(const struct cli_method *asked)
{
    return strstr(asked->name, "squeezellm") != NULL;
}

static struct cli_method_facts facts_of(const struct method *const *links,
                                        size_t count, double threshold)
{
    struct cli_method_facts facts = { .threshold = threshold };

    for (size_t i = 0; i < count; i++) {
        facts.needs_inputs |= (links[i]->needs & NEEDS_INPUTS) != 0;
        facts.needs_fisher |= (links[i]->needs & NEEDS_FISHER) != 0;
    }
    facts.bits = links[count - 1]->bits;
    facts.blocks = links[count - 1]->kind == QRB_QUANTIZER_NF4;
    return facts;
}

int cli_method_create(struct cli *cli, const struct cli_method *asked,
                      struct cli_method_facts *facts, qrb_quantizer **out)
{
    struct settings settings = { QRB_QUANTIZER_OPTIONS_INIT,
                                 QRB_SMOOTHQUANT_OPTIONS_INIT,
                                 QRB_SQUEEZELLM_OPTIONS_INIT,
                                 QRB_AWQ_OPTIONS_INIT,
                                 QRB_GPTQ_OPTIONS_INIT,
                                 NAN };
    const struct method *links[MAX_LINKS];
    size_t count = 0;
    const struct method *last;
    qrb_status made;
    int status = parse_links(cli, asked->name, links, &count);

    if (status != CLI_OK)
        return status;
    last = links[count - 1];
    if (last->bits != 0 && asked->bits_given && asked->bits != last->bits)
        return cli_usage_error(cli, "--bits: %s has %u", last->name,
                               last->bits);
    if (last->bits != 0 && asked->group_size != 0)
        return cli_usage_error(cli, "--group-size does not go with %s",
                               last->name);
    if (asked->bits < 2 || asked->bits > 8)
        return cli_usage_error(cli, "--bits: found %llu, expected 2 to 8",
                               (unsigned long long)asked->bits);
    status = parse_keys(cli, asked->options, links, count, &settings);
    if (status != CLI_OK)
        return status;
    if (!isnan(settings.threshold) && (count > 1 || facts == NULL))
        return cli_usage_error(cli, "--options: threshold is for one matrix "
                                    "and int8 alone");
    if (facts != NULL)
        *facts = facts_of(links, count, settings.threshold);
    made = count == 1 ? make_link(cli, last, asked, &settings, out)
                      : make_chain(cli, links, count, asked, &settings, out);
    if (made == QRB_E_INVALID_ARG)
        return cli_usage_error(cli, "--method: %s",
                               qrb_context_message(cli->ctx));
    if (made != QRB_OK)
        return cli_library_error(cli, "--method");
    return CLI_OK;
}
