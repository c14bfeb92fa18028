/* The port on a board that is only a program (world.h): `test_port NAME` runs one scenario from power-on, without a name they are
 * listed; `test_port NAME log` then prints what came over the air as a notification log (docs/how-to/links.md). */
#include "heard.h"

#include <zephyr/mgmt/mcumgr/mgmt/callbacks.h>

#define ATTRIBUTES_PERMITTED 0x0C

/* ---- scenarios: each is called at every wait of the port, until it returns false ---- */

static bool boot(void)
{
    static const uint8_t wanted[12] = {0x73, 0x02, 0xE0, 0x10, 0x00, 0x00, 0x27, 0x07, 0x00, 0x02, 0x03, 0x00};
    static const uint8_t uuid[21] = {2, 1, 6, 17, 7, 0x36, 0x73, 0x64, 0x61, 0x65, 0x6c, 0x21, 0x8e, 0x0b, 0x4f, 0x5d, 0x3c, 0x01, 0x00, 0x6e, 0x9a};
    extern const struct bt_gatt_service_static e6l_service;
    uint8_t value[64];
    e6l_descriptor d;
    if (!after(1))
        return true;
    CHECK(!memcmp(seen.registers, wanted, 12));
    CHECK(seen.advertising_bytes == 21 && !memcmp(seen.advertising, uuid, 21));
    CHECK(seen.confirmed == 1);
    CHECK(host_read(2, value, sizeof value) == 40);
    CHECK(e6l_descriptor_decode(value, 40, &d) == E6L_OK);
    double error_ppm = (d.fs_mhz * (double)world.period_ns / 1e12 - 1.0) * 1e6;
    CHECK(error_ppm > -40 && error_ppm < 40);
    CHECK(seen.saved_rate == d.fs_mhz);
    CHECK(d.calibration_nv == 2016667 && d.lsb_pv == 48081 && d.features == 0xFF && d.boot_id == 0x5A5A5A5A);
    CHECK(e6l_service.attr_count == 15);
    for (size_t k = 0; k < e6l_service.attr_count; k++)
        CHECK(!(e6l_service.attrs[k].perm & ~ATTRIBUTES_PERMITTED));
    CHECK(e6l_service.attrs[2].perm == 0x04 && e6l_service.attrs[4].perm == 0x08 && e6l_service.attrs[10].perm == 0x04);
    CHECK(!e6l_service.attrs[7].read && !e6l_service.attrs[13].read);
    for (int k = 5; k <= 14; k += 3)
        CHECK(e6l_service.attrs[k].perm == 0x0C);
    return false;
}

static bool no_front_end(void)
{
    if (stage == 0 && after(1)) {
        CHECK(!seen.confirmed); /* the boot loader takes the old image back */
        host_ready();
        start();
    } else if (stage == 1 && after(200000)) {
        CHECK(status() == E6L_FRONT_END_FAULT);
        world.chip_dead = false;
        start();
    } else if (stage == 2 && after(2500000)) {
        CHECK(status() == E6L_OK);
        CHECK(collect() > 400);
        return false;
    }
    return true;
}

static bool unencrypted(void)
{
    if (stage == 0 && after(1)) {
        host_connect(247);
        host_subscribe(true);
        start();
    } else if (stage == 1 && after(500000)) {
        CHECK(seen.count == 0);
        CHECK(seen.interval_min == 0);
        host_encrypt();
    } else if (stage == 2 && after(500000)) {
        CHECK(seen.interval_min == 12 && seen.interval_max == 24 && seen.latency == 0 && seen.timeout == 400);
        CHECK(!reply()); /* what was written before is not answered */
        start();
    } else if (stage == 3 && after(500000)) {
        CHECK(status() == E6L_OK);
        return false;
    }
    return true;
}

static bool stream(void)
{
    if (stage == 0 && after(1)) {
        host_ready();
        start();
    } else if (stage == 1 && after(10000000)) {
        stop();
    } else if (stage == 2 && after(500000)) {
        uint32_t next = collect();
        CHECK(next >= 5000 && next <= 5015);
        CHECK(check_electrodes(next) == 0);
        CHECK(overruns == 0 && last_frames <= 1);
        CHECK(reply()->data[3] + 256u * reply()->data[4] == next);
        for (uint32_t i = 0; i < next; i++)
            CHECK(samples[i].there && !samples[i].contact);
        return false;
    }
    return true;
}

