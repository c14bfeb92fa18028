/* Random and damaged bytes to each decoder and to the device: fuzz [inputs per decoder] [seed]. Built with sanitizers, which
 * end the program at the first bad access. What is accepted must have the right check sum by an independent computation, and
 * encode to the same bytes. Prints one line of JSON; exit status 1 if anything was accepted that must not be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "e6l.h"

#define MAX_BYTES 600u
#define MAX_SAMPLES 1020u
#define RING_SAMPLES 300u
#define RECORD_SAMPLES 600u

static uint64_t state;
static unsigned long wrong;

static uint32_t random_word(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static uint32_t below(uint32_t n)
{
    return random_word() % n;
}

/* Bit by bit, straight from the definition: shares nothing with e6l_crc16. */
static uint16_t slow_crc16(const uint8_t *data, size_t n)
{
    uint32_t crc = 0xFFFF;
    for (size_t k = 0; k < n; k++)
        for (int bit = 7; bit >= 0; bit--) {
            uint32_t top = crc >> 15 & 1u;
            crc = (crc << 1 & 0xFFFFu) ^ ((top ^ (data[k] >> bit & 1u)) ? 0x1021u : 0u);
        }
    return (uint16_t)crc;
}

static int has_crc(const uint8_t *data, size_t n)
{
    return n >= 2u && slow_crc16(data, n - 2u) == (data[n - 2u] | data[n - 1u] << 8);
}

static void seal(uint8_t *data, size_t n)
{
    if (n >= 2u) {
        uint16_t crc = slow_crc16(data, n - 2u);
        data[n - 2u] = (uint8_t)crc;
        data[n - 1u] = (uint8_t)(crc >> 8);
    }
}

static void fill(uint8_t *data, size_t n)
{
    for (size_t k = 0; k < n; k++)
        data[k] = (uint8_t)random_word();
}

/* Damages n bytes in one of the ways that links and firmware damage them; returns the new length. A third gets a right check
 * sum over wrong contents, which only the checks behind it can refuse. */
static size_t damaged(uint8_t *data, size_t n)
{
    switch (below(6)) {
    case 0: fill(data, n = below(MAX_BYTES)); break;
    case 1: if (n) data[below((uint32_t)n)] ^= (uint8_t)(1u << below(8)); break;
    case 2: n = n ? below((uint32_t)n) : 0; break;
    case 3: fill(data + n, 1u + below(8)); n += 1u + below(8); break;
    case 4: if (n) data[below((uint32_t)n)] = (uint8_t)random_word(); break;
    default: break;
    }
    if (below(3) == 0)
        seal(data, n);
    return n;
}

/* The bytes in memory that ends where they end: a read beyond them is a fault. */
static uint8_t *exact_copy(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1u);
    if (!copy)
        exit(2);
    memcpy(copy, data, n);
    return copy;
}

static unsigned long fuzz_frames(unsigned long inputs)
{
    static int32_t samples[MAX_SAMPLES], given[MAX_SAMPLES];
    uint8_t data[2u * MAX_BYTES], again[MAX_BYTES + 16u];
    unsigned long accepted = 0;
    for (unsigned long k = 0; k < inputs; k++) {
        uint8_t leads = (uint8_t)(1u + below(4));
        e6l_frame frame = {.codec = (uint8_t)below(2), .flags = (uint8_t)random_word(), .seq = (uint16_t)random_word(), .t0 = random_word(), .n = (uint8_t)(1u + below(30)), .contact = (uint8_t)random_word()};
        for (uint32_t s = 0; s < (uint32_t)frame.n * leads; s++)
            given[s] = (int32_t)below(65536) - 32768;
        int length = e6l_frame_encode(&frame, given, leads, data, MAX_BYTES);
        size_t n = damaged(data, (size_t)length);
        uint8_t *copy = exact_copy(data, n);
        if (e6l_frame_decode(copy, n, leads, &frame, samples, MAX_SAMPLES) == E6L_OK) {
            accepted++;
            wrong += !has_crc(copy, n);
            wrong += e6l_frame_encode(&frame, samples, leads, again, sizeof again) != (int)n || memcmp(again, copy, n) != 0;
        }
        free(copy);
    }
    return accepted;
}

