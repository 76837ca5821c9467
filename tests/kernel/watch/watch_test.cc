// SPDX-License-Identifier: Apache-2.0
// Somebody else's hand is seen, by name and in time: writes to cgroup files, changes of maps and
// attachments, moves of tasks, attributes of files. The somebody is a child process.
#include "kernel/watch.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <chrono>
#include <vector>

#include "base/file.h"
#include "tests/kernel/fence/support.h"

namespace tenure::kernel {
namespace {

using testing::Cgroups;
using testing::Prisoner;
using Command = Prisoner::Command;
using namespace std::chrono_literals;
constexpr auto kInTime = 10ms;     // the promise
constexpr int kPatienceMs = 5000;  // of a test on a busy machine

class WatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0)
      GTEST_SKIP() << "needs root";
    cgroups_ = std::make_unique<Cgroups>(find_cgroup_mounts().value());
  }

  // The first sighting that fits, waited for. Says how long it took since `since`.
  template <class Fits>
  std::optional<Sighting> await(Watch& watch, Fits fits) {
    std::optional<Sighting> found;
    auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
    while (!found && std::chrono::steady_clock::now() < deadline) {
      pollfd waiting{.fd = watch.fd(), .events = POLLIN, .revents = 0};
      poll(&waiting, 1, kPatienceMs);
      auto drained = watch.drain([&](Sighting&& seen) {
        if (!found && fits(seen))
          found = std::move(seen);
      });
      EXPECT_TRUE(drained) << drained.error().what();
    }
    return found;
  }

  std::unique_ptr<Cgroups> cgroups_;
};

int write_line(const Command& command) {
  // "FILE\nTEXT"
  std::string all = command.path;
  size_t end = all.find('\n');
  int fd = open(all.substr(0, end).c_str(), O_WRONLY | O_CLOEXEC);
  std::string text = all.substr(end + 1);
  int err = fd < 0 || write(fd, text.data(), text.size()) < 0 ? errno : 0;
  close(fd);
  return err;
}

class CgroupFiles : public WatchTest,
                    public ::testing::WithParamInterface<std::pair<CgroupVersion, const char*>> {};

TEST_P(CgroupFiles, AWriterIsSeenByName) {
  auto [version, file] = GetParam();
  if (cgroups_->mount(version).empty())
    GTEST_SKIP() << "that hierarchy is not mounted";
  auto watch = watch_cgroup_files(cgroups_->mounts());
  ASSERT_TRUE(watch) << watch.error().what();
  auto group = cgroups_->make(version);
  ASSERT_TRUE(group);
  Prisoner somebody;
  std::string path = group->path() + "/" + file;
  bool device = std::string_view(file).starts_with("devices");
  std::string text = device ? "c 1:5 r" : std::to_string(somebody.pid());
  auto before = std::chrono::steady_clock::now();
  ASSERT_EQ(somebody.run(write_line, path + "\n" + text), 0);
  auto seen = await(**watch, [&](const Sighting& s) { return s.path == path; });
  auto took = std::chrono::steady_clock::now() - before;
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->what, Sighting::What::Write);
  EXPECT_EQ(seen->who.pid, somebody.pid());
  EXPECT_EQ(seen->who.uid, geteuid());
  EXPECT_NE(seen->who.exe.find("kernel_watch"), std::string::npos) << seen->who.exe;
  RecordProperty("microseconds", static_cast<int>(took / 1us));
  EXPECT_LT(took, 10 * kInTime) << "ten times the promise, on a busy machine";
}

INSTANTIATE_TEST_SUITE_P(Files, CgroupFiles,
                         ::testing::Values(std::pair{CgroupVersion::V1, "devices.allow"},
                                           std::pair{CgroupVersion::V1, "devices.deny"},
                                           std::pair{CgroupVersion::V1, "cgroup.procs"},
                                           std::pair{CgroupVersion::V1, "tasks"},
                                           std::pair{CgroupVersion::V2, "cgroup.procs"}),
                         [](const auto& param) {
                           std::string name =
                               param.param.first == CgroupVersion::V1 ? "V1_" : "V2_";
                           for (const char* at = param.param.second; *at != '\0'; ++at)
                             name += *at == '.' ? '_' : *at;
                           return name;
                         });

