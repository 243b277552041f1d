/* The table for people and the figures for programs. */
#include <math.h>

#include "quickstart.h"

enum { NF4 = 3 };

void table_head(struct cli *cli)
{
    cli_say(cli, "%-6s %-28s %8s %8s %8s %8s %8s  %13s  %7s %6s %7s", "noise",
            "weights", precision_names[0], precision_names[1],
            precision_names[2], precision_names[3], precision_names[4],
            "recovery %", "ordered", "below", "var %");
}

void table_row(struct cli *cli, const char *noise, const char *label,
               const struct figures *f, bool prompts)
{
    char tail[64] = "";

    if (prompts)
        snprintf(tail, sizeof tail, "  %6.1f/%6.1f  %7.2f %6.2f %7.1f",
                 f->recovery[0], f->recovery[NF4], f->prompt.strict_ordering,
                 f->prompt.defended_below, f->prompt.variance_reduction);
    cli_say(cli, "%-6s %-28s %8.3f %8.3f %8.3f %8.3f %8.3f%s", noise, label,
            f->perplexity[0], f->perplexity[1], f->perplexity[2],
            f->perplexity[3], f->perplexity[4], tail);
}

/* {"fp32": x, ...} */
static json_t *by_precision(const double *values)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", precision_names[0],
                     cli_json_number(values[0]), precision_names[1],
                     cli_json_number(values[1]), precision_names[2],
                     cli_json_number(values[2]), precision_names[3],
                     cli_json_number(values[3]), precision_names[4],
                     cli_json_number(values[4]));
}

static json_t *arm_json(const struct figures *f)
{
    return json_pack(
        "{s:o, s:o, s:{s:I, s:o, s:o, s:o, s:o}}", "perplexity",
        by_precision(f->perplexity), "recovery", by_precision(f->recovery),
        "prompts", "count", (json_int_t)f->prompt.prompts, "strict_ordering",
        cli_json_number(f->prompt.strict_ordering), "defended_below",
        cli_json_number(f->prompt.defended_below), "variance_reduction",
        cli_json_number(f->prompt.variance_reduction),
        "log_variance_reduction",
        cli_json_number(f->prompt.log_variance_reduction));
}

static json_t *level_json(const struct level *level)
{
    json_t *object = json_pack(
        "{s:f, s:o, s:o, s:o, s:o, s:o}", "target_ratio", level->target_ratio,
        "achieved_ratio", cli_json_number(level->attack.achieved_ratio),
        "sigma", cli_json_number(level->attack.sigma),
        "anchor_gradient_ratio",
        cli_json_number(level->repair.anchor_gradient_ratio),
        "distance_before", cli_json_number(level->repair.distance_before),
        "distance_after", cli_json_number(level->repair.distance_after));

    for (size_t arm = 0; object != NULL && arm < ARMS; arm++) {
        if (json_object_set_new(object, arm_names[arm],
                                arm_json(&level->arm[arm])) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

json_t *results_json(const struct results *results)
{
    json_t *levels = json_array();

    for (size_t l = 0; l < LEVELS; l++)
        if (levels == NULL ||
            json_array_append_new(levels, level_json(&results->level[l])) !=
                0) {
            json_decref(levels);
            return NULL;
        }
    return json_pack("{s:{s:o}, s:o}", "clean", "perplexity",
                     by_precision(results->clean.perplexity), "levels",
                     levels);
}
