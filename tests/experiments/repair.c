/* The repair experiment: a model is adapted to a text, attacked until its
 * perplexity is 20 % higher, and repaired by the printed recipe, by the
 * recommended one and by its controls; three attack seeds.  Training sees the
 * first 300,000 bytes of the text, the choice of settings the next 80,000, and
 * the figures are of the rest.
 *
 * usage: repair MODEL TOKENIZER TEXT [--search | SEED]
 *
 * SEED, 1 to 3, runs one of the attacks alone; --search prints recovery on the validation part over a grid of settings
 * instead; the recommended recipe was chosen from it. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <qrobust/qrobust.h>

enum { TRAIN_BYTES = 300000, VALIDATION_BYTES = 80000, SEEDS = 3, PARTS = 3 };
enum part { TRAIN, VALIDATION, TEST };
enum precision { FP32, NF4, PRECISIONS };

static const char *const precision_names[PRECISIONS] = { "fp32", "nf4" };

struct figures {
    double perplexity[PRECISIONS];
    double distance; /* to the anchor */
    double moved;
    double ratio; /* of the pull to the gradient */
    double seconds;
};

struct lab {
    qrb_context *ctx;
    qrb_model *model;  /* adapted, attacked, repaired in turn */
    qrb_model *anchor; /* the adapted weights */
    qrb_engine_config config;
    int32_t *tokens[PARTS];
    size_t counts[PARTS];
    qrb_quantizer *quantizers[PRECISIONS]; /* NULL: fp32 */
};

static void need(const struct lab *lab, qrb_status status, const char *what)
{
    if (status == QRB_OK)
        return;
    fprintf(stderr, "repair: %s: %s\n", what, qrb_context_message(lab->ctx));
    exit(1);
}

static char *read_text(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    char *bytes;
    long end;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        exit(1);
    }
    end = ftell(file);
    rewind(file);
    bytes = malloc((size_t)end + 1);
    if (bytes == NULL || fread(bytes, 1, (size_t)end, file) != (size_t)end) {
        perror(path);
        exit(1);
    }
    fclose(file);
    *size = (size_t)end;
    return bytes;
}

static void open_text(struct lab *lab, const char *tokenizer_path,
                      const char *path)
{
    qrb_tokenizer *tokenizer = NULL;
    size_t size;
    char *text = read_text(path, &size);
    size_t ends[PARTS + 1] = { 0, TRAIN_BYTES, TRAIN_BYTES + VALIDATION_BYTES,
                               size };

    if (size <= ends[TEST]) {
        fprintf(stderr, "repair: %s is too short\n", path);
        exit(1);
    }
    need(lab, qrb_tokenizer_open_path(lab->ctx, tokenizer_path, &tokenizer),
         "tokenizer");
    for (int part = 0; part < PARTS; part++)
        need(lab,
             qrb_tokenizer_encode_document(
                 tokenizer, text + ends[part], ends[part + 1] - ends[part],
                 &lab->tokens[part], &lab->counts[part]),
             "text");
    qrb_tokenizer_destroy(tokenizer);
    free(text);
}

static qrb_snapshot *copy_weights(const struct lab *lab, uint64_t roles)
{
    const qrb_filter filter = { sizeof filter, roles, NULL };
    qrb_snapshot *snapshot = NULL;

    need(lab, qrb_snapshot_create(lab->model, &filter, &snapshot), "copy");
    return snapshot;
}

/* 400 steps at 5e-4 on 4 x 128 tokens; the anchor is a second model with the
 * same weights. */
static void adapt(struct lab *lab)
{
    qrb_trainer_options options = QRB_TRAINER_OPTIONS_INIT;
    qrb_dataset_options shape = { sizeof shape, 4, 128 };
    char directory[] = "/tmp/qrobust-repair-XXXXXX";
    char file[64];
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    qrb_dataset *dataset = NULL;
    qrb_trainer *trainer = NULL;

    options.steps = 400;
    options.lr = 5e-4;
    need(lab,
         qrb_dataset_create(lab->ctx, lab->tokens[TRAIN], lab->counts[TRAIN],
                            &shape, &dataset),
         "dataset");
    need(lab, qrb_trainer_create(lab->model, dataset, &options, &trainer),
         "trainer");
    need(lab, qrb_trainer_run(trainer, NULL), "adapt");
    qrb_trainer_destroy(trainer);
    qrb_dataset_destroy(dataset);

    if (mkdtemp(directory) == NULL) {
        perror(directory);
        exit(1);
    }
    need(lab, qrb_engine_save(lab->model, directory, NULL, 0), "save");
    need(lab, qrb_engine_open(lab->ctx, directory, NULL, &lab->anchor),
         "anchor");
    need(lab, qrb_engine_get_config(lab->anchor, &config), "anchor");
    if (config.rotary != lab->config.rotary) {
        /* Equal names and shapes, but rows of q and k in another order. */
        fprintf(stderr, "repair: the model is not in the layout in which it "
                        "is saved; convert it to a directory first\n");
        exit(1);
    }
    snprintf(file, sizeof file, "%s/config.json", directory);
    unlink(file);
    snprintf(file, sizeof file, "%s/model.safetensors", directory);
    unlink(file);
    rmdir(directory);
}

