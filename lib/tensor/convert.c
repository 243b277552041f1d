/* Element-wise conversion between views of any strides, and the search for
 * what is not finite.  A range of elements in row-major order is cut into
 * runs along the last axis; runs that lie dense and aligned are converted in
 * place, others through a block on the stack.  O(elements), no allocation;
 * tasks of a fixed number of elements run in parallel. */
#include "tensor/view.h"

#include <math.h>
#include <string.h>

#include "tensor/dense.h"

enum {
    BLOCK = QRB__DENSE_BLOCK,  /* elements on the stack */
    TASK_ELEMENTS = 64 * 1024, /* of one parallel task */
    MAX_SIZE = 8               /* bytes of an element */
};

/* A walk over elements [begin, end) of a view, run by run. */
struct walk {
    const struct qrb__view *view;
    size_t index[QRB_MAX_RANK];
};

static void walk_begin(struct walk *walk, const struct qrb__view *view,
                       size_t element)
{
    walk->view = view;
    for (uint32_t i = view->rank; i-- > 0;) {
        walk->index[i] = element % view->shape[i];
        element /= view->shape[i];
    }
}

static unsigned char *walk_memory(const struct walk *walk)
{
    unsigned char *at = walk->view->memory;

    for (uint32_t i = 0; i < walk->view->rank; i++)
        at += (int64_t)walk->index[i] * walk->view->strides[i];
    return at;
}

/* Elements left along the last axis. */
static size_t walk_run(const struct walk *walk)
{
    const uint32_t last = walk->view->rank - 1;

    return walk->view->shape[last] - walk->index[last];
}

/* count is at most walk_run(). */
static void walk_advance(struct walk *walk, size_t count)
{
    uint32_t axis = walk->view->rank - 1;

    walk->index[axis] += count;
    while (axis > 0 && walk->index[axis] == walk->view->shape[axis]) {
        walk->index[axis--] = 0;
        walk->index[axis]++;
    }
}

/* Where elements that lie dense and aligned can be used as they are. */
static bool lies_ready(const struct qrb__view *view,
                       const unsigned char *memory)
{
    const size_t size = qrb_dtype_size(view->dtype);

    return view->strides[view->rank - 1] == (int64_t)size &&
           (uintptr_t)memory % size == 0;
}

static void gather(const unsigned char *source, int64_t stride, size_t size,
                   size_t n, unsigned char *out)
{
    for (size_t i = 0; i < n; i++)
        memcpy(out + i * size, source + (int64_t)i * stride, size);
}

static void scatter(const unsigned char *source, int64_t stride, size_t size,
                    size_t n, unsigned char *target)
{
    for (size_t i = 0; i < n; i++)
        memcpy(target + (int64_t)i * stride, source + i * size, size);
}

/* Merge axes that lie behind each other in both views, so that dense views
 * become one long run.  Rank 0 becomes one element of rank 1. */
static void merge_axes(struct qrb__view *a, struct qrb__view *b)
{
    uint32_t rank = 0;

    for (uint32_t i = 0; i < a->rank; i++) {
        const size_t extent = a->shape[i];

        if (extent == 1)
            continue;
        if (rank > 0 &&
            a->strides[rank - 1] == a->strides[i] * (int64_t)extent &&
            b->strides[rank - 1] == b->strides[i] * (int64_t)extent) {
            a->shape[rank - 1] *= extent;
        } else {
            a->shape[rank] = extent;
            rank++;
        }
        a->strides[rank - 1] = a->strides[i];
        b->strides[rank - 1] = b->strides[i];
    }
    if (rank == 0) {
        a->shape[0] = 1;
        a->strides[0] = (int64_t)qrb_dtype_size(a->dtype);
        b->strides[0] = (int64_t)qrb_dtype_size(b->dtype);
        rank = 1;
    }
    a->rank = b->rank = rank;
    memcpy(b->shape, a->shape, sizeof a->shape);
}

struct copy {
    const struct qrb__kernels *kernels;
    struct qrb__view source;
    struct qrb__view target;
    size_t elements;
};

