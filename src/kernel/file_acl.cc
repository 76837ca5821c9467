// SPDX-License-Identifier: Apache-2.0
// Works on the raw extended attribute, acl(5), because every bit of the mask counts: the group bits
// of st_mode *are* the mask as long as a file has an extended ACL, and must be the old group bits
// after it.
//
// With M the mask, p what the entry of our uid gives, U the union of what the other entries in the
// group class (owning group, named users and groups) give:
//   add:    M' = M | p, refused if U & M' & ~M: somebody else would gain
//   remove: M' = M & (U | ~p): takes away what was there for us alone, adds nothing
// and a mask without named entries goes when it withholds nothing from the owning group.
#include "kernel/file_acl.h"

#include <endian.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

namespace tenure::kernel {
namespace {

constexpr const char* kAttribute = "system.posix_acl_access";
constexpr size_t kMaxAttribute = 65536;   // bytes, XATTR_SIZE_MAX of linux/limits.h
constexpr size_t kUsualAttribute = 1024;  // 127 entries; the kernel clears as much as we offer

// linux/posix_acl_xattr.h; all little endian.
constexpr uint32_t kVersion = 2;
constexpr uint32_t kNoId = UINT32_MAX;
enum Tag : uint16_t {
  kUserObj = 0x01,
  kUser = 0x02,
  kGroupObj = 0x04,
  kGroup = 0x08,
  kMask = 0x10,
  kOther = 0x20,
};
struct RawEntry {
  uint16_t tag;
  uint16_t perm;
  uint32_t id;
};
static_assert(sizeof(RawEntry) == 8);

constexpr uint16_t kReadBit = 4;
constexpr uint16_t kWriteBit = 2;
constexpr uint16_t kOurBits = kReadBit | kWriteBit;
constexpr uint16_t kSearchBit = 1;

struct Entry {
  uint16_t tag = 0;
  uint16_t perm = 0;  // rwx
  uint32_t id = kNoId;
  bool operator==(const Entry&) const = default;
};
using Acl = std::vector<Entry>;

std::string path_of(int fd) {
  return fmt::format("/proc/self/fd/{}", fd);
}

uint16_t acl_bits(Access access) {
  return static_cast<uint16_t>((access.read ? kReadBit : 0) | (access.write ? kWriteBit : 0));
}

Access to_access(uint16_t bits) {
  Access access;
  access.read = (bits & kReadBit) != 0;
  access.write = (bits & kWriteBit) != 0;
  return access;
}

Acl from_mode(mode_t mode) {
  auto bits = [&](int shift) { return static_cast<uint16_t>(mode >> shift & 7); };
  return {{kUserObj, bits(6), kNoId}, {kGroupObj, bits(3), kNoId}, {kOther, bits(0), kNoId}};
}

Result<Acl> parse(std::string_view bytes, const std::string& path) {
  uint32_t version = 0;
  if (bytes.size() >= sizeof version)
    memcpy(&version, bytes.data(), sizeof version);
  if (le32toh(version) != kVersion || (bytes.size() - sizeof version) % sizeof(RawEntry) != 0)
    return fail(Errc::Unsupported, path + ": an ACL of a form that is not known");
  Acl acl;
  for (bytes.remove_prefix(sizeof version); !bytes.empty(); bytes.remove_prefix(sizeof(RawEntry))) {
    RawEntry raw{};
    memcpy(&raw, bytes.data(), sizeof raw);
    acl.push_back(
        {le16toh(raw.tag), static_cast<uint16_t>(le16toh(raw.perm) & 7), le32toh(raw.id)});
  }
  if (acl.empty() || acl.front().tag != kUserObj)
    return fail(Errc::Unsupported, path + ": an ACL of a form that is not known");
  return acl;
}

std::string format(const Acl& acl) {
  const uint32_t version = htole32(kVersion);
  std::string bytes(reinterpret_cast<const char*>(&version), sizeof version);
  for (const Entry& entry : acl) {
    RawEntry raw{htole16(entry.tag), htole16(entry.perm), htole32(entry.id)};
    bytes.append(reinterpret_cast<const char*>(&raw), sizeof raw);
  }
  return bytes;
}

struct File {
  struct stat facts{};
  Acl acl;
};

Result<File> load(int fd) {
  File file;
  const std::string path = path_of(fd);
  if (fstat(fd, &file.facts) < 0)
    return fail_sys("stat", path);
  std::string bytes(kUsualAttribute, '\0');
  ssize_t size = getxattr(path.c_str(), kAttribute, bytes.data(), bytes.size());
  if (size < 0 && errno == ERANGE) {
    bytes.resize(kMaxAttribute);
    size = getxattr(path.c_str(), kAttribute, bytes.data(), bytes.size());
  }
  if (size < 0 && errno == ENODATA) {
    file.acl = from_mode(file.facts.st_mode);
    return file;
  }
  if (size < 0)
    return fail_sys("read the ACL of", path);
  bytes.resize(static_cast<size_t>(size));
  TRY(file.acl, parse(bytes, path));
  return file;
}

// Where the file system has no ACLs the mode bits are all there is.
Result<File> load_or_mode(int fd) {
  Result<File> file = load(fd);
  if (file || file.error().sys_errno() != EOPNOTSUPP)
    return file;
  File plain;
  if (fstat(fd, &plain.facts) < 0)
    return fail_sys("stat", path_of(fd));
  plain.acl = from_mode(plain.facts.st_mode);
  return plain;
}

// A minimal ACL becomes mode bits, and the attribute goes (posix_acl_update_mode() of the kernel).
Result<> store(int fd, const Acl& acl) {
  const std::string path = path_of(fd);
  const std::string bytes = format(acl);
  if (setxattr(path.c_str(), kAttribute, bytes.data(), bytes.size(), 0) < 0)
    return fail_sys("write the ACL of", path);
  TRY(File now, load(fd));
  if (now.acl != acl)
    return fail(Errc::Io, path + ": the ACL reads back otherwise than written");
  return {};
}

Acl::iterator find(Acl& acl, uint16_t tag, uint32_t id = kNoId) {
  return std::ranges::find_if(acl, [&](const Entry& e) { return e.tag == tag && e.id == id; });
}

bool in_group_class(const Entry& entry) {
  return entry.tag == kUser || entry.tag == kGroupObj || entry.tag == kGroup;
}

// What others than `uid` are given, before the mask.
uint16_t given_to_others(const Acl& acl, uint32_t uid) {
  uint16_t bits = 0;
  for (const Entry& entry : acl) {
    if (in_group_class(entry) && !(entry.tag == kUser && entry.id == uid))
      bits |= entry.perm;
  }
  return bits;
}

// Without a mask nothing is withheld: as if it were what the group class has.
uint16_t mask_of(const Acl& acl) {
  auto mask = std::ranges::find(acl, kMask, &Entry::tag);
  return mask == acl.end() ? given_to_others(acl, kNoId) : mask->perm;
}

void put_mask(Acl& acl, uint16_t bits) {
  if (auto mask = find(acl, kMask); mask != acl.end()) {
    mask->perm = bits;
  } else {
    acl.insert(find(acl, kOther), {kMask, bits, kNoId});
  }
}

void put_user(Acl& acl, uint32_t uid, uint16_t bits) {
  if (auto entry = find(acl, kUser, uid); entry != acl.end()) {
    entry->perm = bits;
    return;
  }
  auto after = [&](const Entry& e) { return std::tuple(e.tag, e.id) > std::tuple(kUser, uid); };
  // The owner's entry has no id but comes first all the same.
  acl.insert(std::find_if(acl.begin() + 1, acl.end(), after), {kUser, bits, uid});
}

void drop_needless_mask(Acl& acl) {
  auto named = [](const Entry& e) { return e.tag == kUser || e.tag == kGroup; };
  auto mask = find(acl, kMask);
  auto group = find(acl, kGroupObj);
  if (mask == acl.end() || group == acl.end() || std::ranges::any_of(acl, named))
    return;
  if ((group->perm & ~mask->perm) == 0)
    acl.erase(mask);
}

std::string letters(uint16_t bits) {
  std::string text = to_string(to_access(bits));
  if ((bits & kSearchBit) != 0)
    text += 'x';
  return text;
}

Result<Outcome> check_owner(const File& file, uint16_t wanted) {
  if ((wanted & ~(file.facts.st_mode >> 6)) == 0)
    return Outcome::Unchanged;
  return fail(Errc::Denied,
              fmt::format("uid {} owns the file and its mode {:04o} does not give {}: "
                          "chmod it",
                          file.facts.st_uid, file.facts.st_mode & 07777, letters(wanted)));
}

// Of the entry's bits only those in `ours` are touched: they become `wanted`.
Result<Outcome> put_entry(int fd, uint32_t uid, uint16_t wanted, uint16_t ours) {
  TRY(File file, load(fd));
  if (file.facts.st_uid == uid)
    return check_owner(file, wanted);
  Acl& acl = file.acl;
  const uint16_t mask = mask_of(acl);
  auto entry = find(acl, kUser, uid);
  const uint16_t old = entry == acl.end() ? uint16_t{0} : entry->perm;
  if (entry != acl.end() && (old & mask & ours) == wanted && (old & ours) == wanted)
    return Outcome::Unchanged;
  const uint16_t others = given_to_others(acl, uid);
  const auto without_old = static_cast<uint16_t>(mask & (others | ~old));
  const auto widened = static_cast<uint16_t>(without_old | wanted | (old & mask & ~ours));
  if (const auto gained = static_cast<uint16_t>(others & widened & ~mask); gained != 0)
    return fail(
        Errc::Denied,
        fmt::format("the file's ACL mask withholds {} from others, and giving uid {} access "
                    "would give it to them: take it from their entries (getfacl shows them)",
                    letters(gained), uid));
  put_user(acl, uid, static_cast<uint16_t>((old & ~ours) | wanted));
  put_mask(acl, widened);
  TRY_OK(store(fd, acl));
  return Outcome::Changed;
}

}  // namespace

Result<Outcome> set_file_acl(int fd, uint32_t uid, Access access) {
  if (access.none() || access.mknod || uid == kNoId)
    return fail(Errc::Invalid,
                fmt::format("ACL entry {}:'{}': r, w or rw, for a uid", uid, to_string(access)));
  return put_entry(fd, uid, acl_bits(access), kOurBits);
}

Result<Outcome> set_search_acl(int fd, uint32_t uid) {
  if (uid == kNoId)
    return fail(Errc::Invalid, "ACL entry: no uid");
  return put_entry(fd, uid, kSearchBit, kSearchBit);
}

Result<Outcome> remove_file_acl(int fd, uint32_t uid) {
  Result<File> file = load(fd);
  if (!file && file.error().sys_errno() == EOPNOTSUPP)
    return Outcome::Unchanged;
  TRY_OK(file);
  Acl& acl = file->acl;
  auto entry = find(acl, kUser, uid);
  if (entry == acl.end())
    return Outcome::Unchanged;
  const uint16_t old = entry->perm;
  const auto narrowed = static_cast<uint16_t>(mask_of(acl) & (given_to_others(acl, uid) | ~old));
  acl.erase(entry);
  put_mask(acl, narrowed);
  drop_needless_mask(acl);
  TRY_OK(store(fd, acl));
  return Outcome::Changed;
}

Result<bool> may_search(int fd, uint32_t uid, uint32_t gid) {
  TRY(File file, load_or_mode(fd));
  Acl& acl = file.acl;
  auto searchable = [](uint16_t bits) { return (bits & kSearchBit) != 0; };
  if (file.facts.st_uid == uid)
    return searchable(static_cast<uint16_t>(file.facts.st_mode >> 6));
  const uint16_t mask = mask_of(acl);
  if (auto entry = find(acl, kUser, uid); entry != acl.end())
    return searchable(entry->perm & mask);
  // Any matching entry of the group class that lets through is enough; if some match and none
  // does, "other" is not asked any more.
  bool in_class = false;
  for (const Entry& entry : acl) {
    bool matches = (entry.tag == kGroupObj && file.facts.st_gid == gid) ||
                   (entry.tag == kGroup && entry.id == gid);
    if (matches && searchable(entry.perm & mask))
      return true;
    in_class |= matches;
  }
  auto other = find(acl, kOther);
  return !in_class && other != acl.end() && searchable(other->perm);
}

Result<std::vector<std::string>> file_acl_words(int fd, const std::function<bool(uint32_t)>& skip) {
  TRY(File file, load_or_mode(fd));
  std::vector<std::string> words{fmt::format("owner {}:{}", file.facts.st_uid, file.facts.st_gid)};
  for (const Entry& entry : file.acl) {
    if (entry.tag == kMask || (entry.tag == kUser && skip(entry.id)))
      continue;
    bool named = entry.tag == kUser || entry.tag == kGroup;
    const char* tag = entry.tag == kOther                             ? "other"
                      : entry.tag == kGroup || entry.tag == kGroupObj ? "group"
                                                                      : "user";
    words.push_back(
        fmt::format("{}:{}:{}", tag, named ? std::to_string(entry.id) : "", letters(entry.perm)));
  }
  return words;
}

Result<FileGrant> file_grant_of(int fd, uint32_t uid) {
  FileGrant grant;
  TRY(File file, load_or_mode(fd));
  auto take = [&](uint16_t bits) {
    grant.access = to_access(bits);
    grant.search = (bits & kSearchBit) != 0;
  };
  grant.is_owner = file.facts.st_uid == uid;
  if (grant.is_owner) {
    take(static_cast<uint16_t>(file.facts.st_mode >> 6 & 7));
    return grant;
  }
  auto entry = find(file.acl, kUser, uid);
  grant.has_entry = entry != file.acl.end();
  if (grant.has_entry)
    take(static_cast<uint16_t>(entry->perm & mask_of(file.acl)));
  return grant;
}

Result<std::optional<Access>> file_acl_of(int fd, uint32_t uid) {
  Result<File> file = load(fd);
  if (!file && file.error().sys_errno() == EOPNOTSUPP)
    return std::optional<Access>();
  TRY_OK(file);
  auto entry = find(file->acl, kUser, uid);
  if (entry == file->acl.end())
    return std::optional<Access>();
  return to_access(static_cast<uint16_t>(entry->perm & mask_of(file->acl)));
}

}  // namespace tenure::kernel
