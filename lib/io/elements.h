/* Elements of a tensor that lies in a source. */
#ifndef QRB_IO_ELEMENTS_H
#define QRB_IO_ELEMENTS_H

#include "io/source.h"
#include "tensor/view.h"

/* Convert dense row-major elements of type `dtype` at `offset` into the
 * target, whose shape they have.  Mapped files and buffers are converted in
 * place; other sources are read into memory of the size of the tensor first,
 * so that the target is untouched unless all of it arrived.
 *
 * Returns QRB_OK; QRB_E_IO; QRB_E_FORMAT (outside of the source);
 * QRB_E_UNSUPPORTED (conversion); QRB_E_CALLBACK; QRB_E_NO_MEMORY. */
qrb_status qrb__source_elements(const struct qrb__source *source,
                                uint64_t offset, uint32_t dtype,
                                const struct qrb__view *target);

#endif
