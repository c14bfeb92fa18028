/* ADS1292R as numbers: register bytes, what a sample says, what the device describes. No hardware, no Zephyr: the same
 * file runs on a workstation, where tests/firmware_bridge/c/test_port_zephyr.py checks it.
 *
 * Facts are those of the data sheet SBAS502C (ADS1291, ADS1292, ADS1292R, revision of April 2020), by the names of its sections
 * and registers. README.md says which were looked up; the others are from memory, "[?]" the least certain, and must be
 * held against the data sheet before a board is built.
 */
#ifndef ADS1292R_CODES_H
#define ADS1292R_CODES_H

#include <stdint.h>

#include "e6l.h"

/* ---- commands (SPI Command Definitions, table 15) ---- */

enum {
    ADS_WAKEUP = 0x02, ADS_STANDBY = 0x04, ADS_RESET = 0x06, ADS_START = 0x08, ADS_STOP = 0x0A, ADS_RDATAC = 0x10, ADS_SDATAC = 0x11,
    ADS_RREG = 0x20, ADS_WREG = 0x40 /* plus the first register; then number of registers - 1 */
};

/* ---- registers (Register Maps) ---- */

enum {
    ADS_REG_ID = 0, ADS_REG_CONFIG1, ADS_REG_CONFIG2, ADS_REG_LOFF, ADS_REG_CH1SET, ADS_REG_CH2SET, ADS_REG_RLD_SENS, ADS_REG_LOFF_SENS,
    ADS_REG_LOFF_STAT, ADS_REG_RESP1, ADS_REG_RESP2, ADS_REG_GPIO, ADS_REGISTERS
};

#define ADS_ID_1292R 0x73u /* REV_ID 011 = ADS1292R, bit 4 set, last bits 11 */

#define ADS_CONFIG1_500_SPS 0x02u  /* DR = 010, continuous conversion: f_MOD / 256 */
#define ADS_CONFIG2_ALWAYS 0x80u   /* bit 7 must be 1 */
#define ADS_CONFIG2_LOFF_COMP 0x40u /* PDB_LOFF_COMP: lead-off comparators on */
#define ADS_CONFIG2_REFBUF 0x20u   /* PDB_REFBUF: internal reference on; VREF_4V = 0: 2.42 V */
#define ADS_CONFIG2_INT_TEST 0x02u /* test signal on: +-(VREFP - VREFN) / 2400 */
#define ADS_CONFIG2_TEST_1HZ 0x01u /* TEST_FREQ: square wave of 1 Hz instead of dc */
#define ADS_LOFF_DC_6NA_95 0x10u   /* COMP_TH = 000: 95 % and 5 % of the supply; bit 4 must be 1; 6 nA; FLEAD_OFF = 0: dc */
#define ADS_CHSET_GAIN_6 0x00u     /* GAIN = 000 */
#define ADS_CHSET_MUX_ELECTRODES 0x00u
#define ADS_CHSET_MUX_TEST 0x05u   /* the test signal takes the place of the electrodes */
#define ADS_RLD_SENS_ON 0x27u      /* PDB_RLD; RLD2P, RLD1N, RLD1P: LL, RA, LA, each once; chop f_MOD / 16 */
#define ADS_LOFF_SENS_3 0x07u      /* IN1P, IN1N, IN2P; IN2N is the electrode of IN1N and needs no second current */
#define ADS_RESP1_OFF 0x02u        /* respiration off; bit 1 must be 1 */
#define ADS_RESP2_RLDREF 0x03u     /* RLDREF_INT: mid-supply made inside; bit 0 must be 1 */
#define ADS_GPIO_OUTPUTS 0x00u     /* both unused pins are outputs, low: they must not float */

/* Conversions that hold both sides of a change at the input: the filter is a third-order sinc, the change falls anywhere
 * within a conversion, and one more for the input itself. */
#define ADS_SETTLE_SAMPLES 5u
#define ADS_SAMPLE_BYTES 9u
#define ADS_NOMINAL_MHZ 500000u
#define ADS_RAIL 0x7FFFFF /* clips at 7FFFFF and 800000 (Data Format) */

/* Values from CONFIG1 to GPIO as they must be, electrodes connected; LOFF_STAT is 0 (CLK_DIV = 0: 512 kHz) when written. */
void ads1292r_registers(uint8_t out[ADS_REGISTERS]);

/* Bits of a register that read back as written: 0 for ID, and for the measured bits of LOFF_STAT and GPIO. */
uint8_t ads1292r_readable(uint8_t reg);

/* CONFIG2 and the channel registers with the test signal in place of the electrodes, or without. */
uint8_t ads1292r_config2(int test);
uint8_t ads1292r_chset(int test);

/* ---- a sample ---- */

/* Signed value of three bytes, most significant first (Data Format). */
int32_t ads1292r_code(const uint8_t bytes[3]);

/* 9 bytes: status word, channel 1 (lead I), channel 2 (lead II). E6L_OK, or E6L_ERROR_VERSION if the word does not begin with
 * 1100 and end in 13 zeros: then the bytes are out of step with the converter, and no number in them is a sample. */
int ads1292r_sample(const uint8_t bytes[ADS_SAMPLE_BYTES], int32_t codes[2], uint8_t *contact);

/* ---- numbers of the device ---- */

/* Weight of a code: VREF / gain / (2^23 - 1). */
#define ADS_VREF_UV 2420000u
#define ADS_GAIN 6u
#define ADS_LSB_PV 48081u
#define ADS_RANGE_UV (ADS_VREF_UV / ADS_GAIN)
/* Peak to peak: 2 x 2.42 V / 2400. */
#define ADS_PULSE_NV 2016667u
/* -3 dB of the sinc3 filter: 0.262 f_DR (Digital Decimation Filter). */
#define ADS_LPF_DHZ 1310u

/* Rate from a count of conversions over ticks of a crystal clock, mHz, rounded. */
uint32_t ads1292r_rate_mhz(uint32_t conversions, uint64_t ticks, uint32_t ticks_per_s);

/* 1 if this may be the rate of an ADS1292R at 500 SPS: the internal oscillator is good to some percent over temperature [?]. */
int ads1292r_rate_plausible(uint32_t mhz);

/* The rate to describe: the one kept from before unless the oscillator has moved by more than 200 ppm. A host takes a device
 * that comes back after a power cut with another rate for another device. */
uint32_t ads1292r_rate_to_describe(uint32_t kept_mhz, uint32_t measured_mhz);

/* 1 if a pulse that reached from min to max is within 5 % of the test signal (PROTOCOL.md section 10). */
int ads1292r_pulse_in_range(int32_t min, int32_t max);

void ads1292r_describe(e6l_descriptor *out, uint32_t fs_mhz, uint32_t boot_id, uint16_t ring_s, int has_key);

/* Charge of a lithium-polymer cell from its voltage at light load: an estimate, linear between eight points. */
uint8_t ads1292r_battery_percent(uint16_t mv);

#endif
