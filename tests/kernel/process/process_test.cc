// SPDX-License-Identifier: Apache-2.0
// Who is at the other end, what it has open, and that nobody is blamed for a pid that was reused.
#include "kernel/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <functional>

#include "base/file.h"
#include "base/text.h"

namespace tenure::kernel {
namespace {

// A forked process that runs `body` and then waits for the end of its pipe; killed at the end.
class Child {
 public:
  explicit Child(const std::function<void()>& body) {
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) < 0)
      return;
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      body();
      if (write(ready[1], "x", 1) != 1)
        _exit(2);
      for (;;) pause();
    }
    UniqueFd reader(ready[0]);
    close(ready[1]);
    char byte = 0;
    started_ = read(reader.get(), &byte, 1) == 1;
  }
  ~Child() { end(); }
  void end() {
    if (pid_ <= 0)
      return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  pid_t pid() const { return pid_; }
  bool started() const { return started_; }

 private:
  pid_t pid_ = 0;
  bool started_ = false;
};

std::string own_exe() {
  char path[4096];
  ssize_t size = readlink("/proc/self/exe", path, sizeof path);
  return std::string(path, static_cast<size_t>(size));
}

TEST(ProcessId, NamesALifeOfAPid) {
  Child child([] {});
  ASSERT_TRUE(child.started());
  ProcessId id = process_id(child.pid()).value();
  UniqueFd pidfd = open_process(id).value();
  ProcessId other = id;
  other.start_ticks += 1;
  EXPECT_EQ(open_process(other).error().code(), Errc::NotFound);
  child.end();
  pollfd ended{pidfd.get(), POLLIN, 0};
  EXPECT_EQ(poll(&ended, 1, 0), 1);
  EXPECT_EQ(open_process(id).error().code(), Errc::NotFound);
  EXPECT_EQ(process_id(id.pid).error().code(), Errc::NotFound);
}

TEST(ProcessId, SurvivesAHostileCommandName) {
  Child child([] { prctl(PR_SET_NAME, ") S 1 2 (\n)"); });
  Child plain([] {});
  ASSERT_TRUE(child.started() && plain.started());
  uint64_t hostile = process_id(child.pid()).value().start_ticks;
  uint64_t honest = process_id(plain.pid()).value().start_ticks;
  EXPECT_LE(hostile, honest);
  EXPECT_LT(honest - hostile, 1000U);  // 10 s
}

TEST(BootId, IsAUuid) {
  EXPECT_EQ(boot_id().value().size(), 36U);
}

TEST(PeerRequester, NamesTheClient) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd near(ends[0]), far(ends[1]);
  Requester who = peer_requester(near.get()).value();
  EXPECT_EQ(who.pid, getpid());
  EXPECT_EQ(who.uid, getuid());
  EXPECT_EQ(who.exe, own_exe());
  std::string auid = read_file("/proc/self/loginuid", 64).value();
  std::string ses = read_file("/proc/self/sessionid", 64).value();
  EXPECT_EQ(who.auid, parse_int<uint32_t>(trim(auid)));
  EXPECT_EQ(who.ses, parse_int<uint32_t>(trim(ses)));
}

// Connects from a child to an abstract-address listener; returns the accepted end.
UniqueFd accept_from(const UniqueFd& listener) {
  return UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
}
UniqueFd listen_abstract() {
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sa_family_t autobind = AF_UNIX;
  EXPECT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&autobind), sizeof autobind), 0);
  EXPECT_EQ(listen(listener.get(), 4), 0);
  return listener;
}
void connect_to(const UniqueFd& listener) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);  // stays open as long as the child lives
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), size) < 0)
    _exit(3);
}

TEST(PeerRequester, NamesAnotherUserAndTerminal) {
  if (getuid() != 0)
    GTEST_SKIP() << "needs root to change the uid of a child";
  UniqueFd listener = listen_abstract();
  int master = -1, slave = -1;
  ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  UniqueFd master_fd(master), slave_fd(slave);
  std::string terminal = ptsname(master);
  Child child([&] {
    if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0) < 0 || setuid(54321) < 0)
      _exit(3);
    prctl(PR_SET_DUMPABLE, 1);
    connect_to(listener);
  });
  ASSERT_TRUE(child.started());
  UniqueFd peer = accept_from(listener);
  Requester who = peer_requester(peer.get()).value();
  EXPECT_EQ(who.pid, child.pid());
  EXPECT_EQ(who.uid, 54321U);
  EXPECT_EQ("/dev/" + who.tty, terminal);
  EXPECT_EQ(who.exe, own_exe());
}

