/* Stand-in for <zephyr/mgmt/mcumgr/mgmt/mgmt.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_MGMT_MCUMGR_MGMT_MGMT_H
#define STUB_ZEPHYR_MGMT_MCUMGR_MGMT_MGMT_H

enum mcumgr_err_t { MGMT_ERR_EOK = 0, MGMT_ERR_EBUSY = 10, MGMT_ERR_EACCESSDENIED = 11 };

#endif
