/* Stand-in for <zephyr/device.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_DEVICE_H
#define STUB_ZEPHYR_DEVICE_H

struct device { const char *name; };
#define DEVICE_DT_GET(node) DEVICE_DT_GET_(node)
#define DEVICE_DT_GET_(node) (&stub_device_##node)
extern const struct device stub_device_ads1292r, stub_device_temp, stub_device_zephyr_user;

#endif
