#include "gatt.h"

#include <errno.h>
#include <string.h>
#include <zephyr/bluetooth/att.h>
#include <zephyr/bluetooth/conn.h>
#include <zephyr/bluetooth/gatt.h>
#include <zephyr/bluetooth/uuid.h>
#include <zephyr/sys/atomic.h>

#include "link.h"

#define E6L_UUID(n) BT_UUID_INIT_128(BT_UUID_128_ENCODE(0x9a6e0000u + (n), 0x3c5d, 0x4f0b, 0x8e21, 0x6c6561647336))
#define READ_WRITE_ENCRYPTED (BT_GATT_PERM_READ_ENCRYPT | BT_GATT_PERM_WRITE_ENCRYPT)

/* bt_gatt_notify_cb() waits for ever when the stack has no buffer left, and with it the core, the ring and the samples. So no more
 * notifications are under way than there are buffers, less two: for a response of the attribute server, and for an indication. */
#define CREDITS (CONFIG_BT_ATT_TX_COUNT - 2)

static const struct bt_uuid_128 service_uuid = E6L_UUID(1), descriptor_uuid = E6L_UUID(2), control_uuid = E6L_UUID(3),
                                live_uuid = E6L_UUID(4), status_uuid = E6L_UUID(5), bulk_uuid = E6L_UUID(6);

static uint8_t descriptor_value[E6L_DESCRIPTOR_BYTES], status_value[E6L_STATUS_BYTES];
static struct k_spinlock status_lock;
static struct k_sem *core_wake;
static atomic_t credits = ATOMIC_INIT(CREDITS);
static atomic_t indicating;

/* One request at a time: a host waits for the reply, and one that does not is told so with ATT error 0x0E. */
K_MSGQ_DEFINE(control_requests, sizeof(struct gatt_request), 1, 4);

static ssize_t read_descriptor(struct bt_conn *conn, const struct bt_gatt_attr *attr, void *buf, uint16_t len, uint16_t offset)
{
    return bt_gatt_attr_read(conn, attr, buf, len, offset, descriptor_value, sizeof descriptor_value);
}

static ssize_t read_status(struct bt_conn *conn, const struct bt_gatt_attr *attr, void *buf, uint16_t len, uint16_t offset)
{
    uint8_t value[E6L_STATUS_BYTES];
    k_spinlock_key_t key = k_spin_lock(&status_lock);
    memcpy(value, status_value, sizeof value);
    k_spin_unlock(&status_lock, key);
    return bt_gatt_attr_read(conn, attr, buf, len, offset, value, sizeof value);
}

static ssize_t write_control(struct bt_conn *conn, const struct bt_gatt_attr *attr, const void *buf, uint16_t len, uint16_t offset, uint8_t flags)
{
    struct gatt_request request = {.connection = link_number(), .length = (uint8_t)len};
    if (flags & BT_GATT_WRITE_FLAG_PREPARE || offset)
        return BT_GATT_ERR(BT_ATT_ERR_INVALID_OFFSET);
    if (len > sizeof request.data)
        return BT_GATT_ERR(BT_ATT_ERR_INVALID_ATTRIBUTE_LEN);
    if (!bt_gatt_is_subscribed(conn, attr, BT_GATT_CCC_INDICATE))
        return BT_GATT_ERR(BT_ATT_ERR_CCC_IMPROPER_CONF); /* nobody would hear the reply */
    memcpy(request.data, buf, len);
    if (k_msgq_put(&control_requests, &request, K_NO_WAIT))
        return BT_GATT_ERR(BT_ATT_ERR_UNLIKELY);
    k_sem_give(core_wake);
    return len;
}

/* Live and Bulk have no value to read; Control is written with a response only. */
BT_GATT_SERVICE_DEFINE(e6l_service,
    BT_GATT_PRIMARY_SERVICE(&service_uuid),
    BT_GATT_CHARACTERISTIC(&descriptor_uuid.uuid, BT_GATT_CHRC_READ, BT_GATT_PERM_READ_ENCRYPT, read_descriptor, NULL, NULL),
    BT_GATT_CHARACTERISTIC(&control_uuid.uuid, BT_GATT_CHRC_WRITE | BT_GATT_CHRC_INDICATE, BT_GATT_PERM_WRITE_ENCRYPT, NULL, write_control, NULL),
    BT_GATT_CCC(NULL, READ_WRITE_ENCRYPTED),
    BT_GATT_CHARACTERISTIC(&live_uuid.uuid, BT_GATT_CHRC_NOTIFY, BT_GATT_PERM_NONE, NULL, NULL, NULL),
    BT_GATT_CCC(NULL, READ_WRITE_ENCRYPTED),
    BT_GATT_CHARACTERISTIC(&status_uuid.uuid, BT_GATT_CHRC_READ | BT_GATT_CHRC_NOTIFY, BT_GATT_PERM_READ_ENCRYPT, read_status, NULL, NULL),
    BT_GATT_CCC(NULL, READ_WRITE_ENCRYPTED),
    BT_GATT_CHARACTERISTIC(&bulk_uuid.uuid, BT_GATT_CHRC_NOTIFY, BT_GATT_PERM_NONE, NULL, NULL, NULL),
    BT_GATT_CCC(NULL, READ_WRITE_ENCRYPTED));

