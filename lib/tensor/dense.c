/* Conversion of dense arrays.  Pairs of types that a kernel knows go through
 * it, all others through a block of doubles on the stack.  O(elements), no
 * allocation. */
#include "tensor/dense.h"

#include <string.h>

#include "kernel/small_float.h"

bool qrb__dense_is_float(uint32_t dtype)
{
    return dtype == QRB_F64 || dtype == QRB_F32 || dtype == QRB_F16 ||
           dtype == QRB_BF16 || dtype == QRB_F8_E4M3 || dtype == QRB_F8_E5M2;
}

static const struct qrb__small_float *small_format(uint32_t dtype)
{
    switch (dtype) {
    case QRB_F16:
        return &qrb__float16;
    case QRB_BF16:
        return &qrb__bfloat16;
    case QRB_F8_E4M3:
        return &qrb__float8_e4m3;
    default:
        return &qrb__float8_e5m2;
    }
}

/* Integers of more than 53 bits are rounded to odd, so that the rounding to
 * the target that follows is the only one; `exact` targets want the nearest
 * double itself. */
static double magnitude_to_double(uint64_t x, bool exact)
{
    const uint64_t low = 0x7ff;

    if (!exact && x >> 53 != 0 && (x & low) != 0)
        x = (x & ~low) | (low + 1);
    return (double)x;
}

static double integer_to_double(int64_t x, bool exact)
{
    return x < 0 ? -magnitude_to_double(-(uint64_t)x, exact)
                 : magnitude_to_double((uint64_t)x, exact);
}

#define LOAD(type, expression)                                                \
    for (size_t i = 0; i < n; i++) {                                          \
        const type x = ((const type *)source)[i];                             \
                                                                              \
        out[i] = expression;                                                  \
    }                                                                         \
    break

void qrb__dense_load(uint32_t dtype, const void *source, size_t n, bool exact,
                     double *out)
{
    switch (dtype) {
    case QRB_F64:
        LOAD(double, x);
    case QRB_F32:
        LOAD(float, (double)x);
    case QRB_I8:
        LOAD(int8_t, x);
    case QRB_I16:
        LOAD(int16_t, x);
    case QRB_I32:
        LOAD(int32_t, x);
    case QRB_I64:
        LOAD(int64_t, integer_to_double(x, exact));
    case QRB_U8:
        LOAD(uint8_t, x);
    case QRB_U16:
        LOAD(uint16_t, x);
    case QRB_U32:
        LOAD(uint32_t, x);
    case QRB_U64:
        LOAD(uint64_t, magnitude_to_double(x, exact));
    case QRB_BOOL:
        LOAD(uint8_t, x != 0);
    case QRB_F16:
    case QRB_BF16:
        LOAD(uint16_t, qrb__small_float_decode(small_format(dtype), x));
    default:
        LOAD(uint8_t, qrb__small_float_decode(small_format(dtype), x));
    }
}

#undef LOAD

/* target [n], dense and aligned, of a float type. */
static void store_doubles(uint32_t dtype, const double *source, size_t n,
                          void *target)
{
    switch (dtype) {
    case QRB_F64:
        memcpy(target, source, n * sizeof *source);
        break;
    case QRB_F32:
        for (size_t i = 0; i < n; i++)
            ((float *)target)[i] = (float)source[i];
        break;
    case QRB_F16:
    case QRB_BF16:
        for (size_t i = 0; i < n; i++)
            ((uint16_t *)target)[i] =
                qrb__small_float_encode(small_format(dtype), source[i]);
        break;
    default:
        for (size_t i = 0; i < n; i++)
            ((uint8_t *)target)[i] = (uint8_t)qrb__small_float_encode(
                small_format(dtype), source[i]);
    }
}

void qrb__dense_convert(const struct qrb__kernels *kernels,
                        uint32_t source_dtype, const void *source,
                        uint32_t target_dtype, void *target, size_t n)
{
    double block[QRB__DENSE_BLOCK];

    if (source_dtype == target_dtype) {
        memcpy(target, source, n * qrb_dtype_size(source_dtype));
        return;
    }
    if (source_dtype == QRB_F32 && target_dtype == QRB_F16) {
        kernels->f32_to_f16(source, n, target);
        return;
    }
    if (source_dtype == QRB_F32 && target_dtype == QRB_BF16) {
        kernels->f32_to_bf16(source, n, target);
        return;
    }
    if (source_dtype == QRB_F16 && target_dtype == QRB_F32) {
        kernels->f16_to_f32(source, n, target);
        return;
    }
    if (source_dtype == QRB_BF16 && target_dtype == QRB_F32) {
        kernels->bf16_to_f32(source, n, target);
        return;
    }
    for (size_t done = 0; done < n; done += QRB__DENSE_BLOCK) {
        const size_t count = n - done < QRB__DENSE_BLOCK ? n - done : QRB__DENSE_BLOCK;

        qrb__dense_load(source_dtype,
                     (const unsigned char *)source +
                         done * qrb_dtype_size(source_dtype),
                     count, target_dtype == QRB_F64, block);
        store_doubles(target_dtype, block, count,
                      (unsigned char *)target +
                          done * qrb_dtype_size(target_dtype));
    }
}
