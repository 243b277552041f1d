/* Opening a model from files: the configuration gives the list of parameters,
 * and each of them must be there in its shape, finite, and nothing that would
 * change results may be there besides.  A model that does not train uses the
 * file's own pages where they hold its type; who writes to weights gets copies
 * of the pages written to.  Rows of q and k in interleaved order are turned. */
#include <string.h>

#include "engine/engine.h"
#include "io/config.h"
#include "io/gguf_model.h"
#include "io/llama2c.h"
#include "io/path.h"
#include "io/safetensors.h"

/* Where weights come from: exactly one of the three. */
struct checkpoint {
    qrb_safetensors *file;
    struct qrb__gguf *gguf;
    struct qrb__llama2c llama2c;
    bool interleaved; /* rows of q and k are not in half-split order */
};

static qrb_tensor tensor_of(const struct qrb__engine *engine,
                            const struct qrb__engine_parameter *parameter)
{
    const size_t shape[2] = { parameter->rows, parameter->columns };

    return (qrb_tensor){ engine->ctx,
                         qrb__view_make(engine->dtype,
                                        parameter->columns == 0 ? 1 : 2, shape,
                                        parameter->weight),
                         NULL };
}

/* Where a parameter is in the file, after a look at its shape. */
static qrb_status find_entry(const struct qrb__engine *engine,
                             const qrb_safetensors *file,
                             const struct qrb__engine_parameter *p,
                             size_t *index)
{
    const qrb_tensor target = tensor_of(engine, p);
    const struct qrb__safetensors_entry *entry;
    struct qrb__view found;
    char here[QRB__SHAPE_TEXT];
    char there[QRB__SHAPE_TEXT];

    *index = qrb_safetensors_find(file, p->name);
    if (*index == SIZE_MAX)
        return qrb__fail(engine->ctx, QRB_E_FORMAT,
                         "%s: the config asks for it, the file does not have "
                         "it",
                         p->name);
    entry = &file->entries[*index];
    if (entry->dtype < QRB_F64 || entry->dtype > QRB_BF16)
        return qrb__fail(engine->ctx, QRB_E_UNSUPPORTED,
                         "%s: found %s; weights are F64, F32, F16 or BF16",
                         p->name, qrb_dtype_name(entry->dtype));
    found = qrb__view_make(entry->dtype, entry->rank, entry->shape, NULL);
    if (!qrb__view_same_shape(&found, &target.view))
        return qrb__fail(engine->ctx, QRB_E_SHAPE,
                         "%s: found %s, expected %s", p->name,
                         qrb__view_shape_text(&found, here, sizeof here),
                         qrb__view_shape_text(&target.view, there,
                                              sizeof there));
    return QRB_OK;
}

static qrb_status read_safetensors(struct qrb__engine *engine,
                                   const qrb_safetensors *file,
                                   const struct qrb__engine_parameter *p)
{
    qrb_tensor target = tensor_of(engine, p);
    size_t index;
    qrb_status status = find_entry(engine, file, p, &index);

    return status == QRB_OK ? qrb_safetensors_read(file, index, &target)
                            : status;
}

/* The pages of one parameter; *out is NULL where they cannot be used. */
static qrb_status map_parameter(struct qrb__engine *engine,
                                const qrb_safetensors *file,
                                const struct qrb__engine_parameter *p,
                                unsigned char **out)
{
    const size_t real = qrb__engine_real(engine);
    const struct qrb__safetensors_entry *entry;
    size_t index;
    qrb_status status = find_entry(engine, file, p, &index);

    *out = NULL;
    if (status != QRB_OK)
        return status;
    entry = &file->entries[index];
    if (entry->dtype != engine->dtype || entry->offset % real != 0)
        return QRB_OK;
    return qrb__source_map(file->shards[entry->shard].source, entry->offset,
                           (size_t)entry->size, out);
}

