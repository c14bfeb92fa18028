/* Stand-in for <zephyr/dfu/mcuboot.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_DFU_MCUBOOT_H
#define STUB_ZEPHYR_DFU_MCUBOOT_H

#include <stdbool.h>

bool boot_is_img_confirmed(void);
int boot_write_img_confirmed(void);

#endif
