#pragma once

#include <cerrno>
#include <cstdint>
#include <string>
#include <tl/expected.hpp>

namespace voldfs {

// Why an operation did not happen. Below kProtocolFirst it is a Linux errno and may be answered to an
// application as it is. From kProtocolFirst on it is an answer of a brick to a client (brick/wire/status.h)
// which the dht layer resolves; one that reaches the kernel side is a programmer's error, logged and
// answered EIO.
struct Error {
  int code = EIO;

  static constexpr int kProtocolFirst = 1000;

  constexpr Error() = default;
  constexpr explicit Error(int code_in) : code(code_in) {}
  // The calling thread's errno; to be called right after the system call that failed.
  static Error from_errno() { return Error(errno); }

  constexpr bool is_errno() const { return code < kProtocolFirst; }
  friend constexpr bool operator==(Error a, Error b) { return a.code == b.code; }
};

template <class T>
using Result = tl::expected<T, Error>;

// An operator's operation (start of a daemon, a command): the error is a whole sentence that says what
// happened and what to do.
template <class T>
using Explained = tl::expected<T, std::string>;

inline tl::unexpected<Error> fail(int code) { return tl::unexpected<Error>(Error(code)); }
inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(error); }
inline tl::unexpected<Error> fail_errno() { return tl::unexpected<Error>(Error::from_errno()); }
inline tl::unexpected<std::string> explain(std::string sentence) {
  return tl::unexpected<std::string>(std::move(sentence));
}

}  // namespace voldfs
