// SPDX-License-Identifier: Apache-2.0
#include "base/unix_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>

#include "base/file.h"

namespace tenure {
namespace {

// The address, and the folder's fd that must stay open while it is used.
struct Address {
  sockaddr_un addr{};
  UniqueFd folder;
};

Result<Address> address_of(const std::string& path) {
  Address address;
  address.addr.sun_family = AF_UNIX;
  std::string shown = path;
  if (shown.size() >= sizeof address.addr.sun_path) {
    size_t slash = path.rfind('/');
    TRY(address.folder, open_file(path.substr(0, slash), O_PATH | O_DIRECTORY));
    shown = fmt::format("/proc/self/fd/{}/{}", address.folder.get(), path.substr(slash + 1));
  }
  if (shown.size() >= sizeof address.addr.sun_path)
    return fail(Errc::Invalid, "socket " + path + ": the name is too long");
  std::memcpy(address.addr.sun_path, shown.c_str(), shown.size() + 1);
  return address;
}

const sockaddr* as_sockaddr(const sockaddr_un& addr) {
  return reinterpret_cast<const sockaddr*>(&addr);
}

}  // namespace

Result<> remove_socket(const std::string& path) {
  struct stat st{};
  if (lstat(path.c_str(), &st) < 0)
    return errno == ENOENT ? Result<>{} : fail_sys("stat", path);
  if (!S_ISSOCK(st.st_mode))
    return fail(Errc::Exists, "socket " + path + ": something else has that name; it stays");
  if (unlink(path.c_str()) < 0 && errno != ENOENT)
    return fail_sys("unlink", path);
  return {};
}

Result<UniqueFd> listen_unix(const std::string& path, unsigned mode, int backlog) {
  TRY(Address address, address_of(path));
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd)
    return fail_sys("socket", path);
  TRY_OK(remove_socket(path));
  // The mode of the fd's inode is what bind(2) gives the file, so nobody can connect before chmod.
  if (fchmod(fd.get(), mode) < 0)
    return fail_sys("fchmod", path);
  if (bind(fd.get(), as_sockaddr(address.addr), sizeof address.addr) < 0)
    return fail_sys("bind", path);
  if (chmod(path.c_str(), mode) < 0)
    return fail_sys("chmod", path);
  if (listen(fd.get(), backlog) < 0)
    return fail_sys("listen", path);
  return fd;
}

Result<UniqueFd> connect_unix(const std::string& path) {
  TRY(Address address, address_of(path));
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd)
    return fail_sys("socket", path);
  while (connect(fd.get(), as_sockaddr(address.addr), sizeof address.addr) < 0)
    if (errno != EINTR)
      return fail_sys("connect", path);
  return fd;
}

}  // namespace tenure
