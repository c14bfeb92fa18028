/* Stand-in for <zephyr/mgmt/mcumgr/mgmt/callbacks.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_MGMT_MCUMGR_MGMT_CALLBACKS_H
#define STUB_ZEPHYR_MGMT_MCUMGR_MGMT_CALLBACKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mgmt_cb_return { MGMT_CB_OK, MGMT_CB_ERROR_RC, MGMT_CB_ERROR_ERR };
enum { MGMT_EVT_OP_OS_MGMT_RESET = 2 << 16 | 1, MGMT_EVT_OP_IMG_MGMT_DFU_CHUNK = 3 << 16 | 1 };
typedef enum mgmt_cb_return (*mgmt_cb)(uint32_t event, enum mgmt_cb_return prev_status, int32_t *rc, uint16_t *group,
                                       bool *abort_more, void *data, size_t data_size);
struct mgmt_callback { void *node; mgmt_cb callback; uint32_t event_id; };
void mgmt_callback_register(struct mgmt_callback *callback);

#endif
