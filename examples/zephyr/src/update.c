#include "update.h"

#include <zephyr/dfu/mcuboot.h>
#include <zephyr/mgmt/mcumgr/mgmt/callbacks.h>
#include <zephyr/mgmt/mcumgr/mgmt/mgmt.h>
#include <zephyr/sys/atomic.h>

static atomic_t may_update;

/* Each chunk of an upload, and the restart: a stream that begins in the middle of an upload stops it, and no restart ends a
 * recording. That the link is encrypted is asked by the permissions of the SMP characteristic
 * (CONFIG_MCUMGR_TRANSPORT_BT_PERM_RW_ENCRYPT). */
static enum mgmt_cb_return gate(uint32_t event, enum mgmt_cb_return before, int32_t *rc, uint16_t *group, bool *abort_more, void *data, size_t size)
{
    (void)event, (void)before, (void)group, (void)abort_more, (void)data, (void)size;
    if (atomic_get(&may_update))
        return MGMT_CB_OK;
    *rc = MGMT_ERR_EBUSY;
    return MGMT_CB_ERROR_RC;
}

static struct mgmt_callback upload = {.callback = gate, .event_id = MGMT_EVT_OP_IMG_MGMT_DFU_CHUNK};
static struct mgmt_callback restart = {.callback = gate, .event_id = MGMT_EVT_OP_OS_MGMT_RESET};

void update_init(void)
{
    mgmt_callback_register(&upload);
    mgmt_callback_register(&restart);
}

void update_allow(bool allowed)
{
    atomic_set(&may_update, allowed);
}

void update_confirm(void)
{
    if (!boot_is_img_confirmed())
        boot_write_img_confirmed();
}
