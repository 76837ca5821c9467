// SPDX-License-Identifier: Apache-2.0
// What happens next in a generated log, and what stands between the records of guests. Included by
// log_generator.h.
#pragma once

#include "tests/unit/reader/log_generator.h"

namespace tenure::reader {

// What an ordinary rule for opened files makes.
inline void LogGenerator::noise() {
  tick();
  text_ += header("SYSCALL", serial_) +
           "arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c a1=7ffd8a a2=0 a3=0 items=1 "
           "ppid=2212 pid=2213 auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 "
           "tty=pts0 ses=3 comm=\"cat\" exe=\"/usr/bin/cat\" subj=unconfined key=\"etc\"\x1d"
           "ARCH=x86_64 SYSCALL=openat AUID=\"alice\" UID=\"root\"\n";
  text_ += header("CWD", serial_) + "cwd=\"/root\"\n";
  text_ += header("PATH", serial_) +
           "item=0 name=\"/etc/passwd\" inode=131 dev=fe:01 mode=0100644 ouid=0 ogid=0 rdev=00:00 "
           "nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0\x1dOUID=\"root\" "
           "OGID=\"root\"\n";
  text_ += header("PROCTITLE", serial_) + "proctitle=636174002F6574632F706173737764\n";
  if (pick(50) == 0)
    text_ += header("USER_START", serial_) +
             "pid=77 uid=0 auid=0 ses=9 msg='op=PAM:session_open "
             "grantors=pam_permit acct=\"root\" exe=\"/usr/sbin/cron\" "
             "hostname=? addr=? terminal=cron res=success'\n";
}

// One thing that happens to one guest or to the host.
inline void LogGenerator::step() {
  now_ms_ += static_cast<int64_t>(pick(5000));
  Guest& guest = guests_[pick(guests_.size())];
  const uint64_t dice = pick(1000);
  if (dice < 3)
    return boot(dice == 0);
  if (!guest.running)
    return start(guest, dice > 100);
  if (dice < 15)
    return start(guest, true);  // the stop before it is missing
  if (dice < 150)
    return stop(guest);
  if (dice < 350 && guest.disks < 200)
    return add_disk(guest, "attach", true);
  if (dice < 500 && guest.disks > 1)
    return detach_disk(guest);
  if (dice < 650 && guest.nics < 50) {
    open_net(guest, true);
    return add_net(guest, "attach", true);
  }
  if (dice < 800 && guest.nics > 1)
    return detach_net(guest);
  if (dice < 900)
    return set_mem(guest, "update", guest.mem + 1024, true);
  failed_attach(guest);
}

}  // namespace tenure::reader