static bool leads_off(void)
{
    if (stage == 0 && after(1)) {
        world.loff = 0x02; /* IN1N: RA */
        host_ready();
        start();
    } else if (stage == 1 && after(1000000)) {
        CHECK(collect() > 400);
        CHECK(samples[100].contact == E6L_RA_OFF);
        world.loff = 0x15; /* IN1P and IN2P: LA and LL; RLD_STAT means nothing here */
    } else if (stage == 2 && after(1000000)) {
        CHECK(samples[collect() - 1].contact == (E6L_LA_OFF | E6L_LL_OFF));
        return false;
    }
    return true;
}

/* Conversions that could not be read leave their place in time. */
static bool missed(void)
{
    if (stage == 0 && after(1)) {
        host_ready();
        start();
    } else if (stage == 1 && after(1000000)) {
        world.tear = 1;
    } else if (stage == 2 && after(1000000)) {
        world.deaf = 40;
    } else if (stage == 3 && after(1000000)) {
        world.fail_spi = 1;
    } else if (stage == 4 && after(1000000)) {
        uint32_t next = collect();
        unsigned lost = check_electrodes(next);
        CHECK(next > 1970);
        CHECK(lost >= 42 && lost <= 44); /* 1 torn, 40 not read, 1 failed; a late thread may miss the one that comes meanwhile */
        return false;
    }
    return true;
}

static bool hole_too_large(void)
{
    if (stage == 0 && after(1)) {
        host_ready();
        start();
    } else if (stage == 1 && after(1000000)) {
        world.deaf = 400;
    } else if (stage == 2 && after(2000000)) {
        check_electrodes(collect());
        CHECK(last_frames <= 1);
        stop();
    } else if (stage == 3 && after(500000)) {
        uint32_t next = collect();
        CHECK(next >= 480 && next <= 530); /* the stream ended there */
        start();
    } else if (stage == 4 && after(500000)) {
        CHECK(status() == E6L_OK); /* and a fresh one begins */
        return false;
    }
    return true;
}

static bool dies(void)
{
    if (stage == 0 && after(1)) {
        host_ready();
        start();
    } else if (stage == 1 && after(1000000)) {
        world.chip_dead = true;
    } else if (stage == 2 && after(1000000)) {
        uint32_t next = collect();
        CHECK(check_electrodes(next) == 0);
        CHECK(next >= 475 && next <= 520);
        start();
    } else if (stage == 3 && after(1500000)) {
        CHECK(status() == E6L_FRONT_END_FAULT);
        world.chip_dead = false;
        start();
    } else if (stage == 4 && after(1000000)) {
        CHECK(status() == E6L_OK);
        return false;
    }
    return true;
}

/* The pulse: flagged, of the size described, and gone with its flag, settling included. */
static void check_pulse(uint32_t next, uint32_t least, uint32_t most)
{
    uint32_t flagged = 0, high = 0, low = 0;
    for (uint32_t i = 0; i < next; i++) {
        flagged += samples[i].flagged;
        high += samples[i].flagged && samples[i].codes[0] == world.test_code && samples[i].codes[1] == world.test_code;
        low += samples[i].flagged && samples[i].codes[0] == -world.test_code && samples[i].codes[1] == -world.test_code;
    }
    CHECK(flagged >= least && flagged <= most);
    CHECK(high > least / 4 && low > least / 4);
    CHECK(high + low > least - 60);
}

static bool pulse(void)
{
    if (stage == 0 && after(1)) {
        host_ready();
        start();
    } else if (stage == 1 && after(1000000)) {
        request(E6L_OP_CALIBRATE, (const uint8_t[]){1, 2}, 2);
    } else if (stage == 2 && after(4000000)) {
        CHECK(status() == E6L_OK);
        uint32_t next = collect();
        CHECK(next > 2400);
        check_pulse(next, 1002, 1052); /* whole frames of 25 are flagged */
        CHECK(check_electrodes(next) == 0);
        return false;
    }
    return true;
}

