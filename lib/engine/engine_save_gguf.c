/* Writing a model as a GGUF file, tensor after tensor and row after row, in
 * memory of one tensor's row (or vector).
 *
 * Vectors are floats.  Of types with blocks, matrices inside of the model's
 * blocks have the type, embedding and head Q8_0, and rows that are no whole
 * blocks F16. */
#include <string.h>

#include "engine/engine.h"
#include "io/gguf_model.h"
#include "io/gguf_tokenizer.h"
#include "tensor/run.h"

/* Types that are written, with general.file_type. */
static const struct {
    uint32_t type;
    uint32_t file_type;
} written[] = {
    { QRB_GGUF_F32, 0 },  { QRB_GGUF_F16, 1 },  { QRB_GGUF_Q4_0, 2 },
    { QRB_GGUF_Q4_1, 3 }, { QRB_GGUF_Q8_0, 7 }, { QRB_GGUF_Q5_0, 8 },
    { QRB_GGUF_Q5_1, 9 },
};
enum { WRITTEN = sizeof written / sizeof *written };

struct saving {
    const struct qrb__engine *engine;
    const struct qrb__gguf_layout *layout; /* what was asked for */
    struct qrb__gguf_writer *writer;
    float *values;        /* [longest] a row or a vector */
    unsigned char *bytes; /* [4 * longest] as it is written */
};

static const struct qrb__gguf_layout *layout_of(
    const struct saving *saving, const struct qrb__engine_parameter *p)
{
    const struct qrb__gguf_layout *layout = saving->layout;

    if (p->columns == 0)
        return qrb__gguf_layout(QRB__GGUF_F32);
    if (layout->block > 1 && p->layer < 0)
        layout = qrb__gguf_layout(QRB__GGUF_Q8_0);
    return p->columns % layout->block == 0 ? layout
                                           : qrb__gguf_layout(QRB__GGUF_F16);
}

/* The row of the engine that stands at `row` of the file. */
static size_t row_of(const struct qrb__engine *engine,
                     const struct qrb__engine_parameter *p, size_t row)
{
    const size_t half = engine->config.head_dim / 2;
    const size_t at = row % (2 * half);
    const bool has = engine->config.rotary == QRB_ROTARY_INTERLEAVED;
    const bool wants = qrb__gguf_interleaves(engine->config.architecture);

    if (has == wants || !qrb__engine_rotates(p))
        return row;
    if (wants)
        return row - at + at % 2 * half + at / 2;
    return row - at + (at < half ? 2 * at : 2 * (at - half) + 1);
}

static qrb_status list_tensors(const struct saving *saving)
{
    const struct qrb__engine *engine = saving->engine;

    for (size_t i = 0; i < engine->parameter_count; i++) {
        const struct qrb__engine_parameter *p = &engine->parameters[i];
        const size_t shape[2] = { p->rows, p->columns };
        char name[QRB__GGUF_NAME_MAX + 1];

        if (!qrb__gguf_name(p->name, name))
            return qrb__fail(engine->ctx, QRB_E_UNSUPPORTED,
                             "%s has no name in GGUF files", p->name);
        qrb__gguf_put_tensor(saving->writer, name, layout_of(saving, p),
                             p->columns == 0 ? 1 : 2, shape);
    }
    return QRB_OK;
}

static qrb_status write_values(const struct saving *saving,
                               const struct qrb__engine_parameter *p,
                               size_t row, size_t count)
{
    const struct qrb__gguf_layout *layout = layout_of(saving, p);
    const size_t blocks = count / layout->block;

    if (!qrb__gguf_quantize(layout, saving->values, blocks, saving->bytes))
        return qrb__fail(saving->engine->ctx, QRB_E_NOT_FINITE,
                         "%s: row %zu has a value that is not finite, or a "
                         "scale that is not in %s",
                         p->name, row, layout->name);
    return qrb__gguf_write(saving->writer, saving->bytes,
                           blocks * layout->bytes);
}

static qrb_status write_parameter(const struct saving *saving, size_t index)
{
    const struct qrb__engine *engine = saving->engine;
    const struct qrb__engine_parameter *p = &engine->parameters[index];
    const struct qrb__view *view = &engine->model->parameters[index]->weight;
    qrb_status status = QRB_OK;

    if (p->columns == 0) {
        for (size_t i = 0; i < p->rows; i++)
            qrb__run_load(engine->ctx, view, row_of(engine, p, i), 1, QRB_F32,
                          &saving->values[i]);
        return write_values(saving, p, 0, p->rows);
    }
    for (size_t i = 0; status == QRB_OK && i < p->rows; i++) {
        qrb__run_load(engine->ctx, view, row_of(engine, p, i) * p->columns,
                      p->columns, QRB_F32, saving->values);
        status = write_values(saving, p, i, p->columns);
    }
    return status;
}

