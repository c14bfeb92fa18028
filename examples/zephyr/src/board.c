#include "board.h"

#include <errno.h>
#include <string.h>
#include <zephyr/device.h>
#include <zephyr/devicetree.h>
#include <zephyr/drivers/adc.h>
#include <zephyr/drivers/sensor.h>
#include <zephyr/kernel.h>
#include <zephyr/random/random.h>
#include <zephyr/settings/settings.h>
#include <zephyr/sys/atomic.h>
#include <zephyr/sys/reboot.h>

#include "ads1292r_codes.h"

#define MAX_NAME_BYTES 32 /* of the text on the case */
#define BATTERY_EVERY K_SECONDS(10)
#define VDDH_DIVIDER 5 /* the converter sees a fifth of VDDH */
#define NOT_MEASURED_CENTI_C INT16_MIN

static uint8_t key[E6L_KEY_BYTES];
static bool has_key;
static char name[MAX_NAME_BYTES + 1] = CONFIG_BT_DEVICE_NAME;
static uint32_t rate_mhz;

static const struct adc_dt_spec battery = ADC_DT_SPEC_GET(DT_PATH(zephyr_user));
static const struct device *const die = DEVICE_DT_GET(DT_NODELABEL(temp));
static atomic_t battery_mv, temperature = ATOMIC_INIT(NOT_MEASURED_CENTI_C);

/* ---- flash ---- */

static int set(const char *item, size_t length, settings_read_cb read, void *arg)
{
    if (!strcmp(item, "key")) {
        has_key = length == sizeof key && read(arg, key, sizeof key) == (ssize_t)sizeof key;
        return has_key ? 0 : -EINVAL;
    }
    if (!strcmp(item, "name") && length && length <= MAX_NAME_BYTES) {
        ssize_t n = read(arg, name, MAX_NAME_BYTES);
        name[n > 0 ? n : 0] = '\0';
        return n > 0 ? 0 : -EIO;
    }
    if (!strcmp(item, "rate") && length == sizeof rate_mhz)
        return read(arg, &rate_mhz, sizeof rate_mhz) == (ssize_t)sizeof rate_mhz ? 0 : -EIO;
    return -ENOENT;
}
SETTINGS_STATIC_HANDLER_DEFINE(e6l, "e6l", NULL, set, NULL, NULL);

bool board_has_key(void)
{
    return has_key;
}

const char *board_name(void)
{
    return name;
}

uint32_t board_kept_rate(void)
{
    return rate_mhz;
}

void board_keep_rate(uint32_t mhz)
{
    rate_mhz = mhz;
    settings_save_one("e6l/rate", &rate_mhz, sizeof rate_mhz);
}

int board_key(uint8_t out[E6L_KEY_BYTES])
{
    if (!has_key)
        return -ENOENT;
    memcpy(out, key, sizeof key);
    return 0;
}

/* A nonce that can be foreseen would let a recorded answer pass for a fresh one: rather start again than go on without. */
void board_random(uint8_t *out, uint8_t n)
{
    if (sys_csrand_get(out, n))
        sys_reboot(SYS_REBOOT_COLD);
}

/* ---- power ---- */

static void measure_battery(void)
{
    int16_t raw = 0;
    struct adc_sequence sequence = {.buffer = &raw, .buffer_size = sizeof raw};
    if (adc_sequence_init_dt(&battery, &sequence) || adc_read_dt(&battery, &sequence))
        return; /* the last value stands */
    int32_t mv = raw > 0 ? raw : 0;
    if (!adc_raw_to_millivolts_dt(&battery, &mv))
        atomic_set(&battery_mv, mv * VDDH_DIVIDER);
}

/* Of the processor's die: warmer than the case, and no body temperature. */
static void measure_temperature(void)
{
    struct sensor_value value;
    if (!sensor_sample_fetch(die) && !sensor_channel_get(die, SENSOR_CHAN_DIE_TEMP, &value))
        atomic_set(&temperature, value.val1 * 100 + value.val2 / 10000);
}

static void measure(struct k_work *work);
static K_WORK_DELAYABLE_DEFINE(measuring, measure);

static void measure(struct k_work *work)
{
    ARG_UNUSED(work);
    measure_battery();
    measure_temperature();
    k_work_reschedule(&measuring, BATTERY_EVERY);
}

/* A battery that could not be measured counts as empty: no update, and the self-test says so. */
void board_power(uint16_t *mv, uint8_t *percent, int16_t *centi_c)
{
    *mv = (uint16_t)atomic_get(&battery_mv);
    *percent = ads1292r_battery_percent(*mv);
    *centi_c = (int16_t)atomic_get(&temperature);
}

int board_init(void)
{
    int error = settings_subsys_init();
    if (!error)
        error = settings_load_subtree("e6l");
    if (!error && !adc_is_ready_dt(&battery))
        error = -ENODEV;
    if (!error)
        error = adc_channel_setup_dt(&battery);
    if (error)
        return error;
    measure_battery();
    k_work_reschedule(&measuring, BATTERY_EVERY);
    return 0;
}
