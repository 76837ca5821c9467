// SPDX-License-Identifier: Apache-2.0
#include "kernel/netlink_route.h"

#include <fmt/format.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstring>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "base/unique_fd.h"

namespace tenure::kernel {
namespace {

constexpr size_t kMaxAnswer = 16384;  // bytes; a link without its virtual functions has about 2000
constexpr timeval kPatience{5, 0};  // the kernel answers within sendto(2); this is for broken ones

std::string_view as_bytes(const auto& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// A request in the making: header, ifinfomsg, attributes.
class Request {
 public:
  Request(uint16_t type, uint16_t flags, uint32_t index) {
    header_.nlmsg_type = type;
    header_.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    info_.ifi_family = AF_UNSPEC;
    info_.ifi_index = static_cast<int>(index);
  }
  void set_up() { info_.ifi_flags = info_.ifi_change = IFF_UP; }
  void add(uint16_t type, std::string_view payload) {
    rtattr head{static_cast<uint16_t>(RTA_LENGTH(payload.size())), type};
    attributes_.append(as_bytes(head)).append(payload);
    attributes_.resize(RTA_ALIGN(attributes_.size()));
  }
  void add_number(uint16_t type, uint32_t value) { add(type, as_bytes(value)); }
  void add_name(uint16_t type, const std::string& name) {
    add(type, std::string_view(name.c_str(), name.size() + 1));
  }
  // Attributes added by `fill` go inside this one.
  template <class Fill>
  void nest(uint16_t type, Fill fill) {
    const size_t at = attributes_.size();
    add(type, {});
    fill();
    rtattr head{static_cast<uint16_t>(attributes_.size() - at), type};
    memcpy(attributes_.data() + at, &head, sizeof head);
  }
  std::string bytes() {
    header_.nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(sizeof info_) + attributes_.size());
    header_.nlmsg_seq = 1;
    std::string out(as_bytes(header_));
    return out.append(as_bytes(info_)).append(attributes_);
  }

 private:
  nlmsghdr header_{};
  ifinfomsg info_{};
  std::string attributes_;
};

struct Attribute {
  uint16_t type = 0;
  std::string_view payload;
};

// Every attribute of a run of them; a broken length ends it.
std::vector<Attribute> attributes(std::string_view bytes) {
  std::vector<Attribute> found;
  while (bytes.size() >= sizeof(rtattr)) {
    rtattr head{};
    memcpy(&head, bytes.data(), sizeof head);
    if (head.rta_len < sizeof head || head.rta_len > bytes.size())
      break;
    const auto type = static_cast<uint16_t>(head.rta_type & NLA_TYPE_MASK);
    found.push_back({type, bytes.substr(sizeof head, head.rta_len - sizeof head)});
    bytes.remove_prefix(std::min<size_t>(bytes.size(), RTA_ALIGN(head.rta_len)));
  }
  return found;
}

// The kernel's own words for a refusal, "" if it gave none (NETLINK_EXT_ACK, Linux 4.12).
std::string refusal_words(const nlmsghdr& header, std::string_view payload) {
  if ((header.nlmsg_flags & NLM_F_ACK_TLVS) == 0)
    return "";
  size_t skip = sizeof(nlmsgerr);
  nlmsgerr error{};
  memcpy(&error, payload.data(), sizeof error);
  if ((header.nlmsg_flags & NLM_F_CAPPED) == 0)
    skip += NLMSG_ALIGN(error.msg.nlmsg_len) - sizeof(nlmsghdr);
  if (skip > payload.size())
    return "";
  for (const Attribute& attribute : attributes(payload.substr(skip))) {
    if (attribute.type != NLMSGERR_ATTR_MSG)
      continue;
    return std::string(attribute.payload.substr(0, attribute.payload.find('\0')));
  }
  return "";
}

Result<UniqueFd> open_route_socket() {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd)
    return fail_sys("open", "a route netlink socket");
  const int on = 1;  // both are refinements: older kernels do without
  setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  return fd;
}

// Sends, and returns the payload of the answer: empty for a mere ack. Errors say "operation: …".
Result<std::string> talk(Request& request, const std::string& operation) {
  TRY(UniqueFd fd, open_route_socket());
  const std::string bytes = request.bytes();
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (sendto(fd.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&kernel),
             sizeof kernel) < 0)
    return fail_sys(operation, "");
  std::string answer(kMaxAnswer, '\0');
  ssize_t size = -1;
  do {
    size = recv(fd.get(), answer.data(), answer.size(), MSG_TRUNC);
  } while (size < 0 && errno == EINTR);
  if (size < 0)
    return fail_sys(operation, "");
  nlmsghdr header{};
  if (static_cast<size_t>(size) > kMaxAnswer || static_cast<size_t>(size) < sizeof header)
    return fail(Errc::Io, operation + ": the kernel's answer is not understood");
  answer.resize(static_cast<size_t>(size));
  memcpy(&header, answer.data(), sizeof header);
  std::string_view payload = std::string_view(answer).substr(NLMSG_HDRLEN);
  if (header.nlmsg_type != NLMSG_ERROR)
    return std::string(payload);
  nlmsgerr error{};
  if (payload.size() < sizeof error)
    return fail(Errc::Io, operation + ": a broken answer");
  memcpy(&error, payload.data(), sizeof error);
  if (error.error == 0)
    return std::string();
  std::string words = refusal_words(header, payload);
  Error failed = sys_error(operation, "", -error.error);
  if (words.empty())
    return fail(std::move(failed));
  return fail(
      Error(failed.code(), fmt::format("{} ({})", failed.what(), words), failed.sys_errno()));
}

