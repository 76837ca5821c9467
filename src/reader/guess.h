// SPDX-License-Identifier: Apache-2.0
// Who may have asked libvirt: its records name only the daemon, so the nearest virsh, virt-install
// … that somebody ran just before is offered as a guess, with the record it rests on. Never mixed
// with the requester that our own records name. Pure.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "reader/batch.h"

namespace tenure::reader {

struct Guess {
  std::optional<uint32_t> auid, uid, ses;
  std::string exe;
  std::string command;       // "virsh start web"
  bool names_guest = false;  // the command has the guest's name or uuid as a word of its own
  int64_t before_ms = 0;     // how long before the record it was run
  std::vector<std::string> evidence;  // "audit(…:419)"
};

class GuessFinder {
 public:
  // Every event of a stream, in its order. A guess is given for libvirt's starts, stops, attaches,
  // detaches and updates, if somebody ran a tool at most 30 s (naming the guest) or 5 s before.
  std::optional<Guess> event(const Event& event);

 private:
  struct Command {
    int64_t time_ms = 0;
    std::string proof;
    Guess who;
    std::vector<std::string> words;
  };
  struct Host {
    std::deque<Command> commands;  // newest last, few
    Command syscall;               // of the event whose EXECVE comes next
    uint64_t syscall_serial = 0;
  };
  void note_syscall(Host& host, const Event& event);
  void note_command(Host& host, Command command);
  std::optional<Guess> guess(const Host& host, const Event& event);

  std::map<std::string, Host, std::less<>> hosts_;
  trail::FieldSet fields_;
};

}  // namespace tenure::reader
