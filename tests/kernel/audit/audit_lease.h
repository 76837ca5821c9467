// SPDX-License-Identifier: Apache-2.0
// Borrows the machine's audit settings for one test: a lock keeps other tests away, and a process
// of its own puts everything back as soon as the test lets go or dies.
#pragma once

#include <libaudit.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "base/file.h"
#include "base/unique_fd.h"
#include "kernel/audit_socket.h"

namespace tenure::kernel {

class AuditLease {
 public:
  AuditLease() {
    Result<UniqueFd> lock = open_file("/run/lock/tenure-audit.lock", O_RDWR | O_CREAT);
    if (!lock || flock(lock->get(), LOCK_EX) < 0)
      return;
    lock_ = std::move(*lock);
    Result<UniqueFd> fd = open_audit_socket();
    if (!fd)
      return;
    fd_ = std::move(*fd);
    Result<AuditStatus> found = query_audit_status(fd_.get());
    int ends[2];
    if (!found || found->enabled == 2 || pipe2(ends, O_CLOEXEC) < 0)
      return;
    found_ = *found;
    fflush(nullptr);  // so that the child has nothing to print a second time
    guardian_ = fork();
    if (guardian_ == 0)
      guard(ends[0], ends[1]);
    close(ends[0]);
    alive_.reset(ends[1]);
    valid_ = true;
  }
  ~AuditLease() {
    alive_.reset();
    if (guardian_ > 0)
      waitpid(guardian_, nullptr, 0);
  }
  AuditLease(const AuditLease&) = delete;
  AuditLease& operator=(const AuditLease&) = delete;

  // False where the settings cannot be had: not root, no audit, locked by auditctl -e 2.
  bool valid() const { return valid_; }
  const AuditStatus& found() const { return found_; }
  void set_enabled(uint32_t enabled) { audit_set_enabled(fd_.get(), enabled); }
  void set_rate_limit(uint32_t limit) { audit_set_rate_limit(fd_.get(), limit); }
  void set_backlog(uint32_t limit) { audit_set_backlog_limit(fd_.get(), limit); }

 private:
  [[noreturn]] void guard(int alive, int writer) {
    setsid();  // a ^C at the test's terminal is not for us
    close(writer);
    char byte = 0;
    while (read(alive, &byte, 1) > 0) {
    }
    UniqueFd fd(audit_open());
    audit_set_rate_limit(fd.get(), found_.rate_limit);
    audit_set_backlog_limit(fd.get(), found_.backlog_limit);
    audit_set_enabled(fd.get(), found_.enabled);
    if (found_.lost == 0)
      audit_reset_lost(fd.get());
    _exit(0);
  }

  UniqueFd lock_, fd_, alive_;
  AuditStatus found_;
  pid_t guardian_ = -1;
  bool valid_ = false;
};

}  // namespace tenure::kernel
