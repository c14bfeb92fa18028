#!/bin/busybox sh
# First process of the emulated machine: host files read-only under a layer in memory, then the job, then the end.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do
    insmod "/modules/$module" || echo "level3: $module was not loaded"
done </modules/order

# "loose" trusts what was read once: whatever may change on the host while the machine runs was copied for it.
mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro host /mnt/host || poweroff -f
mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288 out /mnt/out || poweroff -f
. /mnt/out/settings

# layered FOLDER LOWER NAME: shows LOWER at FOLDER; what the guest writes there stays in memory, below NAME.
layered() {
    mkdir -p "/mnt/rw/$3/upper" "/mnt/rw/$3/work"
    mount -t overlay -o "lowerdir=$2,upperdir=/mnt/rw/$3/upper,workdir=/mnt/rw/$3/work" overlay "$1"
}
mount -t tmpfs -o size=75% tmpfs /mnt/rw
layered /newroot /mnt/host host
mkdir -p /newroot/run /newroot/proc /newroot/sys /newroot/dev /newroot/level3
mount -t tmpfs tmpfs /newroot/run
mkdir -p /newroot/run/dbus /newroot/run/release
layered /newroot/run/release "/mnt/host$RELEASE_ROOT" release
for root in /newroot /newroot/run/release; do
    mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/run/dbus" "$root/var/lib/bluetooth" "$root/etc"
    mount -o bind /proc "$root/proc"
    mount -o bind /sys "$root/sys"
    mount -o bind /dev "$root/dev"
done
mount -o bind /newroot/run/dbus /newroot/run/release/run/dbus
mount -o bind /mnt/out /newroot/level3
# The bus asks for the names of the users it meets, and there is one.
echo "root:x:0:0:root:/root:/bin/sh" >/newroot/run/release/etc/passwd
echo "root:x:0:" >/newroot/run/release/etc/group
ifconfig lo 127.0.0.1 up

chroot /newroot /bin/sh /level3/job.sh >/mnt/out/job.log 2>&1
echo $? >/mnt/out/job.rc
dmesg >/mnt/out/dmesg.log
sync
poweroff -f
