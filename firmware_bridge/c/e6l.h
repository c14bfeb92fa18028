/* E6L: the protocol of a six-lead ECG device, version 1 (PROTOCOL.md), for a microcontroller and for its test bench.
 *
 * C99, no heap, no operating system, no floating point. The codec part keeps no state; the device part is one state
 * machine that is given samples, requests and time, and hands bytes to six functions of the board.
 *
 * Nothing here may be called from two contexts at once: call it all from one thread or main loop, and let the interrupt
 * of the front-end only fill a buffer that this loop empties into e6l_device_samples().
 */
#ifndef E6L_H
#define E6L_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define E6L_VERSION 1u
#define E6L_MAX_LEADS 4u
#define E6L_DESCRIPTOR_BYTES 40u
#define E6L_STATUS_BYTES 20u
#define E6L_FRAME_HEADER_BYTES 10u
#define E6L_FRAME_OVERHEAD_BYTES 12u /* header and CRC */
#define E6L_BULK_OVERHEAD_BYTES 8u   /* offset, length, CRC */
#define E6L_ATT_HEADER_BYTES 3u      /* opcode and handle of a notification */
#define E6L_MAX_MTU 517u             /* of the Attribute Protocol; a larger one is used as this */
#define E6L_MAX_PACKET_BYTES (E6L_MAX_MTU - E6L_ATT_HEADER_BYTES)
#define E6L_MIN_FRAME_SAMPLES 4u
#define E6L_MIN_REPLY_MTU 39u /* RECORD_LIST and AUTHENTICATE need it */
#define E6L_SEQ_RETRANSMITTED 0xFFFFu
#define E6L_NO_STREAM_INDEX 0xFFFFFFFFu
#define E6L_KEY_BYTES 32u
#define E6L_NONCE_BYTES 16u
#define E6L_TAG_BYTES 16u
#define E6L_MAX_REPLY_BYTES 35u /* of AUTHENTICATE */
#define E6L_BATTERY_LOW_PERCENT 15u
#define E6L_UPDATE_MIN_BATTERY_PERCENT 30u

enum { E6L_RAW24 = 0, E6L_RAW16 = 1 }; /* codec of a live frame */

enum { E6L_FLAG_RETRANSMITTED = 0x01, E6L_FLAG_CALIBRATION = 0x02, E6L_FLAG_OVERRUN = 0x04, E6L_FLAG_FILTERED = 0x08, E6L_FLAG_LAST = 0x80 };

enum { E6L_RA_OFF = 0x01, E6L_LA_OFF = 0x02, E6L_LL_OFF = 0x04, E6L_RL_OFF = 0x08, E6L_SATURATED_1 = 0x10, E6L_SATURATED_2 = 0x20 };

enum {
    E6L_FEATURE_RETRANSMIT = 0x01, E6L_FEATURE_RECORD = 0x02, E6L_FEATURE_CALIBRATION = 0x04, E6L_FEATURE_LEAD_OFF = 0x08,
    E6L_FEATURE_RIGHT_LEG_DRIVE = 0x10, E6L_FEATURE_DC_COUPLED = 0x20, E6L_FEATURE_TIME = 0x40, E6L_FEATURE_DEVICE_KEY = 0x80
};

enum {
    E6L_OP_START = 0x01, E6L_OP_STOP, E6L_OP_RETRANSMIT, E6L_OP_TIME, E6L_OP_CALIBRATE, E6L_OP_RECORD_ARM,
    E6L_OP_RECORD_LIST, E6L_OP_RECORD_READ, E6L_OP_RECORD_DELETE, E6L_OP_SELF_TEST, E6L_OP_AUTHENTICATE
};

/* Third byte of a reply. */
enum {
    E6L_OK = 0, E6L_MTU_TOO_SMALL, E6L_BAD_OP, E6L_BAD_PARAMETER, E6L_BUSY, E6L_EVICTED, E6L_NOT_AUTHENTICATED,
    E6L_FRONT_END_FAULT, E6L_NO_CONTACT, E6L_NO_STREAM
};

enum { E6L_STATE_IDLE = 0, E6L_STATE_STREAMING = 1, E6L_STATE_FAULT = 2 };

enum { E6L_FAULT_FRONT_END = 0x01, E6L_FAULT_MEMORY = 0x02, E6L_FAULT_BATTERY_LOW = 0x04, E6L_FAULT_CALIBRATION = 0x08, E6L_FAULT_NO_DEVICE_KEY = 0x10 };

