// SPDX-License-Identifier: Apache-2.0
// Every field of a drive and of an interface is in one of two tables or among those that may
// change; a field that is added to device.h without a row here would be ignored in an update.
#include "domain/update.h"

#include <algorithm>
#include <pugixml.hpp>

#include "domain/change.h"
#include "domain/complete.h"

namespace tenure::domain {
namespace {

// What stays: not given, or given as it is.
template <class D>
struct Fixed {
  std::string_view what;
  bool (*kept)(const D& now, const D& wanted);
};

template <class D, auto Member>
bool kept(const D& now, const D& wanted) {
  static const D kNothing{};
  return wanted.*Member == kNothing.*Member || wanted.*Member == now.*Member;
}

template <auto Member, class D>
bool kept_info(const D& now, const D& wanted) {
  static const DeviceInfo kNothing{};
  return wanted.info.*Member == kNothing.*Member || wanted.info.*Member == now.info.*Member;
}

constexpr Fixed<Disk> kDisk[] = {
    {"alias", kept_info<&DeviceInfo::alias, Disk>},
    {"address", kept_info<&DeviceInfo::address, Disk>},
    {"boot", kept_info<&DeviceInfo::boot_order, Disk>},
    {"driver", kept_info<&DeviceInfo::virtio, Disk>},
    {"target", kept<Disk, &Disk::target>},
    {"target bus", kept<Disk, &Disk::bus>},
    {"target tray", kept<Disk, &Disk::tray_open>},
    {"target removable", kept<Disk, &Disk::removable>},
    {"target rotation_rate", kept<Disk, &Disk::rotation_rate>},
    {"disk model", kept<Disk, &Disk::model>},
    {"shareable", kept<Disk, &Disk::shareable>},
    {"serial", kept<Disk, &Disk::serial>},
    {"wwn", kept<Disk, &Disk::wwn>},
    {"vendor", kept<Disk, &Disk::vendor>},
    {"product", kept<Disk, &Disk::product>},
    {"driver cache", kept<Disk, &Disk::cache>},
    {"driver io", kept<Disk, &Disk::io>},
    {"driver discard", kept<Disk, &Disk::discard>},
    {"driver detect_zeroes", kept<Disk, &Disk::detect_zeroes>},
    {"driver error_policy", kept<Disk, &Disk::error_policy>},
    {"driver rerror_policy", kept<Disk, &Disk::rerror_policy>},
    {"driver copy_on_read", kept<Disk, &Disk::copy_on_read>},
    {"driver ioeventfd", kept<Disk, &Disk::ioeventfd>},
    {"driver event_idx", kept<Disk, &Disk::event_idx>},
    {"driver queues", kept<Disk, &Disk::queues>},
    {"driver queue_size", kept<Disk, &Disk::queue_size>},
    {"driver iothread", kept<Disk, &Disk::iothread>},
    {"driver metadata_cache", kept<Disk, &Disk::metadata_cache_bytes>},
    {"blockio logical_block_size", kept<Disk, &Disk::logical_block_bytes>},
    {"blockio physical_block_size", kept<Disk, &Disk::physical_block_bytes>},
    {"geometry", kept<Disk, &Disk::geometry>},
};

constexpr Fixed<Interface> kInterface[] = {
    {"alias", kept_info<&DeviceInfo::alias, Interface>},
    {"address", kept_info<&DeviceInfo::address, Interface>},
    {"boot", kept_info<&DeviceInfo::boot_order, Interface>},
    {"driver", kept_info<&DeviceInfo::virtio, Interface>},
    {"interface type", [](const auto& now, const auto& wanted) { return now.kind == wanted.kind; }},
    {"mac", kept<Interface, &Interface::mac>},
    {"model", kept<Interface, &Interface::model>},
    {"source dev", kept<Interface, &Interface::lower>},
    {"source mode", kept<Interface, &Interface::mode>},
    {"target dev", kept<Interface, &Interface::target>},
    {"target managed", kept<Interface, &Interface::target_managed>},
    {"driver name", kept<Interface, &Interface::backend>},
    {"driver queues", kept<Interface, &Interface::queues>},
    {"driver rx_queue_size", kept<Interface, &Interface::rx_queue_size>},
    {"driver tx_queue_size", kept<Interface, &Interface::tx_queue_size>},
    {"driver ioeventfd", kept<Interface, &Interface::ioeventfd>},
    {"driver event_idx", kept<Interface, &Interface::event_idx>},
    {"mtu", kept<Interface, &Interface::mtu>},
    {"rom bar", kept<Interface, &Interface::rom_bar>},
    {"rom enabled", kept<Interface, &Interface::rom_enabled>},
};

class Planner {
 public:
  Planner(const Domain& running, const Domain& wanted, std::string_view xml)
      : running_(running), wanted_(wanted) {
    tree_.load_buffer(xml.data(), xml.size(), pugi::parse_default, pugi::encoding_utf8);
  }

