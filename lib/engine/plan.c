/* Lifetimes and offsets.  Buffers are laid out largest first, each at the
 * lowest offset that is free for as long as it lives: O(buffers^2) time. */
#include "engine/plan.h"

enum {
    ALIGNMENT = 16,                /* elements: a cache line of floats */
    CHUNK_ELEMENTS = 16 * 1048576, /* of logits at one time, about */
    CHUNK_LEAST = 256              /* rows */
};

qrb_status qrb__plan_create(const struct qrb__graph *graph,
                            struct qrb__plan *plan)
{
    qrb_context *ctx = graph->ctx;
    const size_t buffers = graph->buffer_count;

    plan->places = qrb__alloc_array(ctx, buffers, sizeof *plan->places);
    plan->order = qrb__alloc_array(ctx, buffers, sizeof *plan->order);
    plan->placed = qrb__alloc_array(ctx, buffers, sizeof *plan->placed);
    plan->segments =
        qrb__alloc_array(ctx, 2 * graph->op_count, sizeof *plan->segments);
    if (plan->places == NULL || plan->order == NULL || plan->placed == NULL ||
        plan->segments == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "plan of %zu buffers", buffers);
    return QRB_OK;
}

void qrb__plan_release(qrb_context *ctx, struct qrb__plan *plan)
{
    qrb__free(ctx, plan->places);
    qrb__free(ctx, plan->order);
    qrb__free(ctx, plan->placed);
    qrb__free(ctx, plan->segments);
}

size_t qrb__plan_bytes(const struct qrb__graph *graph)
{
    return graph->buffer_count *
               (sizeof(struct qrb__place) + 2 * sizeof(size_t)) +
           2 * graph->op_count * sizeof(struct qrb__segment);
}

size_t qrb__plan_chunk(uint32_t flags, size_t rows, size_t vocab)
{
    size_t chunk = CHUNK_ELEMENTS / vocab / QRB__ROW_BLOCK * QRB__ROW_BLOCK;

    if (chunk < CHUNK_LEAST)
        chunk = CHUNK_LEAST;
    return flags & QRB__PLAN_LOGITS || chunk > rows ? rows : chunk;
}

size_t qrb__plan_resolve(const struct qrb__graph *graph, uint32_t flags,
                         size_t buffer)
{
    const size_t alias = graph->buffers[buffer].alias;

    return flags & QRB__PLAN_TAPS || alias == QRB__NONE ? buffer : alias;
}

/* Where in the pass a buffer is used. */
struct moment {
    const struct qrb__graph *graph;
    struct qrb__plan *plan;
    size_t step;
    size_t time;
};

static void use(const struct moment *at, size_t buffer)
{
    struct qrb__place *place;

    if (buffer == QRB__NONE)
        return;
    place = &at->plan->places[qrb__plan_resolve(at->graph, at->plan->flags,
                                                buffer)];
    if (!place->used || at->step < place->first_step)
        place->first_step = at->step;
    if (!place->used || at->step > place->last_step)
        place->last_step = at->step;
    if (!place->used || at->time < place->first_time)
        place->first_time = at->time;
    if (!place->used || at->time > place->last_time)
        place->last_time = at->time;
    place->used = true;
}

static void use_value(const struct moment *at, size_t value)
{
    if (value != QRB__NONE)
        use(at, at->graph->values[value].buffer);
}

static void use_gradient(const struct moment *at, size_t value)
{
    if (value != QRB__NONE)
        use(at, at->graph->values[value].gradient);
}

static void use_input_copies(const struct moment *at, const struct qrb__op *op)
{
    for (size_t i = 0; i < op->weights; i++)
        if (at->plan->flags & QRB__PLAN_TAPS)
            use(at, op->own[i]);
}

static void use_forward(const struct moment *at, const struct qrb__op *op)
{
    const uint32_t flags = at->plan->flags;

    if (op->kind == QRB__OP_HEAD) {
        use_value(at, op->in);
        if (!(flags & QRB__PLAN_TRAIN)) {
            use(at, op->own[0]);
            use(at, op->own[1]);
        }
        return;
    }
    use_value(at, op->in);
    use_value(at, op->second);
    use_value(at, op->out);
    switch (op->kind) {
    case QRB__OP_NORM:
        use(at, op->own[0]);
        break;
    case QRB__OP_LINEAR:
        use_input_copies(at, op);
        if (flags & QRB__PLAN_TAPS)
            use(at, op->own[QRB__MAX_FUSED]);
        break;
    case QRB__OP_ATTENTION:
        use(at, op->own[flags & QRB__PLAN_SQUARES ? 2 : 0]);
        break;
    default:
        break;
    }
}

