#include "world.h"

#include <errno.h>
#include <setjmp.h>
#include <zephyr/dfu/mcuboot.h>
#include <zephyr/drivers/adc.h>
#include <zephyr/drivers/gpio.h>
#include <zephyr/drivers/sensor.h>
#include <zephyr/drivers/spi.h>
#include <zephyr/kernel.h>
#include <zephyr/mgmt/mcumgr/mgmt/callbacks.h>
#include <zephyr/random/random.h>
#include <zephyr/settings/settings.h>
#include <zephyr/sys/reboot.h>

#include "acquisition.h"

int port_main(void);

struct world world;
struct seen seen;
const struct device stub_device_ads1292r, stub_device_temp, stub_device_zephyr_user;

static uint64_t now_ns, next_ns, last_turn_ns;
static jmp_buf finished;
static bool (*step)(void);
static bool threaded;

uint64_t world_us(void)
{
    return now_ns / 1000u;
}

/* ---- chip ---- */

static uint8_t registers[12];
static bool rdatac, start_pin, irq;
static struct gpio_callback *drdy;
static uint32_t since_start, changed_at;
static uint8_t latched[9];

static const uint8_t defaults[12] = {0x73, 0x02, 0x80, 0x10, 0, 0, 0, 0, 0, 0x02, 0x02, 0x0C};

static void chip_reset(void)
{
    memcpy(registers, defaults, sizeof registers);
    registers[0] = world.chip_id;
    rdatac = true;
    changed_at = 0;
}

int32_t chip_code(uint32_t n)
{
    return 1000 + (int32_t)(n % 1000u);
}

static int32_t measured(uint32_t n, int channel)
{
    if (changed_at && since_start - changed_at < 4u)
        return UNSETTLED;
    if ((registers[4 + channel] & 0x0F) == 0x05)
        return registers[2] & 2 && (now_ns / 1000u + 137000u) / 500000u & 1 ? world.test_code : -world.test_code;
    return channel ? -chip_code(n) : chip_code(n);
}

static void put24(uint8_t *out, uint32_t value)
{
    out[0] = (uint8_t)(value >> 16);
    out[1] = (uint8_t)(value >> 8);
    out[2] = (uint8_t)value;
}

static void convert(void)
{
    put24(latched, 0xC00000u | (uint32_t)world.loff << 15);
    for (int channel = 0; channel < 2; channel++)
        put24(latched + 3 + 3 * channel, (uint32_t)measured(since_start, channel));
    since_start++;
    seen.conversions++;
    next_ns += world.period_ns;
    if (irq)
        drdy->handler(NULL, drdy, BIT(0));
}

static void registers_written(void)
{
    memcpy(seen.registers, registers, sizeof registers);
    changed_at = since_start + 1u;
}

static void chip_command(const uint8_t *tx, uint8_t *rx, size_t n)
{
    uint8_t first = tx[0] & 0x1F;
    if (rdatac && tx[0] != 0x11) {
        seen.violations++;
    } else if (tx[0] == 0x10 || tx[0] == 0x11) {
        rdatac = tx[0] == 0x10;
    } else if ((tx[0] & 0xE0) == 0x20 && rx && n == tx[1] + 3u) {
        memcpy(rx + 2, registers + first, tx[1] + 1u);
    } else if ((tx[0] & 0xE0) == 0x40 && n == tx[1] + 3u && first && first + tx[1] < 12) {
        memcpy(registers + first, tx + 2, tx[1] + 1u);
        registers_written();
    } else {
        seen.violations++;
    }
}

int spi_transceive_dt(const struct spi_dt_spec *spec, const struct spi_buf_set *tx, const struct spi_buf_set *rx)
{
    uint8_t *in = rx ? rx->buffers->buf : NULL;
    const uint8_t *out = tx->buffers->buf;
    if (spec->config.operation != (SPI_MODE_CPHA | SPI_WORD_SET(8)) || spec->config.cs.delay < 8)
        seen.spi_mode_errors++;
    if (world.fail_spi && world.fail_spi-- == 1)
        return -EIO;
    now_ns += tx->buffers->len * 16000u + 20000u;
    if (in)
        memset(in, 0, rx->buffers->len);
    if (world.chip_dead)
        return 0;
    bool fails = (out[0] & 0xE0) == 0x40 && world.fail_writes & 1;
    if ((out[0] & 0xE0) == 0x40)
        world.fail_writes >>= 1;
    if (fails)
        return -EIO;
    if (!rdatac || out[0]) {
        chip_command(out, in, tx->buffers->len);
        return 0;
    }
    memcpy(in, latched, 9);
    if (world.tear && --world.tear == 0) {
        now_ns = next_ns;
        convert();
        memcpy(in + 5, latched + 5, 4);
    }
    return 0;
}

