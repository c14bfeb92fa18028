/* The device (PROTOCOL.md sections 5-13): replies, and what goes on by itself. Calls all of the other files. */
#include <string.h>

#include "e6l_bytes.h"
#include "e6l_internal.h"

#define STATUS_PERIOD_US 1000000u

void e6l_device_end(e6l_device *d)
{
    e6l_cut_last_frame(d);
    e6l_end_stream(d);
    e6l_finish_recording(d);
}

static uint8_t send_packet(e6l_device *d, uint8_t channel, uint16_t length)
{
    return e6l_send(d, channel, d->packet, length);
}

static void send_reply(e6l_device *d)
{
    if (d->reply_bytes && e6l_send(d, E6L_CHANNEL_CONTROL, d->reply, d->reply_bytes))
        d->reply_bytes = 0;
}

/* Samples that were asked for again, after the reply that announces them. */
static void send_again(e6l_device *d)
{
    uint8_t step = e6l_samples_per_frame(d->mtu, d->leads, E6L_RAW24, d->preferred);
    if (!step)
        d->waiting = 0; /* the link is gone */
    while (d->waiting && !d->reply_bytes) {
        uint32_t first = d->again[0].t0, count = d->again[0].count;
        if (!count || d->next - first > d->held) { /* sent, or overtaken by the ring: a host that asks again is told */
            memmove(d->again, d->again + 1, sizeof d->again - sizeof d->again[0]);
            d->waiting--;
            continue;
        }
        uint8_t n = count < step ? (uint8_t)count : step;
        if (!send_packet(d, E6L_CHANNEL_LIVE, e6l_build_frame(d, first, n, E6L_FLAG_RETRANSMITTED, E6L_SEQ_RETRANSMITTED)))
            return;
        d->again[0].t0 += n;
        d->again[0].count -= n;
    }
}

int e6l_device_control(e6l_device *d, const uint8_t *data, size_t length)
{
    send_reply(d);
    if (d->reply_bytes)
        return E6L_ERROR_BUSY;
    e6l_cut_full_frames(d);
    uint8_t *reply = d->reply;
    uint16_t result = e6l_answer(d, data, length);
    e6l_put16(reply, 0);
    memcpy(reply, data, length < 2u ? length : 2u); /* operation and transaction, as far as there are any */
    reply[0] |= 0x80u;
    reply[2] = (uint8_t)result;
    d->reply_bytes = (uint8_t)(E6L_REPLY_HEAD + (result >> 8));
    send_reply(d);
    send_again(d);
    return E6L_OK;
}

static void send_bulk(e6l_device *d)
{
    int32_t room = (int32_t)d->mtu - (int32_t)(E6L_ATT_HEADER_BYTES + E6L_BULK_OVERHEAD_BYTES);
    if (room <= 0)
        d->read_offset = d->read_stop; /* the link is gone, or holds no byte */
    while (e6l_reading(d) && !d->reply_bytes) {
        uint32_t n = d->read_stop - d->read_offset;
        if (n > (uint32_t)room)
            n = (uint32_t)room;
        int length = e6l_bulk_encode(d->read_offset, d->record + d->read_offset, (uint16_t)n, d->packet, sizeof d->packet);
        if (!send_packet(d, E6L_CHANNEL_BULK, (uint16_t)length))
            return;
        d->read_offset += n;
    }
}

static uint8_t state_of(const e6l_device *d)
{
    return d->running ? E6L_STATE_STREAMING : d->fault ? E6L_STATE_FAULT : E6L_STATE_IDLE;
}

void e6l_device_status(e6l_device *d, uint8_t out[E6L_STATUS_BYTES])
{
    e6l_status s;
    s.state = state_of(d);
    s.contact = d->contact;
    e6l_read_power(d, &s);
    s.next_index = d->next;
    s.oldest_index = e6l_device_oldest(d);
    s.overruns = (uint16_t)d->overrun;
    e6l_status_encode(&s, out);
}

static void send_status(e6l_device *d)
{
    uint64_t now = e6l_now_us(d);
    uint16_t condition = (uint16_t)((state_of(d) + 1u) << 8 | d->contact); /* never 0: nothing was told since power-on */
    if (!d->mtu || (d->told == condition && now < d->status_due_us))
        return;
    e6l_device_status(d, d->packet);
    if (send_packet(d, E6L_CHANNEL_STATUS, E6L_STATUS_BYTES)) {
        d->status_due_us = now + STATUS_PERIOD_US;
        d->told = condition;
    }
}

void e6l_device_tick(e6l_device *d)
{
    send_reply(d);
    e6l_cut_full_frames(d);
    send_again(d);
    send_bulk(d);
    send_status(d);
}

void e6l_device_link(e6l_device *d, uint16_t mtu)
{
    d->mtu = mtu < E6L_MAX_MTU ? mtu : (uint16_t)E6L_MAX_MTU;
    if (!mtu) {
        d->sending = d->reply_bytes = d->waiting = 0;
        d->read_offset = d->read_stop;
    }
}

int e6l_may_update(e6l_device *d)
{
    e6l_status s;
    e6l_read_power(d, &s);
    return !e6l_acquiring(d) && !e6l_reading(d) && s.battery_percent >= E6L_UPDATE_MIN_BATTERY_PERCENT;
}

int e6l_device_init(e6l_device *d, const e6l_hal *hal, const uint8_t descriptor[E6L_DESCRIPTOR_BYTES], uint8_t *ring, size_t ring_bytes, uint8_t *record, size_t record_bytes)
{
    int error = e6l_descriptor_check(descriptor, E6L_DESCRIPTOR_BYTES);
    if (error != E6L_OK)
        return error;
    memset(d, 0, sizeof *d);
    memcpy(d->descriptor, descriptor, E6L_DESCRIPTOR_BYTES);
    d->hal = hal;
    d->leads = descriptor[1];
    d->features = descriptor[7];
    d->preferred = descriptor[25];
    d->fs_mhz = e6l_get32(descriptor + 8);
    d->rail = ((int32_t)1 << (descriptor[24] - 1)) - 1;
    d->us_per_sample = E6L_US_TIMES_MHZ / d->fs_mhz;
    d->us_rest = E6L_US_TIMES_MHZ % d->fs_mhz;
    d->sample_bytes = (uint8_t)(3u * d->leads + 1u);
    d->ring = ring;
    d->ring_samples = (uint32_t)(ring_bytes / d->sample_bytes);
    d->record = record;
    d->record_samples = (uint32_t)(record_bytes / (d->sample_bytes - 1u));
    return d->ring_samples < d->preferred ? E6L_ERROR_SPACE : E6L_OK;
}
