// SPDX-License-Identifier: Apache-2.0
#include "reader/journal.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/text.h"

namespace tenure::reader {
namespace {

constexpr size_t kMaxField = 1 << 20;
constexpr size_t kInput = 256 * 1024;

// Bytes in, lines out; what a form does with its input is in consume().
class ConvertStream : public ByteStream {
 public:
  ConvertStream(std::unique_ptr<ByteStream> from, std::string name)
      : name_(std::move(name)), from_(std::move(from)) {}

  Result<size_t> read(char* to, size_t size) override {
    while (out_at_ == out_.size()) {
      out_.clear();
      out_at_ = 0;
      if (ended_)
        return 0;
      TRY_OK(fill());
    }
    const size_t count = std::min(size, out_.size() - out_at_);
    std::memcpy(to, out_.data() + out_at_, count);
    out_at_ += count;
    return count;
  }

 protected:
  // Takes what it can of `in` and returns how much.
  virtual size_t consume(std::string_view in) = 0;
  // At the end of the input, with what consume() left.
  virtual Result<> finish(std::string_view rest) = 0;

  void emit(JournalEntry& entry) {
    if (first_machine_.empty())
      first_machine_ = entry.machine;
    const bool foreign = entry.machine != first_machine_;
    const std::string line = audit_line(entry, foreign);
    if (!line.empty())
      out_ += line + "\n";
    entry = JournalEntry{};
  }

  std::string name_;

 private:
  Result<> fill() {
    const size_t old = in_.size();
    in_.resize(old + kInput);
    auto got = from_->read(in_.data() + old, kInput);
    in_.resize(old + (got ? *got : 0));
    if (!got) {
      ended_ = true;
      return fail(std::move(got).error());
    }
    const size_t taken = consume(in_);
    in_.erase(0, taken);
    if (*got > 0)
      return {};
    ended_ = true;
    return finish(in_);
  }

  std::unique_ptr<ByteStream> from_;
  std::string in_;
  std::string out_;
  size_t out_at_ = 0;
  bool ended_ = false;
  std::string first_machine_;
};

class ExportStream : public ConvertStream {
 public:
  using ConvertStream::ConvertStream;

 private:
  enum class State { Line, Size, Data, SkipLine, SkipData };

  size_t consume(std::string_view in) override {
    size_t at = 0;
    while (at < in.size()) {
      const size_t taken = step(in.substr(at));
      if (taken == 0)
        break;
      at += taken;
    }
    return at;
  }

  size_t step(std::string_view in) {
    switch (state_) {
      case State::Line:
        return take_line(in);
      case State::Size:
        return take_size(in);
      case State::Data:
        return take_data(in);
      case State::SkipLine:
        return skip_line(in);
      case State::SkipData:
        break;
    }
    const size_t taken = static_cast<size_t>(std::min<uint64_t>(left_, in.size()));
    left_ -= taken;
    if (left_ == 0)
      state_ = State::Line;
    return taken;
  }

  size_t take_line(std::string_view in) {
    const size_t newline = in.find('\n');
    if (newline == std::string_view::npos) {
      if (in.size() <= kMaxField)
        return 0;
      state_ = State::SkipLine;
      return in.size();
    }
    const std::string_view line = in.substr(0, newline);
    if (line.empty()) {
      emit(entry_);
    } else if (const size_t equals = line.find('='); equals != std::string_view::npos) {
      set(line.substr(0, equals), line.substr(equals + 1));
    } else {
      binary_ = std::string(line);
      state_ = State::Size;
    }
    return newline + 1;
  }

  size_t skip_line(std::string_view in) {
    const size_t newline = in.find('\n');
    if (newline == std::string_view::npos)
      return in.size();
    state_ = State::Line;
    return newline + 1;
  }