/* Blocks of the model's context: every token but the first of a block. */
static qrb_evaluate_options in_blocks(const struct lab *lab)
{
    qrb_evaluate_options options = QRB_EVALUATE_OPTIONS_INIT;

    options.mode = QRB_WINDOW_BLOCKS;
    options.context = lab->config.context;
    return options;
}

static double perplexity(const struct lab *lab, enum part part,
                         enum precision precision)
{
    const qrb_evaluate_options options = in_blocks(lab);
    qrb_metric_result result = { .struct_size = sizeof result };
    qrb_snapshot *before = NULL;

    if (lab->quantizers[precision] != NULL) {
        before = copy_weights(lab, 0);
        need(lab,
             qrb_fake_quantize(lab->model, lab->quantizers[precision], NULL),
             "quantize");
    }
    need(lab,
         qrb_evaluate_text(lab->model, NULL, lab->tokens[part],
                           lab->counts[part], &options, &result),
         "evaluate");
    if (before != NULL)
        need(lab, qrb_snapshot_restore(before), "restore");
    qrb_snapshot_destroy(before);
    return result.perplexity;
}

static void measure(const struct lab *lab, enum part part,
                    struct figures *figures)
{
    for (int p = 0; p < PRECISIONS; p++)
        figures->perplexity[p] = perplexity(lab, part, (enum precision)p);
}

/* +20 % on the validation part. */
static void attack(const struct lab *lab, uint64_t seed, double *sigma)
{
    const qrb_evaluate_options evaluate = in_blocks(lab);
    qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_calibrate_result result = { .struct_size = sizeof result };
    qrb_noise *noise = NULL;

    options.seed = seed;
    options.search_seeds = 1; /* the draw itself is what counts */
    options.evaluate = &evaluate;
    need(lab, qrb_noise_create_attack(lab->ctx, NULL, &noise), "attack");
    need(lab, qrb_noise_bind(noise, lab->model, NULL), "attack");
    need(lab,
         qrb_attack_calibrate(lab->model, noise, lab->tokens[VALIDATION],
                              lab->counts[VALIDATION], &options, &result),
         "attack");
    need(lab, qrb_attack_apply(noise), "attack");
    qrb_noise_destroy(noise);
    *sigma = result.sigma;
}

/* What is changed in a recipe. */
struct recipe {
    qrb_trainer_options trainer;
    qrb_anchor_options anchor;
    qrb_dataset_options dataset;
};

static const struct recipe recommended = { QRB_REPAIR_TRAINER_OPTIONS_INIT,
                                           QRB_ANCHOR_OPTIONS_INIT,
                                           QRB_REPAIR_DATASET_OPTIONS_INIT };
static const struct recipe printed = { QRB_REPAIR_TRAINER_OPTIONS_PAPER,
                                       QRB_ANCHOR_OPTIONS_PAPER,
                                       QRB_REPAIR_DATASET_OPTIONS_PAPER };

/* Sequences are cut to what the model's context allows. */
static void repair(const struct lab *lab, const struct recipe *recipe,
                   bool anchored, enum part part, struct figures *figures)
{
    qrb_repair_options options = QRB_REPAIR_OPTIONS_INIT;
    qrb_dataset_options dataset = recipe->dataset;
    qrb_repair_result result = { .struct_size = sizeof result };

    if (dataset.context > lab->config.context)
        dataset.context = lab->config.context;
    options.trainer = &recipe->trainer;
    options.anchor = &recipe->anchor;
    options.dataset = &dataset;
    need(lab,
         qrb_repair(lab->model, anchored ? lab->anchor : NULL,
                    lab->tokens[TRAIN], lab->counts[TRAIN], &options, &result),
         "repair");
    figures->distance = result.distance_after;
    figures->moved = result.distance_moved;
    figures->ratio = result.anchor_gradient_ratio;
    figures->seconds = result.seconds;
    measure(lab, part, figures);
}

