// SPDX-License-Identifier: Apache-2.0
#include "guest/plan/facts.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/file.h"
#include "guest/plan/host_devices.h"
#include "kernel/file_acl.h"
#include "qemu/helper.h"

namespace tenure::guest {
namespace {

class LookUp {
 public:
  LookUp(const HostOptions& options, Missing missing) : options_(options), missing_(missing) {}

  Result<Facts> run_images(const domain::Disk& disk, qemu::ImageChain chain) {
    TRY_OK(images(disk, std::move(chain)));
    return std::move(facts_);
  }

  Result<Facts> run(const domain::Domain& domain) {
    for (const std::string& path : options_.base_devices) optional_node(path);
    if (domain.kvm)
      TRY_OK(required_node("kvm", "/dev/kvm"));
    return run_devices(domain);
  }

  Result<Facts> run_devices(const domain::Domain& domain) {
    for (const domain::Disk& disk : domain.disks) TRY_OK(chain(disk));
    TRY_OK(boot_files(domain.os));
    for (const domain::Chardev& chardev : domain.chardevs)
      if (chardev.kind == domain::ChardevKind::Dev)
        TRY_OK(required_node(chardev.info.alias, chardev.path));
    for (const domain::Rng& rng : domain.rngs)
      if (rng.backend == "random")
        TRY_OK(required_node(rng.info.alias, rng.path));
    for (const domain::Input& input : domain.inputs)
      if (!input.evdev.empty())
        TRY_OK(required_node(input.info.alias, input.evdev));
    for (const domain::Chardev& chardev : domain.chardevs)
      if (chardev.kind == domain::ChardevKind::File)
        note_folders(chardev.path);
    TRY_OK(net_nodes(domain));
    for (const domain::Hostdev& hostdev : domain.hostdevs) TRY_OK(host_device(hostdev, domain));
    for (const domain::Shmem& shmem : domain.shmems)
      if (shmem.kind == domain::ShmemKind::Doorbell)
        TRY_OK(required_node(shmem.info.alias, shmem.server));
    for (const domain::Filesystem& fs : domain.filesystems)
      TRY_OK(fs.dir.empty() ? required_node(fs.info.alias, fs.socket) : served_folder(fs));
    return std::move(facts_);
  }

 private:
  Result<> missed(std::string_view holder, Error error) {
    if (missing_ == Missing::Refuse)
      return fail(std::move(error).context(holder));
    facts_.notes.push_back(std::move(error).context(holder).what());
    return {};
  }

  void optional_node(const std::string& path) {
    if (auto facts = kernel::node_facts(path))
      facts_.nodes.emplace(path, std::move(*facts));
  }

  Result<> required_node(std::string_view holder, const std::string& path) {
    auto facts = kernel::node_facts(path);
    if (!facts)
      return missed(holder, std::move(facts).error());
    if (!facts->rdev)
      note_folders(path);
    else
      TRY_OK(note_device(holder, path));
    facts_.nodes.emplace(path, std::move(*facts));
    return {};
  }

  // Once by vendor and product, once by its place: their texts differ, the device is one.
  Result<> check_once(const std::string& alias, const HostdevFacts& found) const {
    for (const auto& [other, facts] : facts_.hostdevs)
      if (facts.node == found.node)
        return fail(Errc::Invalid, fmt::format("{}: the USB device {} is that of {} already", alias,
                                               found.address, other));
    return {};
  }

  Result<> host_device(const domain::Hostdev& hostdev, const domain::Domain& domain) {
    const std::string& alias = hostdev.info.alias;
    auto found = look_up_hostdev(hostdev, domain, options_.sysfs);
    if (!found)
      return missed(alias, std::move(found).error());
    if (hostdev.kind == domain::HostdevKind::Usb) {
      TRY_OK(check_once(alias, *found));
    } else {
      TRY_OK(required_node(alias, kVfioContainer));
    }
    TRY_OK(required_node(alias, found->node));
    facts_.hostdevs.emplace(alias, std::move(*found));
    return {};
  }