static unsigned long fuzz_descriptors(unsigned long inputs)
{
    const e6l_descriptor good = {.leads = 2, .lead = {1, 2}, .codecs = 1, .features = 0x69, .fs_mhz = 500000, .lsb_pv = 48100, .adc_bits = 24, .preferred = 25, .ring_s = 30};
    uint8_t data[2u * MAX_BYTES], again[E6L_DESCRIPTOR_BYTES];
    e6l_descriptor found;
    unsigned long accepted = 0;
    for (unsigned long k = 0; k < inputs; k++) {
        size_t n = damaged(data, (size_t)e6l_descriptor_encode(&good, data));
        uint8_t *copy = exact_copy(data, n);
        if (e6l_descriptor_decode(copy, n, &found) == E6L_OK) {
            accepted++;
            wrong += !has_crc(copy, n) || found.leads < 1u || found.leads > E6L_MAX_LEADS || !found.fs_mhz || !found.lsb_pv;
            wrong += e6l_descriptor_encode(&found, again) != (int)n || memcmp(again, copy, n) != 0;
        }
        free(copy);
    }
    return accepted;
}

static unsigned long fuzz_statuses(unsigned long inputs)
{
    uint8_t data[2u * MAX_BYTES], again[E6L_STATUS_BYTES];
    unsigned long accepted = 0;
    for (unsigned long k = 0; k < inputs; k++) {
        e6l_status status = {.state = (uint8_t)below(3), .next_index = random_word(), .temperature_centi_c = -250};
        size_t n = damaged(data, (size_t)e6l_status_encode(&status, data));
        uint8_t *copy = exact_copy(data, n);
        if (e6l_status_decode(copy, n, &status) == E6L_OK) {
            accepted++;
            wrong += !has_crc(copy, n) || status.state > E6L_STATE_FAULT;
            wrong += e6l_status_encode(&status, again) != (int)n || memcmp(again, copy, n) != 0;
        }
        free(copy);
    }
    return accepted;
}

static unsigned long fuzz_bulk(unsigned long inputs)
{
    uint8_t data[2u * MAX_BYTES], given[256], again[2u * MAX_BYTES];
    const uint8_t *bytes;
    uint32_t offset;
    uint16_t length;
    unsigned long accepted = 0;
    fill(given, sizeof given);
    for (unsigned long k = 0; k < inputs; k++) {
        size_t n = damaged(data, (size_t)e6l_bulk_encode(random_word(), given, (uint16_t)(1u + below(255)), data, MAX_BYTES));
        uint8_t *copy = exact_copy(data, n);
        if (e6l_bulk_decode(copy, n, &offset, &bytes, &length) == E6L_OK) {
            accepted++;
            wrong += !has_crc(copy, n);
            wrong += e6l_bulk_encode(offset, bytes, length, again, sizeof again) != (int)n || memcmp(again, copy, n) != 0;
        }
        free(copy);
    }
    return accepted;
}

/* ---- the device: requests, samples, links and a queue that fills up, in any order ---- */

static uint64_t device_now;
static unsigned long reads; /* requests after which a recording was being read */

/* Whatever the device sends must be whole. */
static int take(void *ctx, uint8_t channel, const uint8_t *data, uint16_t n)
{
    e6l_device *device = ctx;
    if (below(8) == 0)
        return -1;
    wrong += n == 0 || n > E6L_MAX_PACKET_BYTES;
    wrong += channel == E6L_CHANNEL_CONTROL ? n < 3u || n > E6L_MAX_REPLY_BYTES || !(data[0] & 0x80u) : !has_crc(data, n);
    wrong += channel == E6L_CHANNEL_LIVE && n > device->mtu - 3u;
    return 0;
}

static uint64_t now(void *ctx)
{
    (void)ctx;
    return device_now;
}

static int front_end(void *ctx, uint8_t command, uint8_t value)
{
    (void)ctx;
    (void)value;
    return command == E6L_FRONT_END_STOP || below(20) ? 0 : -1;
}

static void nonce(void *ctx, uint8_t *out, uint8_t n)
{
    (void)ctx;
    fill(out, n);
}

static int key(void *ctx, uint8_t *out)
{
    (void)ctx;
    memset(out, 7, E6L_KEY_BYTES);
    return below(4) ? 0 : -1;
}

static void power(void *ctx, uint16_t *mv, uint8_t *percent, int16_t *centi_c)
{
    (void)ctx;
    *mv = 3700;
    *percent = (uint8_t)below(101);
    *centi_c = 2500;
}

