/* Stand-in for <zephyr/bluetooth/uuid.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_BLUETOOTH_UUID_H
#define STUB_ZEPHYR_BLUETOOTH_UUID_H

#include <stdint.h>

struct bt_uuid { uint8_t type; };
struct bt_uuid_128 { struct bt_uuid uuid; uint8_t val[16]; };
#define BT_UUID_INIT_128(...) {.uuid = {2}, .val = {__VA_ARGS__}}
#define STUB_BYTE(x, n) (uint8_t)((uint64_t)(x) >> (8 * (n)) & 0xFF)
#define BT_UUID_128_ENCODE(w32, w1, w2, w3, w48)                                                                                 \
    STUB_BYTE(w48, 0), STUB_BYTE(w48, 1), STUB_BYTE(w48, 2), STUB_BYTE(w48, 3), STUB_BYTE(w48, 4), STUB_BYTE(w48, 5),            \
        STUB_BYTE(w3, 0), STUB_BYTE(w3, 1), STUB_BYTE(w2, 0), STUB_BYTE(w2, 1), STUB_BYTE(w1, 0), STUB_BYTE(w1, 1),              \
        STUB_BYTE(w32, 0), STUB_BYTE(w32, 1), STUB_BYTE(w32, 2), STUB_BYTE(w32, 3)

#endif
