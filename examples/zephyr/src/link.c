#include "link.h"

#include <errno.h>
#include <string.h>
#include <zephyr/bluetooth/bluetooth.h>
#include <zephyr/bluetooth/gatt.h>
#include <zephyr/bluetooth/hci.h>
#include <zephyr/settings/settings.h>

/* PROTOCOL.md section 1: 15-30 ms in units of 1.25 ms, latency 0, 4 s in units of 10 ms. */
#define INTERVAL_MIN 12
#define INTERVAL_MAX 24
#define TIMEOUT_10MS 400
/* A host that connects and never pairs must not keep the device from others. */
#define ENCRYPT_WITHIN K_SECONDS(30)
#define MAX_NAME_BYTES 29 /* what a scan response holds beside length and type */

static K_MUTEX_DEFINE(lock);
static struct bt_conn *connection;
static uint32_t number;
static uint16_t mtu;

static struct k_sem *core_wake;
static void (*on_begin)(void);
static struct bt_data advertised[2], answered[1];
static const uint8_t flags = BT_LE_AD_GENERAL | BT_LE_AD_NO_BREDR;
static struct bt_gatt_exchange_params exchange;

static void advertise(struct k_work *work)
{
    ARG_UNUSED(work);
    bt_le_adv_start(BT_LE_ADV_CONN_FAST_2, advertised, ARRAY_SIZE(advertised), answered, ARRAY_SIZE(answered));
}
static K_WORK_DEFINE(advertising, advertise);

static void give_up(struct k_work *work)
{
    ARG_UNUSED(work);
    k_mutex_lock(&lock, K_FOREVER);
    struct bt_conn *conn = connection ? bt_conn_ref(connection) : NULL;
    k_mutex_unlock(&lock);
    if (!conn)
        return;
    if (bt_conn_get_security(conn) < BT_SECURITY_L2)
        bt_conn_disconnect(conn, BT_HCI_ERR_AUTH_FAIL);
    bt_conn_unref(conn);
}
static K_WORK_DELAYABLE_DEFINE(patience, give_up);

static void set_link(uint16_t value)
{
    k_mutex_lock(&lock, K_FOREVER);
    mtu = value;
    k_mutex_unlock(&lock);
    k_sem_give(core_wake);
}

/* ---- what the stack tells ---- */

static void connected(struct bt_conn *conn, uint8_t error)
{
    if (error) {
        k_work_submit(&advertising);
        return;
    }
    on_begin();
    k_mutex_lock(&lock, K_FOREVER);
    connection = bt_conn_ref(conn);
    number++;
    mtu = 0;
    k_mutex_unlock(&lock);
    k_sem_give(core_wake);
    k_work_reschedule(&patience, ENCRYPT_WITHIN);
    bt_conn_set_security(conn, BT_SECURITY_L2);
}

static void disconnected(struct bt_conn *conn, uint8_t reason)
{
    ARG_UNUSED(reason);
    k_mutex_lock(&lock, K_FOREVER);
    bool ours = conn == connection;
    if (ours)
        connection = NULL;
    mtu = 0;
    k_mutex_unlock(&lock);
    if (ours)
        bt_conn_unref(conn);
    k_work_cancel_delayable(&patience);
    k_sem_give(core_wake);
}

/* The connection object is free again; called like an interrupt, so the work queue starts advertising. */
static void recycled(void)
{
    k_work_submit(&advertising);
}

static void exchanged(struct bt_conn *conn, uint8_t error, struct bt_gatt_exchange_params *params)
{
    ARG_UNUSED(conn);
    ARG_UNUSED(error); /* a host that refuses keeps its MTU; att_mtu_updated tells of any other */
    ARG_UNUSED(params);
}

static void security_changed(struct bt_conn *conn, bt_security_t level, enum bt_security_err error)
{
    if (error || level < BT_SECURITY_L2)
        return; /* `patience`, or the host, ends the link */
    k_work_cancel_delayable(&patience);
    set_link(bt_gatt_get_mtu(conn));
    exchange.func = exchanged;
    bt_gatt_exchange_mtu(conn, &exchange); /* -EALREADY where it was done */
    bt_conn_le_data_len_update(conn, BT_LE_DATA_LEN_PARAM_MAX);
    bt_conn_le_param_update(conn, BT_LE_CONN_PARAM(INTERVAL_MIN, INTERVAL_MAX, 0, TIMEOUT_10MS));
}

BT_CONN_CB_DEFINE(connection_callbacks) = {
    .connected = connected, .disconnected = disconnected, .recycled = recycled, .security_changed = security_changed,
};

static void mtu_updated(struct bt_conn *conn, uint16_t tx, uint16_t rx)
{
    ARG_UNUSED(tx);
    ARG_UNUSED(rx);
    if (bt_conn_get_security(conn) >= BT_SECURITY_L2)
        set_link(bt_gatt_get_mtu(conn));
}
static struct bt_gatt_cb gatt_callbacks = {.att_mtu_updated = mtu_updated};

static void pairing_failed(struct bt_conn *conn, enum bt_security_err reason)
{
    ARG_UNUSED(reason);
    bt_conn_disconnect(conn, BT_HCI_ERR_AUTH_FAIL);
}
static struct bt_conn_auth_info_cb pairing_callbacks = {.pairing_failed = pairing_failed};

/* ---- for the others ---- */

void link_state(uint32_t *out_number, uint16_t *out_mtu)
{
    k_mutex_lock(&lock, K_FOREVER);
    *out_number = number;
    *out_mtu = mtu;
    k_mutex_unlock(&lock);
}

uint32_t link_number(void)
{
    uint32_t out;
    uint16_t ignored;
    link_state(&out, &ignored);
    return out;
}

struct bt_conn *link_encrypted(void)
{
    k_mutex_lock(&lock, K_FOREVER);
    struct bt_conn *out = mtu && connection ? bt_conn_ref(connection) : NULL;
    k_mutex_unlock(&lock);
    return out;
}

/* The service goes into the advertising data itself: some hosts filter before they ask for the scan response. */
int link_init(const char *name, const struct bt_uuid_128 *service, void (*begins)(void), struct k_sem *wake)
{
    size_t length = strlen(name);
    core_wake = wake;
    on_begin = begins;
    advertised[0] = (struct bt_data)BT_DATA(BT_DATA_FLAGS, &flags, 1);
    advertised[1] = (struct bt_data)BT_DATA(BT_DATA_UUID128_ALL, service->val, sizeof service->val);
    answered[0] = (struct bt_data)BT_DATA(BT_DATA_NAME_COMPLETE, name, length);
    if (length > MAX_NAME_BYTES)
        answered[0] = (struct bt_data)BT_DATA(BT_DATA_NAME_SHORTENED, name, MAX_NAME_BYTES);
    int error = bt_enable(NULL);
    if (error)
        return error;
    settings_load_subtree("bt"); /* identity and bonds */
    bt_set_name(name);
    bt_gatt_cb_register(&gatt_callbacks);
    bt_conn_auth_info_cb_register(&pairing_callbacks); /* no bt_conn_auth_cb: no display, no keys, so Just Works */
    k_work_submit(&advertising);
    return 0;
}
