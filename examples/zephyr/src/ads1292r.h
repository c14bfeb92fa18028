/* ADS1292R on SPI: one chip, commands and registers. Nothing here keeps time or threads: see acquisition.h. */
#ifndef ADS1292R_H
#define ADS1292R_H

#include <stdbool.h>
#include <stdint.h>
#include <zephyr/drivers/gpio.h>
#include <zephyr/drivers/spi.h>

struct ads1292r {
    struct spi_dt_spec bus;
    struct gpio_dt_spec drdy, start, reset;
};

/* Pins: START low, RESET high, DRDY an input. 0, or a negative errno. */
int ads1292r_pins(const struct ads1292r *chip);

/* Hardware reset, then the registers of ads1292r_registers(), read back. -ENODEV: another chip, or none; -EIO: a register did not
 * keep its value. Afterwards the chip is in RDATAC mode and rests. Takes 1.2 s. */
int ads1292r_setup(const struct ads1292r *chip);

/* Convert until ads1292r_rest(). */
int ads1292r_convert(const struct ads1292r *chip);
int ads1292r_rest(const struct ads1292r *chip);

/* The test signal in place of the electrodes, or the electrodes. While converting: call it right after a sample was read, it takes
 * 0.5 ms of the 2 ms to the next. */
int ads1292r_test_signal(const struct ads1292r *chip, bool on);

/* The conversion that DRDY announced. -EILSEQ if the bytes are out of step. */
int ads1292r_read(const struct ads1292r *chip, int32_t codes[2], uint8_t *contact);

#endif
