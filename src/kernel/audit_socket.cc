// SPDX-License-Identifier: Apache-2.0
#include "kernel/audit_socket.h"

#include <fmt/format.h>
#include <libaudit.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

namespace tenure::kernel {
namespace {

// PROC_PID_INIT_INO of linux/proc_ns.h: the inode of the initial pid namespace, since Linux 3.8.
constexpr ino_t kInitialPidNamespace = 0xEFFFFFFC;
constexpr size_t kMaxDatagram = 16384;  // a record is at most 8560 bytes of text and its prefix

Error audit_error(std::string_view operation, int err) {
  if (err == EINVAL || err == EPROTONOSUPPORT || err == EAFNOSUPPORT)
    return Error(Errc::Unsupported,
                 "the kernel has no audit (CONFIG_AUDIT, or booted with audit=0)", err);
  if (err == ECONNREFUSED)
    return Error(Errc::Unsupported,
                 fmt::format("{}: refused in a user namespace: run as root of the host", operation),
                 err);
  return sys_error(operation, "", err);
}

// Accepts kFirstAuditType to kLastAuditType. nlmsg_type is in the machine's byte order, but classic
// BPF loads in network order: it is put together from bytes (Documentation/networking/filter.rst).
Result<> attach_type_filter(int fd) {
  constexpr unsigned kType = offsetof(nlmsghdr, nlmsg_type);
  constexpr bool kLittle = std::endian::native == std::endian::little;
  constexpr unsigned kHigh = kLittle ? kType + 1 : kType;
  constexpr unsigned kLow = kLittle ? kType : kType + 1;
  std::array<sock_filter, 9> code{{
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kHigh),
      BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 8),
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kLow),
      BPF_STMT(BPF_ALU | BPF_OR | BPF_X, 0),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kFirstAuditType, 0, 2),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, kLastAuditType, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, 0xFFFFFFFF),
      BPF_STMT(BPF_RET | BPF_K, 0),
  }};
  sock_fprog program{.len = code.size(), .filter = code.data()};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0)
    return fail_sys("attach a filter to", "the audit listener");
  return {};
}

AuditStatus to_status(const audit_status& raw) {
  return {.enabled = raw.enabled,
          .failure = raw.failure,
          .auditd_pid = raw.pid,
          .rate_limit = raw.rate_limit,
          .backlog_limit = raw.backlog_limit,
          .backlog = raw.backlog,
          .lost = raw.lost};
}

AuditNews to_news(std::string_view datagram, uint32_t sender) {
  AuditNews news;
  news.kind = AuditNews::Kind::Other;
  nlmsghdr header{};
  // Port 0 is the kernel: nobody else is to confirm our records.
  if (datagram.size() < NLMSG_HDRLEN || sender != 0)
    return news;
  memcpy(&header, datagram.data(), sizeof header);
  std::optional<AuditEcho> echo =
      parse_audit_echo(header.nlmsg_type, datagram.substr(NLMSG_HDRLEN));
  if (!echo)
    return news;
  news.kind = AuditNews::Kind::Record;
  news.echo = std::move(*echo);
  return news;
}

}  // namespace

Result<UniqueFd> open_audit_socket() {
  int fd = audit_open();
  if (fd < 0)
    return fail(audit_error("open an audit socket", errno));
  return UniqueFd(fd);
}

Result<AuditStatus> query_audit_status(int fd) {
  const int sequence = audit_request_status(fd);
  if (sequence <= 0)
    return fail(audit_error("ask the kernel's audit status (AUDIT_GET, needs CAP_AUDIT_CONTROL)",
                            sequence < 0 ? -sequence : ECONNREFUSED));
  // A kernel thread sends the answer after the ack (audit_send_reply()). What an earlier call did
  // not wait for may come first.
  pollfd readable{fd, POLLIN, 0};
  while (poll(&readable, 1, kAuditReplyMs) > 0) {
    audit_reply reply{};
    int size = audit_get_reply(fd, &reply, GET_REPLY_NONBLOCKING, 0);
    if (size < 0)
      return fail(audit_error("read the kernel's audit status", -size));
    if (reply.nlh->nlmsg_seq != static_cast<uint32_t>(sequence))
      continue;
    if (reply.type == AUDIT_GET && reply.status != nullptr)
      return to_status(*reply.status);
    if (reply.type == NLMSG_ERROR && reply.error != nullptr && reply.error->error != 0)
      return fail(audit_error("ask the kernel's audit status", -reply.error->error));
  }
  return fail(Errc::Timeout,
              fmt::format("the kernel's audit status: no answer in {} ms", kAuditReplyMs));
}

Result<UniqueFd> open_audit_listener(int receive_buffer_bytes) {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_AUDIT));
  if (!fd)
    return fail(audit_error("open an audit socket", errno));
  const int bytes = receive_buffer_bytes;
  if (setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  TRY_OK(attach_type_filter(fd.get()));
  // Unbound it has port 0, the port from which the kernel's broadcasts come and to which none go.
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
    return fail_sys("bind", "the audit listener");
  const int group = AUDIT_NLGRP_READLOG;
  if (setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
    return fail(audit_error("join the audit multicast group (needs CAP_AUDIT_READ)", errno));
  return fd;
}

Result<AuditNews> receive_audit_news(int fd) {
  std::array<char, kMaxDatagram> buffer;
  sockaddr_nl sender{};
  iovec space{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_name = &sender;
  message.msg_namelen = sizeof sender;
  message.msg_iov = &space;
  message.msg_iovlen = 1;
  ssize_t size = recvmsg(fd, &message, MSG_DONTWAIT);
  if (size >= 0)
    return to_news(std::string_view(buffer.data(), static_cast<size_t>(size)), sender.nl_pid);
  AuditNews news;
  if (errno == ENOBUFS)
    news.kind = AuditNews::Kind::Overrun;
  if (errno == ENOBUFS || errno == EAGAIN || errno == EINTR)
    return news;
  return fail_sys("read", "the audit multicast group");
}

int32_t own_audit_pid() {
  struct stat facts{};
  if (stat("/proc/self/ns/pid", &facts) < 0 || facts.st_ino != kInitialPidNamespace)
    return 0;
  return getpid();
}

bool in_initial_net_namespace(const std::string& sysctl_net_core) {
  // netdev_max_backlog is registered for the initial namespace alone (net/core/sysctl_net_core.c),
  // while somaxconn is there in each. The namespace's inode or cookie have no fixed value to
  // compare with.
  struct stat facts{};
  if (stat((sysctl_net_core + "/somaxconn").c_str(), &facts) < 0)
    return true;
  return stat((sysctl_net_core + "/netdev_max_backlog").c_str(), &facts) == 0;
}

}  // namespace tenure::kernel
