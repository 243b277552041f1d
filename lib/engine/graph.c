/* Building a graph: arrays that grow by doubling. */
#include "engine/graph.h"

/* Room for one more element of `size` in an array. */
static bool make_room(struct qrb__graph *graph, void **array, size_t count,
                      size_t *capacity, size_t size)
{
    const size_t wanted = *capacity == 0 ? 16 : 2 * *capacity;
    void *grown;

    if (graph->failed)
        return false;
    if (count < *capacity)
        return true;
    grown = qrb__grow_array(graph->ctx, *array, count, wanted, size);
    if (grown == NULL) {
        graph->failed = true;
        return false;
    }
    *array = grown;
    *capacity = wanted;
    return true;
}

size_t qrb__graph_buffer(struct qrb__graph *graph, uint32_t extent,
                         size_t columns)
{
    void *array = graph->buffers;

    if (!make_room(graph, &array, graph->buffer_count,
                   &graph->buffer_capacity, sizeof *graph->buffers))
        return QRB__NONE;
    graph->buffers = array;
    graph->buffers[graph->buffer_count] =
        (struct qrb__buffer){ columns, extent, QRB__NONE };
    return graph->buffer_count++;
}

size_t qrb__graph_value(struct qrb__graph *graph, uint32_t extent,
                        size_t columns)
{
    const size_t buffer = qrb__graph_buffer(graph, extent, columns);
    const size_t gradient = qrb__graph_buffer(graph, extent, columns);
    void *array = graph->values;

    if (!make_room(graph, &array, graph->value_count, &graph->value_capacity,
                   sizeof *graph->values))
        return QRB__NONE;
    graph->values = array;
    graph->values[graph->value_count] =
        (struct qrb__value){ columns, buffer, gradient, extent };
    return graph->value_count++;
}

struct qrb__op *qrb__graph_op(struct qrb__graph *graph, uint32_t kind,
                              int32_t layer, size_t in, size_t out)
{
    void *array = graph->ops;
    struct qrb__op *op;

    if (!make_room(graph, &array, graph->op_count, &graph->op_capacity,
                   sizeof *graph->ops))
        return NULL;
    graph->ops = array;
    op = &graph->ops[graph->op_count++];
    *op = (struct qrb__op){ .kind = kind,
                            .layer = layer,
                            .in = in,
                            .second = QRB__NONE,
                            .out = out };
    for (size_t i = 0; i < QRB__MAX_FUSED; i++)
        op->weight[i] = op->bias[i] = QRB__NONE;
    for (size_t i = 0; i < QRB__MAX_OWN; i++)
        op->own[i] = QRB__NONE;
    return op;
}

void qrb__graph_release(struct qrb__graph *graph)
{
    qrb__free(graph->ctx, graph->buffers);
    qrb__free(graph->ctx, graph->values);
    qrb__free(graph->ctx, graph->ops);
}

/* The weights of a wide linear leave the cache between two blocks of rows, and
 * the best products take hundreds of rows at a time. */
static bool is_wide(const struct qrb__graph *graph, const struct qrb__op *op)
{
    return graph->values[op->in].columns >= QRB__WIDE &&
           graph->values[op->out].columns >= QRB__WIDE;
}

bool qrb__op_by_rows(const struct qrb__graph *graph, const struct qrb__op *op,
                     bool backward)
{
    switch (op->kind) {
    case QRB__OP_LINEAR:
        return !is_wide(graph, op);
    case QRB__OP_EMBEDDING: /* its gradient sums over equal tokens */
    case QRB__OP_SELECT:    /* its gradient also clears what was left out */
        return !backward;
    case QRB__OP_ATTENTION:
    case QRB__OP_HEAD:
        return false;
    default:
        return true;
    }
}
