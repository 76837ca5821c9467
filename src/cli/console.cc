// SPDX-License-Identifier: Apache-2.0
#include "cli/console.h"

#include <fcntl.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "base/file.h"
#include "base/unix_socket.h"

namespace tenure::cli {
namespace {

constexpr char kEscape = 0x1D;  // Ctrl-], as telnet and virsh have it

class RawTerminal {
 public:
  RawTerminal() : active_(isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &before_) == 0) {
    if (!active_)
      return;
    termios raw = before_;
    cfmakeraw(&raw);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    std::fputs("Connected; Ctrl-] leaves.\r\n", stderr);
  }
  ~RawTerminal() {
    if (active_)
      tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  bool active() const { return active_; }

 private:
  termios before_{};
  bool active_;
};

Result<UniqueFd> open_console(const std::string& type, const std::string& path) {
  if (type == "unix")
    return connect_unix(path);
  TRY(UniqueFd fd, open_file(path, O_RDWR | O_NOCTTY));
  termios raw{};
  if (tcgetattr(fd.get(), &raw) == 0) {
    cfmakeraw(&raw);
    tcsetattr(fd.get(), TCSANOW, &raw);
  }
  return fd;
}

// Moves what is there from one side to the other. False at the end of input, or after Ctrl-].
Result<bool> copy(int from, int to, bool from_terminal, std::string_view name) {
  char chunk[4096];
  ssize_t n = read(from, chunk, sizeof chunk);
  if (n < 0 && (errno == EINTR || errno == EAGAIN))
    return true;
  if (n < 0 && errno == EIO)
    return false;  // the other side of the pty is gone: the guest ended
  if (n < 0)
    return fail_sys("read", name);
  std::string_view bytes(chunk, static_cast<size_t>(n));
  size_t escape = from_terminal ? bytes.find(kEscape) : bytes.npos;
  TRY_OK(write_all(to, bytes.substr(0, escape), name));
  return n > 0 && escape == bytes.npos;
}

}  // namespace

Result<> relay_console(const std::string& type, const std::string& path) {
  TRY(UniqueFd console, open_console(type, path));
  RawTerminal terminal;
  pollfd fds[] = {{console.get(), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  for (;;) {
    if (poll(fds, 2, -1) < 0 && errno != EINTR)
      return fail_sys("poll", path);
    if (fds[0].revents != 0) {
      TRY(bool more, copy(console.get(), STDOUT_FILENO, false, path));
      if (!more)
        return {};
    }
    if (fds[1].revents == 0)
      continue;
    TRY(bool more, copy(STDIN_FILENO, console.get(), terminal.active(), "standard input"));
    if (!more && terminal.active())
      return {};
    if (!more)
      fds[1].fd = -1;  // poll(2) passes it over
  }
}

}  // namespace tenure::cli