TEST(PeerRequester, ClientThatIsGoneIsStillNamedByPidAndUid) {
  UniqueFd listener = listen_abstract();
  Child child([&] { connect_to(listener); });
  ASSERT_TRUE(child.started());
  pid_t pid = child.pid();
  UniqueFd peer = accept_from(listener);
  child.end();
  Requester who = peer_requester(peer.get()).value();
  EXPECT_EQ(who.pid, pid);
  EXPECT_EQ(who.uid, getuid());
  EXPECT_EQ(who.exe, "?");
  EXPECT_EQ(who.tty, "?");
  EXPECT_EQ(who.auid, kUnsetId);
}

TEST(PeerRequester, NotASocketIsAnError) {
  UniqueFd null = open_file("/dev/null", O_RDONLY).value();
  Result<Requester> who = peer_requester(null.get());
  ASSERT_FALSE(who);
  EXPECT_NE(who.error().what().find("SO_PEERCRED"), std::string::npos);
}

TEST(RequesterOf, NamesOurselves) {
  Requester who = requester_of(getpid()).value();
  EXPECT_EQ(who.pid, getpid());
  EXPECT_EQ(who.uid, getuid());
  EXPECT_EQ(who.exe, own_exe());
}

TEST(OpenFiles, TellsDevicesAndModes) {
  UniqueFd null = open_file("/dev/null", O_WRONLY).value();
  UniqueFd zero = open_file("/dev/zero", O_RDONLY).value();
  UniqueFd both = open_file("/dev/full", O_RDWR).value();
  std::vector<OpenFile> files = open_files(getpid()).value();
  auto find = [&](const UniqueFd& fd) {
    for (const OpenFile& file : files)
      if (file.fd == fd.get())
        return file;
    ADD_FAILURE() << "fd " << fd.get() << " not listed";
    return OpenFile{};
  };
  OpenFile seen = find(null);
  EXPECT_EQ(seen.target, "/dev/null");
  EXPECT_EQ(seen.rdev, (DeviceNumber{DeviceType::Char, 1, 3}));
  EXPECT_TRUE(seen.writable && !seen.readable);
  seen = find(zero);
  EXPECT_EQ(seen.rdev, (DeviceNumber{DeviceType::Char, 1, 5}));
  EXPECT_TRUE(seen.readable && !seen.writable);
  seen = find(both);
  EXPECT_TRUE(seen.readable && seen.writable);
}

TEST(OpenFiles, RegularFilesByInode) {
  std::string path = fmt::format("{}tenure-open-files-{}", testing::TempDir(), getpid());
  UniqueFd file = open_file(path, O_RDWR | O_CREAT).value();
  unlink(path.c_str());
  struct stat expected{};
  ASSERT_EQ(fstat(file.get(), &expected), 0);
  bool found = false;
  std::vector<OpenFile> files = open_files(getpid()).value();
  for (const OpenFile& open : files) {
    if (open.fd != file.get())
      continue;
    found = true;
    EXPECT_EQ(open.ino, expected.st_ino);
    EXPECT_EQ(open.dev, expected.st_dev);
    EXPECT_EQ(open.target, path + " (deleted)");
    EXPECT_FALSE(open.rdev);
  }
  EXPECT_TRUE(found);
}

TEST(OpenFiles, OfNobodyIsNotFound) {
  Child child([] {});
  pid_t pid = child.pid();
  child.end();
  EXPECT_EQ(open_files(pid).error().code(), Errc::NotFound);
  EXPECT_EQ(process_status(pid).error().code(), Errc::NotFound);
  EXPECT_EQ(requester_of(pid).error().code(), Errc::NotFound);
}

TEST(ProcessStatus, OfAnUnprivilegedChild) {
  if (getuid() != 0)
    GTEST_SKIP() << "needs root to change the uid of a child";
  Child child([] {
    if (setuid(54321) < 0)
      _exit(3);
  });
  ASSERT_TRUE(child.started());
  ProcessStatus status = process_status(child.pid()).value();
  EXPECT_EQ(status.uid, 54321U);
  EXPECT_EQ(status.euid, 54321U);
  EXPECT_EQ(status.cap_eff, 0U);
  EXPECT_EQ(status.seccomp, 0);
  EXPECT_GT(status.rss_kib, 100);
  EXPECT_NE(process_status(getpid()).value().cap_eff, 0U);
}

}  // namespace
}  // namespace tenure::kernel
