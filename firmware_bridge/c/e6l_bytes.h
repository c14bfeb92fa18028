/* Little-endian numbers in byte arrays, whatever the machine's own order; for the files of this folder only.
 *
 * Inline: a compiler for a little-endian machine makes one load or store of each, smaller than a call.
 */
#ifndef E6L_BYTES_H
#define E6L_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes of a number lie in memory as on the wire. A compiler that does not say so gets the byte-by-byte way; a build with
 * -DE6L_ANY_ENDIAN takes it everywhere, for tests. */
#if defined(__BYTE_ORDER__) && !defined(E6L_ANY_ENDIAN)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define E6L_LITTLE_ENDIAN
#endif
#endif

static inline uint16_t e6l_get16(const uint8_t *p)
{
#ifdef E6L_LITTLE_ENDIAN
    uint16_t half;
    memcpy(&half, p, sizeof half);
    return half;
#else
    return (uint16_t)(p[0] | p[1] << 8);
#endif
}

static inline uint32_t e6l_get32(const uint8_t *p)
{
#ifdef E6L_LITTLE_ENDIAN
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return word;
#else
    return (uint32_t)e6l_get16(p) | (uint32_t)e6l_get16(p + 2) << 16;
#endif
}

/* Each returns the byte after the number.  */

static inline uint8_t *e6l_put16(uint8_t *p, uint32_t value)
{
#ifdef E6L_LITTLE_ENDIAN
    uint16_t half = (uint16_t)value;
    memcpy(p, &half, sizeof half);
#else
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
#endif
    return p + 2;
}

static inline uint8_t *e6l_put24(uint8_t *p, uint32_t value)
{
    p[2] = (uint8_t)(value >> 16);
    return e6l_put16(p, value) + 1;
}

static inline uint8_t *e6l_put32(uint8_t *p, uint32_t value)
{
#ifdef E6L_LITTLE_ENDIAN
    memcpy(p, &value, sizeof value);
    return p + 4;
#else
    return e6l_put16(e6l_put16(p, value), value >> 16);
#endif
}

static inline uint8_t *e6l_put64(uint8_t *p, uint64_t value)
{
    return e6l_put32(e6l_put32(p, (uint32_t)value), (uint32_t)(value >> 32));
}

int e6l_seal(uint8_t *out, uint32_t length);        /* CRC-16 behind `length` bytes; returns the length with it */
int e6l_sealed(const uint8_t *data, size_t length); /* whether the last two bytes are the CRC-16 of those before */

#endif
