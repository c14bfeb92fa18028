/* Stand-in for <zephyr/bluetooth/gatt.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_BLUETOOTH_GATT_H
#define STUB_ZEPHYR_BLUETOOTH_GATT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <zephyr/bluetooth/conn.h>
#include <zephyr/bluetooth/uuid.h>

#define BT_GATT_PERM_NONE 0
#define BT_GATT_PERM_READ_ENCRYPT 0x04
#define BT_GATT_PERM_WRITE_ENCRYPT 0x08
#define BT_GATT_CHRC_READ 0x02
#define BT_GATT_CHRC_WRITE 0x08
#define BT_GATT_CHRC_NOTIFY 0x10
#define BT_GATT_CHRC_INDICATE 0x20
#define BT_GATT_CCC_NOTIFY 0x0001
#define BT_GATT_CCC_INDICATE 0x0002
#define BT_GATT_WRITE_FLAG_PREPARE 0x01
#define BT_GATT_ERR(att_error) (-(att_error))

struct bt_gatt_attr;
typedef ssize_t (*bt_gatt_attr_read_func_t)(struct bt_conn *conn, const struct bt_gatt_attr *attr, void *buf, uint16_t len, uint16_t offset);
typedef ssize_t (*bt_gatt_attr_write_func_t)(struct bt_conn *conn, const struct bt_gatt_attr *attr, const void *buf, uint16_t len,
                                             uint16_t offset, uint8_t flags);
struct bt_gatt_attr {
    const struct bt_uuid *uuid;
    bt_gatt_attr_read_func_t read;
    bt_gatt_attr_write_func_t write;
    void *user_data;
    uint16_t handle, perm;
    uint8_t stub_properties; /* of a characteristic, so that a test can see them */
};
struct bt_gatt_service_static { const struct bt_gatt_attr *attrs; size_t attr_count; };
#define BT_GATT_PRIMARY_SERVICE(service) {.uuid = NULL, .user_data = (void *)(service)}
#define BT_GATT_CHARACTERISTIC(id, props, permissions, reader, writer, value)       \
    {.uuid = NULL, .stub_properties = (props)},                                     \
    {.uuid = (id), .perm = (permissions), .read = (reader), .write = (writer), .user_data = (value), .stub_properties = (props)}
#define BT_GATT_CCC(changed, permissions) {.uuid = NULL, .user_data = (void *)(changed), .perm = (permissions)}
#define BT_GATT_SERVICE_DEFINE(name, ...)                           \
    const struct bt_gatt_attr attr_##name[] = {__VA_ARGS__};        \
    const struct bt_gatt_service_static name = {attr_##name, sizeof attr_##name / sizeof *attr_##name}

typedef void (*bt_gatt_complete_func_t)(struct bt_conn *conn, void *user_data);
struct bt_gatt_notify_params {
    const struct bt_uuid *uuid;
    const struct bt_gatt_attr *attr;
    const void *data;
    uint16_t len;
    bt_gatt_complete_func_t func;
    void *user_data;
};
struct bt_gatt_indicate_params;
typedef void (*bt_gatt_indicate_func_t)(struct bt_conn *conn, struct bt_gatt_indicate_params *params, uint8_t err);
typedef void (*bt_gatt_indicate_params_destroy_t)(struct bt_gatt_indicate_params *params);
struct bt_gatt_indicate_params {
    const struct bt_uuid *uuid;
    const struct bt_gatt_attr *attr;
    bt_gatt_indicate_func_t func;
    bt_gatt_indicate_params_destroy_t destroy;
    const void *data;
    uint16_t len;
};
struct bt_gatt_exchange_params { void (*func)(struct bt_conn *conn, uint8_t err, struct bt_gatt_exchange_params *params); };
struct bt_gatt_cb { void (*att_mtu_updated)(struct bt_conn *conn, uint16_t tx, uint16_t rx); };

ssize_t bt_gatt_attr_read(struct bt_conn *conn, const struct bt_gatt_attr *attr, void *buf, uint16_t buf_len, uint16_t offset,
                          const void *value, uint16_t value_len);
bool bt_gatt_is_subscribed(struct bt_conn *conn, const struct bt_gatt_attr *attr, uint16_t ccc_type);
int bt_gatt_notify_cb(struct bt_conn *conn, struct bt_gatt_notify_params *params);
int bt_gatt_indicate(struct bt_conn *conn, struct bt_gatt_indicate_params *params);
int bt_gatt_exchange_mtu(struct bt_conn *conn, struct bt_gatt_exchange_params *params);
uint16_t bt_gatt_get_mtu(struct bt_conn *conn);
void bt_gatt_cb_register(struct bt_gatt_cb *cb);

#endif
