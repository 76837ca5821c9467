// SPDX-License-Identifier: Apache-2.0
// The page of `tenure report --html` as text: data stays data, the security policy names exactly
// the script and the style that are in it. What it looks like is golden/report-page's.
#include "reader/page.h"

#include <gtest/gtest.h>

#include "ledger/hash.h"
#include "ledger/note.h"
#include "tests/unit/reader/scratch.h"

namespace tenure::reader {
namespace {

size_t count(std::string_view text, std::string_view part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

std::string_view between(std::string_view text, std::string_view open, std::string_view close) {
  const size_t from = text.find(open) + open.size();
  return text.substr(from, text.find(close, from) - from);
}

TEST(Page, DataCannotEndItsElementNorUseAMarker) {
  const std::string evil = R"({"guest":"</script><script>x()</script><!--{{about}}"})";
  const PageData empty{.about = "{}", .tenures = {}, .runs = {}, .marks = {}, .records = {}};
  PageData data = empty;
  data.about = "{\"secret\":1}";
  data.tenures = data.runs = data.marks = data.records = evil + "\n";
  const std::string page = render_page(data);
  EXPECT_EQ(count(page, "<script"), count(render_page(empty), "<script"));
  EXPECT_EQ(count(page, "</script"), count(render_page(empty), "</script"));
  EXPECT_EQ(count(page, "\\u003c/script>\\u003cscript>x()"), 4U);
  EXPECT_EQ(count(page, "{\"secret\":1}"), 1U);  // a marker in the data is not filled
  EXPECT_EQ(count(page, "{{about}}"), 4U);
}

TEST(Page, PolicyAllowsItsOwnScriptAndStyleAndNothingElse) {
  const std::string page =
      render_page({.about = "{}", .tenures = {}, .runs = {}, .marks = {}, .records = {}});
  const std::string_view policy = between(page, "Content-Security-Policy\" content=\"", "\"");
  EXPECT_TRUE(policy.starts_with("default-src 'none'; "));
  EXPECT_EQ(count(policy, "unsafe"), 0U);
  for (const std::string_view tag : {"<script>", "<style>"}) {
    const std::string close = "</" + std::string(tag.substr(1));
    const std::string_view text = between(page, tag, close);
    EXPECT_GT(text.size(), 1000U);
    const std::string hash = ledger::base64_encode(ledger::bytes_of(ledger::sha256(text)));
    EXPECT_NE(policy.find("sha256-" + hash), policy.npos) << tag;
  }
  EXPECT_EQ(count(page, "src=\"http"), 0U);
  EXPECT_EQ(count(page, "url("), 0U);
}

}  // namespace
}  // namespace tenure::reader
