/* Bytes to values and back (PROTOCOL.md sections 2-6). No state, no allocation. */
#include "e6l.h"

#include <string.h>

#include "e6l_bytes.h"

/* ---- check sums ---- */

/* A byte at a time without a table: the polynomial x^16 + x^12 + x^5 + 1 folds into three shifts. */
uint16_t e6l_crc16(const uint8_t *data, size_t length)
{
    uint32_t crc = 0xFFFFu;
    while (length--) {
        uint32_t x = (crc >> 8 ^ *data++) & 0xFFu;
        x ^= x >> 4;
        crc = (crc << 8 ^ x << 12 ^ x << 5 ^ x) & 0xFFFFu;
    }
    return (uint16_t)crc;
}

uint32_t e6l_crc32(uint32_t crc, const uint8_t *data, size_t length)
{
    crc = ~crc;
    while (length--) {
        crc ^= *data++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

int e6l_seal(uint8_t *out, uint32_t length)
{
    e6l_put16(out + length, e6l_crc16(out, length));
    return (int)length + 2;
}

int e6l_sealed(const uint8_t *data, size_t length)
{
    return e6l_crc16(data, length - 2u) == e6l_get16(data + length - 2u);
}

/* ---- live frames ---- */

static uint32_t bytes_per_code(uint8_t codec)
{
    return codec == E6L_RAW24 ? 3u : codec == E6L_RAW16 ? 2u : 0u;
}

int e6l_frame_encode(const e6l_frame *frame, const int32_t *samples, uint8_t leads, uint8_t *out, size_t capacity)
{
    uint32_t width = bytes_per_code(frame->codec), count = (uint32_t)frame->n * leads;
    if (!width)
        return E6L_ERROR_CODEC;
    if (!count)
        return E6L_ERROR_LENGTH;
    if (E6L_FRAME_OVERHEAD_BYTES + count * width > capacity)
        return E6L_ERROR_SPACE;
    uint8_t *p = out;
    *p++ = (uint8_t)(E6L_VERSION << 4 | frame->codec);
    *p++ = frame->flags;
    p = e6l_put32(e6l_put16(p, frame->seq), frame->t0);
    *p++ = frame->n;
    *p++ = frame->contact;
    int32_t limit = (int32_t)1 << (8u * width - 1u);
    while (count--) {
        int32_t code = *samples++;
        if (code >= limit || code < -limit)
            return E6L_ERROR_RANGE;
        p = width == 3u ? e6l_put24(p, (uint32_t)code) : e6l_put16(p, (uint32_t)code);
    }
    return e6l_seal(out, (uint32_t)(p - out));
}

int e6l_frame_decode(const uint8_t *data, size_t length, uint8_t leads, e6l_frame *frame, int32_t *samples, size_t capacity)
{
    if (length < E6L_FRAME_OVERHEAD_BYTES)
        return E6L_ERROR_SHORT;
    if (!e6l_sealed(data, length))
        return E6L_ERROR_CRC;
    if (data[0] >> 4 != E6L_VERSION)
        return E6L_ERROR_VERSION;
    frame->codec = data[0] & 0x0Fu;
    frame->flags = data[1];
    frame->seq = e6l_get16(data + 2);
    frame->t0 = e6l_get32(data + 4);
    frame->n = data[8];
    frame->contact = data[9];
    uint32_t width = bytes_per_code(frame->codec), count = (uint32_t)frame->n * leads;
    if (!width)
        return E6L_ERROR_CODEC;
    if (!count || length != E6L_FRAME_OVERHEAD_BYTES + count * width)
        return E6L_ERROR_LENGTH;
    if (count > capacity)
        return E6L_ERROR_SPACE;
    /* The sign bit of a code is moved out and back: no shift of a negative number, whose result C leaves open. */
    uint32_t sign = 1u << (8u * width - 1u);
    for (const uint8_t *p = data + E6L_FRAME_HEADER_BYTES; count--; p += width) {
        uint32_t code = e6l_get16(p) | (width == 3u ? (uint32_t)p[2] << 16 : 0u);
        *samples++ = (int32_t)(code ^ sign) - (int32_t)sign;
    }
    return E6L_OK;
}

uint8_t e6l_samples_per_frame(uint16_t mtu, uint8_t leads, uint8_t codec, uint8_t wanted)
{
    uint32_t bytes = bytes_per_code(codec) * leads, overhead = E6L_ATT_HEADER_BYTES + E6L_FRAME_OVERHEAD_BYTES;
    if (!bytes || mtu < overhead)
        return 0;
    uint32_t fits = (mtu - overhead) / bytes;
    return fits < wanted ? (uint8_t)fits : wanted;
}

/* ---- bulk frames ---- */

int e6l_bulk_encode(uint32_t offset, const uint8_t *data, uint16_t n, uint8_t *out, size_t capacity)
{
    if (!n)
        return E6L_ERROR_LENGTH;
    if (n + E6L_BULK_OVERHEAD_BYTES > capacity)
        return E6L_ERROR_SPACE;
    memcpy(e6l_put16(e6l_put32(out, offset), n), data, n);
    return e6l_seal(out, n + 6u);
}

int e6l_bulk_decode(const uint8_t *data, size_t length, uint32_t *offset, const uint8_t **bytes, uint16_t *n)
{
    if (length <= E6L_BULK_OVERHEAD_BYTES)
        return E6L_ERROR_SHORT;
    if (!e6l_sealed(data, length))
        return E6L_ERROR_CRC;
    if (e6l_get16(data + 4) != length - E6L_BULK_OVERHEAD_BYTES)
        return E6L_ERROR_LENGTH;
    *offset = e6l_get32(data);
    *n = e6l_get16(data + 4);
    *bytes = data + 6;
    return E6L_OK;
}

/* ---- descriptor ---- */

int e6l_descriptor_encode(const e6l_descriptor *d, uint8_t out[E6L_DESCRIPTOR_BYTES])
{
    uint8_t *p = out;
    *p++ = E6L_VERSION;
    *p++ = d->leads;
    memcpy(p, d->lead, E6L_MAX_LEADS);
    p += E6L_MAX_LEADS;
    *p++ = d->codecs;
    *p++ = d->features;
    p = e6l_put32(e6l_put32(e6l_put32(p, d->fs_mhz), d->lsb_pv), d->range_uv);
    p = e6l_put16(e6l_put16(p, d->hpf_mhz), d->lpf_dhz);
    *p++ = d->adc_bits;
    *p++ = d->preferred;
    p = e6l_put32(e6l_put32(e6l_put16(p, d->ring_s), d->boot_id), d->calibration_nv);
    e6l_put16(p, d->front_end_id);
    e6l_seal(out, E6L_DESCRIPTOR_BYTES - 2u);
    int found = e6l_descriptor_check(out, E6L_DESCRIPTOR_BYTES);
    return found == E6L_OK ? (int)E6L_DESCRIPTOR_BYTES : found;
}

static int leads_are_valid(const uint8_t *code, uint8_t leads)
{
    uint32_t seen = 1u; /* code 0 is no lead */
    if (leads < 1u || leads > E6L_MAX_LEADS)
        return 0;
    for (uint8_t k = 0; k < E6L_MAX_LEADS; k++) {
        if (k >= leads ? code[k] : code[k] > 12u || seen >> code[k] & 1u)
            return 0;
        seen |= 1u << (code[k] & 31u);
    }
    return 1;
}

/* 50 Hz - 2 kHz; 1 nV - 10 uV a code and at most 10 V full scale, beyond which the unit is wrong. */
static int scale_is_valid(const uint8_t *data)
{
    uint32_t fs_mhz = e6l_get32(data + 8), lsb_pv = e6l_get32(data + 12), bits = data[24];
    if (fs_mhz - 50000u > 1950000u || bits - 2u > 22u || !data[25])
        return 0;
    uint32_t rail = (1u << (bits - 1u)) - 1u;
    return lsb_pv - 1000u <= 9999000u && (uint64_t)lsb_pv * rail <= 10000000000000u;
}

int e6l_descriptor_check(const uint8_t *data, size_t length)
{
    if (length != E6L_DESCRIPTOR_BYTES)
        return E6L_ERROR_LENGTH;
    if (!e6l_sealed(data, length))
        return E6L_ERROR_CRC;
    if (data[0] != E6L_VERSION)
        return E6L_ERROR_VERSION;
    return leads_are_valid(data + 2, data[1]) && scale_is_valid(data) ? E6L_OK : E6L_ERROR_RANGE;
}

int e6l_descriptor_decode(const uint8_t *data, size_t length, e6l_descriptor *d)
{
    int found = e6l_descriptor_check(data, length);
    if (found != E6L_OK)
        return found;
    d->leads = data[1];
    memcpy(d->lead, data + 2, E6L_MAX_LEADS);
    d->codecs = data[6];
    d->features = data[7];
    d->fs_mhz = e6l_get32(data + 8);
    d->lsb_pv = e6l_get32(data + 12);
    d->range_uv = e6l_get32(data + 16);
    d->hpf_mhz = e6l_get16(data + 20);
    d->lpf_dhz = e6l_get16(data + 22);
    d->adc_bits = data[24];
    d->preferred = data[25];
    d->ring_s = e6l_get16(data + 26);
    d->boot_id = e6l_get32(data + 28);
    d->calibration_nv = e6l_get32(data + 32);
    d->front_end_id = e6l_get16(data + 36);
    return E6L_OK;
}

/* ---- status ---- */

int e6l_status_encode(const e6l_status *s, uint8_t out[E6L_STATUS_BYTES])
{
    out[0] = E6L_VERSION;
    out[1] = s->state;
    out[2] = s->contact;
    out[3] = s->battery_percent;
    uint8_t *p = e6l_put16(e6l_put16(out + 4, s->battery_mv), (uint16_t)s->temperature_centi_c);
    e6l_put16(e6l_put32(e6l_put32(p, s->next_index), s->oldest_index), s->overruns);
    return e6l_seal(out, E6L_STATUS_BYTES - 2u);
}

int e6l_status_decode(const uint8_t *data, size_t length, e6l_status *s)
{
    if (length != E6L_STATUS_BYTES)
        return E6L_ERROR_LENGTH;
    if (!e6l_sealed(data, length))
        return E6L_ERROR_CRC;
    if (data[0] != E6L_VERSION)
        return E6L_ERROR_VERSION;
    if (data[1] > E6L_STATE_FAULT)
        return E6L_ERROR_RANGE;
    s->state = data[1];
    s->contact = data[2];
    s->battery_percent = data[3];
    s->battery_mv = e6l_get16(data + 4);
    s->temperature_centi_c = (int16_t)((e6l_get16(data + 6) ^ 0x8000) - 0x8000);
    s->next_index = e6l_get32(data + 8);
    s->oldest_index = e6l_get32(data + 12);
    s->overruns = e6l_get16(data + 16);
    return E6L_OK;
}