/* All parameters, or none of them. */
static qrb_status map_parameters(struct qrb__engine *engine,
                                 const qrb_safetensors *file, bool *mapped)
{
    *mapped = false;
    if (engine->trainable || file == NULL ||
        __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
        return QRB_OK;
    for (size_t i = 0; i < engine->parameter_count; i++) {
        unsigned char *pages;
        const qrb_status status =
            map_parameter(engine, file, &engine->parameters[i], &pages);

        if (status != QRB_OK || pages == NULL)
            return status;
        engine->parameters[i].weight = pages;
    }
    *mapped = true;
    return QRB_OK;
}

static qrb_status read_parameters(struct qrb__engine *engine,
                                  const struct checkpoint *from)
{
    qrb_status status = QRB_OK;

    for (size_t i = 0; status == QRB_OK && i < engine->parameter_count; i++) {
        const struct qrb__engine_parameter *p = &engine->parameters[i];
        const qrb_tensor target = tensor_of(engine, p);

        if (from->file != NULL)
            status = read_safetensors(engine, from->file, p);
        else if (from->gguf != NULL)
            status = qrb__engine_read_gguf(engine, from->gguf, p, &target.view);
        else
            status = qrb__engine_read_llama2c(&from->llama2c, p, &target.view);
    }
    return status;
}

/* The rows of such files stand for neighbouring pairs; in memory every
 * model is half-split, so that weights of two models can be compared, mixed
 * and pulled together row by row. */
static qrb_status turn_parameters(const struct qrb__engine *engine)
{
    qrb_status status = QRB_OK;

    for (size_t i = 0; status == QRB_OK && i < engine->parameter_count; i++) {
        const struct qrb__engine_parameter *p = &engine->parameters[i];
        qrb_tensor from = tensor_of(engine, p);
        const size_t count = qrb__engine_elements(p);
        const size_t real = qrb__engine_real(engine);
        void *copy;

        if (!qrb__engine_rotates(p))
            continue;
        copy = qrb__alloc_array(engine->ctx, count, real);
        if (copy == NULL)
            return qrb__fail(engine->ctx, QRB_E_NO_MEMORY, "%s: a copy",
                             p->name);
        memcpy(copy, p->weight, count * real);
        from.view.memory = copy;
        status = qrb__engine_turn(engine, p, &from.view, p->weight);
        qrb__free(engine->ctx, copy);
    }
    return status;
}

static qrb_status check_finite(const struct qrb__engine *engine)
{
    for (size_t i = 0; i < engine->parameter_count; i++) {
        const struct qrb__engine_parameter *p = &engine->parameters[i];
        const qrb_tensor tensor = tensor_of(engine, p);
        const size_t bad =
            qrb__view_first_not_finite(engine->ctx, &tensor.view);

        if (bad != SIZE_MAX)
            return qrb__fail(engine->ctx, QRB_E_NOT_FINITE,
                             "%s: element %zu is not finite", p->name, bad);
    }
    return QRB_OK;
}

/* A tensor that older converters write and nobody reads, or the copy of a tied
 * head. */
static bool is_harmless(const struct qrb__engine *engine, const char *name)
{
    static const char frequencies[] = "rotary_emb.inv_freq";
    const size_t length = strlen(name);

    if (engine->config.tied_head && strcmp(name, "lm_head.weight") == 0)
        return true;
    return length >= sizeof frequencies - 1 &&
           strcmp(name + length - (sizeof frequencies - 1), frequencies) == 0;
}

static bool is_parameter(const struct qrb__engine *engine, const char *name)
{
    for (size_t i = 0; i < engine->parameter_count; i++)
        if (strcmp(engine->parameters[i].name, name) == 0)
            return true;
    return false;
}

/* A weight that the graph has no place for, such as a bias that the config
 * does not mention, must not be dropped in silence. */
static qrb_status refuse_unknown(const struct qrb__engine *engine,
                                 const qrb_safetensors *file)
{
    for (size_t i = 0; i < qrb_safetensors_count(file); i++) {
        const char *name = qrb_safetensors_name(file, i);

        if (!is_parameter(engine, name) && !is_harmless(engine, name))
            return qrb__fail(engine->ctx, QRB_E_UNSUPPORTED,
                             "%.200s: the file has it, a model of this config "
                             "does not",
                             name);
    }
    return QRB_OK;
}

/* Takes the file over if it maps it. */
static qrb_status load(struct qrb__engine *engine, struct checkpoint *from)
{
    bool mapped = false;
    qrb_status status = QRB_OK;

    if (from->file != NULL)
        status = refuse_unknown(engine, from->file);
    else if (from->gguf != NULL)
        status = qrb__engine_refuse_gguf(engine, from->gguf);
    if (status == QRB_OK)
        status = map_parameters(engine, from->file, &mapped);
    if (status == QRB_OK)
        status = qrb__engine_allocate(engine, !mapped);
    if (status == QRB_OK && !mapped)
        status = read_parameters(engine, from);
    if (status == QRB_OK && from->interleaved)
        status = turn_parameters(engine);
    if (status == QRB_OK)
        status = check_finite(engine);
    if (status == QRB_OK && mapped) {
        engine->file = from->file;
        from->file = NULL;
    }
    return status;
}

static qrb_status make_from(qrb_context *ctx, const qrb_engine_config *config,
                            const qrb_engine_options *options,
                            struct checkpoint *from, qrb_model **out)
{
    struct qrb__engine *engine = NULL;
    qrb_status status = qrb__engine_make(ctx, config, options, &engine);

    if (status != QRB_OK)
        return status;
    status = load(engine, from);
    if (status == QRB_OK)
        status = qrb__engine_publish(engine, out);
    if (status != QRB_OK)
        qrb__engine_destroy(engine);
    return status;
}

static qrb_status open_directory(qrb_context *ctx, const char *path,
                                 const qrb_engine_options *options,
                                 qrb_model **out)
{
    struct checkpoint from = { 0 };
    struct qrb__source *source = NULL;
    qrb_engine_config config;
    qrb_status status =
        qrb__source_open_in(ctx, path, QRB__CONFIG_FILE, &source);

    if (status == QRB_OK)
        status = qrb__config_read(ctx, source, &config);
    if (status == QRB_OK)
        status = qrb_safetensors_open_directory(ctx, path, &from.file);
    if (status == QRB_OK)
        status = make_from(ctx, &config, options, &from, out);
    qrb_safetensors_close(from.file);
    qrb__source_close(source);
    return status;
}

static qrb_status open_llama2c(qrb_context *ctx, const char *path,
                               const qrb_engine_options *options,
                               qrb_model **out)
{
    struct checkpoint from = { 0 };
    qrb_source source = QRB_SOURCE_INIT;
    qrb_status status;

    source.path = path;
    status = qrb__llama2c_open(ctx, &source, &from.llama2c);
    if (status == QRB_OK) {
        qrb_engine_config config = from.llama2c.config;

        from.interleaved = true;
        config.rotary = QRB_ROTARY_HALF; /* as turn_parameters() leaves it */
        status = make_from(ctx, &config, options, &from, out);
    }
    qrb__llama2c_close(&from.llama2c);
    return status;
}

static qrb_status open_gguf(qrb_context *ctx, struct qrb__source *source,
                            const qrb_engine_options *options, qrb_model **out)
{
    struct checkpoint from = { 0 };
    qrb_engine_config config;
    qrb_status status = qrb__gguf_open(ctx, source, &from.gguf);

    if (status == QRB_OK)
        status = qrb__gguf_config(from.gguf, &config);
    if (status == QRB_OK) {
        from.interleaved = config.rotary == QRB_ROTARY_INTERLEAVED;
        config.rotary = QRB_ROTARY_HALF;
        status = make_from(ctx, &config, options, &from, out);
    }
    qrb__gguf_close(from.gguf);
    return status;
}

/* A file that needs no config.json beside it. */
static qrb_status open_whole(qrb_context *ctx, const qrb_source *weights,
                             const qrb_engine_options *options, qrb_model **out)
{
    struct qrb__source *source = NULL;
    bool gguf = false;
    qrb_status status = qrb__source_open(ctx, weights, &source);

    if (status == QRB_OK)
        status = qrb__gguf_detect(source, &gguf);
    if (status == QRB_OK && gguf)
        return open_gguf(ctx, source, options, out);
    if (status == QRB_OK)
        status = qrb__fail(ctx, QRB_E_INVALID_ARG,
                           "config is NULL, and %s is no GGUF file",
                           qrb__source_name(source));
    qrb__source_close(source);
    return status;
}

/* A GGUF file says what it is; a llama2.c checkpoint has no magic. */
static qrb_status open_file(qrb_context *ctx, const char *path,
                            const qrb_engine_options *options, qrb_model **out)
{
    struct qrb__source *source = NULL;
    bool gguf = false;
    qrb_status status = qrb__source_open_path(ctx, path, &source);

    if (status == QRB_OK)
        status = qrb__gguf_detect(source, &gguf);
    if (status == QRB_OK && gguf)
        return open_gguf(ctx, source, options, out);
    qrb__source_close(source);
    return status == QRB_OK ? open_llama2c(ctx, path, options, out) : status;
}

qrb_status qrb_engine_open(qrb_context *ctx, const char *path,
                           const qrb_engine_options *options, qrb_model **out)
{
    qrb_status status;

    if (out != NULL)
        *out = NULL;
    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (path == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "path is NULL");
    return qrb__path_is_directory(path)
               ? open_directory(ctx, path, options, out)
               : open_file(ctx, path, options, out);
}

qrb_status qrb_engine_open_sources(qrb_context *ctx, const qrb_source *config,
                                   const qrb_source *weights,
                                   const qrb_engine_options *options,
                                   qrb_model **out)
{
    struct checkpoint from = { 0 };
    struct qrb__source *source = NULL;
    qrb_engine_config known;
    qrb_status status;

    if (out != NULL)
        *out = NULL;
    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (weights == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "weights is NULL");
    if (config == NULL)
        return open_whole(ctx, weights, options, out);
    status = qrb__source_open(ctx, config, &source);
    if (status == QRB_OK)
        status = qrb__config_read(ctx, source, &known);
    if (status == QRB_OK)
        status = qrb_safetensors_open(ctx, weights, &from.file);
    if (status == QRB_OK)
        status = make_from(ctx, &known, options, &from, out);
    qrb_safetensors_close(from.file);
    qrb__source_close(source);
    return status;
}
