/* Weights out of a GGUF file: every parameter is there in its shape, and no
 * tensor that the configuration has no place for. */
#include <string.h>

#include "engine/engine.h"
#include "io/gguf_model.h"

qrb_status qrb__engine_read_gguf(const struct qrb__engine *engine,
                                 const struct qrb__gguf *file,
                                 const struct qrb__engine_parameter *p,
                                 const struct qrb__view *target)
{
    const struct qrb__gguf_tensor *tensor = NULL;
    char name[QRB__GGUF_NAME_MAX + 1] = "";

    if (qrb__gguf_name(p->name, name))
        tensor = qrb__gguf_find_tensor(file, name);
    if (tensor == NULL)
        return qrb__fail(engine->ctx, QRB_E_FORMAT,
                         "%s: the config asks for it, the file does not have "
                         "it",
                         name);
    return qrb__gguf_read(file, tensor, target);
}

qrb_status qrb__engine_refuse_gguf(const struct qrb__engine *engine,
                                   const struct qrb__gguf *file)
{
    for (size_t i = 0; i < file->tensor_count; i++) {
        char parameter[QRB__PARAMETER_NAME] = "";
        bool known = false;

        if (qrb__gguf_parameter(file->tensors[i].name, parameter))
            for (size_t k = 0; !known && k < engine->parameter_count; k++)
                known = strcmp(engine->parameters[k].name, parameter) == 0;
        if (!known)
            return qrb__fail(engine->ctx, QRB_E_UNSUPPORTED,
                             "%.200s: the file has it, a model of this config "
                             "does not",
                             file->tensors[i].name);
    }
    return QRB_OK;
}
