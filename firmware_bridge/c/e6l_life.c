/* The life of a stream and of a recording, and the board that they run on: what requests, samples and replies all need. Calls none of
 * the other files. */
#include "e6l_internal.h"

uint32_t e6l_device_oldest(const e6l_device *d)
{
    return d->next - d->held;
}

int e6l_front_end(e6l_device *d, uint8_t command, uint8_t value)
{
    return d->hal->front_end(d->hal->ctx, command, value);
}

uint64_t e6l_now_us(e6l_device *d)
{
    return d->hal->now_us(d->hal->ctx);
}

void e6l_read_power(e6l_device *d, e6l_status *s)
{
    d->hal->power(d->hal->ctx, &s->battery_mv, &s->battery_percent, &s->temperature_centi_c);
}

int e6l_start_front_end(e6l_device *d)
{
    d->fault = e6l_front_end(d, E6L_FRONT_END_START, 0) != 0;
    return !d->fault;
}

void e6l_rest_front_end(e6l_device *d)
{
    if (!e6l_acquiring(d))
        e6l_front_end(d, E6L_FRONT_END_STOP, 0);
}

void e6l_end_calibration(e6l_device *d)
{
    if (d->calibration_left) {
        d->calibration_left = 0;
        e6l_front_end(d, E6L_FRONT_END_CALIBRATION, 0);
    }
}

void e6l_finish_recording(e6l_device *d)
{
    if (d->making) {
        d->making = 0;
        d->stored = d->recording_kept != 0;
    }
    e6l_rest_front_end(d);
}

void e6l_end_stream(e6l_device *d)
{
    if (d->running) {
        d->running = 0;
        e6l_end_calibration(d);
        e6l_finish_recording(d);
    }
}

uint8_t e6l_send(e6l_device *d, uint8_t channel, const uint8_t *data, uint16_t length)
{
    return d->hal->send(d->hal->ctx, channel, data, length) == 0;
}
