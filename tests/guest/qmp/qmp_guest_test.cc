// SPDX-License-Identifier: Apache-2.0
// launch() and the QMP client together, with a real QEMU: the monitor's socket is bound before QEMU
// starts and passed as an fd, so that there is no path to race for.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "qemu/process.h"
#include "qemu/qmp.h"

namespace tenure::qemu {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto kTimeout = 30s;
constexpr const char* kQemu = "/usr/bin/qemu-system-x86_64";
constexpr uint32_t kUid = 64125;

asio::awaitable<Result<json>> execute(Qmp& qmp, std::string command, json arguments,
                                      std::vector<int> fds = {}) {
  return qmp.execute(std::move(command), std::move(arguments), kTimeout, std::move(fds));
}

class QmpGuest : public testing::Test {
 protected:
  void SetUp() override {
    if (access(kQemu, X_OK) != 0)
      GTEST_SKIP() << kQemu << " is not installed";
    char name[] = "/tmp/guest_qmp.XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder = name;
  }
  void TearDown() override {
    if (launched) {
      kill(launched->id.pid, SIGKILL);
      waitid(P_PIDFD, static_cast<id_t>(launched->pidfd.get()), nullptr, WEXITED);
    }
    std::error_code ignored;
    if (!folder.empty())
      std::filesystem::remove_all(folder, ignored);
  }

  // Starts QEMU with its monitor on a socket that listens already, and connects to it.
  void start(LaunchSpec spec) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::string path = folder + "/qmp";
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(bind(listener.get(), generic, sizeof address), 0);
    ASSERT_EQ(listen(listener.get(), 1), 0);
    UniqueFd log(memfd_create("QEMU's stderr", MFD_CLOEXEC));
    std::string chardev = "socket,id=m,server=on,wait=off,fd=" + std::to_string(listener.get());
    spec.argv = {kQemu,
                 "-nodefaults",
                 "-no-user-config",
                 "-display",
                 "none",
                 "-S",
                 "-M",
                 "none",
                 "-chardev",
                 chardev,
                 "-mon",
                 "chardev=m,mode=control",
                 "-sandbox",
                 "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"};
    spec.fds = {listener.get()};
    spec.stderr_fd = log.get();
    auto started = launch(spec);
    ASSERT_TRUE(started) << started.error().what();
    launched.emplace(std::move(*started));
    client = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect(client.get(), generic, sizeof address), 0);
  }

  // Runs `body` with the opened client; every failure of `body` is an EXPECT of its own.
  template <class Body>
  void with_qmp(Body body) {
    asio::co_spawn(
        context,
        [this, body]() -> asio::awaitable<void> {
          asio::any_io_executor executor = context.get_executor();
          auto qmp = co_await open_qmp(executor, std::move(client), kTimeout);
          EXPECT_TRUE(qmp) << qmp.error().what();
          if (qmp)
            co_await body(**qmp);
        },
        [](std::exception_ptr thrown) { EXPECT_FALSE(thrown); });
    context.run_for(60s);
    EXPECT_TRUE(context.stopped());
  }

  asio::io_context context;
  std::string folder;
  std::optional<Launched> launched;
  UniqueFd client;
};

TEST_F(QmpGuest, GreetsAndTellsItsState) {
  auto begin = std::chrono::steady_clock::now();
  ASSERT_NO_FATAL_FAILURE(start({}));
  with_qmp([&](Qmp& qmp) -> asio::awaitable<void> {
    auto took = std::chrono::steady_clock::now() - begin;
    printf("launch to capabilities: %ld ms\n",
           static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()));
    json none;
    auto status = co_await execute(qmp, "query-status", none);
    EXPECT_TRUE(status) << status.error().what();
    if (status) {
      EXPECT_EQ((*status)["status"], "prelaunch");
    }
    auto unknown = co_await execute(qmp, "no-such-command", none);
    EXPECT_FALSE(unknown);
    if (!unknown) {
      EXPECT_EQ(unknown.error().code(), Errc::Unsupported);
    }
    json nobody = {{"id", "nobody"}};
    auto missing = co_await execute(qmp, "device_del", nobody);
    EXPECT_FALSE(missing);
    if (!missing) {
      EXPECT_EQ(missing.error().code(), Errc::NotFound);
    }
    // The largest reply there is stays far below our bounds.
    auto schema = co_await execute(qmp, "query-qmp-schema", none);
    EXPECT_TRUE(schema) << schema.error().what();
    if (schema) {
      EXPECT_GT(schema->size(), 500U);
    }
  });
}