bool spi_is_ready_dt(const struct spi_dt_spec *spec) { return spec->bus != NULL; }
bool gpio_is_ready_dt(const struct gpio_dt_spec *spec) { return spec->port != NULL; }
int gpio_pin_configure_dt(const struct gpio_dt_spec *spec, gpio_flags_t flags) { return spec->pin > 2 || !flags; }
int gpio_add_callback(const struct device *port, struct gpio_callback *callback) { drdy = callback; return port == NULL; }

void gpio_init_callback(struct gpio_callback *callback, gpio_callback_handler_t handler, gpio_port_pins_t mask)
{
    callback->handler = handler;
    callback->pin_mask = mask;
}

int gpio_pin_interrupt_configure_dt(const struct gpio_dt_spec *spec, gpio_flags_t flags)
{
    irq = spec->pin == STUB_PIN_drdy_gpios && flags == GPIO_INT_EDGE_TO_ACTIVE;
    return 0;
}

int gpio_pin_set_dt(const struct gpio_dt_spec *spec, int value)
{
    if (spec->pin == STUB_PIN_reset_gpios && !value)
        chip_reset();
    if (spec->pin == STUB_PIN_start_gpios && value && !start_pin) {
        next_ns = now_ns + 4u * (uint64_t)world.period_ns;
        since_start = changed_at = 0;
    }
    if (spec->pin == STUB_PIN_start_gpios)
        start_pin = value;
    return 0;
}

/* ---- time ---- */

static void radio(void);

static void turn(void)
{
    last_turn_ns = now_ns;
    acquisition_turn(K_NO_WAIT);
}

void world_advance(uint64_t us)
{
    uint64_t end = now_ns + us * 1000u;
    while (start_pin && !world.chip_dead && next_ns <= end) {
        now_ns = next_ns > now_ns ? next_ns : now_ns;
        convert();
        if (world.deaf)
            world.deaf--;
        else
            turn();
    }
    now_ns = end > now_ns ? end : now_ns;
    if (threaded && !world.deaf && now_ns - last_turn_ns >= 100000000u)
        turn();
    radio();
}

int k_sem_take(struct k_sem *sem, k_timeout_t timeout)
{
    uint64_t end = now_ns + (uint64_t)timeout.ticks * 30518u;
    if (timeout.ticks && step) {
        if (!step())
            longjmp(finished, 1);
        while (!sem->count && now_ns < end)
            world_advance(1000);
    }
    if (!sem->count)
        return -EAGAIN;
    sem->count--;
    return 0;
}

void world_run(bool (*each)(void))
{
    step = each;
    if (!setjmp(finished))
        port_main();
    step = NULL;
}

void k_sem_give(struct k_sem *sem) { sem->count += sem->count < sem->limit; }
void k_sem_reset(struct k_sem *sem) { sem->count = 0; }
int k_mutex_lock(struct k_mutex *mutex, k_timeout_t timeout) { return (void)timeout, mutex->held++ ? (seen.violations++, 0) : 0; }
int k_mutex_unlock(struct k_mutex *mutex) { return mutex->held-- != 1; }
k_spinlock_key_t k_spin_lock(struct k_spinlock *l) { return l->held = 1, (k_spinlock_key_t){0}; }
void k_spin_unlock(struct k_spinlock *l, k_spinlock_key_t key) { l->held = key.key; }
int32_t k_msleep(int32_t ms) { return world_advance((uint64_t)ms * 1000u), 0; }
void k_busy_wait(uint32_t us) { now_ns += us * 1000u; }
uint32_t k_uptime_get_32(void) { return (uint32_t)(now_ns / 1000000u); }
int64_t k_uptime_ticks(void) { return (int64_t)(now_ns * 32768u / 1000000000u); }
uint32_t k_cycle_get_32(void) { return (uint32_t)k_uptime_ticks() + 0xFFFFF000u; /* wraps soon */ }
int sys_clock_hw_cycles_per_sec(void) { return 32768; }
uint64_t k_ticks_to_us_floor64(uint64_t t) { return t * 1000000u / 32768u; }
atomic_val_t atomic_get(const atomic_t *target) { return *target; }
atomic_val_t atomic_inc(atomic_t *target) { return (*target)++; }
atomic_val_t atomic_dec(atomic_t *target) { return (*target)--; }
bool atomic_cas(atomic_t *target, atomic_val_t old, atomic_val_t new) { return *target == old ? (*target = new, true) : false; }

