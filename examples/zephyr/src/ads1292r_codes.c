#include "ads1292r_codes.h"

#include <string.h>

void ads1292r_registers(uint8_t out[ADS_REGISTERS])
{
    memset(out, 0, ADS_REGISTERS);
    out[ADS_REG_CONFIG1] = ADS_CONFIG1_500_SPS;
    out[ADS_REG_CONFIG2] = ads1292r_config2(0);
    out[ADS_REG_LOFF] = ADS_LOFF_DC_6NA_95;
    out[ADS_REG_CH1SET] = out[ADS_REG_CH2SET] = ads1292r_chset(0);
    out[ADS_REG_RLD_SENS] = ADS_RLD_SENS_ON;
    out[ADS_REG_LOFF_SENS] = ADS_LOFF_SENS_3;
    out[ADS_REG_RESP1] = ADS_RESP1_OFF;
    out[ADS_REG_RESP2] = ADS_RESP2_RLDREF;
    out[ADS_REG_GPIO] = ADS_GPIO_OUTPUTS;
}

uint8_t ads1292r_readable(uint8_t reg)
{
    if (reg == ADS_REG_ID)
        return 0x00;
    if (reg == ADS_REG_LOFF_STAT)
        return 0x40; /* CLK_DIV; the rest is measured */
    if (reg == ADS_REG_GPIO)
        return 0x0C; /* direction; the rest is the level of the pins */
    return 0xFF;
}

uint8_t ads1292r_config2(int test)
{
    uint8_t value = ADS_CONFIG2_ALWAYS | ADS_CONFIG2_LOFF_COMP | ADS_CONFIG2_REFBUF;
    return test ? value | ADS_CONFIG2_INT_TEST | ADS_CONFIG2_TEST_1HZ : value;
}

uint8_t ads1292r_chset(int test)
{
    return ADS_CHSET_GAIN_6 | (test ? ADS_CHSET_MUX_TEST : ADS_CHSET_MUX_ELECTRODES);
}

int32_t ads1292r_code(const uint8_t bytes[3])
{
    uint32_t code = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
    return (int32_t)(code ^ 0x800000u) - 0x800000;
}

/* Status word (Data Output Protocol): 1100, then RLD_STAT, IN2N_OFF, IN2P_OFF, IN1N_OFF, IN1P_OFF, two GPIO pins, 13 zeros.
 * RLD_STAT says nothing while the right-leg amplifier runs, so RL is never told to be off; that of IN2N is not asked for. */
static uint8_t contact_of(uint32_t word)
{
    uint8_t contact = 0;
    if (word & 1ul << 15)
        contact |= E6L_LA_OFF; /* IN1P */
    if (word & 1ul << 16)
        contact |= E6L_RA_OFF; /* IN1N, and IN2N with it */
    if (word & 1ul << 17)
        contact |= E6L_LL_OFF; /* IN2P */
    return contact;
}

int ads1292r_sample(const uint8_t bytes[ADS_SAMPLE_BYTES], int32_t codes[2], uint8_t *contact)
{
    uint32_t word = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
    if ((word & 0xF01FFFul) != 0xC00000ul)
        return E6L_ERROR_VERSION;
    codes[0] = ads1292r_code(bytes + 3);
    codes[1] = ads1292r_code(bytes + 6);
    *contact = contact_of(word);
    return E6L_OK;
}

uint32_t ads1292r_rate_mhz(uint32_t conversions, uint64_t ticks, uint32_t ticks_per_s)
{
    return ticks ? (uint32_t)(((uint64_t)conversions * 1000u * ticks_per_s + ticks / 2u) / ticks) : 0u;
}

int ads1292r_rate_plausible(uint32_t mhz)
{
    return mhz > ADS_NOMINAL_MHZ / 100u * 97u && mhz < ADS_NOMINAL_MHZ / 100u * 103u;
}

uint32_t ads1292r_rate_to_describe(uint32_t kept_mhz, uint32_t measured_mhz)
{
    uint32_t apart = kept_mhz > measured_mhz ? kept_mhz - measured_mhz : measured_mhz - kept_mhz;
    return (uint64_t)apart * 1000000u <= (uint64_t)200u * kept_mhz ? kept_mhz : measured_mhz;
}

int ads1292r_pulse_in_range(int32_t min, int32_t max)
{
    /* Both the pulse and the weight of a code follow the reference, so its height in codes does not: 41 943. */
    int64_t expected = (int64_t)ADS_PULSE_NV * 1000 / ADS_LSB_PV, found = (int64_t)max - min;
    return found * 100 >= expected * 95 && found * 100 <= expected * 105;
}

void ads1292r_describe(e6l_descriptor *out, uint32_t fs_mhz, uint32_t boot_id, uint16_t ring_s, int has_key)
{
    memset(out, 0, sizeof *out);
    out->leads = 2;
    out->lead[0] = 1; /* I = LA - RA: channel 1 */
    out->lead[1] = 2; /* II = LL - RA: channel 2 */
    out->codecs = 1u << E6L_RAW24;
    out->features = E6L_FEATURE_RETRANSMIT | E6L_FEATURE_RECORD | E6L_FEATURE_CALIBRATION | E6L_FEATURE_LEAD_OFF |
                    E6L_FEATURE_RIGHT_LEG_DRIVE | E6L_FEATURE_DC_COUPLED | E6L_FEATURE_TIME;
    if (has_key)
        out->features |= E6L_FEATURE_DEVICE_KEY;
    out->fs_mhz = fs_mhz;
    out->lsb_pv = ADS_LSB_PV;
    out->range_uv = ADS_RANGE_UV;
    out->hpf_mhz = 0;
    out->lpf_dhz = ADS_LPF_DHZ;
    out->adc_bits = 24;
    out->preferred = 25;
    out->ring_s = ring_s;
    out->boot_id = boot_id;
    out->calibration_nv = ADS_PULSE_NV;
    out->front_end_id = 0x1292;
}

uint8_t ads1292r_battery_percent(uint16_t mv)
{
    static const struct { uint16_t mv; uint8_t percent; } points[] = {
        {3300, 0}, {3500, 5}, {3600, 10}, {3700, 30}, {3800, 55}, {3900, 70}, {4000, 80}, {4200, 100},
    };
    const unsigned last = sizeof points / sizeof *points - 1u;
    if (mv <= points[0].mv)
        return 0;
    if (mv >= points[last].mv)
        return 100;
    unsigned k = 1;
    while (mv > points[k].mv)
        k++;
    unsigned step = (unsigned)points[k].mv - points[k - 1].mv, rise = (unsigned)points[k].percent - points[k - 1].percent;
    return (uint8_t)(points[k - 1].percent + (mv - points[k - 1].mv) * rise / step);
}
