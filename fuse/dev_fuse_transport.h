#pragma once

#include "brick/base/unique_fd.h"
#include "fuse/transport.h"

namespace voldfs::fuse {

// Requests by read(2), replies by writev(2). Each worker has a descriptor of its own (FUSE_DEV_IOC_CLONE), so that
// the kernel keeps the requests in hand by worker and not behind one lock. Any thread.
class DevFuseTransport final : public Transport {
 public:
  // `device`: an open /dev/fuse that is mounted.
  explicit DevFuseTransport(unique_fd device);

  Result<std::shared_ptr<Channel>> open_channel() override;
  // The device itself: for INIT, and for notifications from threads that work on no request.
  const std::shared_ptr<Channel>& first_channel() const { return first_; }
  int device() const;

 private:
  std::shared_ptr<Channel> first_;
};

}  // namespace voldfs::fuse
