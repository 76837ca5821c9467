// SPDX-License-Identifier: Apache-2.0
// The words of QMP (docs/interop/qmp-spec of QEMU) without the connection: bytes to lines, a line
// to a message, a command to bytes. Pure; whatever the bytes are, the answer is a message or an
// Error.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "qemu/qmp.h"

namespace tenure::qemu {

// Cuts a stream into lines of at most kMaxQmpMessage bytes. Not thread-safe.
class QmpLines {
 public:
  void feed(std::string_view bytes);
  // The next whole line without its end, valid until the next feed(); nullopt if more bytes are
  // needed; Invalid once a line is longer than allowed. Empty lines are skipped.
  Result<std::optional<std::string_view>> next();
  // Bytes of a line that has begun.
  size_t pending() const { return bytes_.size() - begin_; }

 private:
  std::string bytes_;
  size_t begin_ = 0;    // of the current line
  size_t scanned_ = 0;  // no line end before this: an endless line costs linear time
};

struct QmpMessage {
  enum class Kind { Greeting, Event, Reply } kind = Kind::Greeting;
  QmpEvent event;                         // of an Event
  uint64_t id = 0;                        // of a Reply
  std::shared_ptr<nlohmann::json> value;  // of a Reply: "return"; of a Greeting: "capabilities"
  std::optional<Error> error;             // of a Reply: "error", instead of value
};

// Invalid for anything that is not one of the three, nests deeper than kMaxQmpDepth or holds more
// than kMaxQmpValues values, and for a reply without a numeric id (QEMU answers so if it could not
// parse).
Result<QmpMessage> parse_qmp_message(std::string_view line);

// One line with its end. Invalid if a text in it is no UTF-8.
Result<std::string> encode_qmp_command(std::string_view command, const nlohmann::json& arguments,
                                       uint64_t id);

}  // namespace tenure::qemu
