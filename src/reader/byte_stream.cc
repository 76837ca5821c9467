// SPDX-License-Identifier: Apache-2.0
#include "reader/byte_stream.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "reader/journal.h"

namespace tenure::reader {
namespace {

constexpr size_t kPipeInput = 256 * 1024;
constexpr int kWidePipe = 1 << 20;

class FdStream : public ByteStream {
 public:
  // A pipe is made as wide as anyone may (pipe(7)): of its usual 64 KiB reader and writer take
  // turns.
  FdStream(UniqueFd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {
    ::fcntl(fd_.get(), F_SETPIPE_SZ, kWidePipe);
  }

  Result<size_t> read(char* to, size_t size) override {
    for (;;) {
      const ssize_t got = ::read(fd_.get(), to, size);
      if (got >= 0)
        return static_cast<size_t>(got);
      if (errno != EINTR)
        return fail_sys("read", name_);
    }
  }

 private:
  UniqueFd fd_;
  std::string name_;
};

class TextStream : public ByteStream {
 public:
  explicit TextStream(std::string_view text) : rest_(text) {}

  Result<size_t> read(char* to, size_t size) override {
    const size_t count = std::min(size, rest_.size());
    std::memcpy(to, rest_.data(), count);
    rest_.remove_prefix(count);
    return count;
  }

 private:
  std::string_view rest_;
};

// Bytes that were looked at already, then the rest of the stream.
class PeekedStream : public ByteStream {
 public:
  PeekedStream(std::string first, std::unique_ptr<ByteStream> rest)
      : first_(std::move(first)), rest_(std::move(rest)) {}

  Result<size_t> read(char* to, size_t size) override {
    if (at_ == first_.size())
      return rest_->read(to, size);
    const size_t count = std::min(size, first_.size() - at_);
    std::memcpy(to, first_.data() + at_, count);
    at_ += count;
    return count;
  }

 private:
  std::string first_;
  size_t at_ = 0;
  std::unique_ptr<ByteStream> rest_;
};

class GzipStream : public ByteStream {
 public:
  GzipStream(std::unique_ptr<ByteStream> from, std::string name)
      : from_(std::move(from)), name_(std::move(name)), input_(kPipeInput) {
    constexpr int kGzipOnly = 16 + MAX_WBITS;  // zlib.h, inflateInit2
    ready_ = ::inflateInit2(&z_, kGzipOnly) == Z_OK;
  }
  GzipStream(const GzipStream&) = delete;
  GzipStream& operator=(const GzipStream&) = delete;
  ~GzipStream() override { ::inflateEnd(&z_); }

  Result<size_t> read(char* to, size_t size) override {
    if (!ready_)
      return fail(Errc::Io, "gunzip " + name_ + ": out of memory");
    z_.next_out = reinterpret_cast<Bytef*>(to);
    z_.avail_out = static_cast<uInt>(std::min<size_t>(size, 1U << 30));
    const uInt room = z_.avail_out;
    while (z_.avail_out == room && !done_) {
      auto stepped = step();
      if (stepped)
        continue;
      done_ = true;
      pending_ = std::move(stepped).error();
    }
    const size_t got = room - z_.avail_out;
    if (got > 0 || !pending_)
      return got;
    return fail(*std::exchange(pending_, std::nullopt));
  }

 private:
  Result<> step() {
    if (z_.avail_in == 0)
      TRY_OK(fill());
    if (done_)
      return {};
    if (between_members_ && !next_member())
      return {};
    const int code = ::inflate(&z_, Z_NO_FLUSH);
    if (code == Z_STREAM_END)
      between_members_ = true;
    if (code == Z_STREAM_END || code == Z_OK || code == Z_BUF_ERROR)
      return {};
    return fail(Errc::Corrupt, "gunzip " + name_ + ": " + (z_.msg != nullptr ? z_.msg : "damaged"));
  }

  // Zeros or garbage behind the last member end the stream, as gzip(1) has it.
  bool next_member() {
    constexpr Bytef kMagic = 0x1f;
    done_ = *z_.next_in != kMagic || ::inflateReset(&z_) != Z_OK;
    between_members_ = false;
    return !done_;
  }

  Result<> fill() {
    TRY(const size_t got, from_->read(input_.data(), input_.size()));
    z_.next_in = reinterpret_cast<Bytef*>(input_.data());
    z_.avail_in = static_cast<uInt>(got);
    if (got > 0)
      return {};
    done_ = true;
    if (between_members_)
      return {};
    return fail(Errc::Corrupt, "gunzip " + name_ + ": the file is cut");
  }

