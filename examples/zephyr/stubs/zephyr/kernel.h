/* Stand-in for <zephyr/kernel.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_KERNEL_H
#define STUB_ZEPHYR_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <zephyr/device.h>
#include <zephyr/sys/atomic.h>

#define ARG_UNUSED(x) (void)(x)
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define BIT(n) (1UL << (n))

typedef struct { int64_t ticks; } k_timeout_t; /* a tick is 1 / 32 768 s on an nRF */
#define K_NO_WAIT ((k_timeout_t){0})
#define K_FOREVER ((k_timeout_t){-1})
#define K_MSEC(ms) ((k_timeout_t){(int64_t)(ms) * 32768 / 1000})
#define K_SECONDS(s) K_MSEC((s) * 1000)

struct k_sem { unsigned int count, limit; };
#define K_SEM_DEFINE(name, initial, most) struct k_sem name = {(initial), (most)}
int k_sem_take(struct k_sem *sem, k_timeout_t timeout);
void k_sem_give(struct k_sem *sem);
void k_sem_reset(struct k_sem *sem);

struct k_mutex { unsigned int held; };
#define K_MUTEX_DEFINE(name) struct k_mutex name = {0}
int k_mutex_lock(struct k_mutex *mutex, k_timeout_t timeout);
int k_mutex_unlock(struct k_mutex *mutex);

struct k_spinlock { int held; };
typedef struct { int key; } k_spinlock_key_t;
k_spinlock_key_t k_spin_lock(struct k_spinlock *l);
void k_spin_unlock(struct k_spinlock *l, k_spinlock_key_t key);

struct k_msgq { char *buffer; size_t size; uint32_t most, used, first; };
#define K_MSGQ_DEFINE(name, bytes, count, alignment) \
    static char name##_buffer[(bytes) * (count)];    \
    struct k_msgq name = {name##_buffer, (bytes), (count), 0, 0}
int k_msgq_put(struct k_msgq *msgq, const void *data, k_timeout_t timeout);
int k_msgq_get(struct k_msgq *msgq, void *data, k_timeout_t timeout);
int k_msgq_peek(struct k_msgq *msgq, void *data);
void k_msgq_purge(struct k_msgq *msgq);

struct k_thread { int running; };
typedef struct k_thread *k_tid_t;
typedef struct { char byte; } k_thread_stack_t;
typedef void (*k_thread_entry_t)(void *p1, void *p2, void *p3);
#define K_PRIO_COOP(x) (-(16 - (x)))
#define K_THREAD_STACK_DEFINE(name, bytes) k_thread_stack_t name[bytes]
#define K_THREAD_STACK_SIZEOF(name) sizeof(name)
k_tid_t k_thread_create(struct k_thread *new_thread, k_thread_stack_t *stack, size_t stack_size, k_thread_entry_t entry, void *p1,
                        void *p2, void *p3, int prio, uint32_t options, k_timeout_t delay);

struct k_work;
typedef void (*k_work_handler_t)(struct k_work *work);
struct k_work { k_work_handler_t handler; };
struct k_work_delayable { struct k_work work; };
#define K_WORK_DEFINE(name, function) struct k_work name = {function}
#define K_WORK_DELAYABLE_DEFINE(name, function) struct k_work_delayable name = {{function}}
int k_work_submit(struct k_work *work);
int k_work_reschedule(struct k_work_delayable *dwork, k_timeout_t delay);
int k_work_cancel_delayable(struct k_work_delayable *dwork);

int32_t k_msleep(int32_t ms);
void k_busy_wait(uint32_t usec_to_wait);
uint32_t k_uptime_get_32(void);
int64_t k_uptime_ticks(void);
uint32_t k_cycle_get_32(void);
int sys_clock_hw_cycles_per_sec(void);
uint64_t k_ticks_to_us_floor64(uint64_t t);

#endif
