/* A board that is only a program: the functions that stubs/zephyr declares, an ADS1292R that answers on SPI, one host on Bluetooth.
 * One thread: time passes where the port sleeps or waits, and then conversions, interrupts and completions come. */
#ifndef WORLD_H
#define WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <zephyr/bluetooth/bluetooth.h>
#include <zephyr/bluetooth/gatt.h>

#include "e6l.h"

#define UNSETTLED 3333333
#define MAX_PACKETS 4096

struct packet { uint8_t channel, data[E6L_MAX_PACKET_BYTES]; uint16_t length; };

/* What a test sets. */
extern struct world {
    /* chip */
    bool chip_dead;            /* answers zeros, converts nothing */
    uint8_t chip_id, loff;     /* LOFF_STAT[4:0] */
    uint32_t period_ns;        /* of a conversion */
    int32_t test_code;         /* half of the test signal */
    int tear;                  /* the n-th read from now has the next conversion come in its middle */
    int deaf;                  /* conversions that the thread does not get to */
    int fail_spi;              /* the n-th transfer from now fails */
    uint32_t fail_writes;      /* bit k: the k-th write of registers from now fails */
    /* host */
    bool radio_blocked, confirm_blocked;
    /* board */
    int32_t battery_raw_mv;
    bool battery_broken, has_key;
} world;

/* What a test looks at. */
extern struct seen {
    uint32_t conversions, violations, spi_mode_errors, most_in_flight, advertised, saved_rate, confirmed;
    uint8_t registers[12], advertising[31], advertising_bytes;
    struct packet packets[MAX_PACKETS];
    int count;
    bool disconnect_asked;
    uint16_t interval_min, interval_max, latency, timeout;
} seen;

void world_reset(void);
uint64_t world_us(void);
void world_advance(uint64_t us);

/* Runs the port's main() until `step`, called at each of its waits, has returned false. */
void world_run(bool (*step)(void));

/* The host. */
void host_connect(uint16_t mtu);
void host_encrypt(void);
void host_mtu(uint16_t mtu);
void host_subscribe(bool on);
void host_disconnect(void);
long host_write(const uint8_t *data, uint16_t length); /* to Control; the attribute server's answer */
long host_read(int attribute, uint8_t *out, uint16_t size);

/* Code of lead I that the chip measured in its n-th conversion since START. */
int32_t chip_code(uint32_t n);

int32_t update_asked(uint32_t event); /* 0 = let in */

#endif
