/* Firmware update over SMP, let in only when the core says so (PROTOCOL.md section 12). */
#ifndef E6L_PORT_UPDATE_H
#define E6L_PORT_UPDATE_H

#include <stdbool.h>

void update_init(void);

/* What e6l_may_update() last said; asked by the management thread, told by the core's. */
void update_allow(bool allowed);

/* The running image works: MCUboot need not go back to the one before. */
void update_confirm(void);

#endif