static void recoveries(const struct figures *clean,
                       const struct figures *attacked,
                       const struct figures *repaired, double *out)
{
    for (int p = 0; p < PRECISIONS; p++)
        out[p] = qrb_recovery(clean->perplexity[p], attacked->perplexity[p],
                              repaired->perplexity[p]);
}

/* What is tried on an attacked model. */
enum arm { RECOMMENDED, NO_ANCHOR, MOVE, PAPER, RECEIVED, ARMS };

static const char *const arm_names[ARMS] = { "recommended", "text, no anchor",
                                             "towards the anchor, no text",
                                             "printed recipe",
                                             "received weights as anchor" };

static void print_row(uint64_t seed, const char *name,
                      const struct figures *figures, const double *recovery)
{
    printf("| %llu | %s |", (unsigned long long)seed, name);
    for (int p = 0; p < PRECISIONS; p++)
        printf(" %.4f |", figures->perplexity[p]);
    for (int p = 0; p < PRECISIONS; p++)
        if (recovery != NULL)
            printf(" %.1f |", recovery[p]);
        else
            printf(" |");
    printf(" %.3f | %.3f | %.3g |\n", figures->distance, figures->moved,
           figures->ratio);
    fflush(stdout);
}

static void run_arm(const struct lab *lab, enum arm arm, double moved,
                    struct figures *figures)
{
    struct recipe recipe = arm == PAPER ? printed : recommended;

    figures->distance = figures->moved = figures->ratio = NAN;
    if (arm == MOVE) {
        need(lab, qrb_move_towards(lab->model, lab->anchor, NULL, moved, NULL),
             "move");
        figures->moved = moved;
        measure(lab, TEST, figures);
        return;
    }
    if (arm == NO_ANCHOR)
        recipe.anchor.strength = 0.0;
    repair(lab, &recipe, arm != RECEIVED, TEST, figures);
}