Result<> check_ifname(const std::string& ifname) {
  if (ifname.empty() || ifname.size() >= IFNAMSIZ || ifname.find('\0') != ifname.npos)
    return fail(Errc::Invalid,
                fmt::format("interface name '{}': 1 to {} bytes", printable(ifname), IFNAMSIZ - 1));
  return {};
}

uint32_t number(std::string_view payload) {
  uint32_t value = 0;
  if (payload.size() == sizeof value)
    memcpy(&value, payload.data(), sizeof value);
  return value;
}

std::string kind_of(std::string_view linkinfo) {
  for (const Attribute& attribute : attributes(linkinfo)) {
    if (attribute.type != IFLA_INFO_KIND)
      continue;
    return std::string(attribute.payload.substr(0, attribute.payload.find('\0')));
  }
  return "";
}

Result<std::string> get_link(Request& request, const std::string& who) {
  request.add_number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  TRY(std::string answer, talk(request, "look up interface " + who));
  if (answer.size() < sizeof(ifinfomsg))
    return fail(Errc::Io, "look up interface " + who + ": the answer is not understood");
  return answer;
}

Link link_in(std::string_view answer) {
  ifinfomsg info{};
  memcpy(&info, answer.data(), sizeof info);
  Link link;
  link.index = static_cast<uint32_t>(info.ifi_index);
  link.up = (info.ifi_flags & IFF_UP) != 0;
  for (const Attribute& attribute : attributes(answer.substr(NLMSG_ALIGN(sizeof info)))) {
    if (attribute.type == IFLA_IFNAME)
      link.name = std::string(attribute.payload.substr(0, attribute.payload.find('\0')));
    if (attribute.type == IFLA_MASTER)
      link.master = number(attribute.payload);
    if (attribute.type == IFLA_MTU)
      link.mtu = number(attribute.payload);
    if (attribute.type == IFLA_LINKINFO)
      link.kind = kind_of(attribute.payload);
    if (attribute.type == IFLA_ADDRESS && attribute.payload.size() == link.mac.size())
      memcpy(link.mac.data(), attribute.payload.data(), link.mac.size());
  }
  return link;
}

}  // namespace

Result<MacAddress> parse_mac(const std::string& text) {
  MacAddress mac{};
  std::vector<std::string_view> parts = split(text, ':');
  bool good = parts.size() == mac.size();
  for (size_t i = 0; good && i < mac.size(); ++i) {
    std::optional<uint8_t> byte = parse_int<uint8_t>(parts[i], 16);
    good = byte && parts[i].size() == 2;
    mac[i] = byte.value_or(0);
  }
  if (!good)
    return fail(Errc::Invalid, fmt::format("MAC address '{}'", printable(text)));
  return mac;
}

Result<Link> find_link(const std::string& ifname) {
  TRY_OK(check_ifname(ifname));
  Request request(RTM_GETLINK, 0, 0);
  request.add_name(IFLA_IFNAME, ifname);
  TRY(std::string answer, get_link(request, printable(ifname)));
  return link_in(answer);
}

Result<Link> find_link(uint32_t index) {
  Request request(RTM_GETLINK, 0, index);
  TRY(std::string answer, get_link(request, std::to_string(index)));
  return link_in(answer);
}

Result<std::string> link_name(uint32_t index) {
  TRY(Link link, find_link(index));
  if (link.name.empty())
    return fail(Errc::Io, fmt::format("look up interface {}: it has no name", index));
  return std::move(link.name);
}

Result<> change_link(uint32_t index, const LinkChange& change) {
  Request request(RTM_NEWLINK, NLM_F_ACK, index);
  if (change.up)
    request.set_up();
  if (change.mac)
    request.add(IFLA_ADDRESS, as_bytes(*change.mac));
  if (change.mtu)
    request.add_number(IFLA_MTU, *change.mtu);
  if (change.master)
    request.add_number(IFLA_MASTER, *change.master);
  TRY_OK(talk(request, "set the interface up"));
  return {};
}

Result<> create_macvtap(const MacvtapLink& link) {
  TRY_OK(check_ifname(link.ifname));
  Request request(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, 0);
  request.add_name(IFLA_IFNAME, link.ifname);
  request.add_number(IFLA_LINK, link.lower);
  if (link.mac)
    request.add(IFLA_ADDRESS, as_bytes(*link.mac));
  request.nest(IFLA_LINKINFO, [&] {
    request.add(IFLA_INFO_KIND, "macvtap");
    request.nest(IFLA_INFO_DATA, [&] { request.add_number(IFLA_MACVLAN_MODE, link.mode); });
  });
  TRY_OK(talk(request, "make macvtap " + printable(link.ifname)));
  return {};
}

Result<> delete_link(uint32_t index) {
  Request request(RTM_DELLINK, NLM_F_ACK, index);
  TRY_OK(talk(request, fmt::format("delete interface {}", index)));
  return {};
}

}  // namespace tenure::kernel
