# SPDX-License-Identifier: Apache-2.0
# Sourced by ./demo: finds out, by trying, what this machine lets us do. Each probe_X sets has_X to yes or
# no and, if no, why_X to the reason in words. Nothing that a probe makes outlives it.
# shellcheck shell=bash disable=SC2034

# True if bit $1 is in the effective capabilities.
has_capability() {
  local mask
  mask=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
  (( (16#$mask >> $1) & 1 ))
}

# Where a cgroup hierarchy is mounted: $1 is cgroup2, or cgroup with the option $2.
cgroup_mount() {
  awk -v type="$1" -v option="${2:-}" '
    { for (i = 7; i <= NF; i++) if ($i == "-") break
      if ($(i + 1) == type && (option == "" || $(i + 3) ~ "(^|,)" option "(,|$)")) { print $5; exit } }
  ' /proc/self/mountinfo
}

probe_root() {
  has_root=yes
  [ "$(id -u)" = 0 ] && return
  has_root=no why_root="running as $(id -un), and sudo is not to be had"
}

# audit_enabled and audit_pid are as found. Reading the state needs CAP_AUDIT_CONTROL.
probe_audit() {
  local said
  has_audit=no audit_enabled=0 audit_pid=0
  if [ "$(id -u)" != 0 ]; then why_audit="writing audit records needs root"; return; fi
  if ! command -v auditctl > /dev/null; then why_audit="no auditctl here (package auditd)"; return; fi
  said=$(auditctl -s 2>&1)
  if ! grep -q '^enabled ' <<< "$said"; then
    said=${said##*: } said=${said##*(} said=${said%)}
    why_audit="the kernel does not tell us its audit state (${said:-no CAP_AUDIT_CONTROL})"
    return
  fi
  audit_enabled=$(sed -n 's/^enabled //p' <<< "$said")
  audit_pid=$(sed -n 's/^pid //p' <<< "$said")
  if ! has_capability 29 || ! has_capability 37; then why_audit="no CAP_AUDIT_WRITE or no CAP_AUDIT_READ"; return; fi
  has_audit=yes
}

# A cgroup of our own in one hierarchy; what decides in the end is tenured, which loads and attaches.
can_make_cgroup() {
  local mount=$1 folder=$1/tenure-probe-$$
  [ -n "$mount" ] || { echo "not mounted"; return 1; }
  if ! said=$(mkdir "$folder" 2>&1); then echo "mkdir below $mount: ${said##*: }"; return 1; fi
  rmdir "$folder"
}

probe_fence() {
  local v1 v2 why_v1 why_v2
  has_fence=no
  v2=$(cgroup_mount cgroup2)
  v1=$(cgroup_mount cgroup devices)
  if why_v2=$(can_make_cgroup "$v2"); then
    if has_capability 39 || has_capability 21; then has_fence=yes; return; fi
    why_v2="no CAP_BPF"
  fi
  if why_v1=$(can_make_cgroup "$v1"); then has_fence=yes; return; fi
  why_fence="cgroup v2: $why_v2; cgroup v1 devices: $why_v1"
}

probe_bridge() {
  local said name=tnrp$$
  has_bridge=no
  if [ ! -e /dev/net/tun ]; then why_bridge="no /dev/net/tun"; return; fi
  if ! said=$( (: <> /dev/net/tun) 2>&1); then why_bridge="/dev/net/tun: ${said##*: }"; return; fi
  if ! said=$(ip link add "$name" type bridge 2>&1); then why_bridge="ip link: ${said##*: }"; return; fi
  ip link delete "$name"
  has_bridge=yes
}

# $1: a folder for the file behind the device.
probe_loop() {
  local device file=$1/probe.img
  has_loop=no
  truncate -s 1M "$file"
  # A container may see the name of a device that it may not open.
  if ! device=$(losetup --find --show "$file" 2>&1); then
    why_loop="losetup: ${device##*: }"
  elif ! ( : < "$device" ) 2> /dev/null; then
    why_loop="$device cannot be opened"
  else
    has_loop=yes
  fi
  [ ! -b "$device" ] || losetup --detach "$device" 2> /dev/null
  rm -f "$file"
}

# A mount namespace with device nodes of its own for each guest. $1: a folder to try mknod in.
probe_private_dev() {
  local said
  has_private_dev=no
  if ! said=$(unshare --mount mount -t tmpfs none "$1" 2>&1); then
    why_private_dev="mount: ${said##*: }"
    return
  fi
  if ! said=$(mknod "$1/probe" c 1 3 2>&1); then why_private_dev="mknod: ${said##*: }"; return; fi
  rm -f "$1/probe"
  has_private_dev=yes
}

# True if the kernel of guest image $2 speaks under KVM within $1 seconds. QEMU ends with grep (SIGPIPE) or
# by the time limit.
kernel_speaks_within() {
  grep -q -m 1 'Linux version' < <(
    exec timeout --kill-after=2 "$1" qemu-system-x86_64 -nodefaults -no-user-config -display none \
      -machine pc,accel=kvm -m 192 -kernel "$2/vmlinuz" -initrd "$2/initramfs" \
      -append "console=ttyS0 earlyprintk=serial,ttyS0 panic=-1" -serial stdio -monitor none -no-reboot \
      < /dev/null 2>&1)
}

# /dev/kvm being there proves little: some hosts offer a KVM that starts QEMU, runs the firmware, and then
# hangs in the first 64-bit kernel. $1: folder of the guest image.
probe_kvm() {
  has_kvm=no
  if [ ! -e /dev/kvm ]; then why_kvm="no /dev/kvm"; return; fi
  if ! ( : <> /dev/kvm ) 2> /dev/null; then why_kvm="/dev/kvm may not be opened by $(id -un)"; return; fi
  if ! kernel_speaks_within 6 "$1"; then
    why_kvm="/dev/kvm is there, but a 64-bit Linux did not come up under it within 6 s"
    return
  fi
  has_kvm=yes
}
