/* What a host may ask (PROTOCOL.md section 5 and those of its operations): each operation writes the data of its reply to `out`
 * and returns the status, with the length of the data above it. */
#include <string.h>

#include "e6l_bytes.h"
#include "e6l_internal.h"

/* Samples in `seconds`. */
static uint32_t samples_in(const e6l_device *d, uint8_t seconds)
{
    return seconds * d->fs_mhz / 1000u;
}

#define DATA(bytes) ((uint16_t)((bytes) << 8))

static uint8_t begin_stream(e6l_device *d)
{
    if (e6l_acquiring(d))
        return E6L_BUSY;
    if (!e6l_start_front_end(d))
        return E6L_FRONT_END_FAULT;
    d->start_us = d->clock_us = e6l_now_us(d);
    d->clock_rest = d->fs_mhz / 2u;
    d->next = d->held = d->head = d->pending = d->sent = d->overrun = 0;
    d->seq = d->lost_before = d->contact = d->waiting = d->fault = 0;
    d->has_stream = d->running = 1;
    d->stream_id++;
    return E6L_OK;
}

static uint16_t op_start(e6l_device *d, const uint8_t *p, uint8_t *out)
{
    if (p[0] != E6L_RAW24 || p[1] < E6L_MIN_FRAME_SAMPLES)
        return E6L_BAD_PARAMETER;
    uint8_t wanted = p[1] < d->preferred ? p[1] : d->preferred, status = E6L_OK;
    uint8_t n = e6l_samples_per_frame(d->mtu, d->leads, E6L_RAW24, wanted);
    if (n < E6L_MIN_FRAME_SAMPLES)
        return E6L_MTU_TOO_SMALL;
    if (!(p[2] & 1u))
        status = begin_stream(d);
    else if (!d->running)
        status = E6L_NO_STREAM;
    if (status != E6L_OK)
        return status;
    d->frame_samples = n;
    d->sending = 1;
    *out++ = n;
    e6l_put32(e6l_put64(e6l_put16(e6l_put16(out, d->mtu), d->stream_id), d->start_us), 0);
    return DATA(17);
}

static uint16_t op_stop(e6l_device *d, const uint8_t *p, uint8_t *out)
{
    (void)p;
    if (!d->has_stream)
        return E6L_NO_STREAM;
    e6l_cut_last_frame(d);
    e6l_end_stream(d);
    d->sending = 0;
    e6l_put32(e6l_put32(e6l_put32(out, d->next), d->sent), d->overrun);
    return DATA(12);
}

static uint16_t op_retransmit(e6l_device *d, const uint8_t *p, uint8_t *out)
{
    uint32_t t0 = e6l_get32(p), count = e6l_get16(p + 4), behind = d->next - t0;
    if (!count)
        return E6L_BAD_PARAMETER;
    if (!d->has_stream)
        return E6L_NO_STREAM;
    /* Of the samples that t0 (modulo 2^32) may mean, the nearest to the newest: one ahead is not one long gone. */
    if (behind > 0x80000000u || count > behind)
        return E6L_BAD_PARAMETER;
    if (behind > d->held) {
        e6l_put32(out, e6l_device_oldest(d));
        return E6L_EVICTED | DATA(4);
    }
    if (d->waiting == E6L_WAITING_RETRANSMISSIONS)
        return E6L_BUSY;
    d->again[d->waiting].t0 = t0;
    d->again[d->waiting++].count = count;
    return E6L_OK;
}

static uint16_t op_time(e6l_device *d, const uint8_t *p, uint8_t *out)
{
    memcpy(out, p, 8);
    e6l_put32(e6l_put64(out + 8, e6l_now_us(d)), d->next);
    return DATA(20);
}

static uint16_t op_calibrate(e6l_device *d, const uint8_t *p, uint8_t *out)
{
    (void)out;
    if (p[0] > 1u || (p[0] && (p[1] < 1u || p[1] > 30u)))
        return E6L_BAD_PARAMETER;
    if (!d->running)
        return E6L_NO_STREAM;
    if (!p[0]) {
        e6l_end_calibration(d);
        return E6L_OK;
    }
    if (d->making)
        return E6L_BUSY; /* a recording has no flag that could tell the pulse from the patient */
    if (e6l_front_end(d, E6L_FRONT_END_CALIBRATION, p[1]) != 0)
        return E6L_FRONT_END_FAULT;
    d->calibration_left = samples_in(d, p[1]);
    return E6L_OK;
}

static uint16_t op_record_arm(e6l_device *d, const uint8_t *p, uint8_t *out)
{
    uint32_t wanted = samples_in(d, p[0]);
    if (p[0] < 10u || p[0] > 30u || wanted > d->record_samples)
        return E6L_BAD_PARAMETER;
    if (d->making || e6l_reading(d) || d->calibration_left)
        return E6L_BUSY;
    if (!d->running && !e6l_start_front_end(d))
        return E6L_FRONT_END_FAULT;
    d->recording_us = e6l_now_us(d);
    d->recording_index = E6L_NO_STREAM_INDEX;
    if (d->running) {
        d->recording_us = d->clock_us;
        d->recording_index = d->next;
    }
    d->recording_wanted = wanted;
    d->recording_kept = d->recording_crc = 0;
    d->stored = 0;
    d->making = 1;
    if (++d->recording_id == 0)
        d->recording_id = 1;
    e6l_put16(out, d->recording_id);
    return DATA(2);
}

