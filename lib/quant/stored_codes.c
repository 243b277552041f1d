/* Codes as they are stored: in their bits, least significant first, each row
 * in whole words of 4 bytes.
 *
 * Tasks may write runs that end inside of a byte which another task writes,
 * too; such bytes change by atomic operations on the task's own bits.  That
 * the result does not depend on their order is why there is no locking. */
#include "quant/packed.h"

static uint32_t ones(unsigned bits)
{
    return (1u << bits) - 1;
}

/* Bits [from, from + count) of a byte become those of `value`. */
static void write_part(uint8_t *byte, unsigned from, unsigned count,
                       uint64_t value)
{
    const uint8_t mask = (uint8_t)(ones(count) << from);

    __atomic_fetch_and(byte, (uint8_t)~mask, __ATOMIC_RELAXED);
    __atomic_fetch_or(byte, (uint8_t)((value << from) & mask),
                      __ATOMIC_RELAXED);
}

/* n codes of one row from column `first` on. */
static void write_row(const qrb_packed *packed, uint8_t *row, size_t first,
                      size_t n, const int32_t *codes)
{
    const unsigned bits = packed->bits;
    uint8_t *byte = row + first * bits / 8;
    unsigned begun = first * bits % 8; /* bits of the first byte of others */
    unsigned held = 0;
    uint64_t word = 0;

    for (size_t i = 0; i < n; i++) {
        word |= (uint64_t)((uint32_t)(codes[i] + packed->code_zero) &
                           ones(bits))
                << held;
        held += bits;
        while (held + begun >= 8) {
            if (begun != 0)
                write_part(byte, begun, 8 - begun, word);
            else
                *byte = (uint8_t)word;
            word >>= 8 - begun;
            held -= 8 - begun;
            begun = 0;
            byte++;
        }
    }
    if (held != 0)
        write_part(byte, begun, held, word);
}

static void read_row(const qrb_packed *packed, const uint8_t *row, size_t first,
                     size_t n, int32_t *codes)
{
    const unsigned bits = packed->bits;
    const uint8_t *byte = row + first * bits / 8;
    const unsigned begun = first * bits % 8;
    unsigned held = 8 - begun;
    uint32_t word = *byte++ >> begun;

    for (size_t i = 0; i < n; i++) {
        if (held < bits) {
            word |= (uint32_t)*byte++ << held;
            held += 8;
        }
        codes[i] = (int32_t)(word & ones(bits)) - packed->code_zero;
        word >>= bits;
        held -= bits;
    }
}

void qrb__packed_write_codes(qrb_packed *packed, size_t first, size_t n,
                             const int32_t *codes)
{
    size_t length;

    for (size_t at = 0; at < n; at += length) {
        const size_t column = (first + at) % packed->cols;
        const size_t left = packed->cols - column;

        length = left < n - at ? left : n - at;
        write_row(packed,
                  packed->codes +
                      (first + at) / packed->cols * packed->row_bytes,
                  column, length, codes + at);
    }
}

void qrb__packed_read_codes(const qrb_packed *packed, size_t first, size_t n,
                            int32_t *codes)
{
    size_t length;

    for (size_t at = 0; at < n; at += length) {
        const size_t column = (first + at) % packed->cols;
        const size_t left = packed->cols - column;

        length = left < n - at ? left : n - at;
        read_row(packed,
                 packed->codes +
                     (first + at) / packed->cols * packed->row_bytes,
                 column, length, codes + at);
    }
}

qrb_status qrb_packed_read_codes(const qrb_packed *packed, int32_t *codes)
{
    if (packed == NULL || codes == NULL)
        return QRB_E_INVALID_ARG;
    qrb__packed_read_codes(packed, 0, packed->elements, codes);
    return QRB_OK;
}
