/* What prj.conf and Kconfig set, as far as the sources name it. */
#ifndef STUB_AUTOCONF_H
#define STUB_AUTOCONF_H

#define CONFIG_BT_ATT_TX_COUNT 10
#define CONFIG_BT_DEVICE_NAME "E6L"
#define CONFIG_E6L_RING_SECONDS 30
#define CONFIG_E6L_RECORD_SECONDS 30

#endif
