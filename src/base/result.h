// SPDX-License-Identifier: Apache-2.0
// How every room reports failure: Result<T> with an Error that names the operation, the object, the
// errno and, where known, the remedy. Nothing here prints, logs or throws.
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace tenure {

// What kind of failure it is, for code that must decide; the text is for people.
enum class Errc {
  Invalid,      // the input is wrong: usage, XML, record, message
  NotFound,     // no such guest, file, device
  Exists,       // already there
  Denied,       // EPERM, EACCES, or refused by policy
  Busy,         // in use, or another operation is under way
  Unsupported,  // not implemented, or the host cannot do it
  Corrupt,      // stored data fails its checks
  Io,           // any other system call failure
  Lost,         // a peer or a record is gone (hang-up, unconfirmed audit record)
  Timeout,
  Internal,  // a broken invariant of ours
};

// One failure. `what` is a chain, outermost first: "attach disk vdb to web1: allow b 7:0 rw: map
// update: Operation not permitted".
class [[nodiscard]] Error {
 public:
  Error(Errc code, std::string what, int sys_errno = 0)
      : code_(code), sys_errno_(sys_errno), what_(std::move(what)) {}

  Errc code() const { return code_; }
  // errno of the failed call, 0 if none.
  int sys_errno() const { return sys_errno_; }
  const std::string& what() const { return what_; }

  // Puts `outer` in front: "outer: what".
  Error context(std::string_view outer) &&;
  Error context(std::string_view outer) const&;

 private:
  Errc code_;
  int sys_errno_;
  std::string what_;
};

template <class T = void>
using Result = std::expected<T, Error>;

// Error for a failed system call: "operation object: strerror(err)". `err` defaults to errno, read
// before anything else can change it.
Error sys_error(std::string_view operation, std::string_view object, int err = errno);

// The Errc that an errno belongs to (EPERM -> Denied, ENOENT -> NotFound, …).
Errc errc_of(int err);

// Shorthand for `return std::unexpected(Error{…})`.
inline std::unexpected<Error> fail(Errc code, std::string what) {
  return std::unexpected(Error{code, std::move(what)});
}
inline std::unexpected<Error> fail(Error error) {
  return std::unexpected(std::move(error));
}
inline std::unexpected<Error> fail_sys(std::string_view operation, std::string_view object,
                                       int err = errno) {
  return std::unexpected(sys_error(operation, object, err));
}

}  // namespace tenure

#define TENURE_CAT_(a, b) a##b
#define TENURE_CAT(a, b) TENURE_CAT_(a, b)

// TRY(auto x, expr): declares x from the value of expr or returns its error. TRY_OK(expr) drops the
// value. The CO_ forms are for coroutines. std::expected of GCC 12 has no and_then. For .cc files.
#define TENURE_TRY_(tmp, decl, expr, ret)        \
  auto tmp = (expr);                             \
  if (!tmp)                                      \
    ret std::unexpected(std::move(tmp).error()); \
  decl = std::move(*tmp)
#define TENURE_TRY_OK_(tmp, expr, ret) \
  if (auto tmp = (expr); !tmp)         \
  ret std::unexpected(std::move(tmp).error())
#define TRY(decl, expr) TENURE_TRY_(TENURE_CAT(try_, __LINE__), decl, expr, return)
#define CO_TRY(decl, expr) TENURE_TRY_(TENURE_CAT(try_, __LINE__), decl, expr, co_return)
#define TRY_OK(expr) TENURE_TRY_OK_(TENURE_CAT(try_, __LINE__), expr, return)
#define CO_TRY_OK(expr) TENURE_TRY_OK_(TENURE_CAT(try_, __LINE__), expr, co_return)
