/* Stand-in for <zephyr/random/random.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_RANDOM_RANDOM_H
#define STUB_ZEPHYR_RANDOM_RANDOM_H

#include <stddef.h>

int sys_csrand_get(void *dst, size_t len);

#endif