atomic_val_t atomic_set(atomic_t *target, atomic_val_t value)
{
    atomic_val_t before = *target;
    *target = value;
    return before;
}

int k_msgq_peek(struct k_msgq *q, void *data)
{
    if (!q->used)
        return -ENOMSG;
    memcpy(data, q->buffer + q->first * q->size, q->size);
    return 0;
}

int k_msgq_get(struct k_msgq *q, void *data, k_timeout_t timeout)
{
    (void)timeout;
    if (k_msgq_peek(q, data))
        return -ENOMSG;
    q->first = (q->first + 1u) % q->most;
    q->used--;
    return 0;
}

int k_msgq_put(struct k_msgq *q, const void *data, k_timeout_t timeout)
{
    (void)timeout;
    if (q->used == q->most)
        return -ENOMSG;
    memcpy(q->buffer + (q->first + q->used++) % q->most * q->size, data, q->size);
    return 0;
}

void k_msgq_purge(struct k_msgq *q) { q->used = 0; }

k_tid_t k_thread_create(struct k_thread *t, k_thread_stack_t *stack, size_t bytes, k_thread_entry_t entry, void *a, void *b, void *c, int prio, uint32_t options, k_timeout_t delay)
{
    (void)stack, (void)bytes, (void)entry, (void)a, (void)b, (void)c, (void)prio, (void)options, (void)delay;
    threaded = true;
    return t;
}

int k_work_submit(struct k_work *work) { return work->handler(work), 1; }
int k_work_reschedule(struct k_work_delayable *work, k_timeout_t delay) { return (void)work, (void)delay, 1; }
int k_work_cancel_delayable(struct k_work_delayable *work) { return (void)work, 0; }

/* ---- board ---- */

extern const struct settings_handler_static settings_handler_e6l;
static const uint8_t key[32] = {0, 1, 2, 3};

struct stored { const void *bytes; size_t n; };

static ssize_t read_setting(void *arg, void *data, size_t n)
{
    const struct stored *stored = arg;
    n = n < stored->n ? n : stored->n;
    return memcpy(data, stored->bytes, n), (ssize_t)n;
}

int settings_subsys_init(void) { return 0; }

int settings_load_subtree(const char *subtree)
{
    struct stored name = {"E6L-7", 5}, secret = {key, sizeof key};
    if (strcmp(subtree, "e6l"))
        return 0;
    settings_handler_e6l.h_set("name", name.n, read_setting, &name);
    return world.has_key ? settings_handler_e6l.h_set("key", secret.n, read_setting, &secret) : 0;
}

int settings_save_one(const char *name, const void *value, size_t n)
{
    if (!strcmp(name, "e6l/rate"))
        memcpy(&seen.saved_rate, value, n);
    return 0;
}

