// SPDX-License-Identifier: Apache-2.0
// Fields of a body: tokens, values, and the set of known keys. A key is looked up as a number in a
// table that is built at compile time and has no collisions: a line costs one comparison a key.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <type_traits>
#include <vector>

#include "base/text.h"
#include "trail/bytes.h"
#include "trail/decode.h"

namespace tenure::trail {
namespace {

// libvirt writes the path of shmem, ivshmem and evdev as it is (records.md 4): it may hold spaces
// and whole fields, and ends where libaudit's own exe= begins, which cannot occur inside another
// value. A path that libaudit encoded is quoted, or hex, which has no slash.
bool is_bare_path(std::string_view key, const char* value, const char* end) {
  return value != end && *value == '/' && key == "path";
}

const char* end_of_bare_path(const char* value, const char* end) {
  std::string_view rest(value, static_cast<size_t>(end - value));
  size_t exe = rest.rfind(" exe=");
  return exe == rest.npos ? end : value + exe;
}

// The quote that ends a value is followed by a blank or by nothing; another one belongs to the
// value of an emitter that does not encode.
const char* closing_quote(const char* at, const char* end) {
  while ((at = find_byte(at, end, '"')) != end) {
    if (at + 1 == end || at[1] == ' ')
      return at;
    ++at;
  }
  return end;
}

}  // namespace

bool Fields::next(Field& field) {
  while (at_ != end_ && *at_ == ' ') ++at_;
  if (at_ == end_)
    return false;
  field = {};
  const char* start = at_;
  const char* stop = find_either(start, end_, '=', ' ');
  if (stop == end_ || *stop == ' ') {
    field.raw = {start, stop};
    at_ = stop;
    return true;
  }
  field.key = {start, stop};
  const char* value = stop + 1;
  if (value != end_ && *value == '"') {
    const char* quote = closing_quote(value + 1, end_);
    field.quoted = true;
    field.unterminated = quote == end_;
    field.raw = {value + 1, quote};
    at_ = quote == end_ ? end_ : quote + 1;
    return true;
  }
  const char* last = is_bare_path(field.key, value, end_) ? end_of_bare_path(value, end_)
                                                          : find_byte(value, end_, ' ');
  field.raw = {value, last};
  at_ = last;
  return true;
}

namespace {

int upper_nibble(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string_view decode_value(const Field& field, std::string& scratch) {
  std::string_view raw = field.raw;
  if (field.quoted || raw.empty() || raw.size() % 2 != 0)
    return raw;
  if (upper_nibble(raw.front()) < 0 || upper_nibble(raw.back()) < 0)
    return raw;
  scratch.clear();
  for (size_t i = 0; i < raw.size(); i += 2) {
    int high = upper_nibble(raw[i]);
    int low = upper_nibble(raw[i + 1]);
    if (high < 0 || low < 0)
      return raw;
    scratch += static_cast<char>(high << 4 | low);
  }
  return scratch;
}

std::string decode_value(const Field& field) {
  std::string scratch;
  return std::string(decode_value(field, scratch));
}

Encoding encoding_of(std::string_view key) {
  static const std::map<std::string_view, Encoding> kEncodings = [] {
    std::map<std::string_view, Encoding> encodings;
    for (const KindSpec& row : vocabulary())
      for (const KeySpec& spec : row.keys) encodings.emplace(spec.name, spec.encoding);
    // Keys that only libvirt and libaudit write.
    for (std::string_view name : {"exe", "disk", "chardev"})
      encodings.emplace(name, Encoding::Text);
    return encodings;
  }();
  auto at = kEncodings.find(key);
  return at == kEncodings.end() ? Encoding::Word : at->second;
}

namespace {

struct KeyName {
  std::string_view name;
  Key key;
};

constexpr KeyName kKeyNames[] = {
    {"virt", Key::Virt},
    {"op", Key::Op},
    {"reason", Key::Reason},
    {"resrc", Key::Resrc},
    {"vm", Key::Vm},
    {"uuid", Key::Uuid},
    {"vm-pid", Key::VmPid},
    {"net", Key::Net},
    {"path", Key::Path},
    {"rdev", Key::Rdev},
    {"cgroup", Key::Cgroup},
    {"class", Key::Class},
    {"category", Key::Category},
    {"maj", Key::Maj},
    {"acl", Key::Acl},
    {"acl-uid", Key::AclUid},
    {"bus", Key::Bus},
    {"device", Key::Device},
    {"disk", Key::Disk},
    {"chardev", Key::Chardev},
    {"size", Key::Size},
    {"model", Key::Model},
    {"vm-ctx", Key::VmCtx},
    {"img-ctx", Key::ImgCtx},
    {"access", Key::Access},
    {"devtype", Key::Devtype},
    {"dev", Key::Dev},
    {"alias", Key::Alias},
    {"ifname", Key::Ifname},
    {"fd", Key::Fd},
    {"role", Key::Role},
    {"for", Key::For},
    {"txn", Key::Txn},
    {"grant", Key::Grant},
    {"run", Key::Run},
    {"why", Key::Why},
    {"bound-from", Key::BoundFrom},
    {"bound-to", Key::BoundTo},
    {"req-auid", Key::ReqAuid},
    {"req-ses", Key::ReqSes},
    {"req-uid", Key::ReqUid},
    {"req-pid", Key::ReqPid},
    {"req-exe", Key::ReqExe},
    {"req-tty", Key::ReqTty},
    {"exe", Key::Exe},
    {"hostname", Key::Hostname},
    {"addr", Key::Addr},
    {"terminal", Key::Terminal},
    {"res", Key::Res},
};

// The letters of a key as a number: all of them up to eight, of a longer one the first and last
// four. With the size it is unique among keys of up to eight letters. Loads overlap, so that it
// takes two whatever the size.
struct KeyWord {
  uint64_t letters = 0;
  size_t size = 0;
  constexpr bool operator==(const KeyWord&) const = default;
};

constexpr uint64_t letters_at(const char* from, size_t count) {
  if (!std::is_constant_evaluated() && count == 4) {
    uint32_t letters = 0;
    std::memcpy(&letters, from, sizeof letters);
    return std::endian::native == std::endian::little ? letters : __builtin_bswap32(letters);
  }
  uint64_t letters = 0;
  for (size_t i = 0; i < count; ++i)
    letters |= uint64_t{static_cast<unsigned char>(from[i])} << 8 * i;
  return letters;
}

// `key` is not empty.
constexpr KeyWord word_of(std::string_view key) {
  const size_t size = key.size();
  if (size >= 4)
    return {letters_at(key.data(), 4) | letters_at(key.data() + size - 4, 4) << 32, size};
  const char letters[] = {key[0], key[size / 2], key[size - 1]};
  return {letters_at(letters, sizeof letters), size};
}

constexpr size_t kSlots = 512;

constexpr size_t slot_of(const KeyWord& word, uint64_t factor) {
  return static_cast<size_t>((word.letters + word.size) * factor >> 55);
}
static_assert(kSlots == 1 << (64 - 55));

struct KeyTable {
  struct Slot {
    KeyWord word;
    Key key = Key::Virt;
  };
  uint64_t factor = 0;
  std::array<Slot, kSlots> slots{};
};

// Tries factors until no two keys share a slot. Runs in the compiler.
constexpr KeyTable make_key_table() {
  for (uint64_t factor = 0x9E3779B97F4A7C15; factor != 0x9E3779B97F4A7C15 + 4000; factor += 2) {
    KeyTable table{.factor = factor, .slots = {}};
    bool free = true;
    for (size_t i = 0; i < std::size(kKeyNames) && free; ++i) {
      const KeyWord word = word_of(kKeyNames[i].name);
      KeyTable::Slot& slot = table.slots[slot_of(word, factor)];
      free = slot.word.size == 0;
      slot = {.word = word, .key = kKeyNames[i].key};
    }
    if (free)
      return table;
  }
  return {};
}

constexpr KeyTable kKeyTable = make_key_table();
static_assert(kKeyTable.factor != 0, "no factor without collision: add slots");
static_assert(std::size(kKeyNames) == kKeyCount - 2, "a name for each Key but Old and New");

// The one key that is longer than what a KeyWord tells.
constexpr std::string_view kLongKey = "bound-from";
static_assert(std::ranges::all_of(kKeyNames, [](const KeyName& row) {
  return row.name.size() <= 8 || row.name == kLongKey;
}));

std::optional<Key> key_of(std::string_view key) {
  if (key.empty())
    return std::nullopt;
  if (key.size() > 4 && key[3] == '-') {
    if (key.starts_with("old"))
      return Key::Old;
    if (key.starts_with("new"))
      return Key::New;
  }
  const KeyWord word = word_of(key);
  const KeyTable::Slot& slot = kKeyTable.slots[slot_of(word, kKeyTable.factor)];
  if (slot.word != word || (word.size > 8 && key != kLongKey))
    return std::nullopt;
  return slot.key;
}

}  // namespace

void FieldSet::collect(const LineView& line) {
  seen_ = 0;
  unknown_ = 0;
  Fields fields(line.body);
  Field field;
  while (fields.next(field)) {
    std::optional<Key> key = key_of(field.key);
    if (!key) {
      ++unknown_;
      continue;
    }
    auto at = static_cast<size_t>(*key);
    bool last_counts = *key == Key::Res || *key == Key::Exe;
    if ((seen_ >> at & 1) != 0 && !last_counts)
      continue;
    seen_ |= uint64_t{1} << at;
    fields_[at] = field;
  }
}

std::optional<uint64_t> FieldSet::number(Key key) const {
  return parse_int<uint64_t>(raw(key));
}

Result<Record> decode_record(const LineView& line) {
  std::vector<Field> found;
  found.reserve(kKeyCount);
  Fields fields(line.body);
  for (Field field; fields.next(field);) found.push_back(field);
  // Of duplicates the first counts.
  auto raw_of = [&](std::string_view key) {
    auto at = std::ranges::find(found, key, &Field::key);
    return at == found.end() ? std::string_view() : at->raw;
  };
  std::optional<Kind> kind = kind_of(line.type, raw_of);
  if (!kind)
    return fail(Errc::Invalid, fmt::format("decode record: no kind of type {} has these fields: {}",
                                           line.type, printable(line.body.substr(0, 120))));
  Record record(*kind);
  record.success = raw_of("res") != "failed";
  auto keys = spec(*kind).keys;
  for (const Field& field : found) {
    auto key = std::ranges::find(keys, field.key, &KeySpec::name);
    if (key == keys.end() || !key->fixed.empty() || record.get(field.key))
      continue;
    bool text = key->encoding == Encoding::Text;
    record.set(field.key, text ? std::string_view(decode_value(field)) : field.raw);
  }
  return record;
}

}  // namespace tenure::trail
