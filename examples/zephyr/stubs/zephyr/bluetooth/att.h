/* Stand-in for <zephyr/bluetooth/att.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_BLUETOOTH_ATT_H
#define STUB_ZEPHYR_BLUETOOTH_ATT_H

#define BT_ATT_ERR_INVALID_OFFSET 0x07
#define BT_ATT_ERR_INVALID_ATTRIBUTE_LEN 0x0d
#define BT_ATT_ERR_UNLIKELY 0x0e
#define BT_ATT_ERR_CCC_IMPROPER_CONF 0xfd

#endif
