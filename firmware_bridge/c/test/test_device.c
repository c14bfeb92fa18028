/* The device with a board whose radio queue fills up: what a simulation with an endless queue never meets. Included by
 * test_codec.c, which has the vectors. */

#define SENT_MAX 4096u
#define RING_SAMPLES 1500u   /* 3 s */
#define RECORD_SAMPLES 15000u /* 30 s */

static struct {
    uint64_t now_us;
    uint32_t room;         /* notifications that the queue still takes */
    uint8_t front_end_ok, started, pulse_s, percent, keyed;
    uint32_t n_sent;
    struct { uint8_t channel; uint16_t length; uint8_t data[E6L_MAX_PACKET_BYTES]; } last[4]; /* newest first */
    e6l_frame frames[SENT_MAX]; /* headers of the live frames taken, in order */
    int32_t first_code[SENT_MAX];
    uint32_t n_frames, n_bulk;
} board;

static int board_send(void *ctx, uint8_t channel, const uint8_t *data, uint16_t length)
{
    int32_t samples[256];
    (void)ctx;
    CHECK(length > 0 && length <= E6L_MAX_PACKET_BYTES);
    if (board.room == 0)
        return -1;
    board.room--;
    memmove(board.last + 1, board.last, sizeof board.last - sizeof board.last[0]);
    board.last[0].channel = channel;
    board.last[0].length = length;
    memcpy(board.last[0].data, data, length);
    board.n_sent++;
    if (channel == E6L_CHANNEL_LIVE && board.n_frames < SENT_MAX) {
        CHECK(e6l_frame_decode(data, length, LEADS, &board.frames[board.n_frames], samples, COUNT(samples)) == E6L_OK);
        board.first_code[board.n_frames++] = samples[0];
    }
    board.n_bulk += channel == E6L_CHANNEL_BULK;
    return 0;
}

static uint64_t board_now(void *ctx)
{
    (void)ctx;
    return board.now_us;
}

static int board_front_end(void *ctx, uint8_t command, uint8_t value)
{
    (void)ctx;
    if (command == E6L_FRONT_END_CALIBRATION)
        board.pulse_s = value;
    if (command == E6L_FRONT_END_SELF_TEST)
        return board.front_end_ok ? E6L_FAULT_MEMORY : -1;
    if (command == E6L_FRONT_END_START || command == E6L_FRONT_END_STOP)
        board.started = command == E6L_FRONT_END_START && board.front_end_ok;
    return board.front_end_ok ? 0 : -1;
}

static void board_random(void *ctx, uint8_t *out, uint8_t n)
{
    (void)ctx;
    for (uint8_t k = 0; k < n; k++)
        out[k] = (uint8_t)(0xB0 + k);
}

static int board_key(void *ctx, uint8_t out[E6L_KEY_BYTES])
{
    (void)ctx;
    for (uint8_t k = 0; k < E6L_KEY_BYTES; k++)
        out[k] = k;
    return board.keyed ? 0 : -1;
}

static void board_power(void *ctx, uint16_t *mv, uint8_t *percent, int16_t *centi_c)
{
    (void)ctx;
    *mv = 3900;
    *percent = board.percent;
    *centi_c = -250;
}

static const e6l_hal hal = {NULL, board_send, board_now, board_front_end, board_random, board_key, board_power};

static e6l_device device;
static uint8_t ring[E6L_RING_BYTES(RING_SAMPLES, LEADS)], record_memory[E6L_RECORD_BYTES(RECORD_SAMPLES, LEADS)];

static e6l_descriptor able(void)
{
    e6l_descriptor d = {
        .leads = 2, .lead = {1, 2}, .codecs = 1, .features = 0xEF, .fs_mhz = 500000, .lsb_pv = 48100, .range_uv = 403000,
        .adc_bits = 24, .preferred = 25, .ring_s = 3, .boot_id = 7, .calibration_nv = 1000000, .front_end_id = 0x1292,
    };
    return d;
}

static void power_on(e6l_descriptor description)
{
    uint8_t raw[E6L_DESCRIPTOR_BYTES];
    memset(&board, 0, sizeof board);
    board.now_us = 5000000;
    board.room = 1000000;
    board.front_end_ok = board.keyed = 1;
    board.percent = 90;
    CHECK(e6l_descriptor_encode(&description, raw) == (int)E6L_DESCRIPTOR_BYTES);
    CHECK(e6l_device_init(&device, &hal, raw, ring, sizeof ring, record_memory, sizeof record_memory) == E6L_OK);
    e6l_device_link(&device, 247);
}

