#include "ads1292r.h"

#include <errno.h>
#include <zephyr/kernel.h>

#include "ads1292r_codes.h"

/* Power-up Sequencing: 2^12 t_MOD (32 ms), and the reference's capacitor charges: 150 ms typical with 1 uF [?]. The flow chart of
 * the data sheet waits a second, so does this. */
#define POWER_UP_MS 1000
#define RESET_PULSE_US 100 /* at least 1 t_MOD = 8 us */
#define AFTER_RESET_US 100 /* 18 t_CLK = 35 us */
/* New reference setting: the buffer was off after the reset. */
#define REFERENCE_MS 150

/* One transfer with CS low throughout. At 500 kHz a byte takes 16 us, more than the 4 t_CLK (7.8 us) that the chip takes to decode
 * it; the same 4 t_CLK before CS rises are the delay of the SPI_DT_SPEC_GET in acquisition.c. */
static int transfer(const struct ads1292r *chip, const uint8_t *out, uint8_t *in, size_t length)
{
    const struct spi_buf tx_buf = {.buf = (void *)out, .len = length}, rx_buf = {.buf = in, .len = length};
    const struct spi_buf_set tx = {.buffers = &tx_buf, .count = 1}, rx = {.buffers = &rx_buf, .count = 1};
    return spi_transceive_dt(&chip->bus, &tx, in ? &rx : NULL);
}

static int command(const struct ads1292r *chip, uint8_t code)
{
    return transfer(chip, &code, NULL, 1);
}

/* Registers are out of reach in RDATAC mode: SDATAC before. */
static int write_registers(const struct ads1292r *chip, uint8_t first, const uint8_t *values, size_t n)
{
    uint8_t out[2 + ADS_REGISTERS] = {(uint8_t)(ADS_WREG | first), (uint8_t)(n - 1)};
    memcpy(out + 2, values, n);
    return transfer(chip, out, NULL, n + 2);
}

static int read_registers(const struct ads1292r *chip, uint8_t first, uint8_t *values, size_t n)
{
    uint8_t out[2 + ADS_REGISTERS] = {(uint8_t)(ADS_RREG | first), (uint8_t)(n - 1)}, in[2 + ADS_REGISTERS] = {0};
    int error = transfer(chip, out, in, n + 2);
    memcpy(values, in + 2, n);
    return error;
}

int ads1292r_pins(const struct ads1292r *chip)
{
    if (!spi_is_ready_dt(&chip->bus) || !gpio_is_ready_dt(&chip->drdy) || !gpio_is_ready_dt(&chip->start) || !gpio_is_ready_dt(&chip->reset))
        return -ENODEV;
    int error = gpio_pin_configure_dt(&chip->drdy, GPIO_INPUT);
    if (!error)
        error = gpio_pin_configure_dt(&chip->start, GPIO_OUTPUT_INACTIVE);
    if (!error)
        error = gpio_pin_configure_dt(&chip->reset, GPIO_OUTPUT_INACTIVE);
    return error;
}

static int check_registers(const struct ads1292r *chip, const uint8_t wanted[ADS_REGISTERS])
{
    uint8_t found[ADS_REGISTERS];
    int error = read_registers(chip, ADS_REG_ID, found, ADS_REGISTERS);
    for (uint8_t reg = 0; !error && reg < ADS_REGISTERS; reg++)
        if ((found[reg] ^ wanted[reg]) & ads1292r_readable(reg))
            error = -EIO;
    return error;
}

static int check_id(const struct ads1292r *chip)
{
    uint8_t id;
    int error = read_registers(chip, ADS_REG_ID, &id, 1);
    return error ? error : id == ADS_ID_1292R ? 0 : -ENODEV;
}

static int configure(const struct ads1292r *chip)
{
    uint8_t wanted[ADS_REGISTERS];
    ads1292r_registers(wanted);
    int error = write_registers(chip, ADS_REG_CONFIG1, wanted + ADS_REG_CONFIG1, ADS_REGISTERS - ADS_REG_CONFIG1);
    if (!error)
        error = check_registers(chip, wanted);
    return error;
}

int ads1292r_setup(const struct ads1292r *chip)
{
    gpio_pin_set_dt(&chip->start, 0);
    k_msleep(POWER_UP_MS);
    gpio_pin_set_dt(&chip->reset, 1);
    k_busy_wait(RESET_PULSE_US);
    gpio_pin_set_dt(&chip->reset, 0);
    k_busy_wait(AFTER_RESET_US);
    int error = command(chip, ADS_SDATAC); /* RDATAC is the mode after a reset */
    if (!error)
        error = check_id(chip);
    if (!error)
        error = configure(chip);
    if (!error)
        error = command(chip, ADS_RDATAC);
    k_msleep(REFERENCE_MS);
    return error;
}

int ads1292r_convert(const struct ads1292r *chip)
{
    return gpio_pin_set_dt(&chip->start, 1);
}

int ads1292r_rest(const struct ads1292r *chip)
{
    return gpio_pin_set_dt(&chip->start, 0);
}

int ads1292r_test_signal(const struct ads1292r *chip, bool on)
{
    const uint8_t config2 = ads1292r_config2(on), channels[2] = {ads1292r_chset(on), ads1292r_chset(on)};
    int error = command(chip, ADS_SDATAC);
    if (!error)
        error = write_registers(chip, ADS_REG_CONFIG2, &config2, 1);
    if (!error)
        error = write_registers(chip, ADS_REG_CH1SET, channels, 2);
    int resumed = command(chip, ADS_RDATAC); /* whatever went wrong: samples must go on */
    return error ? error : resumed;
}

int ads1292r_read(const struct ads1292r *chip, int32_t codes[2], uint8_t *contact)
{
    static const uint8_t nothing[ADS_SAMPLE_BYTES]; /* DIN stays low while data are read */
    uint8_t in[ADS_SAMPLE_BYTES];
    int error = transfer(chip, nothing, in, sizeof in);
    if (error)
        return error;
    return ads1292r_sample(in, codes, contact) == E6L_OK ? 0 : -EILSEQ;
}
