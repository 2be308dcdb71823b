#pragma once

#include <liburing.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "brick/base/result.h"
#include "brick/base/unique_fd.h"
#include "brick/wire/frame.h"

namespace voldfs::server {

// A connection's byte stream, moved by an io_uring of its own: at most one send and one receive at a time, both
// submitted and awaited with one system call where both are there. One thread, which must also make and destroy
// it (IORING_SETUP_SINGLE_ISSUER). The socket may be shut down by any thread; what is under way then ends.
class Stream {
 public:
  explicit Stream(int socket) : socket_(socket) {}
  ~Stream();  // waits for what is under way: the kernel must not write into what its caller gives up
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Result<void> open();

  // Both only note what is to be done; the next wait hands it to the kernel.
  void begin_receive(std::span<std::byte> into);          // REQUIRES: none under way
  // REQUIRES: none under way; borrows the parts. `descriptor`, if there is one, goes along with the first byte and is closed after it.
  void begin_send(wire::Gather message, unique_fd descriptor = {});
  bool receiving() const { return receive_.pending; }

  // Until everything is sent. Deadlines are monotonic_us(); 0: none. ETIMEDOUT, or what the socket says.
  Result<void> finish_send(int64_t deadline_us);
  // Until something was received: how much; 0: the peer has closed. A send under way goes on meanwhile and must
  // have ended by `send_deadline_us`.
  Result<size_t> finish_receive(int64_t deadline_us, int64_t send_deadline_us = 0);

 private:
  struct Completion {  // what a completion's user_data points to
    bool pending = false;
    int result = 0;
  };

  Result<void> submit_and_wait(unsigned count, int64_t deadline_us);
  void reap();
  Result<void> continue_send();
  io_uring_sqe* entry(Completion& completion);
  void close_behind(io_uring_sqe& send, unique_fd descriptor);

  const int socket_;
  io_uring ring_{};
  bool open_ = false;
  Completion send_, receive_;
  wire::Gather sending_;
  msghdr message_{};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control_;  // of message_, with a descriptor
};

}  // namespace voldfs::server