static void copy_task(size_t task, size_t worker, void *arg)
{
    const struct copy *copy = arg;
    const size_t source_size = qrb_dtype_size(copy->source.dtype);
    const size_t target_size = qrb_dtype_size(copy->target.dtype);
    const uint32_t last = copy->source.rank - 1;
    const size_t begin = task * TASK_ELEMENTS;
    size_t left = copy->elements - begin;
    struct walk source;
    struct walk target;
    _Alignas(64) unsigned char in[BLOCK * MAX_SIZE];
    _Alignas(64) unsigned char out[BLOCK * MAX_SIZE];

    (void)worker;
    if (left > TASK_ELEMENTS)
        left = TASK_ELEMENTS;
    walk_begin(&source, &copy->source, begin);
    walk_begin(&target, &copy->target, begin);
    while (left > 0) {
        const unsigned char *from = walk_memory(&source);
        unsigned char *to = walk_memory(&target);
        const bool from_ready = lies_ready(&copy->source, from);
        const bool to_ready = lies_ready(&copy->target, to);
        size_t n = walk_run(&source);

        if (n > left)
            n = left;
        if (!(from_ready && to_ready) && n > BLOCK)
            n = BLOCK;
        if (!from_ready)
            gather(from, copy->source.strides[last], source_size, n, in);
        qrb__dense_convert(copy->kernels, copy->source.dtype,
                           from_ready ? from : in, copy->target.dtype,
                           to_ready ? to : out, n);
        if (!to_ready)
            scatter(out, copy->target.strides[last], target_size, n, to);
        walk_advance(&source, n);
        walk_advance(&target, n);
        left -= n;
    }
}

static size_t task_count(size_t elements)
{
    return elements / TASK_ELEMENTS + (elements % TASK_ELEMENTS != 0);
}

qrb_status qrb__view_copy(qrb_context *ctx, const struct qrb__view *source,
                          const struct qrb__view *target)
{
    struct copy copy = { &ctx->kernels, *source, *target,
                         qrb__view_elements(source) };

    if (!qrb__view_same_shape(source, target)) {
        char from[128];
        char to[128];

        return qrb__fail(ctx, QRB_E_SHAPE, "cannot copy %s to %s",
                         qrb__view_shape_text(source, from, sizeof from),
                         qrb__view_shape_text(target, to, sizeof to));
    }
    if (source->dtype != target->dtype && !qrb__dense_is_float(target->dtype))
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "no conversion from %s to %s",
                         qrb_dtype_name(source->dtype),
                         qrb_dtype_name(target->dtype));
    if (copy.elements == 0)
        return QRB_OK;
    merge_axes(&copy.source, &copy.target);
    qrb__parallel_for(ctx, task_count(copy.elements), copy_task, &copy);
    return QRB_OK;
}

/* Index of the first of n dense floats that is not finite, or n.  The loop
 * over a block has no exit, so that compilers can vectorise it. */
static size_t first_in_floats(const float *x, size_t n)
{
    for (size_t begin = 0; begin < n; begin += BLOCK) {
        const size_t end = n - begin < BLOCK ? n : begin + BLOCK;
        uint32_t found = 0;

        for (size_t i = begin; i < end; i++) {
            uint32_t bits;

            memcpy(&bits, &x[i], sizeof bits);
            found |= (bits & 0x7f800000u) == 0x7f800000u;
        }
        for (size_t i = begin; found != 0 && i < end; i++)
            if (!isfinite(x[i]))
                return i;
    }
    return n;
}

static size_t first_in_doubles(const double *x, size_t n)
{
    size_t i = 0;

    while (i < n && isfinite(x[i]))
        i++;
    return i;
}

size_t qrb__view_first_not_finite(qrb_context *ctx,
                                  const struct qrb__view *view)
{
    struct qrb__view merged = *view;
    struct qrb__view same = *view;
    const size_t elements = qrb__view_elements(view);
    const size_t size = qrb_dtype_size(view->dtype);
    struct walk walk;
    double block[BLOCK];
    _Alignas(64) unsigned char in[BLOCK * MAX_SIZE];

    (void)ctx;
    if (!qrb__dense_is_float(view->dtype) || elements == 0)
        return SIZE_MAX;
    merge_axes(&merged, &same);
    walk_begin(&walk, &merged, 0);
    for (size_t done = 0; done < elements;) {
        const unsigned char *from = walk_memory(&walk);
        size_t n = walk_run(&walk);
        size_t first;

        if (lies_ready(&merged, from) && view->dtype == QRB_F32) {
            first = first_in_floats((const float *)(const void *)from, n);
        } else {
            n = n < BLOCK ? n : BLOCK;
            gather(from, merged.strides[merged.rank - 1], size, n, in);
            qrb__dense_load(view->dtype, in, n, true, block);
            first = first_in_doubles(block, n);
        }
        if (first < n)
            return done + first;
        walk_advance(&walk, n);
        done += n;
    }
    return SIZE_MAX;
}