/* Value attributes in the table above: service, then declaration and value (and configuration) of each characteristic. */
enum { CONTROL_VALUE = 4, LIVE_VALUE = 7, STATUS_VALUE = 10, BULK_VALUE = 13 };

/* ---- sending ---- */

static void give_credit(void)
{
    if (atomic_inc(&credits) >= CREDITS)
        atomic_dec(&credits); /* of a connection that is gone: its credits were made up for already */
}

static void notified(struct bt_conn *conn, void *user_data)
{
    ARG_UNUSED(conn);
    if ((uint32_t)(uintptr_t)user_data == link_number())
        give_credit();
    k_sem_give(core_wake);
}

static int notify(struct bt_conn *conn, const struct bt_gatt_attr *attr, const uint8_t *data, uint16_t length)
{
    struct bt_gatt_notify_params params = {
        .attr = attr, .data = data, .len = length, .func = notified, .user_data = (void *)(uintptr_t)link_number(),
    };
    if (atomic_dec(&credits) <= 0) {
        give_credit();
        return 1;
    }
    if (bt_gatt_notify_cb(conn, &params)) {
        give_credit();
        return 1;
    }
    return 0;
}

static void indicated(struct bt_gatt_indicate_params *params)
{
    ARG_UNUSED(params);
    atomic_set(&indicating, 0);
    k_sem_give(core_wake);
}

/* The stack keeps the parameters until `destroy`; a lost link calls that too. */
static int indicate(struct bt_conn *conn, const struct bt_gatt_attr *attr, const uint8_t *data, uint16_t length)
{
    static struct bt_gatt_indicate_params params;
    static uint8_t reply[E6L_MAX_REPLY_BYTES];
    if (!atomic_cas(&indicating, 0, 1))
        return 1;
    memcpy(reply, data, length);
    params = (struct bt_gatt_indicate_params){.attr = attr, .data = reply, .len = length, .destroy = indicated};
    if (bt_gatt_indicate(conn, &params)) {
        atomic_set(&indicating, 0);
        return 1;
    }
    return 0;
}

static int send_on(struct bt_conn *conn, uint8_t channel, const uint8_t *data, uint16_t length)
{
    static const uint8_t values[] = {LIVE_VALUE, CONTROL_VALUE, STATUS_VALUE, BULK_VALUE};
    const struct bt_gatt_attr *attr = &e6l_service.attrs[values[channel]];
    bool control = channel == E6L_CHANNEL_CONTROL;
    if (!bt_gatt_is_subscribed(conn, attr, control ? BT_GATT_CCC_INDICATE : BT_GATT_CCC_NOTIFY))
        return channel == E6L_CHANNEL_LIVE; /* samples stay in the ring and count as not sent; the rest has no listener */
    return control ? indicate(conn, attr, data, length) : notify(conn, attr, data, length);
}

int gatt_send(uint8_t channel, const uint8_t *data, uint16_t length)
{
    struct bt_conn *conn = link_encrypted();
    if (!conn)
        return 1;
    int full = send_on(conn, channel, data, length);
    bt_conn_unref(conn);
    return full;
}

/* ---- for the core's thread ---- */

bool gatt_request(struct gatt_request *out)
{
    return k_msgq_peek(&control_requests, out) == 0;
}

void gatt_request_done(void)
{
    struct gatt_request done;
    k_msgq_get(&control_requests, &done, K_NO_WAIT);
}

void gatt_set_status(const uint8_t status[E6L_STATUS_BYTES])
{
    k_spinlock_key_t key = k_spin_lock(&status_lock);
    memcpy(status_value, status, sizeof status_value);
    k_spin_unlock(&status_lock, key);
}

void gatt_link(struct gatt_link *out)
{
    link_state(&out->connection, &out->mtu);
}

static void link_begins(void)
{
    atomic_set(&credits, CREDITS);
}

int gatt_init(const uint8_t descriptor[E6L_DESCRIPTOR_BYTES], const char *name, struct k_sem *wake)
{
    core_wake = wake;
    memcpy(descriptor_value, descriptor, sizeof descriptor_value);
    return link_init(name, &service_uuid, link_begins, wake);
}