static bool pulse_ended_early(void)
{
    if (stage == 0 && after(1)) {
        host_ready();
        start();
    } else if (stage == 1 && after(1000000)) {
        request(E6L_OP_CALIBRATE, (const uint8_t[]){1, 30}, 2);
    } else if (stage == 2 && after(3000000)) {
        request(E6L_OP_CALIBRATE, (const uint8_t[]){0, 0}, 2);
    } else if (stage == 3 && after(2000000)) {
        uint32_t next = collect();
        CHECK(next > 2400);
        check_pulse(next, 1450, 1600);
        unsigned lost = check_electrodes(next);
        CHECK(lost <= 10); /* while the converter settles */
        return false;
    }
    return true;
}

/* Commands that fail at either end of the pulse, before or between the two registers: nothing of it passes for an ECG. */
static bool pulse_stuck(void)
{
    if (stage == 0 && after(1)) {
        host_ready();
        start();
    } else if (stage == 1 && after(1000000)) {
        world.fail_writes = 0x2; /* the signal is on, the channels are not switched to it */
        request(E6L_OP_CALIBRATE, (const uint8_t[]){1, 1}, 2);
    } else if (stage == 2 && after(2000000)) {
        CHECK(world.fail_writes == 0);
        check_electrodes(collect());
        request(E6L_OP_CALIBRATE, (const uint8_t[]){1, 1}, 2);
    } else if (stage == 3 && after(900000)) {
        world.fail_writes = 0xB; /* twice at once, then between the two */
    } else if (stage == 4 && after(2000000)) {
        CHECK(world.fail_writes == 0);
        uint32_t next = collect();
        unsigned lost = check_electrodes(next);
        CHECK(next > 2900 && lost <= 10);
        CHECK(seen.registers[2] == 0xE0 && seen.registers[4] == 0 && seen.registers[5] == 0);
        return false;
    }
    return true;
}

static bool self_test(void)
{
    if (stage == 0 && after(1)) {
        host_ready();
        request(E6L_OP_SELF_TEST, NULL, 0);
    } else if (stage == 1 && after(200000)) {
        CHECK(status() == E6L_OK && reply()->data[3] == 0);
        CHECK(reply()->data[5] + 256 * reply()->data[6] == 4000);
        world.test_code = 20971 * 107 / 100;
        request(E6L_OP_SELF_TEST, NULL, 0);
    } else if (stage == 2 && after(200000)) {
        CHECK(status() == E6L_OK && reply()->data[3] == E6L_FAULT_CALIBRATION);
        world.chip_id = 0x53; /* an ADS1292 without R */
        request(E6L_OP_SELF_TEST, NULL, 0);
    } else if (stage == 3 && after(200000)) {
        CHECK(status() == E6L_OK && reply()->data[3] & E6L_FAULT_FRONT_END);
        world.chip_id = 0x73;
        start();
    } else if (stage == 4 && after(2500000)) {
        uint32_t next = collect();
        CHECK(next > 400 && check_electrodes(next) == 0);
        return false;
    }
    return true;
}

static bool radio_blocked(void)
{
    static uint32_t at;
    if (stage == 0 && after(1)) {
        host_ready();
        start();
    } else if (stage == 1 && after(1000000)) {
        world.radio_blocked = true;
    } else if (stage == 2 && after(3000000)) {
        CHECK(seen.most_in_flight == 8); /* two buffers fewer than the stack has */
        world.radio_blocked = false;
    } else if (stage == 3 && after(1000000)) {
        at = collect();
        CHECK(overruns == 1);
        uint32_t first = 0, n = 0;
        for (uint32_t i = 0; i < at; i++)
            if (!samples[i].there && n++ == 0)
                first = i;
        CHECK(n > 1000);
        request(E6L_OP_RETRANSMIT, (const uint8_t[]){(uint8_t)first, (uint8_t)(first >> 8), 0, 0, (uint8_t)n, (uint8_t)(n >> 8)}, 6);
    } else if (stage == 4 && after(2000000)) {
        CHECK(status() == E6L_OK);
        collect();
        CHECK(again_frames > 40);
        for (uint32_t i = 0; i < at; i++)
            CHECK(samples[i].there);
        CHECK(check_electrodes(at) == 0);
        return false;
    }
    return true;
}