/* The part of the backward pass that goes by rows. */
static void use_backward(const struct moment *at, const struct qrb__op *op)
{
    const uint32_t flags = at->plan->flags;

    use_gradient(at, op->in);
    use_gradient(at, op->second);
    use_gradient(at, op->out);
    switch (op->kind) {
    case QRB__OP_NORM:
        use_value(at, op->in);
        use(at, op->own[0]);
        use(at, op->own[1]);
        break;
    case QRB__OP_LINEAR:
        if (flags & QRB__PLAN_TAPS)
            use(at, op->own[QRB__MAX_FUSED]);
        break;
    case QRB__OP_ATTENTION:
        use_value(at, op->in);
        use(at, op->own[0]);
        use(at, op->own[1]);
        if (flags & QRB__PLAN_SQUARES) {
            use(at, op->own[2]);
            use(at, op->own[3]);
        }
        break;
    case QRB__OP_SWIGLU:
        use_value(at, op->in);
        break;
    case QRB__OP_HEAD:
        use_value(at, op->in);
        use(at, op->own[0]);
        use(at, op->own[1]);
        break;
    default:
        break;
    }
}

/* The sums over all rows that follow. */
static void use_for_weights(const struct moment *at, const struct qrb__op *op)
{
    if (op->kind == QRB__OP_NORM)
        use(at, op->own[1]);
    if (op->kind == QRB__OP_LINEAR) {
        use_value(at, op->in);
        use_gradient(at, op->out);
        use_input_copies(at, op);
    }
}

static uint32_t extent_of(const struct qrb__graph *graph,
                          const struct qrb__op *op, bool backward)
{
    const size_t value =
        backward || op->out == QRB__NONE ? op->in : op->out;

    return value == QRB__NONE ? (uint32_t)QRB__EXTENT_TOKENS
                              : graph->values[value].extent;
}

/* Cut the ops into segments, from the first to the last or backwards. */
static size_t cut(const struct qrb__graph *graph, uint32_t flags,
                  bool backward, struct qrb__segment *segments)
{
    size_t count = 0;

    for (size_t i = 0; i < graph->op_count; i++) {
        const size_t index = backward ? graph->op_count - 1 - i : i;
        const struct qrb__op *op = &graph->ops[index];
        const bool by_rows = qrb__op_by_rows(graph, op, backward);
        const uint32_t extent = extent_of(graph, op, backward);
        struct qrb__segment *last = count > 0 ? &segments[count - 1] : NULL;

        if (last != NULL && last->by_rows && by_rows &&
            last->extent == extent && !(flags & QRB__PLAN_TAPS)) {
            last->first = backward ? index : last->first;
            last->count++;
        } else {
            segments[count++] =
                (struct qrb__segment){ index, 1, extent, by_rows };
        }
    }
    return count;
}

static void find_lifetimes(const struct qrb__graph *graph,
                           struct qrb__plan *plan)
{
    struct moment at = { graph, plan, 0, 0 };

    for (size_t s = 0; s < plan->forward; s++, at.step++)
        for (size_t i = 0; i < plan->segments[s].count; i++, at.time++)
            use_forward(&at, &graph->ops[plan->segments[s].first + i]);
    for (size_t s = 0; s < plan->backward; s++, at.step += 2) {
        const struct qrb__segment *segment =
            &plan->segments[plan->forward + s];
        struct moment after;

        for (size_t i = segment->count; i-- > 0; at.time++)
            use_backward(&at, &graph->ops[segment->first + i]);
        after = (struct moment){ graph, plan, at.step + 1, at.time++ };
        for (size_t i = segment->count; i-- > 0;)
            use_for_weights(&after, &graph->ops[segment->first + i]);
    }
    /* The losses are read when all is done. */
    use(&at, graph->ops[graph->op_count - 1].own[1]);
}

/* Whether a step of the plan goes by rows. */
static bool step_by_rows(const struct qrb__plan *plan, size_t step)
{
    if (step < plan->forward)
        return plan->segments[step].by_rows;
    step -= plan->forward;
    return step % 2 == 0 && plan->segments[plan->forward + step / 2].by_rows;
}

static bool is_local(const struct qrb__buffer *buffer,
                     const struct qrb__place *place,
                     const struct qrb__plan *plan)
{
    if (buffer->extent == QRB__EXTENT_TILE)
        return true;
    return !(plan->flags & QRB__PLAN_TAPS) &&
           (buffer->extent == QRB__EXTENT_TOKENS ||
            buffer->extent == QRB__EXTENT_SCORED) &&
           place->first_step == place->last_step &&
           step_by_rows(plan, place->first_step);
}

