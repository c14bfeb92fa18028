/* What the four parts of the device share. They call each other one way only: the device (e6l_device.c) the requests
 * (e6l_requests.c), these the samples and frames (e6l_stream.c), these the life of a stream (e6l_life.c). For this folder only. */
#ifndef E6L_INTERNAL_H
#define E6L_INTERNAL_H

#include "e6l.h"

#define E6L_US_TIMES_MHZ 1000000000u /* microseconds in a second x millihertz in a hertz */
#define E6L_REPLY_HEAD 3u            /* operation, transaction, status */

static inline int e6l_acquiring(const e6l_device *d)
{
    return d->running || d->making;
}

static inline int e6l_reading(const e6l_device *d)
{
    return d->read_offset != d->read_stop;
}

/* The board (e6l_life.c). */
int e6l_front_end(e6l_device *d, uint8_t command, uint8_t value);
uint64_t e6l_now_us(e6l_device *d);
void e6l_read_power(e6l_device *d, e6l_status *s);
uint8_t e6l_send(e6l_device *d, uint8_t channel, const uint8_t *data, uint16_t length); /* 1: taken */

/* Beginnings and ends (e6l_life.c). */
int e6l_start_front_end(e6l_device *d); /* 1: it answers */
void e6l_rest_front_end(e6l_device *d); /* if nobody needs it */
void e6l_end_calibration(e6l_device *d);
void e6l_finish_recording(e6l_device *d);
void e6l_end_stream(e6l_device *d);

/* Frames (e6l_stream.c). */
uint16_t e6l_build_frame(e6l_device *d, uint32_t t0, uint8_t n, uint8_t flags, uint16_t seq);
void e6l_cut_full_frames(e6l_device *d);
void e6l_cut_last_frame(e6l_device *d);

/* Carries out a request (e6l_requests.c) and puts data into d->reply: the status, with the length of the data above it (<< 8). */
uint16_t e6l_answer(e6l_device *d, const uint8_t *data, size_t length);

#endif
