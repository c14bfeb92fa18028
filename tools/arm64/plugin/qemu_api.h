/* The part of QEMU's TCG plugin interface, version 1 (QEMU 4.2 to 8.2), that window_count.c uses.
 *
 * Debian ships no qemu-plugin.h. The names, types and meanings are those of "QEMU TCG Plugins" in QEMU's developer
 * documentation. QEMU 9 takes version 2 and later only, and since 9.1 qemu_plugin_insn_data has other arguments.
 */
#ifndef LSEMVAE_QEMU_API_H
#define LSEMVAE_QEMU_API_H

#include <stddef.h>
#include <stdint.h>

#define PLUGIN_EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS = 0 };

typedef void (*on_translate)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*on_execute)(unsigned int vcpu, void *user_data);
typedef void (*on_syscall)(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1, uint64_t a2,
                           uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, on_translate call);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, on_execute call, enum qemu_plugin_cb_flags flags,
                                          void *user_data);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, on_syscall call);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);

extern PLUGIN_EXPORT int qemu_plugin_version;
PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv);

#endif
