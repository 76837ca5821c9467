// SPDX-License-Identifier: Apache-2.0
// The small files that a daemon finds its guests by, and the uids that keep guests apart.
#include "guest/run/run_state.h"
#include "guest/run/uids.h"
#include "tests/unit/guest/folder.h"

namespace tenure::guest {
namespace {

constexpr char kUuid[] = "11111111-2222-3333-4444-555555555555";
constexpr char kOther[] = "11111111-2222-3333-4444-666666666666";

class StateTest : public test::FolderTest {
 protected:
  static RunState state(const std::string& uuid = kUuid) {
    RunState s;
    s.ref = {.virt = "kvm", .vm = "web \"1\"\n res=success", .uuid = uuid, .run = 7};
    s.fence = "v2";
    s.slot = 4000000000U;
    s.cgroup_v2 = "/sys/fs/cgroup/tenure-x";
    s.uid = 70001;
    s.process = {.pid = 4711, .start_ticks = 123456789012ULL};
    s.xml = "<domain type='kvm'>\n<name>é</name></domain>";
    s.boot_id = "b";
    s.started = true;
    return s;
  }
  std::string file(const std::string& uuid = kUuid) const {
    return run_dir(paths, uuid) + "/state.json";
  }
  Settings settings(uint32_t count = 10) const {
    Settings s;
    s.uid_first = 70000;
    s.uid_count = count;
    return s;
  }
};

TEST_F(StateTest, ARunIsFoundAgainAsItWas) {
  RunState before = state();
  ASSERT_TRUE(save_run(paths, before));
  auto after = load_run(file());
  ASSERT_TRUE(after) << after.error().what();
  EXPECT_EQ(after->ref.virt, before.ref.virt);
  EXPECT_EQ(after->ref.vm, before.ref.vm);
  EXPECT_EQ(after->ref.uuid, before.ref.uuid);
  EXPECT_EQ(after->ref.run, 7U);
  EXPECT_EQ(after->fence, "v2");
  EXPECT_EQ(after->slot, 4000000000U);
  EXPECT_EQ(after->cgroup_v2, before.cgroup_v2);
  EXPECT_EQ(after->cgroup_v1, "");
  EXPECT_EQ(after->uid, 70001U);
  EXPECT_EQ(after->process.pid, 4711);
  EXPECT_EQ(after->process.start_ticks, 123456789012ULL);
  EXPECT_EQ(after->xml, before.xml);
  EXPECT_EQ(after->boot_id, "b");
  EXPECT_TRUE(after->started);
}

TEST_F(StateTest, AnUnprivilegedRunHasNoUid) {
  RunState s = state();
  s.uid.reset();
  ASSERT_TRUE(save_run(paths, s));
  EXPECT_EQ(load_run(file())->uid, std::nullopt);
}

TEST_F(StateTest, HelpersAreFoundAgain) {
  RunState s = state();
  s.helpers["fs0"] = {.kind = "virtiofsd", .process = {4711, 99}, .dev = 7, .ino = 1ULL << 60U};
  ASSERT_TRUE(save_run(paths, s));
  auto found = load_run(file());
  ASSERT_TRUE(found);
  ASSERT_EQ(found->helpers.size(), 1U);
  EXPECT_EQ(found->helpers["fs0"].process, s.helpers["fs0"].process);
  EXPECT_EQ(found->helpers["fs0"].ino, 1ULL << 60U);
}

TEST_F(StateTest, WhoAskedForADeviceIsFoundAgain) {
  RunState s = state();
  s.leaving["virtio-disk1"] = {
      .txn = {.id = "t1",
              .who = {.auid = 1000, .ses = 3, .uid = 0, .pid = 99, .exe = "/a b", .tty = "pts/1"}},
      .heard = true};
  s.leaving["net1"] = {.txn = {.id = "t2", .who = {}}};
  ASSERT_TRUE(save_run(paths, s));
  auto found = load_run(file());
  ASSERT_TRUE(found);
  ASSERT_EQ(found->leaving.size(), 2U);
  const Leaving& disk = found->leaving["virtio-disk1"];
  EXPECT_EQ(disk.txn.id, "t1");
  EXPECT_EQ(disk.txn.who.auid, 1000U);
  EXPECT_EQ(disk.txn.who.pid, 99);
  EXPECT_EQ(disk.txn.who.exe, "/a b");
  EXPECT_TRUE(disk.heard);
  EXPECT_FALSE(found->leaving["net1"].heard);
}

TEST_F(StateTest, OneOfAnEarlierVersionKnowsOfNoRequest) {
  std::string text = run_text(state());
  size_t at = text.find("\"leaving\"");
  ASSERT_NE(at, text.npos);
  text.replace(at, 9, "\"unknown\"");
  auto found = parse_run(text, "state.json");
  ASSERT_TRUE(found) << found.error().what();
  EXPECT_TRUE(found->leaving.empty());
}

TEST_F(StateTest, EachFileStandsForItself) {
  ASSERT_TRUE(save_run(paths, state()));
  put(file(kOther), "{\"virt\": 1");
  auto runs = load_runs(paths);
  ASSERT_TRUE(runs);
  ASSERT_EQ(runs->size(), 2U);
  bool first_good = (*runs)[0].has_value();
  EXPECT_NE(first_good, (*runs)[1].has_value());
  const Error& error = (*runs)[first_good ? 1 : 0].error();
  EXPECT_EQ(error.code(), Errc::Corrupt);
  EXPECT_NE(error.what().find(file(kOther)), std::string::npos);
}

TEST_F(StateTest, NoFolderIsNoRuns) {
  auto runs = load_runs(paths);
  ASSERT_TRUE(runs);
  EXPECT_TRUE(runs->empty());
}

TEST_F(StateTest, AStateOfAnotherFormIsCorrupt) {
  for (const char* text : {"", "[]", "{}", "null", "{\"virt\":\"kvm\",\"vm\":3}"}) {
    put(file(), text);
    auto run = load_run(file());
    ASSERT_FALSE(run) << text;
    EXPECT_EQ(run.error().code(), Errc::Corrupt) << text;
  }
}

// forget_run() removes the folder of that name.
TEST_F(StateTest, AUuidThatIsAPathIsCorrupt) {
  RunState evil = state("../../var");
  ASSERT_TRUE(save_run(paths, evil));
  auto run = load_run(run_dir(paths, "../../var") + "/state.json");
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().code(), Errc::Corrupt);
}

TEST_F(StateTest, ForgettingRemovesTheFolderAndIsDoneTwice) {
  ASSERT_TRUE(save_run(paths, state()));
  ASSERT_TRUE(forget_run(paths, kUuid));
  EXPECT_FALSE(std::filesystem::exists(run_dir(paths, kUuid)));
  EXPECT_TRUE(forget_run(paths, kUuid));
}

TEST_F(StateTest, AGuestKeepsItsUidAndSharesItWithNobody) {
  auto first = uid_of(paths, settings(), kUuid);
  auto second = uid_of(paths, settings(), kOther);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(**first, 70000U);
  EXPECT_EQ(**second, 70001U);
  EXPECT_EQ(**uid_of(paths, settings(), kUuid), 70000U);
}

TEST_F(StateTest, WithoutARangeThereIsNoUid) {
  auto uid = uid_of(paths, Settings{}, kUuid);
  ASSERT_TRUE(uid);
  EXPECT_FALSE(*uid);
  EXPECT_FALSE(std::filesystem::exists(paths.state + "/uids.json"));
}

TEST_F(StateTest, AnUsedUpRangeSaysWhatToDo) {
  ASSERT_TRUE(uid_of(paths, settings(1), kUuid));
  auto none = uid_of(paths, settings(1), kOther);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), Errc::Busy);
  EXPECT_NE(none.error().what().find("uid_count"), std::string::npos);
  EXPECT_EQ(**uid_of(paths, settings(1), kUuid), 70000U);
}

TEST_F(StateTest, UidsThatWouldNotKeepGuestsApartAreCorrupt) {
  std::string uuid = kUuid, other = kOther;
  for (const std::string& text :
       {std::string("[]"), std::string("{"), "{\"" + uuid + "\": 0}", "{\"" + uuid + "\": -1}",
        "{\"" + uuid + "\": 4294967295}", "{\"" + uuid + "\": 4295037296}",
        "{\"" + uuid + "\": \"x\"}", "{\"" + uuid + "\": 70000, \"" + other + "\": 70000}"}) {
    put(paths.state + "/uids.json", text);
    auto uid = uid_of(paths, settings(), kUuid);
    ASSERT_FALSE(uid) << text;
    EXPECT_EQ(uid.error().code(), Errc::Corrupt) << text;
  }
}

}  // namespace
}  // namespace tenure::guest
