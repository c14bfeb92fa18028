#include "acquisition.h"

#include <errno.h>
#include <zephyr/device.h>
#include <zephyr/devicetree.h>
#include <zephyr/sys/atomic.h>

#include "ads1292r.h"
#include "ads1292r_codes.h"

#define CHIP DT_NODELABEL(ads1292r)
#define SPI_OPERATION (SPI_OP_MODE_MASTER | SPI_WORD_SET(8) | SPI_TRANSFER_MSB | SPI_MODE_CPHA)
#define CS_DELAY_US 10 /* 4 t_CLK = 7.8 us between the last clock and CS */

#define FIFO_SAMPLES 256 /* 0.5 s: a radio that blocks the other thread for longer loses samples, and says so */
#define SILENCE_MS 100
#define RATE_MS 2000
#define SETTLE_MS 40
#define PULSE_TEST_SAMPLES 600u /* 1.2 periods of the test signal */
#define STACK_BYTES 1024
#define PRIORITY K_PRIO_COOP(2)

struct entry {
    uint32_t index;
    int32_t codes[2];
    uint8_t contact, pulse;
};

static const struct ads1292r chip = {
    .bus = SPI_DT_SPEC_GET(CHIP, SPI_OPERATION, CS_DELAY_US),
    .drdy = GPIO_DT_SPEC_GET(CHIP, drdy_gpios),
    .start = GPIO_DT_SPEC_GET(CHIP, start_gpios),
    .reset = GPIO_DT_SPEC_GET(CHIP, reset_gpios),
};

K_MSGQ_DEFINE(sample_fifo, sizeof(struct entry), FIFO_SAMPLES, 4);
static K_SEM_DEFINE(ready, 0, 1);
static K_MUTEX_DEFINE(chip_lock); /* SPI and the state of the pulse */
static K_THREAD_STACK_DEFINE(stack, STACK_BYTES);

static struct k_thread thread;
static struct k_sem *wake;
static struct gpio_callback drdy_callback;
static atomic_t edges;                    /* conversions since START */
static atomic_t first_cycle, last_cycle; /* when the first and the last of them came */
static atomic_t heard_ms;                 /* uptime at START, then at each sample */
static atomic_t converting, silent;
static bool wired, working;

/* Under chip_lock. Indices of conversions: the test signal is on from the command to pulse_stop, its traces to clean_from. */
static bool pulse_on, pulse_wanted;
static uint32_t pulse_stop, clean_from;

/* Of the thread that calls acquisition_next(). */
static uint32_t expected;
static bool flagged;

/* ---- interrupt and thread ---- */

static void conversion_done(const struct device *port, struct gpio_callback *callback, uint32_t pins)
{
    ARG_UNUSED(port);
    ARG_UNUSED(callback);
    ARG_UNUSED(pins);
    atomic_val_t now = (atomic_val_t)k_cycle_get_32();
    if (atomic_inc(&edges) == 0)
        atomic_set(&first_cycle, now);
    atomic_set(&last_cycle, now);
    k_sem_give(&ready);
}

/* Between two conversions, after the one with this index was read. */
static void switch_pulse(uint32_t index)
{
    bool on = pulse_wanted && (int32_t)(index - pulse_stop) < 0;
    if (on == pulse_on)
        return;
    bool failed = ads1292r_test_signal(&chip, on) != 0;
    pulse_on = on || failed; /* after a failure the chip may be in either state: marked until the electrodes are back for certain */
    pulse_wanted = on && !failed;
    if (!pulse_on)
        clean_from = index + 1u + ADS_SETTLE_SAMPLES;
}

/* Reads the conversion that the interrupt announced. 0, or why it is lost. */
static int read_one(struct entry *entry)
{
    uint32_t count = (uint32_t)atomic_get(&edges);
    int error = ads1292r_read(&chip, entry->codes, &entry->contact);
    if (!error && (uint32_t)atomic_get(&edges) != count)
        error = -EAGAIN; /* the next conversion came while this one was read: its bytes may be of both */
    entry->index = count - 1u;
    entry->pulse = pulse_on || (int32_t)(entry->index - clean_from) < 0;
    if (!error)
        switch_pulse(entry->index);
    return error;
}

void acquisition_turn(k_timeout_t patience)
{
    struct entry entry = {0};
    if (k_sem_take(&ready, patience)) {
        if (atomic_get(&converting) && k_uptime_get_32() - (uint32_t)atomic_get(&heard_ms) >= SILENCE_MS) {
            atomic_set(&silent, 1);
            k_sem_give(wake);
        }
        return;
    }
    atomic_set(&heard_ms, (atomic_val_t)k_uptime_get_32());
    k_mutex_lock(&chip_lock, K_FOREVER);
    int error = atomic_get(&converting) ? read_one(&entry) : -ECANCELED;
    k_mutex_unlock(&chip_lock);
    if (!error && !k_msgq_put(&sample_fifo, &entry, K_NO_WAIT))
        k_sem_give(wake);
}

static void run(void *a, void *b, void *c)
{
    ARG_UNUSED(a);
    ARG_UNUSED(b);
    ARG_UNUSED(c);
    for (;;)
        acquisition_turn(K_MSEC(SILENCE_MS));
}

/* ---- the other side ---- */

static int set_up(void)
{
    int error = ads1292r_setup(&chip);
    working = !error;
    if (working)
        pulse_on = false; /* the registers say electrodes */
    return error;
}