/* What is wrong with bytes or arguments; every function that returns an int returns one of these or a length. */
enum { E6L_ERROR_SHORT = -1, E6L_ERROR_CRC = -2, E6L_ERROR_VERSION = -3, E6L_ERROR_CODEC = -4, E6L_ERROR_LENGTH = -5, E6L_ERROR_RANGE = -6, E6L_ERROR_SPACE = -7, E6L_ERROR_BUSY = -8 };

/* ---- codec: bytes to values and back, no state ---- */

typedef struct {
    uint8_t codec, flags;
    uint16_t seq;
    uint32_t t0; /* index since START of the first sample */
    uint8_t n;   /* samples per lead */
    uint8_t contact;
} e6l_frame;

typedef struct {
    uint8_t leads, lead[E6L_MAX_LEADS]; /* lead codes 1..12 in the order of the samples */
    uint8_t codecs, features;
    uint32_t fs_mhz, lsb_pv, range_uv;
    uint16_t hpf_mhz, lpf_dhz;
    uint8_t adc_bits, preferred; /* preferred: samples per frame */
    uint16_t ring_s;
    uint32_t boot_id, calibration_nv;
    uint16_t front_end_id;
} e6l_descriptor;

typedef struct {
    uint8_t state, contact, battery_percent;
    uint16_t battery_mv;
    int16_t temperature_centi_c;
    uint32_t next_index, oldest_index;
    uint16_t overruns;
} e6l_status;

/* CRC-16/CCITT-FALSE: "123456789" gives 0x29B1. CRC-32/ISO-HDLC, begun with crc = 0: "123456789" gives 0xCBF43926. */
uint16_t e6l_crc16(const uint8_t *data, size_t length);
uint32_t e6l_crc32(uint32_t crc, const uint8_t *data, size_t length);

/* samples: interleaved [n][leads] in codes. Encoders return the number of bytes written to out; decoders E6L_OK. A code
 * that does not fit the codec is E6L_ERROR_RANGE, never clipped. The check sum is looked at before anything else. */
int e6l_frame_encode(const e6l_frame *frame, const int32_t *samples, uint8_t leads, uint8_t *out, size_t capacity);
int e6l_frame_decode(const uint8_t *data, size_t length, uint8_t leads, e6l_frame *frame, int32_t *samples, size_t capacity);
int e6l_descriptor_encode(const e6l_descriptor *descriptor, uint8_t out[E6L_DESCRIPTOR_BYTES]);
int e6l_descriptor_check(const uint8_t *data, size_t length);
int e6l_descriptor_decode(const uint8_t *data, size_t length, e6l_descriptor *descriptor);
int e6l_status_encode(const e6l_status *status, uint8_t out[E6L_STATUS_BYTES]);
int e6l_status_decode(const uint8_t *data, size_t length, e6l_status *status);
int e6l_bulk_encode(uint32_t offset, const uint8_t *data, uint16_t n, uint8_t *out, size_t capacity);
int e6l_bulk_decode(const uint8_t *data, size_t length, uint32_t *offset, const uint8_t **bytes, uint16_t *n);

/* min(wanted, (mtu - 15) / (leads x bytes)): below E6L_MIN_FRAME_SAMPLES a device refuses START. */
uint8_t e6l_samples_per_frame(uint16_t mtu, uint8_t leads, uint8_t codec, uint8_t wanted);

/* First 16 bytes of HMAC-SHA256(key, "E6L-AUTH-1" + descriptor + host nonce + device nonce): RFC 2104, FIPS 180-4. */
void e6l_auth_tag(const uint8_t key[E6L_KEY_BYTES], const uint8_t descriptor[E6L_DESCRIPTOR_BYTES],
                  const uint8_t host_nonce[E6L_NONCE_BYTES], const uint8_t device_nonce[E6L_NONCE_BYTES], uint8_t tag[E6L_TAG_BYTES]);

/* ---- the board: six functions ---- */

enum { E6L_CHANNEL_LIVE = 0, E6L_CHANNEL_CONTROL, E6L_CHANNEL_STATUS, E6L_CHANNEL_BULK };

enum {
    E6L_FRONT_END_START = 0,   /* convert; 0 = it does */
    E6L_FRONT_END_STOP,        /* save power; may come when it rests already */
    E6L_FRONT_END_CALIBRATION, /* value: seconds of pulse in place of the electrodes from the next sample on, 0 = end it */
    E6L_FRONT_END_SELF_TEST    /* returns E6L_FAULT_FRONT_END | E6L_FAULT_MEMORY | E6L_FAULT_CALIBRATION as found; -1: it does not answer */
};

