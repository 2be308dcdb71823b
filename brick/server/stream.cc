#include "brick/server/stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "brick/base/clock.h"
#include "brick/server/limits.h"

namespace voldfs::server {

Result<void> Stream::open() {
  const unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  const int error = ::io_uring_queue_init(kLaneRingEntries, &ring_, flags);
  if (error < 0) return fail(-error);
  open_ = true;
  return {};
}

Stream::~Stream() {
  if (!open_) return;
  if (send_.pending || receive_.pending) ::shutdown(socket_, SHUT_RDWR);
  while (send_.pending || receive_.pending) {
    if (!submit_and_wait(1, 0)) break;
  }
  ::io_uring_queue_exit(&ring_);
}

io_uring_sqe* Stream::entry(Completion& completion) {
  io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
  if (sqe == nullptr) std::abort();  // three operations at most are ever under way
  completion.pending = true;
  return sqe;
}

void Stream::begin_receive(std::span<std::byte> into) {
  io_uring_sqe* sqe = entry(receive_);
  ::io_uring_prep_recv(sqe, socket_, into.data(), into.size(), 0);
  ::io_uring_sqe_set_data(sqe, &receive_);
}

void Stream::begin_send(wire::Gather message, unique_fd descriptor) {
  sending_ = message;
  message_ = {};
  message_.msg_iov = sending_.parts.data();
  message_.msg_iovlen = sending_.count;
  if (descriptor) {
    message_.msg_control = control_.data();
    message_.msg_controllen = control_.size();
    cmsghdr* const control = CMSG_FIRSTHDR(&message_);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    const int fd = descriptor.get();
    control->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(control), &fd, sizeof fd);
  }
  io_uring_sqe* sqe = entry(send_);
  ::io_uring_prep_sendmsg(sqe, socket_, &message_, MSG_NOSIGNAL | MSG_WAITALL);
  ::io_uring_sqe_set_data(sqe, &send_);
  if (descriptor) close_behind(*sqe, std::move(descriptor));
}

// The ring closes it, whatever becomes of the send: a system call of its own between send and receive would let the peer, which
// the send wakes, run on this CPU before this thread sleeps, and the scheduler then takes the peer's caller elsewhere.
void Stream::close_behind(io_uring_sqe& send, unique_fd descriptor) {
  send.flags |= IOSQE_IO_HARDLINK;
  io_uring_sqe* const sqe = ::io_uring_get_sqe(&ring_);
  if (sqe == nullptr) std::abort();  // as in entry()
  ::io_uring_prep_close(sqe, descriptor.release());
  ::io_uring_sqe_set_data(sqe, nullptr);
  sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

// After a completion of the send: takes off what went out, and begins again if something is left.
Result<void> Stream::continue_send() {
  if (send_.pending || sending_.bytes == 0) return {};
  if (send_.result < 0 && send_.result != -EINTR && send_.result != -EAGAIN) return fail(-send_.result);
  sending_.advance(static_cast<size_t>(std::max(send_.result, 0)));
  if (sending_.bytes != 0) begin_send(sending_);
  return {};
}

Result<void> Stream::finish_send(int64_t deadline_us) {
  for (;;) {
    if (auto sent = continue_send(); !sent) return sent;
    if (!send_.pending) return {};
    if (auto waited = submit_and_wait(1, deadline_us); !waited) return waited;
  }
}

Result<size_t> Stream::finish_receive(int64_t deadline_us, int64_t send_deadline_us) {
  for (;;) {
    if (auto sent = continue_send(); !sent) return fail(sent.error());
    if (!receive_.pending) {
      // Its caller will use the reply's memory again.
      if (auto sent = finish_send(send_deadline_us); !sent) return fail(sent.error());
      if (receive_.result < 0) return fail(-receive_.result);
      return static_cast<size_t>(receive_.result);
    }
    // With a reply on its way both are awaited together: one system call for one request.
    const bool sending = send_.pending;
    const int64_t until = sending ? send_deadline_us : deadline_us;
    auto waited = submit_and_wait(sending ? 2 : 1, until);
    if (waited) continue;
    // The peer has taken the reply and is silent since: it may be.
    if (sending && !send_.pending && waited.error().code == ETIMEDOUT) continue;
    return fail(waited.error());
  }
}

Result<void> Stream::submit_and_wait(unsigned count, int64_t deadline_us) {
  int error;
  if (deadline_us == 0) {
    error = ::io_uring_submit_and_wait(&ring_, count);
  } else {
    const int64_t left = std::max<int64_t>(deadline_us - monotonic_us(), 0);
    __kernel_timespec time{left / 1'000'000, left % 1'000'000 * 1000};
    io_uring_cqe* ignored;
    error = ::io_uring_submit_and_wait_timeout(&ring_, &ignored, count, &time, nullptr);
  }
  reap();
  if (error == -ETIME) return fail(ETIMEDOUT);
  if (error < 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY) return fail(-error);
  return {};
}

void Stream::reap() {
  io_uring_cqe* cqe;
  unsigned head, seen = 0;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    auto* completion = static_cast<Completion*>(::io_uring_cqe_get_data(cqe));
    ++seen;
    if (completion == nullptr) continue;
    completion->pending = false;
    completion->result = cqe->res;
  }
  ::io_uring_cq_advance(&ring_, seen);
}

}  // namespace voldfs::server
