// SPDX-License-Identifier: Apache-2.0
// Modules of memory: what <memory> means beside them, slots, cells, and how they come and go.
#include <gtest/gtest.h>

#include "domain/change.h"
#include "domain/domain.h"
#include "domain/text.h"

namespace tenure::domain {
namespace {

std::string modules_xml(const std::string& head, const std::string& devices) {
  return "<domain type='qemu'><name>g</name>" + head +
         "<os><type>hvm</type></os><features><acpi/></features>"
         "<devices>" +
         devices + "</devices></domain>";
}

std::string module_of(unsigned kib, const std::string& target = "", const std::string& more = "") {
  return "<memory model='dimm'>" + more + "<target><size unit='KiB'>" + std::to_string(kib) +
         "</size>" + target + "</target></memory>";
}

constexpr char kRoom[] =
    "<maxMemory slots='2' unit='MiB'>1024</maxMemory><memory unit='MiB'>256</memory>"
    "<vcpu>2</vcpu>";
constexpr char kCells[] =
    "<maxMemory slots='4' unit='MiB'>1024</maxMemory><memory unit='MiB'>64</memory><vcpu>2</vcpu><cpu><numa>"
    "<cell id='0' cpus='0' memory='64' unit='MiB'/><cell id='1' cpus='1' memory='64' unit='MiB'/>"
    "</numa></cpu>";

Domain complete_of(const std::string& head, const std::string& devices = "") {
  auto d = parse_complete(modules_xml(head, devices), "g.xml");
  EXPECT_TRUE(d) << d.error().what();
  return d ? std::move(*d) : Domain{};
}

std::string modules_refusal(const std::string& head, const std::string& devices) {
  auto d = parse_complete(modules_xml(head, devices), "g.xml");
  EXPECT_FALSE(d);
  return d ? "" : d.error().what();
}

TEST(Modules, MemoryCountsThem) {
  const Domain d = complete_of(kRoom, module_of(65536) + module_of(1000));
  EXPECT_EQ(d.memory_kib, 256U * 1024 - 65536 - 1000);
  ASSERT_EQ(d.memories.size(), 2U);
  EXPECT_EQ(d.memories[1].size_kib, 1024U) << "whole MiB";
  ASSERT_TRUE(d.cpu);
  ASSERT_EQ(d.cpu->cells.size(), 1U) << "QEMU wants a cell";
  EXPECT_EQ(d.cpu->cells[0].cpus, "0-1");
  EXPECT_EQ(d.cpu->cells[0].memory_kib, d.memory_kib);
  EXPECT_EQ(d.memories[0].info.alias, "dimm0");
  EXPECT_EQ(d.memories[1].info.address.slot, 1U);
}

TEST(Modules, CellsDecide) {
  const Domain d = complete_of(kCells, module_of(65536, "<node>1</node>"));
  EXPECT_EQ(d.memory_kib, 128U * 1024);
  EXPECT_EQ(total_memory_kib(d), 192U * 1024);
  EXPECT_EQ(d.memories[0].node, 1U);
}

TEST(Modules, SlotsAreKeptAndFilled) {
  const Domain d = complete_of(
      kCells,
      module_of(1024) + module_of(1024, "", "<address type='dimm' slot='0' base='0x100000000'/>"));
  EXPECT_EQ(d.memories[0].info.alias, "dimm1");
  EXPECT_EQ(d.memories[1].info.alias, "dimm0");
  EXPECT_EQ(d.memories[1].info.address.base, 0x100000000U);
}

TEST(Modules, Refusals) {
  constexpr char kNoRoom[] = "<memory unit='MiB'>256</memory>";
  const std::string one = module_of(1024);
  EXPECT_NE(modules_refusal(kNoRoom, one).find("no <maxMemory slots=>"), std::string::npos);
  EXPECT_NE(modules_refusal(kRoom, one + one + one).find("all 2 slots"), std::string::npos);
  EXPECT_NE(modules_refusal(kRoom, module_of(256 * 1024)).find("nothing is left"),
            std::string::npos);
  EXPECT_NE(modules_refusal(kCells, module_of(1024 * 1024)).find("more than <maxMemory>"),
            std::string::npos);
  EXPECT_NE(modules_refusal(kCells, module_of(1024, "<node>2</node>")).find("<node>"),
            std::string::npos);
  EXPECT_NE(modules_refusal(kCells, module_of(1024, "<block>4</block>")).find("<block>"),
            std::string::npos);
  EXPECT_NE(modules_refusal(kCells, "<memory model='nvdimm'/>").find("model 'nvdimm'"),
            std::string::npos);
  const std::string taken = module_of(1024, "", "<address type='dimm' slot='1'/>");
  EXPECT_NE(modules_refusal(kCells, taken + taken).find("slot is taken"), std::string::npos);
  EXPECT_NE(modules_refusal(
                "<maxMemory slots='2' unit='MiB'>64</maxMemory><memory unit='MiB'>64</memory>", "")
                .find("<maxMemory>"),
            std::string::npos);
}

TEST(Modules, ComeAndGo) {
  const std::string xml = modules_xml(kRoom, module_of(65536));
  const Domain d = complete_of(kRoom, module_of(65536));
  auto more = add_device(d, module_of(32768), "module.xml");
  ASSERT_TRUE(more) << more.error().what();
  EXPECT_EQ(more->alias, "dimm1");
  EXPECT_EQ(more->domain.memory_kib, d.memory_kib);
  EXPECT_NE(more->xml.find("<address type=\"dimm\" slot=\"1\"/>"), std::string::npos) << more->xml;
  auto full = add_device(more->domain, module_of(1024), "module.xml");
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), Errc::Busy);

  auto text = definition_text(xml, {}, {{"dimm1", more->xml}});
  ASSERT_TRUE(text) << text.error().what();
  auto again = parse_complete(*text, "again.xml");
  ASSERT_TRUE(again) << again.error().what();
  EXPECT_EQ(again->memory_kib, d.memory_kib) << "what the guest booted with is the same";
  EXPECT_EQ(total_memory_kib(*again), total_memory_kib(more->domain));

  text = definition_text(xml, {"dimm0"}, {});
  ASSERT_TRUE(text);
  again = parse_complete(*text, "again.xml");
  ASSERT_TRUE(again) << again.error().what();
  EXPECT_EQ(again->memory_kib, d.memory_kib);
  EXPECT_TRUE(again->memories.empty());
}

}  // namespace
}  // namespace tenure::domain
