/* Samples into the ring and out of it as live frames (PROTOCOL.md section 4). */
#include <string.h>

#include "e6l_bytes.h"
#include "e6l_internal.h"

/* Bit of a contact byte in the ring: the sample holds the calibration pulse. Electrodes and saturation use bits 0-5. */
#define PULSED 0x80u

/* Builds the frame of n samples from t0 on in d->packet; the ring holds them. Returns its length. */
uint16_t e6l_build_frame(e6l_device *d, uint32_t t0, uint8_t n, uint8_t flags, uint16_t seq)
{
    uint8_t *out = d->packet, *p = out + E6L_FRAME_HEADER_BYTES, contact = 0;
    uint32_t back = d->next - t0, code_bytes = d->sample_bytes - 1u;
    uint32_t at = d->head >= back ? d->head - back : d->head + d->ring_samples - back;
    for (uint8_t k = 0; k < n; k++) {
        const uint8_t *sample = d->ring + (size_t)at * d->sample_bytes;
        memcpy(p, sample, code_bytes);
        p += code_bytes;
        contact |= sample[code_bytes];
        if (++at == d->ring_samples)
            at = 0;
    }
    if (contact & PULSED)
        flags |= E6L_FLAG_CALIBRATION;
    out[0] = E6L_VERSION << 4 | E6L_RAW24;
    out[1] = flags;
    e6l_put32(e6l_put16(out + 2, seq), t0);
    out[8] = n;
    out[9] = contact & (uint8_t)~PULSED;
    return (uint16_t)e6l_seal(out, (uint32_t)(p - out));
}

/* The oldest n samples that are in no frame yet become one; not sent, they stay in the ring. */
static void cut_frame(e6l_device *d, uint8_t n, uint8_t flags)
{
    uint8_t sent = 0;
    if (d->lost_before)
        flags |= E6L_FLAG_OVERRUN;
    if (d->sending)
        sent = e6l_send(d, E6L_CHANNEL_LIVE, d->packet, e6l_build_frame(d, d->next - d->pending, n, flags, d->seq));
    d->pending -= n;
    d->seq++;
    d->lost_before = sent ^ 1u;
    d->sent += sent;
    d->overrun += d->lost_before;
}

void e6l_cut_full_frames(e6l_device *d)
{
    while (d->running && d->pending >= d->frame_samples)
        cut_frame(d, d->frame_samples, 0);
}

/* What is left in no frame is the last of the stream. */
void e6l_cut_last_frame(e6l_device *d)
{
    if (d->running && d->pending) {
        while (d->pending > d->frame_samples)
            cut_frame(d, d->frame_samples, 0);
        cut_frame(d, (uint8_t)d->pending, E6L_FLAG_LAST);
    }
}

/* ---- samples ---- */

static void keep_in_recording(e6l_device *d, const uint8_t *codes)
{
    uint32_t bytes = d->sample_bytes - 1u;
    memcpy(d->record + (size_t)d->recording_kept * bytes, codes, bytes);
    d->recording_crc = e6l_crc32(d->recording_crc, codes, bytes);
    if (++d->recording_kept == d->recording_wanted)
        e6l_finish_recording(d);
}

static void keep_in_ring(e6l_device *d, const uint8_t *sample)
{
    memcpy(d->ring + (size_t)d->head * d->sample_bytes, sample, d->sample_bytes);
    if (++d->head == d->ring_samples)
        d->head = 0;
    if (d->held < d->ring_samples)
        d->held++;
    d->next++;
    d->pending++;
    /* Time of sample i is start + i * 10^9 / fs_mhz, rounded half up, without a 64-bit division. */
    d->clock_us += d->us_per_sample;
    d->clock_rest += d->us_rest;
    if (d->clock_rest >= d->fs_mhz) {
        d->clock_rest -= d->fs_mhz;
        d->clock_us++;
    }
}

static void take_sample(e6l_device *d, const int32_t *codes, uint8_t contact)
{
    uint8_t sample[3u * E6L_MAX_LEADS + 1u], *p = sample;
    for (uint8_t k = 0; k < d->leads; k++) {
        int32_t code = codes[k];
        if (k < 2u && (code < 0 ? -(uint32_t)code : (uint32_t)code) >= (uint32_t)d->rail)
            contact |= (uint8_t)(E6L_SATURATED_1 << k);
        p = e6l_put24(p, (uint32_t)code);
    }
    *p = contact;
    if (d->running) {
        d->contact = contact;
        if (d->calibration_left)
            *p |= PULSED;
        keep_in_ring(d, sample);
        if (d->calibration_left == 1u)
            e6l_end_calibration(d);
        else if (d->calibration_left)
            d->calibration_left--;
    }
    if (d->making)
        keep_in_recording(d, sample);
}

void e6l_device_samples(e6l_device *d, const int32_t *codes, uint16_t n, uint8_t contact)
{
    for (; n-- && e6l_acquiring(d); codes += d->leads) {
        e6l_cut_full_frames(d);
        take_sample(d, codes, contact & (uint8_t)~PULSED);
    }
}
