// SPDX-License-Identifier: Apache-2.0
// Feeds a book with libvirt's records, or ours, in few words.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "model/json.h"
#include "model/tenure_book.h"

namespace tenure::model {

inline constexpr std::string_view kAnchor = "6fe7fc2a-cc7c-4d6c-bb44-e1c7d275e875";

class Feed {
 public:
  // A line of libvirt's: "resrc=disk reason=attach", then what follows the uuid.
  void resource(std::string_view what, std::string_view rest, std::string_view result = "success") {
    virt("VIRT_RESOURCE", what, rest, result);
  }
  void control(std::string_view what, std::string_view result = "success") {
    virt("VIRT_CONTROL", what, "vm-pid=27158", result);
  }
  void machine_id() {
    virt("VIRT_MACHINE_ID", "", "vm-ctx=+107:+107 img-ctx=+107:+107 model=dac", "success");
  }
  void virt(std::string_view type, std::string_view what, std::string_view rest,
            std::string_view result) {
    std::string body = "virt=kvm ";
    if (!what.empty())
      body.append(what).append(" ");
    body.append("vm=\"").append(guest).append("\" uuid=").append(uuid).append(" ").append(rest);
    body.append(" exe=\"/usr/sbin/libvirtd\" hostname=? addr=? terminal=? res=").append(result);
    line(type, "pid=900 uid=0 auid=4294967295 ses=4294967295 msg='" + body + "'");
  }
  void line(std::string_view type, std::string_view text) {
    std::string head = node.empty() ? "" : "node=" + node + " ";
    head.append("type=").append(type).append(" msg=audit(").append(std::to_string(second));
    head.append(".000:").append(std::to_string(serial)).append("): ");
    apply(head.append(text));
    ++second;
    ++serial;
  }
  // An entry of the ledger.
  void entry(trail::EntryState state, trail::Record record, bool appended = true) {
    record.set("virt", "kvm").set("vm", guest).set("uuid", uuid).set("run", 1);
    std::string body = trail::encode(record).value();
    if (appended)
      body += std::string(" exe=\"/usr/bin/tenured\" hostname=? addr=? terminal=? res=") +
              (record.success ? "success" : "failed");
    bool confirmed = state == trail::EntryState::Confirmed;
    trail::Entry entry{.state = state,
                       .type = trail::spec(record.kind).type,
                       .time_ms = second++ * 1000,
                       .serial = confirmed ? serial++ : 0,
                       .body = std::move(body)};
    apply(trail::encode_entry(entry));
  }
  void apply(std::string_view text) {
    auto view = trail::decode_line(text);
    ASSERT_TRUE(view) << text;
    book.apply(*view, order++);
  }

  const Tenure& tenure(size_t at) const {
    return *std::next(book.tenures().begin(), static_cast<std::ptrdiff_t>(at));
  }

  // "disk /dev/vda 5-9 detach exact": kind, id, seconds from and until, reason, certainty.
  std::vector<std::string> tenures() {
    std::vector<std::string> lines;
    auto at = [](const std::optional<Position>& p, const char* none) {
      return p ? std::to_string(p->time_ms / 1000) : std::string(none);
    };
    for (const Tenure& t : book.tenures())
      lines.push_back(std::string(t.kind) + " " + std::string(t.id) + " " + at(t.from, "?") + "-" +
                      at(t.until, "") + (t.until_reason.empty() ? "" : " ") +
                      std::string(t.until_reason) + " " + std::string(to_string(t.certainty)));
    return lines;
  }
  // "1 booted 5-9 destroyed".
  std::vector<std::string> runs() {
    std::vector<std::string> lines;
    for (const Run& r : book.runs())
      lines.push_back(std::to_string(r.number) + " " +
                      (r.start_reason.empty() ? "?" : std::string(r.start_reason)) + " " +
                      (r.start ? std::to_string(r.start->time_ms / 1000) : "?") + "-" +
                      (r.end ? std::to_string(r.end->time_ms / 1000) : "") +
                      (r.end_reason.empty() ? "" : " ") + std::string(r.end_reason) +
                      (r.failed ? " (failed)" : ""));
    return lines;
  }

  TenureBook book;
  std::string guest = "anchor";
  std::string uuid{kAnchor};
  std::string node;
  int64_t second = 1;
  uint64_t serial = 100;
  uint64_t order = 0;
};

}  // namespace tenure::model