static uint8_t ask(const char *hex)
{
    uint8_t raw[64];
    size_t n = bytes_of(hex, raw);
    CHECK(e6l_device_control(&device, raw, n) == E6L_OK);
    return device.reply[2];
}

/* n samples whose codes are their numbers since power-on of the test. */
static void convert(uint32_t first, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        int32_t codes[2] = {(int32_t)(first + k), -(int32_t)(first + k)};
        e6l_device_samples(&device, codes, 1, 0);
        board.now_us += 2000;
    }
}

static void test_refused_requests(const refused_case *requests, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        power_on(able());
        CHECK_IN(requests[k].name, ask(requests[k].hex) == requests[k].error);
        CHECK_IN(requests[k].name, board.n_sent == 1 && board.last[0].length == 3 && board.last[0].data[0] & 0x80u);
    }
}

static void test_pulse_lengths(const pulse_case *pulses, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        e6l_descriptor description = able();
        uint8_t request[] = {E6L_OP_CALIBRATE, 1, 1, pulses[k].seconds};
        description.fs_mhz = pulses[k].fs_mhz;
        power_on(description);
        CHECK_IN(pulses[k].name, ask("0101001900") == E6L_OK);
        CHECK_IN(pulses[k].name, e6l_device_control(&device, request, sizeof request) == E6L_OK && board.pulse_s == pulses[k].seconds);
        convert(0, pulses[k].n_samples - 1u);
        CHECK_IN(pulses[k].name, board.pulse_s == pulses[k].seconds);
        convert(0, 1);
        CHECK_IN(pulses[k].name, board.pulse_s == 0);
        uint32_t flagged = 0;
        e6l_device_tick(&device);
        for (uint32_t f = 0; f < board.n_frames; f++)
            flagged += board.frames[f].flags & E6L_FLAG_CALIBRATION ? board.frames[f].n : 0u;
        CHECK_IN(pulses[k].name, flagged + device.pending == pulses[k].n_samples);
    }
}

static void test_a_full_queue_is_an_overrun_and_the_ring_keeps_the_samples(void)
{
    power_on(able());
    CHECK(ask("0101001900") == E6L_OK);
    convert(0, 25);
    e6l_device_tick(&device);
    board.room = 0;
    convert(25, 50);
    e6l_device_tick(&device);
    board.room = 100;
    convert(75, 25);
    e6l_device_tick(&device);
    CHECK(board.n_frames == 2 && board.frames[1].t0 == 75 && board.frames[1].seq == 3);
    CHECK(board.frames[1].flags == E6L_FLAG_OVERRUN);
    CHECK(device.sent == 2 && device.overrun == 2);
    CHECK(ask("0307190000003200") == E6L_OK);
    CHECK(board.n_frames == 4 && board.first_code[2] == 25 && board.first_code[3] == 50);
    CHECK(board.frames[3].flags == E6L_FLAG_RETRANSMITTED && board.frames[3].seq == E6L_SEQ_RETRANSMITTED);
}

static void test_a_retransmission_goes_on_when_the_queue_has_room_and_live_frames_come_first(void)
{
    power_on(able());
    CHECK(ask("0101001900") == E6L_OK);
    convert(0, 1000);
    e6l_device_tick(&device);
    board.n_frames = 0;
    board.room = 4; /* the reply and three frames */
    CHECK(ask("030700000000f401") == E6L_OK);
    CHECK(board.n_frames == 3 && board.room == 0);
    convert(1000, 25);
    board.room = 2;
    e6l_device_tick(&device);
    CHECK(board.frames[3].t0 == 1000 && board.frames[4].t0 == 75);
    board.room = 100;
    e6l_device_tick(&device);
    CHECK(board.n_frames == 21 && board.frames[20].t0 == 475 && board.first_code[20] == 475);
}

static void test_a_ninth_retransmission_is_busy(void)
{
    power_on(able());
    CHECK(ask("0101001900") == E6L_OK);
    convert(0, 1000);
    e6l_device_tick(&device);
    for (int k = 0; k < 9; k++) {
        board.room = 1; /* the reply */
        CHECK(ask("0307000000000a00") == (k < 8 ? E6L_OK : E6L_BUSY));
    }
    e6l_device_link(&device, 0);
    e6l_device_link(&device, 247);
    CHECK(ask("0307000000000a00") == E6L_OK);
}

