// SPDX-License-Identifier: Apache-2.0
// Entries on real files: what they allow a real process, and that nobody else gains or loses
// anything. libacl, which the code under test does not use, is the witness.
#include "kernel/file_acl.h"

#include <acl/libacl.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <sys/acl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <filesystem>
#include <map>
#include <memory>

#include "base/file.h"

namespace tenure::kernel {
namespace {

constexpr uint32_t kGuest = 70001;
constexpr uint32_t kOwner = 70090;
constexpr uint32_t kGroup = 70091;

class FileAcl : public testing::Test {
 protected:
  void SetUp() override {
    if (getuid() != 0)
      GTEST_SKIP() << "needs root for files of other users";
    std::string name = testing::TempDir() + "tenure-acl-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    dir_ = name;
    ASSERT_EQ(chmod(dir_.c_str(), 0755), 0);
    make(0640);
    if (Result<Outcome> probe = set_file_acl(fd_.get(), kGuest, kReadOnly); !probe)
      GTEST_SKIP() << "no ACLs here: " << probe.error().what();
    make(0640);
  }
  void TearDown() override {
    if (!dir_.empty())
      std::filesystem::remove_all(dir_);
  }
  // A fresh file of kOwner:kGroup.
  void make(mode_t mode) {
    path_ = dir_ + "/image";
    unlink(path_.c_str());
    UniqueFd made = open_file(path_, O_CREAT | O_RDWR).value();
    ASSERT_EQ(fchown(made.get(), kOwner, kGroup), 0);
    ASSERT_EQ(fchmod(made.get(), mode), 0);
    fd_ = open_file(path_, O_PATH).value();
  }
  mode_t mode() const {
    struct stat facts{};
    stat(path_.c_str(), &facts);
    return facts.st_mode & 07777;
  }
  // The raw attribute; "" if there is none.
  std::string attribute() const {
    std::string bytes(65536, '\0');
    ssize_t size = getxattr(path_.c_str(), "system.posix_acl_access", bytes.data(), bytes.size());
    bytes.resize(size > 0 ? static_cast<size_t>(size) : 0);
    return bytes;
  }
  // "u::rw-,u:70001:r--,…" as libacl sees it.
  std::string text() const {
    std::unique_ptr<void, int (*)(void*)> acl(acl_get_file(path_.c_str(), ACL_TYPE_ACCESS),
                                              acl_free);
    std::unique_ptr<char, int (*)(void*)> text(
        acl_to_any_text(static_cast<acl_t>(acl.get()), nullptr, ',',
                        TEXT_ABBREVIATE | TEXT_NUMERIC_IDS),
        acl_free);
    return text ? text.get() : "?";
  }
  void put(const std::string& acl_text) {
    std::unique_ptr<void, int (*)(void*)> acl(acl_from_text(acl_text.c_str()), acl_free);
    ASSERT_NE(acl, nullptr) << acl_text;
    ASSERT_EQ(acl_set_file(path_.c_str(), ACL_TYPE_ACCESS, static_cast<acl_t>(acl.get())), 0)
        << acl_text;
  }
  // What a process of that uid, in no group, can really do.
  std::string can(uint32_t uid) const {
    pid_t child = fork();
    if (child == 0) {
      if (setgroups(0, nullptr) < 0 || setgid(70999) < 0 || setuid(uid) < 0)
        _exit(64);
      int bits = 0;
      if (open(path_.c_str(), O_RDONLY) >= 0)
        bits |= 1;
      if (open(path_.c_str(), O_WRONLY) >= 0)
        bits |= 2;
      _exit(bits);
    }
    int status = -1;
    waitpid(child, &status, 0);
    constexpr const char* kWords[] = {"", "r", "w", "rw"};
    return WIFEXITED(status) && WEXITSTATUS(status) < 4 ? kWords[WEXITSTATUS(status)] : "?";
  }

