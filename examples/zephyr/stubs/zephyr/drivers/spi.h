/* Stand-in for <zephyr/drivers/spi.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_DRIVERS_SPI_H
#define STUB_ZEPHYR_DRIVERS_SPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zephyr/device.h>

typedef uint16_t spi_operation_t;
#define SPI_OP_MODE_MASTER 0U
#define SPI_MODE_CPOL (1U << 1)
#define SPI_MODE_CPHA (1U << 2)
#define SPI_TRANSFER_MSB 0U
#define SPI_WORD_SET(bits) ((bits) << 5)

struct spi_cs_control { uint32_t delay; };
struct spi_config { uint32_t frequency; spi_operation_t operation; uint16_t slave; struct spi_cs_control cs; };
struct spi_dt_spec { const struct device *bus; struct spi_config config; };
struct spi_buf { void *buf; size_t len; };
struct spi_buf_set { const struct spi_buf *buffers; size_t count; };
#define SPI_DT_SPEC_GET(node, op, delay_us) SPI_DT_SPEC_GET_(node, op, delay_us)
#define SPI_DT_SPEC_GET_(node, op, delay_us) \
    {.bus = DEVICE_DT_GET(node), .config = {.frequency = 500000, .operation = (op), .slave = 0, .cs = {.delay = (delay_us)}}}
bool spi_is_ready_dt(const struct spi_dt_spec *spec);
int spi_transceive_dt(const struct spi_dt_spec *spec, const struct spi_buf_set *tx_bufs, const struct spi_buf_set *rx_bufs);

#endif
