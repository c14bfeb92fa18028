/* The E6L service (PROTOCOL.md section 1), the link, and advertising. Bluetooth calls in on its own threads; everything for the
 * core is left here until the core's thread fetches it. */
#ifndef E6L_PORT_GATT_H
#define E6L_PORT_GATT_H

#include <stdbool.h>
#include <stdint.h>
#include <zephyr/kernel.h>

#include "e6l.h"

#define GATT_MAX_REQUEST 32 /* the longest operation has 18 bytes */

struct gatt_link {
    uint32_t connection; /* counts up; another number: the link before it is gone */
    uint16_t mtu;        /* 0: no host, or its link is not encrypted yet */
};

struct gatt_request {
    uint32_t connection;
    uint8_t length;
    uint8_t data[GATT_MAX_REQUEST];
};

/* Bluetooth on, services there, advertising. `wake` is given when the core has something to do. */
int gatt_init(const uint8_t descriptor[E6L_DESCRIPTOR_BYTES], const char *name, struct k_sem *wake);

void gatt_link(struct gatt_link *out);

/* The request that waits, if one does; it goes on waiting until gatt_request_done(). */
bool gatt_request(struct gatt_request *out);
void gatt_request_done(void);

/* Value for whoever reads Status. */
void gatt_set_status(const uint8_t status[E6L_STATUS_BYTES]);

/* e6l_hal.send: 0 = taken, 1 = full. */
int gatt_send(uint8_t channel, const uint8_t *data, uint16_t length);

#endif
