// SPDX-License-Identifier: Apache-2.0
// bpf(2) on the fence's maps and program, through libbpf's thin wrappers, which return -errno.
#include "kernel/fence_maps.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace tenure::kernel {
namespace {

constexpr uint32_t kBatch = 2048;      // rules a BPF_MAP_LOOKUP_BATCH; larger gains nothing
constexpr uint32_t kMaxAttached = 64;  // BPF_CGROUP_MAX_PROGS of the kernel

struct AccessBit {
  bool Access::* member;
  uint32_t bit;
};
constexpr AccessBit kAccessBits[] = {{&Access::read, BPF_DEVCG_ACC_READ},
                                     {&Access::write, BPF_DEVCG_ACC_WRITE},
                                     {&Access::mknod, BPF_DEVCG_ACC_MKNOD}};

uint32_t to_bits(Access access) {
  uint32_t bits = 0;
  for (const AccessBit& row : kAccessBits)
    if (access.*row.member)
      bits |= row.bit;
  return bits;
}

tenure_rule to_key(uint32_t slot, const AclRule& rule) {
  return {.slot = slot,
          .type = rule.type == DeviceType::Block ? uint32_t{BPF_DEVCG_DEV_BLOCK}
                                                 : uint32_t{BPF_DEVCG_DEV_CHAR},
          .major = rule.major,
          .minor = rule.minor.value_or(TENURE_ANY_MINOR)};
}

bpf_cgroup_storage_key storage_key(uint64_t cgroup_id) {
  bpf_cgroup_storage_key key{};
  key.cgroup_inode_id = cgroup_id;
  key.attach_type = BPF_CGROUP_DEVICE;
  return key;
}

std::string describe(uint32_t slot, const AclRule& rule) {
  return fmt::format("{} of slot {}", to_string(rule), slot);
}

std::string full_hint(int err) {
  return err == -E2BIG ? fmt::format(" (the map of {} rules is full)", TENURE_MAX_RULES) : "";
}

}  // namespace

Access access_from_bits(uint32_t bits) {
  Access access;
  for (const AccessBit& row : kAccessBits) access.*row.member = (bits & row.bit) != 0;
  return access;
}

Result<AclRule> to_acl_rule(const tenure_rule& key, uint32_t access) {
  if (key.type != BPF_DEVCG_DEV_BLOCK && key.type != BPF_DEVCG_DEV_CHAR)
    return fail(Errc::Lost, fmt::format("slot {} has a rule of unknown type {} that is not ours",
                                        key.slot, key.type));
  AclRule rule{.type = key.type == BPF_DEVCG_DEV_BLOCK ? DeviceType::Block : DeviceType::Char,
               .major = key.major,
               .minor = std::nullopt,
               .access = access_from_bits(access)};
  if (key.minor != TENURE_ANY_MINOR)
    rule.minor = key.minor;
  return rule;
}

Result<> FenceMaps::attach(int cgroup_fd, const std::string& path) const {
  int err =
      bpf_prog_attach(objects_.program.get(), cgroup_fd, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI);
  if (err < 0)
    return fail_sys("attach the device program to", path, -err);
  return {};
}

Result<> FenceMaps::detach(int cgroup_fd, const std::string& path) const {
  int err = bpf_prog_detach2(objects_.program.get(), cgroup_fd, BPF_CGROUP_DEVICE);
  if (err < 0)
    return fail_sys("detach the device program from", path, -err);
  return {};
}

Result<std::vector<uint32_t>> programs_of(int cgroup_fd, const std::string& path) {
  std::vector<uint32_t> ids(kMaxAttached);
  uint32_t count = kMaxAttached, flags = 0;
  int err = bpf_prog_query(cgroup_fd, BPF_CGROUP_DEVICE, 0, &flags, ids.data(), &count);
  if (err < 0)
    return fail_sys("query the device programs of", path, -err);
  ids.resize(count);
  return ids;
}

Result<bool> FenceMaps::attached(int cgroup_fd, const std::string& path) const {
  TRY(auto ids, programs_of(cgroup_fd, path));
  return std::ranges::find(ids, objects_.program_id) != ids.end();
}

