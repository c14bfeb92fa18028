/* Counts the instructions that an emulated AArch64 program executes between two marks, block by block.
 *
 * The program marks the window with the system call getpriority(MARK, BEGIN) and getpriority(MARK, END); the kernel
 * answers EINVAL to both. At END the plugin writes, to the file named by its argument out=PATH:
 *
 *     pc count words      one line for each block of the marking thread: address, executions, opcode words (hex)
 *     foreign N           instructions of other threads inside the window
 *     total N             instructions of the marking thread: sum of count x words; the last line
 *
 * A block is counted when it is entered. QEMU ends a block at each branch and system call, so a block that is entered
 * is executed to its end (a fault in the middle would start a block of its own behind the handler).
 */
#include "qemu_api.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    GETPRIORITY = 141,   /* the system call's number in the generic table, which AArch64 uses */
    MARK = 0x6c736d76,   /* "lsmv": no process, group or user is ever asked for under this number */
    BEGIN = 1,
    END = 2,
    WORD_BYTES = 4,      /* every A64 instruction has four bytes */
    BUCKETS = 1 << 16,
};

struct block {
    struct block *next;
    uint64_t pc;
    uint64_t count;      /* written by the marking thread only, so it needs no lock */
    uint64_t foreign;    /* executions by other threads; read for its being zero */
    size_t n_words;
    uint32_t words[];
};

PLUGIN_EXPORT int qemu_plugin_version = 1;

static struct block *buckets[BUCKETS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *out_path;
static volatile bool counting;
static unsigned int marking_vcpu;

static void die(const char *what)
{
    fprintf(stderr, "window_count: %s\n", what);
    abort();
}

static uint32_t word_of(const struct qemu_plugin_insn *insn)
{
    uint32_t word = 0;
    if (qemu_plugin_insn_size(insn) != WORD_BYTES) {
        die("an instruction is not four bytes long; this counts AArch64 only");
    }
    memcpy(&word, qemu_plugin_insn_data(insn), sizeof word);
    return word;
}

static struct block *new_block(const struct qemu_plugin_tb *tb)
{
    size_t n_words = qemu_plugin_tb_n_insns(tb);
    struct block *block = calloc(1, sizeof *block + n_words * sizeof block->words[0]);
    if (block == NULL) {
        die("out of memory");
    }
    block->pc = qemu_plugin_tb_vaddr(tb);
    block->n_words = n_words;
    for (size_t i = 0; i < n_words; i++) {
        block->words[i] = word_of(qemu_plugin_tb_get_insn(tb, i));
    }
    return block;
}

static bool same(const struct block *a, const struct block *b)
{
    return a->pc == b->pc && a->n_words == b->n_words &&
           memcmp(a->words, b->words, a->n_words * sizeof a->words[0]) == 0;
}

/* Return the block of a translation. QEMU translates again whenever its cache is full, and code may be replaced at one
 * address (a library unloaded, another loaded): a block is known by its address and its words. */
static struct block *intern(const struct qemu_plugin_tb *tb)
{
    struct block *fresh = new_block(tb);
    /* Fibonacci hashing: the high bits of the product spread the addresses, whose low two bits are always zero. */
    size_t bucket = (fresh->pc * UINT64_C(0x9E3779B97F4A7C15)) >> 48;
    for (struct block *block = buckets[bucket]; block != NULL; block = block->next) {
        if (same(block, fresh)) {
            free(fresh);
            return block;
        }
    }
    fresh->next = buckets[bucket];
    buckets[bucket] = fresh;
    return fresh;
}

static void executed(unsigned int vcpu, void *user_data)
{
    struct block *block = user_data;
    if (!counting) {
        return;
    }
    if (vcpu == marking_vcpu) {
        block->count++;
    } else {
        block->foreign++;
    }
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    pthread_mutex_lock(&lock);
    struct block *block = intern(tb);
    pthread_mutex_unlock(&lock);
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, QEMU_PLUGIN_CB_NO_REGS, block);
}

static void reset(void)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct block *block = buckets[i]; block != NULL; block = block->next) {
            block->count = block->foreign = 0;
        }
    }
}

static void dump(void)
{
    uint64_t total = 0;
    uint64_t foreign = 0;
    FILE *file = fopen(out_path, "w");
    if (file == NULL) {
        die("cannot write the file named by out=");
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        for (const struct block *block = buckets[i]; block != NULL; block = block->next) {
            total += block->count * block->n_words;
            foreign += block->foreign * block->n_words;
            if (block->count == 0) {
                continue;
            }
            fprintf(file, "%" PRIx64 " %" PRIu64 " ", block->pc, block->count);
            for (size_t k = 0; k < block->n_words; k++) {
                fprintf(file, "%08" PRIx32, block->words[k]);
            }
            fputc('\n', file);
        }
    }
    fprintf(file, "foreign %" PRIu64 "\ntotal %" PRIu64 "\n", foreign, total);
    if (ferror(file) || fclose(file) != 0) {
        die("cannot finish the file named by out=");
    }
}

static void called(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                   uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != GETPRIORITY || a1 != MARK) {
        return;
    }
    pthread_mutex_lock(&lock);
    if (a2 == BEGIN) {
        reset();
        marking_vcpu = vcpu;
        counting = true;
    } else if (a2 == END && counting) {
        counting = false;
        dump();
    }
    pthread_mutex_unlock(&lock);
}

PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            out_path = strdup(argv[i] + 4);
        }
    }
    if (out_path == NULL) {
        fputs("window_count: expected the argument out=PATH\n", stderr);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
