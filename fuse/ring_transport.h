#pragma once

#include <memory>

#include "fuse/transport.h"

// FUSE over io_uring (kernel 6.14 and later, with /sys/module/fuse/parameters/enable_uring = Y): requests and replies
// change hands in memory that both sides have mapped, with one system call for a reply and the next request.
// Documentation/filesystems/fuse/fuse-io-uring.rst of the kernel.
namespace voldfs::fuse {

// Whether this process may have rings of the kind that it takes: once the kernel's offer is accepted there is no way back.
bool can_make_rings();

// The queue of one CPU: the kernel puts a request into the queue of the CPU that the application runs on. Each
// channel is one entry of the queue, with an io_uring of its own, and belongs to one worker for good: an entry cannot
// be taken back from the kernel, so whoever has opened one listens to it until the mount ends.
class RingTransport final : public Transport {
 public:
  // `device`: of the mount, outlives this. Workers run on CPU `queue`.
  RingTransport(int device, unsigned queue) : device_(device), queue_(queue) {}

  Result<std::shared_ptr<Channel>> open_channel() override;
  bool channels_are_reusable() const override { return false; }

 private:
  const int device_;
  const unsigned queue_;
};

}  // namespace voldfs::fuse