int sys_csrand_get(void *dst, size_t n) { return memset(dst, 0x5A, n), 0; }
void sys_reboot(int type) { longjmp(finished, type); }
bool boot_is_img_confirmed(void) { return seen.confirmed; }
int boot_write_img_confirmed(void) { return seen.confirmed++, 0; }
bool adc_is_ready_dt(const struct adc_dt_spec *spec) { return spec->dev != NULL; }
int adc_channel_setup_dt(const struct adc_dt_spec *spec) { return spec->channel_id; }
int adc_sequence_init_dt(const struct adc_dt_spec *spec, struct adc_sequence *sequence) { return sequence->channels = 1u << spec->channel_id, 0; }
int adc_read_dt(const struct adc_dt_spec *spec, const struct adc_sequence *s) { return (void)spec, *(int16_t *)s->buffer = (int16_t)world.battery_raw_mv, world.battery_broken ? -EIO : 0; }
int adc_raw_to_millivolts_dt(const struct adc_dt_spec *spec, int32_t *mv) { return (void)mv, spec->channel_id; }
int sensor_sample_fetch(const struct device *device) { return device == NULL; }
int sensor_channel_get(const struct device *device, enum sensor_channel channel, struct sensor_value *v) { return *v = (struct sensor_value){31, 250000}, device == NULL || channel != SENSOR_CHAN_DIE_TEMP; }

static struct mgmt_callback *gates[2];
void mgmt_callback_register(struct mgmt_callback *callback) { gates[gates[0] != NULL] = callback; }

int32_t update_asked(uint32_t event)
{
    int32_t rc = 0;
    uint16_t group = 0;
    bool more = false;
    for (int k = 0; k < 2; k++)
        if (gates[k] && gates[k]->event_id == event)
            return gates[k]->callback(event, MGMT_CB_OK, &rc, &group, &more, NULL, 0) == MGMT_CB_OK ? 0 : rc;
    return -1;
}

/* ---- Bluetooth ---- */

struct bt_conn { int refs; bt_security_t level; uint16_t mtu; };
static struct bt_conn link;
static bool connected, subscribed;
extern const struct bt_conn_cb bt_conn_cb_connection_callbacks;
extern const struct bt_gatt_service_static e6l_service;
static struct bt_gatt_cb *mtu_callback;
static struct { bt_gatt_complete_func_t done; void *user; } flight[64];
static unsigned in_flight;
static struct bt_gatt_indicate_params *indication;

static void keep(int value, const void *data, uint16_t n)
{
    static const uint8_t channels[14] = {[4] = 1, [7] = 0, [10] = 2, [13] = 3};
    if (seen.count < MAX_PACKETS) {
        struct packet *p = &seen.packets[seen.count++];
        p->channel = channels[value];
        p->length = n;
        memcpy(p->data, data, n);
    }
}

static void radio(void)
{
    struct bt_gatt_indicate_params *confirmed = world.confirm_blocked ? NULL : indication;
    unsigned n = world.radio_blocked ? 0 : in_flight;
    for (unsigned k = 0; k < n; k++)
        flight[k].done(&link, flight[k].user);
    in_flight -= n;
    if (confirmed) {
        indication = NULL;
        confirmed->destroy(confirmed);
    }
}

int bt_gatt_notify_cb(struct bt_conn *conn, struct bt_gatt_notify_params *p)
{
    if (conn->level < BT_SECURITY_L2 || p->len > conn->mtu - 3 || !p->len)
        seen.violations++;
    keep((int)(p->attr - e6l_service.attrs), p->data, p->len);
    flight[in_flight].done = p->func;
    flight[in_flight++].user = p->user_data;
    seen.most_in_flight = in_flight > seen.most_in_flight ? in_flight : seen.most_in_flight;
    return 0;
}

int bt_gatt_indicate(struct bt_conn *conn, struct bt_gatt_indicate_params *p)
{
    seen.violations += conn->level < BT_SECURITY_L2 || indication;
    keep((int)(p->attr - e6l_service.attrs), p->data, p->len);
    indication = p;
    return 0;
}