  std::string dir_, path_;
  UniqueFd fd_;
};

TEST_F(FileAcl, GivesTheGuestExactlyWhatIsAsked) {
  EXPECT_EQ(can(kGuest), "");
  EXPECT_EQ(set_file_acl(fd_.get(), kGuest, kReadOnly), Outcome::Changed);
  EXPECT_EQ(can(kGuest), "r");
  EXPECT_EQ(text(), "u::rw-,u:70001:r--,g::r--,m::r--,o::---");
  EXPECT_EQ(set_file_acl(fd_.get(), kGuest, kReadOnly), Outcome::Unchanged);
  EXPECT_EQ(set_file_acl(fd_.get(), kGuest, kReadWrite), Outcome::Changed);
  EXPECT_EQ(can(kGuest), "rw");
  EXPECT_EQ(file_acl_of(fd_.get(), kGuest).value(), kReadWrite);
  EXPECT_EQ(text(), "u::rw-,u:70001:rw-,g::r--,m::rw-,o::---");
  EXPECT_EQ(mode(), 0660U);
  EXPECT_EQ(set_file_acl(fd_.get(), kGuest, kReadOnly), Outcome::Changed);
  EXPECT_EQ(can(kGuest), "r");
  EXPECT_EQ(mode(), 0640U);
  EXPECT_EQ(remove_file_acl(fd_.get(), kGuest), Outcome::Changed);
  EXPECT_EQ(can(kGuest), "");
  EXPECT_EQ(mode(), 0640U);
  EXPECT_EQ(attribute(), "");
  EXPECT_EQ(remove_file_acl(fd_.get(), kGuest), Outcome::Unchanged);
  EXPECT_EQ(file_acl_of(fd_.get(), kGuest).value(), std::nullopt);
}

TEST_F(FileAcl, GuestsShareABaseImage) {
  make(0600);
  EXPECT_EQ(set_file_acl(fd_.get(), kGuest + 1, kReadWrite), Outcome::Changed);
  EXPECT_EQ(set_file_acl(fd_.get(), kGuest, kReadOnly), Outcome::Changed);
  EXPECT_EQ(text(), "u::rw-,u:70001:r--,u:70002:rw-,g::---,m::rw-,o::---");
  EXPECT_EQ(remove_file_acl(fd_.get(), kGuest + 1), Outcome::Changed);
  EXPECT_EQ(text(), "u::rw-,u:70001:r--,g::---,m::r--,o::---");
  EXPECT_EQ(remove_file_acl(fd_.get(), kGuest), Outcome::Changed);
  EXPECT_EQ(attribute(), "");
  EXPECT_EQ(mode(), 0600U);
}

TEST_F(FileAcl, WorksThroughAnOrdinaryFdToo) {
  UniqueFd fd = open_file(path_, O_RDONLY).value();
  EXPECT_EQ(set_file_acl(fd.get(), kGuest, kReadOnly), Outcome::Changed);
  EXPECT_EQ(can(kGuest), "r");
}

TEST_F(FileAcl, SearchEntryLetsTheGuestPassButNotList) {
  make(0644);
  ASSERT_EQ(chmod(dir_.c_str(), 0700), 0);
  UniqueFd folder = open_file(dir_, O_PATH | O_DIRECTORY).value();
  EXPECT_EQ(can(kGuest), "");
  EXPECT_EQ(set_search_acl(folder.get(), kGuest), Outcome::Changed);
  EXPECT_EQ(can(kGuest), "r");
  EXPECT_EQ(file_acl_of(folder.get(), kGuest).value(), Access{});
  EXPECT_EQ(set_search_acl(folder.get(), kGuest), Outcome::Unchanged);
  EXPECT_EQ(remove_file_acl(folder.get(), kGuest), Outcome::Changed);
  EXPECT_EQ(can(kGuest), "");
  struct stat facts{};
  ASSERT_EQ(stat(dir_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0700U);
}

TEST_F(FileAcl, OwnerNeedsNoEntryAndCannotHaveOne) {
  EXPECT_EQ(set_file_acl(fd_.get(), kOwner, kReadWrite), Outcome::Unchanged);
  EXPECT_EQ(attribute(), "");
  make(0440);
  Result<Outcome> refused = set_file_acl(fd_.get(), kOwner, kReadWrite);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::Denied);
  EXPECT_EQ(refused.error().what(),
            "uid 70090 owns the file and its mode 0440 does not give rw: chmod it");
}

TEST_F(FileAcl, NobodyElseGainsByAWiderMask) {
  put("u::rw,g::r,g:70055:rw,m::r,o::-");
  const std::string before = attribute();
  Result<Outcome> refused = set_file_acl(fd_.get(), kGuest, kReadWrite);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::Denied);
  EXPECT_NE(refused.error().what().find("withholds w from others"), std::string::npos);
  EXPECT_EQ(attribute(), before);
  EXPECT_EQ(set_file_acl(fd_.get(), kGuest, kReadOnly), Outcome::Changed);
  EXPECT_EQ(remove_file_acl(fd_.get(), kGuest), Outcome::Changed);
  EXPECT_EQ(attribute(), before);
}

TEST_F(FileAcl, MaskNarrowedByChmodIsSeenAndNotWidenedByRemoval) {
  EXPECT_EQ(set_file_acl(fd_.get(), kGuest, kReadWrite), Outcome::Changed);
  EXPECT_EQ(set_file_acl(fd_.get(), kGuest + 1, kReadWrite), Outcome::Changed);
  ASSERT_EQ(chmod(path_.c_str(), 0600), 0);
  EXPECT_EQ(file_acl_of(fd_.get(), kGuest).value(), Access{});
  EXPECT_EQ(remove_file_acl(fd_.get(), kGuest), Outcome::Changed);
  EXPECT_EQ(can(kGuest + 1), "");
  EXPECT_EQ(remove_file_acl(fd_.get(), kGuest + 1), Outcome::Changed);
  EXPECT_EQ(mode(), 0600U);  // the owning group had read, chmod took it: it stays taken
}

TEST_F(FileAcl, RefusesWhatIsNoEntry) {
  EXPECT_EQ(set_file_acl(fd_.get(), kGuest, Access{}).error().code(), Errc::Invalid);
  EXPECT_EQ(set_file_acl(fd_.get(), kGuest, Access{.mknod = true}).error().code(), Errc::Invalid);
  EXPECT_EQ(set_file_acl(fd_.get(), UINT32_MAX, kReadOnly).error().code(), Errc::Invalid);
}

TEST_F(FileAcl, FileSystemWithoutAclsIsUnsupported) {
  UniqueFd fd = open_file("/proc/self/status", O_PATH).value();
  EXPECT_EQ(set_file_acl(fd.get(), kGuest, kReadOnly).error().code(), Errc::Unsupported);
  EXPECT_EQ(remove_file_acl(fd.get(), kGuest), Outcome::Unchanged);
  EXPECT_EQ(file_acl_of(fd.get(), kGuest).value(), std::nullopt);
}

// What each principal of the file gets, by the algorithm of acl(5).
std::map<std::string, int> effective(const std::string& path) {
  std::unique_ptr<void, int (*)(void*)> holder(acl_get_file(path.c_str(), ACL_TYPE_ACCESS),
                                               acl_free);
  auto acl = static_cast<acl_t>(holder.get());
  struct Row {
    std::string who;
    int perm;
    bool masked;
  };
  std::vector<Row> rows;
  int mask = 7;
  acl_entry_t entry{};
  for (int more = acl_get_entry(acl, ACL_FIRST_ENTRY, &entry); more == 1;
       more = acl_get_entry(acl, ACL_NEXT_ENTRY, &entry)) {
    acl_tag_t tag = 0;
    acl_permset_t set{};
    acl_get_tag_type(entry, &tag);
    acl_get_permset(entry, &set);
    int perm = (acl_get_perm(set, ACL_READ) ? 4 : 0) | (acl_get_perm(set, ACL_WRITE) ? 2 : 0) |
               (acl_get_perm(set, ACL_EXECUTE) ? 1 : 0);
    std::unique_ptr<void, int (*)(void*)> id(acl_get_qualifier(entry), acl_free);
    std::string who = fmt::format("{}:{}", tag, id ? *static_cast<uint32_t*>(id.get()) : 0);
    if (tag == ACL_MASK) {
      mask = perm;
    } else {
      rows.push_back({who, perm, tag != ACL_USER_OBJ && tag != ACL_OTHER});
    }
  }
  std::map<std::string, int> result;
  for (const Row& row : rows) result[row.who] = row.masked ? row.perm & mask : row.perm;
  return result;
}

std::string perm_text(int bits) {
  return fmt::format("{}{}{}", bits & 4 ? 'r' : '-', bits & 2 ? 'w' : '-', bits & 1 ? 'x' : '-');
}

// A random extended ACL without our guest. `natural_mask`: the mask that acl_calc_mask(3) gives.
std::string random_acl(bool natural_mask) {
  auto perm = [] { return *rc::gen::inRange(0, 8); };
  int group = perm();
  int all = group;
  std::string text =
      fmt::format("u::{},g::{},o::{}", perm_text(perm()), perm_text(group), perm_text(perm()));
  int named = *rc::gen::inRange(0, 4);
  for (int i = 0; i < named; ++i) {
    int bits = perm();
    all |= bits;
    text += fmt::format(",{}:{}:{}", *rc::gen::element("u", "g"), 69999 + i * 10, perm_text(bits));
  }
  if (!natural_mask)
    all = perm();
  if (named > 0 || !natural_mask)
    text += fmt::format(",m::{}", perm_text(all));
  return text;
}

TEST_F(FileAcl, PropertyAddAndRemoveLeaveTheFileAsItWas) {
  EXPECT_TRUE(rc::check([this] {
    const bool extended = *rc::gen::arbitrary<bool>();
    make(static_cast<mode_t>(*rc::gen::inRange(0, 07777 + 1)));
    if (extended)
      put(random_acl(true));
    const std::string before = attribute();
    const mode_t mode_before = mode();
    const auto others = effective(path_);
    std::vector<uint32_t> guests;
    const int count = *rc::gen::inRange(1, 4);
    for (int i = 0; i < count; ++i) {
      Access access = *rc::gen::element(kReadOnly, kReadWrite, Access{.write = true});
      uint32_t uid = kGuest + static_cast<uint32_t>(i);
      RC_ASSERT(set_file_acl(fd_.get(), uid, access).value() == Outcome::Changed);
      RC_ASSERT(file_acl_of(fd_.get(), uid).value() == access);
      guests.push_back(uid);
      auto now = effective(path_);
      for (const auto& [who, bits] : others) RC_ASSERT(now[who] == bits);
      RC_ASSERT(now.size() == others.size() + guests.size());
    }
    while (!guests.empty()) {
      size_t pick = *rc::gen::inRange(size_t{0}, guests.size());
      RC_ASSERT(remove_file_acl(fd_.get(), guests[pick]).value() == Outcome::Changed);
      guests.erase(guests.begin() + static_cast<std::ptrdiff_t>(pick));
    }
    RC_ASSERT(attribute() == before);
    RC_ASSERT(mode() == mode_before);
  }));
}

TEST_F(FileAcl, PropertyNobodyGainsWhateverTheMask) {
  EXPECT_TRUE(rc::check([this] {
    make(0600);
    put(random_acl(false));
    const std::string raw_before = attribute();
    const auto before = effective(path_);
    Access access = *rc::gen::element(kReadOnly, kReadWrite);
    Result<Outcome> set = set_file_acl(fd_.get(), kGuest, access);
    if (!set) {
      RC_ASSERT(set.error().code() == Errc::Denied);
      RC_ASSERT(attribute() == raw_before);
      return;
    }
    auto during = effective(path_);
    for (const auto& [who, bits] : before) RC_ASSERT(during[who] == bits);
    const bool narrowed = *rc::gen::arbitrary<bool>();
    if (narrowed)
      RC_ASSERT(chmod(path_.c_str(), 0600) == 0);
    const auto last = effective(path_);
    RC_ASSERT(remove_file_acl(fd_.get(), kGuest).value() == Outcome::Changed);
    auto after = effective(path_);
    for (const auto& [who, bits] : after) RC_ASSERT(last.at(who) == bits);
    if (!narrowed)
      RC_ASSERT(after == before);
  }));
}

}  // namespace
}  // namespace tenure::kernel
