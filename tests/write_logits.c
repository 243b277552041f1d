/* Writes small models and their logits, for others to compute again.
 *
 *     write_logits DIRECTORY [MODEL...]
 *
 * DIRECTORY/<n>-f32 and <n>-f64 are random models of every family and layout;
 * beside config.json and model.safetensors each has tokens.i32, a file of
 * 2 x 150 ids, and logits.bin, in the type of the weights.  For each MODEL, a
 * path that the engine opens, <n>-f32 and <n>-f64 have the same. */
#include <stdio.h>
#include <stdlib.h>

#include "engine_variants.h"

enum { SEQUENCES = 2, LENGTH = 150 };

static void stop(const char *message)
{
    fprintf(stderr, "write_logits: %s\n", message);
    exit(EXIT_FAILURE);
}

static void put(const char *directory, const char *name, const void *bytes,
                size_t size)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, size, file) != size ||
        fclose(file) != 0)
        stop(path);
}

static void write_model(qrb_context *ctx, qrb_model *model,
                        const char *directory, uint32_t dtype)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    int32_t tokens[SEQUENCES * LENGTH];
    qrb_tensor *logits = NULL;

    if (qrb_engine_get_config(model, &config) != QRB_OK)
        stop(qrb_context_message(ctx));
    for (size_t i = 0; i < SEQUENCES * LENGTH; i++)
        tokens[i] = (int32_t)((i * i * 7 + i * 3 + 5) % config.vocab);
    options.dtype = dtype;
    options.rank = 2;
    options.shape[0] = SEQUENCES * LENGTH;
    options.shape[1] = config.vocab;
    if (qrb_tensor_create(ctx, &options, &logits) != QRB_OK ||
        qrb_engine_logits(model, tokens, SEQUENCES, LENGTH, logits) !=
            QRB_OK ||
        qrb_engine_save(model, directory, NULL, 0) != QRB_OK)
        stop(qrb_context_message(ctx));
    put(directory, "tokens.i32", tokens, sizeof tokens);
    put(directory, "logits.bin", qrb_tensor_memory(logits),
        SEQUENCES * LENGTH * config.vocab * qrb_dtype_size(dtype));
    qrb_tensor_destroy(logits);
}

int main(int argc, char **argv)
{
    static const uint32_t dtypes[] = { QRB_F32, QRB_F64 };
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    qrb_context *ctx = NULL;
    char directory[200];

    if (argc < 2 || qrb_context_create(NULL, &ctx) != QRB_OK)
        stop("usage: write_logits DIRECTORY [MODEL...]");
    options.trainable = 0;
    for (int n = 0; n < VARIANTS + argc - 2; n++)
        for (size_t d = 0; d < 2; d++) {
            qrb_model *model = NULL;
            qrb_status status;

            options.dtype = dtypes[d];
            snprintf(directory, sizeof directory, "%s/%d-%s", argv[1], n,
                     d == 0 ? "f32" : "f64");
            if (n < VARIANTS) {
                const qrb_engine_config config = config_of(&variants[n]);

                status = qrb_engine_create(ctx, &config, &options, &model);
                if (status == QRB_OK)
                    scatter_weights(model);
            } else {
                status = qrb_engine_open(ctx, argv[2 + n - VARIANTS], &options,
                                         &model);
            }
            if (status != QRB_OK)
                stop(qrb_context_message(ctx));
            write_model(ctx, model, directory, dtypes[d]);
            qrb_model_destroy(model);
        }
    qrb_context_destroy(ctx);
    return EXIT_SUCCESS;
}
