/* Stand-in for <zephyr/bluetooth/conn.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_BLUETOOTH_CONN_H
#define STUB_ZEPHYR_BLUETOOTH_CONN_H

#include <stdbool.h>
#include <stdint.h>

struct bt_conn;
typedef enum { BT_SECURITY_L0, BT_SECURITY_L1, BT_SECURITY_L2, BT_SECURITY_L3, BT_SECURITY_L4 } bt_security_t;
enum bt_security_err { BT_SECURITY_ERR_SUCCESS, BT_SECURITY_ERR_AUTH_FAIL };
struct bt_le_conn_param { uint16_t interval_min, interval_max, latency, timeout; };
#define BT_LE_CONN_PARAM(low, high, lat, to) ((const struct bt_le_conn_param[]){{(low), (high), (lat), (to)}})
struct bt_conn_le_data_len_param { uint16_t tx_max_len, tx_max_time; };
#define BT_LE_DATA_LEN_PARAM_MAX ((const struct bt_conn_le_data_len_param[]){{251, 17040}})

struct bt_conn_cb {
    void (*connected)(struct bt_conn *conn, uint8_t err);
    void (*disconnected)(struct bt_conn *conn, uint8_t reason);
    void (*recycled)(void);
    void (*security_changed)(struct bt_conn *conn, bt_security_t level, enum bt_security_err err);
};
#define BT_CONN_CB_DEFINE(name) const struct bt_conn_cb bt_conn_cb_##name
struct bt_conn_auth_info_cb {
    void (*pairing_complete)(struct bt_conn *conn, bool bonded);
    void (*pairing_failed)(struct bt_conn *conn, enum bt_security_err reason);
};
struct bt_conn *bt_conn_ref(struct bt_conn *conn);
void bt_conn_unref(struct bt_conn *conn);
bt_security_t bt_conn_get_security(const struct bt_conn *conn);
int bt_conn_set_security(struct bt_conn *conn, bt_security_t sec);
int bt_conn_disconnect(struct bt_conn *conn, uint8_t reason);
int bt_conn_le_param_update(struct bt_conn *conn, const struct bt_le_conn_param *param);
int bt_conn_le_data_len_update(struct bt_conn *conn, const struct bt_conn_le_data_len_param *param);
int bt_conn_auth_info_cb_register(struct bt_conn_auth_info_cb *cb);

#endif
