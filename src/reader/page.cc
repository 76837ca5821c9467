// SPDX-License-Identifier: Apache-2.0
#include "reader/page.h"

#include <algorithm>

#include "ledger/hash.h"
#include "ledger/note.h"
#include "reader/page_files.h"

namespace tenure::reader {
namespace {

// JSON has '<' inside strings only, where \u003c means the same: "</script>" and "<!--" are then
// nowhere (HTML Living Standard, 4.12.1.3 Restrictions for contents of script elements).
std::string without_markup(const std::string& json) {
  std::string out;
  out.reserve(json.size());
  for (const char c : json) {
    if (c == '<')
      out += "\\u003c";
    else
      out += c;
  }
  return out;
}

// Content Security Policy Level 3, 2.3.1: the hash of exactly what stands between the tags.
std::string csp_hash(std::string_view text) {
  return "'sha256-" + ledger::base64_encode(ledger::bytes_of(ledger::sha256(text))) + "'";
}

std::string value_of(std::string_view marker, const PageData& data) {
  struct Row {
    std::string_view marker;
    const std::string& json;
  };
  const Row rows[] = {{"about", data.about},
                      {"tenures", data.tenures},
                      {"runs", data.runs},
                      {"marks", data.marks},
                      {"records", data.records}};
  for (const Row& row : rows) {
    if (row.marker == marker)
      return without_markup(row.json);
  }
  if (marker == "style")
    return page_files::kStyle;
  if (marker == "script")
    return page_files::kScript;
  return marker == "style-hash" ? csp_hash(page_files::kStyle) : csp_hash(page_files::kScript);
}

}  // namespace

std::string render_page(const PageData& data) {
  constexpr std::string_view kOpen = "{{";
  constexpr std::string_view kClose = "}}";
  std::string_view rest = page_files::kTemplate;
  std::string out;
  for (size_t at = rest.find(kOpen); at != rest.npos; at = rest.find(kOpen)) {
    const size_t end = rest.find(kClose, at);
    out += rest.substr(0, at);
    out += value_of(rest.substr(at + kOpen.size(), end - at - kOpen.size()), data);
    rest.remove_prefix(end + kClose.size());
  }
  out += rest;
  return out;
}

void MarkFinder::event(const Event& event, uint64_t order, const GuestSelector& guest) {
  const int64_t time_ms = trail::time_ms(event.view);
  if (!range_.meets(time_ms, time_ms))
    return;
  first_ms_ = std::min(first_ms_.value_or(time_ms), time_ms);
  last_ms_ = std::max(last_ms_.value_or(time_ms), time_ms);
  const std::string_view body = event.view.body;
  const auto has = [&](std::string_view words) { return body.find(words) != body.npos; };
  if (event.view.state == trail::EntryState::Intent ||
      event.view.state == trail::EntryState::Void ||
      (!has("res=failed") && !has("reason=denied") && !has("reason=out-of-band")))
    return;
  const EventView view = reader_.read(event, order);
  const bool named = !view.guest.empty() || !view.uuid.empty();
  const bool wanted =
      view.result == "failed" || view.action == "denied" || view.action == "out-of-band";
  if (!named || !wanted || !guest.matches(view.guest, view.uuid))
    return;
  if (++count_ > kMaxMarks) {
    ++left_out_;
    return;
  }
  append_json_line(lines_, view);
}

}  // namespace tenure::reader
