// SPDX-License-Identifier: Apache-2.0
// The fence on cgroup v1: devices.allow, devices.deny, devices.list. A write can report success and
// do nothing, or something else (a deny of what is not there; a deny of any minor, which leaves the
// single minors; all lines of a write but the first), so only what devices.list says afterwards is
// claimed. A write holds one line for one entry and nothing else.
#include "kernel/fence_v1.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/text.h"
#include "kernel/fence_common.h"

namespace tenure::kernel {
namespace {

constexpr size_t kMaxList = 1U << 20;  // bytes of devices.list: about 60,000 entries

using Rules = std::vector<AclRule>;

Error unreadable(std::string_view line) {
  return {Errc::Corrupt,
          fmt::format("devices.list has a line \"{}\" of unknown form", printable(line))};
}

// "c 1:3 rwm", "c 136:* rw"
Result<AclRule> parse_line(std::string_view line) {
  auto words = split(line, ' ');
  if (words.size() != 3 || words[0].size() != 1)
    return fail(unreadable(line));
  auto numbers = split(words[1], ':');
  if (numbers.size() != 2)
    return fail(unreadable(line));
  if (words[0] == "a" || numbers[0] == "*")
    return fail(Errc::Lost,
                fmt::format("devices.list has \"{}\": more is allowed than any guest gets",
                            printable(line)));
  auto major = parse_int<uint32_t>(numbers[0]);
  auto minor = parse_int<uint32_t>(numbers[1]);
  auto access = parse_access(words[2]);
  bool known = words[0] == "b" || words[0] == "c";
  if (!known || !major || (!minor && numbers[1] != "*") || !access)
    return fail(unreadable(line));
  return AclRule{.type = words[0] == "b" ? DeviceType::Block : DeviceType::Char,
                 .major = *major,
                 .minor = minor,
                 .access = *access};
}

bool same_entry(const AclRule& a, const AclRule& b) {
  return a.type == b.type && a.major == b.major && a.minor == b.minor;
}

class FenceV1 final : public Fence {
 public:
  explicit FenceV1(CgroupHandle cgroup) : cgroup_(std::move(cgroup)) {}

  CgroupVersion version() const override { return CgroupVersion::V1; }
  uint32_t slot() const override { return 0; }
  Result<Outcome> deny_all() override;
  Result<Outcome> set(const AclRule& rule) override;
  Result<Rules> list() const override;
  Result<std::vector<uint32_t>> other_programs() const override { return {}; }
  Result<Outcome> restore() override;
  Result<> remove_program(uint32_t) override {
    return fail(Errc::NotFound, "cgroup v1 has no device programs");
  }
  Result<> dissolve() override { return {}; }  // the list goes with the cgroup
  Result<std::optional<uint64_t>> denials() const override { return std::nullopt; }

  // "a" to devices.deny; Busy if the cgroup has children (the kernel's EINVAL).
  Result<> write_deny_all();
  void mark_created() { created_ = true; }

 private:
  Result<> write_rule(const char* file, AclRule entry, Access letters) const;
  Result<Access> access_of(const AclRule& entry) const;

