// SPDX-License-Identifier: Apache-2.0
// Whatever QEMU, taken over by its guest, may write: the stream is cut into lines and each line is
// understood or refused. The first byte says in pieces of which size the rest arrives.
#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "qemu/qmp_message.h"

using namespace tenure::qemu;

namespace {

void check(bool holds) {
  if (!holds)
    abort();
}

void take(std::string_view line) {
  auto message = parse_qmp_message(line);
  if (!message) {
    check(!message.error().what().empty());
    return;
  }
  switch (message->kind) {
    case QmpMessage::Kind::Greeting:
      break;
    case QmpMessage::Kind::Event:
      check(!message->event.name.empty() && message->event.data && message->event.time_us >= 0);
      check(message->event.data->is_object());
      break;
    case QmpMessage::Kind::Reply:
      check((message->value != nullptr) != message->error.has_value());
      // A reply of ours can be written again: the depth is bounded, so this cannot run away.
      if (message->value)
        check(encode_qmp_command("again", *message->value, message->id).has_value());
      break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0)
    return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  size_t piece = size_t{data[0]} + 1;
  QmpLines lines;
  while (!rest.empty()) {
    lines.feed(rest.substr(0, piece));
    rest.remove_prefix(std::min(piece, rest.size()));
    for (auto line = lines.next(); line && *line; line = lines.next()) {
      check(!(*line)->empty());
      take(**line);
    }
  }
  return 0;
}