Result<std::vector<uint32_t>> FenceMaps::other_programs(int cgroup_fd,
                                                        const std::string& path) const {
  TRY(auto ids, programs_of(cgroup_fd, path));
  std::erase(ids, objects_.program_id);
  return ids;
}

Result<> FenceMaps::detach_other(int cgroup_fd, const std::string& path, uint32_t id) const {
  UniqueFd program(bpf_prog_get_fd_by_id(id));
  if (!program)
    return fail_sys("open device program", std::to_string(id));
  int err = bpf_prog_detach2(program.get(), cgroup_fd, BPF_CGROUP_DEVICE);
  if (err < 0)
    return fail_sys(fmt::format("detach program {} from", id), path, -err);
  return {};
}

bool FenceMaps::owns(uint64_t map_id) const {
  for (const UniqueFd* map : {&objects_.rules, &objects_.guests, &objects_.counters}) {
    bpf_map_info info{};
    uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(map->get(), &info, &size) == 0 && info.id == map_id)
      return true;
  }
  return false;
}

Result<tenure_guest> FenceMaps::guest(uint64_t cgroup_id) const {
  bpf_cgroup_storage_key key = storage_key(cgroup_id);
  tenure_guest value{};
  int err = bpf_map_lookup_elem(objects_.guests.get(), &key, &value);
  if (err < 0)
    return fail_sys("read the fence's storage of cgroup", std::to_string(cgroup_id), -err);
  return value;
}

Result<> FenceMaps::set_slot(uint64_t cgroup_id, uint32_t slot) const {
  bpf_cgroup_storage_key key = storage_key(cgroup_id);
  tenure_guest value{.slot = slot, .unused = 0, .denials = 0, .overflows = 0};
  int err = bpf_map_update_elem(objects_.guests.get(), &key, &value, BPF_EXIST);
  if (err < 0)
    return fail_sys("set the slot of cgroup", std::to_string(cgroup_id), -err);
  return {};
}

Result<uint64_t> FenceMaps::counter(tenure_counter index) const {
  uint32_t key = index;
  uint64_t value = 0;
  int err = bpf_map_lookup_elem(objects_.counters.get(), &key, &value);
  if (err < 0)
    return fail_sys("read the fence's counter", std::to_string(key), -err);
  return value;
}

Result<> FenceMaps::set_counter(tenure_counter index, uint64_t value) const {
  uint32_t key = index;
  int err = bpf_map_update_elem(objects_.counters.get(), &key, &value, BPF_ANY);
  if (err < 0)
    return fail_sys("write the fence's counter", std::to_string(key), -err);
  return {};
}

// Armed before it is turned: what is refused in between is in the map that is read next, or rings.
Result<> FenceMaps::turn_window() const {
  TRY(uint64_t window, counter(TENURE_COUNTER_WINDOW));
  TRY_OK(set_counter(TENURE_COUNTER_ARMED, 1));
  return set_counter(TENURE_COUNTER_WINDOW, window == 0 ? 1 : 0);
}

Result<int> FenceMaps::closed_map() const {
  TRY(uint64_t window, counter(TENURE_COUNTER_WINDOW));
  return window == 0 ? objects_.refusals_b.get() : objects_.refusals_a.get();
}

Result<std::vector<FenceMaps::Refusal>> FenceMaps::closed_refusals() const {
  TRY(int map, closed_map());
  std::vector<tenure_refusal_key> keys(TENURE_MAX_REFUSALS);
  std::vector<tenure_refusal> values(TENURE_MAX_REFUSALS);
  std::vector<Refusal> all;
  uint32_t position = 0;
  for (bool first = true;; first = false) {
    uint32_t count = TENURE_MAX_REFUSALS;
    int err = bpf_map_lookup_batch(map, first ? nullptr : &position, &position, keys.data(),
                                   values.data(), &count, nullptr);
    if (err < 0 && err != -ENOENT)
      return fail_sys("read the refusals of", "the fence", -err);
    for (uint32_t i = 0; i < count; ++i) all.push_back({keys[i], values[i]});
    if (err == -ENOENT)
      return all;
  }
}

