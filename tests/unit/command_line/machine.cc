// SPDX-License-Identifier: Apache-2.0
#include "machine.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "base/unique_fd.h"

namespace tenure::qemu::test {
namespace {

constexpr int kPatienceMs = 60000;  // TCG under AddressSanitizer's neighbours on a busy machine
constexpr size_t kMaxLog = 1U << 20U;

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

UniqueFd unix_socket(const std::string& path, bool listening) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address = address_of(path);
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  const int rc = listening ? ::bind(fd.get(), name, sizeof address)
                           : ::connect(fd.get(), name, sizeof address);
  if (rc != 0 || (listening && ::listen(fd.get(), 1) != 0))
    return {};
  return fd;
}

// Reads until `word` was seen; false at end of file or when patience is at its end.
bool read_until(int fd, const std::string& word) {
  std::string seen;
  std::array<char, 4096> buffer{};
  while (seen.find(word) == std::string::npos) {
    pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, kPatienceMs) <= 0)
      return false;
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n <= 0)
      return false;
    seen.append(buffer.data(), static_cast<size_t>(n));
  }
  return true;
}

bool say(int fd, const std::string& text) {
  return ::send(fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

pid_t spawn(const std::vector<std::string>& argv, const std::string& log) {
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid != 0)
    return pid;
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(out, 1);
  ::dup2(out, 2);
  ::execv(words[0], words.data());
  ::_exit(127);
}

std::string converse(const std::string& socket) {
  const UniqueFd qmp = unix_socket(socket, false);
  if (!qmp)
    return "no monitor";
  if (!read_until(qmp.get(), "\"QMP\""))
    return "no greeting";
  if (!say(qmp.get(), "{\"execute\":\"qmp_capabilities\"}") || !read_until(qmp.get(), "return")) {
    return "no capabilities";
  }
  // A monitor that hangs up forgets what it was told: wait for the answer.
  const bool quit = say(qmp.get(), "{\"execute\":\"quit\"}") && read_until(qmp.get(), "return");
  return quit ? "" : "cannot quit";
}

}  // namespace

bool has_qemu() {
  return ::access("/usr/bin/qemu-system-x86_64", X_OK) == 0;
}

TempDir::TempDir() {
  std::string name = "/tmp/command_line." + std::to_string(::getpid()) + ".XXXXXX";
  path_ = ::mkdtemp(name.data());
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempDir::file(const std::string& name, uint64_t size) const {
  const std::string path = path_ + "/" + name;
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  return ::ftruncate(fd.get(), static_cast<off_t>(size)) == 0 ? path : "";
}

std::string run_qemu(const domain::Domain& domain, Wiring wiring) {
  const TempDir dir;
  const std::string socket = dir.path() + "/qmp", log = dir.path() + "/log";
  UniqueFd listening = unix_socket(socket, true);
  wiring.monitor_fd = listening.get();
  if (wiring.runtime_dir.empty())
    wiring.runtime_dir = dir.path();
  auto argv = command_line(domain, wiring);
  if (!argv)
    return argv.error().what();
  const pid_t pid = spawn(*argv, log);
  listening.reset();  // so that a QEMU that dies early hangs up
  std::string fault = converse(socket);
  if (!fault.empty())
    ::kill(pid, SIGKILL);
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (fault.empty() && status != 0)
    fault = "exit status " + std::to_string(status);
  if (fault.empty())
    return "";
  return fault + ": " + read_file(log, kMaxLog).value_or("?");
}

}  // namespace tenure::qemu::test