static qrb_status write_parameters(const struct saving *saving)
{
    const struct qrb__engine *engine = saving->engine;
    qrb_status status = QRB_OK;

    for (size_t i = 0; status == QRB_OK && i < engine->parameter_count; i++) {
        status = qrb__progress(engine->ctx, "write", i,
                               engine->parameter_count);
        if (status == QRB_OK)
            status = write_parameter(saving, i);
    }
    return status;
}

static qrb_status put_keys(const struct saving *saving,
                           const qrb_tokenizer *tokenizer, uint32_t file_type,
                           const char *const *metadata, size_t pairs)
{
    const struct qrb__engine *engine = saving->engine;
    qrb_status status = qrb__gguf_put_config(engine->ctx, saving->writer,
                                             &engine->config);

    qrb__gguf_put_u32(saving->writer, "general.file_type", file_type);
    if (saving->layout->block > 1)
        qrb__gguf_put_u32(saving->writer, "general.quantization_version", 2);
    for (size_t i = 0; status == QRB_OK && i < pairs; i++) {
        if (metadata[2 * i] == NULL || metadata[2 * i + 1] == NULL)
            return qrb__fail(engine->ctx, QRB_E_INVALID_ARG,
                             "pair %zu of the metadata has a NULL", i);
        qrb__gguf_put_text(saving->writer, metadata[2 * i],
                           metadata[2 * i + 1]);
    }
    if (status != QRB_OK)
        return status;
    if (tokenizer == NULL) {
        qrb__gguf_put_text(saving->writer, "tokenizer.ggml.model", "none");
        return QRB_OK;
    }
    return qrb__gguf_put_tokenizer(saving->writer, tokenizer,
                                   engine->config.vocab);
}

static qrb_status allocate(struct saving *saving)
{
    const struct qrb__engine *engine = saving->engine;
    size_t longest = 0;

    for (size_t i = 0; i < engine->parameter_count; i++) {
        const struct qrb__engine_parameter *p = &engine->parameters[i];
        const size_t length = p->columns == 0 ? p->rows : p->columns;

        longest = length > longest ? length : longest;
    }
    saving->values =
        qrb__alloc_array(engine->ctx, longest, sizeof *saving->values);
    /* No type has more bytes an element than a float. */
    saving->bytes = qrb__alloc_array(engine->ctx, longest, sizeof(float));
    if (saving->values == NULL || saving->bytes == NULL)
        return qrb__fail(engine->ctx, QRB_E_NO_MEMORY, "a row of %zu", longest);
    return QRB_OK;
}

static qrb_status save(struct saving *saving, const qrb_tokenizer *tokenizer,
                       const char *path, uint32_t file_type,
                       const char *const *metadata, size_t pairs)
{
    qrb_status status = allocate(saving);

    if (status == QRB_OK)
        status = qrb__gguf_writer_open(saving->engine->ctx, path,
                                       &saving->writer);
    if (status == QRB_OK)
        status = put_keys(saving, tokenizer, file_type, metadata, pairs);
    if (status == QRB_OK)
        status = list_tensors(saving);
    if (status == QRB_OK)
        status = write_parameters(saving);
    if (status == QRB_OK)
        status = qrb__gguf_commit(saving->writer);
    qrb__gguf_writer_close(saving->writer);
    qrb__free(saving->engine->ctx, saving->values);
    qrb__free(saving->engine->ctx, saving->bytes);
    return status;
}

qrb_status qrb_engine_save_gguf(const qrb_model *model,
                                const qrb_tokenizer *tokenizer,
                                const char *path, uint32_t type,
                                const char *const *metadata, size_t pairs)
{
    struct saving saving = { .engine = NULL };
    struct qrb__engine *engine;
    size_t i = 0;
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (path == NULL || (metadata == NULL && pairs > 0))
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG, "%s is NULL",
                         path == NULL ? "path" : "metadata");
    while (i < WRITTEN && written[i].type != type)
        i++;
    if (i == WRITTEN)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "type is %u; F32, F16, Q4_0, Q4_1, Q5_0, Q5_1 and "
                         "Q8_0 of enum qrb_gguf_type are allowed",
                         type);
    if (tokenizer != NULL && tokenizer->ctx != model->ctx)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "the tokenizer is of another context");
    status = qrb__engine_find(model, &engine);
    if (status != QRB_OK)
        return status;
    saving.engine = engine;
    saving.layout = qrb__gguf_layout(type);
    return save(&saving, tokenizer, path, written[i].file_type, metadata,
                pairs);
}
