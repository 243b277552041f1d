/* Observers in files: a container with a head of four counts and the arrays
 * as they lie in memory.  What comes back is checked as any file's content. */
#include <math.h>

#include "calib/observer.h"
#include "io/bytes.h"
#include "io/container.h"

enum { VERSION = 1, HEAD = 32, MAX_SECTIONS = 5 };

/* More tokens than this were never added one by one. */
#define MOST_TOKENS (UINT64_C(1) << 53)
/* Sums of so many squares of what qrb_observer_add() takes. */
#define LARGEST_SUM 0x1p860

/* The arrays that an observer keeps; returns their number. */
static size_t list_arrays(const qrb_observer *observer,
                          struct qrb__section *sections)
{
    const size_t ranges = observer->options.columns * sizeof(double);
    size_t count = 0;

    if (observer->gram != NULL)
        sections[count++] =
            (struct qrb__section){ "gram", observer->gram,
                                   observer->gram_size * sizeof(double) };
    if (observer->abs_sums != NULL) {
        sections[count++] =
            (struct qrb__section){ "abs_sums", observer->abs_sums, ranges };
        sections[count++] =
            (struct qrb__section){ "minima", observer->minima, ranges };
        sections[count++] =
            (struct qrb__section){ "maxima", observer->maxima, ranges };
    }
    return count;
}

qrb_status qrb_observer_save(const qrb_observer *observer, const char *path)
{
    struct qrb__section sections[MAX_SECTIONS];
    unsigned char head[HEAD];
    qrb_status status;

    if (observer == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(observer->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (path == NULL)
        return qrb__fail(observer->ctx, QRB_E_INVALID_ARG, "path is NULL");
    qrb__store_u64(head, observer->options.columns);
    qrb__store_u64(head + 8, observer->options.what);
    qrb__store_u64(head + 16, observer->sequences);
    qrb__store_u64(head + 24, observer->tokens);
    sections[0] = (struct qrb__section){ "observer", head, sizeof head };
    return qrb__container_write(observer->ctx, path, QRB__CONTAINER_OBSERVER,
                                VERSION, sections,
                                1 + list_arrays(observer, sections + 1));
}

static bool sums_are_sound(const double *sums, size_t count)
{
    bool sound = true;

    for (size_t i = 0; i < count; i++)
        sound = sound && fabs(sums[i]) <= LARGEST_SUM;
    return sound;
}

/* Damage is seen by the digests; this is about files that were made to
 * deceive: what methods rely on holds. */
static bool is_sound(const qrb_observer *observer)
{
    const size_t columns = observer->options.columns;

    if (observer->tokens > MOST_TOKENS ||
        observer->sequences > observer->tokens ||
        (observer->sequences == 0) != (observer->tokens == 0))
        return false;
    if (observer->gram != NULL) {
        if (!sums_are_sound(observer->gram, observer->gram_size))
            return false;
        for (size_t j = 0; j < columns; j++)
            if (qrb__observer_gram_at(observer, j, j) < 0)
                return false;
    }
    if (observer->abs_sums == NULL)
        return true;
    if (!sums_are_sound(observer->abs_sums, columns) ||
        !sums_are_sound(observer->minima, columns) ||
        !sums_are_sound(observer->maxima, columns))
        return false;
    for (size_t j = 0; j < columns; j++)
        if (observer->abs_sums[j] < 0 ||
            observer->minima[j] > observer->maxima[j])
            return false;
    return true;
}

/* The array's size in the file is known to be right before there is memory
 * for it. */
static qrb_status create_as(qrb_context *ctx,
                            const struct qrb__container *file,
                            qrb_observer **out)
{
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;
    unsigned char head[HEAD];
    uint64_t columns;
    uint64_t size;
    qrb_status status =
        qrb__container_read(file, "observer", head, sizeof head);

    if (status != QRB_OK)
        return status;
    columns = qrb__load_u64(head);
    options.what = (uint32_t)qrb__load_u64(head + 8);
    /* A Gram matrix has at least columns^2 / 2 numbers, ranges have columns;
     * nothing at all is no reason to refuse a width. */
    if (columns == 0 || columns > SIZE_MAX / sizeof(double) ||
        qrb__load_u64(head + 8) > UINT32_MAX ||
        (options.what & ~(uint32_t)(QRB_OBSERVE_GRAM | QRB_OBSERVE_RANGES)) !=
            0 ||
        ((options.what & QRB_OBSERVE_GRAM) != 0 &&
         (!qrb__container_find(file, "gram", &size) ||
          size / sizeof(double) / columns < columns / 2)) ||
        ((options.what & QRB_OBSERVE_RANGES) != 0 &&
         (!qrb__container_find(file, "minima", &size) ||
          size / sizeof(double) != columns)))
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "observer: %llu columns and statistics %llu do not "
                         "fit the file",
                         (unsigned long long)columns,
                         (unsigned long long)qrb__load_u64(head + 8));
    options.columns = (size_t)columns;
    status = qrb_observer_create(ctx, &options, out);
    if (status != QRB_OK)
        return status;
    (*out)->sequences = qrb__load_u64(head + 16);
    (*out)->tokens = qrb__load_u64(head + 24);
    return QRB_OK;
}

qrb_status qrb_observer_load(qrb_context *ctx, const qrb_source *source,
                             qrb_observer **out)
{
    struct qrb__section arrays[MAX_SECTIONS];
    struct qrb__container *file = NULL;
    qrb_observer *observer = NULL;
    qrb_status status;
    size_t count;

    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (source == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "source is NULL");
    status = qrb__container_open(ctx, source, QRB__CONTAINER_OBSERVER, VERSION,
                                 &file);
    if (status != QRB_OK)
        return status;
    status = create_as(ctx, file, &observer);
    if (status != QRB_OK)
        goto out;
    count = list_arrays(observer, arrays);
    for (size_t i = 0; i < count; i++) {
        /* The observer's own arrays, listed for reading or for writing. */
        status = qrb__container_read(file, arrays[i].name,
                                     (void *)(uintptr_t)arrays[i].bytes,
                                     arrays[i].size);
        if (status != QRB_OK)
            goto out;
    }
    if (!is_sound(observer)) {
        status = qrb__fail(ctx, QRB_E_FORMAT,
                           "observer: the statistics are those of no inputs");
        goto out;
    }
    *out = observer;
    observer = NULL; /* the caller's from here on */
out:
    qrb_observer_destroy(observer);
    qrb__container_close(file);
    return status;
}