static bool link_lost(void)
{
    static uint32_t before;
    uint8_t time[8] = {0};
    if (stage == 0 && after(1)) {
        host_ready();
        start();
    } else if (stage == 1 && after(1000000)) {
        world.confirm_blocked = world.radio_blocked = true;
        request(E6L_OP_TIME, time, 8);
    } else if (stage == 2 && after(300000)) {
        request(E6L_OP_TIME, time, 8); /* waits in the core: the indication before is not confirmed */
    } else if (stage == 3 && after(100000)) {
        uint8_t third[10] = {E6L_OP_TIME, ++txn};
        host_write(third, 10); /* waits in the port */
        CHECK(host_write(third, 10) == -0x0E);
        before = collect();
        host_disconnect();
        world.confirm_blocked = world.radio_blocked = false;
        CHECK(seen.advertised >= 2);
    } else if (stage == 4 && after(2000000)) {
        CHECK(!reply() && collect() == before);
        host_ready();
        request(E6L_OP_START, (const uint8_t[]){0, 25, 1}, 3);
    } else if (stage == 5 && after(2000000)) {
        CHECK(status() == E6L_OK); /* RESUME: acquisition went on */
        collect();
        CHECK(overruns >= 1);
        CHECK(check_electrodes(MOST) == 0);
        CHECK(seen.most_in_flight <= 16);
        return false;
    }
    return true;
}

static bool small_mtu(void)
{
    if (stage == 0 && after(1)) {
        host_connect(23);
        host_encrypt();
        host_subscribe(true);
        start();
    } else if (stage == 1 && after(300000)) {
        CHECK(status() == E6L_MTU_TOO_SMALL);
        host_mtu(100);
        start();
    } else if (stage == 2 && after(2000000)) {
        CHECK(status() == E6L_OK && reply()->data[3] == 14);
        CHECK(check_electrodes(collect()) == 0);
        return false;
    }
    return true;
}

static bool control_writes(void)
{
    uint8_t data[40] = {E6L_OP_TIME, 1};
    if (!after(1))
        return true;
    host_connect(247);
    host_encrypt();
    CHECK(host_write(data, 10) == -0xFD); /* not subscribed */
    host_subscribe(true);
    CHECK(host_write(data, 33) == -0x0D);
    CHECK(host_write(data, 10) == 10);
    CHECK(host_write(data, 10) == -0x0E);
    return false;
}

static bool authenticate(void)
{
    static const uint8_t key[32] = {0, 1, 2, 3};
    uint8_t nonce[16] = {9, 8, 7}, tag[16], descriptor[40];
    if (stage == 0 && after(1)) {
        host_ready();
        request(E6L_OP_AUTHENTICATE, nonce, 16);
    } else if (stage == 1 && after(300000)) {
        host_read(2, descriptor, 40);
        CHECK(status() == (world.has_key ? E6L_OK : E6L_NOT_AUTHENTICATED));
        CHECK((descriptor[7] & E6L_FEATURE_DEVICE_KEY) == (world.has_key ? E6L_FEATURE_DEVICE_KEY : 0));
        if (world.has_key) {
            e6l_auth_tag(key, descriptor, nonce, reply()->data + 3, tag);
            CHECK(!memcmp(tag, reply()->data + 19, 16));
        }
        return false;
    }
    return true;
}

static bool recording(void)
{
    if (stage == 0 && after(1)) {
        host_ready();
        request(E6L_OP_RECORD_ARM, (const uint8_t[]){30}, 1);
    } else if (stage == 1 && after(31000000)) {
        CHECK(status() == E6L_OK);
        request(E6L_OP_RECORD_LIST, (const uint8_t[]){0}, 1);
    } else if (stage == 2 && after(300000)) {
        uint32_t n = reply()->data[18] + 256u * reply()->data[19];
        CHECK(status() == E6L_OK && n >= 15020 && n <= 15040); /* 30 s of 501 Hz */
        request(E6L_OP_RECORD_READ, (const uint8_t[]){1, 0, 0, 0, 0, 0, 0xD8, 1, 0, 0}, 10);
    } else if (stage == 3 && after(300000)) {
        int bulk = 0;
        for (int k = 0; k < seen.count; k++) {
            const uint8_t *bytes;
            uint32_t offset;
            uint16_t n;
            if (seen.packets[k].channel != E6L_CHANNEL_BULK)
                continue;
            CHECK(e6l_bulk_decode(seen.packets[k].data, seen.packets[k].length, &offset, &bytes, &n) >= 0);
            for (uint32_t i = 0; i + 6 <= n && !(offset % 6); i += 6)
                CHECK(bytes[i] + 256 * bytes[i + 1] == chip_code((offset + i) / 6));
            bulk++;
        }
        CHECK(bulk == 2);
        return false;
    }
    return true;
}

