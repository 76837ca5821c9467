// SPDX-License-Identifier: Apache-2.0
#include "qemu/image.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <set>
#include <tuple>

#include "base/file.h"
#include "base/text.h"
#include "qemu/image_info.h"
#include "qemu/image_qcow2.h"

namespace tenure::qemu {
namespace {

// Which other files an image needs, names as recorded.
struct Links {
  std::string backing_file, backing_format;  // "" for none
  std::vector<std::string> data_files;
};

// The object itself, whatever its names: two nodes of one block device are the same.
using Identity = std::tuple<bool, uint64_t, uint64_t>;
Identity identity_of(const kernel::NodeFacts& node) {
  if (node.rdev)
    return {true, node.rdev->major, node.rdev->minor};
  return {false, node.dev, node.ino};
}

// The first bytes of the very object that `image.node` describes.
Result<std::vector<std::byte>> read_head(const Image& image) {
  TRY(UniqueFd fd, open_file(image.path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
  struct stat st{};
  if (fstat(fd.get(), &st) < 0)
    return fail_sys("stat", image.path);
  if (st.st_dev != image.node.dev || st.st_ino != image.node.ino)
    return fail(Errc::Busy, "replaced while it was looked at");
  std::vector<std::byte> head;
  for (size_t wanted = kMinQcow2Head; head.size() < wanted; wanted = qcow2_head_size(head)) {
    size_t have = head.size();
    head.resize(wanted);
    ssize_t n = pread(fd.get(), head.data() + have, wanted - have, static_cast<off_t>(have));
    if (n < 0 && errno != EINTR)
      return fail_sys("read", image.path);
    head.resize(have + static_cast<size_t>(std::max<ssize_t>(n, 0)));
    if (n == 0)
      break;
  }
  return head;
}

Result<Links> links_of_raw(const Image&) {
  return Links();
}

Result<Links> links_of_qcow2(const Image& image) {
  TRY(auto head, read_head(image));
  TRY(Qcow2Header header, parse_qcow2_header(head));
  Links links{header.backing_file, header.backing_format, {}};
  if (header.external_data)
    links.data_files.push_back(header.data_file);
  return links;
}

Result<Links> links_by_qemu_img(const Image& image) {
  TRY(ImageInfo info, image_info(image.path, image.format));
  return Links{info.backing_file, info.backing_format, info.extents};
}

struct Format {
  std::string_view name;
  Result<Links> (*links_of)(const Image& image);
};
constexpr Format kFormats[] = {
    {"raw", links_of_raw},        {"qcow2", links_of_qcow2},    {"qcow", links_by_qemu_img},
    {"qed", links_by_qemu_img},   {"vmdk", links_by_qemu_img},  {"vdi", links_by_qemu_img},
    {"vpc", links_by_qemu_img},   {"vhdx", links_by_qemu_img},  {"dmg", links_by_qemu_img},
    {"bochs", links_by_qemu_img}, {"cloop", links_by_qemu_img}, {"parallels", links_by_qemu_img},
};

Result<const Format*> format_named(const std::string& name) {
  const auto* found = std::ranges::find(kFormats, name, &Format::name);
  if (found != std::end(kFormats))
    return found;
  if (name.empty())
    return fail(Errc::Invalid, "its format is not declared, and it is never guessed");
  return fail(Errc::Unsupported, fmt::format("format {} is not supported", printable(name)));
}

// A name as recorded in `referrer`, made absolute. A name is a protocol's if a colon comes before
// the first slash (path_has_protocol() of QEMU).
Result<std::string> resolve(const std::string& name, const std::string& referrer) {
  size_t mark = name.find_first_of(":/");
  if (mark != name.npos && name[mark] == ':')
    return fail(Errc::Unsupported, fmt::format("{} is not a file but a {} address", printable(name),
                                               printable(name.substr(0, mark))));
  if (name.starts_with('/'))
    return name;
  return referrer.substr(0, referrer.rfind('/') + 1) + name;
}

class ChainReader {
 public:
  // The members found so far stay, to be named in the error.
  Result<> read(std::string path, std::string format, bool writable) {
    for (;;) {
      TRY(const Format* known, add(path, format, writable, false));
      size_t at = chain.size() - 1;
      TRY(Links links, known->links_of(chain[at]));
      TRY_OK(add_data_files(at, links.data_files));
      if (links.backing_file.empty())
        return {};
      if (links.backing_format.empty())
        return fail(Errc::Invalid, no_format(chain[at], links.backing_file));
      TRY(std::string next, resolve(links.backing_file, chain[at].path));
      path = std::move(next);
      format = links.backing_format;
      writable = false;
    }
  }

  // "a -> b"
  std::string names() const {
    std::string text;
    for (const Image& image : chain) {
      if (!image.data_file)
        text += (text.empty() ? "" : " -> ") + printable(image.path);
    }
    return text;
  }

  ImageChain chain;

 private:
  static std::string no_format(const Image& image, const std::string& backing) {
    return fmt::format(
        "the format of backing file {} is not recorded; if it is raw: qemu-img rebase -u -f {} -F "
        "raw -b {} {}",
        printable(backing), image.format, printable(backing), printable(image.path));
  }

  Result<const Format*> add(const std::string& path, const std::string& format, bool writable,
                            bool data_file) {
    auto added = try_add(path, format, writable, data_file);
    if (!added)
      return fail(std::move(added).error().context(printable(path)));
    return added;
  }

  Result<const Format*> try_add(const std::string& path, const std::string& format, bool writable,
                                bool data_file) {
    if (!path.starts_with('/'))
      return fail(Errc::Invalid, "not an absolute path");
    if (chain.size() >= kMaxChainDepth)
      return fail(Errc::Invalid, fmt::format("the chain is longer than {} images", kMaxChainDepth));
    TRY(const Format* known, format_named(format));
    Image image{
        .path = path, .format = format, .writable = writable, .data_file = data_file, .node = {}};
    TRY(image.node, kernel::node_facts(path));
    if (image.node.type != kernel::FileType::Regular && image.node.type != kernel::FileType::Block)
      return fail(Errc::Invalid, "neither a regular file nor a block device");
    if (!seen_.insert(identity_of(image.node)).second)
      return fail(Errc::Invalid, "the chain comes back to this image");
    chain.push_back(std::move(image));
    return known;
  }

  Result<> add_data_files(size_t at, const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      TRY(std::string path, resolve(name, chain[at].path));
      // A vmdk of one file lists itself as its extent.
      if (path == chain[at].path)
        continue;
      TRY_OK(add(path, "raw", chain[at].writable, true));
    }
    return {};
  }

  std::set<Identity> seen_;
};

}  // namespace

Result<ImageChain> read_chain(const std::string& path, const std::string& format, bool readonly) {
  ChainReader reader;
  auto done = reader.read(path, format, !readonly);
  if (done)
    return std::move(reader.chain);
  std::string names = reader.names();
  return fail(
      std::move(done).error().context("image " + (names.empty() ? printable(path) : names)));
}

}  // namespace tenure::qemu
