/* Stand-in for <zephyr/bluetooth/bluetooth.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_BLUETOOTH_BLUETOOTH_H
#define STUB_ZEPHYR_BLUETOOTH_BLUETOOTH_H

#include <stddef.h>
#include <stdint.h>

#define BT_LE_AD_GENERAL 0x02
#define BT_LE_AD_NO_BREDR 0x04
#define BT_DATA_FLAGS 0x01
#define BT_DATA_UUID128_ALL 0x07
#define BT_DATA_NAME_SHORTENED 0x08
#define BT_DATA_NAME_COMPLETE 0x09
struct bt_data { uint8_t type, data_len; const uint8_t *data; };
#define BT_DATA(kind, bytes, n) {.type = (kind), .data_len = (n), .data = (const uint8_t *)(bytes)}
struct bt_le_adv_param { uint32_t options, interval_min, interval_max; };
#define BT_LE_ADV_CONN_FAST_2 ((const struct bt_le_adv_param[]){{1, 160, 240}})
typedef void (*bt_ready_cb_t)(int err);
int bt_enable(bt_ready_cb_t cb);
int bt_set_name(const char *name);
int bt_le_adv_start(const struct bt_le_adv_param *param, const struct bt_data *ad, size_t ad_len, const struct bt_data *sd, size_t sd_len);

#endif