  std::unique_ptr<ByteStream> from_;
  std::string name_;
  std::vector<char> input_;
  z_stream z_{};
  std::optional<Error> pending_;  // told after the bytes that were good
  bool ready_ = false;
  bool done_ = false;
  bool between_members_ = false;
};

class ZstdStream : public ByteStream {
 public:
  ZstdStream(std::unique_ptr<ByteStream> from, std::string name)
      : from_(std::move(from)),
        name_(std::move(name)),
        input_(kPipeInput),
        z_(::ZSTD_createDStream()) {
    // Windows above 128 MiB are refused: memory stays bounded whatever the file says.
    if (z_ != nullptr)
      ::ZSTD_DCtx_setParameter(z_, ZSTD_d_windowLogMax, 27);
  }
  ZstdStream(const ZstdStream&) = delete;
  ZstdStream& operator=(const ZstdStream&) = delete;
  ~ZstdStream() override { ::ZSTD_freeDStream(z_); }

  Result<size_t> read(char* to, size_t size) override {
    if (z_ == nullptr)
      return fail(Errc::Io, "unzstd " + name_ + ": out of memory");
    ZSTD_outBuffer out{to, size, 0};
    while (out.pos == 0) {
      if (in_.pos == in_.size) {
        TRY(const size_t got, from_->read(input_.data(), input_.size()));
        in_ = {input_.data(), got, 0};
        if (got == 0)
          return mid_frame_ ? cut() : Result<size_t>(0);
      }
      if (failed_)
        return 0;
      const size_t left = ::ZSTD_decompressStream(z_, &out, &in_);
      if (::ZSTD_isError(left) != 0) {
        failed_ = true;
        return fail(Errc::Corrupt, "unzstd " + name_ + ": " + ::ZSTD_getErrorName(left));
      }
      mid_frame_ = left != 0;
    }
    return out.pos;
  }

 private:
  Result<size_t> cut() {
    mid_frame_ = false;
    return fail(Errc::Corrupt, "unzstd " + name_ + ": the file is cut");
  }

  std::unique_ptr<ByteStream> from_;
  std::string name_;
  std::vector<char> input_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  ZSTD_DStream* z_;
  bool mid_frame_ = false;
  bool failed_ = false;
};

Result<std::string> peek(ByteStream& from) {
  std::string first(kPeek, '\0');
  size_t got = 0;
  while (got < first.size()) {
    TRY(const size_t more, from.read(first.data() + got, first.size() - got));
    if (more == 0)
      break;
    got += more;
  }
  first.resize(got);
  return first;
}

}  // namespace

Content content_of(std::string_view first) {
  struct Magic {
    std::string_view bytes;
    Content content;
  };
  static constexpr Magic kMagics[] = {
      {"\x1f\x8b", Content::Gzip},  {"\x28\xb5\x2f\xfd", Content::Zstd},
      {"\xfd\x37zXZ", Content::Xz}, {"__CURSOR=", Content::JournalExport},
      {"{", Content::JournalJson},
  };
  for (const Magic& magic : kMagics) {
    if (first.starts_with(magic.bytes))
      return magic.content;
  }
  return Content::Plain;
}

std::unique_ptr<ByteStream> fd_stream(UniqueFd fd, std::string name) {
  return std::make_unique<FdStream>(std::move(fd), std::move(name));
}

std::unique_ptr<ByteStream> text_stream(std::string_view text) {
  return std::make_unique<TextStream>(text);
}

std::unique_ptr<ByteStream> gzip_stream(std::unique_ptr<ByteStream> from, std::string name) {
  return std::make_unique<GzipStream>(std::move(from), std::move(name));
}

std::unique_ptr<ByteStream> zstd_stream(std::unique_ptr<ByteStream> from, std::string name) {
  return std::make_unique<ZstdStream>(std::move(from), std::move(name));
}

Result<std::unique_ptr<ByteStream>> open_content(std::unique_ptr<ByteStream> from,
                                                 const std::string& name) {
  constexpr int kLayers = 2;
  for (int layer = 0; layer <= kLayers; ++layer) {
    TRY(std::string first, peek(*from));
    const Content content = content_of(first);
    from = std::make_unique<PeekedStream>(std::move(first), std::move(from));
    if (content == Content::Plain)
      return from;
    if (content == Content::JournalExport)
      return journal_export_stream(std::move(from), name);
    if (content == Content::JournalJson)
      return journal_json_stream(std::move(from), name);
    if (content == Content::Xz) {
      return fail(Errc::Unsupported,
                  name + ": xz is not read; use `xz -dc " + name + " | tenure … --log -`");
    }
    from = content == Content::Gzip ? gzip_stream(std::move(from), name)
                                    : zstd_stream(std::move(from), name);
  }
  return fail(Errc::Unsupported, name + ": compressed more than twice");
}

}  // namespace tenure::reader
