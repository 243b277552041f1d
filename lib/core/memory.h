/* The one place that allocates. */
#ifndef QRB_CORE_MEMORY_H
#define QRB_CORE_MEMORY_H

#include <qrobust/context.h>

/* Put malloc and free where the host gave no allocator. */
void qrb__memory_defaults(qrb_context_options *options);

/* Return memory of qrb__alloc_array() without touching a context: for the
 * context's own. */
void qrb__memory_release(const qrb_context_options *options, void *memory);

#endif
