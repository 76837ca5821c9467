// SPDX-License-Identifier: Apache-2.0
// The fence on cgroup v2: rules are entries of one map for all guests, told apart by slot. An entry
// has effect only while our program is attached to the guest's cgroup and that cgroup's storage
// names the slot, so both are looked at whenever an effect is claimed.
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "kernel/bpf_handles.h"
#include "kernel/fence.h"
#include "kernel/fence_common.h"
#include "kernel/fence_maps.h"

namespace tenure::kernel {
namespace {

using Rules = std::vector<AclRule>;

Error lost(const CgroupHandle& cgroup, std::string_view what) {
  return {Errc::Lost, fmt::format("the fence of {} is not in force: {}", cgroup.path, what)};
}

class FenceV2 final : public Fence {
 public:
  FenceV2(std::shared_ptr<const FenceMaps> maps, CgroupHandle cgroup, uint32_t slot, bool created)
      : maps_(std::move(maps)), cgroup_(std::move(cgroup)), slot_(slot), created_(created) {}

  CgroupVersion version() const override { return CgroupVersion::V2; }
  uint32_t slot() const override { return slot_; }
  Result<Outcome> deny_all() override;
  Result<Outcome> set(const AclRule& rule) override;
  Result<Rules> list() const override;
  Result<std::vector<uint32_t>> other_programs() const override {
    return maps_->other_programs(cgroup_.dir.get(), cgroup_.path);
  }
  Result<Outcome> restore() override;
  Result<> remove_program(uint32_t id) override {
    return maps_->detach_other(cgroup_.dir.get(), cgroup_.path, id);
  }
  Result<> dissolve() override;
  Result<std::optional<uint64_t>> denials() const override;

  // Lost unless our program is attached.
  Result<> check_attached() const;
  // Lost unless our program is attached and the slot is ours.
  Result<> check_in_force() const;

 private:
  Result<std::vector<tenure_rule>> keys() const;
  Result<size_t> erase_all() const;

  std::shared_ptr<const FenceMaps> maps_;
  CgroupHandle cgroup_;
  uint32_t slot_;
  bool created_;  // by create(), and not confirmed by a deny_all() yet
};

Result<> FenceV2::check_attached() const {
  TRY(bool attached, maps_->attached(cgroup_.dir.get(), cgroup_.path));
  if (!attached)
    return fail(lost(cgroup_, "our program is not attached to it"));
  return {};
}

Result<> FenceV2::check_in_force() const {
  TRY_OK(check_attached());
  TRY(tenure_guest guest, maps_->guest(cgroup_.inode));
  if (guest.slot != slot_)
    return fail(lost(cgroup_, fmt::format("its slot is {}, not {}", guest.slot, slot_)));
  return {};
}

Result<std::vector<tenure_rule>> FenceV2::keys() const {
  std::vector<tenure_rule> keys;
  TRY_OK(maps_->for_each_rule([&](const tenure_rule& key, uint32_t) {
    if (key.slot == slot_)
      keys.push_back(key);
  }));
  return keys;
}

Result<size_t> FenceV2::erase_all() const {
  TRY(auto old, keys());
  for (const tenure_rule& key : old) TRY_OK(maps_->erase(key));
  if (old.empty())
    return size_t{0};
  TRY(auto left, keys());
  if (!left.empty())
    return fail(Errc::Lost, fmt::format("{} rules of slot {} came back while they were removed",
                                        left.size(), slot_));
  return old.size();
}

Result<Outcome> FenceV2::deny_all() {
  TRY(size_t erased, erase_all());
  TRY_OK(check_in_force());
  bool changed = erased > 0 || created_;
  created_ = false;
  return changed ? Outcome::Changed : Outcome::Unchanged;
}

Result<Outcome> FenceV2::set(const AclRule& rule) {
  TRY_OK(check_numbers(rule));
  TRY(RuleChange change, maps_->put(slot_, rule));
  if (auto in_force = check_attached(); !in_force) {
    // What was refused must not stay behind as a rule; what was taken away stays away.
    AclRule narrower = rule;
    if (change.changed)
      narrower.access = rule.access.minus(rule.access.minus(change.before));
    TRY_OK(maps_->put(slot_, narrower));
    return fail(std::move(in_force).error().context("set " + to_string(rule)));
  }
  TRY(Access now, maps_->access_of(slot_, rule));
  if (now != rule.access)
    return fail(Errc::Lost, fmt::format("set {}: somebody else made it \"{}\" meanwhile",
                                        to_string(rule), to_string(now)));
  return change.changed ? Outcome::Changed : Outcome::Unchanged;
}

// Sorted rules by slot, of the slots in `wanted`.
Result<std::unordered_map<uint32_t, Result<Rules>>> rules_by_slot(
    const FenceMaps& maps, const std::unordered_set<uint32_t>& wanted) {
  std::unordered_map<uint32_t, Result<Rules>> by_slot;
  for (uint32_t slot : wanted) by_slot.emplace(slot, Rules{});
  TRY_OK(maps.for_each_rule([&](const tenure_rule& key, uint32_t access) {
    auto found = by_slot.find(key.slot);
    if (found == by_slot.end() || !found->second)
      return;
    auto rule = to_acl_rule(key, access);
    if (rule)
      found->second->push_back(*rule);
    else
      found->second = std::unexpected(std::move(rule).error());
  }));
  for (auto& [slot, rules] : by_slot)
    if (rules)
      std::ranges::sort(*rules);
  return by_slot;
}

Result<Rules> FenceV2::list() const {
  TRY_OK(check_in_force());
  TRY(auto by_slot, rules_by_slot(*maps_, {slot_}));
  return std::move(by_slot.at(slot_));
}

Result<Outcome> FenceV2::restore() {
  auto in_force = check_in_force();
  if (in_force)
    return Outcome::Unchanged;
  if (in_force.error().code() != Errc::Lost)
    return fail(std::move(in_force).error());
  TRY(bool attached, maps_->attached(cgroup_.dir.get(), cgroup_.path));
  if (!attached)
    TRY_OK(maps_->attach(cgroup_.dir.get(), cgroup_.path));
  TRY_OK(maps_->set_slot(cgroup_.inode, slot_));
  TRY_OK(check_in_force());
  return Outcome::Changed;
}

Result<> FenceV2::dissolve() {
  TRY_OK(erase_all());
  return {};
}

Result<std::optional<uint64_t>> FenceV2::denials() const {
  TRY(tenure_guest guest, maps_->guest(cgroup_.inode));
  return guest.denials;
}

Denial to_denial(const FenceMaps::Refusal& refusal) {
  const auto& [key, value] = refusal;
  Denial denial{.slot = key.slot,
                .type = key.type == BPF_DEVCG_DEV_BLOCK ? DeviceType::Block : DeviceType::Char,
                .major = key.major,
                .minor = key.minor,
                .access = access_from_bits(key.access),
                .probe = key.probe != 0,
                .count = value.count,
                .pid = static_cast<int32_t>(value.tgid),
                .uid = value.uid,
                .auid = value.auid,
                .ses = value.ses,
                .boottime_ns = value.first_ns,
                .last_boottime_ns = value.last_ns,
                .comm = ""};
  denial.comm.assign(key.comm, strnlen(key.comm, sizeof key.comm));
  return denial;
}

class FenceControlV2 final : public FenceControl {
 public:
  explicit FenceControlV2(FenceObjects objects)
      : maps_(std::make_shared<FenceMaps>(std::move(objects))) {}
  // Maps the ring of denials; before it, drain_denials() sees none.
  Result<> open_ring();