Result<> FenceMaps::erase_closed(const std::vector<Refusal>& refusals) const {
  TRY(int map, closed_map());
  for (const Refusal& refusal : refusals) {
    int err = bpf_map_delete_elem(map, &refusal.key);
    if (err < 0 && err != -ENOENT)
      return fail_sys("remove a refusal of slot", std::to_string(refusal.key.slot), -err);
  }
  return {};
}

Result<uint32_t> FenceMaps::take_slot() const {
  TRY(uint64_t last, counter(TENURE_COUNTER_LAST_SLOT));
  if (last >= std::numeric_limits<uint32_t>::max())
    return fail(Errc::Internal, "all 4294967295 slots of the fence have been used");
  uint64_t next = last + 1;
  uint32_t key = TENURE_COUNTER_LAST_SLOT;
  int err = bpf_map_update_elem(objects_.counters.get(), &key, &next, BPF_ANY);
  if (err < 0)
    return fail_sys("take slot", std::to_string(next), -err);
  return static_cast<uint32_t>(next);
}

Result<uint64_t> FenceMaps::lost() const {
  return counter(TENURE_COUNTER_LOST);
}

Result<Access> FenceMaps::access_of(uint32_t slot, const AclRule& rule) const {
  tenure_rule key = to_key(slot, rule);
  uint32_t bits = 0;
  int err = bpf_map_lookup_elem(objects_.rules.get(), &key, &bits);
  if (err == -ENOENT)
    return Access{};
  if (err < 0)
    return fail_sys("read rule", describe(slot, rule), -err);
  return access_from_bits(bits);
}

// A grant mostly meets no entry and a release one that is there, so both take one call then.
Result<RuleChange> FenceMaps::put(uint32_t slot, const AclRule& rule) const {
  int map = objects_.rules.get();
  tenure_rule key = to_key(slot, rule);
  uint32_t bits = to_bits(rule.access);
  RuleChange change{.changed = true, .before = {}};
  int err = bits == 0 ? bpf_map_delete_elem(map, &key)
                      : bpf_map_update_elem(map, &key, &bits, BPF_NOEXIST);
  if (bits == 0 && err == -ENOENT)
    return RuleChange{};
  if (bits != 0 && err == -EEXIST) {
    TRY(change.before, access_of(slot, rule));
    change.changed = change.before != rule.access;
    err = change.changed ? bpf_map_update_elem(map, &key, &bits, BPF_ANY) : 0;
  }
  if (err < 0)
    return fail_sys("write rule", describe(slot, rule) + full_hint(err), -err);
  return change;
}

Result<> FenceMaps::erase(const tenure_rule& key) const {
  int err = bpf_map_delete_elem(objects_.rules.get(), &key);
  if (err < 0 && err != -ENOENT)
    return fail_sys("remove a rule of slot", std::to_string(key.slot), -err);
  return {};
}

Result<> FenceMaps::for_each_rule(
    const std::function<void(const tenure_rule&, uint32_t)>& each) const {
  std::vector<tenure_rule> keys(kBatch);
  std::vector<uint32_t> values(kBatch);
  uint32_t position = 0;
  bool first = true;
  for (;;) {
    auto count = static_cast<uint32_t>(keys.size());
    int err = bpf_map_lookup_batch(objects_.rules.get(), first ? nullptr : &position, &position,
                                   keys.data(), values.data(), &count, nullptr);
    if (err == -ENOSPC && keys.size() < TENURE_MAX_RULES) {  // one bucket is larger than the batch
      keys.resize(keys.size() * 2);
      values.resize(keys.size());
      continue;
    }
    if (err < 0 && err != -ENOENT)
      return fail_sys("read the rules of", "the fence", -err);
    for (uint32_t i = 0; i < count; ++i) each(keys[i], values[i]);
    if (err == -ENOENT)
      return {};  // how the kernel says that this was the last batch
    first = false;
  }
}

}  // namespace tenure::kernel