static void test_samples_that_left_the_ring_while_they_waited_are_not_sent(void)
{
    power_on(able());
    CHECK(ask("0101001900") == E6L_OK);
    convert(0, 1500);
    e6l_device_tick(&device);
    board.room = 1;
    CHECK(ask("0307000000003200") == E6L_OK);
    convert(1500, 10);
    board.room = 100;
    board.n_frames = 0;
    e6l_device_tick(&device);
    CHECK(board.n_frames == 0 && device.waiting == 0);
    CHECK(ask("0307000000003200") == E6L_EVICTED);
}

static void test_the_oldest_sample_is_sent_again_and_the_one_before_it_is_evicted(void)
{
    power_on(able());
    CHECK(ask("0101001900") == E6L_OK);
    convert(0, 1600);
    e6l_device_tick(&device);
    CHECK(e6l_device_oldest(&device) == 100);
    CHECK(ask("0307630000000200") == E6L_EVICTED && e6l_get32(device.reply + 3) == 100);
    board.n_frames = 0;
    CHECK(ask("0307640000000200") == E6L_OK && board.n_frames == 1 && board.first_code[0] == 100);
}

static void test_recording_ids_pass_over_0(void)
{
    power_on(able());
    device.recording_id = 0xFFFEu;
    CHECK(ask("06020a") == E6L_OK && e6l_get16(device.reply + 3) == 0xFFFFu);
    CHECK(ask("0903ffff") == E6L_OK && !board.started);
    CHECK(ask("06020a") == E6L_OK && e6l_get16(device.reply + 3) == 1u);
}

static void test_the_status_comes_once_a_second_and_again_if_the_queue_was_full(void)
{
    power_on(able());
    e6l_device_tick(&device);
    CHECK(board.n_sent == 1 && board.last[0].channel == E6L_CHANNEL_STATUS);
    board.now_us += 999999;
    e6l_device_tick(&device);
    CHECK(board.n_sent == 1);
    board.now_us += 1;
    board.room = 0;
    e6l_device_tick(&device);
    CHECK(board.n_sent == 1);
    board.room = 10;
    e6l_device_tick(&device);
    e6l_device_tick(&device);
    CHECK(board.n_sent == 2);
}

static void test_a_reply_to_a_host_that_is_gone_is_not_sent_to_the_next_one(void)
{
    power_on(able());
    board.room = 0;
    CHECK(ask("0101001900") == E6L_OK);
    e6l_device_link(&device, 0);
    board.room = 10;
    e6l_device_link(&device, 247);
    e6l_device_tick(&device);
    CHECK(board.n_sent == 1 && board.last[0].channel == E6L_CHANNEL_STATUS);
}

static void test_a_reply_that_waits_is_sent_first_and_keeps_the_next_request_out(void)
{
    static const uint8_t again[] = {E6L_OP_TIME, 2, 0, 0, 0, 0, 0, 0, 0, 0};
    power_on(able());
    board.room = 0;
    CHECK(ask("0101001900") == E6L_OK);
    CHECK(board.n_sent == 0 && device.running);
    CHECK(e6l_device_control(&device, again, sizeof again) == E6L_ERROR_BUSY);
    board.room = 100;
    convert(0, 25);
    e6l_device_tick(&device);
    CHECK(board.n_sent == 3 && board.last[2].channel == E6L_CHANNEL_CONTROL && board.last[2].data[0] == 0x81);
    CHECK(e6l_device_control(&device, again, sizeof again) == E6L_OK && board.last[0].data[0] == 0x84);
}

static void test_stop_sends_the_samples_that_fill_no_frame(void)
{
    power_on(able());
    CHECK(ask("0101001900") == E6L_OK);
    convert(0, 60);
    CHECK(ask("0202") == E6L_OK);
    CHECK(board.n_frames == 3 && board.frames[2].n == 10 && board.frames[2].flags == E6L_FLAG_LAST);
    CHECK(e6l_get32(device.reply + 3) == 60 && e6l_get32(device.reply + 7) == 3);
    CHECK(!board.started);
}

static void test_a_stop_on_the_end_of_a_frame_leaves_none_flagged_last(void)
{
    power_on(able());
    CHECK(ask("0101001900") == E6L_OK);
    convert(0, 50);
    CHECK(ask("0202ff") == E6L_OK);
    CHECK(board.n_frames == 2 && board.frames[1].n == 25 && board.frames[1].flags == 0);
    CHECK(e6l_get32(device.reply + 3) == 50 && e6l_get32(device.reply + 7) == 2);
}

