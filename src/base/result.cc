// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <cstring>

namespace tenure {

Error Error::context(std::string_view outer) && {
  what_.insert(0, ": ").insert(0, outer);
  return std::move(*this);
}

Error Error::context(std::string_view outer) const& {
  return Error(*this).context(outer);
}

Errc errc_of(int err) {
  switch (err) {
    case EPERM:
    case EACCES:
    case EROFS:
      return Errc::Denied;
    case ENOENT:
    case ENODEV:
    case ENXIO:
    case ESRCH:
      return Errc::NotFound;
    case EEXIST:
      return Errc::Exists;
    case EBUSY:
    case ETXTBSY:
      return Errc::Busy;
    case EINVAL:
    case ENAMETOOLONG:
      return Errc::Invalid;
    case ENOSYS:
    case EOPNOTSUPP:
      return Errc::Unsupported;
    case ETIMEDOUT:
      return Errc::Timeout;
    default:
      return Errc::Io;
  }
}

Error sys_error(std::string_view operation, std::string_view object, int err) {
  std::string what(operation);
  if (!object.empty())
    what.append(" ").append(object);
  what.append(": ").append(strerrordesc_np(err) != nullptr ? strerrordesc_np(err)
                                                           : "unknown errno");
  return Error{errc_of(err), std::move(what), err};
}

}  // namespace tenure
