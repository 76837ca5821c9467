// SPDX-License-Identifier: Apache-2.0
#include "ledger/key.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"

namespace tenure::ledger {
namespace {

std::string new_path(const std::string& key_path) {
  return key_path + ".new";
}
std::string public_path(const std::string& key_path) {
  return key_path + ".pub";
}

Result<> sync_folder(const std::string& path) {
  TRY(UniqueFd dir, open_file(folder_of(path), O_RDONLY | O_DIRECTORY));
  if (fsync(dir.get()) < 0)
    return fail_sys("fsync", folder_of(path));
  return {};
}

Result<Signer> read_key(const std::string& path, const std::string& origin) {
  TRY(UniqueFd fd, open_file(path, O_RDONLY | O_NOFOLLOW));
  struct stat st{};
  if (fstat(fd.get(), &st) < 0)
    return fail_sys("stat", path);
  if ((st.st_mode & 077) != 0)
    return fail(Errc::Denied,
                fmt::format("private key {}: mode {:04o} lets others at it: chmod 600 it", path,
                            st.st_mode & 07777));
  TRY(std::string pem, read_fd(fd.get(), kMaxNote, path));
  auto signer = Signer::from_pem(origin, pem);
  if (!signer)
    return std::unexpected(std::move(signer).error().context(path));
  return signer;
}

Result<Signer> make_key(const std::string& path, const std::string& origin) {
  TRY_OK(make_dirs(folder_of(path), 0700));
  TRY(Signer signer, Signer::generate(origin));
  TRY(std::string pem, signer.to_pem());
  TRY(UniqueFd fd, open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  TRY_OK(write_all(fd.get(), pem, path));
  if (fsync(fd.get()) < 0)
    return fail_sys("fsync", path);
  TRY_OK(sync_folder(path));
  return signer;
}

// The .pub file may be missing (interrupted first start), but not differ.
Result<> check_public(const std::string& key_path, const Verifier& verifier) {
  auto text = read_file(public_path(key_path), kMaxNote);
  if (!text && text.error().code() == Errc::NotFound)
    return {};
  if (!text)
    return std::unexpected(std::move(text).error());
  if (*text == verifier.vkey() + "\n")
    return {};
  return fail(Errc::Corrupt,
              fmt::format("{} is not the public key of {} for origin {}: restore the one "
                          "that was changed",
                          public_path(key_path), key_path, verifier.name()));
}

}  // namespace

Result<LoadedKey> load_key(const std::string& key_path, const std::string& origin) {
  auto signer = read_key(key_path, origin);
  if (signer) {
    TRY_OK(check_public(key_path, signer->verifier()));
    return LoadedKey{std::move(*signer), true};
  }
  if (signer.error().code() != Errc::NotFound)
    return std::unexpected(std::move(signer).error());
  std::string fresh = new_path(key_path);
  signer = read_key(fresh, origin);
  if (signer)
    return LoadedKey{std::move(*signer), false};
  // Torn by a crash: nothing was signed with it, as it had to be whole on disk first.
  if (signer.error().code() == Errc::Invalid && unlink(fresh.c_str()) < 0)
    return fail_sys("remove", fresh);
  if (signer.error().code() != Errc::Invalid && signer.error().code() != Errc::NotFound)
    return std::unexpected(std::move(signer).error());
  TRY(Signer made, make_key(fresh, origin));
  return LoadedKey{std::move(made), false};
}

Result<> confirm_key(const std::string& key_path, const LoadedKey& key) {
  std::string text = key.signer.verifier().vkey() + "\n";
  if (!key.confirmed) {
    std::string fresh = new_path(key_path);
    if (renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, key_path.c_str(), RENAME_NOREPLACE) < 0)
      return fail_sys("rename to", key_path);
    TRY_OK(sync_folder(key_path));
  }
  if (!key.confirmed || access(public_path(key_path).c_str(), F_OK) < 0)
    return write_file_atomic(public_path(key_path), text, 0644);
  return {};
}

}  // namespace tenure::ledger