static bool update(void)
{
    if (stage == 0 && after(100000)) {
        CHECK(update_asked(MGMT_EVT_OP_IMG_MGMT_DFU_CHUNK) == 0);
        CHECK(update_asked(MGMT_EVT_OP_OS_MGMT_RESET) == 0);
        host_ready();
        start();
    } else if (stage == 1 && after(300000)) {
        CHECK(update_asked(MGMT_EVT_OP_IMG_MGMT_DFU_CHUNK) == 10);
        CHECK(update_asked(MGMT_EVT_OP_OS_MGMT_RESET) == 10);
        stop();
    } else if (stage == 2 && after(300000)) {
        CHECK(update_asked(MGMT_EVT_OP_IMG_MGMT_DFU_CHUNK) == 0);
        return false;
    }
    return true;
}

static bool empty_battery(void)
{
    uint8_t value[20];
    e6l_status s;
    if (!after(100000))
        return true;
    CHECK(update_asked(MGMT_EVT_OP_IMG_MGMT_DFU_CHUNK) == 10);
    CHECK(host_read(10, value, 20) == 20 && e6l_status_decode(value, 20, &s) == E6L_OK);
    CHECK(s.battery_percent == (world.battery_broken ? 0 : 10) && s.battery_mv == (world.battery_broken ? 0 : 3600));
    return false;
}

static void without_key(void) { world.has_key = false; }
static void chip_absent(void) { world.chip_dead = true; }
static void battery_low(void) { world.battery_raw_mv = 720; }
static void battery_unread(void) { world.battery_broken = true; }

static const struct { const char *name; bool (*step)(void); void (*before)(void); } scenarios[] = {
    {"boot", boot, NULL}, {"no_front_end", no_front_end, chip_absent}, {"unencrypted", unencrypted, NULL}, {"stream", stream, NULL},
    {"leads_off", leads_off, NULL}, {"missed", missed, NULL}, {"hole_too_large", hole_too_large, NULL}, {"dies", dies, NULL},
    {"pulse", pulse, NULL}, {"pulse_ended_early", pulse_ended_early, NULL}, {"pulse_stuck", pulse_stuck, NULL},
    {"self_test", self_test, NULL}, {"radio_blocked", radio_blocked, NULL}, {"link_lost", link_lost, NULL}, {"small_mtu", small_mtu, NULL},
    {"control_writes", control_writes, NULL}, {"authenticate", authenticate, NULL}, {"no_key", authenticate, without_key},
    {"recording", recording, NULL}, {"update", update, NULL}, {"battery_low", empty_battery, battery_low},
    {"battery_unread", empty_battery, battery_unread},
};

static void print_entry(const char *channel, const uint8_t *data, uint16_t n)
{
    printf("{\"t_us\":0,\"channel\":\"%s\",\"hex\":\"", channel);
    for (uint16_t i = 0; i < n; i++)
        printf("%02x", data[i]);
    printf("\"}\n");
}

static void print_log(void)
{
    static const char *const channels[] = {"live", "control", "status", "bulk"};
    uint8_t descriptor[E6L_DESCRIPTOR_BYTES];
    host_read(2, descriptor, sizeof descriptor);
    printf("{\"format\":\"e6l-log/1\",\"driver\":\"e6l\"}\n");
    print_entry("descriptor", descriptor, sizeof descriptor);
    for (int k = 0; k < seen.count; k++)
        print_entry(channels[seen.packets[k].channel], seen.packets[k].data, seen.packets[k].length);
}

int main(int argc, char **argv)
{
    for (size_t k = 0; k < COUNT(scenarios); k++) {
        if (argc < 2)
            printf("%s\n", scenarios[k].name);
        if (argc < 2 || strcmp(argv[1], scenarios[k].name))
            continue;
        world_reset();
        world.has_key = true;
        if (scenarios[k].before)
            scenarios[k].before();
        world_run(scenarios[k].step);
        CHECK(seen.violations == 0);
        CHECK(seen.spi_mode_errors == 0);
        CHECK(seen.count < MAX_PACKETS);
        if (argc > 2)
            print_log();
        else
            printf("%lu checks, %lu failed\n", checks_done, checks_failed);
    }
    return checks_failed != 0;
}
