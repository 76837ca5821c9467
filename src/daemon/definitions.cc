// SPDX-License-Identifier: Apache-2.0
#include "daemon/definitions.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"

namespace tenure::daemon {

Result<Definitions> Definitions::load(const Paths& paths) {
  Definitions definitions;
  definitions.folder_ = paths.state + "/guests";
  TRY_OK(make_dirs(definitions.folder_, 0700));
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(definitions.folder_, error)) {
    if (file.path().extension() != ".xml")
      continue;
    std::string path = file.path().string();
    auto xml = read_file(path, domain::kMaxXml);
    auto domain = xml ? domain::parse(*xml, path) : Result<domain::Domain>(fail(xml.error()));
    if (!domain) {
      definitions.bad_[path] = domain.error().what();
      continue;
    }
    std::string uuid = file.path().stem().string();
    definitions.all_[uuid] = {.name = domain->name, .uuid = uuid, .xml = std::move(*xml)};
  }
  if (error)
    return fail_sys("read folder", definitions.folder_, error.value());
  return definitions;
}

std::string Definitions::path_of(const std::string& uuid) const {
  return folder_ + "/" + uuid + ".xml";
}

Result<> Definitions::put(const domain::Domain& domain) {
  std::string uuid = to_string(domain.uuid);
  for (const auto& [other, definition] : all_)
    if (definition.name == domain.name && other != uuid)
      return fail(Errc::Exists, fmt::format("{}: a guest of this name is defined with uuid {}",
                                            domain.name, other));
  TRY_OK(write_file_atomic(path_of(uuid), domain.source_xml));
  all_[uuid] = {.name = domain.name, .uuid = uuid, .xml = domain.source_xml};
  return {};
}

Result<> Definitions::remove(const std::string& uuid) {
  std::string path = path_of(uuid);
  if (unlink(path.c_str()) < 0 && errno != ENOENT)
    return fail_sys("unlink", path);
  TRY(UniqueFd folder, open_file(folder_, O_RDONLY | O_DIRECTORY));
  if (fsync(folder.get()) < 0)
    return fail_sys("fsync", folder_);
  all_.erase(uuid);
  return {};
}

}  // namespace tenure::daemon
