// SPDX-License-Identifier: Apache-2.0
// What of a plan no golden text shows: names that must be found again, unions, and encoding of
// everything that a definition can say.
#include "guest/plan/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "trail/decode.h"

namespace tenure::guest {
namespace {

using trail::Kind;

domain::Domain domain_named(const std::string& name) {
  domain::Domain d;
  d.name = name;
  d.uuid = *parse_uuid("6695eb01-f6a4-8304-79aa-97f2502e193f");
  d.memory_kib = 65536;
  return d;
}

domain::Disk disk(const std::string& alias, const std::string& target, const std::string& path) {
  domain::Disk disk;
  disk.info.alias = alias;
  disk.target = target;
  disk.path = path;
  return disk;
}

qemu::Image node_image(const std::string& path, uint32_t minor, bool writable) {
  qemu::Image image{.path = path, .format = "raw", .writable = writable, .node = {}};
  image.node.type = kernel::FileType::Block;
  image.node.rdev = DeviceNumber{DeviceType::Block, 8, minor};
  return image;
}

qemu::Image file_image(const std::string& path, bool writable) {
  return {.path = path, .format = "raw", .writable = writable, .node = {}};
}

HostOptions fenced() {
  HostOptions options;
  options.fence = kernel::CgroupVersion::V2;
  options.cgroup_v2 = "/sys/fs/cgroup/tenure-x";
  options.uid = 70000;
  return options;
}

std::vector<model::Claim> of_kind(const Plan& plan, Kind kind) {
  std::vector<model::Claim> found;
  std::ranges::copy_if(plan.claims, std::back_inserter(found),
                       [&](const model::Claim& c) { return c.record.kind == kind; });
  return found;
}

TEST(MacvtapName, IsStableAndFitsTheKernel) {
  domain::Domain d = domain_named("web");
  domain::Interface nic;
  nic.info.alias = "net1";
  // Part of the format: a daemon of another version must find the interface again.
  EXPECT_EQ(macvtap_name(d, nic), "tnm0004514f");
  EXPECT_LE(macvtap_name(d, nic).size(), 15U);
  d.name = "renamed";
  EXPECT_EQ(macvtap_name(d, nic), "tnm0004514f");
}

TEST(MacvtapName, DiffersByGuestAndInterface) {
  domain::Domain d = domain_named("web");
  std::set<std::string> names;
  for (int guest = 0; guest < 50; ++guest) {
    d.uuid.bytes[15] = static_cast<uint8_t>(guest);
    for (int i = 0; i < 20; ++i) {
      domain::Interface nic;
      nic.info.alias = "net" + std::to_string(i);
      names.insert(macvtap_name(d, nic));
    }
  }
  EXPECT_EQ(names.size(), 1000U);
}

TEST(MacvtapName, AGivenNameIsKept) {
  domain::Interface nic;
  nic.target = "mv0";
  EXPECT_EQ(macvtap_name(domain_named("web"), nic), "mv0");
}

TEST(SocketPath, LiesInTheRunsFolderUnlessGiven) {
  HostOptions options = fenced();
  options.runtime_dir = "/run/x";
  domain::Chardev chardev;
  chardev.info.alias = "channel0";
  EXPECT_EQ(socket_path(chardev, options), "/run/x/channel0");
  chardev.name = "org.qemu.guest_agent.0";
  EXPECT_EQ(socket_path(chardev, options), "/run/x/org.qemu.guest_agent.0");
  chardev.path = "/tmp/agent";
  EXPECT_EQ(socket_path(chardev, options), "/tmp/agent");
}

TEST(Plan, ASharedNodeIsAClaimOfEachDevice) {
  domain::Domain d = domain_named("web");
  Facts facts;
  d.disks = {disk("d0", "vda", "/dev/sdb"), disk("d1", "vdb", "/dev/disk/by-id/x"),
             disk("d2", "vdc", "/dev/sdb")};
  facts.chains["d0"] = {node_image("/dev/sdb", 16, false)};
  facts.chains["d1"] = {node_image("/dev/disk/by-id/x", 16, true)};
  facts.chains["d2"] = {node_image("/dev/sdb", 16, false)};
  Plan plan = make_plan(d, facts, fenced());
  auto rules = of_kind(plan, Kind::CgroupPath);
  ASSERT_EQ(rules.size(), 3U);
  EXPECT_EQ(rules[0].access, kReadOnly);
  EXPECT_EQ(rules[0].holder, "disk:vda");
  EXPECT_EQ(rules[0].record.get("reason"), "allow");
  EXPECT_EQ(rules[1].record.get("reason"), "allow") << "it needs more than there is";
  EXPECT_EQ(rules[1].access, kReadWrite);
  EXPECT_EQ(rules[2].record.get("reason"), "share") << "what it needs is allowed already";
  ASSERT_EQ(plan.nodes.size(), 3U) << "QEMU opens it by both names";
  EXPECT_EQ(plan.nodes[0].path, "/dev/sdb");
  EXPECT_EQ(plan.nodes[1].path, "/dev/disk/by-id/x");
  EXPECT_EQ(plan.nodes[0].rdev, plan.nodes[1].rdev);
}

TEST(Plan, ASharedImageIsAnAclClaimOfEachDevice) {
  domain::Domain d = domain_named("web");
  Facts facts;
  d.disks = {disk("d0", "vda", "/a"), disk("d1", "vdb", "/base"), disk("d2", "vdc", "/b")};
  facts.chains["d0"] = {file_image("/a", true), file_image("/base", false)};
  facts.chains["d1"] = {file_image("/base", true)};
  facts.chains["d2"] = {file_image("/b", true), file_image("/base", false)};
  std::vector<std::string> found;
  for (const model::Claim& claim : of_kind(make_plan(d, facts, fenced()), Kind::FileAcl))
    found.push_back(claim.id + " " + std::string(*claim.record.get("reason")) + " " +
                    to_string(claim.access) + " " + claim.holder);
  EXPECT_EQ(found, (std::vector<std::string>{"/a allow rw disk:vda", "/base allow r disk:vda",
                                             "/base allow rw disk:vdb", "/b allow rw disk:vdc",
                                             "/base share r disk:vdc"}));
}

// A device that joins claims its own and nothing of the base list.
TEST(Plan, ADeviceThatJoinsClaimsItsOwn) {
  domain::Domain d = domain_named("web");
  d.rngs.resize(1);
  d.rngs[0].info.alias = "rng0";
  d.rngs[0].backend = "random";
  d.rngs[0].path = "/dev/urandom";
  d.disks = {disk("d0", "vda", "/dev/sdb")};
  Facts facts;
  facts.chains["d0"] = {node_image("/dev/sdb", 16, true)};
  facts.nodes["/dev/urandom"] = {.path = "/dev/urandom",
                                 .type = kernel::FileType::Char,
                                 .rdev = DeviceNumber{DeviceType::Char, 1, 9}};
  HostOptions options = fenced();
  options.base_devices = {"/dev/urandom"};
  Plan plan = plan_devices(d, facts, options);
  std::vector<std::string> found;
  for (const model::Claim& claim : plan.claims)
    found.push_back(claim.kind + " " + claim.id + " " + std::string(*claim.record.get("reason")));
  EXPECT_EQ(found, (std::vector<std::string>{"cgroup /dev/sdb allow", "disk /dev/sdb attach",
                                             "rng /dev/urandom attach"}));
  ASSERT_EQ(plan.nodes.size(), 1U);
  for (const model::Claim& claim : plan.claims)
    EXPECT_TRUE(holder_names(d).contains(claim.holder)) << claim.holder;
}

TEST(Plan, WithoutAFenceThereAreNoCgroupClaims) {
  domain::Domain d = domain_named("web");
  Facts facts;
  d.disks = {disk("d0", "vda", "/dev/sdb")};
  d.chardevs.resize(1);
  d.sounds.resize(1);
  facts.chains["d0"] = {node_image("/dev/sdb", 16, true)};
  Plan plan = make_plan(d, facts, HostOptions{});
  for (const model::Claim& claim : plan.claims) EXPECT_NE(claim.kind, "cgroup");
  EXPECT_TRUE(of_kind(plan, Kind::FileAcl).empty()) << "no uid of its own";
  EXPECT_EQ(of_kind(plan, Kind::Disk).size(), 1U);
}

TEST(Plan, TheFenceIsClosedBeforeAnythingIsAllowed) {
  Plan plan = make_plan(domain_named("web"), Facts{}, fenced());
  ASSERT_GE(plan.claims.size(), 2U);
  EXPECT_EQ(plan.claims[0].record.kind, Kind::CgroupGroup);
  EXPECT_EQ(plan.claims[1].record.kind, Kind::CgroupAll);
}

TEST(Plan, FoldersAreSearchableBeforeTheFilesInThem) {
  domain::Domain d = domain_named("web");
  Facts facts;
  d.disks = {disk("d0", "vda", "/private/a"), disk("d1", "vdb", "/private/b")};
  facts.chains["d0"] = {file_image("/private/a", true)};
  facts.chains["d1"] = {file_image("/private/b", true)};
  facts.closed_folders["/private/a"] = {"/private"};
  facts.closed_folders["/private/b"] = {"/private"};
  auto entries = of_kind(make_plan(d, facts, fenced()), Kind::FileAcl);
  ASSERT_EQ(entries.size(), 4U);
  for (size_t i : {0U, 1U}) {
    EXPECT_EQ(entries[i].id, "/private");
    EXPECT_EQ(entries[i].record.get("acl"), "x");
    EXPECT_EQ(entries[i].record.get("reason"), i == 0 ? "allow" : "share");
  }
}

// Whatever stands in a definition, each record can be written, and read back as it was.
TEST(Plan, RecordsOfHostileNamesAreWrittenAndReadBack) {
  for (const std::string& evil : {std::string("/a' res=success"), std::string("/\x01\x7f\xff\n\""),
                                  std::string("/type=VIRT_CONTROL msg=audit(1.000:1): x"),
                                  std::string("/") + std::string(3000, '\n')}) {
    domain::Domain d = domain_named(evil);
    Facts facts;
    d.disks = {disk(evil, evil, evil), disk("d1", "vdb", "/dev" + evil)};
    facts.chains[evil] = {file_image(evil, true), file_image(evil + "2", false)};
    facts.chains["d1"] = {node_image("/dev" + evil, 16, true)};
    facts.closed_folders[evil] = {evil.substr(0, evil.size() / 2)};
    domain::Chardev chardev;
    chardev.kind = domain::ChardevKind::Unix;
    chardev.path = chardev.info.alias = evil;
    d.chardevs = {chardev};
    domain::Rng rng;
    rng.backend = "random";
    rng.path = rng.info.alias = evil;
    d.rngs = {rng};
    d.os.kernel = d.os.initrd = evil;
    HostOptions options = fenced();
    options.cgroup_v2 = evil;
    if (evil.size() > 1000) {  // only one long value fits a record
      d.disks = {disk("d0", "vda", evil)};
      facts.chains = {{"d0", {file_image(evil, true)}}};
      d.rngs.clear();
      d.chardevs.clear();
      options.cgroup_v2 = "/g";
    }
    for (const model::Claim& claim : make_plan(d, facts, options).claims) {
      trail::Record record = claim.record;
      record.set("virt", "kvm").set("vm", "w").set("uuid", "11111111-2222-3333-4444-555555555555");
      auto body = trail::encode(record);
      ASSERT_TRUE(body) << claim.kind << ": " << body.error().what();
      std::string line = "type=VIRT_RESOURCE msg=audit(1.000:1): msg='" + *body + " res=failed'";
      auto view = trail::decode_line(line);
      ASSERT_TRUE(view);
      auto back = trail::decode_record(*view);
      ASSERT_TRUE(back) << line;
      EXPECT_FALSE(back->success);
      EXPECT_EQ(model::claim_of(*back).id, claim.id);
      EXPECT_EQ(model::claim_of(*back).holder, claim.holder);
    }
  }
}

}  // namespace
}  // namespace tenure::guest
