// SPDX-License-Identifier: Apache-2.0
// The checks behind the table of doctor.cc, by subject. A check appends one finding for each fact
// that it looked at; it never fails as a whole.
#pragma once

#include <string>
#include <vector>

#include "doctor/doctor.h"

namespace tenure::doctor {

// Collects the findings of one check.
class Report {
 public:
  Report(std::string check, std::vector<Finding>& all) : check_(std::move(check)), all_(all) {}
  void add(Level level, std::string what, std::string remedy = "") {
    all_.push_back({level, check_, std::move(what), std::move(remedy)});
  }
  void pass(std::string what) { add(Level::Pass, std::move(what)); }
  void warn(std::string what, std::string remedy) {
    add(Level::Warn, std::move(what), std::move(remedy));
  }
  void fail(std::string what, std::string remedy) {
    add(Level::Fail, std::move(what), std::move(remedy));
  }
  void unseen(std::string what) { add(Level::Unseen, std::move(what)); }

 private:
  std::string check_;
  std::vector<Finding>& all_;
};

// audit_checks.cc
void check_audit_state(const Scope& scope, Report& report);
void check_audit_kernel(const Scope& scope, Report& report);  // failure mode, backlog, rate, rules
void check_audit_gap(const Scope& scope, Report& report);

// auditd_checks.cc
void check_auditd_disk(const Scope& scope, Report& report);   // what it does when the disk is full
void check_auditd_space(const Scope& scope, Report& report);  // days left at the measured rate
void check_auditd_files(const Scope& scope, Report& report);  // who can write the log

// host_checks.cc
void check_fence(const Scope& scope, Report& report);
void check_pins(const Scope& scope, Report& report);
void check_kvm(const Scope& scope, Report& report);
void check_libvirt(const Scope& scope, Report& report);

// ledger_checks.cc
void check_daemon(const Scope& scope, Report& report);
void check_ledger(const Scope& scope, Report& report);
void check_ledger_files(const Scope& scope, Report& report);
void check_witness(const Scope& scope, Report& report);

}  // namespace tenure::doctor
