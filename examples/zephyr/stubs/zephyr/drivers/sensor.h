/* Stand-in for <zephyr/drivers/sensor.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_DRIVERS_SENSOR_H
#define STUB_ZEPHYR_DRIVERS_SENSOR_H

#include <stdint.h>
#include <zephyr/device.h>

enum sensor_channel { SENSOR_CHAN_DIE_TEMP = 12 };
struct sensor_value { int32_t val1, val2; }; /* whole, millionths */
int sensor_sample_fetch(const struct device *dev);
int sensor_channel_get(const struct device *dev, enum sensor_channel chan, struct sensor_value *val);

#endif
