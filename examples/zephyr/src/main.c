/* E6L on an nRF52840 with an ADS1292R. The core and its six functions run on this thread alone: Bluetooth, the converter and the
 * updater leave what they have and give `wake`. */
#include <zephyr/kernel.h>
#include <zephyr/sys/reboot.h>

#include "acquisition.h"
#include "ads1292r_codes.h"
#include "board.h"
#include "gatt.h"
#include "update.h"

#define LEADS 2
/* Of the fastest oscillator that is accepted: 30 s must be 30 s then as well. */
#define MOST_PER_S 515u
#define TICK K_MSEC(50)

static uint8_t ring[E6L_RING_BYTES(CONFIG_E6L_RING_SECONDS * MOST_PER_S, LEADS)];
static uint8_t recording[E6L_RECORD_BYTES(CONFIG_E6L_RECORD_SECONDS * MOST_PER_S, LEADS)];
static e6l_device device;
static uint32_t rate_mhz = ADS_NOMINAL_MHZ;

static K_SEM_DEFINE(wake, 0, 1);

/* ---- the six functions ---- */

static int send(void *ctx, uint8_t channel, const uint8_t *data, uint16_t length)
{
    ARG_UNUSED(ctx);
    return gatt_send(channel, data, length);
}

static uint64_t now_us(void *ctx)
{
    ARG_UNUSED(ctx);
    return k_ticks_to_us_floor64((uint64_t)k_uptime_ticks());
}

static int front_end(void *ctx, uint8_t command, uint8_t value)
{
    ARG_UNUSED(ctx);
    switch (command) {
    case E6L_FRONT_END_START:
        return acquisition_start();
    case E6L_FRONT_END_STOP:
        acquisition_stop();
        return 0;
    case E6L_FRONT_END_CALIBRATION:
        return acquisition_pulse(value * rate_mhz / 1000u);
    case E6L_FRONT_END_SELF_TEST:
        return acquisition_self_test();
    default:
        return -1;
    }
}

static void random_bytes(void *ctx, uint8_t *out, uint8_t n)
{
    ARG_UNUSED(ctx);
    board_random(out, n);
}

static int device_key(void *ctx, uint8_t out[E6L_KEY_BYTES])
{
    ARG_UNUSED(ctx);
    return board_key(out);
}

static void power(void *ctx, uint16_t *mv, uint8_t *percent, int16_t *centi_c)
{
    ARG_UNUSED(ctx);
    board_power(mv, percent, centi_c);
}

static const e6l_hal hal = {
    .send = send, .now_us = now_us, .front_end = front_end, .random_bytes = random_bytes, .device_key = device_key, .power = power,
};

/* ---- one turn ---- */

static void follow_link(struct gatt_link *known)
{
    struct gatt_link link;
    gatt_link(&link);
    if (link.connection != known->connection && known->mtu)
        e6l_device_link(&device, 0); /* another host: what was meant for the one before is dropped */
    if (link.connection != known->connection || link.mtu != known->mtu)
        e6l_device_link(&device, link.mtu);
    *known = link;
}

static void take_request(const struct gatt_link *link)
{
    struct gatt_request request;
    if (!gatt_request(&request))
        return;
    if (request.connection == link->connection && link->mtu && e6l_device_control(&device, request.data, request.length) == E6L_ERROR_BUSY)
        return; /* the reply to the one before waits for its confirmation: offered again */
    gatt_request_done();
}

static void take_samples(void)
{
    int32_t codes[LEADS];
    uint8_t contact;
    enum acquisition_take got;
    while ((got = acquisition_next(codes, &contact)) == ACQUISITION_SAMPLE)
        e6l_device_samples(&device, codes, 1, contact);
    if (got == ACQUISITION_DEAD)
        e6l_device_end(&device);
}

/* What other threads may ask at any time. */
static void publish(void)
{
    uint8_t status[E6L_STATUS_BYTES];
    e6l_device_status(&device, status);
    gatt_set_status(status);
    update_allow(e6l_may_update(&device));
}

static void turn(struct gatt_link *link)
{
    follow_link(link);
    take_samples();
    take_request(link);
    e6l_device_tick(&device);
    publish();
}

/* ---- beginning ---- */

/* The converter's oscillator is off by up to some percent; what is described is what was measured. */
static bool find_rate(void)
{
    uint32_t kept = board_kept_rate(), measured = acquisition_measure_rate();
    bool found = ads1292r_rate_plausible(measured);
    if (ads1292r_rate_plausible(kept))
        rate_mhz = kept;
    if (found)
        rate_mhz = ads1292r_rate_to_describe(kept, measured);
    if (found && rate_mhz != kept)
        board_keep_rate(rate_mhz);
    return found;
}

static void describe(uint8_t out[E6L_DESCRIPTOR_BYTES])
{
    e6l_descriptor descriptor;
    uint32_t boot_id;
    board_random((uint8_t *)&boot_id, sizeof boot_id);
    ads1292r_describe(&descriptor, rate_mhz, boot_id, CONFIG_E6L_RING_SECONDS, board_has_key());
    if (e6l_descriptor_encode(&descriptor, out) < 0)
        sys_reboot(SYS_REBOOT_COLD);
}

int main(void)
{
    uint8_t descriptor[E6L_DESCRIPTOR_BYTES];
    struct gatt_link link = {0};
    bool sound = board_init() == 0;
    acquisition_init(&wake); /* a chip that does not answer is found again by the rate, and by START */
    sound = find_rate() && sound;
    describe(descriptor);
    if (e6l_device_init(&device, &hal, descriptor, ring, sizeof ring, recording, sizeof recording) != E6L_OK)
        return -1;
    publish();
    update_init();
    if (gatt_init(descriptor, board_name(), &wake))
        return -1;
    if (sound)
        update_confirm(); /* else the boot loader takes the old image back at the next restart */
    for (;;) {
        k_sem_take(&wake, TICK);
        turn(&link);
    }
}