TEST_F(WatchTest, OwnWritesAndOtherFilesAreNotSeen) {
  const std::string& mount = cgroups_->mounts().v1_devices;
  if (mount.empty())
    GTEST_SKIP() << "no devices controller of cgroup v1";
  auto watch = watch_cgroup_files(cgroups_->mounts());
  ASSERT_TRUE(watch);
  auto group = cgroups_->make(CgroupVersion::V1);
  ASSERT_TRUE(group);
  Prisoner somebody;
  auto own = open_file(group->path() + "/devices.deny", O_WRONLY);
  ASSERT_TRUE(write_all(own->get(), "c 1:5 w", "devices.deny"));
  ASSERT_EQ(somebody.run(write_line, group->path() + "/notify_on_release\n0"), 0);
  ASSERT_EQ(somebody.run(write_line, group->path() + "/devices.deny\nc 1:7 w"), 0);
  size_t count = 0;
  await(**watch, [&](const Sighting& s) {
    if (s.path.starts_with(group->path()))
      ++count;
    return s.who.pid == somebody.pid();
  });
  EXPECT_EQ(count, 1U);
}

class BpfCalls : public WatchTest {
 protected:
  void SetUp() override {
    WatchTest::SetUp();
    if (IsSkipped())
      return;
    if (auto why = testing::missing_for_v2(cgroups_->mounts()); !why.empty())
      GTEST_SKIP() << why;
    auto watch = watch_bpf_calls();
    // What a kernel must have for it is asked of the kernel alone.
    if (!watch && watch.error().code() == Errc::Denied)
      GTEST_SKIP() << watch.error().what();
    ASSERT_TRUE(watch) << watch.error().what();
    watch_ = std::move(*watch);
  }
  std::unique_ptr<Watch> watch_;
};

TEST_F(BpfCalls, AChangedMapIsNamedWithItsChanger) {
  UniqueFd map(bpf_map_create(BPF_MAP_TYPE_HASH, "tenure_test", 4, 4, 8, nullptr));
  ASSERT_TRUE(map);
  bpf_map_info info{};
  uint32_t size = sizeof info;
  ASSERT_EQ(bpf_obj_get_info_by_fd(map.get(), &info, &size), 0);
  Prisoner somebody;  // has the descriptor
  auto update = [](const Command& c) {
    uint32_t key = 1, value = 2;
    return -bpf_map_update_elem(c.flags, &key, &value, BPF_ANY);
  };
  ASSERT_EQ(somebody.run(update, "", map.get()), 0);
  auto seen = await(*watch_, [&](const Sighting& s) { return s.object == info.id; });
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->what, Sighting::What::Map);
  EXPECT_EQ(seen->who.pid, somebody.pid());
  EXPECT_EQ(seen->who.uid, geteuid());
  EXPECT_FALSE(seen->who.comm.empty());
}

TEST_F(BpfCalls, AnAttachedProgramIsSeenWithItsCgroup) {
  auto group = cgroups_->make(CgroupVersion::V2);
  ASSERT_TRUE(group);
  Prisoner somebody;
  auto attach = [](const Command& c) {
    bpf_insn allow[] = {{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1},
                        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    int program = bpf_prog_load(BPF_PROG_TYPE_CGROUP_DEVICE, "other", "GPL", allow, 2, nullptr);
    int dir = open(c.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = bpf_prog_attach(program, dir, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI);
    close(dir);
    close(program);
    return -err;
  };
  ASSERT_EQ(somebody.run(attach, group->path()), 0);
  auto seen = await(*watch_, [&](const Sighting& s) { return s.object == group->inode(); });
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->what, Sighting::What::Attach);
  EXPECT_EQ(seen->who.pid, somebody.pid());
}

TEST_F(BpfCalls, AMovedTaskIsSeenWithItsMover) {
  auto group = cgroups_->make(CgroupVersion::V2);
  ASSERT_TRUE(group);
  Prisoner somebody, moved;
  ASSERT_EQ(
      somebody.run(write_line, group->path() + "/cgroup.procs\n" + std::to_string(moved.pid())), 0);
  auto seen = await(*watch_, [&](const Sighting& s) { return s.moved == moved.pid(); });
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->what, Sighting::What::Move);
  EXPECT_EQ(seen->object, group->inode());
  EXPECT_EQ(seen->who.pid, somebody.pid());
}

TEST_F(WatchTest, AttributesOfAFileAreSeenEvenUnderAnotherName) {
  std::string path = "/tmp/tenure-watch-" + std::to_string(getpid());
  ASSERT_TRUE(write_file_atomic(path, "x"));
  auto watch = watch_files();
  ASSERT_TRUE(watch);
  auto fd = open_file(path, O_PATH);
  auto number = (*watch)->add(fd->get());
  ASSERT_TRUE(number) << number.error().what();
  ASSERT_EQ(rename(path.c_str(), (path + "-2").c_str()), 0);
  ASSERT_EQ(chmod((path + "-2").c_str(), 0640), 0);
  auto seen = await(**watch, [&](const Sighting& s) { return s.object == *number; });
  unlink((path + "-2").c_str());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->what, Sighting::What::File);
}

}  // namespace
}  // namespace tenure::kernel
