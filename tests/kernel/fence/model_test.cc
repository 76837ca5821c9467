// SPDX-License-Identifier: Apache-2.0
// Random sequences of set() and deny_all() on the real v2 and the real v1, against a map as
// model: after every step the outcome and the list are what the model says.
#include <rapidcheck.h>

#include <map>
#include <tuple>

#include "tests/kernel/fence/support.h"

namespace tenure::kernel::testing {
namespace {

constexpr const char* kModelPins = "/sys/fs/bpf/tenure-test-model";

// Few devices, so that steps meet the same entry often; some that the kernel has no driver for.
AclRule any_rule() {
  AclRule rule{.type = *rc::gen::element(DeviceType::Block, DeviceType::Char),
               .major = *rc::gen::element<uint32_t>(1, 7, 4095),
               .minor = std::nullopt,
               .access = {}};
  if (*rc::gen::inRange(0, 4) != 0)
    rule.minor = *rc::gen::element<uint32_t>(0, 3, 5, 1048575);
  int bits = *rc::gen::inRange(0, 8);
  rule.access = {.read = (bits & 1) != 0, .write = (bits & 2) != 0, .mknod = (bits & 4) != 0};
  return rule;
}

using Model = std::map<std::tuple<DeviceType, uint32_t, std::optional<uint32_t>>, Access>;

std::vector<AclRule> as_list(const Model& model) {
  std::vector<AclRule> rules;
  for (const auto& [key, access] : model)
    rules.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key), access});
  return rules;
}

void step(Fence& fence, Model& model) {
  if (*rc::gen::inRange(0, 20) == 0) {
    Outcome wanted = model.empty() ? Outcome::Unchanged : Outcome::Changed;
    model.clear();
    RC_ASSERT(fence.deny_all().value() == wanted);
    return;
  }
  AclRule rule = any_rule();
  auto key = std::tuple(rule.type, rule.major, rule.minor);
  Access before = model.contains(key) ? model[key] : Access{};
  if (rule.access.none())
    model.erase(key);
  else
    model[key] = rule.access;
  Outcome wanted = before == rule.access ? Outcome::Unchanged : Outcome::Changed;
  RC_ASSERT(fence.set(rule).value() == wanted);
}

void follow_model(Fence& fence) {
  RC_ASSERT(fence.deny_all().has_value());
  Model model;
  int steps = *rc::gen::inRange(1, 40);
  for (int i = 0; i < steps; ++i) {
    step(fence, model);
    RC_ASSERT(fence.list().value() == as_list(model));
  }
}

class FenceModel : public ::testing::TestWithParam<CgroupVersion> {};

TEST_P(FenceModel, ListIsWhatWasSet) {
  if (geteuid() != 0)
    GTEST_SKIP() << "needs root";
  auto mounts = find_cgroup_mounts().value();
  bool is_v2 = GetParam() == CgroupVersion::V2;
  auto usable = is_v2 ? probe_fence_v2(mounts) : probe_fence_v1(mounts);
  if (!usable)
    GTEST_SKIP() << usable.error().what();
  if (auto problem = enter_own_mounts(); !problem.empty())
    GTEST_SKIP() << problem;
  Cgroups cgroups(mounts);
  auto control = is_v2 ? open_fence_v2(kModelPins).value() : open_fence_v1().value();
  auto cgroup = cgroups.make(GetParam()).value();
  auto fence = control->create(cgroup).value();
  EXPECT_TRUE(rc::check([&] { follow_model(*fence); }));
  (void)remove_fence_pins(kModelPins);
}

INSTANTIATE_TEST_SUITE_P(Kernel, FenceModel,
                         ::testing::Values(CgroupVersion::V1, CgroupVersion::V2),
                         [](const auto& kind) {
                           return kind.param == CgroupVersion::V1 ? "V1" : "V2";
                         });

}  // namespace
}  // namespace tenure::kernel::testing
