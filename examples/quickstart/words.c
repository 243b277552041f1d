/* What the table shows, said in plain words and from its figures alone. */
#include "quickstart.h"

/* Two perplexities closer than this are called equal: one part in a thousand
 * is what another seed of the text's windows moves them. */
static const double EQUAL = 1e-3;

static void say_repair(struct cli *cli, const struct results *results)
{
    size_t below = 0;

    for (size_t l = 0; l < LEVELS; l++)
        for (size_t i = 0; i < PRECISIONS; i++)
            below += results->level[l].arm[ARM_REPAIRED].perplexity[i] <
                     results->level[l].arm[ARM_ATTACKED].perplexity[i];
    cli_say(cli, "\n- The repaired model lies below the attacked one in %zu of "
                 "%d cells (3 noise levels x %d precisions).",
            below, LEVELS * PRECISIONS, PRECISIONS);
}

static const char *verdict(double ours, double other)
{
    if (ours < other * (1.0 - EQUAL))
        return "better";
    if (ours > other * (1.0 + EQUAL))
        return "worse";
    return "no different";
}

/* Repaired against one control, level by level, at fp32. */
static void say_control(struct cli *cli, const struct results *results,
                        enum arm control, const char *what)
{
    for (size_t l = 0; l < LEVELS; l++) {
        const struct level *level = &results->level[l];
        const double ours = level->arm[ARM_REPAIRED].perplexity[0];
        const double other = level->arm[control].perplexity[0];

        cli_say(cli, "  +%2.0f %%: %.3f with text and anchor, %.3f %s: %s",
                100.0 * (level->target_ratio - 1.0), ours, other, what,
                verdict(ours, other));
    }
}

/* The received weights as the anchor, against no anchor at all. */
static void say_received(struct cli *cli, const struct results *results)
{
    size_t helps = 0;

    for (size_t l = 0; l < LEVELS; l++) {
        const struct figures *arm = results->level[l].arm;

        cli_say(cli, "  +%2.0f %%: recovers %.1f %%, where no anchor recovers "
                     "%.1f %%: %s",
                100.0 * (results->level[l].target_ratio - 1.0),
                arm[ARM_RECEIVED].recovery[0], arm[ARM_TEXT].recovery[0],
                verdict(arm[ARM_RECEIVED].perplexity[0],
                        arm[ARM_TEXT].perplexity[0]));
        helps += arm[ARM_RECEIVED].perplexity[0] <
                 arm[ARM_TEXT].perplexity[0] * (1.0 - EQUAL);
    }
    if (helps == 0)
        cli_say(cli, "  Here an anchor that holds the damage contributes "
                     "nothing: the text does the repair.");
}

void words(struct cli *cli, const struct results *results)
{
    size_t beats_text = 0;
    size_t beats_anchor = 0;

    for (size_t l = 0; l < LEVELS; l++) {
        const struct figures *arm = results->level[l].arm;
        const double bound =
            arm[ARM_REPAIRED].perplexity[0] * (1.0 + EQUAL);

        beats_text += bound < arm[ARM_TEXT].perplexity[0];
        beats_anchor += bound < arm[ARM_TOWARDS].perplexity[0];
    }
    say_repair(cli, results);
    cli_say(cli, "- What the anchor adds to training on the text alone:");
    say_control(cli, results, ARM_TEXT, "with the text alone");
    if (beats_text == 0)
        cli_say(cli, "  Here the anchor contributes nothing: the text does "
                     "the repair.");
    cli_say(cli, "- What the text adds to moving as far towards the anchor "
                 "alone:");
    say_control(cli, results, ARM_TOWARDS, "towards the anchor alone");
    if (beats_anchor == 0)
        cli_say(cli, "  Here the text contributes nothing: the repair is the "
                     "anchor's weights coming back.");
    cli_say(cli, "- Without any clean weights, the usual case, the received "
                 "ones are the anchor:");
    say_received(cli, results);
}
