/* The main job on one model: attack, repair, quantize, measure, compare. */
#ifndef QROBUST_QUICKSTART_H
#define QROBUST_QUICKSTART_H

#include "cli.h"

enum { LEVELS = 3, PRECISIONS = 5 };

extern const char *const precision_names[PRECISIONS];

/* What is done to the attacked weights. */
enum arm {
    ARM_ATTACKED, /* nothing */
    ARM_REPAIRED, /* text and the clean anchor: the recommended recipe */
    ARM_TEXT,     /* control: text, no anchor */
    ARM_TOWARDS,  /* control: as far towards the anchor, no text */
    ARM_RECEIVED, /* text, and the received weights as the anchor */
    ARMS
};

extern const char *const arm_names[ARMS];  /* keys of the JSON */
extern const char *const arm_labels[ARMS]; /* for people */

/* One set of weights, measured. */
struct figures {
    double perplexity[PRECISIONS];
    double recovery[PRECISIONS];
    double *prompts;          /* perplexity of each prompt */
    qrb_prompt_result prompt; /* beside the clean and the attacked ones */
};

struct level {
    double target_ratio;
    qrb_calibrate_result attack;
    qrb_repair_result repair; /* of ARM_REPAIRED */
    struct figures arm[ARMS];
};

struct results {
    struct figures clean;
    struct level level[LEVELS];
};

/* ---- prompts.c ---------------------------------------------------------- */

struct prompts {
    int32_t *tokens; /* all prompts one after another */
    size_t *lengths;
    size_t count;
};

/* A JSON object: category -> list of texts. */
int prompts_open(struct cli *cli, const qrb_tokenizer *tokenizer,
                 const char *path, struct prompts *out);
void prompts_close(struct cli *cli, struct prompts *prompts);

/* ---- table.c ------------------------------------------------------------ */

void table_head(struct cli *cli);
void table_row(struct cli *cli, const char *noise, const char *label,
               const struct figures *figures, bool prompts);
json_t *results_json(const struct results *results);

/* ---- words.c ------------------------------------------------------------ */

/* What the table shows, in plain words. */
void words(struct cli *cli, const struct results *results);

#endif