typedef struct {
    void *ctx; /* first argument of each function */
    /* Queue a notification (indication on CONTROL). 0 = taken, the bytes were copied; else the queue is full, and the core
     * offers them again or keeps them in the ring. */
    int (*send)(void *ctx, uint8_t channel, const uint8_t *data, uint16_t length);
    uint64_t (*now_us)(void *ctx); /* since power-on, never backwards */
    int (*front_end)(void *ctx, uint8_t command, uint8_t value);
    void (*random_bytes)(void *ctx, uint8_t *out, uint8_t n); /* from a hardware source: nonces depend on it */
    int (*device_key)(void *ctx, uint8_t out[E6L_KEY_BYTES]); /* 0 = there is one */
    void (*power)(void *ctx, uint16_t *mv, uint8_t *percent, int16_t *centi_c);
} e6l_hal;

/* ---- the device: its fields are its own; use the functions ---- */

#define E6L_WAITING_RETRANSMISSIONS 8u

/* Bytes first, then halves, then words: a Thumb instruction of 16 bits reaches a byte 31 away, a word 124 away. */
typedef struct {
    uint8_t leads, sample_bytes, features, preferred, frame_samples, sending, has_stream, running;
    uint8_t lost_before, contact, waiting, fault, making, stored, reply_bytes;
    uint16_t mtu, seq, stream_id, recording_id, told;
    const e6l_hal *hal;
    uint8_t *ring, *record;
    uint32_t ring_samples, record_samples; /* capacities */
    int32_t rail;
    uint32_t fs_mhz, us_per_sample, us_rest, clock_rest;
    uint32_t next, held, head, pending; /* index after the newest sample; samples in the ring; its write position; not yet framed */
    uint32_t sent, overrun, calibration_left;
    uint32_t recording_index, recording_wanted, recording_kept, recording_crc;
    uint32_t read_offset, read_stop;
    uint64_t start_us, clock_us, status_due_us, recording_us;
    struct { uint32_t t0, count; } again[E6L_WAITING_RETRANSMISSIONS];
    uint8_t descriptor[E6L_DESCRIPTOR_BYTES];
    uint8_t reply[E6L_MAX_REPLY_BYTES];
    uint8_t packet[E6L_MAX_PACKET_BYTES];
} e6l_device;

/* Bytes of ring for `samples` samples (one more byte a sample: contact), and of record memory. */
#define E6L_RING_BYTES(samples, leads) ((size_t)(samples) * (3u * (leads) + 1u))
#define E6L_RECORD_BYTES(samples, leads) ((size_t)(samples) * (3u * (leads)))

/* After power-on: everything is forgotten. The descriptor is checked; ring must hold a frame. record may be NULL, 0. */
int e6l_device_init(e6l_device *dev, const e6l_hal *hal, const uint8_t descriptor[E6L_DESCRIPTOR_BYTES], uint8_t *ring, size_t ring_bytes, uint8_t *record, size_t record_bytes);

/* A host is connected with this MTU (call it again when the MTU grows), or gone: 0. Acquisition goes on either way. */
void e6l_device_link(e6l_device *dev, uint16_t mtu);

/* A write to the control characteristic. E6L_ERROR_BUSY if the reply to the one before still waits for the queue: refuse the
 * write (ATT error 0x0E); nothing was done. */
int e6l_device_control(e6l_device *dev, const uint8_t *data, size_t length);

/* n samples, interleaved [n][leads], with the electrodes that were off (E6L_RA_OFF ...) in any of them. Codes are those of the
 * converter, at most 24 bits; one at its rail or beyond sets SATURATED_1/2 here. A frame that is full is sent with the next
 * sample or tick. */
void e6l_device_samples(e6l_device *dev, const int32_t *codes, uint16_t n, uint8_t contact);

/* Send what is due and what the queue did not take before: call it after each e6l_device_samples() and when the queue has
 * room again, at least every 100 ms. */
void e6l_device_tick(e6l_device *dev);

/* The front-end delivers nothing more: the samples not yet framed are the last of the stream. */
void e6l_device_end(e6l_device *dev);

/* Value of the status characteristic. */
void e6l_device_status(e6l_device *dev, uint8_t out[E6L_STATUS_BYTES]);

/* Index of the oldest sample in the ring; index after the newest is dev->next. */
uint32_t e6l_device_oldest(const e6l_device *dev);

/* 1 if a firmware update may begin: no stream, no recording, no read, battery at 30 % or more. That the link is encrypted
 * is the port's to know and to check as well. */
int e6l_may_update(e6l_device *dev);

#ifdef __cplusplus
}
#endif
#endif
