// SPDX-License-Identifier: Apache-2.0
// The contract of fence.h over plain values. An eventfd stands in for the ring's descriptor, so
// that an event loop wakes up as it would with the real one.
#include "kernel/fence_fake.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "kernel/fence_common.h"

namespace tenure::kernel {
namespace {

using Rules = std::vector<AclRule>;
using World = std::shared_ptr<FakeFenceWorld>;

Result<> begin(FakeFenceWorld& world, std::string_view operation) {
  int err = world.begin_call();
  if (err != 0)
    return fail_sys(operation, "(fake)", err);
  return {};
}

// Makes the entry say rule.access; returns what it said before.
Access put(Rules& rules, const AclRule& rule) {
  auto same = [&](const AclRule& r) {
    return r.type == rule.type && r.major == rule.major && r.minor == rule.minor;
  };
  auto found = std::ranges::find_if(rules, same);
  Access before = found == rules.end() ? Access{} : found->access;
  if (found != rules.end())
    rules.erase(found);
  if (!rule.access.none())
    rules.insert(std::ranges::lower_bound(rules, rule), rule);
  return before;
}

class FakeFence final : public Fence {
 public:
  FakeFence(World world, CgroupVersion version, uint64_t inode, uint32_t slot, bool created)
      : world_(std::move(world)),
        version_(version),
        inode_(inode),
        slot_(slot),
        created_(created) {}

  CgroupVersion version() const override { return version_; }
  uint32_t slot() const override { return slot_; }

  Result<Outcome> deny_all() override {
    TRY_OK(begin(*world_, "deny all"));
    TRY(auto* guest, guest_in_force());
    bool changed = !guest->rules.empty() || created_;
    guest->rules.clear();
    created_ = false;
    return changed ? Outcome::Changed : Outcome::Unchanged;
  }

  Result<Outcome> set(const AclRule& rule) override {
    TRY_OK(check_numbers(rule));
    TRY_OK(begin(*world_, "set " + to_string(rule)));
    TRY(auto* guest, guest_in_force());
    Access before = put(guest->rules, rule);
    return before == rule.access ? Outcome::Unchanged : Outcome::Changed;
  }

  Result<Rules> list() const override {
    TRY_OK(begin(*world_, "list"));
    TRY(auto* guest, guest_in_force());
    return guest->rules;
  }

  Result<std::vector<uint32_t>> other_programs() const override {
    auto found = world_->guests.find(inode_);
    return found == world_->guests.end() ? std::vector<uint32_t>{} : found->second.other_programs;
  }

  Result<Outcome> restore() override {
    TRY_OK(begin(*world_, "restore"));
    auto found = world_->guests.find(inode_);
    if (found == world_->guests.end())
      return fail(Errc::NotFound, "the cgroup is gone");
    bool changed = !found->second.in_force || found->second.slot != slot_;
    found->second.in_force = true;
    found->second.slot = slot_;
    return changed ? Outcome::Changed : Outcome::Unchanged;
  }

  Result<> remove_program(uint32_t id) override {
    TRY_OK(begin(*world_, "remove program"));
    auto found = world_->guests.find(inode_);
    if (found == world_->guests.end() || std::erase(found->second.other_programs, id) == 0)
      return fail(Errc::NotFound, "no such program");
    return {};
  }

  Result<> dissolve() override {
    TRY_OK(begin(*world_, "dissolve"));
    auto found = world_->guests.find(inode_);
    if (found == world_->guests.end())
      return {};
    found->second.rules.clear();
    found->second.dissolved = true;
    return {};
  }

  Result<std::optional<uint64_t>> denials() const override {
    TRY_OK(begin(*world_, "denials"));
    if (version_ == CgroupVersion::V1)
      return std::nullopt;
    auto found = world_->guests.find(inode_);
    if (found == world_->guests.end())
      return fail(Errc::NotFound, "the cgroup is gone");
    return found->second.denials;
  }

 private:
  Result<FakeFenceWorld::Guest*> guest_in_force() const {
    auto found = world_->guests.find(inode_);
    if (found == world_->guests.end())
      return fail(Errc::NotFound, "the cgroup is gone");
    if (!found->second.in_force || found->second.slot != slot_)
      return fail(Errc::Lost, "the fence is not in force");
    return &found->second;
  }

