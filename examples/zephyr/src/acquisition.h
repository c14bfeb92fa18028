/* Samples of the front-end in order, each with its place in time, from an interrupt and a thread of their own.
 *
 * The index of a sample is the number of DRDY edges since START, not of the samples that could be read: a conversion that was
 * missed is delivered as a sample at the rail with all electrodes off, so that the clock of the stream stays right and the hole
 * is flagged. The same stands for conversions that hold the test signal when nobody asked for it (any more).
 */
#ifndef ACQUISITION_H
#define ACQUISITION_H

#include <stdbool.h>
#include <stdint.h>
#include <zephyr/kernel.h>

/* More conversions lost at one place than this, and the stream ends instead: 0.5 s. */
#define ACQUISITION_MAX_HOLE 250u

enum acquisition_take { ACQUISITION_NONE = 0, ACQUISITION_SAMPLE, ACQUISITION_DEAD };

/* Sets the chip up and starts the thread; `wake` is given for each sample. A negative errno if the chip does not answer: a later
 * acquisition_start() tries again. */
int acquisition_init(struct k_sem *wake);

int acquisition_start(void);
void acquisition_stop(void);

/* The next sample; ACQUISITION_DEAD (once) where no conversion comes any more or the hole is too large. */
enum acquisition_take acquisition_next(int32_t codes[2], uint8_t *contact);

/* The test signal in place of the electrodes for the `samples` that follow the last one taken; 0: end it. */
int acquisition_pulse(uint32_t samples);

/* Rate against the crystal of the processor, mHz; 0 if there is none. Takes 2 s; at rest only. */
uint32_t acquisition_measure_rate(void);

/* One turn of the thread, which takes them without end: wait for a conversion, read it. */
void acquisition_turn(k_timeout_t patience);

/* Faults of E6L_FRONT_END_SELF_TEST, or -1. Takes up to 3 s; at rest only. */
int acquisition_self_test(void);

#endif
