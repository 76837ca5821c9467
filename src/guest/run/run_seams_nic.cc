// SPDX-License-Identifier: Apache-2.0
// The acts of network interfaces: their nodes are opened here and closed by whoever has them.
#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "guest/plan/plan.h"
#include "guest/run/run_seams.h"

namespace tenure::guest {

using kernel::Outcome;
using registrar::Others;
using trail::Kind;

// What an earlier version opened has no ifindex= in its record.
kernel::MadeLink link_of(const model::Claim& claim) {
  auto word = [&](std::string_view key) { return std::string(claim.record.get(key).value_or("")); };
  return {.ifname = word("ifname"),
          .mac = word("net"),
          .path = word("path"),
          .index = parse_int<uint32_t>(word("ifindex")).value_or(0)};
}

const model::Claim* opened_link(const std::vector<registrar::Hold>& holds,
                                const std::string& alias) {
  auto hold = std::ranges::find_if(holds, [&](const registrar::Hold& one) {
    const auto ifname = one.claim.record.get("ifname");
    return one.claim.record.kind == Kind::NetOpen && one.claim.holder == alias && ifname &&
           !ifname->empty();
  });
  return hold == holds.end() ? nullptr : &hold->claim;
}

Result<> RunSeams::open_fds(const domain::Interface& nic, NicFds& fds) {
  uint32_t queues = nic.queues.value_or(1);
  if (nic.kind == domain::InterfaceKind::Direct) {
    kernel::MacvtapRequest request{.ifname = macvtap_name(domain_, nic),
                                   .lower = nic.lower,
                                   .mode = nic.mode == "passthrough" ? "passthru" : nic.mode,
                                   .mac = nic.mac,
                                   .queues = queues};
    TRY(fds.tap, kernel::open_macvtap(request));
  } else {
    kernel::TapRequest request{.ifname = nic.target.empty() ? "tnr%d" : nic.target,
                               .mac = nic.mac,
                               .bridge = nic.bridge,
                               .queues = queues,
                               .mtu = nic.mtu.value_or(0)};
    TRY(kernel::Tap tap, kernel::open_tap(request));
    fds.tap = std::move(tap.queues);
    fds.to_set = tap.setting;
  }
  fds.ifname = fds.tap.front().ifname;
  fds.ifindex = fds.tap.front().index;
  return {};
}

Result<> RunSeams::set_up_nics() {
  for (auto& [alias, fds] : nics_) {
    if (!fds.to_set)
      continue;
    TRY_OK(kernel::set_up_tap(fds.ifname, fds.ifindex, *fds.to_set));
    fds.to_set.reset();
  }
  return {};
}

// One claim is one fd: the first of an interface opens all its queues.
Result<Outcome> RunSeams::open_nic(model::Claim& claim, const Others&) {
  auto nic = std::ranges::find_if(domain_.interfaces,
                                  [&](const auto& n) { return n.info.alias == claim.holder; });
  if (nic == domain_.interfaces.end())
    return fail(Errc::Internal, claim.holder + ": no such interface");
  NicFds& fds = nics_[claim.holder];
  bool vhost = claim.id == "/dev/vhost-net";
  if (vhost) {
    TRY(kernel::NetFd fd, kernel::open_vhost_net());
    fds.vhost.push_back(std::move(fd));
  } else if (fds.tap.empty()) {
    TRY_OK(open_fds(*nic, fds));
  }
  size_t& claimed = vhost ? fds.vhost_claimed : fds.tap_claimed;
  const kernel::NetFd& fd = vhost ? fds.vhost[claimed] : fds.tap[claimed];
  ++claimed;
  claim.record.set("path", fd.path).set("rdev", rdev_hex(fd.rdev)).set("ifname", fds.ifname);
  claim.record.set("ifindex", uint64_t{fds.ifindex});
  claim.record.set("fd", static_cast<uint64_t>(fd.fd.get()));
  claim = model::claim_of(std::move(claim.record));
  return Outcome::Changed;
}

// A running QEMU must have closed its copy: of that node it has no more open than others claim.
Result<> RunSeams::confirm_closed(const model::Claim& claim, const Others& others) {
  if (process_.pid == 0 || !claim.rdev)
    return {};
  TRY(std::vector<kernel::OpenFile> files, kernel::open_files(process_.pid));
  auto claimed = static_cast<size_t>(std::ranges::count_if(others, [&](const model::Claim* other) {
    return other->record.kind == Kind::NetOpen && other->rdev == claim.rdev;
  }));
  auto open = static_cast<size_t>(std::ranges::count_if(
      files, [&](const kernel::OpenFile& file) { return file.rdev == claim.rdev; }));
  if (open <= claimed)
    return {};
  return fail(Errc::Busy,
              fmt::format("{} ({}): still held: {} fds", claim.id, claim.holder, open - claimed));
}

// The daemon's fds went with it, so a tun interface did too; a macvtap has its name from the claim.
Result<bool> RunSeams::has_link(const model::Claim& claim) {
  kernel::MadeLink link = link_of(claim);
  if (link.ifname.empty())
    return false;
  return kernel::link_exists(link);
}

// The kernel takes a tun interface away with its last fd, a macvtap must be deleted. The record of
// the last fd is written when the interface is really gone.
Result<Outcome> RunSeams::close_nic(const model::Claim& claim, const Others& others,
                                    trail::Record&) {
  // Unchanged: the fds had gone with an earlier daemon and its QEMU.
  Outcome closed =
      nics_.erase(claim.holder) > 0 || process_.pid != 0 ? Outcome::Changed : Outcome::Unchanged;
  TRY_OK(confirm_closed(claim, others));
  kernel::MadeLink link = link_of(claim);
  bool shared = std::ranges::any_of(others, [&](const model::Claim* other) {
    return other->record.kind == Kind::NetOpen && other->holder == claim.holder;
  });
  if (shared || claim.id == "/dev/vhost-net")
    return closed;
  if (claim.id != "/dev/net/tun") {
    Result<> deleted = kernel::delete_link(link);
    if (!deleted && deleted.error().code() != Errc::NotFound)
      return fail(std::move(deleted).error());
    return closed;
  }
  TRY(bool exists, kernel::link_exists(link));
  auto nic = std::ranges::find_if(domain_.interfaces,
                                  [&](const auto& n) { return n.info.alias == claim.holder; });
  bool foreign = nic != domain_.interfaces.end() && !nic->target_managed;
  if (exists && !foreign)
    return fail(Errc::Busy, link.ifname + ": the interface is still there");
  return closed;
}

void RunSeams::close_lent_fds() {
  for (auto& [alias, helper] : helpers_) helper.socket.reset();
  for (auto& [alias, fds] : nics_) {
    fds.tap.clear();
    fds.vhost.clear();
  }
}

}  // namespace tenure::guest