static void request(e6l_device *device, unsigned long counts[16])
{
    static const uint8_t lengths[] = {0, 3, 0, 6, 8, 2, 1, 1, 10, 2, 0, 16};
    uint8_t data[MAX_BYTES], op = (uint8_t)below(13);
    size_t n = op < sizeof lengths && below(8) ? 2u + lengths[op] : below(40);
    fill(data, n);
    if (n > 1u)
        data[0] = op;
    if (n > 4u && below(2))
        data[4] &= 1u;
    if (n > 3u && below(2))
        memset(data + 4, 0, n - 4u);
    if (n > 2u && below(2))
        data[2] = op == E6L_OP_RECORD_ARM ? 10 : op == E6L_OP_RETRANSMIT ? (uint8_t)random_word() : op == E6L_OP_CALIBRATE || op >= E6L_OP_RECORD_READ;
    if (op == E6L_OP_RECORD_READ && n == 12u && below(2)) { /* a range that may lie within the recording there is */
        memset(data + 2, 0, 10);
        data[2] = (uint8_t)device->recording_id;
        data[3] = (uint8_t)(device->recording_id >> 8);
        data[5] = (uint8_t)below(8);
        data[8] = (uint8_t)random_word();
        data[9] = (uint8_t)below(8);
    }
    uint8_t *copy = exact_copy(data, n);
    e6l_device_control(device, copy, n);
    free(copy);
    counts[device->reply[2] & 15u]++;
    reads += device->read_offset != device->read_stop;
}

static void step(e6l_device *device, unsigned long counts[16])
{
    static const uint16_t mtus[] = {0, 23, 39, 100, 247, 517, 65535};
    int32_t codes[64];
    uint32_t what = below(16);
    device_now += below(50000);
    if (what < 5u) {
        request(device, counts);
    } else if (what < 12u) {
        for (size_t k = 0; k < 64u; k++)
            codes[k] = (int32_t)random_word() >> 8;
        e6l_device_samples(device, codes, (uint16_t)(1u + below(64u / device->leads)), (uint8_t)random_word());
    } else if (what < 14u) {
        e6l_device_tick(device);
    } else if (what < 15u) {
        uint16_t mtu = mtus[below(7)];
        if (mtu < device->mtu)
            e6l_device_link(device, 0); /* the MTU of a link only grows */
        e6l_device_link(device, mtu);
    } else if (below(20) == 0) {
        e6l_device_end(device);
    }
    wrong += device->held > RING_SAMPLES || device->recording_kept > device->recording_wanted;
}

static void fuzz_device(unsigned long inputs, unsigned long counts[16])
{
    e6l_device *device = malloc(sizeof *device);
    uint8_t raw[E6L_DESCRIPTOR_BYTES], *ring = NULL, *record = NULL;
    const e6l_hal hal = {device, take, now, front_end, nonce, key, power};
    if (!device)
        exit(2);
    for (unsigned long k = 0; k < inputs; k++) {
        if (k % 2000u == 0) {
            e6l_descriptor d = {.lead = {1, 2, 7, 12}, .codecs = 1, .features = (uint8_t)(below(4) ? 0xFF : random_word()), .fs_mhz = 50000u + below(3) * 25000u, .lsb_pv = 48100, .adc_bits = 24};
            d.leads = (uint8_t)(1u + below(4));
            memset(d.lead + d.leads, 0, E6L_MAX_LEADS - d.leads);
            d.preferred = (uint8_t)(1u + below(255));
            free(ring);
            free(record);
            ring = malloc(E6L_RING_BYTES(RING_SAMPLES, d.leads));
            record = malloc(E6L_RECORD_BYTES(RECORD_SAMPLES, d.leads));
            if (!ring || !record)
                exit(2);
            wrong += e6l_descriptor_encode(&d, raw) < 0;
            wrong += e6l_device_init(device, &hal, raw, ring, E6L_RING_BYTES(RING_SAMPLES, d.leads), record, E6L_RECORD_BYTES(RECORD_SAMPLES, d.leads)) != E6L_OK;
        }
        step(device, counts);
    }
    free(ring);
    free(record);
    free(device);
}

int main(int argc, char **argv)
{
    unsigned long inputs = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000ul, counts[16] = {0};
    state = 0x9E3779B97F4A7C15u ^ (argc > 2 ? strtoul(argv[2], NULL, 10) : 1ul) << 20;
    unsigned long frames = fuzz_frames(inputs), descriptors = fuzz_descriptors(inputs), statuses = fuzz_statuses(inputs), bulk = fuzz_bulk(inputs);
    fuzz_device(inputs, counts);
    printf("{\"inputs_each\": %lu, \"accepted\": {\"frame\": %lu, \"descriptor\": %lu, \"status\": %lu, \"bulk\": %lu}, \"device_replies\": [", inputs, frames, descriptors, statuses, bulk);
    for (int k = 0; k < 10; k++)
        printf("%s%lu", k ? ", " : "", counts[k]);
    printf("], \"during_reads\": %lu, \"wrong\": %lu}\n", reads, wrong);
    return wrong != 0;
}
