/* Stand-in for <zephyr/bluetooth/hci.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_BLUETOOTH_HCI_H
#define STUB_ZEPHYR_BLUETOOTH_HCI_H

#define BT_HCI_ERR_AUTH_FAIL 0x05

#endif
