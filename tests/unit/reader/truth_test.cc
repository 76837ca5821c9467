// SPDX-License-Identifier: Apache-2.0
// Logs with a known truth are read back exactly: every tenure, its two records, its reason.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/reader/log_generator.h"
#include "tests/unit/reader/scratch.h"

namespace tenure::reader {
namespace {

std::vector<TrueTenure> as_read(Reading& reading) {
  std::vector<TrueTenure> out;
  for (const model::Tenure& tenure : reading.streams[0].book.tenures()) {
    TrueTenure one;
    one.uuid = tenure.uuid.view();
    one.kind = tenure.kind.view();
    one.id = tenure.id.view();
    one.from_serial = tenure.from ? tenure.from->serial : 0;
    one.from_ms = tenure.from ? tenure.from->time_ms : 0;
    one.reason = tenure.until_reason.view();
    one.certainty = model::to_string(tenure.certainty);
    // Where no record ended it, its end is a bound.
    const bool told = tenure.until && one.certainty != "bounded" && one.reason != "superseded";
    one.until_serial = told ? tenure.until->serial : 0;
    out.push_back(one);
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::string show(const TrueTenure& t) {
  return t.uuid.substr(0, 8) + " " + t.kind + " " + t.id + " " + std::to_string(t.from_serial) +
         ".." + std::to_string(t.until_serial) + " " + t.reason + " " + t.certainty;
}

void compare(const std::vector<TrueTenure>& truth, const std::vector<TrueTenure>& read,
             uint64_t seed) {
  std::vector<TrueTenure> missing;
  std::vector<TrueTenure> invented;
  std::set_difference(truth.begin(), truth.end(), read.begin(), read.end(),
                      std::back_inserter(missing));
  std::set_difference(read.begin(), read.end(), truth.begin(), truth.end(),
                      std::back_inserter(invented));
  EXPECT_TRUE(missing.empty()) << "seed " << seed << ": " << missing.size()
                               << " missing, first: " << show(missing.front());
  EXPECT_TRUE(invented.empty()) << "seed " << seed << ": " << invented.size()
                                << " invented, first: " << show(invented.front());
}

class Truth : public ::testing::TestWithParam<uint64_t> {};

TEST_P(Truth, IsReadBackExactly) {
  const Scratch scratch;
  LogGenerator generator({.seed = GetParam(), .guests = 6, .virt_share = 0.4});
  std::vector<std::string> parts;
  for (int i = 0; i < 3; ++i) parts.push_back(generator.text(600'000));
  scratch.write("audit.log", parts[2]);
  scratch.write("audit.log.1", parts[1]);
  scratch.write("audit.log.2.gz", gzip(parts[0]));
  Reading reading = read_logs({scratch.path("")});
  std::vector<TrueTenure> truth = generator.truth();
  std::sort(truth.begin(), truth.end());
  EXPECT_GT(truth.size(), 500U);
  EXPECT_TRUE(reading.damage.empty());
  EXPECT_EQ(reading.streams[0].book.counts().unmatched, 0U);
  compare(truth, as_read(reading), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Seeds, Truth, ::testing::Range<uint64_t>(1, 9));

}  // namespace
}  // namespace tenure::reader