  // QEMU gets at it by its helper alone, which is root's.
  Result<> served_folder(const domain::Filesystem& fs) {
    const std::string& alias = fs.info.alias;
    if (!options_.uid)
      return missed(alias, Error{Errc::Unsupported,
                                 "virtiofsd is run by a tenured of root's only; run one, and name "
                                 "its <source socket=>"});
    auto folder = kernel::node_facts(fs.dir);
    if (!folder)
      return missed(alias, std::move(folder).error());
    if (folder->type != kernel::FileType::Directory)
      return missed(alias, Error{Errc::Invalid, fs.dir + ": is no folder"});
    facts_.nodes.emplace(fs.dir, std::move(*folder));
    std::vector<std::string> paths{fs.binary};
    if (fs.binary.empty())
      paths.assign(qemu::kVirtiofsd.paths.begin(), qemu::kVirtiofsd.paths.end());
    for (const std::string& path : paths)
      if (auto program = kernel::node_facts(path);
          program && program->type == kernel::FileType::Regular) {
        facts_.helpers.emplace(alias, path);
        return {};
      }
    return missed(alias, Error{Errc::NotFound,
                               fs.binary.empty()
                                   ? "no virtiofsd here (package virtiofsd or qemu-system-common); "
                                     "<binary path=> names another"
                                   : fs.binary + ": no such program"});
  }

  // QEMU has a /dev of its own, so a node can be let through only below /dev. A symlink from
  // elsewhere is followed by QEMU itself, up to the first name below /dev.
  Result<> note_device(std::string_view holder, const std::string& path) {
    if (!options_.uid || path.starts_with("/dev/"))
      return {};
    auto name = dev_name_of(path);
    if (!name)
      return missed(holder, std::move(name).error());
    note_folders(path);
    facts_.dev_names.emplace(path, std::move(*name));
    return {};
  }

  static Result<std::string> dev_name_of(const std::string& path) {
    constexpr int kMaxHops = 40;  // MAXSYMLINKS of linux/namei.h
    std::string name = path;
    for (int hop = 0; hop < kMaxHops; ++hop) {
      std::error_code error;
      std::filesystem::path at(name);
      // The folder may be a symlink as well.
      std::filesystem::path folder = std::filesystem::canonical(at.parent_path(), error);
      if (error)
        return fail_sys("resolve", name, error.value());
      at = folder / at.filename();
      if (at.string().starts_with("/dev/"))
        return at.string();
      std::filesystem::path target = std::filesystem::read_symlink(at, error);
      if (error)
        return fail(Errc::Unsupported,
                    fmt::format("{}: a device node outside of /dev, which the guest's own /dev "
                                "cannot hold: give its path below /dev",
                                path));
      name = (target.is_absolute() ? target : folder / target).lexically_normal().string();
    }
    return fail(Errc::Invalid, fmt::format("{}: too many symbolic links", path));
  }

  // QEMU opens files by path under a uid of its own: what root may search it may not. Both the path
  // as given and the one behind its symlinks are walked.
  void note_folders(const std::string& path) {
    if (!options_.uid)
      return;
    std::vector<std::string>& closed = facts_.closed_folders[path];
    char resolved[PATH_MAX];
    add_closed(path, closed);
    if (realpath(path.c_str(), resolved) != nullptr && path != resolved)
      add_closed(resolved, closed);
  }

  void add_closed(const std::string& path, std::vector<std::string>& closed) {
    for (size_t slash = path.find('/', 1); slash != path.npos; slash = path.find('/', slash + 1)) {
      std::string folder = path.substr(0, slash);
      auto fd = open_file(folder, O_PATH | O_DIRECTORY);
      if (!fd)
        continue;
      // QEMU's gid is its uid, and it has no other groups. An ACL that cannot be read is left to
      // the claim, which names what is wrong.
      auto open = kernel::may_search(fd->get(), *options_.uid, *options_.uid);
      if (open && *open && !by_own_entry(fd->get()))
        continue;
      if (std::ranges::find(closed, folder) == closed.end())
        closed.push_back(std::move(folder));
    }
  }