static void test_resume_with_smaller_frames_loses_nothing(void)
{
    uint32_t n = 0;
    power_on(able());
    CHECK(ask("0101001900") == E6L_OK);
    convert(0, 40);
    e6l_device_link(&device, 0);
    e6l_device_link(&device, 45); /* 5 samples a frame */
    CHECK(ask("0102001901") == E6L_OK && device.reply[3] == 5);
    convert(40, 3);
    e6l_device_end(&device);
    for (uint32_t k = 0; k < board.n_frames; k++) {
        CHECK(board.frames[k].t0 == n);
        n += board.frames[k].n;
    }
    CHECK(n == 43 && board.frames[board.n_frames - 1u].flags == E6L_FLAG_LAST);
}

static void test_a_recording_is_read_as_the_queue_takes_it(void)
{
    power_on(able());
    CHECK(ask("06020a") == E6L_OK && board.started);
    CHECK(ask("06030a") == E6L_BUSY);
    CHECK(ask("0101001900") == E6L_BUSY);
    convert(0, 5000);
    CHECK(!board.started && device.stored && device.recording_kept == 5000);
    CHECK(device.recording_crc == e6l_crc32(0, record_memory, 30000));
    board.room = 3; /* the reply and two frames */
    CHECK(ask("080301000000000030750000") == E6L_OK);
    e6l_device_tick(&device);
    CHECK(board.n_bulk == 2 && board.last[0].length == 244);
    CHECK(!e6l_may_update(&device));
    board.room = 1;
    CHECK(ask("080401000000000001000000") == E6L_BUSY);
    board.room = 1000;
    e6l_device_tick(&device);
    CHECK(board.n_bulk == 128 && e6l_may_update(&device)); /* 30 000 bytes, 236 a frame */
}

static void test_saturation_is_flagged_from_the_codes(void)
{
    const int32_t codes[] = {8388607, 5, 3, -8388608};
    power_on(able());
    CHECK(ask("0101000400") == E6L_OK);
    e6l_device_samples(&device, codes, 2, E6L_LL_OFF);
    e6l_device_samples(&device, codes + 1, 1, 0);
    e6l_device_samples(&device, codes + 1, 1, 0);
    e6l_device_tick(&device);
    CHECK(board.n_frames == 1 && board.frames[0].contact == (E6L_LL_OFF | E6L_SATURATED_1 | E6L_SATURATED_2));
}

static void test_a_wrong_start_is_refused(void)
{
    e6l_descriptor description = able();
    uint8_t raw[E6L_DESCRIPTOR_BYTES];
    power_on(description);
    e6l_descriptor_encode(&description, raw);
    CHECK(e6l_device_init(&device, &hal, raw, ring, 100, NULL, 0) == E6L_ERROR_SPACE);
    CHECK(e6l_device_init(&device, &hal, raw, ring, sizeof ring, NULL, 0) == E6L_OK);
    CHECK(ask("06020a") == E6L_BAD_PARAMETER); /* no memory for a recording */
    raw[12] ^= 1u;
    CHECK(e6l_device_init(&device, &hal, raw, ring, sizeof ring, NULL, 0) == E6L_ERROR_CRC);
    power_on(able());
    board.front_end_ok = 0;
    CHECK(ask("0101001900") == E6L_FRONT_END_FAULT && !device.running);
    CHECK(ask("0a02") == E6L_OK && e6l_get16(device.reply + 3) & E6L_FAULT_FRONT_END);
}

static void test_device(const refused_case *requests, size_t n_requests, const pulse_case *pulses, size_t n_pulses)
{
    test_refused_requests(requests, n_requests);
    test_pulse_lengths(pulses, n_pulses);
    test_a_full_queue_is_an_overrun_and_the_ring_keeps_the_samples();
    test_a_retransmission_goes_on_when_the_queue_has_room_and_live_frames_come_first();
    test_a_ninth_retransmission_is_busy();
    test_samples_that_left_the_ring_while_they_waited_are_not_sent();
    test_the_oldest_sample_is_sent_again_and_the_one_before_it_is_evicted();
    test_recording_ids_pass_over_0();
    test_the_status_comes_once_a_second_and_again_if_the_queue_was_full();
    test_a_reply_to_a_host_that_is_gone_is_not_sent_to_the_next_one();
    test_a_reply_that_waits_is_sent_first_and_keeps_the_next_request_out();
    test_stop_sends_the_samples_that_fill_no_frame();
    test_a_stop_on_the_end_of_a_frame_leaves_none_flagged_last();
    test_resume_with_smaller_frames_loses_nothing();
    test_a_recording_is_read_as_the_queue_takes_it();
    test_saturation_is_flagged_from_the_codes();
    test_a_wrong_start_is_refused();
}
