/* SHA-256 (FIPS 180-4) and HMAC (RFC 2104) for AUTHENTICATE: small rather than fast, a few hundred bytes of work a tag. */
#include <string.h>

#include "e6l.h"
#include "e6l_bytes.h"

#define BLOCK_BYTES 64u
#define DIGEST_BYTES 32u
#define DIGEST_WORDS 8u
#define DOMAIN_BYTES 10u
#define TEXT_BYTES (3u * BLOCK_BYTES) /* key, and the 82 bytes that are signed with their padding */
#define PADDING_BYTES 9u /* the mark 0x80 and the length */

/* Fractional parts of the cube roots of the first 64 primes (FIPS 180-4, 4.2.2). */
static const uint32_t round_constants[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u,
};

/* Fractional parts of the square roots of the first 8 primes (FIPS 180-4, 5.3.3). */
static const uint32_t first_state[DIGEST_WORDS] = {
    0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au, 0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u,
};

static uint32_t rotated(uint32_t x, unsigned n)
{
    return x >> n | x << (32u - n);
}

static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void store_word(uint8_t *p, uint32_t x)
{
    p[0] = (uint8_t)(x >> 24);
    p[1] = (uint8_t)(x >> 16);
    p[2] = (uint8_t)(x >> 8);
    p[3] = (uint8_t)x;
}

/* w is a ring of 16 words of the schedule: once used, word t makes room for word t + 16 (after round 47: for nothing). */
static void compress(uint32_t state[DIGEST_WORDS], const uint8_t *block)
{
    uint32_t w[16], v[DIGEST_WORDS];
    memcpy(v, state, sizeof v);
    for (unsigned t = 0; t < 16u; t++)
        w[t] = word_at(block + 4u * t);
    for (unsigned t = 0; t < 64u; t++) {
        uint32_t *wt = &w[t & 15u], w1 = w[(t + 1u) & 15u], w14 = w[(t + 14u) & 15u];
        uint32_t a = v[0], e = v[4], t1 = v[7] + round_constants[t] + *wt;
        t1 += (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + (v[6] ^ (e & (v[5] ^ v[6])));
        *wt += (rotated(w1, 7) ^ rotated(w1, 18) ^ w1 >> 3) + w[(t + 9u) & 15u] + (rotated(w14, 17) ^ rotated(w14, 19) ^ w14 >> 10);
        uint32_t t2 = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & v[1]) | (v[2] & (a | v[1])));
        memmove(v + 1, v, sizeof v - sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (unsigned k = 0; k < DIGEST_WORDS; k++)
        state[k] += v[k];
}

/* One hash of HMAC. text: room for the key, then a message of `length` bytes. Puts in the key, padded with zeros to a block
 * and each byte of it turned over by `pad`, and replaces the message by the digest. */
static void keyed_hash(uint8_t *text, uint32_t length, const uint8_t *key, uint8_t pad)
{
    uint32_t state[DIGEST_WORDS], bytes = BLOCK_BYTES + length;
    memcpy(state, first_state, sizeof state);
    for (unsigned k = 0; k < BLOCK_BYTES; k++)
        text[k] = (uint8_t)((k < E6L_KEY_BYTES ? key[k] : 0u) ^ pad);
    memset(text + bytes, 0, TEXT_BYTES - bytes);
    text[bytes] = 0x80;
    uint32_t end = (bytes + PADDING_BYTES + BLOCK_BYTES - 1u) & ~(BLOCK_BYTES - 1u);
    store_word(text + end - 4u, bytes * 8u);
    for (uint32_t at = 0; at < end; at += BLOCK_BYTES)
        compress(state, text + at);
    for (unsigned k = 0; k < DIGEST_WORDS; k++)
        store_word(text + BLOCK_BYTES + 4u * k, state[k]);
}

void e6l_auth_tag(const uint8_t key[E6L_KEY_BYTES], const uint8_t descriptor[E6L_DESCRIPTOR_BYTES],
                  const uint8_t host_nonce[E6L_NONCE_BYTES], const uint8_t device_nonce[E6L_NONCE_BYTES], uint8_t tag[E6L_TAG_BYTES])
{
    static const char domain[DOMAIN_BYTES] = {'E', '6', 'L', '-', 'A', 'U', 'T', 'H', '-', '1'};
    uint8_t text[TEXT_BYTES], *p = text + BLOCK_BYTES;
    memcpy(p, domain, DOMAIN_BYTES);
    memcpy(p += DOMAIN_BYTES, descriptor, E6L_DESCRIPTOR_BYTES);
    memcpy(p += E6L_DESCRIPTOR_BYTES, host_nonce, E6L_NONCE_BYTES);
    memcpy(p + E6L_NONCE_BYTES, device_nonce, E6L_NONCE_BYTES);
    keyed_hash(text, DOMAIN_BYTES + E6L_DESCRIPTOR_BYTES + 2u * E6L_NONCE_BYTES, key, 0x36);
    keyed_hash(text, DIGEST_BYTES, key, 0x5C);
    memcpy(tag, text + BLOCK_BYTES, E6L_TAG_BYTES);
    memset(text, 0, BLOCK_BYTES); /* the key does not stay on the stack */
}
