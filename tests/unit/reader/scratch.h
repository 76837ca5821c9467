// SPDX-License-Identifier: Apache-2.0
// A folder of its own for each test, gone afterwards; and small makers of audit lines.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "reader/reading.h"

namespace tenure::reader {

class Scratch {
 public:
  Scratch() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    dir_ = std::filesystem::temp_directory_path() /
           (std::string("tenure-") + info->test_suite_name() + "." + info->name() + "-" +
            std::to_string(::getpid()));
    std::filesystem::create_directories(dir_);
  }
  ~Scratch() { std::filesystem::remove_all(dir_); }
  std::string path(const std::string& name) const { return (dir_ / name).string(); }
  std::string write(const std::string& name, std::string_view text) const {
    std::ofstream(path(name), std::ios::binary) << text;
    return path(name);
  }
  void append(const std::string& name, std::string_view text) const {
    std::ofstream(path(name), std::ios::binary | std::ios::app) << text;
  }

 private:
  std::filesystem::path dir_;
};

inline constexpr char kUuid[] = "6fe7fc2a-cc7c-4d6c-bb44-e1c7d275e875";

inline std::string id(int64_t time, int serial) {
  return "msg=audit(" + std::to_string(time) + ".000:" + std::to_string(serial) + "): ";
}

// A VIRT_ record as libvirt writes it; `keys` stand between virt= and exe=.
inline std::string virt(const std::string& type, int64_t time, int serial, const std::string& keys,
                        bool success = true) {
  return "type=VIRT_" + type + " " + id(time, serial) +
         "pid=9 uid=0 auid=4294967295 ses=4294967295 msg='virt=kvm " + keys +
         " exe=\"/usr/sbin/libvirtd\" hostname=? addr=? terminal=? res=" +
         (success ? "success" : "failed") + "'\n";
}

inline std::string vm(const std::string& name = "web", const std::string& uuid = kUuid) {
  return "vm=\"" + name + "\" uuid=" + uuid;
}

inline std::string disk(int64_t time, int serial, const std::string& reason,
                        const std::string& old_path, const std::string& new_path,
                        const std::string& guest = vm()) {
  const auto quoted = [](const std::string& path) { return "\"" + path + "\""; };
  return virt("RESOURCE", time, serial,
              "resrc=disk reason=" + reason + " " + guest + " old-disk=" + quoted(old_path) +
                  " new-disk=" + quoted(new_path));
}

inline std::string control(int64_t time, int serial, const std::string& op,
                           const std::string& reason, const std::string& guest = vm(),
                           bool success = true) {
  return virt("CONTROL", time, serial,
              "op=" + op + " reason=" + reason + " " + guest + " vm-pid=77", success);
}

inline std::string gzip(std::string_view text) {
  z_stream z{};
  ::deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(::deflateBound(&z, text.size()) + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  ::deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  ::deflateEnd(&z);
  return out;
}

inline std::string zstd(std::string_view text) {
  std::string out(::ZSTD_compressBound(text.size()), '\0');
  out.resize(::ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

// Reads those files and keeps the lines.
inline Reading read_logs(const std::vector<std::string>& paths, unsigned threads = 2) {
  SourceRequest request;
  request.logs = paths;
  auto set = open_sources(request);
  EXPECT_TRUE(set) << set.error().what();
  auto reading =
      read_everything(std::move(*set), {.read = {.threads = threads}, .keep_lines = true});
  EXPECT_TRUE(reading);
  return std::move(*reading);
}

inline std::vector<std::string> texts(const Reading& reading) {
  std::vector<std::string> out;
  for (const KeptLine& line : reading.kept_lines) out.emplace_back(line.text);
  return out;
}

}  // namespace tenure::reader