int acquisition_init(struct k_sem *sample_wake)
{
    wake = sample_wake;
    int error = ads1292r_pins(&chip);
    if (error)
        return error;
    gpio_init_callback(&drdy_callback, conversion_done, BIT(chip.drdy.pin));
    error = gpio_add_callback(chip.drdy.port, &drdy_callback);
    if (error)
        return error;
    wired = true;
    k_thread_create(&thread, stack, K_THREAD_STACK_SIZEOF(stack), run, NULL, NULL, NULL, PRIORITY, 0, K_NO_WAIT);
    return set_up();
}

int acquisition_start(void)
{
    acquisition_stop();
    if (!wired || (!working && set_up()))
        return -ENODEV;
    k_msgq_purge(&sample_fifo);
    k_sem_reset(&ready);
    expected = 0;
    flagged = false;
    pulse_wanted = false;
    clean_from = pulse_on ? UINT32_C(0x7FFFFFFF) : 0; /* a test signal that could not be ended marks all it touches */
    atomic_set(&edges, 0);
    atomic_set(&silent, 0);
    atomic_set(&heard_ms, (atomic_val_t)k_uptime_get_32());
    atomic_set(&converting, 1);
    int error = gpio_pin_interrupt_configure_dt(&chip.drdy, GPIO_INT_EDGE_TO_ACTIVE);
    if (!error)
        error = ads1292r_convert(&chip);
    if (error)
        acquisition_stop();
    return error;
}

void acquisition_stop(void)
{
    if (!wired)
        return;
    gpio_pin_interrupt_configure_dt(&chip.drdy, GPIO_INT_DISABLE);
    k_mutex_lock(&chip_lock, K_FOREVER);
    atomic_set(&converting, 0);
    ads1292r_rest(&chip);
    pulse_wanted = false;
    if (pulse_on && !ads1292r_test_signal(&chip, false))
        pulse_on = false;
    k_mutex_unlock(&chip_lock);
}

static enum acquisition_take lost(int32_t codes[2], uint8_t *contact)
{
    codes[0] = codes[1] = ADS_RAIL;
    *contact = E6L_RA_OFF | E6L_LA_OFF | E6L_LL_OFF | E6L_RL_OFF;
    expected++;
    return ACQUISITION_SAMPLE;
}

static enum acquisition_take dead(void)
{
    acquisition_stop();
    working = false; /* the next start sets the chip up from the beginning */
    return ACQUISITION_DEAD;
}

enum acquisition_take acquisition_next(int32_t codes[2], uint8_t *contact)
{
    struct entry entry;
    if (!atomic_get(&converting))
        return ACQUISITION_NONE;
    if (k_msgq_peek(&sample_fifo, &entry))
        return atomic_cas(&silent, 1, 0) ? dead() : ACQUISITION_NONE;
    uint32_t hole = entry.index - expected;
    if (hole > ACQUISITION_MAX_HOLE)
        return dead();
    if (hole)
        return lost(codes, contact);
    k_msgq_get(&sample_fifo, &entry, K_NO_WAIT);
    if (entry.pulse && !flagged)
        return lost(codes, contact);
    codes[0] = entry.codes[0];
    codes[1] = entry.codes[1];
    *contact = entry.contact;
    expected++;
    return ACQUISITION_SAMPLE;
}

int acquisition_pulse(uint32_t samples)
{
    if (!atomic_get(&converting))
        return -EAGAIN;
    k_mutex_lock(&chip_lock, K_FOREVER);
    flagged = samples > 0;
    pulse_wanted = samples > 2u * ADS_SETTLE_SAMPLES;
    /* The samples in the FIFO come first, and the electrodes must have settled when the last flagged sample has gone. */
    pulse_stop = expected + samples - 1u - ADS_SETTLE_SAMPLES;
    k_mutex_unlock(&chip_lock);
    return 0;
}

/* ---- at rest ---- */

uint32_t acquisition_measure_rate(void)
{
    if (acquisition_start())
        return 0;
    k_msleep(RATE_MS);
    acquisition_stop();
    uint32_t n = (uint32_t)atomic_get(&edges), ticks = (uint32_t)atomic_get(&last_cycle) - (uint32_t)atomic_get(&first_cycle);
    return n > 1u ? ads1292r_rate_mhz(n - 1u, ticks, (uint32_t)sys_clock_hw_cycles_per_sec()) : 0u;
}

/* Lowest and highest code of both channels over the test signal; false if it did not come. */
static bool watch_pulse(int32_t min[2], int32_t max[2])
{
    uint32_t seen = 0;
    int32_t codes[2];
    uint8_t contact;
    acquisition_pulse(UINT32_C(0x40000000));
    for (int waits = 0; seen < PULSE_TEST_SAMPLES && waits < 100; waits++) {
        k_msleep(SETTLE_MS);
        enum acquisition_take got;
        while ((got = acquisition_next(codes, &contact)) == ACQUISITION_SAMPLE) {
            if (expected <= 4u * ADS_SETTLE_SAMPLES || contact & E6L_RL_OFF) /* the change to the signal; a conversion that was lost */
                continue;
            for (int k = 0; k < 2; k++) {
                min[k] = seen && min[k] < codes[k] ? min[k] : codes[k];
                max[k] = seen && max[k] > codes[k] ? max[k] : codes[k];
            }
            seen++;
        }
        if (got == ACQUISITION_DEAD)
            return false;
    }
    return seen >= PULSE_TEST_SAMPLES;
}

int acquisition_self_test(void)
{
    int32_t min[2] = {0}, max[2] = {0};
    working = false; /* the registers are read back */
    if (acquisition_start())
        return -1;
    bool came = watch_pulse(min, max);
    acquisition_stop();
    if (!came)
        return E6L_FAULT_FRONT_END;
    return ads1292r_pulse_in_range(min[0], max[0]) && ads1292r_pulse_in_range(min[1], max[1]) ? 0 : E6L_FAULT_CALIBRATION;
}
