/* The codec against the vector files, and every single-bit error of a frame. */
#include <string.h>

#include "../e6l_sha256.c" /* for its static HMAC, which the vectors test with messages of several lengths */
#include "check.h"

typedef struct { const char *name, *hex; uint32_t crc; } crc16_case;
typedef struct { const char *name, *hex; uint8_t leads; e6l_frame frame; int32_t samples[64]; } frame_case;
typedef struct { const char *name, *hex; int error; } refused_case;
typedef struct { const char *name, *hex; e6l_descriptor descriptor; } descriptor_case;
typedef struct { const char *name, *hex; e6l_status status; } status_case;
typedef struct { const char *name, *hex; uint32_t offset; const char *data; } bulk_case;
typedef struct { const char *name, *key, *descriptor, *host_nonce, *device_nonce, *tag; } tag_case;
typedef struct { const char *name, *key, *message, *hmac; } hmac_case;
typedef struct { const char *name; uint32_t fs_mhz; uint8_t seconds; uint32_t n_samples; } pulse_case;

#include "vectors.h"

#define LEADS 2u

static uint8_t nibble(char c)
{
    return (uint8_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
}

/* Bytes of a hexadecimal text; their number. */
static size_t bytes_of(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2u;
    for (size_t k = 0; k < n; k++)
        out[k] = (uint8_t)(nibble(hex[2u * k]) << 4 | nibble(hex[2u * k + 1u]));
    return n;
}

static int equals(const uint8_t *found, int n, const char *hex)
{
    uint8_t expected[512];
    return n == (int)bytes_of(hex, expected) && memcmp(found, expected, (size_t)n) == 0;
}

static void test_check_sums(void)
{
    uint8_t raw[512];
    for (size_t k = 0; k < COUNT(crc16_cases); k++)
        CHECK_IN(crc16_cases[k].name, e6l_crc16(raw, bytes_of(crc16_cases[k].hex, raw)) == crc16_cases[k].crc);
    for (size_t k = 0; k < COUNT(crc32_cases); k++)
        CHECK_IN(crc32_cases[k].name, e6l_crc32(0, raw, bytes_of(crc32_cases[k].hex, raw)) == crc32_cases[k].crc);
}

static void test_frames(void)
{
    uint8_t raw[512];
    int32_t samples[64];
    e6l_frame found;
    for (size_t k = 0; k < COUNT(frame_cases); k++) {
        const frame_case *c = &frame_cases[k];
        size_t n = bytes_of(c->hex, raw), count = (size_t)c->frame.n * c->leads;
        CHECK_IN(c->name, e6l_frame_decode(raw, n, c->leads, &found, samples, COUNT(samples)) == E6L_OK);
        CHECK_IN(c->name, found.codec == c->frame.codec && found.flags == c->frame.flags && found.seq == c->frame.seq);
        CHECK_IN(c->name, found.t0 == c->frame.t0 && found.n == c->frame.n && found.contact == c->frame.contact);
        CHECK_IN(c->name, memcmp(samples, c->samples, count * sizeof *samples) == 0);
        memset(raw, 0xAA, sizeof raw);
        CHECK_IN(c->name, equals(raw, e6l_frame_encode(&c->frame, c->samples, c->leads, raw, n), c->hex));
        CHECK_IN(c->name, e6l_frame_encode(&c->frame, c->samples, c->leads, raw, n - 1u) == E6L_ERROR_SPACE);
        bytes_of(c->hex, raw);
        CHECK_IN(c->name, e6l_frame_decode(raw, n, c->leads, &found, samples, count - 1u) == E6L_ERROR_SPACE);
    }
    for (size_t k = 0; k < COUNT(frame_refused); k++) {
        size_t n = bytes_of(frame_refused[k].hex, raw);
        int error = e6l_frame_decode(raw, n, LEADS, &found, samples, COUNT(samples));
        CHECK_IN(frame_refused[k].name, error == frame_refused[k].error);
    }
}

static void test_every_single_bit_error_of_a_frame_is_caught(void)
{
    uint8_t raw[512];
    int32_t samples[64];
    e6l_frame found;
    for (size_t k = 0; k < COUNT(frame_cases); k++) {
        size_t n = bytes_of(frame_cases[k].hex, raw);
        for (size_t bit = 0; bit < 8u * n; bit++) {
            raw[bit / 8u] ^= (uint8_t)(1u << bit % 8u);
            CHECK(e6l_frame_decode(raw, n, LEADS, &found, samples, COUNT(samples)) == E6L_ERROR_CRC);
            raw[bit / 8u] ^= (uint8_t)(1u << bit % 8u);
        }
    }
}

static void test_codes_that_do_not_fit_are_refused(void)
{
    uint8_t raw[64];
    const int32_t too_high[] = {8388608, 0}, too_low[] = {0, -8388609}, too_wide[] = {32768, 0}, fits[] = {-8388608, 8388607};
    e6l_frame frame = {.codec = E6L_RAW24, .n = 1};
    CHECK(e6l_frame_encode(&frame, fits, LEADS, raw, sizeof raw) == 18);
    CHECK(e6l_frame_encode(&frame, too_high, LEADS, raw, sizeof raw) == E6L_ERROR_RANGE);
    CHECK(e6l_frame_encode(&frame, too_low, LEADS, raw, sizeof raw) == E6L_ERROR_RANGE);
    frame.codec = E6L_RAW16;
    CHECK(e6l_frame_encode(&frame, too_wide, LEADS, raw, sizeof raw) == E6L_ERROR_RANGE);
    frame.codec = 2;
    CHECK(e6l_frame_encode(&frame, fits, LEADS, raw, sizeof raw) == E6L_ERROR_CODEC);
    frame.codec = E6L_RAW24;
    frame.n = 0;
    CHECK(e6l_frame_encode(&frame, fits, LEADS, raw, sizeof raw) == E6L_ERROR_LENGTH);
}

static void test_frame_sizes_follow_the_mtu(void)
{
    static const struct { uint16_t mtu; uint8_t n; } cases[] = {{0, 0}, {14, 0}, {23, 1}, {38, 3}, {39, 4}, {100, 14}, {185, 25}, {517, 25}};
    for (size_t k = 0; k < COUNT(cases); k++)
        CHECK(e6l_samples_per_frame(cases[k].mtu, LEADS, E6L_RAW24, 25) == cases[k].n);
    CHECK(e6l_samples_per_frame(39, LEADS, E6L_RAW16, 25) == 6);
    CHECK(e6l_samples_per_frame(247, LEADS, 2, 25) == 0);
}

static void test_descriptors(void)
{
    uint8_t raw[512], again[E6L_DESCRIPTOR_BYTES];
    e6l_descriptor found;
    for (size_t k = 0; k < COUNT(descriptor_cases); k++) {
        const descriptor_case *c = &descriptor_cases[k];
        const e6l_descriptor *d = &c->descriptor;
        CHECK_IN(c->name, e6l_descriptor_decode(raw, bytes_of(c->hex, raw), &found) == E6L_OK);
        CHECK_IN(c->name, found.leads == d->leads && memcmp(found.lead, d->lead, sizeof found.lead) == 0);
        CHECK_IN(c->name, found.codecs == d->codecs && found.features == d->features && found.fs_mhz == d->fs_mhz);
        CHECK_IN(c->name, found.lsb_pv == d->lsb_pv && found.range_uv == d->range_uv && found.hpf_mhz == d->hpf_mhz);
        CHECK_IN(c->name, found.lpf_dhz == d->lpf_dhz && found.adc_bits == d->adc_bits && found.preferred == d->preferred);
        CHECK_IN(c->name, found.ring_s == d->ring_s && found.boot_id == d->boot_id && found.front_end_id == d->front_end_id);
        CHECK_IN(c->name, found.calibration_nv == d->calibration_nv);
        CHECK_IN(c->name, equals(again, e6l_descriptor_encode(d, again), c->hex));
    }
    for (size_t k = 0; k < COUNT(descriptor_refused); k++)
        CHECK_IN(descriptor_refused[k].name, e6l_descriptor_decode(raw, bytes_of(descriptor_refused[k].hex, raw), &found) < 0);
    found = descriptor_cases[0].descriptor;
    found.fs_mhz = 0;
    CHECK(e6l_descriptor_encode(&found, again) == E6L_ERROR_RANGE);
}

static void test_status(void)
{
    uint8_t raw[512], again[E6L_STATUS_BYTES];
    e6l_status found;
    for (size_t k = 0; k < COUNT(status_cases); k++) {
        const status_case *c = &status_cases[k];
        CHECK_IN(c->name, e6l_status_decode(raw, bytes_of(c->hex, raw), &found) == E6L_OK);
        CHECK_IN(c->name, found.state == c->status.state && found.contact == c->status.contact);
        CHECK_IN(c->name, found.battery_percent == c->status.battery_percent && found.battery_mv == c->status.battery_mv);
        CHECK_IN(c->name, found.temperature_centi_c == c->status.temperature_centi_c && found.overruns == c->status.overruns);
        CHECK_IN(c->name, found.next_index == c->status.next_index && found.oldest_index == c->status.oldest_index);
        CHECK_IN(c->name, equals(again, e6l_status_encode(&c->status, again), c->hex));
    }
    for (size_t k = 0; k < COUNT(status_refused); k++)
        CHECK_IN(status_refused[k].name, e6l_status_decode(raw, bytes_of(status_refused[k].hex, raw), &found) < 0);
}

static void test_bulk(void)
{
    uint8_t raw[512], again[512];
    const uint8_t *data;
    uint32_t offset;
    uint16_t n;
    for (size_t k = 0; k < COUNT(bulk_cases); k++) {
        const bulk_case *c = &bulk_cases[k];
        size_t length = bytes_of(c->hex, raw);
        CHECK_IN(c->name, e6l_bulk_decode(raw, length, &offset, &data, &n) == E6L_OK);
        CHECK_IN(c->name, offset == c->offset && equals(data, n, c->data));
        CHECK_IN(c->name, equals(again, e6l_bulk_encode(offset, data, n, again, length), c->hex));
        CHECK_IN(c->name, e6l_bulk_encode(offset, data, n, again, length - 1u) == E6L_ERROR_SPACE);
    }
    CHECK(e6l_bulk_encode(0, raw, 0, again, sizeof again) == E6L_ERROR_LENGTH);
    for (size_t k = 0; k < COUNT(bulk_refused); k++)
        CHECK_IN(bulk_refused[k].name, e6l_bulk_decode(raw, bytes_of(bulk_refused[k].hex, raw), &offset, &data, &n) < 0);
}

static void test_tags(void)
{
    uint8_t key[512], descriptor[512], host[512], device[512], tag[E6L_TAG_BYTES], text[TEXT_BYTES];
    for (size_t k = 0; k < COUNT(tag_cases); k++) {
        const tag_case *c = &tag_cases[k];
        bytes_of(c->key, key);
        bytes_of(c->descriptor, descriptor);
        bytes_of(c->host_nonce, host);
        bytes_of(c->device_nonce, device);
        e6l_auth_tag(key, descriptor, host, device, tag);
        CHECK_IN(c->name, equals(tag, E6L_TAG_BYTES, c->tag));
    }
    unsigned long done = 0;
    for (size_t k = 0; k < COUNT(hmac_cases); k++) {
        const hmac_case *c = &hmac_cases[k];
        if (strlen(c->message) / 2u > TEXT_BYTES - BLOCK_BYTES - PADDING_BYTES)
            continue; /* longer than anything the core signs */
        bytes_of(c->key, key);
        keyed_hash(text, (uint32_t)bytes_of(c->message, text + BLOCK_BYTES), key, 0x36);
        keyed_hash(text, DIGEST_BYTES, key, 0x5C);
        CHECK_IN(c->name, equals(text + BLOCK_BYTES, DIGEST_BYTES, c->hmac));
        done++;
    }
    CHECK(done >= 4u);
}

#include "test_device.c"

int main(void)
{
    test_check_sums();
    test_frames();
    test_every_single_bit_error_of_a_frame_is_caught();
    test_codes_that_do_not_fit_are_refused();
    test_frame_sizes_follow_the_mtu();
    test_descriptors();
    test_status();
    test_bulk();
    test_tags();
    test_device(requests_refused, COUNT(requests_refused), pulse_cases, COUNT(pulse_cases));
    printf("%lu checks, %lu failed\n", checks_done, checks_failed);
    return checks_failed ? 1 : 0;
}
