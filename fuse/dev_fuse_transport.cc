#include "fuse/dev_fuse_transport.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <cstdint>

namespace voldfs::fuse {
namespace {

constexpr unsigned long kDevIocClone = _IOR(229, 0, uint32_t);  // FUSE_DEV_IOC_CLONE

class DevFuseChannel final : public Channel {
 public:
  explicit DevFuseChannel(unique_fd device) : device_(std::move(device)) {}

  Result<std::span<std::byte>> receive(std::span<std::byte> buffer) override {
    for (;;) {
      const ssize_t size = ::read(device_.get(), buffer.data(), buffer.size());
      if (size >= 0) return buffer.first(static_cast<size_t>(size));
      switch (errno) {
        case ENOENT:        // the request was given up while it was copied
        case EINTR:
        case EAGAIN:
          continue;
        case ENODEV:        // unmounted
        case ECONNABORTED:  // through /sys/fs/fuse/connections/N/abort
          return std::span<std::byte>{};
        default:
          return fail_errno();
      }
    }
  }

  Result<void> send(const iovec* parts, int count) override {
    // The kernel takes a message whole or not at all.
    if (::writev(device_.get(), parts, count) < 0) return fail_errno();
    return {};
  }

  int device() const { return device_.get(); }

 private:
  unique_fd device_;
};

}  // namespace

DevFuseTransport::DevFuseTransport(unique_fd device) : first_(std::make_shared<DevFuseChannel>(std::move(device))) {}

int DevFuseTransport::device() const { return static_cast<const DevFuseChannel&>(*first_).device(); }

Result<std::shared_ptr<Channel>> DevFuseTransport::open_channel() {
  unique_fd clone(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!clone) return fail_errno();
  uint32_t master = static_cast<uint32_t>(device());
  if (::ioctl(clone.get(), kDevIocClone, &master) < 0) return fail_errno();
  return std::make_shared<DevFuseChannel>(std::move(clone));
}

}  // namespace voldfs::fuse
