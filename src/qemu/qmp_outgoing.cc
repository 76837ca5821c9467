// SPDX-License-Identifier: Apache-2.0
#include "qemu/qmp_outgoing.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace tenure::qemu {

ssize_t send_some(int socket, const Outgoing& message) {
  iovec part = {const_cast<char*>(message.bytes.data()) + message.sent,
                message.bytes.size() - message.sent};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))] = {};
  if (message.sent == 0 && !message.fds.empty()) {
    size_t size = message.fds.size() * sizeof(int);
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(size);
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(size);
    unsigned char* at = CMSG_DATA(rights);
    for (const UniqueFd& fd : message.fds) {
      int number = fd.get();
      memcpy(at, &number, sizeof number);
      at += sizeof number;
    }
  }
  ssize_t n = -1;
  do {
    n = sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  return n;
}

}  // namespace tenure::qemu
