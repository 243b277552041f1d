/* Windows of a perplexity evaluation, one at a time: O(1), exact counts. */
#include <qrobust/metric.h>

static size_t shorter(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* End of sliding window `index`, or count where it would lie beyond. */
static size_t sliding_end(size_t count, size_t context, size_t stride,
                          size_t index)
{
    if (index > count / stride)
        return count;
    return index * stride + shorter(context, count - index * stride);
}

qrb_status qrb_window_at(uint32_t mode, size_t count, size_t context,
                         size_t stride, size_t index, qrb_window *out)
{
    qrb_window window;

    if (out == NULL || context < 2)
        return QRB_E_INVALID_ARG;
    switch (mode) {
    case QRB_WINDOW_SLIDING:
        if (stride == 0 || stride >= context)
            return QRB_E_INVALID_ARG;
        if (index == 0
                ? count == 0
                : sliding_end(count, context, stride, index - 1) == count)
            return QRB_E_STATE;
        window.begin = index * stride;
        window.end = sliding_end(count, context, stride, index);
        window.first_scored =
            index == 0 ? 1 : sliding_end(count, context, stride, index - 1);
        break;
    case QRB_WINDOW_BLOCKS:
    case QRB_WINDOW_LLAMACPP:
        if (stride != 0 && stride != context)
            return QRB_E_INVALID_ARG;
        if (index > count / context || count - index * context == 0)
            return QRB_E_STATE;
        window.begin = index * context;
        window.end = window.begin + shorter(context, count - window.begin);
        window.first_scored = window.begin + 1;
        if (mode == QRB_WINDOW_BLOCKS)
            break;
        if (window.end - window.begin < context)
            return QRB_E_STATE;
        /* Logits at context / 2 .. context - 2, which predict the next. */
        window.first_scored += context / 2;
        break;
    default:
        return QRB_E_INVALID_ARG;
    }
    *out = window;
    return QRB_OK;
}
