/* Running a planned graph: segment by segment, each either one op on
 * everything or a chain of ops on one block of rows after another. */
#include "engine/ops.h"

static const struct REAL(qrb__family) *const families[QRB__OP_KINDS] = {
    [QRB__OP_EMBEDDING] = &REAL(qrb__embedding),
    [QRB__OP_TAP] = &REAL(qrb__layer_tap),
    [QRB__OP_NORM] = &REAL(qrb__norm),
    [QRB__OP_LINEAR] = &REAL(qrb__linear),
    [QRB__OP_ROTARY] = &REAL(qrb__rotary),
    [QRB__OP_ATTENTION] = &REAL(qrb__attention),
    [QRB__OP_SWIGLU] = &REAL(qrb__swiglu),
    [QRB__OP_RESIDUAL] = &REAL(qrb__residual),
    [QRB__OP_SELECT] = &REAL(qrb__select),
    [QRB__OP_HEAD] = &REAL(qrb__head),
};

struct chain {
    struct qrb__engine *engine;
    const struct qrb__op *ops; /* in order of the forward pass */
    size_t count;
    size_t rows;
    bool backward;
    REAL(qrb__rows_fn) fn; /* NULL: what the families offer */
};

static void watch(const struct qrb__engine *engine, const struct qrb__op *op,
                  uint32_t phase, bool begins)
{
    if (engine->watch.fn != NULL)
        engine->watch.fn(op, phase, begins, engine->watch.user);
}

static uint32_t phase_of(bool backward)
{
    return backward ? QRB__PHASE_BACKWARD : QRB__PHASE_FORWARD;
}

static void run_block(size_t task, size_t worker, void *arg)
{
    const struct chain *chain = arg;
    const size_t first = task * QRB__ROW_BLOCK;
    const size_t left = chain->rows - first;
    const struct qrb__block block = {
        first, left < QRB__ROW_BLOCK ? left : QRB__ROW_BLOCK, task, worker
    };

    for (size_t i = 0; i < chain->count; i++) {
        const struct qrb__op *op =
            &chain->ops[chain->backward ? chain->count - 1 - i : i];
        const struct REAL(qrb__family) *family = families[op->kind];
        REAL(qrb__rows_fn) fn = chain->fn;

        if (fn == NULL)
            fn = chain->backward ? family->backward_rows
                                 : family->forward_rows;
        if (fn == NULL)
            continue;
        if (chain->fn == NULL)
            watch(chain->engine, op, phase_of(chain->backward), true);
        fn(chain->engine, op, &block);
        if (chain->fn == NULL)
            watch(chain->engine, op, phase_of(chain->backward), false);
    }
}

static void run_chain(struct chain *chain)
{
    qrb__parallel_for(chain->engine->ctx,
                      (chain->rows + QRB__ROW_BLOCK - 1) / QRB__ROW_BLOCK,
                      run_block, chain);
}

void REAL(qrb__each_block)(struct qrb__engine *engine,
                           const struct qrb__op *op, size_t rows,
                           REAL(qrb__rows_fn) fn)
{
    struct chain chain = { engine, op, 1, rows, false, fn };

    run_chain(&chain);
}

size_t REAL(qrb__batch_rows)(const struct qrb__engine *engine, uint32_t extent)
{
    return extent == QRB__EXTENT_SCORED ? engine->batch.scored
                                        : engine->batch.rows;
}

static qrb_status run_segment(struct qrb__engine *engine,
                              const struct qrb__segment *segment,
                              bool backward)
{
    const struct qrb__op *ops = &engine->graph.ops[segment->first];
    const struct REAL(qrb__family) *family = families[ops->kind];
    const bool taps = engine->plan.flags & QRB__PLAN_TAPS;
    REAL(qrb__whole_fn) whole = NULL;
    struct chain chain = { .engine = engine,
                           .ops = ops,
                           .count = segment->count,
                           .rows = REAL(qrb__batch_rows)(engine,
                                                         segment->extent),
                           .backward = backward };

    if (taps)
        whole = backward ? family->backward_tapped : family->forward_tapped;
    if (whole == NULL && !segment->by_rows)
        whole = backward ? family->backward : family->forward;
    if (whole != NULL) {
        qrb_status status;

        watch(engine, ops, phase_of(backward), true);
        status = whole(engine, ops);
        watch(engine, ops, phase_of(backward), false);
        return status;
    }
    run_chain(&chain);
    for (size_t i = segment->count; backward && i-- > 0;) {
        if (families[ops[i].kind]->weights == NULL)
            continue;
        watch(engine, &ops[i], QRB__PHASE_WEIGHTS, true);
        families[ops[i].kind]->weights(engine, &ops[i]);
        watch(engine, &ops[i], QRB__PHASE_WEIGHTS, false);
    }
    return QRB_OK;
}

qrb_status REAL(qrb__engine_forward)(struct qrb__engine *engine)
{
    const struct qrb__plan *plan = &engine->plan;
    qrb_status status = QRB_OK;

    for (size_t i = 0; status == QRB_OK && i < plan->forward; i++)
        status = run_segment(engine, &plan->segments[i], false);
    return status;
}

qrb_status REAL(qrb__engine_backward)(struct qrb__engine *engine)
{
    const struct qrb__plan *plan = &engine->plan;
    qrb_status status = QRB_OK;

    for (size_t i = 0; status == QRB_OK && i < plan->backward; i++)
        status =
            run_segment(engine, &plan->segments[plan->forward + i], true);
    return status;
}