  // A field with bytes that a line cannot hold: its name, a newline, the size as 64 bits
  // little-endian.
  size_t take_size(std::string_view in) {
    if (in.size() < 8)
      return 0;
    left_ = 0;
    for (size_t i = 8; i-- > 0;) left_ = left_ << 8 | static_cast<unsigned char>(in[i]);
    const bool fits = left_ <= kMaxField;
    if (left_ != UINT64_MAX)
      ++left_;  // and a newline
    state_ = fits ? State::Data : State::SkipData;
    return 8;
  }

  size_t take_data(std::string_view in) {
    if (in.size() < left_)
      return 0;
    const auto size = static_cast<size_t>(left_);
    set(binary_, in.substr(0, size - 1));
    state_ = State::Line;
    return size;
  }

  void set(std::string_view key, std::string_view value) {
    std::string* field = entry_.field(key);
    if (field != nullptr && field->empty())
      field->assign(value);
  }

  Result<> finish(std::string_view rest) override {
    if (!rest.empty() || state_ != State::Line) {
      return fail(Errc::Corrupt, "read " + name_ + ": the journal export is cut");
    }
    emit(entry_);
    return {};
  }

  State state_ = State::Line;
  std::string binary_;
  uint64_t left_ = 0;
  JournalEntry entry_;
};

class JsonStream : public ConvertStream {
 public:
  using ConvertStream::ConvertStream;

 private:
  size_t consume(std::string_view in) override {
    size_t at = 0;
    for (size_t end = 0; (end = in.find('\n', at)) != std::string_view::npos; at = end + 1) {
      take(in.substr(at, end - at));
    }
    // A line that grows without end is dropped piece by piece.
    if (in.size() - at <= kMaxField)
      return at;
    skipping_ = true;
    return in.size();
  }

  void take(std::string_view line) {
    if (std::exchange(skipping_, false))
      return;
    if (parse_journal_json(line, entry_))
      emit(entry_);
    entry_ = JournalEntry{};
  }

  Result<> finish(std::string_view rest) override {
    if (trim(rest).empty() || skipping_)
      return {};
    if (!parse_journal_json(rest, entry_)) {
      return fail(Errc::Corrupt, "read " + name_ + ": the journal export is cut");
    }
    emit(entry_);
    return {};
  }

  JournalEntry entry_;
  bool skipping_ = false;
};

// journalctl's JSON is flat: strings, numbers, null; an array for bytes that are no UTF-8 (numbers)
// or for a field that stands several times (strings).
class FlatJson {
 public:
  explicit FlatJson(std::string_view text) : text_(text) {}

  bool object(JournalEntry& entry) {
    if (!eat('{'))
      return false;
    if (eat('}'))
      return at_end();
    do {
      std::string key;
      if (!string(key) || !eat(':'))
        return false;
      std::string value;
      std::string* field = entry.field(key);
      if (!this->value(field != nullptr ? *field : value))
        return false;
    } while (eat(','));
    return eat('}') && at_end();
  }

 private:
  void blanks() {
    while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) != nullptr &&
           text_[at_] != '\0') {
      ++at_;
    }
  }
  bool at_end() {
    blanks();
    return at_ == text_.size();
  }
  bool eat(char c) {
    blanks();
    if (at_ >= text_.size() || text_[at_] != c)
      return false;
    ++at_;
    return true;
  }

  bool value(std::string& out) {
    blanks();
    if (at_ >= text_.size())
      return false;
    if (text_[at_] == '"')
      return string(out);
    if (text_[at_] == '[')
      return array(out);
    return word(out);
  }

  bool word(std::string& out) {
    const size_t end = std::min(text_.find_first_of(",]} \t", at_), text_.size());
    const std::string_view found = text_.substr(at_, end - at_);
    constexpr std::string_view kNumber = "0123456789+-.eE";
    const bool literal = found == "null" || found == "true" || found == "false";
    if (!literal && (found.empty() || found.find_first_not_of(kNumber) != found.npos))
      return false;
    out = literal ? "" : std::string(found);
    at_ = end;
    return true;
  }

