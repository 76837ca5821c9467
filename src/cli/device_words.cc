// SPDX-License-Identifier: Apache-2.0
#include "cli/device_words.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/file.h"
#include "domain/domain.h"

namespace tenure::cli {
namespace {

// As the value of an attribute, or as text. The daemon's parser refuses what XML cannot carry.
std::string xml(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '\'':
        out += "&apos;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

bool is_block(const std::string& path) {
  struct stat st{};
  return path.starts_with("/dev/") || (stat(path.c_str(), &st) == 0 && S_ISBLK(st.st_mode));
}

std::string bus_of(const Options& options) {
  if (!options.bus.empty())
    return options.bus;
  return options.target.starts_with("vd") ? "virtio" : "scsi";
}

Result<std::string> disk_element(const Options& options, std::string_view device) {
  if (options.words.size() != 2 || options.target.empty())
    return fail(Errc::Invalid, fmt::format("{0} PATH --target vdb: {0} takes a path and a target",
                                           options.words.front()));
  const std::string path = absolute_path(options.words[1]);
  bool block = is_block(path);
  return fmt::format(
      "<disk type='{}' device='{}'><driver name='qemu' type='{}'/><source {}='{}'/>"
      "<target dev='{}' bus='{}'/>{}</disk>",
      block ? "block" : "file", device,
      options.image_format.empty() ? "raw" : xml(options.image_format), block ? "dev" : "file",
      xml(path), xml(options.target), xml(bus_of(options)), options.readonly ? "<readonly/>" : "");
}

Result<std::string> interface_element(const Options& options) {
  const std::string kind = options.words.size() > 1 ? options.words[1] : "";
  bool user = kind == "user";
  if ((kind != "bridge" && kind != "direct" && !user) || options.words.size() != (user ? 2U : 3U))
    return fail(Errc::Invalid, "interface bridge|direct NAME, or interface user");
  std::string source;
  if (kind == "bridge")
    source = fmt::format("<source bridge='{}'/>", xml(options.words[2]));
  if (kind == "direct")
    source = fmt::format("<source dev='{}' mode='bridge'/>", xml(options.words[2]));
  std::string mac = options.mac.empty() ? "" : fmt::format("<mac address='{}'/>", xml(options.mac));
  std::string target =
      options.target.empty() ? "" : fmt::format("<target dev='{}'/>", xml(options.target));
  return fmt::format("<interface type='{}'>{}{}{}<model type='{}'/></interface>", kind, mac, source,
                     target, options.model.empty() ? "virtio" : xml(options.model));
}

Result<std::string> rng_element(const Options& options) {
  if (options.words.size() != 2)
    return fail(Errc::Invalid, "rng PATH");
  return fmt::format("<rng model='virtio'><backend model='random'>{}</backend></rng>",
                     xml(absolute_path(options.words[1])));
}

// The daemon's parser knows the units.
Result<std::string> memory_element(const Options& options) {
  const std::string size = options.words.size() == 2 ? options.words[1] : "";
  const size_t digits = std::min(size.find_first_not_of("0123456789"), size.size());
  if (digits == 0 || digits == size.size())
    return fail(Errc::Invalid, "memory SIZE: a size such as 512MiB");
  return fmt::format("<memory model='dimm'><target><size unit='{}'>{}</size></target></memory>",
                     xml(size.substr(digits)), size.substr(0, digits));
}

struct Form {
  std::string_view word;
  Result<std::string> (*element)(const Options&);
};
const std::array<Form, 5> kForms = {{
    {"disk", [](const Options& o) { return disk_element(o, "disk"); }},
    {"cdrom", [](const Options& o) { return disk_element(o, "cdrom"); }},
    {"interface", interface_element},
    {"rng", rng_element},
    {"memory", memory_element},
}};

}  // namespace

Result<std::string> device_element(const Options& options) {
  const std::string& first = options.words.front();
  auto form = std::ranges::find(kForms, first, &Form::word);
  if (form != kForms.end())
    return form->element(options);
  if (options.words.size() != 1)
    return fail(Errc::Invalid,
                fmt::format("'{}': a file with the device's XML, or one of disk, cdrom, interface, "
                            "rng, memory and its words",
                            first));
  if (first.starts_with('<'))
    return first;
  if (first == "-")
    return read_fd(STDIN_FILENO, domain::kMaxXml, "standard input");
  return read_file(first, domain::kMaxXml);
}

std::string drive_element(const Options& options, const std::string& target,
                          const std::string& medium) {
  // What tenured takes for the path stands in its own folder, not in that of who typed it.
  const std::string path = medium.empty() ? "" : absolute_path(medium);
  bool block = is_block(path);
  std::string source =
      path.empty() ? ""
                   : fmt::format("<driver name='qemu' type='{}'/><source {}='{}'/>",
                                 options.image_format.empty() ? "raw" : xml(options.image_format),
                                 block ? "dev" : "file", xml(path));
  return fmt::format("<disk type='{}' device='{}'>{}<target dev='{}'/>{}</disk>",
                     block ? "block" : "file", target.starts_with("fd") ? "floppy" : "cdrom",
                     source, xml(target), options.readonly ? "<readonly/>" : "");
}

}  // namespace tenure::cli
