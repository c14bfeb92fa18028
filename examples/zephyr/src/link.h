/* The one connection: advertising, encryption, MTU, parameters. */
#ifndef E6L_PORT_LINK_H
#define E6L_PORT_LINK_H

#include <stdint.h>
#include <zephyr/bluetooth/conn.h>
#include <zephyr/bluetooth/uuid.h>
#include <zephyr/kernel.h>

/* Bluetooth and stored bonds, then advertising of `service` under `name`. `begins` is called before a new host can do anything. */
int link_init(const char *name, const struct bt_uuid_128 *service, void (*begins)(void), struct k_sem *wake);

/* Number of the connection, from 1; MTU, 0 while there is none or it is not encrypted. */
void link_state(uint32_t *connection, uint16_t *mtu);
uint32_t link_number(void);

/* The connection if it is encrypted, referenced: bt_conn_unref() it. */
struct bt_conn *link_encrypted(void);

#endif
