/* Sizes and names of element types. */
#include <qrobust/tensor.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [QRB_F64] = { "F64", 8 },         [QRB_F32] = { "F32", 4 },
    [QRB_F16] = { "F16", 2 },         [QRB_BF16] = { "BF16", 2 },
    [QRB_I8] = { "I8", 1 },           [QRB_I32] = { "I32", 4 },
    [QRB_U8] = { "U8", 1 },           [QRB_I16] = { "I16", 2 },
    [QRB_U16] = { "U16", 2 },         [QRB_U32] = { "U32", 4 },
    [QRB_I64] = { "I64", 8 },         [QRB_U64] = { "U64", 8 },
    [QRB_BOOL] = { "BOOL", 1 },       [QRB_F8_E4M3] = { "F8_E4M3", 1 },
    [QRB_F8_E5M2] = { "F8_E5M2", 1 },
};

size_t qrb_dtype_size(uint32_t dtype)
{
    return dtype < sizeof dtypes / sizeof *dtypes ? dtypes[dtype].size : 0;
}

const char *qrb_dtype_name(uint32_t dtype)
{
    return qrb_dtype_size(dtype) == 0 ? "?" : dtypes[dtype].name;
}
