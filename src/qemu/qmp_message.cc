// SPDX-License-Identifier: Apache-2.0
#include "qemu/qmp_message.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/text.h"

namespace tenure::qemu {
namespace {

using nlohmann::json;

constexpr size_t kMaxDescription = 1000;  // bytes of QEMU's text that reach our messages

struct ErrorClass {
  std::string_view name;
  Errc code;
};
// QapiErrorClass of qapi/error.json.
constexpr std::array kErrorClasses{
    ErrorClass{"GenericError", Errc::Internal}, ErrorClass{"CommandNotFound", Errc::Unsupported},
    ErrorClass{"DeviceNotActive", Errc::Internal}, ErrorClass{"DeviceNotFound", Errc::NotFound},
    ErrorClass{"KVMMissingCap", Errc::Unsupported}};

// A refusal by the kernel reaches us only as the end of a text (error_setg_errno() of QEMU).
constexpr std::array kRefusals{EPERM, EACCES};

// Depth and size are looked at before the parser builds anything from them.
Result<> check_bounds(std::string_view text) {
  size_t depth = 0, values = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++values;
      if (++depth > kMaxQmpDepth)
        return fail(Errc::Invalid, fmt::format("nested deeper than {}", kMaxQmpDepth));
    } else if (c == '}' || c == ']') {
      depth -= depth > 0 ? 1 : 0;
    } else if (c == ',' && ++values > kMaxQmpValues) {
      return fail(Errc::Invalid, fmt::format("more than {} values", kMaxQmpValues));
    }
  }
  return {};
}

const json* member(const json& object, const char* key) {
  auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

std::string text_of(const json& object, const char* key) {
  const json* value = member(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

Error error_of(const json& object) {
  std::string description = text_of(object, "desc");
  Errc code = Errc::Internal;
  std::string name = text_of(object, "class");
  for (const ErrorClass& known : kErrorClasses) {
    if (known.name == name)
      code = known.code;
  }
  int sys_errno = 0;
  for (int refusal : kRefusals) {
    if (description.ends_with(strerrordesc_np(refusal)))
      sys_errno = refusal;
  }
  if (sys_errno != 0)
    code = Errc::Denied;
  if (description.size() > kMaxDescription)
    description.resize(kMaxDescription);
  return Error(code, description.empty() ? "refused without a reason" : printable(description),
               sys_errno);
}

// 0 for "not known": QEMU itself says -1 when it has no clock.
int64_t time_of(const json& object) {
  const json* stamp = member(object, "timestamp");
  if (stamp == nullptr || !stamp->is_object())
    return 0;
  const json* seconds = member(*stamp, "seconds");
  const json* micros = member(*stamp, "microseconds");
  if (seconds == nullptr || micros == nullptr || !seconds->is_number_unsigned() ||
      !micros->is_number_unsigned())
    return 0;
  constexpr uint64_t kSecond = 1'000'000;
  uint64_t s = seconds->get<uint64_t>(), us = micros->get<uint64_t>();
  if (us >= kSecond || s >= INT64_MAX / kSecond - 1)
    return 0;
  return static_cast<int64_t>(s * kSecond + us);
}

Result<QmpMessage> greeting_of(const json& body) {
  const json* version = body.is_object() ? member(body, "version") : nullptr;
  const json* capabilities = body.is_object() ? member(body, "capabilities") : nullptr;
  if (version == nullptr || !version->is_object() || capabilities == nullptr ||
      !capabilities->is_array())
    return fail(Errc::Invalid, "a greeting without version and capabilities");
  QmpMessage message;
  message.value = std::make_shared<json>(*capabilities);
  return message;
}

Result<QmpMessage> event_of(json&& object, const json& name) {
  if (!name.is_string() || name.get_ref<const std::string&>().empty())
    return fail(Errc::Invalid, "an event without a name");
  QmpMessage message;
  message.kind = QmpMessage::Kind::Event;
  message.event.name = printable(name.get_ref<const std::string&>());
  message.event.time_us = time_of(object);
  json data = json::object();
  if (auto found = object.find("data"); found != object.end())
    data = std::move(*found);
  if (!data.is_object())
    return fail(Errc::Invalid, "an event whose data is no object");
  message.event.data = std::make_shared<const json>(std::move(data));
  return message;
}

Result<QmpMessage> reply_of(json&& object) {
  QmpMessage message;
  message.kind = QmpMessage::Kind::Reply;
  json* value = nullptr;
  if (auto found = object.find("return"); found != object.end())
    value = &*found;
  const json* error = member(object, "error");
  if ((value != nullptr) == (error != nullptr) || (error != nullptr && !error->is_object()))
    return fail(Errc::Invalid, "neither a greeting, an event nor a reply");
  if (error != nullptr)
    message.error = error_of(*error);
  const json* id = member(object, "id");
  if (id == nullptr || !id->is_number_unsigned())
    return fail(Errc::Invalid,
                fmt::format("a reply without an id of ours{}{}", message.error ? ": " : "",
                            message.error ? message.error->what() : ""));
  message.id = id->get<uint64_t>();
  if (value != nullptr)
    message.value = std::make_shared<json>(std::move(*value));
  return message;
}

Result<QmpMessage> message_of(json&& object) {
  if (!object.is_object())
    return fail(Errc::Invalid, "no JSON object");
  if (const json* body = member(object, "QMP"))
    return greeting_of(*body);
  if (const json* name = member(object, "event")) {
    json copy = *name;
    return event_of(std::move(object), copy);
  }
  return reply_of(std::move(object));
}

}  // namespace

void QmpLines::feed(std::string_view bytes) {
  bytes_.erase(0, begin_);
  scanned_ -= begin_;
  begin_ = 0;
  // What one large reply needed is not kept for the life of the guest.
  if (bytes_.empty() && bytes_.capacity() > (64UL << 10))
    bytes_.shrink_to_fit();
  bytes_.append(bytes);
}

Result<std::optional<std::string_view>> QmpLines::next() {
  for (;;) {
    size_t end = bytes_.find('\n', scanned_);
    size_t length = (end == std::string::npos ? bytes_.size() : end) - begin_;
    if (length > kMaxQmpMessage)
      return fail(Errc::Invalid, fmt::format("a message longer than {} bytes", kMaxQmpMessage));
    if (end == std::string::npos) {
      scanned_ = bytes_.size();
      return std::nullopt;
    }
    std::string_view line = trim(std::string_view(bytes_).substr(begin_, length));
    begin_ = scanned_ = end + 1;
    if (!line.empty())
      return line;
  }
}

Result<QmpMessage> parse_qmp_message(std::string_view line) {
  if (line.size() > kMaxQmpMessage)
    return fail(Errc::Invalid, fmt::format("a message longer than {} bytes", kMaxQmpMessage));
  TRY_OK(check_bounds(line));
  try {
    json object = json::parse(line.begin(), line.end(), nullptr, false);
    if (object.is_discarded())
      return fail(Errc::Invalid, "no valid JSON");
    return message_of(std::move(object));
  } catch (const std::exception& e) {
    return fail(Errc::Invalid, fmt::format("not understood: {}", printable(e.what())));
  }
}

Result<std::string> encode_qmp_command(std::string_view command, const json& arguments,
                                       uint64_t id) {
  try {
    json message = {{"execute", command}, {"id", id}};
    if (!arguments.empty())
      message["arguments"] = arguments;
    return message.dump() + "\n";
  } catch (const std::exception& e) {
    return fail(Errc::Invalid, fmt::format("arguments: {}", printable(e.what())));
  }
}

}  // namespace tenure::qemu
