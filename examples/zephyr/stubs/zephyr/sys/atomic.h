/* Stand-in for <zephyr/sys/atomic.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_SYS_ATOMIC_H
#define STUB_ZEPHYR_SYS_ATOMIC_H

#include <stdbool.h>

typedef long atomic_t;
typedef atomic_t atomic_val_t;
#define ATOMIC_INIT(i) (i)
atomic_val_t atomic_get(const atomic_t *target);
atomic_val_t atomic_set(atomic_t *target, atomic_val_t value);
atomic_val_t atomic_inc(atomic_t *target); /* the value before */
atomic_val_t atomic_dec(atomic_t *target);
bool atomic_cas(atomic_t *target, atomic_val_t old_value, atomic_val_t new_value);

#endif
