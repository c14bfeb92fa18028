/* The host's side of a scenario: what it asks, and what it heard. Included once, by test_port.c. */
#ifndef HEARD_H
#define HEARD_H

#include <string.h>

#include "test/check.h"
#include "ads1292r_codes.h"
#include "world.h"

#define CONTACT_LOST 0x0F

static uint64_t since;  /* when the present step of a scenario began, us */
static int stage;
static uint8_t txn;

static void request(uint8_t op, const uint8_t *parameters, uint16_t n)
{
    uint8_t data[32] = {op, ++txn};
    if (n)
        memcpy(data + 2, parameters, n);
    CHECK(host_write(data, (uint16_t)(n + 2)) == n + 2);
}

/* Reply to the newest request; NULL while there is none. */
static const struct packet *reply(void)
{
    for (int k = seen.count - 1; k >= 0; k--)
        if (seen.packets[k].channel == E6L_CHANNEL_CONTROL && seen.packets[k].data[1] == txn)
            return &seen.packets[k];
    return NULL;
}

static int status(void)
{
    const struct packet *p = reply();
    return p ? p->data[2] : -1;
}

static void start(void) { request(E6L_OP_START, (const uint8_t[]){0, 25, 0}, 3); }
static void stop(void) { request(E6L_OP_STOP, NULL, 0); }

static void host_ready(void)
{
    host_connect(247);
    host_encrypt();
    host_subscribe(true);
}

/* The next stage; true if the scenario has waited `us` in this one. */
static bool after(uint64_t us)
{
    if (world_us() - since < us)
        return false;
    since = world_us();
    stage++;
    return true;
}

/* ---- what came over the air ---- */

#define MOST 8192
static struct { bool there, flagged; uint8_t contact; int32_t codes[2]; } samples[MOST];
static unsigned long live_frames, again_frames, overruns, last_frames;

/* Every live frame into `samples`; each must decode, the first ones in order. Returns the index after the newest sample. */
static uint32_t collect(void)
{
    uint32_t next = 0;
    uint16_t seq = 0;
    live_frames = again_frames = overruns = last_frames = 0;
    memset(samples, 0, sizeof samples);
    for (int k = 0; k < seen.count; k++) {
        int32_t codes[2 * 255];
        e6l_frame frame;
        if (seen.packets[k].channel != E6L_CHANNEL_LIVE)
            continue;
        CHECK(e6l_frame_decode(seen.packets[k].data, seen.packets[k].length, 2, &frame, codes, COUNT(codes)) >= 0);
        CHECK(frame.t0 + frame.n <= MOST);
        bool again = frame.flags & E6L_FLAG_RETRANSMITTED;
        CHECK(again || !live_frames || frame.flags & E6L_FLAG_OVERRUN || (frame.seq == (uint16_t)(seq + 1u) && frame.t0 == next));
        for (uint32_t i = 0; i < frame.n && frame.t0 + i < MOST; i++) {
            samples[frame.t0 + i].there = true;
            samples[frame.t0 + i].flagged = frame.flags & E6L_FLAG_CALIBRATION;
            samples[frame.t0 + i].contact = frame.contact;
            memcpy(samples[frame.t0 + i].codes, codes + 2 * i, sizeof samples->codes);
        }
        again_frames += again;
        live_frames += !again;
        overruns += !again && frame.flags & E6L_FLAG_OVERRUN;
        last_frames += (frame.flags & E6L_FLAG_LAST) != 0;
        if (!again) {
            next = frame.t0 + frame.n;
            seq = frame.seq;
        }
    }
    return next;
}

static bool is_lost(uint32_t i)
{
    return samples[i].codes[0] == ADS_RAIL && samples[i].codes[1] == ADS_RAIL;
}

/* Whatever is not flagged is what the electrodes gave at that very index, or is at the rail in a frame with all electrodes off. */
static unsigned check_electrodes(uint32_t next)
{
    unsigned lost = 0;
    for (uint32_t i = 0; i < next; i++) {
        if (!samples[i].there || samples[i].flagged)
            continue;
        if (is_lost(i)) {
            CHECK((samples[i].contact & CONTACT_LOST) == CONTACT_LOST);
            lost++;
        } else {
            CHECK(samples[i].codes[0] == chip_code(i));
            CHECK(samples[i].codes[1] == -chip_code(i));
        }
    }
    return lost;
}

#endif