  bool array(std::string& out) {
    out.clear();
    if (!eat('['))
      return false;
    if (eat(']'))
      return true;
    bool first = true;
    do {
      blanks();
      std::string item;
      const bool text = at_ < text_.size() && text_[at_] == '"';
      if (text ? !string(item) : !word(item))
        return false;
      if (text && first)
        out = item;
      if (!text) {
        const auto byte = parse_int<uint8_t>(item);
        if (!byte)
          return false;
        out.push_back(static_cast<char>(*byte));
      }
      first = false;
    } while (eat(','));
    return eat(']');
  }

  bool string(std::string& out) {
    out.clear();
    if (!eat('"'))
      return false;
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == '"')
        return true;
      if (static_cast<unsigned char>(c) < 0x20)
        return false;
      if (c != '\\') {
        out.push_back(c);
      } else if (!escape(out)) {
        return false;
      }
    }
    return false;
  }

  bool escape(std::string& out) {
    if (at_ >= text_.size())
      return false;
    const char c = text_[at_++];
    static constexpr std::string_view kNames = "\"\\/bfnrt";
    static constexpr std::string_view kBytes = "\"\\/\b\f\n\r\t";
    if (c == 'u')
      return unicode(out);
    const size_t which = kNames.find(c);
    if (which == std::string_view::npos)
      return false;
    out.push_back(kBytes[which]);
    return true;
  }

  std::optional<uint32_t> hex4() {
    if (text_.size() - at_ < 4)
      return std::nullopt;
    const auto code = parse_int<uint32_t>(text_.substr(at_, 4), 16);
    at_ += 4;
    return code;
  }

  bool unicode(std::string& out) {
    auto code = hex4();
    if (!code || (*code >= 0xDC00 && *code < 0xE000))
      return false;
    if (*code >= 0xD800 && *code < 0xDC00) {
      if (text_.substr(at_, 2) != "\\u")
        return false;
      at_ += 2;
      const auto low = hex4();
      if (!low || *low < 0xDC00 || *low >= 0xE000)
        return false;
      code = 0x10000 + ((*code - 0xD800) << 10) + (*low - 0xDC00);
    }
    put_utf8(out, *code);
    return true;
  }

  static void put_utf8(std::string& out, uint32_t code) {
    const auto put = [&out](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
    if (code < 0x80)
      return put(code);
    if (code < 0x800) {
      put(0xC0 | code >> 6);
    } else if (code < 0x10000) {
      put(0xE0 | code >> 12);
      put(0x80 | (code >> 6 & 0x3F));
    } else {
      put(0xF0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3F));
      put(0x80 | (code >> 6 & 0x3F));
    }
    put(0x80 | (code & 0x3F));
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::string* JournalEntry::field(std::string_view name) {
  const std::pair<std::string_view, std::string*> fields[] = {
      {"_AUDIT_TYPE", &audit_type},
      {"_AUDIT_ID", &audit_id},
      {"_SOURCE_REALTIME_TIMESTAMP", &source_us},
      {"__REALTIME_TIMESTAMP", &realtime_us},
      {"MESSAGE", &message},
      {"_HOSTNAME", &hostname},
      {"_MACHINE_ID", &machine}};
  for (const auto& [key, value] : fields) {
    if (key == name)
      return value;
  }
  return nullptr;
}

bool parse_journal_json(std::string_view line, JournalEntry& entry) {
  return FlatJson(line).object(entry);
}

std::unique_ptr<ByteStream> journal_export_stream(std::unique_ptr<ByteStream> from,
                                                  std::string name) {
  return std::make_unique<ExportStream>(std::move(from), std::move(name));
}

std::unique_ptr<ByteStream> journal_json_stream(std::unique_ptr<ByteStream> from,
                                                std::string name) {
  return std::make_unique<JsonStream>(std::move(from), std::move(name));
}

}  // namespace tenure::reader
