/* Stand-in for <zephyr/sys/reboot.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_SYS_REBOOT_H
#define STUB_ZEPHYR_SYS_REBOOT_H

#define SYS_REBOOT_COLD 1
void sys_reboot(int type) __attribute__((noreturn));

#endif