  CgroupVersion version() const override { return CgroupVersion::V2; }
  Result<std::unique_ptr<Fence>> create(const Cgroup& cgroup) override;
  Result<std::unique_ptr<Fence>> adopt(const Cgroup& cgroup, uint32_t slot) override;
  std::vector<Result<Rules>> list_all(const std::vector<const Fence*>& fences) const override;
  Result<size_t> prune(const std::vector<uint32_t>& live) override;
  bool owns_map(uint64_t id) const override { return maps_->owns(id); }
  int denials_fd() const override { return ring_ ? ring_buffer__epoll_fd(ring_.get()) : -1; }
  Result<> begin_window() override;
  Result<uint64_t> drain_denials(const std::function<void(const Denial&)>& each) override;
  Result<> denials_recorded() override;

 private:
  static int take(void*, void*, size_t) noexcept { return 0; }  // a doorbell says nothing more
  void remember(uint32_t slot, uint64_t inode);
  void drain_overflows(const std::function<void(const Denial&)>& each);

  // Accesses of a guest that no refusal describes, as counted at the last look.
  struct Overflow {
    uint64_t inode = 0;
    uint64_t seen = 0;
  };
  std::shared_ptr<const FenceMaps> maps_;
  std::unordered_map<uint32_t, Overflow> overflows_;  // by slot
  std::vector<FenceMaps::Refusal> drained_;           // not recorded yet
  std::unique_ptr<ring_buffer, FreeRing> ring_;
};

Result<> FenceControlV2::open_ring() {
  ring_.reset(ring_buffer__new(maps_->denials_fd(), &FenceControlV2::take, this, nullptr));
  if (!ring_)
    return fail_sys("map", "the ring of denials");
  return {};
}

// The slot is set last: until then it is 0, which denies everything.
Result<> give_slot(const FenceMaps& maps, const CgroupHandle& cgroup, uint32_t slot) {
  TRY_OK(maps.set_slot(cgroup.inode, slot));
  TRY(tenure_guest guest, maps.guest(cgroup.inode));
  TRY(bool attached, maps.attached(cgroup.dir.get(), cgroup.path));
  if (guest.slot != slot || !attached)
    return fail(lost(cgroup, "it was changed while it was made"));
  return {};
}

Result<std::unique_ptr<Fence>> FenceControlV2::create(const Cgroup& cgroup) {
  TRY(CgroupHandle handle, keep(cgroup));
  TRY(bool attached, maps_->attached(handle.dir.get(), handle.path));
  if (attached)
    return fail(Errc::Exists, handle.path + " has a fence already");
  TRY(uint32_t slot, maps_->take_slot());
  TRY_OK(maps_->attach(handle.dir.get(), handle.path));
  if (auto given = give_slot(*maps_, handle, slot); !given) {
    TRY_OK(maps_->detach(handle.dir.get(), handle.path));
    return fail(std::move(given).error());
  }
  remember(slot, handle.inode);
  return std::make_unique<FenceV2>(maps_, std::move(handle), slot, true);
}

Result<std::unique_ptr<Fence>> FenceControlV2::adopt(const Cgroup& cgroup, uint32_t slot) {
  TRY(CgroupHandle handle, keep(cgroup));
  if (slot == 0) {
    auto guest = maps_->guest(handle.inode);
    if (!guest && guest.error().code() == Errc::NotFound)
      return fail(lost(handle, "our program was never attached to it"));
    if (!guest)
      return fail(std::move(guest).error());
    slot = guest->slot;
    if (slot == 0)
      return fail(lost(handle, "it never got its slot, so it denies everything"));
  }
  remember(slot, handle.inode);
  auto fence = std::make_unique<FenceV2>(maps_, std::move(handle), slot, false);
  TRY_OK(fence->check_in_force());
  return fence;
}

std::vector<Result<Rules>> FenceControlV2::list_all(const std::vector<const Fence*>& fences) const {
  std::unordered_set<uint32_t> slots;
  for (const Fence* fence : fences) slots.insert(fence->slot());
  auto by_slot = rules_by_slot(*maps_, slots);
  std::vector<Result<Rules>> lists;
  lists.reserve(fences.size());
  for (const Fence* fence : fences) {
    const auto* own = dynamic_cast<const FenceV2*>(fence);
    auto in_force = own == nullptr ? Result<>(fail(Errc::Internal, "a fence of another kind"))
                                   : own->check_in_force();
    if (!in_force)
      lists.push_back(std::unexpected(std::move(in_force).error()));
    else if (!by_slot)
      lists.push_back(std::unexpected(by_slot.error()));
    else
      lists.push_back(by_slot->at(fence->slot()));
  }
  return lists;
}

Result<size_t> FenceControlV2::prune(const std::vector<uint32_t>& live) {
  std::unordered_set<uint32_t> keep_slots(live.begin(), live.end());
  std::vector<tenure_rule> dead;
  TRY_OK(maps_->for_each_rule([&](const tenure_rule& key, uint32_t) {
    if (!keep_slots.contains(key.slot))
      dead.push_back(key);
  }));
  for (const tenure_rule& key : dead) TRY_OK(maps_->erase(key));
  return dead.size();
}

// From now on: what was counted before is not known to be unrecorded.
void FenceControlV2::remember(uint32_t slot, uint64_t inode) {
  auto guest = maps_->guest(inode);
  overflows_[slot] = {.inode = inode, .seen = guest ? guest->overflows : 0};
}

void FenceControlV2::drain_overflows(const std::function<void(const Denial&)>& each) {
  for (auto it = overflows_.begin(); it != overflows_.end();) {
    auto guest = maps_->guest(it->second.inode);
    if (!guest) {  // its cgroup is gone
      it = overflows_.erase(it);
      continue;
    }
    uint64_t more = guest->overflows - it->second.seen;
    it->second.seen = guest->overflows;
    if (more != 0)
      each(Denial{.slot = it->first, .described = false, .count = more, .comm = ""});
    ++it;
  }
}

Result<> FenceControlV2::begin_window() {
  int err = ring_ ? ring_buffer__consume(ring_.get()) : 0;
  if (err < 0)
    return fail_sys("read", "the ring of denials", -err);
  return maps_->turn_window();
}

Result<uint64_t> FenceControlV2::drain_denials(const std::function<void(const Denial&)>& each) {
  TRY(drained_, maps_->closed_refusals());
  for (const FenceMaps::Refusal& refusal : drained_) each(to_denial(refusal));
  drain_overflows(each);
  return maps_->lost();
}

Result<> FenceControlV2::denials_recorded() {
  auto done = std::exchange(drained_, {});
  return maps_->erase_closed(done);
}

}  // namespace

Result<std::unique_ptr<FenceControl>> open_fence_v2(const std::string& pin_dir) {
  auto objects = open_fence_objects(pin_dir);
  if (!objects)
    return fail(std::move(objects).error().context("device fence v2"));
  auto control = std::make_unique<FenceControlV2>(std::move(*objects));
  TRY_OK(control->open_ring());
  return control;
}

Result<> probe_fence_v2(const CgroupMounts& mounts) {
  if (mounts.v2.empty())
    return fail(Errc::Unsupported, "cgroup v2 is not mounted");
  TRY(FenceObjects objects, load_fence_objects());
  FenceControlV2 control(std::move(objects));
  return try_out(control, mounts.v2);
}

}  // namespace tenure::kernel