/* Elements of a buffer, rounded up; false when they do not fit. */
static bool size_of(const struct qrb__buffer *buffer,
                    const struct qrb__plan *plan, struct qrb__place *place)
{
    const struct qrb__capacity *capacity = &plan->capacity;
    size_t rows = 0;
    size_t elements;

    switch (buffer->extent) {
    case QRB__EXTENT_TOKENS:
    case QRB__EXTENT_SCORED:
        rows = place->local                           ? QRB__ROW_BLOCK
               : buffer->extent == QRB__EXTENT_TOKENS ? capacity->tokens
                                                      : capacity->scored;
        break;
    case QRB__EXTENT_BLOCKS:
        rows = (capacity->tokens + QRB__ROW_BLOCK - 1) / QRB__ROW_BLOCK;
        break;
    case QRB__EXTENT_TILE:
        rows = QRB__QUERY_BLOCK * capacity->length;
        break;
    case QRB__EXTENT_SQUARES:
        rows = capacity->squares;
        break;
    default:
        rows = qrb__plan_chunk(plan->flags, capacity->scored,
                               buffer->columns);
        break;
    }
    if (!qrb__mul_size(rows, buffer->columns, &elements) ||
        !qrb__add_size(elements, ALIGNMENT - 1, &elements))
        return false;
    place->elements = elements / ALIGNMENT * ALIGNMENT;
    return true;
}

static bool live_together(const struct qrb__place *a,
                          const struct qrb__place *b)
{
    if (a->local) /* one worker goes through the ops of a segment in order */
        return a->first_time <= b->last_time && b->first_time <= a->last_time;
    return a->first_step <= b->last_step && b->first_step <= a->last_step;
}

/* Give the buffers that are local, or the others, their offsets; returns the
 * end of the last one, or false when it overflows. */
static bool pack(const struct qrb__graph *graph, struct qrb__plan *plan,
                 bool local, size_t *end_out)
{
    size_t count = 0;
    size_t placed = 0;

    *end_out = 0;
    for (size_t i = 0; i < graph->buffer_count; i++) {
        const struct qrb__place *place = &plan->places[i];
        size_t at = count;

        if (!place->used || place->local != local)
            continue;
        for (; at > 0 && plan->places[plan->order[at - 1]].elements <
                             place->elements;
             at--)
            plan->order[at] = plan->order[at - 1];
        plan->order[at] = i;
        count++;
    }
    for (size_t i = 0; i < count; i++) {
        struct qrb__place *place = &plan->places[plan->order[i]];
        size_t at = placed;
        size_t end;

        place->offset = 0;
        for (size_t j = 0; j < placed; j++) { /* by ascending offset */
            const struct qrb__place *other = &plan->places[plan->placed[j]];

            if (live_together(place, other) &&
                other->offset < place->offset + place->elements &&
                other->offset + other->elements > place->offset)
                place->offset = other->offset + other->elements;
        }
        if (!qrb__add_size(place->offset, place->elements, &end))
            return false;
        if (end > *end_out)
            *end_out = end;
        for (; at > 0 && plan->places[plan->placed[at - 1]].offset >
                             place->offset;
             at--)
            plan->placed[at] = plan->placed[at - 1];
        plan->placed[at] = plan->order[i];
        placed++;
    }
    return true;
}

qrb_status qrb__plan_lay_out(const struct qrb__graph *graph,
                             const struct qrb__capacity *capacity,
                             uint32_t flags, struct qrb__plan *plan)
{
    size_t local;
    bool fits = true;

    plan->flags = flags;
    plan->capacity = *capacity;
    for (size_t i = 0; i < graph->buffer_count; i++)
        plan->places[i] = (struct qrb__place){ 0 };
    plan->forward = cut(graph, flags, false, plan->segments);
    plan->backward =
        flags & QRB__PLAN_TRAIN
            ? cut(graph, flags, true, plan->segments + plan->forward)
            : 0;
    find_lifetimes(graph, plan);
    for (size_t i = 0; fits && i < graph->buffer_count; i++) {
        struct qrb__place *place = &plan->places[i];

        place->local = is_local(&graph->buffers[i], place, plan);
        if (place->used)
            fits = size_of(&graph->buffers[i], plan, place);
    }
    if (!fits || !pack(graph, plan, false, &plan->workers_offset) ||
        !pack(graph, plan, true, &plan->worker_stride) ||
        !qrb__mul_size(plan->worker_stride, capacity->workers, &local) ||
        !qrb__add_size(plan->workers_offset, local, &plan->elements))
        return qrb__fail(graph->ctx, QRB_E_SHAPE,
                         "a batch of %zu tokens is too large",
                         capacity->tokens);
    return QRB_OK;
}
