// SPDX-License-Identifier: Apache-2.0
// Disks: a storage node (who has the file open) and a format node for every member of a chain, one
// node for both if it is raw, backing set explicitly so that QEMU never opens a file by itself,
// everything below the top read-only.
#include <algorithm>
#include <array>

#include "base/text.h"
#include "qemu/command_line_parts.h"
#include "qemu/image.h"

namespace tenure::qemu {
namespace {

using domain::Disk;

// QEMU's node names have 31 characters at most; ".199.storage" is the longest ending.
constexpr size_t kMaxStem = 19;
constexpr uint32_t kScsiCdromMajor = 11;

// One member as this file sees it.
struct Layer {
  std::string path, format, driver;
  bool writable = false;
  std::string data_file;  // path of an external data file, "" if none
  std::string data_driver;
  bool last = true;
};

struct CacheMode {
  std::string_view name;
  bool direct, no_flush, write_cache;
};
constexpr std::array<CacheMode, 5> kCacheModes = {{{"none", true, false, true},
                                                   {"writeback", false, false, true},
                                                   {"writethrough", false, false, false},
                                                   {"directsync", true, false, false},
                                                   {"unsafe", false, true, true}}};

// What is so by default is not said: QEMU's monitor takes 4 to 7 us for each byte.
void add_read_only(Json& json, bool writable) {
  if (!writable)
    json.flag("read-only", true);
}

const CacheMode* cache_mode(const Disk& disk) {
  const auto found = std::ranges::find(kCacheModes, disk.cache, &CacheMode::name);
  return found == kCacheModes.end() ? nullptr : &*found;
}

std::vector<Layer> layers_of_chain(const ImageChain& chain) {
  std::vector<Layer> layers;
  for (const Image& image : chain) {
    const bool is_block = image.node.type == kernel::FileType::Block;
    const std::string driver = storage_driver(is_block, image.path, image.node.rdev);
    if (image.data_file && !layers.empty()) {
      layers.back().data_file = image.path;
      layers.back().data_driver = driver;
    } else {
      layers.push_back({.path = image.path,
                        .format = image.format,
                        .driver = driver,
                        .writable = image.writable});
    }
  }
  return layers;
}

// What the definition alone says.
std::vector<Layer> layers_of_definition(const Disk& disk) {
  const bool block = disk.kind == domain::SourceKind::Block;
  std::vector<Layer> layers{{.path = disk.path,
                             .format = disk.format,
                             .driver = storage_driver(block, disk.path, std::nullopt),
                             .writable = !disk.readonly,
                             .last = disk.backing.has_value()}};
  for (const domain::BackingStore& member :
       disk.backing.value_or(std::vector<domain::BackingStore>{})) {
    const bool is_block = member.kind == domain::SourceKind::Block;
    layers.push_back({.path = member.path,
                      .format = member.format,
                      .driver = storage_driver(is_block, member.path, std::nullopt)});
  }
  return layers;
}

// A definition that states a chain states it of the images as they are.
Result<> check_stated_chain(Builder& b, const Disk& disk, const std::vector<Layer>& layers) {
  if (!disk.backing)
    return {};
  bool same = disk.backing->size() + 1 == layers.size();
  for (size_t i = 0; same && i < disk.backing->size(); ++i) {
    const domain::BackingStore& stated = (*disk.backing)[i];
    same = stated.path == layers[i + 1].path && stated.format == layers[i + 1].format;
  }
  if (same)
    return {};
  return fail(b.invalid(disk.info.place, "<backingStore>: the images' headers say something else"));
}

Result<std::vector<Layer>> layers_of(Builder& b, const Disk& disk) {
  const auto& images = b.wiring().images;
  const auto found = images.find(disk.info.alias);
  if (found != images.end() && !found->second.empty()) {
    std::vector<Layer> layers = layers_of_chain(found->second);
    TRY_OK(check_stated_chain(b, disk, layers));
    return layers;
  }
  if (!b.wiring().preview) {
    return fail(b.invalid(disk.info.place, "<disk>: nothing is known of its image"));
  }
  return layers_of_definition(disk);
}

std::optional<uint64_t> metadata_cache(const Disk& disk, size_t layer) {
  if (layer == 0)
    return disk.metadata_cache_bytes;
  const bool stated = disk.backing && layer <= disk.backing->size();
  return stated ? (*disk.backing)[layer - 1].metadata_cache_bytes : std::nullopt;
}

void add_layer(Builder& b, const Disk& disk, const std::vector<Layer>& layers, size_t i) {
  const Layer& layer = layers[i];
  Json file = disk_storage(disk, layer.driver, layer.path, layer.writable);
  if (!has_format_layer(layer.format)) {
    file.text("node-name", format_node(disk, i));
    b.add("-blockdev", i == 0 ? file.maybe("detect-zeroes", disk.detect_zeroes) : file);
    return;
  }
  b.add("-blockdev", file.text("node-name", storage_node(disk, i)));
  Json format("driver", layer.format);
  format.text("node-name", format_node(disk, i));
  add_read_only(format, layer.writable);
  format.maybe("discard", disk.discard);
  if (i == 0)
    format.maybe("detect-zeroes", disk.detect_zeroes);
  format.maybe("cache-size", metadata_cache(disk, i));
  add_disk_cache(format, disk);
  format.text("file", storage_node(disk, i));
  if (!layer.data_file.empty()) {
    const std::string node = format_node(disk, i) + "d";
    Json data = disk_storage(disk, layer.data_driver, layer.data_file, layer.writable);
    b.add("-blockdev", data.text("node-name", node));
    format.text("data-file", node);
  }
  if (may_have_backing(layer.format)) {
    if (i + 1 < layers.size()) {
      format.text("backing", format_node(disk, i + 1));
    } else if (layers.front().last) {
      format.raw("backing", "null");
    }
  }
  b.add("-blockdev", format);
}

// The nodes, deepest first; the name of the one that the device uses. "" for an empty drive.
Result<std::string> add_nodes(Builder& b, const Disk& disk) {
  if (disk.path.empty())
    return "";
  TRY(const std::vector<Layer> layers, layers_of(b, disk));
  for (size_t i = layers.size(); i > 0; --i) add_layer(b, disk, layers, i - 1);
  if (!disk.copy_on_read.value_or(false))
    return format_node(disk, 0);
  const std::string node = node_stem(disk) + "cor";
  b.add("-blockdev",
        Json("driver", "copy-on-read").text("node-name", node).text("file", format_node(disk, 0)));
  return node;
}

std::string bus_and_unit(Builder& b, const Disk& disk, Json& json) {
  const domain::Address& a = disk.info.address;
  const bool cd = disk.device == "cdrom";
  if (disk.bus == "ide") {
    json.text("bus", "ide." + std::to_string(a.bus)).number("unit", a.unit);
    return cd ? "ide-cd" : "ide-hd";
  }
  if (disk.bus == "sata") {
    const std::string controller = b.bus_of("sata", a.controller);
    json.text("bus", controller.substr(0, controller.rfind('.')) + "." + std::to_string(a.unit));
    return cd ? "ide-cd" : "ide-hd";
  }
  if (disk.bus == "scsi") {
    const auto lsi = [&](const domain::Controller& c) {
      return c.type == "scsi" && c.index == a.controller && c.model == "lsilogic";
    };
    json.text("bus", b.bus_of("scsi", a.controller));
    if (std::ranges::any_of(b.whole().controllers, lsi)) {
      json.number("scsi-id", a.unit);
    } else {
      json.number("scsi-id", a.target).number("lun", a.unit);
      if (a.bus != 0)
        json.number("channel", a.bus);
    }
    return cd ? "scsi-cd" : "scsi-hd";
  }
  if (disk.bus == "fdc") {
    json.number("unit", a.unit);
    return "floppy";
  }
  return disk.bus == "usb" ? "usb-storage" : Builder::virtio_name("virtio-blk", disk.model);
}

void add_virtio_options(Json& json, const Disk& disk) {
  Builder::virtio(json, disk.info.virtio);
  json.maybe("ioeventfd", disk.ioeventfd)
      .maybe("event_idx", disk.event_idx)
      .maybe("num-queues", disk.queues)
      .maybe("queue-size", disk.queue_size);
  if (disk.iothread)
    json.text("iothread", "iothread" + std::to_string(*disk.iothread));
}

void add_identity(Json& json, const Disk& disk) {
  json.maybe("serial", disk.serial).maybe("vendor", disk.vendor).maybe("product", disk.product);
  if (auto wwn = parse_int<uint64_t>(disk.wwn, 16))
    json.number("wwn", *wwn);
  json.maybe("rotation_rate", disk.rotation_rate).maybe("removable", disk.removable);
  json.maybe("logical_block_size", disk.logical_block_bytes)
      .maybe("physical_block_size", disk.physical_block_bytes);
  if (disk.geometry) {
    json.number("cyls", disk.geometry->cylinders)
        .number("heads", disk.geometry->heads)
        .number("secs", disk.geometry->sectors)
        .maybe("bios-chs-trans", disk.geometry->translation);
  }
}

void add_policies(Json& json, const Disk& disk) {
  if (disk.shareable)
    json.flag("share-rw", true);
  const CacheMode* mode = cache_mode(disk);
  if (mode != nullptr && disk.device == "disk") {
    json.text("write-cache", mode->write_cache ? "on" : "off");
  }
  // libvirt's words; QEMU tells reading from writing.
  const std::string write = disk.error_policy == "enospace" ? "enospc" : disk.error_policy;
  json.maybe("werror", write);
  const std::string read = !disk.rerror_policy.empty()       ? disk.rerror_policy
                           : disk.error_policy == "enospace" ? "report"
                                                             : disk.error_policy;
  json.maybe("rerror", read);
}

Result<> refuse_odd(Builder& b, const Disk& disk) {
  if (disk.bus == "usb" && disk.device == "cdrom") {
    return fail(b.unsupported(disk.info.place, "<disk>: a usb cdrom is not implemented"));
  }
  if (disk.tray_open && !disk.path.empty()) {
    return fail(b.unsupported(disk.info.place, "<target>: an open tray with a medium"));
  }
  if (disk.geometry && disk.bus != "ide" && !disk.geometry->translation.empty()) {
    return fail(b.unsupported(disk.info.place, "<geometry>: 'trans' is for ide disks"));
  }
  return {};
}

Result<> add_disk(Builder& b, const Disk& disk) {
  TRY_OK(refuse_odd(b, disk));
  TRY(const std::string node, add_nodes(b, disk));
  Json where;
  const std::string name = bus_and_unit(b, disk, where);
  Json json("driver", name);
  b.place(json, disk.info);
  json.merge(where);
  json.maybe("drive", node);
  if (disk.bus == "virtio")
    add_virtio_options(json, disk);
  add_identity(json, disk);
  add_policies(json, disk);
  const bool floppy = disk.device == "floppy";
  const auto boot = b.boot_index(disk.info, disk.device == "cdrom" ? "cdrom"
                                            : floppy               ? "fd"
                                                                   : "hd");
  if (!floppy) {
    json.maybe("bootindex", boot);
  } else if (boot) {  // of a floppy drive it is the controller's property
    const std::string drive = disk.info.address.unit == 0 ? "A" : "B";
    b.add("-global", "isa-fdc.bootindex" + drive + "=" + std::to_string(*boot));
  }
  b.device(json);
  return {};
}

void add_pflash(Builder& b, const std::string& node, const std::string& path,
                const std::string& format, bool readonly) {
  b.add("-blockdev", Json("driver", "file")
                         .text("filename", path)
                         .text("node-name", node + "-storage")
                         .flag("read-only", readonly));
  b.add("-blockdev", Json("driver", format)
                         .text("node-name", node)
                         .text("file", node + "-storage")
                         .flag("read-only", readonly));
}

}  // namespace

std::string storage_driver(bool is_block, const std::string& path,
                           const std::optional<DeviceNumber>& rdev) {
  if (!is_block)
    return "file";
  const bool cd = rdev ? rdev->major == kScsiCdromMajor
                       : path.starts_with("/dev/sr") || path.starts_with("/dev/cdrom");
  return cd ? "host_cdrom" : "host_device";
}

void add_disk_cache(Json& json, const Disk& disk) {
  const CacheMode* mode = cache_mode(disk);
  if (mode == nullptr)
    return;
  json.object("cache", Json().flag("direct", mode->direct).flag("no-flush", mode->no_flush));
}

Json disk_storage(const Disk& disk, const std::string& driver, const std::string& path,
                  bool writable) {
  Json json("driver", driver);
  json.text("filename", path).maybe("aio", disk.io);
  add_read_only(json, writable);
  json.maybe("discard", disk.discard);
  add_disk_cache(json, disk);
  return json;
}

std::string node_stem(const Disk& disk) {
  // Targets are unique and short; an alias of the user's own may be too long.
  return (disk.info.alias.size() <= kMaxStem ? disk.info.alias : "target-" + disk.target) + ".";
}

std::string format_node(const Disk& disk, size_t layer) {
  return node_stem(disk) + std::to_string(layer);
}

bool has_format_layer(std::string_view format) {
  return format != "raw";
}

std::string storage_node(const Disk& disk, size_t layer) {
  return format_node(disk, layer) + ".storage";
}

Result<> add_firmware(Builder& b) {
  const domain::Os& os = b.domain().os;
  if (!os.loader)
    return {};
  if (os.loader->type == "rom") {
    b.add("-bios", os.loader->path);
    return {};
  }
  add_pflash(b, "firmware-code", os.loader->path, "raw", os.loader->readonly);
  if (os.nvram && !os.loader->stateless) {
    add_pflash(b, "firmware-vars", os.nvram->path, os.nvram->format, false);
  }
  if (os.loader->secure)
    b.add("-global", "driver=cfi.pflash01,property=secure,value=on");
  return {};
}

Result<> add_disks(Builder& b) {
  for (const Disk& disk : b.domain().disks) TRY_OK(add_disk(b, disk));
  return {};
}

}  // namespace tenure::qemu