static void run_experiment(const struct lab *lab, qrb_snapshot *adapted,
                           uint64_t first, uint64_t last)
{
    struct figures clean = { .distance = 0.0, .moved = NAN, .ratio = NAN };
    double mean[ARMS][PRECISIONS] = { { 0.0 } };
    bool beaten[SEEDS] = { false };
    const double seeds = (double)(last - first + 1);

    measure(lab, TEST, &clean);
    printf("| seed | weights | fp32 | nf4 | fp32 %% | nf4 %% | to anchor | "
           "moved | pull / gradient |\n"
           "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    print_row(0, "adapted", &clean, NULL);
    for (uint64_t seed = first; seed <= last; seed++) {
        struct figures attacked = { .moved = NAN, .ratio = NAN };
        double recovery[ARMS][PRECISIONS];
        qrb_snapshot *received;
        double moved = NAN;
        double sigma;

        need(lab, qrb_snapshot_restore(adapted), "restore");
        attack(lab, seed, &sigma);
        received = copy_weights(lab, QRB_FILTER_ALL);
        attacked.distance = NAN;
        measure(lab, TEST, &attacked);
        print_row(seed, "attacked", &attacked, NULL);
        for (int arm = 0; arm < ARMS; arm++) {
            struct figures figures;

            need(lab, qrb_snapshot_restore(received), "restore");
            run_arm(lab, (enum arm)arm, moved, &figures);
            if (arm == RECOMMENDED)
                moved = figures.moved;
            recoveries(&clean, &attacked, &figures, recovery[arm]);
            print_row(seed, arm_names[arm], &figures, recovery[arm]);
            for (int p = 0; p < PRECISIONS; p++)
                mean[arm][p] += recovery[arm][p] / seeds;
        }
        beaten[seed - 1] = true;
        for (int p = 0; p < PRECISIONS; p++)
            if (recovery[RECOMMENDED][p] <= recovery[NO_ANCHOR][p] ||
                recovery[RECOMMENDED][p] <= recovery[MOVE][p])
                beaten[seed - 1] = false;
        qrb_snapshot_destroy(received);
    }
    printf("\n| mean recovery %% | fp32 | nf4 |\n| --- | --- | --- |\n");
    for (int arm = 0; arm < ARMS; arm++)
        printf("| %s | %.1f | %.1f |\n", arm_names[arm], mean[arm][FP32],
               mean[arm][NF4]);
    printf("\nrecommended beats both controls in every precision:");
    for (uint64_t seed = first; seed <= last; seed++)
        printf(" seed %llu %s", (unsigned long long)seed,
               beaten[seed - 1] ? "yes" : "no");
    printf("\n");
}

static void run_search(const struct lab *lab, qrb_snapshot *adapted)
{
    static const double rates[] = { 1e-4, 2e-4, 3e-4, 5e-4 };
    static const double strengths[] = { 0.0, 5.0, 20.0, 50.0 };
    qrb_snapshot *received[SEEDS];
    struct figures attacked[SEEDS];
    struct figures clean;

    measure(lab, VALIDATION, &clean);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        double sigma;

        need(lab, qrb_snapshot_restore(adapted), "restore");
        attack(lab, seed, &sigma);
        received[seed - 1] = copy_weights(lab, QRB_FILTER_ALL);
        measure(lab, VALIDATION, &attacked[seed - 1]);
    }
    printf("| schedule | lr | strength | fp32 %% | nf4 %% | to anchor | moved "
           "|\n| --- | --- | --- | --- | --- | --- | --- |\n");
    for (uint32_t schedule = 0; schedule <= QRB_SCHEDULE_COSINE; schedule++)
        for (size_t r = 0; r < sizeof rates / sizeof *rates; r++)
            for (size_t s = 0; s < sizeof strengths / sizeof *strengths; s++) {
                struct recipe recipe = recommended;
                double mean[PRECISIONS] = { 0.0 };
                struct figures figures = { .distance = 0.0 };

                recipe.trainer.schedule = schedule;
                recipe.trainer.lr = rates[r];
                recipe.anchor.strength = strengths[s];
                for (int seed = 0; seed < SEEDS; seed++) {
                    double recovery[PRECISIONS];

                    need(lab, qrb_snapshot_restore(received[seed]), "restore");
                    repair(lab, &recipe, true, VALIDATION, &figures);
                    recoveries(&clean, &attacked[seed], &figures, recovery);
                    for (int p = 0; p < PRECISIONS; p++)
                        mean[p] += recovery[p] / SEEDS;
                }
                printf("| %s | %g | %g | %.1f | %.1f | %.3f | %.3f |\n",
                       schedule == QRB_SCHEDULE_COSINE ? "cosine" : "constant",
                       rates[r], strengths[s], mean[FP32], mean[NF4],
                       figures.distance, figures.moved);
                fflush(stdout);
            }
    for (int seed = 0; seed < SEEDS; seed++)
        qrb_snapshot_destroy(received[seed]);
}

int main(int argc, char **argv)
{
    struct lab lab = { .config = QRB_ENGINE_CONFIG_INIT };
    qrb_snapshot *adapted;
    uint64_t first = 1;
    uint64_t last = SEEDS;
    bool search = false;

    if (argc == 5) {
        search = strcmp(argv[4], "--search") == 0;
        if (!search)
            first = last = strtoull(argv[4], NULL, 10);
    }
    if (argc < 4 || argc > 5 || first < 1 || last > SEEDS) {
        fprintf(stderr,
                "usage: repair MODEL TOKENIZER TEXT [--search | SEED]\n");
        return 2;
    }
    if (qrb_context_create(NULL, &lab.ctx) != QRB_OK)
        return 1;
    need(&lab, qrb_engine_open(lab.ctx, argv[1], NULL, &lab.model), "model");
    need(&lab, qrb_engine_get_config(lab.model, &lab.config), "model");
    for (int p = 1; p < PRECISIONS; p++)
        need(&lab,
             qrb_quantizer_create_named(lab.ctx, precision_names[p],
                                        &lab.quantizers[p]),
             precision_names[p]);
    open_text(&lab, argv[2], argv[3]);
    adapt(&lab);
    adapted = copy_weights(&lab, QRB_FILTER_ALL);
    if (search)
        run_search(&lab, adapted);
    else
        run_experiment(&lab, adapted, first, last);

    qrb_snapshot_destroy(adapted);
    for (int p = 0; p < PRECISIONS; p++)
        qrb_quantizer_destroy(lab.quantizers[p]);
    for (int part = 0; part < PARTS; part++)
        qrb_free(lab.ctx, lab.tokens[part]);
    qrb_model_destroy(lab.anchor);
    qrb_model_destroy(lab.model);
    qrb_context_destroy(lab.ctx);
    return 0;
}