  CgroupHandle cgroup_;
  bool created_ = false;  // by create(), and not confirmed by a deny_all() yet
};

Result<> FenceV1::write_deny_all() {
  TRY(UniqueFd fd, open_at(cgroup_.dir.get(), "devices.deny", O_WRONLY));
  auto written = write_all(fd.get(), "a", cgroup_.path + "/devices.deny");
  if (!written && written.error().sys_errno() == EINVAL)
    return fail(Errc::Busy,
                "deny all in " + cgroup_.path +
                    ": refused by the kernel, as when it has child cgroups: remove them");
  return written;
}

Result<Rules> FenceV1::list() const {
  TRY(UniqueFd fd, open_at(cgroup_.dir.get(), "devices.list", O_RDONLY));
  TRY(std::string text, read_fd(fd.get(), kMaxList, cgroup_.path + "/devices.list"));
  auto rules = parse_devices_list(text);
  if (!rules)
    return fail(std::move(rules).error().context(cgroup_.path));
  return rules;
}

Result<Outcome> FenceV1::deny_all() {
  auto before = list();
  if (!before && before.error().code() != Errc::Lost)
    return fail(std::move(before).error());
  bool had_any = !before || !before->empty();
  if (had_any)
    TRY_OK(write_deny_all());
  TRY(Rules after, list());
  if (!after.empty())
    return fail(Errc::Lost, fmt::format("deny all in {}: {} is still allowed", cgroup_.path,
                                        to_string(after.front())));
  bool changed = had_any || created_;
  created_ = false;
  return changed ? Outcome::Changed : Outcome::Unchanged;
}

Result<Outcome> FenceV1::restore() {
  auto standing = list();
  if (standing)
    return Outcome::Unchanged;
  if (standing.error().code() != Errc::Lost)
    return fail(std::move(standing).error());
  return deny_all();
}

Result<> FenceV1::write_rule(const char* file, AclRule entry, Access letters) const {
  if (letters.none())
    return {};
  entry.access = letters;
  TRY(UniqueFd fd, open_at(cgroup_.dir.get(), file, O_WRONLY));
  return write_all(fd.get(), to_string(entry), cgroup_.path + "/" + file);
}

Result<Access> FenceV1::access_of(const AclRule& entry) const {
  TRY(Rules rules, list());
  auto found = std::ranges::find_if(rules, [&](const AclRule& r) { return same_entry(r, entry); });
  return found == rules.end() ? Access{} : found->access;
}

// Allows what is missing, then denies what is too much: the allow is what a parent cgroup can
// refuse, and then nothing has changed yet.
Result<Outcome> FenceV1::set(const AclRule& rule) {
  TRY_OK(check_numbers(rule));
  TRY(Access before, access_of(rule));
  if (before == rule.access)
    return Outcome::Unchanged;
  Access missing = rule.access.minus(before);
  if (!missing.none()) {
    TRY_OK(write_rule("devices.allow", rule, missing));
    TRY(Access widened, access_of(rule));
    if (widened != (before | missing))
      return fail(Errc::Lost, fmt::format("set {}: the kernel took the allow and made it \"{}\"",
                                          to_string(rule), to_string(widened)));
  }
  if (auto denied = write_rule("devices.deny", rule, before.minus(rule.access)); !denied) {
    TRY_OK(write_rule("devices.deny", rule, missing));
    return fail(std::move(denied).error());
  }
  TRY(Access now, access_of(rule));
  if (now != rule.access)
    return fail(Errc::Lost, fmt::format("set {}: the kernel took the write and made it \"{}\"",
                                        to_string(rule), to_string(now)));
  return Outcome::Changed;
}

class FenceControlV1 final : public FenceControl {
 public:
  CgroupVersion version() const override { return CgroupVersion::V1; }
  Result<std::unique_ptr<Fence>> create(const Cgroup& cgroup) override;
  Result<std::unique_ptr<Fence>> adopt(const Cgroup& cgroup, uint32_t slot) override;
  std::vector<Result<Rules>> list_all(const std::vector<const Fence*>& fences) const override {
    return list_each(fences);
  }
  Result<size_t> prune(const std::vector<uint32_t>&) override { return size_t{0}; }
  bool owns_map(uint64_t) const override { return false; }
  int denials_fd() const override { return -1; }
  Result<> begin_window() override { return {}; }
  Result<> denials_recorded() override { return {}; }
  Result<uint64_t> drain_denials(const std::function<void(const Denial&)>&) override {
    return uint64_t{0};
  }
};

Result<std::unique_ptr<Fence>> FenceControlV1::create(const Cgroup& cgroup) {
  TRY(CgroupHandle handle, keep(cgroup));
  auto fence = std::make_unique<FenceV1>(std::move(handle));
  TRY_OK(fence->write_deny_all());
  TRY_OK(fence->deny_all());
  fence->mark_created();
  return fence;
}

Result<std::unique_ptr<Fence>> FenceControlV1::adopt(const Cgroup& cgroup, uint32_t slot) {
  if (slot != 0)
    return fail(Errc::Lost, fmt::format("{} was fenced on cgroup v2, as slot {}, not on v1",
                                        cgroup.path(), slot));
  TRY(CgroupHandle handle, keep(cgroup));
  auto fence = std::make_unique<FenceV1>(std::move(handle));
  TRY_OK(fence->list());
  return fence;
}

}  // namespace

Result<Rules> parse_devices_list(std::string_view text) {
  Rules rules;
  for (std::string_view line : split(text, '\n')) {
    if (line.empty())
      continue;
    TRY(AclRule rule, parse_line(line));
    rules.push_back(rule);
  }
  std::ranges::sort(rules);
  return rules;
}

Result<std::unique_ptr<FenceControl>> open_fence_v1() {
  return std::make_unique<FenceControlV1>();
}

}  // namespace tenure::kernel