  World world_;
  CgroupVersion version_;
  uint64_t inode_;
  uint32_t slot_;
  bool created_;
};

class FakeFenceControl final : public FenceControl {
 public:
  FakeFenceControl(World world, CgroupVersion version)
      : world_(std::move(world)),
        version_(version),
        ready_(version == CgroupVersion::V2 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1) {}

  CgroupVersion version() const override { return version_; }

  Result<std::unique_ptr<Fence>> create(const Cgroup& cgroup) override {
    TRY_OK(begin(*world_, "create fence"));
    auto found = world_->guests.find(cgroup.inode());
    bool fenced = found != world_->guests.end() && !found->second.dissolved;
    if (fenced && version_ == CgroupVersion::V2)
      return fail(Errc::Exists, cgroup.path() + " has a fence already");
    uint32_t slot = version_ == CgroupVersion::V2 ? ++world_->last_slot : 0;
    world_->guests[cgroup.inode()] = {};
    world_->guests[cgroup.inode()].slot = slot;
    return make(cgroup, slot, true);
  }

  Result<std::unique_ptr<Fence>> adopt(const Cgroup& cgroup, uint32_t slot) override {
    TRY_OK(begin(*world_, "adopt fence"));
    auto found = world_->guests.find(cgroup.inode());
    if (found == world_->guests.end() || !found->second.in_force ||
        (slot != 0 && found->second.slot != slot))
      return fail(Errc::Lost, fmt::format("the fence of {} is not in force", cgroup.path()));
    return make(cgroup, found->second.slot, false);
  }

  std::vector<Result<Rules>> list_all(const std::vector<const Fence*>& fences) const override {
    return list_each(fences);
  }

  Result<size_t> prune(const std::vector<uint32_t>& live) override {
    TRY_OK(begin(*world_, "prune"));
    if (version_ == CgroupVersion::V1)
      return size_t{0};
    size_t removed = 0;
    for (auto& [inode, guest] : world_->guests) {
      if (std::ranges::find(live, guest.slot) != live.end())
        continue;
      removed += guest.rules.size();
      guest.rules.clear();
    }
    return removed;
  }

  bool owns_map(uint64_t) const override { return false; }

  // Set when asked for, since the world can deny without knowing of its controls.
  int denials_fd() const override {
    if (ready_ && !world_->waiting.empty())
      eventfd_write(ready_.get(), 1);
    return ready_.get();
  }

  Result<> begin_window() override { return {}; }
  Result<> denials_recorded() override { return {}; }

  Result<uint64_t> drain_denials(const std::function<void(const Denial&)>& each) override {
    TRY_OK(begin(*world_, "drain denials"));
    if (version_ == CgroupVersion::V1)
      return uint64_t{0};
    eventfd_t ignored = 0;
    if (ready_)
      eventfd_read(ready_.get(), &ignored);
    auto waiting = std::exchange(world_->waiting, {});
    for (const Denial& denial : waiting) each(denial);
    return world_->lost;
  }

 private:
  std::unique_ptr<Fence> make(const Cgroup& cgroup, uint32_t slot, bool created) {
    return std::make_unique<FakeFence>(world_, version_, cgroup.inode(), slot, created);
  }

  World world_;
  CgroupVersion version_;
  UniqueFd ready_;
};

}  // namespace

int FakeFenceWorld::begin_call() {
  auto found = failures_.find(calls_++);
  return found == failures_.end() ? 0 : found->second;
}

void FakeFenceWorld::change_behind_back(uint64_t cgroup_inode, const AclRule& rule) {
  put(guests[cgroup_inode].rules, rule);
}

void FakeFenceWorld::deny(uint64_t cgroup_inode, Denial denial, bool described) {
  Guest& guest = guests[cgroup_inode];
  ++guest.denials;
  denial.slot = guest.slot;
  if (described)
    waiting.push_back(std::move(denial));
  else
    ++lost;
}

std::unique_ptr<FenceControl> fake_fence_control(std::shared_ptr<FakeFenceWorld> world,
                                                 CgroupVersion version) {
  return std::make_unique<FakeFenceControl>(std::move(world), version);
}

}  // namespace tenure::kernel
