/* Digests of all that the rest of a training run depends on beside its state:
 * the model's shape, the options, the seed, the text and the noises, and the
 * weights that it began with.  A checkpoint holds them, so that it is not
 * resumed by another run. */
#include <string.h>

#include "io/bytes.h"
#include "model/model.h"
#include "noise/noise.h"
#include "train/checkpoint.h"

static void add_u64(struct qrb__sha256 *hash, uint64_t value)
{
    unsigned char bytes[8];

    qrb__store_u64(bytes, value);
    qrb__sha256_add(hash, bytes, sizeof bytes);
}

static void add_double(struct qrb__sha256 *hash, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    add_u64(hash, bits);
}

static void digest_model(const qrb_trainer *trainer, struct qrb__sha256 *hash)
{
    const qrb_model *model = trainer->model;

    add_u64(hash, model->count);
    for (size_t i = 0; i < model->count; i++) {
        const struct qrb__parameter *parameter = model->parameters[i];

        qrb__sha256_add(hash, parameter->name, strlen(parameter->name) + 1);
        add_u64(hash, parameter->role);
        add_u64(hash, (uint64_t)(int64_t)parameter->layer);
        add_u64(hash, parameter->flags);
        add_u64(hash, parameter->gradient.memory != NULL);
        add_u64(hash, parameter->weight.dtype);
        add_u64(hash, parameter->weight.rank);
        for (uint32_t axis = 0; axis < parameter->weight.rank; axis++)
            add_u64(hash, parameter->weight.shape[axis]);
    }
}

/* All but where and how often checkpoints are written, and names. */
static void digest_options(const qrb_trainer *trainer, struct qrb__sha256 *hash)
{
    const qrb_trainer_options *options = &trainer->options;
    const qrb_optimizer_options *optimizer = &trainer->optimizer->options;

    add_u64(hash, optimizer->kind);
    add_double(hash, optimizer->beta1);
    add_double(hash, optimizer->beta2);
    add_double(hash, optimizer->epsilon);
    add_double(hash, optimizer->weight_decay);
    add_double(hash, optimizer->momentum);
    add_double(hash, optimizer->clip_norm);
    add_u64(hash, options->steps);
    add_u64(hash, options->warmup);
    add_double(hash, options->lr);
    add_double(hash, options->lr_end);
    add_u64(hash, options->accumulation);
    add_u64(hash, options->schedule);
}

static void digest_noises(const qrb_trainer *trainer, struct qrb__sha256 *hash)
{
    add_u64(hash, trainer->noise_count);
    for (size_t i = 0; i < trainer->noise_count; i++)
        qrb__noise_digest(trainer->noises[i], hash);
}

static void digest_aspect(const qrb_trainer *trainer, size_t aspect,
                          unsigned char *out)
{
    struct qrb__sha256 hash;

    qrb__sha256_begin(&hash);
    if (aspect == QRB__DIGEST_MODEL)
        digest_model(trainer, &hash);
    else if (aspect == QRB__DIGEST_OPTIONS)
        digest_options(trainer, &hash);
    else if (aspect == QRB__DIGEST_SEED)
        add_u64(&hash, qrb_context_seed(trainer->ctx));
    else if (aspect == QRB__DIGEST_TEXT && trainer->dataset != NULL)
        qrb__dataset_digest(trainer->dataset, &hash);
    else if (aspect == QRB__DIGEST_NOISE)
        digest_noises(trainer, &hash);
    qrb__sha256_end(&hash, out);
}

/* Once a run: anchors do not change while it lasts. */
void qrb__trainer_digest(qrb_trainer *trainer)
{
    if (trainer->digested)
        return;
    for (size_t i = 0; i < QRB__DIGESTS; i++)
        digest_aspect(trainer, i, trainer->digests[i]);
    trainer->digested = true;
}

void qrb__arrays_digest(const struct qrb__arrays *arrays, size_t count,
                        unsigned char *out)
{
    struct qrb__sha256 hash;

    qrb__sha256_begin(&hash);
    for (size_t i = 0; i < count; i++) {
        const struct qrb__array *array = &arrays->list[i];

        qrb__sha256_add(&hash,
                        array->copy != NULL ? array->copy : array->memory,
                        array->size);
    }
    qrb__sha256_end(&hash, out);
}

qrb_status qrb__trainer_digest_weights(qrb_trainer *trainer, unsigned char *out)
{
    struct qrb__arrays arrays = { .ctx = trainer->ctx };
    const size_t weights = trainer->model->count;
    qrb_status status = qrb__arrays_list(trainer, &arrays);

    if (status == QRB_OK)
        status = qrb__arrays_gather(&arrays);
    if (status == QRB_OK)
        qrb__arrays_digest(&arrays, weights, out);
    qrb__arrays_free(&arrays);
    return status;
}