struct bt_conn *bt_conn_ref(struct bt_conn *conn) { return conn->refs++, conn; }
void bt_conn_unref(struct bt_conn *conn) { conn->refs--; }
bt_security_t bt_conn_get_security(const struct bt_conn *conn) { return conn->level; }
int bt_conn_set_security(struct bt_conn *conn, bt_security_t level) { return conn->refs < 0 || level != BT_SECURITY_L2; }
int bt_conn_disconnect(struct bt_conn *conn, uint8_t reason) { return seen.disconnect_asked = conn && reason, 0; }
int bt_conn_le_data_len_update(struct bt_conn *conn, const struct bt_conn_le_data_len_param *p) { return !conn || !p; }
int bt_conn_auth_info_cb_register(struct bt_conn_auth_info_cb *cb) { return cb->pairing_failed == NULL; }
uint16_t bt_gatt_get_mtu(struct bt_conn *conn) { return conn->mtu; }
void bt_gatt_cb_register(struct bt_gatt_cb *cb) { mtu_callback = cb; }
int bt_gatt_exchange_mtu(struct bt_conn *conn, struct bt_gatt_exchange_params *p) { return p->func(conn, 0, p), 0; }
int bt_enable(bt_ready_cb_t cb) { return cb != NULL; }
int bt_set_name(const char *name) { return strcmp(name, "E6L-7"); }
bool bt_gatt_is_subscribed(struct bt_conn *conn, const struct bt_gatt_attr *attr, uint16_t type) { return conn && attr->stub_properties & (type == BT_GATT_CCC_INDICATE ? BT_GATT_CHRC_INDICATE : BT_GATT_CHRC_NOTIFY) && subscribed; }

int bt_conn_le_param_update(struct bt_conn *conn, const struct bt_le_conn_param *p)
{
    seen.interval_min = p->interval_min;
    seen.interval_max = p->interval_max;
    seen.latency = p->latency;
    seen.timeout = p->timeout;
    return conn == NULL;
}

int bt_le_adv_start(const struct bt_le_adv_param *param, const struct bt_data *ad, size_t ad_len, const struct bt_data *sd, size_t sd_len)
{
    (void)param, (void)sd;
    seen.advertised += sd_len;
    seen.advertising_bytes = 0;
    for (size_t k = 0; k < ad_len; k++) {
        seen.advertising[seen.advertising_bytes++] = (uint8_t)(ad[k].data_len + 1u);
        seen.advertising[seen.advertising_bytes++] = ad[k].type;
        memcpy(seen.advertising + seen.advertising_bytes, ad[k].data, ad[k].data_len);
        seen.advertising_bytes = (uint8_t)(seen.advertising_bytes + ad[k].data_len);
    }
    return 0;
}

ssize_t bt_gatt_attr_read(struct bt_conn *conn, const struct bt_gatt_attr *attr, void *buf, uint16_t buf_len, uint16_t offset, const void *value, uint16_t n)
{
    (void)conn, (void)attr;
    if (offset > n)
        return -7;
    n = (uint16_t)(n - offset < buf_len ? n - offset : buf_len);
    return memcpy(buf, (const uint8_t *)value + offset, n), n;
}

void host_connect(uint16_t mtu)
{
    link.level = BT_SECURITY_L1;
    link.mtu = mtu;
    connected = true;
    bt_conn_cb_connection_callbacks.connected(&link, 0);
}

void host_encrypt(void)
{
    link.level = BT_SECURITY_L2;
    bt_conn_cb_connection_callbacks.security_changed(&link, BT_SECURITY_L2, BT_SECURITY_ERR_SUCCESS);
}

void host_mtu(uint16_t mtu)
{
    link.mtu = mtu;
    mtu_callback->att_mtu_updated(&link, mtu, mtu);
}

void host_subscribe(bool on) { subscribed = on; }

/* Completions of what was under way come late, as they may. */
void host_disconnect(void)
{
    connected = subscribed = false;
    bt_conn_cb_connection_callbacks.disconnected(&link, 0x13);
    if (indication)
        indication->destroy(indication);
    indication = NULL;
    bt_conn_cb_connection_callbacks.recycled();
}

long host_write(const uint8_t *data, uint16_t n)
{
    const struct bt_gatt_attr *attr = &e6l_service.attrs[4];
    return attr->write(&link, attr, data, n, 0, 0);
}

long host_read(int attribute, uint8_t *out, uint16_t size)
{
    const struct bt_gatt_attr *attr = &e6l_service.attrs[attribute];
    return attr->read(&link, attr, out, size, 0);
}

void world_reset(void)
{
    memset(&world, 0, sizeof world);
    memset(&seen, 0, sizeof seen);
    world.chip_id = 0x73;
    world.period_ns = 1000000000u / 500u * 1000u / 1002u; /* 501 Hz */
    world.test_code = 20971;
    world.battery_raw_mv = 800; /* 4.0 V */
}
