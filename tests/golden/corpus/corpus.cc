// SPDX-License-Identifier: Apache-2.0
// The domain XML corpus of libvirt's own tests (../shared/corpus beside the checkout): every
// definition either becomes a command line with the expected device models, or is refused by name;
// nothing else.
//
// libvirt wrote some of the expectations for a QEMU of long ago. There the one USB controller that
// nobody asked for is `-usb` (a part of the machine) on i440fx and missing on q35, a root port
// without a model is ioh3420, and a primary virtio screen has no VGA. An expectation that differs
// in exactly these ways is counted on its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "domain/domain.h"
#include "qemu/command_line.h"

namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Models = std::vector<std::string>;

constexpr size_t kMaxFile = 16U << 20U;
constexpr size_t kLeastEqual = 90;

fs::path corpus() {
  if (const char* set = std::getenv("TENURE_CORPUS"))
    return set;
  return fs::path(TENURE_SOURCE_DIR).parent_path() / "shared" / "corpus";
}

std::string contents(const fs::path& path) {
  auto text = tenure::read_file(path.string(), kMaxFile);
  EXPECT_TRUE(text) << path;
  return text.value_or("");
}

// The drivers of all -device arguments, sorted.
Models models_of(const std::vector<std::string>& argv) {
  Models models;
  for (size_t i = 0; i + 1 < argv.size(); ++i) {
    if (argv[i] == "-device")
      models.push_back(json::parse(argv[i + 1]).at("driver"));
  }
  std::ranges::sort(models);
  return models;
}

Models expected_models(const json& expectation) {
  Models models = expectation.value("-device", Models{});
  std::ranges::sort(models);
  return models;
}

// The models that today's QEMU gets, as that old one would have got them. Only a definition that
// names no USB controller's model has an implicit one.
Models as_of_old(Models models, const std::string& xml) {
  const bool names_usb =
      xml.find("-uhci'") != std::string::npos || xml.find("xhci'") != std::string::npos;
  const bool names_ports = xml.find("pcie-root-port") != std::string::npos;
  const auto implicit = [&](const std::string& m) {
    return m == "piix3-usb-uhci" || m == "qemu-xhci" || (m == "pcie-root-port" && !names_ports);
  };
  if (!names_usb)
    std::erase_if(models, implicit);
  std::ranges::sort(models);
  return models;
}

Models with(Models models, const std::string& now, const std::string& then) {
  const auto found = std::ranges::find(models, now);
  if (found != models.end())
    *found = then;
  std::ranges::sort(models);
  return models;
}

// The xhci that nobody named has a port of its own beside those that are named.
Models without_port_of_xhci(const Models& got, Models old) {
  const auto port = std::ranges::find(old, "pcie-root-port");
  if (got.size() == old.size() + 1 && port != old.end())
    old.erase(port);
  return old;
}

bool is_equal_of_old(const Models& got, const Models& wanted, const std::string& xml) {
  const Models old = as_of_old(got, xml);
  return old == wanted || with(old, "virtio-vga", "virtio-gpu-pci") == wanted ||
         with(old, "pcie-root-port", "ioh3420") == wanted ||
         with(without_port_of_xhci(got, old), "pcie-root-port", "ioh3420") == wanted;
}

std::string joined(const Models& models) {
  std::string text;
  for (const auto& model : models) text += " " + model;
  return text;
}

struct Counts {
  size_t equal = 0, of_old = 0, refused = 0, different = 0;
};

void judge(const std::string& name, const json& expectation, Counts& counts) {
  const std::string xml = contents(corpus() / "valid" / (name + ".xml"));
  const auto refuse = [&](const tenure::Error& error) {
    ++counts.refused;
    const std::string& what = error.what();
    EXPECT_TRUE(what.starts_with(name + ".xml:")) << what;
    EXPECT_NE(what.find('<'), std::string::npos) << what;
    if (std::getenv("TENURE_VERBOSE") != nullptr)
      std::cout << "refused: " << what << "\n";
  };
  auto domain = tenure::domain::parse_complete(xml, name + ".xml");
  if (!domain)
    return refuse(domain.error());
  const tenure::qemu::Wiring wiring{.kvm = domain->kvm, .preview = true};
  auto argv = tenure::qemu::command_line(*domain, wiring);
  if (!argv)
    return refuse(argv.error());
  const Models got = models_of(*argv), wanted = expected_models(expectation);
  if (got == wanted) {
    ++counts.equal;
  } else if (is_equal_of_old(got, wanted, xml)) {
    ++counts.of_old;
  } else {
    ++counts.different;
    ADD_FAILURE() << name << "\n  got:   " << joined(got) << "\n  wanted:" << joined(wanted);
  }
}

TEST(Corpus, ModelsAreEqualOrRefusedByName) {
  if (!fs::exists(corpus() / "expect.json"))
    GTEST_SKIP() << "no corpus at " << corpus();
  const json expectations = json::parse(contents(corpus() / "expect.json"));
  Counts counts;
  for (const auto& [name, expectation] : expectations.items()) judge(name, expectation, counts);
  std::cout << "equal " << counts.equal << ", equal as of an older QEMU " << counts.of_old
            << ", refused by name " << counts.refused << ", DIFFERENT " << counts.different
            << ", of " << expectations.size() << "\n";
  EXPECT_GT(counts.equal, kLeastEqual);
  EXPECT_EQ(counts.different, 0U);
}

// Whatever libvirt refuses or writes for other machines: an answer, never a crash.
TEST(Corpus, OtherDefinitionsGetAnAnswer) {
  if (!fs::exists(corpus() / "other"))
    GTEST_SKIP() << "no corpus at " << corpus();
  size_t accepted = 0, refused = 0;
  for (const auto& entry : fs::directory_iterator(corpus() / "other")) {
    const std::string xml = contents(entry.path());
    auto domain = tenure::domain::parse_complete(xml, "other.xml");
    const bool fine = domain && tenure::qemu::command_line(*domain, {.kvm = true, .preview = true});
    if (!domain) {
      EXPECT_TRUE(domain.error().what().starts_with("other.xml:")) << domain.error().what();
    }
    ++(fine ? accepted : refused);
  }
  std::cout << "accepted " << accepted << ", refused " << refused << "\n";
}

// A definition that was cut off is never mistaken for a whole one.
TEST(Corpus, TruncatedDefinitionsAreRefused) {
  if (!fs::exists(corpus() / "valid"))
    GTEST_SKIP() << "no corpus at " << corpus();
  for (const auto& entry : fs::directory_iterator(corpus() / "valid")) {
    const std::string xml = contents(entry.path());
    const size_t end = xml.rfind("</domain>");
    for (size_t length = 0; length <= end; length += 100) {
      auto domain =
          tenure::domain::parse_complete(std::string_view(xml).substr(0, length), "cut.xml");
      EXPECT_FALSE(domain) << entry.path() << " at " << length;
    }
  }
}

}  // namespace
