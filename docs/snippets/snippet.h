/* What every snippet does with a status that it does not expect. */
#ifndef SNIPPET_H
#define SNIPPET_H

#include <qrobust/qrobust.h>

#include <stdio.h>
#include <stdlib.h>

static inline void must(const qrb_context *ctx, qrb_status status)
{
    if (status != QRB_OK) {
        fprintf(stderr, "%s: %s\n", qrb_status_name(status),
                qrb_context_message(ctx));
        exit(1);
    }
}

#endif
