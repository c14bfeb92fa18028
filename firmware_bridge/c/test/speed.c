/* Frames encoded and decoded per second on one core: 25 samples of two leads, raw24, the frame of every device here. */
#include <stdio.h>
#include <time.h>

#include "e6l.h"

#define FRAMES 400000u
#define N 25u
#define LEADS 2u

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(void)
{
    int32_t samples[N * LEADS];
    uint8_t raw[E6L_MAX_PACKET_BYTES];
    e6l_frame frame = {.codec = E6L_RAW24, .n = N};
    uint32_t sum = 0, failed = 0;
    for (uint32_t k = 0; k < N * LEADS; k++)
        samples[k] = (int32_t)(k * 2654435761u % 16777216u) - 8388608;
    double start = seconds();
    for (uint32_t k = 0; k < FRAMES; k++) {
        frame.t0 = k * N;
        failed += e6l_frame_encode(&frame, samples, LEADS, raw, sizeof raw) < 0;
        sum += raw[4];
    }
    double middle = seconds();
    for (uint32_t k = 0; k < FRAMES; k++) {
        failed += e6l_frame_decode(raw, E6L_FRAME_OVERHEAD_BYTES + 3u * N * LEADS, LEADS, &frame, samples, N * LEADS) != E6L_OK;
        sum += (uint32_t)samples[k % (N * LEADS)];
    }
    double end = seconds();
    printf("{\"frames\": %u, \"encode_per_s\": %.0f, \"decode_per_s\": %.0f, \"sum\": %lu}\n", FRAMES, FRAMES / (middle - start), FRAMES / (end - middle), (unsigned long)sum);
    return failed != 0;
}
