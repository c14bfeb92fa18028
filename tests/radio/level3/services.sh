# The system bus and the Bluetooth service, from the release under test. Read by the job before the program starts.
RELEASE=/run/release
cat >"$RELEASE/run/dbus/level3.conf" <<'CONF'
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
CONF
chroot "$RELEASE" /usr/bin/dbus-daemon --config-file=/run/dbus/level3.conf --nofork --nopidfile >/level3/dbus.log 2>&1 &
while [ ! -S /run/dbus/system_bus_socket ]; do sleep 0.1; done

# As under systemd with Restart=on-failure; a line of the log is an end of the service. A file holds it back.
serve() {
    while :; do
        chroot "$RELEASE" /usr/libexec/bluetooth/bluetoothd -n >>/level3/bluetoothd.log 2>&1
        echo "bluetoothd ended with status $?" >>/level3/bluetoothd-ends.log
        sleep 1
        while [ -e /run/no-bluetoothd ]; do sleep 0.2; done
    done
}
serve &

# bleak asks this program for the version of BlueZ.
mkdir -p /run/bin
printf '#!/bin/sh\nexec chroot %s /usr/bin/bluetoothctl "$@"\n' "$RELEASE" >/run/bin/bluetoothctl
chmod 755 /run/bin/bluetoothctl
PATH=/run/bin:$PATH
export PATH
