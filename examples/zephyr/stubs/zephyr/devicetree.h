/* Stand-in for <zephyr/devicetree.h> of Zephyr 4.2, written by hand: only what this port uses. */
#ifndef STUB_ZEPHYR_DEVICETREE_H
#define STUB_ZEPHYR_DEVICETREE_H

#define DT_NODELABEL(label) label
#define DT_PATH(path) path

#endif