static uint16_t op_record_list(e6l_device *d, const uint8_t *p, uint8_t *out)
{
    if (d->mtu < E6L_MIN_REPLY_MTU)
        return E6L_MTU_TOO_SMALL;
    *out++ = d->stored;
    if (!d->stored)
        return DATA(1);
    if (p[0])
        return E6L_BAD_PARAMETER;
    out = e6l_put64(e6l_put16(out, d->recording_id), d->recording_us);
    e6l_put32(e6l_put32(e6l_put32(out, d->recording_index), d->recording_kept), d->recording_crc);
    return DATA(23);
}

static uint16_t op_record_read(e6l_device *d, const uint8_t *p, uint8_t *out)
{
    (void)out;
    uint32_t offset = e6l_get32(p + 2), length = e6l_get32(p + 6), bytes = d->recording_kept * (d->sample_bytes - 1u);
    if (!length || !d->stored || e6l_get16(p) != d->recording_id || offset > bytes || length > bytes - offset)
        return E6L_BAD_PARAMETER;
    if (e6l_reading(d))
        return E6L_BUSY;
    if (d->mtu) {
        d->read_offset = offset;
        d->read_stop = offset + length;
    }
    return E6L_OK;
}

static uint16_t op_record_delete(e6l_device *d, const uint8_t *p, uint8_t *out)
{
    (void)out;
    if (e6l_get16(p) != d->recording_id || !(d->making || d->stored))
        return E6L_BAD_PARAMETER;
    if (e6l_reading(d))
        return E6L_BUSY;
    d->making = d->stored = 0; /* one that is being made is abandoned */
    e6l_rest_front_end(d);
    return E6L_OK;
}

static uint16_t op_self_test(e6l_device *d, const uint8_t *p, uint8_t *out)
{
    (void)p;
    uint8_t key[E6L_KEY_BYTES];
    e6l_status s;
    if (e6l_acquiring(d))
        return E6L_BUSY;
    uint32_t faults = (uint32_t)e6l_front_end(d, E6L_FRONT_END_SELF_TEST, 0);
    faults &= E6L_FAULT_FRONT_END | E6L_FAULT_MEMORY | E6L_FAULT_CALIBRATION;
    d->fault = faults & E6L_FAULT_FRONT_END;
    e6l_read_power(d, &s);
    if (s.battery_percent < E6L_BATTERY_LOW_PERCENT)
        faults |= E6L_FAULT_BATTERY_LOW;
    if (d->hal->device_key(d->hal->ctx, key))
        faults |= E6L_FAULT_NO_DEVICE_KEY;
    memset(key, 0, sizeof key);
    e6l_put16(e6l_put16(out, faults), s.battery_mv);
    return DATA(4);
}

static uint16_t op_authenticate(e6l_device *d, const uint8_t *p, uint8_t *out)
{
    uint8_t key[E6L_KEY_BYTES];
    if (d->mtu < E6L_MIN_REPLY_MTU)
        return E6L_MTU_TOO_SMALL;
    if (d->hal->device_key(d->hal->ctx, key) != 0)
        return E6L_NOT_AUTHENTICATED;
    d->hal->random_bytes(d->hal->ctx, out, E6L_NONCE_BYTES);
    e6l_auth_tag(key, d->descriptor, p, out, out + E6L_NONCE_BYTES);
    memset(key, 0, sizeof key);
    return DATA(E6L_NONCE_BYTES + E6L_TAG_BYTES);
}

#define ANY_LENGTH 0xFFu

typedef struct {
    uint16_t (*answer)(e6l_device *d, const uint8_t *p, uint8_t *out);
    uint8_t parameter_bytes, feature;
} operation;

static const operation operations[E6L_OP_AUTHENTICATE] = {
    {op_start, 3, 0},
    {op_stop, ANY_LENGTH, 0},
    {op_retransmit, 6, 0},
    {op_time, 8, 0},
    {op_calibrate, 2, E6L_FEATURE_CALIBRATION},
    {op_record_arm, 1, E6L_FEATURE_RECORD},
    {op_record_list, 1, E6L_FEATURE_RECORD},
    {op_record_read, 10, E6L_FEATURE_RECORD},
    {op_record_delete, 2, E6L_FEATURE_RECORD},
    {op_self_test, 0, 0},
    {op_authenticate, E6L_NONCE_BYTES, 0},
};

uint16_t e6l_answer(e6l_device *d, const uint8_t *data, size_t length)
{
    if (length < 2u || data[0] < E6L_OP_START || data[0] > E6L_OP_AUTHENTICATE)
        return E6L_BAD_OP;
    const operation *op = &operations[data[0] - E6L_OP_START];
    if (op->feature & ~d->features)
        return E6L_BAD_OP;
    if (op->parameter_bytes != ANY_LENGTH && length != op->parameter_bytes + 2u)
        return E6L_BAD_PARAMETER;
    return op->answer(d, data + 2, d->reply + E6L_REPLY_HEAD);
}