TEST_F(QmpGuest, TakesAnFdAndUsesIt) {
  ASSERT_NO_FATAL_FAILURE(start({}));
  std::string path = folder + "/disk.raw";
  UniqueFd disk(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(ftruncate(disk.get(), 1 << 20), 0);
  ASSERT_EQ(unlink(path.c_str()), 0);  // by the fd or not at all
  with_qmp([&](Qmp& qmp) -> asio::awaitable<void> {
    json set = {{"fdset-id", 1}, {"opaque", "disk.raw"}};
    std::vector<int> fds = {disk.get()};
    auto added = co_await execute(qmp, "add-fd", set, fds);
    EXPECT_TRUE(added) << added.error().what();
    json node = {{"driver", "file"}, {"node-name", "d"}, {"filename", "/dev/fdset/1"}};
    auto opened = co_await execute(qmp, "blockdev-add", node);
    EXPECT_TRUE(opened) << opened.error().what();
    json bad = {{"driver", "file"}, {"node-name", "e"}, {"filename", folder + "/nothing"}};
    auto refused = co_await execute(qmp, "blockdev-add", bad);
    EXPECT_FALSE(refused);
    if (!refused) {
      EXPECT_EQ(refused.error().code(), Errc::Internal);
    }
    json no_fd = {{"fdset-id", 2}};
    auto without = co_await execute(qmp, "add-fd", no_fd);
    EXPECT_FALSE(without) << "add-fd took an fd that was never sent";
  });
}

TEST_F(QmpGuest, QuitComesWithShutdownThenTheEnd) {
  ASSERT_NO_FATAL_FAILURE(start({}));
  std::vector<std::string> seen;
  with_qmp([&](Qmp& qmp) -> asio::awaitable<void> {
    asio::steady_timer over(context, kTimeout);
    qmp.on_event([&](const QmpEvent& event) {
      seen.push_back(event.name);
      EXPECT_GT(event.time_us, 1'600'000'000'000'000);
      EXPECT_EQ((*event.data)["reason"], "host-qmp-quit");
    });
    qmp.on_close([&](const Error& reason) {
      seen.push_back(reason.what());
      over.cancel();
    });
    json none;
    auto quit = co_await execute(qmp, "quit", none);
    EXPECT_TRUE(quit) << quit.error().what();
    asio::error_code woken;
    co_await over.async_wait(asio::redirect_error(asio::use_awaitable, woken));
  });
  // The end is a hang-up, or a reset if QEMU went with something of ours unread.
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0], "SHUTDOWN");
  EXPECT_TRUE(seen[1] == "QEMU hung up" || seen[1].ends_with("Connection reset by peer"))
      << seen[1];
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PIDFD, static_cast<id_t>(launched->pidfd.get()), &info, WEXITED), 0);
  EXPECT_EQ(info.si_status, 0);
  launched.reset();
}

TEST_F(QmpGuest, AKilledQemuFailsWhatIsPending) {
  ASSERT_NO_FATAL_FAILURE(start({}));
  with_qmp([&](Qmp& qmp) -> asio::awaitable<void> {
    kill(launched->id.pid, SIGSTOP);
    asio::co_spawn(
        context,
        [&]() -> asio::awaitable<void> {
          kill(launched->id.pid, SIGKILL);
          co_return;
        },
        asio::detached);
    json none;
    auto status = co_await execute(qmp, "query-status", none);
    EXPECT_FALSE(status);
    if (!status) {
      EXPECT_EQ(status.error().code(), Errc::Lost);
    }
  });
}

// The whole confinement at once: own uid, no capability, private /dev with two nodes, seccomp on.
TEST_F(QmpGuest, RunsConfined) {
  if (geteuid() != 0)
    GTEST_SKIP() << "needs root: uid, mounts";
  if (auto built = kernel::build_private_dev({}); !built)
    GTEST_SKIP() << "cannot build a private /dev: " << built.error().what();
  LaunchSpec spec;
  spec.uid = spec.gid = kUid;
  spec.nofile = 1024;
  spec.dev_nodes = {{"/dev/null", {DeviceType::Char, 1, 3}, 0, 0, 0666},
                    {"/dev/urandom", {DeviceType::Char, 1, 9}, 0, 0, 0666}};
  ASSERT_NO_FATAL_FAILURE(start(std::move(spec)));
  with_qmp([&](Qmp& qmp) -> asio::awaitable<void> {
    json none;
    auto status = co_await execute(qmp, "query-status", none);
    EXPECT_TRUE(status) << status.error().what();
    auto facts = kernel::process_status(launched->id.pid);
    EXPECT_TRUE(facts) << facts.error().what();
    if (facts) {
      EXPECT_EQ(facts->uid, kUid);
      EXPECT_EQ(facts->cap_eff, 0U);
      EXPECT_EQ(facts->seccomp, 2);
    }
    // A node that comes later, in the guest's /dev only.
    auto dev = kernel::open_guest_dev(launched->id.pid);
    EXPECT_TRUE(dev) << dev.error().what();
    if (!dev)
      co_return;
    kernel::DevNode zero{"/dev/tenure-zero", {DeviceType::Char, 1, 5}, kUid, kUid, 0600};
    auto added = kernel::add_node(dev->get(), zero);
    EXPECT_EQ(added, kernel::Outcome::Changed);
    json chardev = {{"id", "z"},
                    {"backend", {{"type", "serial"}, {"data", {{"device", "/dev/tenure-zero"}}}}}};
    auto opened = co_await execute(qmp, "chardev-add", chardev);
    EXPECT_TRUE(opened) << opened.error().what();
    auto removed = kernel::remove_node(dev->get(), zero);
    EXPECT_EQ(removed, kernel::Outcome::Changed);
  });
}

}  // namespace
}  // namespace tenure::qemu
