// SPDX-License-Identifier: Apache-2.0
#include "reader/guess.h"

#include <algorithm>

#include "base/text.h"
#include "model/json.h"

namespace tenure::reader {
namespace {

constexpr size_t kRemembered = 64;          // commands a host
constexpr int64_t kNamedWindowMs = 30'000;  // a big guest may need that long to start
constexpr int64_t kNearWindowMs = 5'000;
constexpr size_t kMaxWords = 64;

bool is_tool(std::string_view word) {
  const std::string_view name = word.substr(word.rfind('/') + 1);
  return name == "virsh" || name.starts_with("virt-");
}

void take_id(const trail::Field& field, Guess& who) {
  const auto number = parse_int<uint32_t>(field.raw);
  if (!number || *number == kUnsetId)
    return;
  if (field.key == "auid")
    who.auid = number;
  if (field.key == "uid")
    who.uid = number;
  if (field.key == "ses")
    who.ses = number;
}

std::vector<std::string> words_of(std::string_view command) {
  std::vector<std::string> words;
  for (const std::string_view word : split(command, ' ')) {
    if (!word.empty() && words.size() < kMaxWords)
      words.emplace_back(word);
  }
  return words;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

}  // namespace

std::optional<Guess> GuessFinder::event(const Event& event) {
  const uint16_t type = event.view.type;
  const bool virt = type == trail::kVirtControl || type == trail::kVirtResource;
  if (!virt && type != trail::kSyscall && type != trail::kExecve && type != trail::kUserCmd)
    return std::nullopt;
  auto found = hosts_.find(event.view.node);
  if (virt)
    return found == hosts_.end() || event.view.state ? std::nullopt : guess(found->second, event);
  if (found == hosts_.end())
    found = hosts_.emplace(std::string(event.view.node), Host{}).first;
  Host& host = found->second;
  if (type == trail::kSyscall) {
    note_syscall(host, event);
    return std::nullopt;
  }
  Command command;
  if (type == trail::kExecve && host.syscall_serial == event.view.serial)
    command = host.syscall;
  command.time_ms = trail::time_ms(event.view);
  command.proof =
      model::proof_of({.order = 0, .time_ms = command.time_ms, .serial = event.view.serial});
  trail::Fields outer(event.view.outer);
  for (trail::Field field; outer.next(field);) {
    const bool argument =
        field.key.size() > 1 && field.key[0] == 'a' && field.key[1] >= '0' && field.key[1] <= '9';
    if (type == trail::kUserCmd)
      take_id(field, command.who);
    else if (argument && command.words.size() < kMaxWords)
      command.words.push_back(trail::decode_value(field));
  }
  trail::Fields body(event.view.body);
  for (trail::Field field; body.next(field);) {
    if (field.key == "cmd")
      command.words = words_of(trail::decode_value(field));
    if (field.key == "exe")
      command.who.exe = trail::decode_value(field);
  }
  note_command(host, std::move(command));
  return std::nullopt;
}

void GuessFinder::note_syscall(Host& host, const Event& event) {
  host.syscall = Command{};
  host.syscall_serial = event.view.serial;
  trail::Fields fields(event.view.outer);
  for (trail::Field field; fields.next(field);) {
    take_id(field, host.syscall.who);
    if (field.key == "exe")
      host.syscall.who.exe = trail::decode_value(field);
  }
}

void GuessFinder::note_command(Host& host, Command command) {
  if (std::none_of(command.words.begin(), command.words.end(), is_tool))
    return;
  command.who.command = joined(command.words);
  host.commands.push_back(std::move(command));
  if (host.commands.size() > kRemembered)
    host.commands.pop_front();
}

std::optional<Guess> GuessFinder::guess(const Host& host, const Event& event) {
  const int64_t at = trail::time_ms(event.view);
  const auto near = [at](const Command& command, int64_t window) {
    return command.time_ms <= at && at - command.time_ms <= window;
  };
  if (host.commands.empty() || !near(host.commands.back(), kNamedWindowMs))
    return std::nullopt;
  fields_.collect(event.view);
  if (fields_.find(trail::Key::ReqUid) != nullptr || fields_.find(trail::Key::ReqAuid) != nullptr)
    return std::nullopt;
  std::string scratch;
  const std::string guest(fields_.text(trail::Key::Vm, scratch));
  const std::string_view uuid = fields_.raw(trail::Key::Uuid);
  const Command* best = nullptr;
  bool named = false;
  for (const Command& command : host.commands) {
    const bool names = std::any_of(command.words.begin(), command.words.end(),
                                   [&](const auto& w) { return w == guest || w == uuid; });
    if (!near(command, names ? kNamedWindowMs : kNearWindowMs) || (named && !names))
      continue;
    best = &command;
    named = names;
  }
  if (best == nullptr)
    return std::nullopt;
  Guess guess = best->who;
  guess.names_guest = named;
  guess.before_ms = at - best->time_ms;
  guess.evidence = {best->proof};
  return guess;
}

}  // namespace tenure::reader
