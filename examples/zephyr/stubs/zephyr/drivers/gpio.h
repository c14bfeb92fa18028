/* Stand-in for <zephyr/drivers/gpio.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_DRIVERS_GPIO_H
#define STUB_ZEPHYR_DRIVERS_GPIO_H

#include <stdbool.h>
#include <stdint.h>
#include <zephyr/device.h>

typedef uint8_t gpio_pin_t;
typedef uint16_t gpio_dt_flags_t;
typedef uint32_t gpio_flags_t;
typedef uint32_t gpio_port_pins_t;
#define GPIO_INPUT (1U << 16)
#define GPIO_OUTPUT_INACTIVE (5U << 17)
#define GPIO_INT_DISABLE (1U << 21)
#define GPIO_INT_EDGE_TO_ACTIVE (1U << 22)

struct gpio_dt_spec { const struct device *port; gpio_pin_t pin; gpio_dt_flags_t dt_flags; };
enum { STUB_PIN_drdy_gpios, STUB_PIN_start_gpios, STUB_PIN_reset_gpios };
#define GPIO_DT_SPEC_GET(node, property) GPIO_DT_SPEC_GET_(node, property)
#define GPIO_DT_SPEC_GET_(node, property) {.port = DEVICE_DT_GET(node), .pin = STUB_PIN_##property, .dt_flags = 0}

struct gpio_callback;
typedef void (*gpio_callback_handler_t)(const struct device *port, struct gpio_callback *cb, gpio_port_pins_t pins);
struct gpio_callback { gpio_callback_handler_t handler; gpio_port_pins_t pin_mask; };
bool gpio_is_ready_dt(const struct gpio_dt_spec *spec);
int gpio_pin_configure_dt(const struct gpio_dt_spec *spec, gpio_flags_t extra_flags);
int gpio_pin_interrupt_configure_dt(const struct gpio_dt_spec *spec, gpio_flags_t flags);
int gpio_pin_set_dt(const struct gpio_dt_spec *spec, int value);
void gpio_init_callback(struct gpio_callback *callback, gpio_callback_handler_t handler, gpio_port_pins_t pin_mask);
int gpio_add_callback(const struct device *port, struct gpio_callback *callback);

#endif