  Result<Update> run(std::string alias) {
    Update update{.alias = std::move(alias), .drive = {}, .nic = {}};
    const auto is_it = [&](const auto& device) { return device.info.alias == update.alias; };
    const auto disk = std::ranges::find_if(running_.disks, is_it);
    const auto nic = std::ranges::find_if(running_.interfaces, is_it);
    Result<> planned = fail(refusal(wanted_.place, root().name()));
    if (!wanted_.disks.empty() && disk != running_.disks.end())
      planned = plan_drive(*disk, wanted_.disks.front(), update);
    if (!wanted_.interfaces.empty() && nic != running_.interfaces.end())
      planned = plan_nic(*nic, wanted_.interfaces.front(), update);
    TRY_OK(planned);
    return update;
  }

 private:
  pugi::xml_node root() const { return tree_.document_element(); }
  bool states(const char* child, const char* attribute) const {
    return root().child(child).attribute(attribute);
  }

  Error refusal(Place place, std::string_view what) const {
    return error_at(wanted_, place,
                    "<" + std::string(what) +
                        ">: cannot be changed while the guest runs; define it for the next run",
                    Errc::Unsupported);
  }

  template <class D, size_t N>
  Result<> check_fixed(const Fixed<D> (&rows)[N], const D& now, const D& wanted) const {
    for (const Fixed<D>& row : rows)
      if (!row.kept(now, wanted))
        return fail(refusal(wanted.info.place, row.what));
    return {};
  }

  Result<> plan_drive(const Disk& now, Disk wanted, Update& update) const {
    // The parser's own defaults were not given.
    if (!states("target", "bus"))
      wanted.bus = now.bus;
    const bool removable = now.device != "disk";
    if (wanted.device != now.device)
      return fail(refusal(wanted.info.place, "disk device"));
    if (wanted.readonly && !now.readonly && now.device != "floppy")
      return fail(refusal(wanted.info.place, "readonly"));
    TRY_OK(check_fixed(kDisk, now, wanted));
    const bool same_format = !states("driver", "type") || wanted.format == now.format;
    const bool same_place = wanted.path == now.path && wanted.kind == now.kind;
    if (same_place && (same_format || now.path.empty()))
      return {};
    if (!removable)
      return fail(refusal(wanted.info.place, "source"));
    Disk after = now;
    after.kind = wanted.kind;
    after.path = wanted.path;
    after.format = wanted.format;
    after.backing = wanted.backing;
    after.readonly = wanted.readonly || now.device == "cdrom";
    update.drive = std::move(after);
    return {};
  }

  Result<> plan_nic(const Interface& now, Interface wanted, Update& update) const {
    if (!states("source", "mode"))
      wanted.mode = now.mode;
    TRY_OK(check_fixed(kInterface, now, wanted));
    Interface after = now;
    if (now.kind == InterfaceKind::Bridge)
      after.bridge = wanted.bridge;
    if (wanted.link_up)
      after.link_up = wanted.link_up;
    if (after.bridge != now.bridge || after.link_up.value_or(true) != now.link_up.value_or(true))
      update.nic = std::move(after);
    return {};
  }

  const Domain& running_;
  const Domain& wanted_;
  pugi::xml_document tree_;
};

}  // namespace

Result<Update> plan_update(const Domain& running, std::string_view xml,
                           std::string_view source_name) {
  TRY(const Domain wanted, parse_element(xml, source_name));
  TRY(std::string alias, find_device(running, xml));
  return Planner(running, wanted, xml).run(std::move(alias));
}

}  // namespace tenure::domain