  // What another device of the guest was given there goes with that device.
  bool by_own_entry(int folder) const {
    auto given = kernel::file_grant_of(folder, *options_.uid);
    return given && given->has_entry && given->search && !given->is_owner;
  }

  Result<> chain(const domain::Disk& disk) {
    if (disk.path.empty())
      return {};
    std::string holder = fmt::format("disk {}", disk.target);
    auto chain = qemu::read_chain(disk.path, disk.format, disk.readonly);
    if (!chain)
      return missed(holder, std::move(chain).error());
    bool is_block = chain->front().node.type == kernel::FileType::Block;
    if (is_block != (disk.kind == domain::SourceKind::Block))
      return missed(holder, Error{Errc::Invalid,
                                  fmt::format("{}: the definition says type='{}', but it is {}",
                                              disk.path, is_block ? "file" : "block",
                                              is_block ? "a block device" : "not a block device")});
    return images(disk, std::move(*chain));
  }

  Result<> images(const domain::Disk& disk, qemu::ImageChain chain) {
    std::string holder = fmt::format("disk {}", disk.target);
    for (const qemu::Image& image : chain) {
      TRY_OK(slaves(holder, image));
      if (!image.node.rdev)
        note_folders(image.path);
      else
        TRY_OK(note_device(holder, image.path));
    }
    facts_.chains.emplace(disk.info.alias, std::move(chain));
    return {};
  }

  Result<> slaves(std::string_view holder, const qemu::Image& image) {
    if (image.node.type != kernel::FileType::Block)
      return {};
    auto slaves = kernel::device_mapper_slaves(*image.node.rdev);
    if (!slaves)
      return missed(holder, std::move(slaves).error());
    if (!slaves->empty())
      facts_.slaves.emplace(*image.node.rdev, std::move(*slaves));
    return {};
  }

  Result<> boot_files(const domain::Os& os) {
    if (!os.kernel.empty())
      TRY_OK(required_node("kernel", os.kernel));
    if (!os.initrd.empty())
      TRY_OK(required_node("initrd", os.initrd));
    if (os.loader)
      TRY_OK(required_node("loader", os.loader->path));
    if (os.nvram)
      TRY_OK(required_node("nvram", os.nvram->path));
    return {};
  }

  Result<> net_nodes(const domain::Domain& domain) {
    for (const domain::Interface& nic : domain.interfaces) {
      bool tap =
          nic.kind == domain::InterfaceKind::Bridge || nic.kind == domain::InterfaceKind::Ethernet;
      if (tap)
        TRY_OK(required_node(nic.info.alias, "/dev/net/tun"));
      if (nic.kind == domain::InterfaceKind::User || nic.model != "virtio")
        continue;
      if (nic.backend == "vhost")
        TRY_OK(required_node(nic.info.alias, "/dev/vhost-net"));
      if (nic.backend.empty())
        optional_node("/dev/vhost-net");
    }
    return {};
  }

  const HostOptions& options_;
  Missing missing_;
  Facts facts_;
};

}  // namespace

const kernel::NodeFacts* Facts::node(const std::string& path) const {
  auto it = nodes.find(path);
  return it == nodes.end() ? nullptr : &it->second;
}

const std::string& Facts::dev_name(const std::string& path) const {
  auto it = dev_names.find(path);
  return it == dev_names.end() ? path : it->second;
}

Result<Facts> look_up(const domain::Domain& domain, const HostOptions& options, Missing missing) {
  return LookUp(options, missing).run(domain);
}

Result<Facts> look_up_devices(const domain::Domain& devices, const HostOptions& options) {
  return LookUp(options, Missing::Refuse).run_devices(devices);
}

Result<Facts> look_up_images(const domain::Disk& disk, qemu::ImageChain images,
                             const HostOptions& options) {
  return LookUp(options, Missing::Refuse).run_images(disk, std::move(images));
}

}  // namespace tenure::guest
