// SPDX-License-Identifier: Apache-2.0
#include "daemon/config.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/file.h"
#include "kernel/process.h"
#include "ledger/cosign.h"

namespace tenure::daemon {
namespace {

constexpr size_t kMaxConfig = 1U << 20U;  // bytes
constexpr uint32_t kDefaultUidFirst =
    720'000;  // above login.defs' UID_MAX and SUB_UID_MIN's first user
constexpr uint32_t kMaxUid = 2'000'000'000;

using Setter = Result<> (*)(const toml::node&, Config&);

Result<> set_bool(const toml::node& node, bool& value) {
  if (!node.is_boolean())
    return fail(Errc::Invalid, "true or false expected");
  value = node.as_boolean()->get();
  return {};
}

Result<std::string> text_of(const toml::node& node) {
  if (!node.is_string())
    return fail(Errc::Invalid, "a string expected");
  return node.as_string()->get();
}

Result<uint32_t> number_of(const toml::node& node) {
  if (!node.is_integer() || node.as_integer()->get() < 1 || node.as_integer()->get() > kMaxUid)
    return fail(Errc::Invalid, fmt::format("a number from 1 to {} expected", kMaxUid));
  return static_cast<uint32_t>(node.as_integer()->get());
}

Result<> set_fence(const toml::node& node, Config& config) {
  TRY(std::string text, text_of(node));
  if (text == "v1")
    config.fence = kernel::CgroupVersion::V1;
  if (text == "v2")
    config.fence = kernel::CgroupVersion::V2;
  if (text != "v1" && text != "v2" && text != "auto")
    return fail(Errc::Invalid, "one of auto, v1, v2 expected");
  return {};
}

Result<> set_audit(const toml::node& node, Config& config) {
  TRY(std::string text, text_of(node));
  if (text != "auto" && text != "off")
    return fail(Errc::Invalid, "auto or off expected");
  config.audit = text == "auto";
  return {};
}

Result<> set_on_audit_loss(const toml::node& node, Config& config) {
  TRY(std::string text, text_of(node));
  TRY(config.on_audit_loss, registrar::parse_on_audit_loss(text));
  return {};
}

Result<> set_on_drift(const toml::node& node, Config& config) {
  TRY(std::string text, text_of(node));
  TRY(config.on_drift, guest::parse_on_drift(text));
  return {};
}

Result<> set_base_devices(const toml::node& node, Config& config) {
  if (!node.is_array())
    return fail(Errc::Invalid, "a list of paths expected");
  config.guest.base_devices.clear();
  for (const toml::node& item : *node.as_array()) {
    TRY(std::string path, text_of(item));
    if (!path.starts_with("/dev/"))
      return fail(Errc::Invalid, "a path below /dev expected");
    config.guest.base_devices.push_back(std::move(path));
  }
  return {};
}

Result<std::vector<std::string>> words_of(const toml::node& node) {
  if (!node.is_array())
    return fail(Errc::Invalid, "a list of strings expected");
  std::vector<std::string> words;
  for (const toml::node& item : *node.as_array()) {
    TRY(std::string word, text_of(item));
    words.push_back(std::move(word));
  }
  return words;
}

// ["command", "argument"…], or "unix:/path".
Result<> set_witness(const toml::node& node, Config& config) {
  constexpr std::string_view kUnix = "unix:/";
  if (node.is_string()) {
    TRY(std::string text, text_of(node));
    if (!text.starts_with(kUnix))
      return fail(Errc::Invalid, "a list of words (command and arguments), or \"unix:/PATH\"");
    config.witness.socket = text.substr(kUnix.size() - 1);
    return {};
  }
  TRY(config.witness.command, words_of(node));
  if (config.witness.command.empty() || config.witness.command[0].empty())
    return fail(Errc::Invalid, "a command expected");
  return {};
}

Result<> set_witness_keys(const toml::node& node, Config& config) {
  TRY(config.witness.keys, words_of(node));
  for (const std::string& vkey : config.witness.keys) {
    TRY_OK(ledger::WitnessKey::from_vkey(vkey));
  }
  return {};
}

Result<> set_verify_hours(const toml::node& node, Config& config) {
  constexpr int64_t kYear = 8784;
  if (!node.is_integer() || node.as_integer()->get() < 0 || node.as_integer()->get() > kYear)
    return fail(Errc::Invalid, fmt::format("a number from 0 to {} expected", kYear));
  config.verify_hours = static_cast<uint32_t>(node.as_integer()->get());
  return {};
}

Result<> set_cgroup_parent(const toml::node& node, Config& config) {
  TRY(std::string path, text_of(node));
  if (path.starts_with('/') || path.find("..") != path.npos)
    return fail(Errc::Invalid, "a path below the hierarchy's root expected");
  config.guest.cgroup_parent = std::move(path);
  return {};
}

struct Key {
  std::string_view name;
  Setter set;
};
constexpr std::array kKeys{
    Key{"fence", set_fence},
    Key{"require_fence",
        [](const toml::node& n, Config& c) { return set_bool(n, c.guest.require_fence); }},
    Key{"audit", set_audit},
    Key{"on_audit_loss", set_on_audit_loss},
    Key{"on_drift", set_on_drift},
    Key{"witness", set_witness},
    Key{"witness_keys", set_witness_keys},
    Key{"verify_hours", set_verify_hours},
    Key{"base_devices", set_base_devices},
    Key{"cgroup_parent", set_cgroup_parent},
    Key{"emulator",
        [](const toml::node& n, Config& c) -> Result<> {
          TRY(c.guest.emulator, text_of(n));
          return {};
        }},
    Key{"uid_first",
        [](const toml::node& n, Config& c) -> Result<> {
          TRY(c.guest.uid_first, number_of(n));
          return {};
        }},
    Key{"uid_count",
        [](const toml::node& n, Config& c) -> Result<> {
          TRY(c.guest.uid_count, number_of(n));
          return {};
        }},
};

Error at(const Paths& paths, const toml::source_region& where, std::string_view what) {
  return Error{Errc::Invalid, fmt::format("{}:{}:{}: {}", paths.config, where.begin.line,
                                          where.begin.column, what)};
}

// Whether each guest can get a uid, a mount namespace and device nodes of its own. Root of a
// container often may do none of this: capabilities are missing, or its user namespace has no such
// uids (user_namespaces(7)).
bool can_isolate_guests() {
  constexpr uint64_t kNeeded = 1ULL << CAP_CHOWN | 1ULL << CAP_SETGID | 1ULL << CAP_SETUID |
                               1ULL << CAP_SYS_ADMIN | 1ULL << CAP_MKNOD;
  if (geteuid() != 0)
    return false;
  auto status = kernel::process_status(getpid());
  auto map = read_file("/proc/self/uid_map", kMaxConfig);
  // The initial user namespace's map: "         0          0 4294967295".
  return status && map && (status->cap_eff & kNeeded) == kNeeded && map->contains(" 4294967295");
}

}  // namespace

Result<Config> load_config(const Paths& paths) {
  Config config;
  // An instance that cannot isolate guests runs QEMU as itself.
  if (can_isolate_guests())
    config.guest.uid_first = kDefaultUidFirst;
  auto text = read_file(paths.config, kMaxConfig);
  if (!text && text.error().code() == Errc::NotFound)
    return config;
  if (!text)
    return fail(std::move(text).error());
  toml::parse_result parsed = toml::parse(*text);
  if (!parsed)
    return fail(at(paths, parsed.error().source(), parsed.error().description()));
  for (const auto& [name, node] : parsed.table()) {
    auto key = std::ranges::find(kKeys, name.str(), &Key::name);
    if (key == kKeys.end())
      return fail(at(paths, name.source(), fmt::format("unknown key {}", name.str())));
    if (Result<> set = key->set(node, config); !set)
      return fail(at(paths, node.source(), fmt::format("{}: {}", name.str(), set.error().what())));
  }
  return config;
}

}  // namespace tenure::daemon
