/* What the processor's board knows: identity from flash, battery, temperature, random numbers. */
#ifndef E6L_PORT_BOARD_H
#define E6L_PORT_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "e6l.h"

/* Settings "e6l/key", "e6l/name", "e6l/rate" from flash; begins to measure the battery. */
int board_init(void);

bool board_has_key(void);
const char *board_name(void);

/* Rate of the front-end as described before, mHz; 0 if never. */
uint32_t board_kept_rate(void);
void board_keep_rate(uint32_t mhz);

/* e6l_hal functions. */
int board_key(uint8_t out[E6L_KEY_BYTES]);
void board_random(uint8_t *out, uint8_t n);
void board_power(uint16_t *mv, uint8_t *percent, int16_t *centi_c);

#endif
