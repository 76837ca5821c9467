// SPDX-License-Identifier: Apache-2.0
// What a start would claim, for small definitions: cases/NAME.xml with the facts of NAME.facts must
// give NAME.txt. TENURE_UPDATE=1 writes the texts anew; read the difference before it is committed.
//
// A line of a .facts file is one fact:
//   fence v2|v1|none    uid N       base PATH…
//   node PATH file|b|c [MAJOR MINOR]
//   image ALIAS PATH FORMAT r|rw file|block [MAJOR MINOR]     top first
//   slave MAJOR MINOR of MAJOR MINOR PATH                     of a device-mapper device
//   closed PATH FOLDER
// %20 stands for a blank in a path, and so on.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "base/file.h"
#include "base/text.h"
#include "guest/plan/plan.h"

namespace tenure::guest {
namespace {

namespace fs = std::filesystem;
constexpr size_t kMaxFile = 1U << 20U;

fs::path cases() {
  return fs::path(TENURE_SOURCE_DIR) / "tests/golden/plan/cases";
}

std::string contents(const fs::path& path) {
  auto text = read_file(path.string(), kMaxFile);
  EXPECT_TRUE(text) << path;
  return text.value_or("");
}

std::string unescape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    out += from_hex(text.substr(i + 1, 2)).value_or("?");
    i += 2;
  }
  return out;
}

struct Case {
  Facts facts;
  HostOptions options;
};

class FactsReader {
 public:
  explicit FactsReader(const std::string& text) : text_(text) {}

  Case read() {
    case_.options.runtime_dir = "/run/tenure/runs/UUID/sockets";
    std::istringstream lines(text_);
    for (std::string line; std::getline(lines, line);) {
      in_ = std::istringstream(line);
      std::string what = word();
      auto reader = std::ranges::find(kReaders, what, &Reader::what);
      if (reader != std::end(kReaders))
        (this->*reader->read)();
      else
        EXPECT_TRUE(what.empty() || what[0] == '#') << line;
    }
    return std::move(case_);
  }

 private:
  struct Reader {
    std::string_view what;
    void (FactsReader::*read)();
  };
  static const Reader kReaders[7];

  std::string word() {
    std::string text;
    in_ >> text;
    return unescape(text);
  }
  uint32_t number() { return parse_int<uint32_t>(word()).value_or(0); }
  DeviceNumber device(DeviceType type) {
    uint32_t major = number();
    return {type, major, number()};
  }
  kernel::NodeFacts node_of(const std::string& path, const std::string& type) {
    kernel::NodeFacts node{.path = path, .type = kernel::FileType::Regular};
    if (type == "file")
      return node;
    bool block = type[0] == 'b';
    node.type = block ? kernel::FileType::Block : kernel::FileType::Char;
    node.rdev = device(block ? DeviceType::Block : DeviceType::Char);
    return node;
  }

  void fence() {
    std::string version = word();
    if (version == "none")
      return;
    bool v2 = version == "v2";
    case_.options.fence = v2 ? kernel::CgroupVersion::V2 : kernel::CgroupVersion::V1;
    (v2 ? case_.options.cgroup_v2 : case_.options.cgroup_v1) = "/cg/tenure-UUID";
  }
  void uid() { case_.options.uid = number(); }
  void base() {
    for (std::string path = word(); !path.empty(); path = word())
      case_.options.base_devices.push_back(path);
  }
  void node() {
    std::string path = word();
    case_.facts.nodes[path] = node_of(path, word());
  }
  void image() {
    std::string alias = word();
    qemu::Image image{.path = word(), .format = word(), .node = {}};
    image.writable = word() == "rw";
    image.node = node_of(image.path, word());
    case_.facts.chains[alias].push_back(std::move(image));
  }
  void slave() {
    DeviceNumber lower = device(DeviceType::Block);
    EXPECT_EQ(word(), "of");
    DeviceNumber upper = device(DeviceType::Block);
    case_.facts.slaves[upper].push_back({lower, word()});
  }
  void closed() {
    std::string path = word();
    case_.facts.closed_folders[path].push_back(word());
  }

  std::string text_;
  std::istringstream in_;
  Case case_;
};

const FactsReader::Reader FactsReader::kReaders[7] = {
    {"fence", &FactsReader::fence},   {"uid", &FactsReader::uid},
    {"base", &FactsReader::base},     {"node", &FactsReader::node},
    {"image", &FactsReader::image},   {"slave", &FactsReader::slave},
    {"closed", &FactsReader::closed},
};

std::string to_text(const Plan& plan) {
  std::string text;
  for (const model::Claim& claim : plan.claims) {
    trail::Record record = claim.record;
    record.set("virt", "kvm").set("vm", "golden").set("uuid", "UUID");
    auto body = trail::encode(record);
    text += body ? *body : "CANNOT BE ENCODED: " + body.error().what();
    text += '\n';
  }
  for (const kernel::DevNode& node : plan.nodes)
    text += "node " + node.path + " " + to_string(node.rdev) + " uid " + std::to_string(node.uid) +
            "\n";
  return text;
}

class PlanGolden : public testing::TestWithParam<std::string> {};

TEST_P(PlanGolden, Claims) {
  std::string name = GetParam();
  std::string xml = contents(cases() / (name + ".xml"));
  auto domain = domain::parse_complete(xml, name + ".xml");
  ASSERT_TRUE(domain) << domain.error().what();
  Case given = FactsReader(contents(cases() / (name + ".facts"))).read();
  std::string text = to_text(make_plan(*domain, given.facts, given.options));
  EXPECT_EQ(text.find("CANNOT"), text.npos) << text;
  fs::path expected = cases() / (name + ".txt");
  if (std::getenv("TENURE_UPDATE") != nullptr) {
    ASSERT_TRUE(write_file_atomic(expected.string(), text, 0644));
  }
  EXPECT_EQ(text, contents(expected));
}

std::vector<std::string> names() {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(cases()))
    if (entry.path().extension() == ".xml")
      found.push_back(entry.path().stem().string());
  std::ranges::sort(found);
  return found;
}

INSTANTIATE_TEST_SUITE_P(Cases, PlanGolden, testing::ValuesIn(names()),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace tenure::guest
